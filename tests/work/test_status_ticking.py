"""Checkboxes of a task list are ticked when their task has landed, and nothing else is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.errors import UsageError
from parallelai.work.status.ticking import tick_file, ticked


@pytest.mark.parametrize(
    "line",
    [
        "- [ ] gui",
        "- [ ] gui: the language selector",
        "* [ ] **gui** – the language selector",
        "+ [ ] `gui` the language selector",
        "1. [ ] [gui](docs/gui.md)",
        "2) [ ] GUI",
        "- [ ] 1.2 gui: x",
        "- [ ] Task 3: gui",
        "- [ ] Agent 1 - gui",
        "- [ ] Workstream gui (main)",
        "\t- [ ] gui",
    ],
)
def test_each_way_to_name_a_task_is_known(line: str) -> None:
    assert ticked(line, {"gui"}) == line.replace("[ ]", "[x]")
    assert ticked(line, {"core"}) == line
    assert ticked(line, set()) == line


@pytest.mark.parametrize(
    "line",
    [
        "- [ ] guitar: tune",
        "- [ ] gui-tests",
        "- [ ] write gui tests",
        "- [ ]gui",
        "- [x] gui",
        "[ ] gui",
        "- gui",
        "- [-] gui",
        "",
    ],
)
def test_what_is_no_open_box_of_that_task_stays(line: str) -> None:
    assert ticked(line, {"gui"}) == line


def test_the_parts_below_a_task_are_done_with_it() -> None:
    text = "- [ ] gui\n  - [ ] draw\n    - [ ] flags\n  - notes\n    - [ ] deep\n"
    text += "- [ ] core\n  - [ ] gui\n  - [ ] read\n"
    assert ticked(text, {"gui"}) == text.replace(
        "- [ ] gui\n  - [ ] draw\n    - [ ] flags", "- [x] gui\n  - [x] draw\n    - [x] flags"
    ).replace("- [ ] deep", "- [x] deep").replace("core\n  - [ ] gui", "core\n  - [x] gui")


def test_the_boxes_below_a_task_s_heading_are_its_own() -> None:
    text = "# Plan\n- [ ] all\n## Agent 1: gui\n- [ ] draw\n### Details\n- [ ] more\n"
    text += "## core\n- [ ] read\n# End\n- [ ] x\n"
    found = ticked(text, {"gui"})
    assert found == text.replace("- [ ] draw", "- [x] draw").replace("- [ ] more", "- [x] more")


def test_code_is_left_alone() -> None:
    text = "```md\n- [ ] gui\n~~~\n- [ ] gui\n```\n- [ ] gui\n~~~~\n```\n- [ ] gui\n~~~~\n- [ ] gui\n"
    assert ticked(text, {"gui"}) == (
        "```md\n- [ ] gui\n~~~\n- [ ] gui\n```\n- [x] gui\n~~~~\n```\n- [ ] gui\n~~~~\n- [x] gui\n"
    )


def test_line_ends_stay_as_they_are() -> None:
    assert ticked("- [ ] gui\r\n- [ ] core\r- [ ] gui", {"gui"}) == "- [x] gui\r\n- [ ] core\r- [x] gui"


LINES = st.lists(
    st.sampled_from(
        ["- [ ] gui", "  - [ ] x", "- [x] gui", "# gui", "## a", "```", "~~~", "text", "1. [ ] core", "\t- y"]
    )
    | st.text(max_size=30),
    max_size=20,
)


@given(LINES, st.sampled_from(["\n", "\r\n"]))
def test_only_marks_of_boxes_change_and_ticking_again_changes_nothing(lines: list[str], end: str) -> None:
    text = end.join(lines)
    found = ticked(text, {"gui"})
    assert len(found) == len(text)
    assert all(a == b or (a, b) == (" ", "x") for a, b in zip(text, found, strict=True))
    assert ticked(found, {"gui"}) == found
    assert ticked(text, ()) == text


def test_a_file_is_ticked_and_left_alone_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    path = tmp_path / "TASKS.md"
    path.write_bytes(b"- [ ] gui\r\n")
    path.chmod(0o640)
    assert tick_file(path, {"gui"})
    assert path.read_bytes() == b"- [x] gui\r\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert not tick_file(path, {"gui"})


@pytest.mark.parametrize(("content", "said"), [(b"\xff- [ ] gui", "not UTF-8"), (None, "cannot be read")])
def test_what_is_no_task_list_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "TASKS.md"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        tick_file(path, {"gui"})


def test_the_boxes_of_a_list_that_was_a_plan_are_found_by_what_its_tasks_are_called() -> None:
    text = "- [ ] Build\n- [ ] Build the login form\n  - [ ] check\n- [ ] Build\n"
    text += "## Agent 1: Look and feel\nAGENT: gui\nFILES: src/**\n- [ ] draw\n"
    others = {"build", "build-the-login-form", "build-2", "gui"}
    moved = "# Later\n\n" + text
    assert ticked(moved, {"build-the-login-form"}, others) == moved.replace(
        "[ ] Build the", "[x] Build the"
    ).replace("[ ] check", "[x] check")
    assert ticked(text, {"build"}, others) == text.replace("[ ]", "[x]", 1)
    assert ticked(text, {"gui"}, others) == text.replace("[ ] draw", "[x] draw")
    assert ticked("```\n- [ ] Build\n```\n- [ ] Build\n", {"build"}) == "```\n- [ ] Build\n```\n- [x] Build\n"
