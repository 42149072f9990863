"""What a person sees: layout, widths, nothing obeyed, everything said."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_documents import document, documents, finding

from parallelai.records import (
    FREE,
    Change,
    Coverage,
    ErrorRecord,
    FileNote,
    Outcome,
    Severity,
    TaskResult,
    Usage,
)
from parallelai.results.document import counts
from parallelai.results.formats import RenderContext
from parallelai.results.printable import cell_width, crop, excerpt, visible, wrap
from parallelai.results.terminal import NARROWEST, render

SGR = re.compile(r"\x1b\[[0-9;]*m")
AUTH = [
    finding(
        "src/auth.py",
        12,
        column=(9, 18),
        rule="S105",
        message='Possible hardcoded password assigned to: "token"',
        quote='token = "hunter2"',
        suggestion="Read it from the environment.",
        by=("analyzers", "claude"),
        votes=2,
    ),
    finding("src/db.py", (40, 44), column=(1, 8), rule="E722", quote="except:", by=("claude",), tier="maybe"),
    finding("src/auth.py", 3, severity=Severity.LOW, category="style", by=("analyzers",)),
]


def shown(doc, **context):
    return render(doc, RenderContext(**{"width": 80, **context}))


def reviewed(findings=AUTH, **fields):
    task = TaskResult("review", Outcome.OK, engine="analyzers", why="auto", attempts=1, usage=FREE)
    fields = {"files": Coverage(covered=("src/auth.py", "src/db.py")), "tasks": (task,), **fields}
    fields["counts"] = counts(fields["tasks"])
    return replace(document(findings), **fields)


def test_a_review_as_it_is_shown():
    assert (
        shown(reviewed(seconds=1.25, seconds_one_by_one=5.0))
        == """\
src/auth.py
      3  low       style Something is wrong (analyzers)
   12:9  high      S105 Possible hardcoded password assigned to: "token" (2
                        votes: analyzers, claude)
         │ token = "hunter2"
         │         ^^^^^^^^^
         → Read it from the environment.

src/db.py
   40:1  high      E722 Something is wrong (maybe; claude)
         │ except:
         │ ^^^^^^^

3 findings in 2 files: 2 high, 1 low; 2 files looked at
1 task: 1 ok · 1.25 s, one by one 5.00 s (4.0x faster) · by analyzers (auto) ·
run r-20261120-7f3a
"""
    )


def test_a_run_of_tasks_as_it_is_shown():
    tasks = (
        TaskResult(
            "gen", Outcome.OK, engine="claude", why="plan", attempts=1, seconds=63.0, text="Hello\n  code\n"
        ),
        TaskResult(
            "fix",
            Outcome.FAILED,
            engine="codex",
            attempts=2,
            seconds=8.1,
            error=ErrorRecord("rejected", "401 Unauthorized", "tasks.yaml:9:5", "set `LOCAL_KEY`"),
            change=Change("0007.patch", ("a.py",)),
        ),
        TaskResult("after", Outcome.SKIPPED),
    )
    usage = Usage(41200, 30000, 2100, 0, None, "unknown")
    assert shown(document(tasks=tasks, usage=usage, seconds=71.4, seconds_one_by_one=71.4)) == (
        """\
ok          gen  claude · 63.0 s
    Hello
      code
failed      fix  codex · 8.10 s · 2 attempts
    rejected: 401 Unauthorized
    at tasks.yaml:9:5
    → set `LOCAL_KEY`
    1 file changed, not applied: 0007.patch
skipped     after

3 tasks: 1 ok, 1 failed, 1 skipped · 71.4 s · 41,200 tokens in (30,000 cached),
2,100 out, cost unknown · run r-20261120-7f3a
"""
    )


def test_many_tasks_that_failed_in_the_same_way_are_told_once():
    wrong = ErrorRecord("rejected", "401 Unauthorized", None, "set `LOCAL_KEY`")
    failed = [TaskResult(f"r@{n}.py", Outcome.FAILED, engine="codex", error=wrong) for n in range(42)]
    other = TaskResult("x", Outcome.FAILED, engine="codex", error=ErrorRecord("invalid", "no JSON"))
    skipped = [TaskResult(f"s{n}", Outcome.SKIPPED, because="`x` failed") for n in range(2)]
    page = document(tasks=(*failed[:20], other, *failed[20:], *skipped))
    out = shown(page)
    assert out.count("401 Unauthorized") == 1
    assert "    … and 41 more tasks in the same way: `--verbose` lists all\nfailed      x" in out
    assert out.count("because `x` failed") == 2
    assert shown(page, limit=None).count("401 Unauthorized") == 42


def test_nothing_found_is_said():
    out = shown(reviewed([]))
    assert "No findings; 2 files looked at" in out


def test_what_is_not_shown_is_said():
    hidden = [
        *(finding(line=n, state="suppressed") for n in range(1, 4)),
        finding(state="baseline"),
        finding(state="refuted"),
    ]
    out = shown(reviewed(hidden, dropped={"quote_not_found": 2}))
    said = "Not shown: 3 suppressed by comments, 1 in the baseline, 1 refuted, 2 dropped (quote not found)"
    assert said in " ".join(out.split())
    assert "No findings" in out
    assert "src/a.py" not in out


def test_files_that_nobody_looked_at_are_said():
    files = Coverage(
        covered=("a.py",),
        skipped=(*(FileNote(f"{n}.js", "generated") for n in range(1200)), FileNote("x.png", "binary")),
        failed=(
            *(FileNote(f"f{n}.py", "unreadable") for n in range(12)),
            *(FileNote(f"g{n}.py", f"reason {n}") for n in range(11)),
        ),
    )
    out = shown(reviewed([], files=files))
    alike = "  f0.py: unreadable\n    … and 11 more files for the same reason\n"
    assert f"23 files failed\n{alike}  g0.py: reason 0\n" in out
    assert "f1.py" not in out
    assert "2 more: `--format json` lists all" in out
    assert "1,201 files skipped: 1,200 generated, 1 binary" in out


def test_that_nothing_was_found_is_not_said_where_nothing_was_looked_at():
    skipped = Coverage(skipped=(FileNote("web/a.ts", "no analyser for this kind of file"),))
    out = shown(reviewed([], files=skipped))
    assert "Nothing was looked at" in out
    assert "No findings" not in out


def test_a_long_list_is_cut_with_a_word_on_how_to_see_all():
    many = [finding(f"src/{n:04}.py", message=f"Number {n}") for n in range(1234)]
    out = shown(reviewed(many))
    assert out.count("Number") == 100
    flat = " ".join(out.split())
    assert "1,134 more findings, ranked lower, are not shown: `--verbose` lists all" in flat
    assert "--format json" in flat
    assert "--format sarif" in flat
    assert "1,234 findings in 1,234 files" in flat
    assert shown(reviewed(many), limit=None).count("Number") == 1234


def test_a_long_text_and_many_tasks_are_cut():
    tasks = tuple(TaskResult(f"t{n}", Outcome.OK, text="x\n" * 500) for n in range(3))
    out = shown(document(tasks=tasks), limit=2)
    assert out.count("    x\n") == 80
    assert "1 more tasks are not shown" in out
    assert shown(document(tasks=tasks), limit=None).count("    x\n") == 1500


def test_of_a_long_error_the_beginning_and_the_end_are_told():
    said = "gate `make` ended with exit 2: " + "".join(f"line {n}\n" for n in range(30)) + "2 tests failed"
    failed = TaskResult("t", Outcome.BLOCKED, error=ErrorRecord("gate_failed", said, "gates/a.log"))
    told = shown(document(tasks=(failed,))).splitlines()[1:14]
    assert told[:3] == [
        "    gate_failed: gate `make` ended with exit 2: line 0",
        "    line 1",
        "    …",
    ]
    assert told[3:] == [*(f"    line {n}" for n in range(22, 30)), "    2 tests failed", "    at gates/a.log"]


def test_only_tasks_with_something_to_say_are_listed_in_a_review():
    tasks = (
        TaskResult("fine@a.py", Outcome.OK, attempts=1),
        TaskResult("broken@b.py", Outcome.FAILED, error=ErrorRecord("timed_out", "after 30 min")),
    )
    out = shown(reviewed(tasks=tasks))
    assert "fine@a.py" not in out
    assert "broken@b.py" in out
    assert "timed_out: after 30 min" in out


def test_without_a_quote_the_source_is_read():
    one = finding(line=2, column=(5, 6))
    out = shown(reviewed([one]), read=lambda file: f"# {file}\nx = y\n")
    assert "│ x = y\n" in out
    assert re.search(r"│ {5}\^\n", out)


def test_colour_is_only_where_it_was_asked_for():
    plain, coloured = shown(reviewed()), shown(reviewed(), color=True)
    assert "\x1b" not in plain
    assert SGR.sub("", coloured) == plain
    assert "\x1b[1;31mhigh    \x1b[0m" in coloured


def test_escapes_of_the_repository_are_seen_and_not_obeyed():
    evil = finding(
        "src/\x1b]0;owned\x07.py",
        message="clear \x1b[2J\x9b2J me\u202e",
        rule="\x1b[31m",
        quote="a\x00b\tc\x7f",
        suggestion="\x1b[8mhidden",
        by=("\x1b",),
    )
    out = shown(reviewed([evil]), color=True)
    assert not set(SGR.findall(out)) - set(SGR.findall(shown(reviewed([finding(quote="a")]), color=True)))
    rest = SGR.sub("", out)
    assert all(character.isprintable() or character == "\n" for character in rest)
    for escape in (r"\x1b]0;owned\x07", r"\x1b[2J\x9b2J", r"\u202e", r"a\x00b    c\x7f", r"\x1b[8mhidden"):
        assert escape in rest


@given(documents(), st.integers(0, 130), st.booleans(), st.booleans())
def test_whatever_is_in_a_document_lines_fit_and_are_printable(doc, width, ascii_only, color):
    out = shown(doc, width=width, ascii_only=ascii_only, color=color, limit=None)
    plain = SGR.sub("", out) if color else out
    assert plain.endswith(f"run {doc.run}\n") or doc.run.split("-")[-1] in plain.split("\n")[-2]
    for line in plain.rstrip("\n").split("\n"):
        assert cell_width(line) <= max(width, NARROWEST)
        assert all(character.isprintable() or character == "\u3000" for character in line)
        assert line.isascii() or not ascii_only


@given(documents())
def test_every_open_finding_and_every_bad_task_is_shown(doc):
    out = shown(doc, limit=None, width=10_000)
    for one in doc.findings:
        if one.state == "open":
            message = one.message.strip().split("\n")[0]
            assert visible(message).strip()[:20] in out or "\r" in message
    for task in doc.tasks:
        if task.status is not Outcome.OK and task.id.isalnum():
            assert task.id in out


# --- printable text


@pytest.mark.parametrize(
    ("line", "column", "marked"),
    [
        ("x = 'abc'", (5, 10), "'abc'"),
        ("値 = 値値", (5, 7), "値値"),
        ("\tif x:", (2, 4), "if"),
        ("\x1b[0m bad", (6, 9), "bad"),
        ("e\u0301 x", (4, 5), "x"),
        ("x = 1", (6, 6), ""),
        (" " * 200 + "needle" + " y" * 200, (201, 207), "needle"),
        ("\x01" * 300 + "needle", (301, 307), "needle"),
        ("値" * 300 + "needle", (301, 307), "needle"),
    ],
)
def test_the_mark_is_under_the_columns(line, column, marked):
    part = excerpt(line, column, 60)
    assert cell_width(part.text) <= 60
    cells = ""
    for character in part.text:
        cells += character + "\0" * (cell_width(character) - 1)
    under = cells[part.start : part.start + part.length].replace("\0", "")
    if "\u0301" not in line:  # a combining character takes no cell, so this picture of cells is shifted
        assert under == marked
    assert part.length == max(1, cell_width(marked))


def test_a_mark_longer_than_the_line_ends_with_it():
    part = excerpt("y" * 500, (1, 501), 40)
    assert (part.start, part.length, cell_width(part.text)) == (0, 40, 40)


def test_a_column_that_the_line_does_not_have_is_not_marked():
    assert excerpt("short", (90, 95), 40) == ("short", 0, 0)


def test_a_workstream_is_said_to_be_where_it_is():
    about = {"branch": "parallelai/gui", "worktree": None, "stage": "landed", "kept_out": ["README.md"]}
    landed = {"target": "main", "commit": "c" * 40, "pending": "parallelai/landing/main"}
    beside = TaskResult("gui", Outcome.OK, workstream={**about, "landed": landed})
    text = shown(reviewed((), tasks=(beside,), files=Coverage()))
    assert "landed on parallelai/landing/main at cccccccccc (main could not follow)" in text
    assert "1 task: 1 ok · something was kept out of 1 · " in text
    back = TaskResult("gui", Outcome.SKIPPED, workstream={**about, "stage": "undone", "landed": None})
    assert "taken back, and kept on parallelai/gui" in shown(reviewed((), tasks=(back,), files=Coverage()))


@given(
    st.text(max_size=300), st.none() | st.tuples(st.integers(1, 300), st.integers(1, 300)), st.integers(1, 90)
)
def test_excerpts_fit(line, column, width):
    part = excerpt(line, column, width)
    assert cell_width(part.text) <= max(width, 8)
    assert part.start + part.length <= max(width, 8)


@given(st.text(), st.integers(2, 60))
def test_wrapping_loses_no_word_and_fits(text, width):
    lines = wrap(visible(text), width)
    assert all(cell_width(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(visible(text).split())


@given(st.text(), st.integers(1, 60), st.booleans())
def test_cropping_fits_and_keeps_what_fits(text, width, ascii_only):
    printable = visible(text, ascii_only=ascii_only)
    cut = crop(printable, width, ascii_only=ascii_only)
    assert cell_width(cut) <= max(width, 2 if not ascii_only else 3) + 1
    assert cut == printable or cell_width(printable) > width


def test_visible_text_is_one_line_and_ascii_if_need_be():
    assert visible("a\r\nb\nc\rd") == "a b c\\x0dd"
    assert visible("é値🙂", ascii_only=True) == "\\xe9\\u5024\\U0001f642"
    assert visible("é値🙂\u00a0") == "é値🙂 "
