"""Formats for other programs and for people: valid by others' schemas and parsers, and never obeyed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import html5lib
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from results_documents import document, documents, finding

from parallelai.records import Coverage, ErrorRecord, FileNote, Outcome, Severity, TaskResult
from parallelai.results import formats
from parallelai.results.replacement import replacement, split

DATA = Path(__file__).parent / "data"
XSD = etree.XMLSchema(etree.parse(DATA / "junit-10.xsd"))
SOURCE = 'def find(db, naïve):\n\tquery = f"…{naïve}"\n\treturn db.run(query)\n'
NASTY = "</script><script>alert(1)</script>\n::error::no\n```\n# heading <img src=x> @someone [a](http://b) | \x1b[31m"


def rendered(name, found=(), tasks=(), source=SOURCE, **fields):
    made = document(found, tasks, **fields)
    return formats.render(name, made, formats.RenderContext(read=lambda _file: source))


def suggested(code, words="", **fields):
    return finding(suggestion=f"{words}\n```suggestion\n{code}```", **fields)


TASKS = [
    TaskResult(id="good", status=Outcome.OK, engine="mock", attempts=1, seconds=2.0),
    TaskResult(
        id="bad",
        status=Outcome.FAILED,
        engine="claude",
        attempts=2,
        error=ErrorRecord("rejected", "401 <no>", next="set `KEY`"),
    ),
    TaskResult(id="poor", status=Outcome.OVER_BUDGET),
    TaskResult(id="late", status=Outcome.BLOCKED, error=ErrorRecord("rate_limited", "wait")),
    TaskResult(id="idle", status=Outcome.SKIPPED),
]


# --- all of them


@pytest.mark.parametrize("name", ["html", "junit", "markdown", "github", "rdjsonl"])
@given(made=documents(), source=st.none() | st.text(max_size=200))
def test_whatever_a_document_holds_it_is_rendered_in_a_form_that_others_can_read(name, made, source):
    text = formats.render(name, made, formats.RenderContext(read=lambda _file: source))
    text = text.encode("utf-8", "backslashreplace").decode()  # as files are written
    if name == "junit":
        XSD.assertValid(etree.fromstring(text.encode()))
    elif name == "html":
        html5lib.HTMLParser(strict=True).parse(text)
    elif name == "rdjsonl":
        for line in text.splitlines():
            jsonschema.validate(json.loads(line), RDJSONL)
    elif name == "github":
        shown = sum(one.state == "open" for one in made.findings)
        commands = [line for line in text.split("\n") if re.match(r"^::(error|warning|notice) ", line)]
        assert len(commands) >= shown
        assert "\r" not in text
        assert len(text.split("\n")) == len(commands) + 2


@pytest.mark.parametrize("name", ["html", "junit", "markdown", "github", "rdjsonl"])
def test_findings_that_are_not_open_are_not_reported_as_open(name):
    states = [finding(state=state, message=f"is {state}") for state in ("baseline", "suppressed", "refuted")]
    text = rendered(name, states)
    if name == "html":
        assert text.count('aria-pressed="false"') == 3
    else:
        assert not any(one.message in text for one in states)


def test_all_formats_are_in_the_registry():
    assert {"html", "junit", "markdown", "github", "rdjsonl", "json", "sarif", "terminal"} <= set(
        formats.names()
    )


# --- junit


def test_junit_a_finding_is_a_failure_a_fault_an_error_a_budget_stop_skipped():
    covered = Coverage(covered=("src/a.py", "src/clean.py"), failed=(FileNote("src/odd.py", "not UTF-8"),))
    found = [finding(line=2, rule="S1", severity=Severity.LOW), finding(line=3, state="baseline")]
    tree = etree.fromstring(rendered("junit", found, TASKS, files=covered).encode())
    XSD.assertValid(tree)
    findings, tasks = tree.findall("testsuite")
    cases = {
        (case.get("classname"), case[0].tag if len(case) else "passed") for case in findings.iter("testcase")
    }
    assert cases == {("src/a.py", "failure"), ("src/clean.py", "passed"), ("src/odd.py", "error")}
    kinds = {case.get("name"): case[0].tag if len(case) else "passed" for case in tasks.iter("testcase")}
    assert kinds == {"good": "passed", "bad": "error", "poor": "skipped", "late": "error", "idle": "skipped"}
    for suite in (findings, tasks, tree):
        cases = list(suite.iter("testcase"))
        for attribute, tag in (("failures", "failure"), ("errors", "error")):
            assert suite.get(attribute) == str(sum(len(case) > 0 and case[0].tag == tag for case in cases))
        assert suite.get("tests") == str(len(cases))


# --- rdjsonl: columns in bytes, ends exclusive, edits of whole lines

_POSITION = {
    "type": "object",
    "required": ["line"],
    "additionalProperties": False,
    "properties": {"line": {"type": "integer", "minimum": 1}, "column": {"type": "integer", "minimum": 1}},
}
_RANGE = {
    "type": "object",
    "required": ["start", "end"],
    "additionalProperties": False,
    "properties": {"start": _POSITION, "end": _POSITION},
}
RDJSONL = {  # what reviewdog's documentation says of a diagnostic, stricter than its own schema
    "type": "object",
    "required": ["message", "location", "severity", "source", "code"],
    "additionalProperties": False,
    "properties": {
        "message": {"type": "string", "minLength": 1},
        "location": {
            "type": "object",
            "required": ["path", "range"],
            "additionalProperties": False,
            "properties": {"path": {"type": "string", "minLength": 1}, "range": _RANGE},
        },
        "severity": {"enum": ["ERROR", "WARNING", "INFO"]},
        "source": {"type": "object", "properties": {"name": {"type": "string"}}},
        "code": {"type": "object", "properties": {"value": {"type": "string", "minLength": 1}}},
        "suggestions": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["range", "text"],
                "additionalProperties": False,
                "properties": {"range": _RANGE, "text": {"type": "string"}},
            },
        },
    },
}


def diagnostics(*found, source=SOURCE):
    lines = rendered("rdjsonl", found, source=source).splitlines()
    return [json.loads(line) for line in lines]


def applied(edit, source):
    """Apply an edit as reviewdog does: by bytes."""
    lines = [line + b"\n" for line in source.encode().split(b"\n")]

    def offset(at):
        return sum(map(len, lines[: at["line"] - 1])) + at["column"] - 1

    data, where = source.encode(), edit["range"]
    return (data[: offset(where["start"])] + edit["text"].encode() + data[offset(where["end"]) :]).decode()


def test_rdjsonl_counts_columns_in_bytes():
    (one,) = diagnostics(finding(line=2, column=(12, 19)))
    where = one["location"]["range"]
    line = SOURCE.split("\n")[1].encode()
    cut = line[where["start"]["column"] - 1 : where["end"]["column"] - 1]
    assert cut.decode() == SOURCE.split("\n")[1][11:18] == "…{naïve"


def test_rdjsonl_suggests_an_edit_where_there_is_a_replacement():
    one, two, three = diagnostics(
        suggested('query = "…"\n', "Use a parameter.", line=2),
        suggested("", line=2),
        finding(line=2, suggestion="use `a parameter`"),
    )
    assert one["message"].endswith("Suggestion: Use a parameter.")
    assert applied(one["suggestions"][0], SOURCE) == SOURCE.replace('query = f"…{naïve}"', 'query = "…"')
    assert applied(two["suggestions"][0], SOURCE) == SOURCE.replace('\tquery = f"…{naïve}"\n', "")
    assert "suggestions" not in three


def test_rdjsonl_lines_stay_below_what_reviewdog_reads():
    long = suggested("é" * 30_000 + "\n", "\x01" * 9_000, message="\x01" * 9_000, rule="\udcff" * 900)
    text = rendered("rdjsonl", [long], source="x\n")
    assert all(len(line.encode()) < 64 * 1024 for line in text.splitlines())
    assert "\\udc" not in text


# --- replacements


@pytest.mark.parametrize(
    ("code", "line", "expected"),
    [
        ("x = 1\n", 2, "    x = 1\n"),
        ("    x = 1\n", 2, "    x = 1\n"),
        ("if a:\n    x\n", 2, "    if a:\n        x\n"),
        ("a\n\nb\n", (1, 2), "a\n\nb\n"),
        ("", 1, ""),
        ("def f():\n", 1, None),
        ("x\n", 99, None),
    ],
)
def test_a_replacement_stands_for_whole_lines_and_is_indented_as_they_are(code, line, expected):
    edit = replacement(suggested(code, line=line), ["def f():", "    return 2"])
    assert (edit.text if edit else None) == expected


@pytest.mark.parametrize(
    "suggestion",
    ["return 1", "```python\nreturn 1\n```", "```suggestion\nreturn 1", "```suggestion\na\n```\n" * 2],
)
def test_words_are_never_taken_for_code(suggestion):
    assert split(suggestion) == (suggestion, None)
    assert replacement(finding(suggestion=suggestion), ["return 2"]) is None


# --- github, markdown


def test_github_commands_are_escaped_and_sum_up():
    text = rendered(
        "github",
        [finding(line=2, column=(3, 9), rule="a:b,c", message=NASTY, file="src/a,b:%.py")],
        TASKS,
        exit=4,
    )
    first, *others = text.splitlines()
    assert first.startswith(
        "::error file=src/a%2Cb%3A%25.py,line=2,endLine=2,col=3,endColumn=8,title=a%3Ab%2Cc (high)::</script>"
    )
    assert "%0A::error::no%0A" in first
    assert sum(line.startswith("::") for line in others) == 3
    assert "\x1b" not in text
    assert others[-1].startswith("1 finding in 1 file")


def test_markdown_says_it_all_and_lets_nothing_through():
    one = finding(
        line=(2, 3), message=NASTY, quote="x = '```'", votes=2, by=("a", "b"), tier="maybe", rule="S|1"
    )
    text = rendered("markdown", [one, suggested("y\n", "so:", line=1)], TASKS)
    assert text.startswith("<!-- parallelai -->\n## ParallelAI\n")
    assert "**2 findings in 1 file" in text
    assert "*(maybe; 2 votes: a, b)*" in text
    assert "````\n  x = '```'\n  ````" in text
    assert "401 &lt;no\\>" in text
    outside = re.sub(r"(`+)[^`].*?\1", "", text.replace("<!-- parallelai -->", ""))
    allowed = {"<details>", "<summary>", "</summary>", "</details>", "<sub>", "</sub>"}
    assert set(re.findall(r"(?<!\\)<[^>\s]*>", outside)) <= allowed
    assert "@someone" not in text
    assert not re.search(r"(?<!\\)\[a(?<!\\)\]\(", text)
    assert "\x1b" not in text


def test_markdown_fits_a_comment():
    found = [finding(line=number + 1, message="word " * 300) for number in range(500)]
    text = rendered("markdown", found)
    assert len(text) < 65_536
    shown = text.count("**high**")
    assert f"… and {500 - shown:,} more" in text


# --- html


def page(*found, **given_):
    text = rendered("html", found, **given_)
    return text, html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


def test_html_is_whole_by_itself_and_allows_only_its_own_script_and_style():
    text, tree = page(finding(message=NASTY, file=f"src/{NASTY}", quote=NASTY, line=2, rule='"><b>'))
    policy = tree.find(".//meta[@http-equiv]").get("content")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (one,) = tree.iter(tag)
        digest = base64.b64encode(hashlib.sha256(one.text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"(src|href|url|@import)\s*[=(]\s*[\"']?(https?:)?//", text)
    names = {name for element in tree.iter() for name in element.attrib}
    assert not {name for name in names if name.startswith("on")}
    severities = {one.text for one in tree.iter("b")}
    assert severities <= set("0123456789")
    for tag in ("img", "link", "iframe", "a", "object", "form"):
        assert not list(tree.iter(tag)), tag


def test_html_shows_source_with_the_place_marked_and_what_to_write_instead():
    one = suggested(
        'query = "…"\n', "Use a parameter.", line=2, column=(10, 20), quote='\tquery = f"…{naïve}"'
    )
    _, tree = page(one)
    (mark,) = tree.iter("mark")
    assert mark.text == 'f"…{naïve}'
    numbers = [i.text for i in tree.iter("i")]
    assert numbers == ["1", "2", "3", "+"]
    come = next(element for element in tree.iter("div") if element.get("class") == "come")
    assert "".join(come.itertext()) == '+\tquery = "…"'


def test_html_shows_the_quote_where_the_file_is_not_what_it_was():
    _, tree = page(finding(line=2, quote="    old = code()"))
    assert [code.text for code in tree.iter("code")] == ["    old = code()"]


def test_html_can_be_filtered_by_all_that_occurs():
    found = [
        finding(severity=Severity.CRITICAL, tier="maybe"),
        finding(severity=Severity.LOW, state="refuted", file="src/b.py"),
    ]
    _, tree = page(*found)
    buttons = {one.get("value"): one.get("aria-pressed") for one in tree.iter("button")}
    assert buttons == {"critical": "true", "low": "true", "maybe": "true", "refuted": "false"}
    cards = list(tree.iter("article"))
    assert [(one.get("data-severity"), one.get("data-tier"), one.get("data-state")) for one in cards] == [
        ("critical", "maybe", "open"),
        ("low", "must", "refuted"),
    ]


def test_html_shows_what_is_invisible():
    text, _ = page(finding(quote="if a\u202e b:", message="a\u200bb"))
    assert "\\u202e" in text
    assert "\u202e" not in text


def test_html_of_hostile_texts_is_made_soon():
    for message in ("`" * 8_000, "` " * 4_000, "`a" * 4_000):
        for name in ("html", "markdown"):
            assert "a.py" in rendered(name, [finding(message=message, suggestion=message)])


def test_html_of_very_many_findings_stays_readable():
    found = [finding(line=number + 1, id=f"f-{number}") for number in range(6_000)]
    text = rendered("html", found, source=None)
    assert text.count("<article") == 5_000
    assert "1,000 more findings" in text


def test_what_is_shown_is_written_as_one_text():
    stream = io.StringIO()
    context = formats.context_for(stream, root=Path(), environ={})
    assert formats.render("html", document(), context).endswith("</body></html>\n")
