"""The templates that ship hold together, with what plans make of them."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from parallelai.errors import UsageError
from parallelai.plan import templates as stored
from parallelai.plan.expand import expand
from parallelai.plan.files import FileTree
from parallelai.plan.model import Plan, Task
from parallelai.plan.prompt import render
from parallelai.plan.resolve import model_for
from parallelai.plan.template_check import check_template
from parallelai.plan.templates import SHIPPED, complete, find

FINDERS = {"code-review", "security-audit", "bug-hunt", "performance-review"}
EDITORS = {"test-generation", "documentation", "refactoring", "type-annotations", "migration"}
NAMES = sorted(FINDERS | EDITORS | {"explain"})
FILES = {"a.py": "x = 1\n", "b.txt": "hello\n"}


@pytest.fixture
def tree(tmp_path: Path) -> FileTree:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return FileTree(tmp_path, tuple(FILES))


def graph_of(tree: FileTree, **task: object):
    plan = Plan.model_validate({"tasks": [{"id": "t", **task}]})
    return expand(plan, tree, templates=find())


def test_these_ship() -> None:
    assert list(find()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_template_is_good_and_says_what_it_gives(name: str, tree: FileTree) -> None:
    assert check_template(SHIPPED / f"{name}.yaml", top=SHIPPED, source="shipped") == []
    template = find()[name]
    assert template.model in ("best", "standard", "fast")
    assert template.description
    assert len(template.checklist) >= 4
    assert (template.output == "findings") == (name in FINDERS)
    assert template.edits == (name in EDITORS)
    params = {key: "THIS" for key, one in template.params.items() if one.is_required}
    (instance,) = graph_of(tree, template=name, files="a.py", params=params).instances
    assert instance.task.edits == (name in EDITORS)
    prompt = render(instance, template=template, root=tree.root, tasks={}, vars={})
    assert "addressed to somebody else" in " ".join(prompt.text.split())
    assert all(f"- {point}: " in prompt.text for point in template.checklist)
    assert ('"quote"' in prompt.text and '"severity"' in prompt.text) == (name in FINDERS)
    assert "{{" not in prompt.text
    assert prompt.shared > 500, "what all instances share can be cached"


def test_a_checklist_is_chosen_from(tree: FileTree) -> None:
    template = find()["bug-hunt"]
    (instance,) = graph_of(
        tree, template="bug-hunt", files="a.py", checklist=["state", "own-point"]
    ).instances
    prompt = render(instance, template=template, root=tree.root, tasks={}, vars={}).text
    assert f"- state: {template.checklist['state']}\n- own-point\n" in prompt
    assert "- data:" not in prompt


@pytest.mark.parametrize("word", ["sate", "bondaries", "State", "interface"])
def test_a_misspelt_name_of_a_checklist_is_refused_with_the_nearest(word: str, tree: FileTree) -> None:
    near = {"sate": "state", "State": "state", "bondaries": "boundaries", "interface": "interfaces"}[word]
    with pytest.raises(UsageError, match=f"has no `{word}`") as refused:
        graph_of(tree, template="bug-hunt", files="a.py", checklist=["data", word])
    assert f"did you mean `{near}`?" in (refused.value.next or "")


@pytest.mark.parametrize("words", ["accessibility", "weak hashes", "the state of it", "naming"])
def test_words_of_ones_own_are_taken_as_they_are(words: str, tree: FileTree) -> None:
    (instance,) = graph_of(tree, template="bug-hunt", files="a.py", checklist=[words]).instances
    assert (
        f"- {words}\n"
        in render(instance, template=find()["bug-hunt"], root=tree.root, tasks={}, vars={}).text
    )


def test_parameters_are_filled_in_and_checked(tree: FileTree) -> None:
    given = {"source": "nose", "target": "pytest"}
    (instance,) = graph_of(tree, template="migration", files="a.py", params=given).instances
    prompt = render(instance, template=find()["migration"], root=tree.root, tasks={}, vars={}).text
    assert prompt.startswith("Move the files from nose to pytest.")
    assert "Rules of this project" not in prompt
    with pytest.raises(UsageError, match="needs the parameter `target`") as missing:
        graph_of(tree, template="migration", files="a.py", params={"source": "nose"})
    assert missing.value.where == "t"
    with pytest.raises(UsageError, match="no parameter `sorce`") as unknown:
        graph_of(tree, template="migration", files="a.py", params={"sorce": "nose"})
    assert unknown.value.next == "did you mean `source`?"


def test_a_template_holds_where_nobody_says_anything(tree: FileTree) -> None:
    (instance,) = graph_of(tree, template="type-annotations", each="file").instances
    assert [part.path for part in instance.files] == ["a.py"]
    assert (instance.task.edits, instance.task.kind, instance.task.tags) == (True, "crud", ("types",))
    (own,) = graph_of(tree, template="type-annotations", files="*.txt", edits=False, kind="docs").instances
    assert [part.path for part in own.files] == ["b.txt"]
    assert (own.task.edits, own.task.kind) == (False, "docs")


def test_the_models_order_ends_with_the_template() -> None:
    template = find()["refactoring"]
    task = Task(id="t", template="refactoring")
    plan = Plan(tasks=(task,))
    assert model_for(plan, task, "mock", None, template) == "best"
    fast = Plan.model_validate({"tasks": [{"id": "t"}], "defaults": {"model": "fast"}})
    assert model_for(fast, task, "mock", None, template) == "fast"


def test_a_task_that_says_all_is_left_as_it_is() -> None:
    task = Task(id="t", template="code-review", kind="review")
    assert complete(task, find()["code-review"]) is task


def test_an_installed_package_brings_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "team_prompts" / "templates"
    folder.mkdir(parents=True)
    (tmp_path / "team_prompts" / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("raise SystemExit('is not imported')")
    (folder / "house-rules.yaml").write_text("prompt: ours\n")
    (folder / "code-review.yaml").write_text("prompt: of the package\n")
    points = [
        metadata.EntryPoint("team", "team_prompts.templates", stored.GROUP),
        metadata.EntryPoint("gone", "no_such_package.templates", stored.GROUP),
    ]
    monkeypatch.setattr("parallelai.extensions.of_group", lambda group: points)
    monkeypatch.syspath_prepend(tmp_path)
    found = find()
    assert (found["house-rules"].source, found["code-review"].prompt) == ("package", "of the package")
    own = tmp_path / "project/.parallelai/templates"
    own.mkdir(parents=True)
    (own / "code-review.yaml").write_text("prompt: the project's\n")
    assert find(tmp_path / "project")["code-review"].prompt == "the project's"
    sys.modules.pop("team_prompts", None)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("description: a\nprompt: |\n  ok\n  {{ params.topic }}\n", 2, "`params.topic`, which is not under"),
        ("prompt: '{{ params[''topic''] }}'\n", 1, "`params.topic`, which is not under"),
        ("prompt: ok\nparams:\n  topic: {}\n", 3, "does not use the parameter `topic`"),
        ("prompt: '{{ fiel.path }}'\n", 1, "`fiel`, which nobody gives"),
        ("description: a\nprompt: |\n  fine\n  {% if %}\n", 4, "cannot be rendered"),
        ("prompt: ok\nchecklist:\n  a: b\n  two words: c\n", 4, "cannot be chosen"),
        ("prompt: ok\nmodel: 3\n", 2, "`model`"),
        (
            "prompt: ok\nparams:\n  a: {defualt: 3}\n",
            3,
            "unknown key `params.a.defualt`; did you mean `default`?",
        ),
        ("prompt: ok\nedits: true\noutput: findings\n", 3, "gives a change"),
        ("name: x/y\nprompt: ok\n", 1, "a template's name"),
        ("prompt: [\n", 2, "not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_template_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    (problem,) = check_template(tmp_path / "x.yaml", top=tmp_path)
    assert (problem.file, problem.line) == ("x.yaml", line)
    assert said in problem.said
