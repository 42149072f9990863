"""A Markdown task list is a plan: checkboxes, headed blocks, names, places, and no input that it cannot bear."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.errors import PlanError
from parallelai.plan import load
from parallelai.plan.convert import to_data, to_yaml, with_places
from parallelai.plan.markdown import imported
from parallelai.plan.markdown.details import literal, slug
from parallelai.plan.model import Plan, positions
from parallelai.plan.sandbox import render_text

BOXES = """\
# Shop

Words about it.

- [ ] Build the login form (depends on: schema; files: src/login/**, tests/login.py)
  It greets {{ name }}.
  - [ ] check the input
  - [x] draw it
  - greet
    - in German
- [ ] schema: Make the tables - files: db/**
- [x] Choose a name
- [ ] Say what it does (depends on: Build the login form, Choose a name)
"""

BLOCKS = """\
# Language support

**GOAL**: Every user reads their language.

## 🎨 Agent 1: GUI

**AGENT**: gui
**STREAM**: UI
**BRANCH**: `feature/gui`
**GOAL**: A selector of languages,
with flags.
**FILES**: `src/gui/**`, `src/app.py` (the menu only)
**DEPENDENCIES**: None (can start at once)
**ESTIMATED TIME**: 4-6 hours

### Tasks
1. [ ] Add the box
2. [x] Choose flags
3. Store the choice

### Acceptance criteria

- all flags are seen

### Task 7: Export

- **FILES**:
  - `src/export/**`
  - src/csv.py
- **DEPENDENCIES**: Agent 1 and gui
- Estimated time: 3

Write it as CSV:

```
- [ ] no task
```
"""


TABLE = """\
# Shop

| # | Task | Files | Depends on | Status | Notes | Steps |
|---|:-----|-------|------------|--------|-------|-------|
| 1 | Write the orders as CSV | `src/export.py`, src/b/** | – | | Ask Ana \\| Bob | a header<br>a line |
| 2 | Test the export | tests/test_export.py | 1 | | | |
| 3 | Choose a name | | | ✅ | | |
| 4 | say: Say what it does | - | Write the orders, 3 | open | | |
"""


def plan(text: str) -> Plan:
    found = imported.parse(text, "TASKS.md")
    assert not found.problems
    return load.from_mapping(found.data)


def works(text: str) -> dict[str, Any]:
    data = to_data(plan(text))
    return {**{each.pop("id"): each for each in data.get("tasks", [])}, **data.get("workstreams", {})}


def test_checkboxes_are_tasks_and_what_names_files_a_workstream() -> None:
    assert works(BOXES) == {
        "build-the-login-form": {
            "description": "Build the login form\nIt greets {{ '{{' }} name }}.",
            "owns": ["src/login/**", "tests/login.py"],
            "depends_on": ["schema"],
            "todo": ["check the input", "greet\n- in German"],
        },
        "schema": {"description": "Make the tables", "owns": ["db/**"]},
        "say-what-it-does": {
            "description": "Say what it does",
            "edits": True,
            "depends_on": ["build-the-login-form"],
        },
    }


def test_headed_blocks_are_tasks_with_what_their_lines_say() -> None:
    assert works(BLOCKS) == {
        "gui": {
            "description": "A selector of languages,\nwith flags.\n\n### Acceptance criteria\n\n- all flags are seen",
            "owns": ["src/gui/**", "src/app.py"],
            "tags": ["UI"],
            "estimate": "6h",
            "branch": "feature/gui",
            "todo": ["Add the box", "Store the choice"],
        },
        "export": {
            "description": "Export\n\nWrite it as CSV:\n\n```\n- [ ] no task\n```",
            "owns": ["src/export/**", "src/csv.py"],
            "depends_on": ["gui"],
            "estimate": "3h",
        },
    }


def test_rows_of_a_table_are_tasks_with_what_its_header_says() -> None:
    assert works(TABLE) == {
        "write-the-orders-as-csv": {
            "description": "Write the orders as CSV\n\nNotes: Ask Ana | Bob",
            "owns": ["src/export.py", "src/b/**"],
            "todo": ["a header", "a line"],
        },
        "test-the-export": {
            "description": "Test the export",
            "owns": ["tests/test_export.py"],
            "depends_on": ["write-the-orders-as-csv"],
        },
        "say": {
            "description": "Say what it does",
            "edits": True,
            "depends_on": ["write-the-orders-as-csv"],
        },
    }
    found = imported.parse(TABLE, "TASKS.md")
    assert found.notes == ("1 task is done, and left out: `choose-a-name`",)
    assert imported.boxes(TABLE)["say"] == ()
    bare = "Agent | Goal | file\n--|--|--\ngui | Make it | a.py\napi | Do that | b.py\n"
    assert works(bare) == {
        "gui": {"description": "Make it", "owns": ["a.py"]},
        "api": {"description": "Do that", "owns": ["b.py"]},
    }


@pytest.mark.parametrize("name", ["Needs", "Blocked by", "after", "Requires"])
def test_what_a_row_waits_for_has_many_names(name: str) -> None:
    table = f"| Task | {name} |\n|--|--|\n| a | |\n| b | a |\n"
    assert works(table)["b"] == {"description": "b", "edits": True, "depends_on": ["a"]}


def test_a_table_beside_other_tasks_is_not_read_and_that_is_said() -> None:
    other = "\n| Word | Meaning |\n|--|--|\n| a | b |\n"
    table = "\n| Task | Files |\n|--|--|\n| one | a.py |\n"
    found = imported.parse(f"- [ ] one\n{other}{table}", "TASKS.md")
    assert [work["id"] for work in found.data["tasks"]] == ["one"]
    assert found.notes == ("TASKS.md:7:1: the table is not read, because the list has tasks beside it",)
    headed = works(f"## Agent 1: Gui\n**FILES**: a.py\n{table}")
    assert headed["gui"]["description"].endswith("| one | a.py |"), "in a task it is words of the task"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "| Word | Meaning |\n|--|--|\n| a | b |\n",
            ["t.md:1:1: the table: none of its columns says what a task is"],
        ),
        ("| Task | Files |\n|--|--|\n", ["t.md:1:1: the table has no rows; write one for each task"]),
        (
            "# Shop\n\nSoon:\n| Task | Files |\n| a | b.py |\n",
            [
                "t.md:4:1: the table: below its header is no line of dashes for its 2 columns; write `|---|---|`"
            ],
        ),
        (
            "| Task | Files |\n|--|--|\n| | a.py |\n| b | |\n",
            ["t.md:3:5: the row does not say what its task is; fill in `Task`"],
        ),
        ("Nothing | yet\n", ["t.md:1:1: the task list: there is no task in it; write one as `- [ ] what"]),
        (
            "| Task | Fils |\n|--|--|\n| a | b.py | c |\n|  | d |\n| | |\n",
            [
                "t.md:1:10: no detail is called like the column `Fils`; did you mean `files`?",
                "t.md:3:14: the row has more cells than the table has columns; write `\\|` for a bar",
                "t.md:4:6: the row does not say what its task is; fill in `Task`",
            ],
        ),
    ],
)
def test_what_is_wrong_in_a_table_is_told_with_its_place(tmp_path: Path, text: str, said: list[str]) -> None:
    (tmp_path / "t.md").write_text(text)
    with pytest.raises(PlanError) as caught:
        load.load(tmp_path / "t.md", root=tmp_path)
    told = [str(problem) for problem in caught.value.problems]
    assert len(told) == len(said)
    assert all(line.startswith(start) for line, start in zip(told, said, strict=True))


def test_what_is_done_is_left_out_and_said() -> None:
    assert imported.parse(BOXES, "TASKS.md").notes == ("1 task is done, and left out: `choose-a-name`",)
    text = "## Task 1: A\n- [x] all\n## Task 2: B\nSTATUS: done\n## [x] Task 3: C\n## Task 4: D\n- [ ] x\n- [x] y\n"
    assert list(works(text)) == ["d"]
    assert works(text)["d"]["todo"] == ["x"]


@pytest.mark.parametrize(
    "heading", ["Workstreams", "Work streams", "Agents", "Agents: who does what", "Tracks"]
)
def test_a_heading_that_names_several_only_groups_them(heading: str) -> None:
    text = f"# {heading}\n\n- [ ] a: Do it\n  - files: a.py\n- [ ] b: Do that\n  - files: b.py\n"
    assert {name: work["owns"] for name, work in works(text).items()} == {"a": ["a.py"], "b": ["b.py"]}
    assert list(works("## Agent S: x\n\n- [ ] a\n- [ ] b\n")) == ["x"], "a letter of its own is one"


@pytest.mark.parametrize(
    ("line", "owns", "rest"),
    [
        ("Build it (files: src/**)", ["src/**"], "Build it"),
        ("Build it files: src/a.py, src/b/*", ["src/a.py", "src/b/*"], "Build it"),
        ("Build it — files: `src/a.py`", ["src/a.py"], "Build it"),
        ("Build it\n  FILES: src/a.py", ["src/a.py"], "Build it"),
        ("Build it\n  - files: src/a.py", ["src/a.py"], "Build it"),
        (
            "Build it\n  - **Files:**\n    - src/a.py - new\n    - src/b.py",
            ["src/a.py", "src/b.py"],
            "Build it",
        ),
        ("Explain the files: each of them", None, "Explain the files: each of them"),
        ("Build it (as before)", None, "Build it (as before)"),
    ],
)
def test_details_in_a_line(line: str, owns: list[str] | None, rest: str) -> None:
    (found,) = works(f"- [ ] {line}\n").values()
    assert (found.get("owns"), found["description"]) == (owns, rest)


def test_text_is_kept_letter_by_letter() -> None:
    text = "## Task 1: A\n\n[spec]: docs/a.md\n\n> quoted\n\n    code\n\n<b>bold</b>\n\n<!-- - [ ] hidden -->\n\n---\n"
    assert works(text)["a"]["description"] == "A\n\n[spec]: docs/a.md\n\n> quoted\n\ncode\n\n<b>bold</b>"


def test_a_part_that_begins_like_a_detail_is_a_part() -> None:
    (found,) = works("- [ ] Shop\n  - model: add a price\n  - [ ] files: sort them\n").values()
    assert found["todo"] == ["model: add a price", "files: sort them"]


@pytest.mark.parametrize("said", ["None", "none (can start at once)", "N/A", "-", ""])
def test_no_dependencies(said: str) -> None:
    assert "depends_on" not in works(f"## Task 1: A\nDEPENDENCIES: {said}\nFILES: a\n")["a"]


@pytest.mark.parametrize("said", ["b", "Task 2", "task 2: b", "2", "`b`", "B (its tables)", "the b"])
def test_a_dependency_is_found_by_what_the_task_is_called(said: str) -> None:
    text = f"## Task 1: A\nDEPENDENCIES: {said}\nFILES: a\n## Task 2: B\nFILES: b\n"
    if said == "the b":
        with pytest.raises(PlanError, match="depends on `the b`, which does not exist"):
            plan(text)
    else:
        assert works(text)["a"]["depends_on"] == ["b"]


def test_ids_are_unique_and_stay_the_same_while_boxes_are_ticked() -> None:
    text = "- [ ] Write tests\n" * 3 + "- [ ] Écrire!\n- [ ] 测试\n- [ ] landing\n"
    names = ["write-tests", "write-tests-2", "write-tests-3", "ecrire", "task-5", "landing-2"]
    assert list(works(text)) == names
    assert list(works(text.replace("[ ]", "[x]", 1))) == names[1:]
    assert len(slug("very long words " * 20)) <= 50


def test_a_phase_is_no_task_and_a_list_without_boxes_neither() -> None:
    text = "## Phase 1: Base\n**GOAL**: a base\n### Agent A: Core\nFILES: core/**\n## Notes\n- buy milk\n"
    assert list(works(text)) == ["core"]


def test_a_goal_of_a_whole_list_makes_it_no_task() -> None:
    text = "# Shop\nGoal: sell\nEstimated time: 3 weeks\n\n- [ ] cart\n## Later\n- [ ] cards\n"
    assert list(works(text)) == ["cart", "cards"]
    assert list(works("# Shop\n## Cart\nGoal: sell\n## Cards\nGoal: pay\n")) == ["cart", "cards"]
    assert list(works("# Shop\nDEPENDENCIES: None\n## Task 1: Cart\nFILES: a\n")) == ["cart"]


def test_a_heading_in_a_task_that_only_says_that_it_is_one_is_a_part() -> None:
    (found,) = works("## Agent 1: A\nFILES: a\n### Task 1.1: Draw\n- in red\n### Task 1.2: Print\n").values()
    assert found["todo"] == ["Draw\n- in red", "Print"]
    assert list(works("## Agent 1: A\n### Task 1.1: Draw\n### Task 1.2: Print\n")) == ["draw", "print"]


def test_a_detail_that_is_left_empty_says_nothing() -> None:
    (found,) = works("## Task 1: A\nFILES: None\nBRANCH:\nESTIMATED TIME:\nPRIORITY: high\n").values()
    assert found == {"description": "A", "edits": True, "priority": "high"}


def test_what_is_wrong_is_said_with_its_place() -> None:
    text = "- [ ] a (depends on: nobody)\n\n## Agent 2: B\n**FILES**: /etc/x, ok\n**ESTIMATED TIME**: soon\n"
    with pytest.raises(PlanError) as caught:
        _load(text)
    said = str(caught.value)
    assert "TASKS.md:1:22: `a` depends on `nobody`" in said
    assert "TASKS.md:4:12: `owns`: the pattern `/etc/x` is absolute" in said
    assert "TASKS.md:5:21: `estimate`: `soon` is no estimate" in said


def _load(text: str) -> Plan:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "TASKS.md"
        path.write_text(text)
        return load.load(path, root=Path(folder))


def test_twice_the_same_and_a_branch_without_files_are_refused() -> None:
    with pytest.raises(PlanError, match=r"TASKS.md:3:9: `a` has `branch` twice"):
        _load("## Task 1: A\nBRANCH: x\nBRANCH: y\nFILES: a\n")
    with pytest.raises(PlanError, match=r"TASKS.md:1:4: the workstream has no `owns`"):
        _load("## Task 1: A\nBRANCH: x\n")


@pytest.mark.parametrize("text", ["", "# Words\n\nonly\n", "```\n- [ ] code\n```\n"])
def test_a_list_without_a_task_says_so(text: str) -> None:
    with pytest.raises(PlanError, match=r"TASKS.md:1:1: the task list: "):
        _load(text)


def test_a_list_in_which_all_is_done_is_a_plan_without_tasks() -> None:
    found = _load("- [x] all\n- [x] done\n")
    assert (found.works, positions(found).finished) == ((), "all 2 tasks are done")
    assert positions(_load("## [x] Task 1: A\n")).finished == "its only task is done"
    assert positions(_load("- [x] all\n- [ ] done\n")).finished == ""


def problems(text: str) -> list[str]:
    """What is wrong with a list: `line:column said`."""
    try:
        _load(text)
    except PlanError as error:
        return [f"{each.line}:{each.column} {each.said}; {each.next}" for each in error.problems]
    return []


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("-[ ] Beta (files: b.py)", 1),
        ("- [  ] Gamma (files: c.py)", 3),
        ("- [] Delta", 3),
        ("- [-] Eps", 3),
        ("- [x ] Zeta", 3),
        ("- [ ]Eta", 3),
        ("2.[x] Theta", 1),
        ("• [ ] Iota", 1),
        ("[ ] Kappa", 1),
        ("  - [] part", 5),
        ("  -[x] part", 3),
        ("\n-[ ] first of a paragraph", 1),
        ("\n## [] Task 3: Mu", 4),
    ],
)
def test_a_broken_checkbox_is_an_error_at_its_place(line: str, column: int) -> None:
    text = f"- [ ] Alpha (files: a.py)\n{line}\n- [ ] Omega (files: o.py)\n"
    (said,) = problems(text)
    assert said.startswith(f"{2 + line.count(chr(10))}:{column} `")
    assert "looks like a checkbox, but is none; write `- [ ] what is to be done`" in said


@pytest.mark.parametrize("line", ["  2. [ ] Beta", "        - [ ] deep"])
def test_a_checkbox_that_markdown_reads_as_text_is_an_error(line: str) -> None:
    (said,) = problems(f"- [ ] Alpha\n{line}\n")
    assert said.startswith(f"2:{len(line) - len(line.lstrip()) + 1} ")
    assert "is no checkbox here" in said


@pytest.mark.parametrize(
    "line",
    ["- [1] a footnote", "- [x](a.md) a link", "-[abc] an option", "*[x]* is a mark", "- [a] b", "[x]: a.md"],
)
def test_other_brackets_are_no_checkboxes(line: str) -> None:
    assert problems(f"- [ ] Alpha\n\n## Notes\n\n{line}\n") == []


def test_one_file_in_brackets_is_a_file() -> None:
    assert works("- [ ] a (file: x.py)\n")["a"]["owns"] == ["x.py"]
    assert works("- [ ] a (depends on: b; file: x.py)\n- [ ] b\n")["a"]["owns"] == ["x.py"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("(fils: y.py)", ["1:10 there is no detail `fils`; did you mean `files`?"]),
        (
            "(dependson: x, fils: y.py)",
            ["1:10 there is no detail `dependson`; did you mean `depends on`?",
             "1:24 there is no detail `fils`; did you mean `files`?"],
        ),
        ("(files: y.py; dependson: x)", ["1:23 there is no detail `dependson`; did you mean `depends on`?"]),
        ("(files: y.py, depends on: x)", ["1:23 `depends on` stands behind a comma"]),
        ("(files: y.py, engine: bot)", ["1:23 `engine` stands behind a comma, as if it were a part of `files`"]),
        ("(role: r; tags: y, model: z)", ["1:28 `model` stands behind a comma, as if it were a part of `tags`"]),
        ("(files: src/q.py", ["1:10 the bracket of `files` is not closed; write `)`"]),
        ("(files: a.py (new), b.py)", ["1:10 there are brackets in the brackets of `files`"]),
        ("\n  - fils: src/z.py", ["2:5 there is no detail `fils`; did you mean `files`?"]),
        ("\n  FLIES: src/z.py", ["2:3 there is no detail `FLIES`; did you mean `files`?"]),
    ],
)  # fmt: skip
def test_a_misspelt_detail_of_a_checkbox_is_an_error(line: str, said: list[str]) -> None:
    found = problems(f"- [ ] a {line}\n- [ ] x\n")
    assert len(found) == len(said)
    assert all(one.startswith(start) for one, start in zip(found, said, strict=True)), found
    assert problems(f"- [x] a {line}\n- [ ] x\n") == []  # what is done is done


@pytest.mark.parametrize("heading", ["## Task 1: A", "## Orders"])
@pytest.mark.parametrize("label", ["**FILES TO EDIT**:", "**Flies:**", "FILSE:"])
def test_a_misspelt_label_below_a_heading_is_an_error(heading: str, label: str) -> None:
    (said, *_) = problems(f"{heading}\n\n{label} src/a.py\n\n- [ ] x\n")
    assert said.startswith(f"3:{1 + label.startswith('*') * 2} there is no detail")
    assert "did you mean `files`?" in said


@pytest.mark.parametrize(
    "words",
    ["(owner: Ana)", "(note: x)", "(roles: admin, user)", "(time: 3h)", "(stage: 2)", "(step: 2)",
     "(mode: dark)", "(see: the files)", "(fields: a, b)", "(tiles: 2)", "(state: open", "(it: a (b))",
     "(note: a, model: b)"],
)  # fmt: skip
def test_words_in_brackets_stay_words(words: str) -> None:
    assert works(f"- [ ] Build {words}\n") == {
        slug(f"Build {words}"): {"description": f"Build {words}", "edits": True}
    }


def test_words_before_a_colon_stay_words() -> None:
    text = "## Task 1: A\n**Goals**: x\n**File format**: CSV\nfile: the one of orders\n\n- file: add it\n"
    (found,) = works(text).values()
    assert found["todo"] == ["file: add it"]


@pytest.mark.parametrize("said", ["2", "#2", "Task 2", "task #2", "beta", "Beta the", "`Beta` the second"])
@pytest.mark.parametrize("marks", [("-", "-", "-"), ("1.", "2.", "3."), ("1.", "1.", "1.")])
def test_a_dependency_is_a_number_in_the_list_or_the_beginning_of_a_title(
    said: str, marks: tuple[str, ...]
) -> None:
    titles = ("Alpha", "Beta the second", f"Gamma (depends on: {said})")
    text = "".join(f"{mark} [ ] {title}\n" for mark, title in zip(marks, titles, strict=True))
    assert works(text)["gamma"]["depends_on"] == ["beta-the-second"]


def test_a_name_is_taken_before_a_number() -> None:
    text = "- [ ] Alpha\n- [ ] Task 1\n- [ ] 2: Beta\n- [ ] Gamma (depends on: Task 1, 2)\n"
    assert works(text)["gamma"]["depends_on"] == ["task-1", "2"]


@pytest.mark.parametrize("said", ["9", "#0", "Task 9", "nobody", "gam"])
def test_what_no_task_is_called_is_an_error(said: str) -> None:
    (found,) = problems(f"- [ ] Alpha\n- [ ] Gamma (depends on: {said})\n")
    assert f"`gamma` depends on `{said}`, which does not exist" in found


def test_what_two_tasks_are_called_is_an_error() -> None:
    (found,) = problems("- [ ] Write a\n- [ ] Write b\n- [ ] Gamma (depends on: write)\n")
    said = "3:26 `gamma` depends on `write`, which may be any of `write-a`, `write-b`; write the id"
    assert found.startswith(said)
    text = "## A\n1. [ ] x\n2. [ ] y\n\n## B\n1. [ ] z\n2. [ ] w (depends on: 1)\n"
    assert "may be any of `x`, `z`" in problems(text)[0]


def test_the_own_numbers_of_tasks_are_taken_before_their_places() -> None:
    text = "## Agent 2: A\nDEPENDENCIES: {}\nFILES: a\n## Agent 5: B\nFILES: b\n"
    assert works(text.format("Task 5"))["a"]["depends_on"] == ["b"]
    assert "depends on `1`, which does not exist" in problems(text.format("1"))[0]


def test_many_details_in_one_line_are_all_read_and_leave_its_words() -> None:
    text = "- [ ] x " + "".join(f"(files: a{number}) and " for number in range(2000)) + "(model: big) y"
    (work,) = works(text).values()
    assert work["owns"] == [f"a{number}" for number in range(2000)]
    assert work["model"] == "big"
    assert work["description"] == "x" + " and" * 2000 + " y"


def test_bounds_are_those_of_yaml() -> None:
    deep = "".join("  " * level + "- a\n" for level in range(50))
    with pytest.raises(PlanError, match="nested more than 40 deep"):
        imported.parse(deep, "x.md")
    with pytest.raises(PlanError, match="more than 20,000 lines"):
        imported.parse("a\n" * 20_001, "x.md")
    with pytest.raises(PlanError, match=r"x\.md:2:50001: the line has more than 50,000 characters"):
        imported.parse("- [ ] a\n- [ ] " + "b" * 50_000, "x.md")
    assert imported.parse("- [ ] " + "b" * 49_994, "x.md").problems == []
    with pytest.raises(PlanError, match=r"x.md:1:7: the plan is not text: character U\+001B"):
        imported.parse("- [ ] \x1b[2J", "x.md")
    with pytest.raises(PlanError, match="too large"):
        imported.parse("a" * 10_000_001, "x.md")


@pytest.mark.parametrize(
    "text",
    [
        "- [ ] x" + " " * 49_000 + "y\n",
        "- [ ] " + "(files: " * 6_000 + "\n",
        "- [ ] " + " files: a" * 5_000 + "\n",
        "- [ ] " + "`" * 49_000 + "x\n",
        "# Task 1: a\nFILES: " + "`" * 49_000 + "x\n",
        "# Task 1: a\nBRANCH: a" + " " * 49_000 + "b\n",
        "- [ ] x (files: " + "/" * 49_000 + "!)\n",
        "# task" + " " * 49_000 + "xy\n",
        "- [ ] same\n" * 19_000,
        "# Task 1: a\n" * 19_000,
        "- [ ] a (depends on:" + " " * 49_000 + "\n",
        "files" + " " * 49_000 + "x\n",
        "- [ ] " + "(fils: (" * 6_000 + ")\n",
        "- [ ] a (files: " + ", a:" * 12_000 + ")\n",
        "- [ ] a\n  - **" + "a " * 24_000 + ":\n",
        "- [ ] a\n-[" + " " * 49_000 + "] b\n",
        "".join(f"- [ ] a{number} (depends on: a)\n" for number in range(9_000)),
        "|Task|Files|\n|--|--|\n" + "|" * 49_000 + "\n|a|" + "<br" * 12_000 + "|\n" + "|a|b|\n" * 3_000,
    ],
)
def test_long_input_takes_no_time_that_grows_with_its_square(text: str) -> None:
    # The time-out of the test is the judge: each took minutes, or hours, with an expression that goes back.
    try:
        is_told = imported.parse(text, "x.md").data is not None
    except PlanError as error:
        is_told = bool(error.problems)
    assert is_told


_LINES = st.lists(
    st.sampled_from(
        ["- [ ] ", "- [x] ", "-[ ] ", "- [] ", "(fils: ", "depends on: 1", "#2",
         "  - ", "    ", "1. [ ] ", "## Agent 1: ", "### Task ", "**FILES**: ", "FILES:",
         "(depends on: ", ")", "DEPENDENCIES: None", "GOAL: ", "\n", "\n\n", "```\n", "> ", "<!--", "-->", "a", "b/**",
         ", ", "; ", "`", "**", "{{ x", "}}", "é", "\t", "---\n", "| Task | Files |\n|--|--|\n", "|", "<br>", "AGENT: ",
         "ESTIMATED TIME: 2-3 h", ":", "\r"]
    )
    | st.text(max_size=5),
    max_size=40,
).map("".join)  # fmt: skip


@given(_LINES)
def test_any_text_is_either_a_plan_that_is_read_back_or_refused_in_words(text: str) -> None:
    try:
        found = imported.parse(text, "x.md")
        made = load.from_mapping(found.data)
    except PlanError:
        return
    written = to_yaml(made)
    again = load.loads(with_places(written, {work.id: "x.md:1:1" for work in made.works}))
    assert again == made
    assert set(imported.boxes(text)) >= {work.id for work in made.works}


@given(st.text(alphabet="{}%#a '\"\n-_", max_size=30))
def test_literal_text_renders_as_it_was_written(text: str) -> None:
    assert render_text(literal(text) + ".", {}, "it") == text + "."


def test_a_converted_list_says_where_each_task_came_from(tmp_path: Path) -> None:
    (tmp_path / "TASKS.md").write_text(BLOCKS)
    made = load.load(tmp_path / "TASKS.md", root=tmp_path)
    where = {work.id: positions(made).where_task(work.id) or "" for work in made.works}
    assert where == {"gui": "TASKS.md:5:6", "export": "TASKS.md:25:5"}
    lines = with_places(to_yaml(made), where).split("\n")
    assert "  gui:  # TASKS.md:5:6" in lines
    assert not any(
        "gui:" in line and "\n" in line for line in with_places(to_yaml(made), {"gui": "a\nb"}).split("\n")
    )
