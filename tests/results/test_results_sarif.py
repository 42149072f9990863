"""SARIF: valid by the official schema, within what code scanning takes, true to the findings."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from jsonschema import Draft7Validator
from results_documents import document, documents, finding, reported

from parallelai.records import Coverage, FileNote, Severity
from parallelai.results.collect import Collector
from parallelai.results.formats import RenderContext
from parallelai.results.sarif import MAX_RESULTS, render

SCHEMA = json.loads((Path(__file__).parent / "data" / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))
OFFICIAL = Draft7Validator(SCHEMA)


def log_of(doc):
    return json.loads(render(doc, RenderContext()))


def run_of(*findings, **fields):
    (run,) = log_of(document(findings, **fields))["runs"]
    return run


@given(documents())
def test_every_document_is_valid_by_the_official_schema(doc):
    log = log_of(doc)
    OFFICIAL.validate(log)
    (run,) = log["runs"]
    assert len(run["results"]) == len(doc.findings)
    check_code_scanning(run)


def check_code_scanning(run):
    """What code scanning demands beyond the schema."""
    rules = run["tool"]["driver"]["rules"]
    ids = [rule["id"] for rule in rules]
    assert len(set(ids)) == len(ids)
    for rule in rules:
        assert rule["shortDescription"]["text"]
        assert rule["fullDescription"]["text"]
        assert rule["help"]["text"]
        assert len(rule["id"]) <= 255
        assert len(rule["properties"]["tags"]) <= 10
        score = rule["properties"].get("security-severity")
        assert score is None or 0 < float(score) <= 10
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        assert result["partialFingerprints"]["parallelai/v1"]
        (location,) = result["locations"]
        region = location["physicalLocation"]["region"]
        assert 1 <= region["startLine"] <= region["endLine"]
        assert not location["physicalLocation"]["artifactLocation"]["uri"].startswith("//")


def test_a_finding_as_a_result():
    one = finding(
        "src/auth.py",
        (12, 13),
        column=(9, 18),
        id="f-9c1",
        rule="S105",
        category="security",
        message="Hardcoded",
        suggestion="Use the environment",
        confidence=0.9,
        by=("ruff", "claude"),
        votes=2,
    )
    run = run_of(one)
    (result,) = run["results"]
    assert result["ruleId"] == "S105"
    assert result["level"] == "error"
    assert result["message"]["text"] == "Hardcoded\n\nSuggestion: Use the environment"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "src/auth.py", "uriBaseId": "%SRCROOT%"}
    assert place["region"] == {"startLine": 12, "endLine": 13, "startColumn": 9, "endColumn": 18}
    assert result["partialFingerprints"] == {"parallelai/v1": "f-9c1"}
    assert (result["rank"], result["properties"]["votes"]) == (90.0, 2)
    assert "suppressions" not in result
    assert "baselineState" not in result
    assert run["columnKind"] == "unicodeCodePoints"


@pytest.mark.parametrize(
    ("severity", "level", "score"),
    [("critical", "error", 9.0), ("high", "error", 7.0), ("medium", "warning", 4.0), ("low", "note", 0.1)],
)
def test_severities_are_those_of_code_scanning(severity, level, score):
    run = run_of(finding(severity=Severity(severity), category="security"))
    (rule,) = run["tool"]["driver"]["rules"]
    assert run["results"][0]["level"] == rule["defaultConfiguration"]["level"] == level
    assert score <= float(rule["properties"]["security-severity"]) < score + 3


def test_a_rule_is_as_bad_as_its_worst_finding_and_no_security_where_it_is_none():
    run = run_of(finding(rule="X", severity=Severity.LOW), finding(rule="X", severity=Severity.CRITICAL))
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["defaultConfiguration"]["level"] == "error"
    assert "security-severity" not in rule["properties"]


def test_more_than_code_scanning_takes_is_cut_by_rank_and_said():
    # A suppressed finding ranked first must not push an open one out.
    many = [finding(line=1, state="suppressed")]
    many += [finding(line=n, id=f"f-{n}") for n in range(1, MAX_RESULTS + 11)]
    run = run_of(*many)
    assert len(run["results"]) == MAX_RESULTS == 25_000
    assert run["results"][-1]["partialFingerprints"]["parallelai/v1"] == "f-25000"
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"].startswith("11 results")
    assert run["properties"]["leftOut"] == 11
    Draft7Validator(SCHEMA).validate({"version": "2.1.0", "runs": [{**run, "results": run["results"][:10]}]})


def test_fingerprints_stay_when_lines_move():
    def prints(text, line):
        found = Collector(lambda _file: text).collect([reported(finding(line=line, rule="S1"))]).findings
        return [result["partialFingerprints"] for result in run_of(*found)["results"]]

    assert prints("x = 1\n", 1) == prints("\n\n# more\nx = 1\n", 4)
    assert prints("x = 1\n", 1) != prints("x = 2\n", 1)


def test_states():
    results = run_of(
        *(
            finding(line=n, state=state)
            for n, state in enumerate(("open", "suppressed", "refuted", "baseline"), 1)
        )
    )["results"]
    kinds = [[entry["kind"] for entry in result.get("suppressions", [])] for result in results]
    assert kinds == [[], ["inSource"], ["external"], []]
    assert [result["baselineState"] for result in results] == ["new", "new", "new", "unchanged"]


@pytest.mark.parametrize("file", ["a b/ü#1%.py", "c:d.py", "値/x.py", "odd\udcff.py"])
def test_paths_are_uris_that_lead_back(file):
    uri = run_of(finding(file))["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.isascii()
    assert not set(uri) & set(" #?:")
    assert unquote_to_bytes(uri) == file.encode("utf-8", "surrogateescape")


def test_files_that_failed_or_were_skipped_are_told():
    files = Coverage(
        failed=(FileNote("a.py", "crashed"),),
        skipped=tuple(FileNote(f"{n}.js", "generated") for n in range(5000)),
    )
    (invocation,) = run_of(files=files, exit=4)["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 4)
    notes = invocation["toolExecutionNotifications"]
    assert notes[0]["message"]["text"].startswith("4001 more files")
    assert notes[1]["level"] == "error"
    assert notes[1]["message"]["text"] == "failed: crashed"
    assert len(notes) == 1001


def test_no_folder_of_this_machine_is_in_it(tmp_path):
    assert str(tmp_path) not in render(document([finding()]), RenderContext(root=tmp_path))
