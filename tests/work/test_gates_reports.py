"""Reports of test runners, also hostile ones; and how failing tests are run alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from gates_support import PYTEST
from hypothesis import given
from hypothesis import strategies as st

from parallelai.work.gates.again import alone, node_id, pytest_at
from parallelai.work.gates.commands import read_report, shown
from parallelai.work.gates.reports import (
    MAX_DEPTH,
    MAX_NAME,
    BadReport,
    Case,
    Report,
    identity,
    parse,
    parse_all,
    printed,
)


def statuses(report: Report) -> dict[str, str]:
    return {each.id: each.status for each in report.cases.values()}


# -- JUnit XML

GRADLE = b"""<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="com.shop.CartTest" tests="4" skipped="1" failures="1" errors="0" hostname="h" time="0.02">
  <properties><property name="failure" value="x"/></properties>
  <testcase name="adds()" classname="com.shop.CartTest" time="0.0"/>
  <testcase name="removes()" classname="com.shop.CartTest"><failure message="m" type="t">at x</failure></testcase>
  <testcase name="later()" classname="com.shop.CartTest"><skipped/></testcase>
  <testcase name="retried()" classname="com.shop.CartTest"><flakyFailure message="m"/><system-out/></testcase>
</testsuite>"""
GO = b"""<testsuites><testsuite name="example.com/a/util" failures="1"><testcase classname="util" name="TestX">
<failure message="Failed"/></testcase></testsuite>
<testsuite name="example.com/b/util" tests="1"><testcase classname="util" name="TestX"/></testsuite></testsuites>"""
JEST = b"""<testsuites name="jest tests"><testsuite name="menu" errors="0" failures="1" timestamp="2026-01-01T00:00:00">
<testcase classname="menu opens" name="menu opens" time="0.1"><failure>Error</failure></testcase></testsuite>
<testsuite name="broken.test.js" errors="1" failures="0" tests="0"/></testsuites>"""
NODE = b"""<testsuites><testsuite name="add"><testcase name="works" classname="test"><failure/></testcase>
<testsuite name="deep"><testcase name="works" classname="test"/></testsuite></testsuite>
<testsuite name="sub"><testcase name="works" classname="test" file="a.mjs"/></testsuite>
<testcase name="works" classname="test"/></testsuites>"""
BARE = b"""<testsuites><testsuite name="A"><testcase name="t"><error/></testcase></testsuite>
<testsuite name="B"><testcase name="t"/></testsuite></testsuites>"""
GTEST = b"""<testsuites><testsuite name="Cart"><testcase name="Off" status="notrun" classname="Cart"/>
<testcase name="On" status="run" result="completed" classname="Cart"/></testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (
            GRADLE,
            {
                "com.shop.CartTest::adds()": "passed",
                "com.shop.CartTest::removes()": "failed",
                "com.shop.CartTest::later()": "skipped",
                "com.shop.CartTest::retried()": "passed",
            },
        ),
        (GO, {"example.com/a/util::util::TestX": "failed", "example.com/b/util::util::TestX": "passed"}),
        (JEST, {"menu opens::menu opens": "failed", "broken.test.js::(the whole suite)": "error"}),
        (
            NODE,
            {
                "add::test::works": "failed",
                "add > deep::test::works": "passed",
                "a.mjs::sub::test::works": "passed",
                "test::works": "passed",
            },
        ),
        (BARE, {"A::t": "error", "B::t": "passed"}),
        (GTEST, {"Cart::Off": "skipped", "Cart::On": "passed"}),
        (b'\xef\xbb\xbf<x:testsuite xmlns:x="u"><x:testcase name="a"/></x:testsuite>', {"a": "passed"}),
        (
            '<?xml version="1.0" encoding="utf-16"?><testsuite><testcase name="ä"/></testsuite>'.encode(
                "utf-16"
            ),
            {"ä": "passed"},
        ),
        (
            b'<testsuite><testcase name="a"/><testcase name="a"><error/></testcase></testsuite>',
            {"a": "error"},
        ),
        (
            b'<testsuite><testcase name="a"><error/></testcase><testcase name="a"/></testsuite>',
            {"a": "error"},
        ),
    ],
)
def test_junit_as_runners_write_it(data: bytes, wanted: dict[str, str]) -> None:
    assert statuses(parse(data)) == wanted


def test_what_pytest_itself_writes(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(
        "import pytest\n"
        "class TestA:\n    def test_ok(self): pass\n"
        "@pytest.mark.parametrize('x', [1, 'a/b[c]', object()])\ndef test_x(x): assert x == 1\n"
        "@pytest.mark.skip\ndef test_skipped(): pass\n"
        "@pytest.mark.xfail\ndef test_known(): assert 0\n"
        "@pytest.fixture\ndef broken(): raise ValueError\n"
        "def test_error(broken): pass\n"
    )
    (tmp_path / "tests" / "test_b.py").write_text("import nothing_like_it\n")
    argv = (*PYTEST, "--continue-on-collection-errors", "--junitxml=r.xml")
    subprocess.run([*argv, "-p", "no:randomly"], cwd=tmp_path, capture_output=True, check=False)
    report = read_report(tmp_path / "r.xml")
    assert statuses(report) == {
        "tests.test_b": "error",
        "tests.test_a.TestA::test_ok": "passed",
        "tests.test_a::test_x[1]": "passed",
        "tests.test_a::test_x[a/b[c]]": "failed",
        "tests.test_a::test_x[x2]": "failed",
        "tests.test_a::test_skipped": "skipped",
        "tests.test_a::test_known": "skipped",
        "tests.test_a::test_error": "error",
    }
    assert report.pass_rate == 2 / 6
    files = {"tests/test_a.py", "tests/test_b.py"}
    command = alone(
        (*PYTEST, "tests", "--junitxml=s.xml"),
        map(report.cases.__getitem__, report.failed),
        files,
        files.__contains__,
    )
    assert command is not None
    assert "tests/test_b.py" in command
    command = tuple(word for word in command if word not in ("tests/test_b.py", "tests"))
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert set(read_report(tmp_path / "s.xml").cases) == set(report.failed) - {"tests.test_b"}


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>
<testsuite><testcase name="&b;"/></testsuite>"""
OUTSIDE = b"""<!DOCTYPE t SYSTEM "file:///etc/passwd"><testsuite><testcase name="a"/></testsuite>"""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (LAUGHS, "document type"),
        (OUTSIDE, "document type"),
        (b"<testsuite>" + b"<a>" * (MAX_DEPTH + 2), "deep"),
        (b"<html><testcase name='a'/></html>", "no JUnit XML"),
        (b"<testsuite><testcase name='a'/>", "no whole XML"),
        (b"<testsuite>&x;</testsuite>", "no whole XML"),
        (b"<?xml version='1.0' encoding='no-such'?><testsuite/>", "it"),
        (b"<testsuite/>", "names no test"),
        (b"  \n ", "empty"),
        (b"so then", "neither"),
        (b"%PDF", "neither"),
        (b"TAP version 13\n1..3\nok 1\nnot ok 2\n", "not complete: 2 tests of 3"),
        (b"TAP version 13\nok 1\n", "not complete"),
        (b"1..2\nok 1\nBail out! no database\n", "gave up: no database"),
        (b"1..0 # SKIP nothing to do\n", "names no test"),
        (b'{"a": 1}\n', "names no test"),
        (b'{"a": ' + b"[" * 200_000, "names no test"),
    ],
)
def test_bad_reports_are_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(BadReport, match=why):
        parse(data)


@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_nothing_but_a_report_or_a_reason_comes_of_any_bytes(data: bytes) -> None:
    for start in (b"", b"<testsuite>", b"TAP version 13\n", b'{"Action":"run"}\n', b"1..1\nok "):
        try:
            report = parse(start + data)
        except BadReport:
            continue
        assert report.cases
        assert all(len(name) <= MAX_NAME for name in report.cases)


NAMES = st.text(
    st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"), min_size=1, max_size=30
)
KINDS = st.sampled_from(["", "failure", "error", "skipped"])


@given(st.lists(st.tuples(NAMES, NAMES, KINDS), min_size=1, max_size=8))
def test_junit_is_read_as_it_was_meant(cases: list[tuple[str, str, str]]) -> None:
    valid = [(g, n, k) for g, n, k in cases if all(c not in g + n for c in "\ufffe\uffff")]
    if not valid:
        return
    body = "".join(
        f"<testcase classname={quoteattr(group)} name={quoteattr(name)}>{f'<{kind}/>' if kind else ''}</testcase>"
        for group, name, kind in valid
    )
    report = parse(f"<testsuites><testsuite name='s'>{body}</testsuite></testsuites>".encode())
    worst = {"skipped": 0, "": 1, "failure": 2, "error": 3}
    by_id: dict[str, str] = {}
    for group, name, kind in valid:
        key = identity("", group, name)
        by_id[key] = max(by_id.get(key, "skipped"), kind, key=worst.__getitem__)
    names = {"": "passed", "failure": "failed", "error": "error", "skipped": "skipped"}
    assert statuses(report) == {key: names[kind] for key, kind in by_id.items()}


def test_several_files_are_one_report() -> None:
    assert len(parse_all([GRADLE, GO]).cases) == 6
    twice = parse_all([GRADLE, GRADLE])
    assert [twice.cases[test].failures for test in twice.failed] == [2] * len(parse(GRADLE).failed) != []
    with pytest.raises(BadReport, match="no test"):
        parse_all([])


# -- TAP

NODE = b"""TAP version 13
# Subtest: cart
    # Subtest: adds
    ok 1 - adds
      ---
      duration_ms: 1
      not ok 9 - in a block
      ...
    # Subtest: removes
    not ok 2 - removes
    1..2
not ok 1 - cart
# Subtest: later
ok 2 - later # SKIP no time
ok 3 - issue \\#12 # TODO
not ok 4 - wish # TODO someday
1..4
# tests 4
"""


def test_tap_with_subtests_and_directives() -> None:
    assert statuses(parse(NODE)) == {
        "cart::adds": "passed",
        "cart::removes": "failed",
        "cart": "failed",
        "later": "skipped",
        "issue \\#12": "passed",
        "wish": "skipped",
    }
    assert statuses(parse(b"1..2\nok\nnot ok 2 second\n")) == {"test ?": "passed", "second": "failed"}


# -- go test -json


def go(*events: dict[str, str]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_go_events() -> None:
    data = go(
        {"Action": "start", "Package": "a"},
        {"Action": "run", "Package": "a", "Test": "TestX"},
        {"Action": "output", "Package": "a", "Test": "TestX", "Output": "{"},
        {"Action": "pass", "Package": "a", "Test": "TestX"},
        {"Action": "run", "Package": "a", "Test": "TestX/sub"},
        {"Action": "fail", "Package": "a", "Test": "TestX/sub"},
        {"Action": "fail", "Package": "a"},
        {"Action": "run", "Package": "b", "Test": "TestPanics"},
        {"Action": "fail", "Package": "b"},
        {"Action": "fail", "Package": "c"},
        {"Action": "skip", "Package": "d"},
        {"Action": "skip", "Package": "e", "Test": "TestLater"},
    )
    data = data.replace(
        b'{"Action": "run", "Package": "b"', b"# some output\n" + b'{"Action": "run", "Package": "b"'
    )
    assert statuses(parse(data)) == {
        "a::TestX": "passed",
        "a::TestX/sub": "failed",
        "b::TestPanics": "error",
        "c::(the whole package)": "error",
        "e::TestLater": "skipped",
    }


def test_what_is_printed_counts_only_as_a_whole_report() -> None:
    assert printed(NODE) is not None
    assert printed(b'{"Action":"pass","Package":"a","Test":"T"}\n') is not None
    for other in (b"", b"ok 1 - not TAP\n", b"TAP version 13\nok 1\n", b"5 passed", b'{"x": 1}'):
        assert printed(other) is None


# -- names


def test_names_are_bounded_one_line_and_the_same_in_each_run() -> None:
    assert identity("", "t", "f[<object at 0x7fd3c362d050>]") == identity(
        "", "t", "f[<object at 0x7fd3c362aaaa>]"
    )
    assert identity("", "", "a\nb\x1b[31m\u202ec") == "a b [31m c"
    long = [identity("", "t", "x" * 5000 + end) for end in "ab"]
    assert long[0] != long[1]
    assert all(len(each) <= MAX_NAME for each in long)
    assert identity("", "", "") == identity("", "", "\n") == "(without a name)"


# -- running again


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["pytest", "-q", "tests", "--junitxml={report}"], ["pytest", "-q", "--junitxml={report}", "ID"]),
        (["python", "-m", "pytest", "tests", "-x", "--maxfail", "2"], ["python", "-m", "pytest", "ID"]),
        (
            ["uv", "run", "pytest", "tests/test_a.py::test_x", "-k", "tests"],
            ["uv", "run", "pytest", "-k", "tests", "ID"],
        ),
        ([".venv/bin/pytest", "-n", "4", "--", "tests"], [".venv/bin/pytest", "-n", "4", "ID"]),
        (["pytest", "-c", "tests", "-p", "no:x"], ["pytest", "-c", "tests", "-p", "no:x", "ID"]),
        (["pytest", "--maxfail=1", "--exitfirst", "nowhere"], ["pytest", "nowhere", "ID"]),
    ],
)
def test_tests_replace_what_a_command_names(argv: list[str], wanted: list[str]) -> None:
    files = {"tests/test_a.py"}
    there = {*files, "tests"}
    case = Case("x", "failed", "tests.test_a", "test_y")
    command = alone(tuple(argv), [case], files, there.__contains__)
    assert command is not None
    assert [word.replace("tests/test_a.py::test_y", "ID") for word in command] == wanted


@pytest.mark.parametrize("argv", [["sh", "-c", "pytest"], ["npm", "test"], ["make"]])
def test_other_runners_are_not_known(argv: list[str]) -> None:
    assert pytest_at(tuple(argv)) is None
    assert alone(tuple(argv), [Case("x", "failed", "a", "b")], {"a.py"}, lambda _: True) is None


@pytest.mark.parametrize(
    ("group", "name", "wanted"),
    [
        ("tests.test_a", "test_x[a::b]", "tests/test_a.py::test_x[a::b]"),
        ("tests.test_a.TestA.TestB", "test_x", "tests/test_a.py::TestA::TestB::test_x"),
        ("", "tests.test_a", "tests/test_a.py"),
        ("test_c", "test_x", "sub/dir/test_c.py::test_x"),
        ("test_twice", "test_x", None),
        ("elsewhere", "test_x", None),
        ("", "", None),
    ],
)
def test_what_pytest_calls_a_test(group: str, name: str, wanted: str | None) -> None:
    files = {"tests/test_a.py", "sub/dir/test_c.py", "a/test_twice.py", "b/test_twice.py"}
    assert node_id(Case("x", "failed", group, name), files) == wanted


def test_a_command_is_shown_as_it_was_written() -> None:
    assert shown(("pytest", "-q", "--junitxml={report}", "a b")) == "pytest -q --junitxml={report} 'a b'"
