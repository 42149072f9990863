"""The pure parts under the analyzers engine: weights of rules, precedence of settings, SARIF, notebooks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.engines.analyzers.notebooks import cell_lines, place
from parallelai.engines.analyzers.ruff_output import read_checked, read_failure, read_findings
from parallelai.engines.analyzers.ruff_rules import is_test, weigh, weigh_at
from parallelai.engines.analyzers.ruff_settings import (
    Layer,
    SecurityRule,
    SettingsReader,
    ignored_security,
    security_rules,
)
from parallelai.engines.analyzers.sarif_input import read_report, read_sarif
from parallelai.engines.analyzers.side_by_side import carry_out, cut
from parallelai.errors import Invalid, Transient
from parallelai.records import Severity

# --- How bad a rule is


@pytest.mark.parametrize(
    ("rule", "severity", "category"),
    [
        ("S102", "high", "security"),
        ("S105", "high", "security"),
        ("S301", "high", "security"),
        ("S602", "high", "security"),
        ("S608", "high", "security"),
        ("S101", "low", "security"),
        ("S404", "low", "security"),
        ("S999", "medium", "security"),
        ("SIM102", "low", "style"),
        ("F821", "high", "bug"),
        ("F401", "low", "maintainability"),
        ("F999", "medium", "bug"),
        ("E501", "low", "style"),
        ("E722", "medium", "bug"),
        ("E999", "high", "bug"),
        ("invalid-syntax", "high", "bug"),
        ("B006", "medium", "bug"),
        ("PLE1205", "high", "bug"),
        ("PLR0915", "low", "complexity"),
        ("D103", "low", "documentation"),
        ("PERF401", "low", "performance"),
        ("TD002", "info", "maintainability"),
        ("ZZZ123", "low", "maintainability"),
        ("some-new-rule", "low", "maintainability"),
    ],
)
def test_rules_weigh_what_they_mean(rule: str, severity: str, category: str) -> None:
    assert weigh(rule) == (severity, category)


@pytest.mark.parametrize("path", ["tests/a.py", "a/test/b.py", "test_a.py", "x/a_test.py", "conftest.py"])
def test_security_weighs_less_in_tests(path: str) -> None:
    assert is_test(path)
    assert weigh_at("S101", path) == (Severity.INFO, "security")
    assert weigh_at("S105", path) == (Severity.LOW, "security")
    assert weigh_at("F821", path) == weigh("F821")


@pytest.mark.parametrize("path", ["contest.py", "src/latest/a.py", "attest.py", "testament/a.py"])
def test_not_all_that_holds_the_word_is_a_test(path: str) -> None:
    assert not is_test(path)


@given(st.text(max_size=12))
def test_any_rule_has_a_weight(rule: str) -> None:
    severity, category = weigh(rule)
    assert severity in Severity
    assert category


# --- What settings ignore

RULES = (
    SecurityRule("S101", "assert", "restriction"),
    SecurityRule("S102", "exec-builtin", "security"),
    SecurityRule("S105", "hardcoded-password-string", "security"),
    SecurityRule("S602", "popen-with-shell", "security"),
)
SELECTORS = st.sampled_from(
    ["ALL", "S", "S1", "S10", "S101", "S102", "S602", "assert", "security", "E501", "SIM"]
)
LAYERS = st.builds(
    Layer, st.lists(SELECTORS, max_size=3).map(tuple), st.lists(SELECTORS, max_size=3).map(tuple)
)


@pytest.mark.parametrize(
    ("layers", "ignored"),
    [
        ([Layer(("S",), ("S101",))], ("S101",)),
        ([Layer(("S101",), ("S",))], ("S102", "S105", "S602")),
        ([Layer(("S101",), ("S101",))], ("S101",)),
        ([Layer(("S1",), ("S10",))], ("S101", "S102", "S105")),
        ([Layer(("ALL",), ("ALL",))], ("S101", "S102", "S105", "S602")),
        ([Layer(("S",), ("security",))], ()),
        ([Layer((), ("security",))], ("S102", "S105", "S602")),
        ([Layer((), ("S101",)), Layer(("S",), ())], ()),
        ([Layer((), ("S101",)), Layer(("E",), ())], ("S101",)),
        ([Layer(("S",), ()), Layer((), ("assert",))], ("S101",)),
        ([], ()),
    ],
)
def test_the_more_exact_and_the_nearer_selector_wins(layers: list[Layer], ignored: tuple[str, ...]) -> None:
    assert ignored_security(layers, RULES) == ignored


@given(st.lists(LAYERS, max_size=3))
def test_only_what_some_file_ignores_is_ignored(layers: list[Layer]) -> None:
    ignored = ignored_security(layers, RULES)
    named = {selector for layer in layers for selector in layer.ignored}
    for code in ignored:
        assert named & {"ALL", "security", "S", code[:2], code[:3], code, "assert"}
    everything = [*layers, Layer((), ("ALL",))]
    assert set(ignored) <= set(ignored_security(everything, RULES))
    last = [*layers, Layer(tuple(rule.code for rule in RULES), ())]
    assert ignored_security(last, RULES) == ()


def test_rules_are_picked_from_the_catalogue() -> None:
    catalogue: list[dict[str, Any]] = [
        {"code": "S101", "name": "assert", "category": "restriction"},
        {"code": "SIM101", "name": "x"},
        {"code": None, "name": "named-only"},
    ]
    assert security_rules(catalogue) == (SecurityRule("S101", "assert", "restriction"),)


def test_the_nearest_settings_hold(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.ruff.lint]\nignore = ["S101"]\n')
    (tmp_path / "a").mkdir()
    (tmp_path / "a/pyproject.toml").write_text("[project]\nname = 'x'\n")  # no [tool.ruff]: passed by
    (tmp_path / "b").mkdir()
    (tmp_path / "b/ruff.toml").write_text('extend = "../pyproject.toml"\nexclude = ["x"]\n')
    (tmp_path / "b/.ruff.toml").symlink_to("nowhere")
    paths = {name: str(tmp_path / name / "m.py") for name in (".", "a", "b")}
    found = SettingsReader().of_files(paths.values())
    assert found[paths["a"]].path == found[paths["."]].path == str(tmp_path / "pyproject.toml")
    assert found[paths["b"]].path == str(tmp_path / "b/ruff.toml")
    assert found[paths["b"]].layers == (Layer((), ("S101",)), Layer())
    assert found[paths["b"]].has_exclude
    assert not found[paths["a"]].has_exclude


def test_settings_are_read_again_when_they_change(tmp_path: Path) -> None:
    path, reader, file = tmp_path / "ruff.toml", SettingsReader(), str(tmp_path / "a.py")
    path.write_text('lint.ignore = ["S101"]\n')
    assert reader.of_files([file])[file].may_ignore_security
    path.write_text('lint.ignore = ["E501", "SIM1"]\n')
    assert not reader.of_files([file])[file].may_ignore_security
    path.unlink()
    assert reader.of_files([file])[file].path != str(path)


def test_settings_that_come_to_an_old_folder_are_found(tmp_path: Path) -> None:
    folder, reader, file = tmp_path / "a/b", SettingsReader(), str(tmp_path / "a/b/c.py")
    folder.mkdir(parents=True)
    for each in (folder, folder.parent, tmp_path):
        os.utime(each, (1, 1))  # so that it is taken to be settled
    assert reader.of_files([file])[file].path != str(tmp_path / "a/ruff.toml")
    assert reader.of_files([file])[file].path != str(tmp_path / "a/ruff.toml")  # what is known of it is used
    (tmp_path / "a/ruff.toml").write_text("")
    assert reader.of_files([file])[file].path == str(tmp_path / "a/ruff.toml")


def test_the_users_own_settings_hold_where_there_are_no_others(tmp_path: Path) -> None:
    (tmp_path / "user").mkdir()
    (tmp_path / "user/ruff.toml").write_text('lint.ignore = ["S101"]\n')
    found = SettingsReader(str(tmp_path / "user")).of_files(["/no/such/place/a.py"])
    assert found["/no/such/place/a.py"].path == str(tmp_path / "user/ruff.toml")


@pytest.mark.parametrize("extend", ["ruff.toml", "./ruff.toml", "other.toml"])
def test_settings_that_extend_each_other_end(tmp_path: Path, extend: str) -> None:
    (tmp_path / "ruff.toml").write_text(f'extend = "{extend}"\nlint.ignore = ["S101"]\n')
    (tmp_path / "other.toml").write_text('extend = "ruff.toml"\n')
    file = str(tmp_path / "a.py")
    assert SettingsReader().of_files([file])[file].layers[-1] == Layer((), ("S101",))


# --- What Ruff's log says


def test_the_log_tells_what_was_looked_at_among_warnings_and_odd_names() -> None:
    head = "[2026-11-21][01:00:06][ruff::diagnostics][DEBUG] "
    log = (
        f"{head}Checking: /p/a.py\nwarning: Invalid `# noqa` directive on a.py:1: x\n"
        f"{head}Checking: /p/n\nl.py\nwarning: more\n{head}Checking: /p/a b.py\n"
        "[2026-11-21][01:00:06][ruff::commands::check][DEBUG] Checked 4 files in: 1.5µs\n"
    )
    files = ["/p/a.py", "/p/n\nl.py", "/p/a b.py", "/p/left.py", "/p/gone.py"]
    assert read_checked(log, files, ["/p/gone.py"]) == {"/p/a.py", "/p/n\nl.py", "/p/a b.py"}
    assert read_checked(log, files, []) is None  # it counts one more than it names
    assert read_checked("", files, []) is None


@pytest.mark.parametrize("message", ["!", "\ud800!"])
@pytest.mark.parametrize("odd", [b"", b"null", b"a warning", b'{"code": "cut o', b"\xff"])
def test_lines_that_are_no_findings_are_passed_over(odd: bytes, message: str) -> None:
    place = {"row": 1, "column": 1}
    row = {
        "code": "S102",
        "filename": "/p/a.py",
        "location": place,
        "end_location": place,
        "message": message,
    }
    line = json.dumps(row).encode()
    found = read_findings(b"\n".join((line, odd, line, b"")), relative={"/p/a.py": "a.py"}.get, read=str)
    assert [(item.finding.file, item.finding.message) for item in found] == [("a.py", "!")] * 2


def test_the_reason_of_a_failure_is_one_line_without_the_files_text() -> None:
    log = (
        "ruff failed\n  Cause: Failed to parse /p/x\n  Cause: TOML parse error at line 1, column 32\n  |\n"
        "1 | root:x:0:0:secret\n  |        ^\nkey with no value, expected `=`\n"
    )
    why = read_failure(log)
    assert "secret" not in why
    assert "\n" not in why
    assert "key with no value" in why
    assert read_failure("") == "it gave no reason"


# --- Notebooks


@given(
    st.lists(st.lists(st.text('ab\n"\\é', max_size=6), max_size=4), max_size=4),
    st.sampled_from([None, 1, 4]),
    st.booleans(),
)
def test_each_line_of_a_cell_is_placed_where_its_text_stands(
    sources: list[list[str]], indent: int | None, as_one: bool
) -> None:
    sources = [[line.replace("\n", "") + "\n" for line in lines] for lines in sources]
    cells = [{"cell_type": "code", "source": "".join(lines) if as_one else lines} for lines in sources]
    text = json.dumps({"metadata": {"a": ["x\n"]}, "cells": cells}, indent=indent)
    mapped, rows = cell_lines(text), text.split("\n")
    assert len(mapped) == len(sources)
    for lines, places in zip(sources, mapped, strict=True):
        if any(lines):
            assert len(places) == len(lines)
        for line, at in zip(lines, places, strict=False):
            assert json.dumps(line)[1:-1] in rows[at - 1]


def test_pieces_that_are_no_whole_lines_count_as_the_line_that_they_begin() -> None:
    source = ["a", " = 1\n", "b = 2\nc = 3", "3\n", "", "d"]
    text = json.dumps({"cells": [{"source": source}]}, indent=1)
    rows = text.split("\n")
    assert [rows[at - 1].strip() for at in cell_lines(text)[0]] == [
        '"a",',
        r'"b = 2\nc = 3",',
        r'"b = 2\nc = 3",',
        '"",',
    ]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"cells": 3}', '{"cells": [3, {"source": 4}]}', "[" * 100_000, '{"cells": [{}]}'],
)
def test_what_is_no_notebook_has_no_places(text: str) -> None:
    assert place(cell_lines(text), 1, 5) == 1


# --- SARIF


def sarif(*results: dict[str, Any], **run: Any) -> dict[str, Any]:
    return {
        "version": "2.1.0",
        "runs": [{"tool": {"driver": {"name": "t"}}, "results": list(results), **run}],
    }


def result(uri: str = "a.py", **keys: Any) -> dict[str, Any]:
    region = keys.pop("region", {"startLine": 2, "startColumn": 3, "endColumn": 5})
    artifact = keys.pop("artifact", {"uri": uri})
    place = {"physicalLocation": {"artifactLocation": artifact, "region": region}}
    return {"ruleId": "r", "message": {"text": "bad"}, "locations": [place], **keys}


def test_a_result_becomes_a_finding() -> None:
    (finding,) = read_sarif(sarif(result(level="error")), root="/p")
    assert (finding.file, finding.line, finding.column) == ("a.py", (2, 2), (3, 5))
    assert (finding.rule, finding.message, finding.severity) == ("r", "bad", "high")


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("src/a.py", "src/a.py"),
        ("./src/a%20b.py", "src/a b.py"),
        ("file:///p/src/a.py", "src/a.py"),
        ("/p/src/a.py", "src/a.py"),
        ("src/../a.py", "a.py"),
    ],
)
def test_places_are_relative_to_the_project(uri: str, path: str) -> None:
    assert read_sarif(sarif(result(uri)), root="/p")[0].file == path


@pytest.mark.parametrize(
    "uri",
    ["../a.py", "/etc/passwd", "file:///etc/passwd", "https://x.example/a.py", "", "a%00b", "http://[", "."],
)
def test_results_without_a_place_in_the_project_are_counted(uri: str) -> None:
    report = read_report(sarif(result(uri), result("b.py")), root="/p")
    assert ([finding.file for finding in report.findings], report.left_out) == (["b.py"], 1)


def test_bases_and_artifacts_are_resolved() -> None:
    based = result(artifact={"uri": "a.py", "uriBaseId": "SRC"})
    listed = result(artifact={"index": 0})
    bases = {"ROOT": {"uri": "file:///p/"}, "SRC": {"uri": "src/", "uriBaseId": "ROOT"}}
    document = sarif(based, listed, originalUriBaseIds=bases, artifacts=[{"location": {"uri": "lib/b.py"}}])
    assert [finding.file for finding in read_sarif(document, root="/p")] == ["src/a.py", "lib/b.py"]
    loop = sarif(based, originalUriBaseIds={"SRC": {"uri": "x", "uriBaseId": "SRC"}})
    assert len(read_sarif(loop, root="/p")) == 1


def test_rules_give_what_results_leave_out() -> None:
    rule = {
        "id": "js/xss",
        "defaultConfiguration": {"level": "note"},
        "properties": {"security-severity": "9.8", "tags": ["security"]},
        "messageStrings": {"m": {"text": "use of {0}"}},
    }
    found = result(ruleId=None, ruleIndex=0, message={"id": "m", "arguments": ["eval"]})
    (finding,) = read_sarif(sarif(found, tool={"driver": {"name": "t", "rules": [rule]}}), root="/p")
    assert (finding.rule, finding.severity, finding.category) == ("js/xss", "critical", "security")
    assert finding.message == "use of eval"


@pytest.mark.parametrize(
    ("level", "severity"),
    [("error", "high"), ("warning", "medium"), ("note", "low"), ("none", "info"), (None, "medium")],
)
def test_levels(level: str | None, severity: str) -> None:
    assert read_sarif(sarif(result(level=level)))[0].severity == severity


def test_suppressed_passed_and_absent_results_are_no_findings() -> None:
    report = read_report(
        sarif(
            result(suppressions=[{"kind": "inSource"}]),
            result(suppressions=[{"kind": "inSource", "status": "rejected"}]),
            result(kind="pass"),
            result(baselineState="absent"),
        )
    )
    assert (len(report.findings), report.suppressed) == (1, 1)


def test_utf16_columns_become_code_points() -> None:
    found = result(region={"startLine": 1, "startColumn": 5, "endColumn": 7})
    text = "😀é = 1\n"
    for kind, column in ((None, (4, 6)), ("utf16CodeUnits", (4, 6)), ("unicodeCodePoints", (5, 7))):
        report = read_report(sarif(found, columnKind=kind), read=lambda path: text)
        assert report.findings[0].column == column


def test_what_the_tool_says_went_wrong_is_kept() -> None:
    said = [{"level": "error", "message": {"text": "no config\n\x1b[31m"}}, {"level": "note", "message": {}}]
    report = read_report(sarif(invocations=[{"toolExecutionNotifications": said}]))
    assert report.notes == ("no config",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "ruleId",
        "ruleIndex",
        "rule",
        "level",
        "kind",
        "message",
        "locations",
        "suppressions",
        "fixes",
        "properties",
    ]
)


@given(JSON)
def test_any_document_is_read_or_invalid(data: Any) -> None:
    try:
        files = [finding.file for finding in read_report(data, root="/p").findings]
    except Invalid:
        files = []
    assert not any(file.startswith("/") for file in files)


@given(st.dictionaries(KEYS, JSON, max_size=4), st.dictionaries(st.text(max_size=12), JSON, max_size=3))
def test_any_result_is_read_or_invalid(keys: dict[str, Any], region: dict[str, Any]) -> None:
    try:
        report = read_report(sarif({**result(region=region), **keys}), root="/p", read=lambda path: "x\n")
    except Invalid:
        return
    for finding in report.findings:
        assert 1 <= finding.line[0] <= finding.line[1]
        assert not finding.file.startswith("/")


@given(st.integers(), st.integers(), st.integers(), st.integers())
def test_regions_stay_within_bounds(line: int, end: int, column: int, end_column: int) -> None:
    region = {"startLine": line, "endLine": end, "startColumn": column, "endColumn": end_column}
    (finding,) = read_sarif(sarif(result(region=region)))
    assert 1 <= finding.line[0] <= finding.line[1] <= 10**8
    if finding.column is not None:
        assert finding.column[0] >= 1
        assert finding.line[0] != finding.line[1] or finding.column[0] <= finding.column[1]


# --- Cutting and carrying out


@given(st.lists(st.text(max_size=30), max_size=60), st.integers(1, 10), st.integers(1, 100))
def test_batches_hold_all_in_order_within_bounds(paths: list[str], files: int, size: int) -> None:
    batches = list(cut(paths, files=files, max_bytes=size))
    assert [path for batch in batches for path in batch] == paths
    for batch in batches:
        assert 1 <= len(batch) <= files
        assert len(batch) == 1 or sum(len(path.encode()) + 1 for path in batch) <= size


async def test_the_first_error_is_raised_by_itself() -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        if number == 2:
            raise Transient("no")
        done.append(number)

    with pytest.raises(Transient):
        await carry_out(work, range(10), at_once=1)
    assert done == [0, 1]
    await carry_out(work, [], at_once=3)
