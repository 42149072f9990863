"""What engines wrote becomes a checked reply, or `Invalid` with what is wrong: never anything else."""

from __future__ import annotations

import json
import string
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parallelai.engines import replies
from parallelai.engines.replies import (
    FINDINGS_SCHEMA,
    check_schema,
    parse_findings,
    parse_json,
    to_reply,
)
from parallelai.engines.untrusted import clean, safe_path
from parallelai.errors import Invalid, Rejected
from parallelai.records import Finding, Severity, to_json

ONE = {"file": "src/a.py", "line": 3, "severity": "high", "message": "bad"}


def as_text(*findings: dict[str, object]) -> str:
    return json.dumps(list(findings))


# --- Findings


@pytest.mark.parametrize(
    "text",
    [
        as_text(ONE),
        json.dumps({"findings": [ONE]}),
        f"Here is what I found:\n\n```json\n{as_text(ONE)}\n```\nThat is all.",
        f"```\n{as_text(ONE)}\n```",
        f"First some code:\n```python\nx = [1]\n```\nthen\n```json\n{as_text(ONE)}\n```",
        f"```json\n[]\n```\nOn second thoughts:\n```json\n{as_text(ONE)}\n```",
        "\ufeff" + as_text(ONE),
        f"\x1b[32m{as_text(ONE)}\x1b[0m",
        f"  ```json\r\n{as_text(ONE)}\r\n  ```\r\n",
    ],
    ids=["list", "object", "fenced", "bare fence", "after code", "last block", "bom", "coloured", "crlf"],
)
def test_reads_findings_in_the_ways_that_engines_write_them(text: str) -> None:
    (finding,) = parse_findings(text)
    assert (finding.file, finding.line, finding.severity) == ("src/a.py", (3, 3), Severity.HIGH)


def test_reads_sarif() -> None:
    result = {
        "ruleId": "R1",
        "level": "error",
        "message": {"text": "bad"},
        "locations": [
            {"physicalLocation": {"artifactLocation": {"uri": "src/a.py"}, "region": {"startLine": 7}}}
        ],
    }
    sarif = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": [result]}]}
    (finding,) = parse_findings(json.dumps(sarif))
    assert (finding.file, finding.line[0], finding.rule, finding.message) == ("src/a.py", 7, "R1", "bad")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("I found nothing.", "not JSON"),
        ('[{"file": "a.py", "line": 3,', "not JSON"),
        ('{"answer": 42}', "holds no findings"),
        ('{"findings": {}}', "holds no findings"),
        ("3", "holds no findings"),
        ("[3]", "finding 1 is not an object"),
        (as_text({**ONE, "line": 0}), "lines count from 1"),
        (as_text({**ONE, "line": [5, 3]}), "lines count from 1"),
        (as_text({**ONE, "line": True}), "finding 1: `line` is true or false, not a number"),
        (as_text({**ONE, "column": [1, True]}), "finding 1: `column` is true or false, not a number"),
        (as_text({**ONE, "line": [1, 2, 3]}), "`line"),
        (as_text({**ONE, "column": 0}), "columns count from 1"),
        (as_text({**ONE, "severity": "awful"}), "`severity`"),
        (as_text({**ONE, "confidence": 2}), "confidence"),
        (as_text({**ONE, "message": " \u001b[31m "}), "`message` is empty"),
        (as_text({key: value for key, value in ONE.items() if key != "file"}), "`file`"),
        (as_text(ONE, {**ONE, "line": None}), "finding 2: `line`"),
        ("[NaN]", "NaN is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"line": ' + "9" * 5000 + "}]", "9999… is too large a number"),
    ],
)
def test_refuses_what_is_no_list_of_findings(text: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_findings(text)
    assert said in caught.value.said
    assert len(caught.value.said) < 1_000


@pytest.mark.parametrize(
    "claimed", [{"by": ["somebody"]}, {"votes": 9}, {"state": "suppressed"}, {"id": "f-1"}]
)
def test_leaves_to_parallelai_what_only_it_may_say(claimed: dict[str, object]) -> None:
    assert parse_findings(as_text({**ONE, **claimed})) == parse_findings(as_text(ONE))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x.py",
        "a/../../x.py",
        "..",
        ".",
        "",
        "//etc/passwd",
        "a\x00.py",
        "a\x1b[2J.py",
        "a\nb.py",
    ],
)
def test_refuses_files_outside_the_project(path: str) -> None:
    with pytest.raises(Invalid):
        parse_findings(as_text({**ONE, "file": path}))


@pytest.mark.parametrize(
    ("path", "expected"),
    [("./a.py", "a.py"), ("a//b.py", "a/b.py"), ("/repo/src/a.py", "src/a.py"), ("ä b.py", "ä b.py")],
)
def test_makes_paths_relative_to_the_root(path: str, expected: str) -> None:
    assert safe_path(path, "/repo") == expected


def test_refuses_an_absolute_path_that_only_begins_like_the_root() -> None:
    for path in ("/repo2/a.py", "/repo/../etc/passwd", "/repo"):
        with pytest.raises(Invalid):
            safe_path(path, "/repo")


def test_takes_escapes_and_lone_surrogates_out_of_every_field() -> None:
    (finding,) = parse_findings(
        json.dumps(
            [
                {
                    **ONE,
                    "message": "\u001b]0;title\u0007bad\ud800 \u202eevil",
                    "rule": "R\u001b[1m1\nx",
                    "quote": "a\u009b31mb",
                }
            ]
        )
    )
    assert (finding.message, finding.rule, finding.quote) == ("bad evil", "R1 x", "ab")


def test_cuts_what_is_too_long() -> None:
    (finding,) = parse_findings(as_text({**ONE, "message": "m" * 100_000, "rule": "r" * 1_000}))
    assert len(finding.message) == replies.MAX_FIELD_CHARS
    assert finding.message.endswith("…")
    assert len(finding.rule or "") == 200


def test_refuses_too_many_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "MAX_FINDINGS", 2)
    with pytest.raises(Invalid, match="3 findings"):
        parse_findings(as_text(ONE, ONE, ONE))


def test_refuses_a_reply_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "MAX_CHARS", 50)
    with pytest.raises(Invalid, match="longer than 50"):
        parse_findings(as_text(ONE))


lines = st.tuples(st.integers(1, 10_000), st.integers(0, 100)).map(lambda pair: (pair[0], pair[0] + pair[1]))
words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=40)
findings_strategy = st.builds(
    Finding,
    file=st.lists(st.text(string.ascii_letters + "äß-_", min_size=1, max_size=8), min_size=1, max_size=4).map(
        "/".join
    ),
    line=lines,
    severity=st.sampled_from(Severity),
    message=words,
    column=st.none() | lines,
    category=words,
    rule=st.none() | words,
    suggestion=st.none() | words,
    quote=st.none() | words,
    confidence=st.none() | st.floats(0, 1),
    tier=st.sampled_from(["must", "maybe"]),
)


@given(st.lists(findings_strategy, max_size=5))
def test_findings_survive_the_way_through_text(findings: list[Finding]) -> None:
    document = {"findings": to_json(findings)}
    assert parse_findings(json.dumps(document)) == tuple(findings)
    jsonschema.validate(document, dict(FINDINGS_SCHEMA))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["findings", "runs", "results", "tool", "driver", "locations", *Finding.__dataclass_fields__]
            )
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@settings(max_examples=300)
@given(json_values.map(lambda value: json.dumps(value)) | st.text(max_size=300))
@example('[{"file": "a", "line": 1e400, "severity": "high", "message": "m"}]')
@example("```json\n```json\n```\n```")
@example("\x1b]\x1b]\x1b[" * 50)
def test_reading_findings_never_raises_anything_but_invalid(text: str) -> None:
    try:
        found = parse_findings(text)
    except Invalid as error:
        str(error).encode()
        return
    for finding in found:
        to_json(finding)
        assert not finding.file.startswith("/")
        assert ".." not in finding.file.split("/")
        assert 1 <= finding.line[0] <= finding.line[1]


# --- Text


@given(st.text(st.characters()))
def test_clean_text_can_be_printed_and_stored(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert "\x1b" not in cleaned
    assert "\r" not in cleaned
    assert all(char in "\n\t" or ord(char) >= 32 for char in cleaned)
    assert clean(cleaned) == cleaned


def test_keeps_text_as_it_is_but_for_escapes() -> None:
    reply = to_reply("Tab\there\r\n\x1b[1mbold\x1b[0m — ünïcode 🙂\n", output="text")
    assert reply.text == "Tab\there\nbold — ünïcode 🙂\n"


def test_a_text_that_is_too_long_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "MAX_CHARS", 10)
    reply = to_reply("x" * 50, output="text")
    assert reply.text == "x" * 9 + "…"
    assert "cut" in reply.notes[0]


def test_keeps_the_words_around_the_findings_for_people() -> None:
    reply = to_reply(f"I looked.\n```json\n{as_text(ONE)}\n```\n", output="findings")
    assert reply.text == "I looked."
    assert len(reply.findings) == 1
    assert to_reply(as_text(ONE), output="findings").text is None


# --- Data with a schema

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "maximum": 3}}}


def test_gives_data_that_fit_the_schema() -> None:
    assert to_reply('Sure:\n```json\n{"n": 2}\n```', output="schema", schema=SCHEMA).data == {"n": 2}


@pytest.mark.parametrize("text", ['{"n": 4}', "{}", "[]", "no", '{"n": "\\ud800"}', '{"n": 1, "\\udc00": 1}'])
def test_refuses_data_that_do_not_fit(text: str) -> None:
    with pytest.raises(Invalid):
        parse_json(text, SCHEMA)


def test_says_where_the_data_do_not_fit() -> None:
    with pytest.raises(Invalid, match=r"\$\.n"):
        parse_json('{"n": 4}', SCHEMA)


def test_refuses_deep_nesting() -> None:
    with pytest.raises(Invalid, match="nested"):
        parse_json("[" * 200 + "]" * 200, {})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "#/$defs/none"},
        {"patternProperties": {"(": {}}},
    ],
)
def test_a_schema_that_is_none_is_the_task_s_fault(schema: dict[str, object]) -> None:
    with pytest.raises(Rejected):
        parse_json('{"a": 1}', schema)


def test_a_schema_makes_this_process_ask_no_server() -> None:
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(Rejected, match="refers to"):
                parse_json("{}", {"$ref": f"http://127.0.0.1:{server.server_port}/schema.json"})
        finally:
            server.shutdown()
            thread.join()
    assert asked == []


def test_a_schema_that_refers_to_itself_for_ever_is_no_crash() -> None:
    with pytest.raises((Invalid, Rejected)):
        check_schema({}, {"$ref": "#"})


def test_numbers_that_overflow_are_no_crash() -> None:
    with pytest.raises(Invalid):
        parse_json("1" + "0" * 400, {"multipleOf": 0.3})
