"""Plans become task graphs: every file accounted for, few edges, the same each time."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.errors import UsageError
from parallelai.plan.expand import chunk, expand
from parallelai.plan.files import FileTree, match
from parallelai.plan.graph import TaskGraph
from parallelai.plan.model import Chunk, Defaults, Phase, Plan, Task
from parallelai.records import FileNote, FilePart

FILES = {
    "a.py": "x = 1\n",
    "src/b.py": "y = 2\n",
    "src/c.py": "z = 3\n",
    "src/logo.png": "\0\0",
    "lib/d.min.js": "x",
    "docs/e.md": "# e\n",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> FileTree:
    root = tmp_path_factory.mktemp("project")
    for path, text in FILES.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text)
    return FileTree(root, tuple(sorted(FILES)))


def edges_of(graph: TaskGraph) -> dict[str, tuple[str, ...]]:
    return {instance.id: (*instance.depends_on, *instance.awaits) for instance in graph.instances}


def test_a_task_without_files_is_about_no_file(tree: FileTree) -> None:
    graph = expand(Plan(tasks=(Task(id="a", description="x"),)), tree)
    assert graph.instances[0].files == ()
    assert graph.skipped == ()


def test_a_fan_out_has_an_instance_for_each_file_and_names_what_it_left_out(tree: FileTree) -> None:
    graph = expand(Plan(tasks=(Task(id="r", description="x", files="src/**", each="file"),)), tree)
    assert edges_of(graph) == {"r@src/b.py": (), "r@src/c.py": ()}
    assert [instance.files for instance in graph.instances] == [
        (FilePart("src/b.py"),),
        (FilePart("src/c.py"),),
    ]
    assert graph.skipped == (FileNote("src/logo.png", "binary"),)
    assert graph.items("r") == ("r@src/b.py", "r@src/c.py")


def test_a_fan_out_without_patterns_takes_the_whole_project(tree: FileTree) -> None:
    graph = expand(Plan(tasks=(Task(id="r", description="x", each="file"),)), tree)
    assert graph.items("r") == ("r@a.py", "r@docs/e.md", "r@src/b.py", "r@src/c.py")
    assert {note.file: note.why for note in graph.skipped} == {
        "lib/d.min.js": "generated",
        "src/logo.png": "binary",
    }


def test_a_task_that_is_about_a_picture_keeps_it(tree: FileTree) -> None:
    tasks = (
        Task(id="draw", description="x", files="src/logo.png"),
        Task(id="review", description="x", files="src/logo.png", output="findings"),
        Task(id="audit", template="security-audit", files="src/logo.png"),
    )
    graph = expand(Plan(tasks=tasks), tree)
    assert [instance.files for instance in graph.instances] == [(FilePart("src/logo.png"),), (), ()]


def test_equal_fan_outs_pair_and_others_are_awaited_as_a_whole(tree: FileTree) -> None:
    tasks = (
        Task(id="review", description="x", files="src/*.py", each="file"),
        Task(id="fix", description="x", files=["src/b.py", "src/c.py"], each="file", depends_on=("review",)),
        Task(id="other", description="x", files="*.py", each="file", depends_on=("review",)),
        Task(id="sum", description="x", depends_on=("review", "fix")),
        Task(id="end", description="x", depends_on=("sum",)),
    )
    edges = edges_of(expand(Plan(tasks=tasks), tree))
    assert edges["fix@src/b.py"] == ("review@src/b.py",)
    assert edges["fix@src/c.py"] == ("review@src/c.py",)
    assert edges["other@a.py"] == ("review",)
    assert edges["sum"] == ("review", "fix")
    assert edges["end"] == ("sum",)


def test_a_thousand_before_a_thousand_are_not_a_million_edges(tmp_path: Path) -> None:
    names = [f"f{index}.py" for index in range(1000)]
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / "g.py").write_text("")
    tasks = (
        Task(id="a", description="x", files="f*.py", each="file"),
        Task(id="b", description="x", files="*.py", each="file", depends_on=("a",)),
    )
    graph = expand(Plan(tasks=tasks), FileTree(tmp_path, tuple(sorted([*names, "g.py"]))))
    assert len(graph) == 2001
    assert sum(len(before) for before in edges_of(graph).values()) == 1001
    assert len(graph.groups["a"]) == 1000


def test_a_pipeline_goes_item_by_item(tree: FileTree) -> None:
    tasks = (
        Task(id="one", description="x", files="*.py", each="file"),
        Task(id="two", description="x", files="src/*.py", each="file"),
        Task(id="three", description="x"),
    )
    edges = edges_of(expand(Plan(tasks=tasks), tree, strategy="pipeline"))
    assert edges["one@a.py"] == ()
    assert edges["two@src/b.py"] == ("one@src/b.py",)
    assert edges["three"] == ("two",)
    assert not any(edges_of(expand(Plan(tasks=tasks), tree)).values())


def test_a_pipeline_against_its_own_dependencies_is_refused(tree: FileTree) -> None:
    tasks = (Task(id="a", description="x", depends_on=("b",)), Task(id="b", description="x"))
    with pytest.raises(UsageError, match=r"wait for each other.*pipeline") as error:
        expand(Plan(tasks=tasks, strategy="pipeline"), tree)
    assert "a → b → a" in str(error.value)


def test_phases_wait_at_their_barriers(tree: FileTree) -> None:
    tasks = tuple(Task(id=name, description="x") for name in "abcde")
    phases = (
        Phase(name="1", tasks=("a",)),
        Phase(name="2", tasks=("b",), barrier=False),
        Phase(name="3", tasks=("c", "d")),
        Phase(name="4", tasks=("e",)),
    )
    graph = expand(Plan(tasks=tasks, phases=phases), tree)
    assert edges_of(graph) == {
        "a": (),
        "b": ("phase:0",),
        "c": ("phase:0",),
        "d": ("phase:0",),
        "e": ("phase:2",),
    }
    assert graph.groups["phase:2"] == ("c", "d")
    assert [instance.phase for instance in graph.instances] == [0, 1, 2, 2, 3]
    assert [instance.id for instance in graph.topological()] == ["a", "b", "c", "d", "e"]


def test_an_empty_phase_does_not_let_the_next_one_pass(tree: FileTree) -> None:
    tasks = (
        Task(id="a", description="x"),
        Task(id="none", description="x", files="*.rs", each="file"),
        Task(id="c", description="x"),
    )
    phases = tuple(Phase(name=name, tasks=(name,)) for name in ("a", "none", "c"))
    assert edges_of(expand(Plan(tasks=tasks, phases=phases), tree))["c"] == ("phase:0", "phase:1")


def test_a_dependency_on_a_later_phase_is_refused(tree: FileTree) -> None:
    tasks = (Task(id="a", description="x", depends_on=("b",)), Task(id="b", description="x"))
    phases = (Phase(name="1", tasks=("a",)), Phase(name="2", tasks=("b",)))
    with pytest.raises(UsageError, match="wait for each other"):
        expand(Plan(tasks=tasks, phases=phases), tree)


def test_what_cannot_be_tied_together_is_refused(tree: FileTree) -> None:
    with pytest.raises(UsageError, match="`b`, which is no task"):
        expand(Plan(tasks=(Task(id="a", description="x", depends_on=("b",)),)), tree)
    with pytest.raises(UsageError, match="same id"):
        expand(Plan(tasks=(Task(id="a", description="x"), Task(id="a", description="y"))), tree)


def test_tasks_are_resolved_and_shared_by_their_instances(tree: FileTree) -> None:
    plan = Plan(tasks=(Task(id="r", description="x", each="file"),), defaults=Defaults(timeout=7))
    graph = expand(plan, tree, settings_defaults=Defaults(retries=1, timeout=9))
    assert {(instance.task.timeout, instance.task.retries) for instance in graph.instances} == {(7.0, 1)}
    assert len({id(instance.task) for instance in graph.instances}) == 1


def test_chunks_keep_their_lines(tmp_path: Path) -> None:
    text = "".join(f"def f{number}():\n    return {number}\n\n" for number in range(10))
    (tmp_path / "a.py").write_text(text)
    (tmp_path / "empty.py").write_text("")
    plan = Plan(
        tasks=(
            Task(id="r", description="x", each=Chunk(chunk=20)),
            Task(id="s", description="x", each={"chunk": 20}, depends_on=("r",)),
        )
    )
    graph = expand(plan, FileTree(tmp_path, ("a.py", "empty.py")))
    first, second = graph.get("r@a.py#1"), graph.get("r@a.py#2")
    assert first.files[0].first == 1
    assert second.files[0].first == (first.files[0].last or 0) + 1
    assert text.split("\n")[(second.files[0].first or 0) - 1].startswith("def ")
    assert graph.get("r@empty.py#1").files == (FilePart("empty.py"),)
    assert graph.get("s@a.py#2").depends_on == ("r@a.py#2",)


LINES = st.lists(st.sampled_from(["", "def f():", "    x = 1", "}", "a" * 30]), max_size=40)


@given(LINES, st.integers(1, 12))
def test_chunks_hold_every_line_once_and_keep_to_their_size(lines: list[str], tokens: int) -> None:
    text = "".join(line + "\n" for line in lines)
    parts = chunk(text, tokens)
    assert [line for first, last in parts for line in range(first, last + 1)] == list(
        range(1, len(lines) + 1)
    )
    for first, last in parts:
        assert first <= last
        assert first == last or sum(len(line) + 1 for line in lines[first - 1 : last]) <= tokens * 4


PATTERNS = st.sampled_from(["*.py", "src/**", "**", "docs", "*.rs", "!src/b.py", "lib/*", "./*.py"])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    tasks: list[Task] = []
    for index in range(draw(st.integers(1, 6))):
        tasks.append(
            Task(
                id=f"t{index}",
                description="x",
                each=draw(st.sampled_from([None, "file", Chunk(chunk=1)])),
                files=draw(st.none() | st.lists(PATTERNS, min_size=1, max_size=3).map(tuple)),
                output=draw(st.sampled_from([None, "findings"])),
                depends_on=tuple(
                    f"t{number}"
                    for number in sorted(draw(st.sets(st.integers(0, 5), max_size=3)))
                    if number < index
                ),
            )
        )
    names = [task.id for task in tasks]
    cut = draw(st.integers(0, len(names)))
    phases = (Phase(name="1", tasks=tuple(names[:cut])), Phase(name="2", tasks=tuple(names[cut:])))
    return Plan(tasks=tuple(tasks), phases=phases if draw(st.booleans()) else ())


@given(plan=plans(), strategy=st.sampled_from(["dag", "pipeline"]))
def test_expansion_holds_what_it_promises(tree: FileTree, plan: Plan, strategy: str) -> None:
    graph = expand(plan, tree, strategy=strategy)
    assert graph == expand(plan, tree, strategy=strategy)
    ids = [instance.id for instance in graph.instances]
    assert len(set(ids)) == len(ids)
    assert [instance.index for instance in graph.instances] == list(range(len(ids)))
    place = {instance.id: index for index, instance in enumerate(graph.topological())}
    assert place.keys() == set(ids)
    for instance in graph.instances:
        needed = {*instance.depends_on, *(id for group in instance.awaits for id in graph.groups[group])}
        assert all(place[other] < place[instance.id] for other in needed)
        tasks_needed = {graph.get(other).task.id for other in needed}
        assert {name for name in instance.task.depends_on if graph.items(name)} <= tasks_needed
        assert len(instance.depends_on) + len(instance.awaits) <= len(plan.tasks) + len(plan.phases)
    skipped = {note.file for note in graph.skipped}
    for task in plan.tasks:
        wanted = tree.paths if task.files is None else match(task.files, tree.paths)
        mine = [graph.get(id) for id in graph.items(task.id)]
        held = [part.path for instance in mine for part in instance.files]
        assert task.each is None or len(held) == len(mine)
        if task.each is not None or task.files is not None:
            assert set(held) <= set(wanted)
            assert set(wanted) - set(held) <= skipped
        if task.each is None:
            assert len(mine) == 1
        if task.each == "file":
            assert len(set(held)) == len(held)


def test_ten_thousand_tasks_are_tied_together(tree: FileTree) -> None:
    tasks = tuple(
        Task(id=f"t{index}", description="x", depends_on=(f"t{index - 1}",) if index else ())
        for index in range(10_000)
    )
    graph = expand(Plan(tasks=tasks), tree)
    assert graph.topological()[-1].id == "t9999"
