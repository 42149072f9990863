"""The table of workstreams, and the page that is kept current."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.errors import UsageError
from parallelai.records import Usage
from parallelai.results.printable import cell_width
from parallelai.work.status.block import BEGIN, END
from parallelai.work.status.folding import Files, Passed, StreamStatus
from parallelai.work.status.page import markdown, table, write_status

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PLAIN = StreamStatus(
    name="gui",
    branch="parallelai/gui",
    worktree="/w",
    target="main",
    stage="working",
    activity="active",
    todo=Passed(1, 3),
    files=Files(2, 1, 0),
    checks=Passed(None, 2),
    tests=Passed(None, None),
    words="reading",
    age_seconds=750.0,
    usage=Usage(1, 0, 1, 0, 0.126, "prices"),
    why="it is being worked on",
)
READY = replace(PLAIN, name="core", stage="queued", is_ready=True, why=None, words=None, tests=Passed(8, 10))
LANDED = replace(PLAIN, name="io", stage="landed", landed="c0ffee1234567890", why="it has landed", words=None)


def test_a_table_has_a_line_for_each_with_what_it_says() -> None:
    assert table([PLAIN, READY, LANDED], 120) == [
        "workstream  stage    todo  files             checks  tests  age     cost",
        "gui         working  1/3   2 new, 1 changed  ?/2     -      12 min  0.13 USD  it is being worked on",
        "    its assistant said: reading",
        "core        queued   1/3   2 new, 1 changed  ?/2     8/10   12 min  0.13 USD  ready to land",
        "io          landed   1/3   2 new, 1 changed  ?/2     -      12 min  0.13 USD  landed on main as c0ffee1234",
    ]


@pytest.mark.parametrize("is_linked", [False, True])
def test_a_pipe_is_no_page_and_nobody_waits_for_its_reader(tmp_path: Path, is_linked: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    page = tmp_path / "STATUS.md"
    page.symlink_to(pipe) if is_linked else pipe.rename(page)
    with pytest.raises(UsageError, match="is a pipe or a device"):
        write_status(page, [PLAIN], title="Workstreams", at=AT)
    assert not page.is_file()


def test_columns_that_say_nothing_are_left_out() -> None:
    bare = StreamStatus(
        "a", "b", "/w", "main", "waiting", "waiting", Passed(0, 0), None, Passed(0, 0), Passed(None, None)
    )
    assert table([replace(bare, why="it was not begun")], 80) == [
        "workstream  stage",
        "a           waiting  it was not begun",
    ]
    assert table([], 80) == ["no workstreams"]


def test_what_stands_in_the_way_beside_is_said_too() -> None:
    status = replace(READY, conflicts=("gui", "io"), kept_out=("a", "b"), new_failures=("t",))
    assert table([status], 200)[1].endswith(
        "ready to land; conflicts with gui, io; kept out: a, b; 1 test newly fails"
    )


def test_what_has_landed_names_what_was_kept_out_and_the_branch_that_holds_it_really() -> None:
    landed = replace(READY, landed="c" * 40, conflicts=("gui",), kept_out=tuple("abcd"))
    assert table([landed], 200)[1].endswith("landed on main as cccccccccc; kept out: a, b, c and 1 more")
    beside = replace(landed, pending="parallelai/landing/main", kept_out=())
    assert table([beside], 200)[1].endswith(
        "landed on parallelai/landing/main as cccccccccc, not yet taken over"
    )


def test_a_reason_that_has_no_room_is_given_whole_on_lines_of_its_own() -> None:
    why = "the gate `pytest -q tests` fails: 3 tests newly fail: tests/test_a.py::test_one, tests/test_b.py::test_two"
    lines = table([replace(PLAIN, why=why)], 80)
    assert lines[1] == "gui         working  1/3   2 new, 1 changed  ?/2     12 min  0.13 USD"
    assert " ".join(line.strip() for line in lines[2:-1]) == why
    assert lines[-1] == "    its assistant said: reading"
    assert table([replace(PLAIN, engine="codex")], 80)[-1] == "    codex said: reading"
    long = table([replace(PLAIN, why="it failed: " + "word " * 1000 + "2 tests failed")], 80)
    assert len(long) == 11
    assert long[2].startswith("    it failed: word ")
    assert (long[4], long[8].endswith(" 2 tests failed")) == ("    …", True)
    assert long[-2] == "    all of it: `parallelai work status gui`"


@given(
    st.lists(
        st.builds(
            StreamStatus,
            *[st.text(max_size=40)] * 6,
            todo=st.just(Passed(1, 2)),
            files=st.just(None),
            checks=st.just(Passed(None, 1)),
            tests=st.just(Passed(None, None)),
            words=st.text(max_size=300) | st.none(),
        ),
        max_size=4,
    ),
    st.integers(20, 200),
    st.booleans(),
)
def test_no_line_is_wider_than_there_is_room_or_holds_what_a_terminal_obeys(
    statuses: list[StreamStatus], width: int, is_ascii: bool
) -> None:
    for line in table(statuses, width, is_ascii=is_ascii):
        assert cell_width(line) <= width
        assert "\x1b" not in line
        assert "\n" not in line


@pytest.mark.parametrize(
    ("basis", "shown"), [("subscription", "subscription"), ("free", "free"), ("unknown", "-")]
)
def test_a_cost_that_is_no_money_is_named(basis: str, shown: str) -> None:
    status = replace(PLAIN, usage=Usage(1, 0, 1, 0, None, basis))  # type: ignore[arg-type]
    assert f"  {shown}  " in table([status, READY], 200)[1]


# Markdown


def test_a_page_has_a_table_and_last_words() -> None:
    text = markdown([PLAIN, READY, LANDED], title="plan.yaml", at=AT)
    assert text.startswith("# plan.yaml\n\n1 of 3 landed, 1 ready to land. As of 2026-11-20 12:00 UTC.\n")
    assert "| [ ] | gui | working | 1/3 | 2 new, 1 changed | ?/2 |  | 12 min | 0.13 USD |" in text
    assert "| [x] | io | landed |" in text
    assert "- **gui**: reading\n" in text
    named = markdown([replace(PLAIN, engine="my_sh")], title="plan.yaml", at=AT)
    assert r"- **gui** (my\_sh): reading" in named


def test_what_a_gate_printed_does_not_fill_a_page() -> None:
    why = "the gate fails with `gui`: `npm test` ended with exit 1: " + "word " * 1000
    row = next(
        line for line in markdown([replace(PLAIN, why=why)], title="t", at=AT).splitlines() if "gui" in line
    )
    assert "| the gate fails with `gui`: `npm test` ended with exit 1: word word" in row
    assert row.endswith("word …; all of it: `parallelai work status gui` |")
    assert len(row) < 500


def test_what_others_wrote_is_no_markup() -> None:
    name = "a-long-name-" * 6
    assert name in markdown([replace(PLAIN, name=name)], title="t", at=AT), "no line ends it here"
    text = markdown([replace(PLAIN, words="a | b <script> [x](y) `c` *d*\n# e")], title="t", at=AT)
    assert r"a \| b \<script\> \[x\](y) `c` \*d\* \# e" in text
    words = "`git merge a_b` \\`a*` ``<b>`` `a | b` c`*"
    text = markdown([replace(PLAIN, words=words)], title="t", at=AT)
    assert r"`git merge a_b` \\`a*` \`\`\<b\>\`\` \`a \| b\` c\`\*" in text


def test_a_page_is_written_only_when_something_is_new(tmp_path: Path) -> None:
    path = tmp_path / "STATUS.md"
    assert write_status(path, [PLAIN], title="t", at=AT)
    first = path.read_text()
    assert not write_status(path, [PLAIN], title="t", at=AT + timedelta(minutes=1))
    assert path.read_text() == first
    assert write_status(path, [READY], title="t", at=AT)
    page = markdown([READY], title="t", at=AT)
    assert path.read_text() == f"{BEGIN}\n{page}{END}\n"
    path.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        write_status(path, [READY], title="t", at=AT)
    assert path.read_bytes() == b"\xff"


def test_what_people_write_around_our_part_stays_as_they_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "STATUS.md"
    write_status(path, [PLAIN], title="t", at=AT)
    path.write_bytes(b"Ana's notes\r\n\n" + path.read_bytes() + b"- **remember** this")
    assert write_status(path, [LANDED], title="t", at=AT)
    page = markdown([LANDED], title="t", at=AT)
    wanted = f"Ana's notes\r\n\n{BEGIN}\n{page}{END}\n- **remember** this"
    assert path.read_bytes().decode() == wanted
    path.write_bytes(f"mine\r\n{BEGIN}\r\n{END}\r\n".encode())
    assert write_status(path, [LANDED], title="t", at=AT)
    assert path.read_bytes().decode() == f"mine\r\n{BEGIN}\r\n{page}{END}\n".replace("\r\n", "\n").replace(
        "\n", "\r\n"
    )


def test_a_page_without_marks_is_ours_where_nobody_wrote_in_it(tmp_path: Path) -> None:
    path = tmp_path / "STATUS.md"
    old = markdown([PLAIN, READY, LANDED], title="t", at=AT)
    path.write_text(old)
    assert write_status(path, [PLAIN], title="t", at=AT)
    assert path.read_text() == f"{BEGIN}\n{markdown([PLAIN], title='t', at=AT)}{END}\n"
    for text in (f"{old}\nRemember the milk.\n", f"{BEGIN}\n{old}", f"{END}\n{old}{BEGIN}\n"):
        path.write_text(text)
        with pytest.raises(UsageError):
            write_status(path, [PLAIN], title="t", at=AT)
        assert path.read_text() == text


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        write_status(tmp_path / "none" / "STATUS.md", [PLAIN], title="t", at=AT)
