"""What a plan must keep beyond its types."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallelai.errors import PlanError
from parallelai.plan.advice import unmatched_generated, unmatched_sparse
from parallelai.plan.check import Names, check, is_branch
from parallelai.plan.files import FileTree
from parallelai.plan.load import loads
from parallelai.plan.model import Plan

TREE = FileTree(Path("/nowhere"), ("README.md", "src/a.py", "src/b.py", "src/ui/menu.py"))


def _said(text: str, **given: object) -> list[str]:
    try:
        loads(text, file="p", **given)  # type: ignore[arg-type]
    except PlanError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_patterns_that_match_nothing_are_errors_where_a_tree_is_given() -> None:
    text = "tasks:\n  - {id: a, description: x, files: 'lib/**'}\n  - {id: b, description: x, files: 'src/*.py'}\n"
    assert _said(text) == []
    assert _said(text, tree=TREE) == [
        "p:2:36: `lib/**` matches no file of the project; correct the pattern, or leave `files` out"
    ]


def test_a_named_link_that_leads_out_of_the_project_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "here.py").write_text("")
    (tmp_path / "in.py").symlink_to("here.py")
    (tmp_path / "out.py").symlink_to("/etc/passwd")
    (tmp_path / "gone.py").symlink_to("nothing.py")
    tree = FileTree(tmp_path, ("gone.py", "here.py", "in.py", "out.py"))
    text = "tasks:\n" + "".join(
        f"  - {{id: t{number}, description: x, files: {files!r}}}\n"
        for number, files in enumerate(("in.py", "out.py", "gone.py", "*.py"))
    )
    said = "is a link that leads out of the project, or nowhere; name a file of the project"
    assert _said(text, tree=tree) == [f"p:3:37: `out.py` {said}", f"p:4:37: `gone.py` {said}"]


def test_patterns_of_sparse_that_match_nothing_are_advice() -> None:
    text = (
        "workspace: {sparse: [src/ui, nothere]}\n"
        "tasks:\n  - {id: a, description: x, workspace: {sparse: ['!gone', '*.md']}}\n"
        "workstreams:\n  w: {description: x, owns: src, workspace: {sparse: 'lib/**'}}\n"
    )
    assert [str(found) for found in unmatched_sparse(loads(text, file="p"), TREE.paths)] == [
        "p:1:21: `nothere` of `sparse` matches no file of the project; look whether it is written right",
        "p:5:54: `lib/**` of `sparse` matches no file of the project; look whether it is written right",
    ]


GENERATED = "tasks: [{id: a, description: x}]\nlanding:\n  generated:\n"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "    - {files: [], command: make}\n",
            "p:4:15: a command of `generated` makes no file; write the files that it makes",
        ),
        (
            "    - {files: gen, command: make && true}\n",
            "p:4:29: `command`: the command `make && true` needs a",
        ),
        ("    - {files: gen}\n", "p:4:7: `generated` has no `command`; add `command: …`"),
        (
            "    - {files: gen, command: make ghp_0123456789abcdefghij0123456789abcdefgh}\n",
            "p:4:29: `command` holds what looks like a secret",
        ),
        (
            "    - {files: src, command: make}\n    - {files: '*.py', command: make b}\n",
            "p:5:15: `src/a.py` is made by 2 commands of `generated`; let one of them leave it out, with `!`",
        ),
    ],
)
def test_what_is_wrong_with_generated_files_is_told(rows: str, said: str) -> None:
    (problem,) = _said(GENERATED + rows, tree=TREE)
    assert problem.startswith(said)


def test_generated_files_that_are_not_there_are_advice() -> None:
    text = GENERATED + "    - {files: ['src/**', 'gen/**', '!gen/a'], command: make}\n"
    assert _said(text, tree=TREE) == []
    assert [str(found) for found in unmatched_generated(loads(text, file="p"), TREE.paths)] == [
        "p:4:15: `gen/**` of `generated` matches no file of the project; look whether it is written right"
    ]


def test_files_that_a_task_before_may_make_need_not_exist_yet() -> None:
    text = (
        "tasks:\n  - {id: make, description: x, edits: true}\n  - {id: mid, description: x, depends_on: [make]}\n"
        "  - {id: use, description: x, files: new/*.py, depends_on: [mid]}\n"
    )
    assert _said(text, tree=TREE) == []


def test_owners_in_order_or_of_shared_files_may_overlap() -> None:
    text = "workstreams:\n  a: {description: x, owns: src}\n  b: {description: x, owns: src/ui%s}\n%s"
    assert _said(text % ("", ""), tree=TREE) == [
        "p:3:29: `a` and `b` both own `src/ui/menu.py`, and neither waits for the other;"
        " add `!src/ui` to what `a` owns, list it under `shared`, or write `depends_on: [a]` in `b`"
    ]
    assert _said(text % (", depends_on: [a]", ""), tree=TREE) == []
    assert _said(text % ("", "shared: [src/ui]\n"), tree=TREE) == []


def test_order_may_go_over_other_tasks() -> None:
    text = (
        "tasks: [{id: mid, description: x, depends_on: [a]}]\n"
        "workstreams:\n  a: {description: x, owns: src}\n  b: {description: x, owns: src, depends_on: [mid]}\n"
    )
    assert _said(text) == []


def test_several_cycles_are_all_printed() -> None:
    text = "tasks:\n" + "".join(
        f"  - {{id: {a}, description: x, depends_on: [{b}]}}\n" for a, b in ("ab", "ba", "cd", "de", "ec")
    )
    assert [said.split(":", 4)[-1].split(";")[0].strip() for said in _said(text)] == [
        "a → b → a",
        "c → d → e → c",
    ]


def test_a_cycle_of_thousands_is_found_and_printed_short() -> None:
    text = "tasks:\n" + "".join(
        f"  - {{id: t{n}, description: x, depends_on: [t{(n + 1) % 3000}]}}\n" for n in range(3000)
    )
    (said,) = _said(text)
    assert "t0 → t1 → t2" in said
    assert len(said) < 300


def test_a_pipeline_goes_in_plan_order() -> None:
    text = "strategy: pipeline\ntasks:\n  - {id: a, description: x, depends_on: [b]}\n  - {id: b, description: x}\n"
    assert _said(text) == ["p:3:42: `a` depends on `b`, a later stage of the pipeline; put `b` before it"]


def test_phases_may_hold_only_the_workstreams() -> None:
    text = (
        "phases: [{name: A, tasks: [w]}]\ntasks: [{id: t, description: x}]\n"
        "workstreams: {w: {description: x, owns: src}}\n"
    )
    assert _said(text) == []


def test_names_that_are_not_given_are_not_checked() -> None:
    text = "tasks: [{id: a, template: t, engine: e, role: r, model: some-model}]\n"
    assert _said(text) == []
    names = Names(engines=frozenset(), templates=frozenset(), roles=frozenset({"rr"}))
    assert len(_said(text, names=names)) == 3


def test_a_familiar_model_is_no_misspelt_tier() -> None:
    for model in ("fast-v2", "gpt-fast", "small", "test", "opus-4"):
        assert _said(f"tasks: [{{id: a, description: x, model: {model}}}]\n") == []
    text = "tasks: [{id: a, description: x, model: standart}]\n"
    assert _said(text, names=Names(models=frozenset({"standart"}))) == []


def test_templates_in_texts_are_checked_at_their_place() -> None:
    said = _said(
        "tasks:\n  - id: a\n    description: '{{ nothing }}'\n  - {id: b, description: x, when: 'a ='}\n"
    )
    assert [line.split(" ")[0] for line in said] == ["p:3:18:", "p:4:35:"]


def test_branches_are_names_that_git_takes_and_each_has_one_owner() -> None:
    text = (
        "workstreams:\n  a: {description: x, owns: a, branch: b..c}\n"
        "  b: {description: x, owns: b, branch: same}\n  c: {description: x, owns: c, branch: same}\n"
        "  d.lock: {description: x, owns: d}\n"
    )
    assert [line.split(";")[0] for line in _said(text)] == [
        "p:2:40: `b..c` is no branch name that git takes",
        "p:4:40: `c` and `b` have the same branch `same`",
        "p:5:11: `parallelai/d.lock` is no branch name that git takes",
    ]


def test_branches_that_cannot_be_beside_each_other_are_told() -> None:
    text = (
        "workstreams:\n  a: {description: x, owns: a, branch: new}\n"
        "  b: {description: x, owns: b, branch: new/b}\n  C: {description: x, owns: c}\n"
        "  c: {description: x, owns: d}\n  newer: {description: x, owns: e, branch: newer}\n"
    )
    assert [line.split(";")[0] for line in _said(text)] == [
        "p:3:40: the branches `new/b` of `b` and `new` of `a` cannot be beside each other",
        "p:5:6: the branches `parallelai/c` of `c` and `parallelai/C` of `C` cannot be beside each other",
    ]


@pytest.mark.parametrize("name", ["a", "a/b", "fix-1", "ä", "a@b"])
def test_good_branches(name: str) -> None:
    assert is_branch(name)


@pytest.mark.parametrize(
    "name", ["", "@", "-a", "/a", "a/", "a.", "a b", "a..b", "a~1", "a.lock", "a@{1}", "a\x7f"]
)
def test_bad_branches(name: str) -> None:
    assert not is_branch(name)


def test_people_have_workstreams_that_exist() -> None:
    text = "workstreams: {gui: {description: x, owns: src}}\nteam: {ana: {workstreams: [guy]}}\n"
    assert _said(text) == [
        "p:2:28: `ana` has the workstream `guy`, which does not exist; did you mean `gui`?"
    ]


def test_a_plan_made_in_python_is_checked_without_places() -> None:
    (problem,) = check(Plan())
    assert str(problem) == "the plan is empty: it has no task and no workstream; add a task under `tasks:`"
