"""Roles as files: where they are found, which one wins, what is wrong with one, and what may be trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai import config
from parallelai.config import RoleFile
from parallelai.errors import ConfigError, PlanError
from parallelai.plan import load, roles
from parallelai.plan.files import Matcher
from parallelai.plan.model import Choice, Defaults, Plan, Role, RoleLimits, Task
from parallelai.plan.resolve import resolve, role_of


def _file(name: str, text: str) -> RoleFile:
    return RoleFile(name, f".parallelai/roles/{name}.yaml", text.encode())


def _loaded(root: Path) -> config.Config:
    return config.load(config.Project(root, root / ".parallelai" / "state"), env={})


def _written(root: Path, name: str, text: str) -> Path:
    path = root / ".parallelai" / "roles" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# Which one wins


def test_the_project_s_come_before_the_user_s_and_these_before_those_that_ship(tmp_path: Path) -> None:
    (tmp_path / "frontend.yaml").write_text("instructions: the user's\n")
    (tmp_path / "docs.yml").write_text("instructions: the user's\n")
    found = roles.find(tmp_path, [_file("frontend", "instructions: the project's")])
    assert found["frontend"].instructions == "the project's"
    assert found["docs"].instructions == "the user's"
    assert found["testing"].instructions
    assert list(found) == sorted(found)
    assert len(found) == len(list(found))
    assert "nobody" not in found


def test_what_settings_define_comes_before_all_files(tmp_path: Path) -> None:
    found = roles.find(
        tmp_path, [_file("docs", "model: fast")], over={"docs": Role(model="best"), "own": Role()}
    )
    assert found["docs"].model == "best"
    assert "own" in found


def test_names_that_no_role_can_have_are_no_roles(tmp_path: Path) -> None:
    for name in (".hidden.yaml", "sp ace.yaml", "note.txt", "-x.yaml"):
        (tmp_path / name).write_text("model: fast\n")
    assert set(roles.find(tmp_path)) == set(roles.find())


def test_a_folder_that_is_none_has_no_roles(tmp_path: Path) -> None:
    (tmp_path / "roles").write_text("")
    assert set(roles.find(tmp_path / "roles")) == set(roles.find(tmp_path / "none"))


# What is wrong with one


def test_a_broken_file_is_in_the_way_only_of_those_who_use_it() -> None:
    found = roles.find(None, [_file("broken", "model: [")])
    assert found["docs"].model == "fast"
    with pytest.raises(PlanError) as caught:
        found["broken"]
    assert str(caught.value.where).startswith(".parallelai/roles/broken.yaml:")


def test_all_that_is_wrong_is_said_with_its_place() -> None:
    with pytest.raises(PlanError) as caught:
        roles.parse("expertise: [a]\ntemprature: 3\ntemperature: 9\nmodel: 3\n", "r.yaml")
    assert [(p.where, p.line) for p in caught.value.problems] == [
        ("r.yaml:2:1", 2),
        ("r.yaml:3:14", 3),
        ("r.yaml:4:8", 4),
    ]
    assert caught.value.problems[0].next == "did you mean `temperature`?"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the role is empty"),
        ("- a\n", "the role is a list"),
        ("model: a\nmodel: b\n", "there twice"),
        ("instructions: " + "x" * (roles.MAX_BYTES + 1), "too large"),
        ("instructions: \x01\n", "not text"),
        ("a: &a [*a]\n", "contains itself"),
    ],
)
def test_what_is_no_role_is_refused(text: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        roles.parse(text, "r.yaml")


def test_import_aliases_are_taken() -> None:
    role = roles.parse("tier: best\nallowed_files: 'src/**'\nforbidden_files: [a]\ncontext_files: b\n", "r")
    assert role == Role(model="best", owns="src/**", avoids="a", reads="b")


@given(st.text(max_size=200))
def test_any_text_is_a_role_or_refused_with_a_place(text: str) -> None:
    where = "r.yaml"
    try:
        roles.parse(text, "r.yaml")
    except PlanError as error:
        where = str(error.where)
    assert where.startswith("r.yaml")


def test_a_user_s_link_that_leads_out_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("model: fast\n")
    folder = tmp_path / "roles"
    folder.mkdir()
    (folder / "linked.yaml").symlink_to(tmp_path / "secret")
    with pytest.raises(PlanError, match="cannot be read"):
        roles.find(folder)["linked"]


# What is trusted is what is used


def test_roles_are_part_of_what_is_trusted(tmp_path: Path) -> None:
    assert _loaded(tmp_path).project_digest is None
    _written(tmp_path, "a", "model: fast\n")
    first = _loaded(tmp_path)
    assert first.project_digest is not None
    _written(tmp_path, "a", "model: best\n")
    second = _loaded(tmp_path)
    _written(tmp_path, "b", "")
    digests = {first.project_digest, second.project_digest, _loaded(tmp_path).project_digest}
    assert len(digests) == 3


def test_a_config_without_roles_keeps_the_digest_that_it_had(tmp_path: Path) -> None:
    (tmp_path / "parallelai.toml").write_text("[limits]\nparallel = 2\n")
    alone = _loaded(tmp_path).project_digest
    path = _written(tmp_path, "a", "")
    assert _loaded(tmp_path).project_digest != alone
    path.unlink()
    assert _loaded(tmp_path).project_digest == alone


def test_what_was_read_with_the_settings_is_what_is_used(tmp_path: Path) -> None:
    path = _written(tmp_path, "a", "model: fast\n")
    found = _loaded(tmp_path)
    path.write_text("model: best\n")
    assert roles.find(None, found.role_files)["a"].model == "fast"


def test_a_project_s_role_that_leads_out_of_it_is_empty(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (tmp_path / "secret").write_text("instructions: secret\n")
    path = _written(root, "a", "")
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    os.mkfifo(path.with_name("b.yaml"))
    files = _loaded(root).role_files
    assert [(file.name, file.data) for file in files] == [("a", b""), ("b", b"")]
    with pytest.raises(PlanError, match="empty"):
        roles.find(None, files)["a"]


def test_there_is_an_end_to_the_number_of_roles(tmp_path: Path) -> None:
    folder = tmp_path / ".parallelai" / "roles"
    folder.mkdir(parents=True)
    for number in range(501):
        (folder / f"r{number}.yaml").touch()
    with pytest.raises(ConfigError, match="more than 500"):
        _loaded(tmp_path)


# A plan with its roles


PLAN = """
roles: {own: {model: best}}
defaults: {role: docs}
tasks: [{id: a, description: x, role: testing}, {id: b, description: y, role: own}, {id: c, description: z}]
"""


def test_a_plan_gets_the_roles_that_it_names_and_keeps_its_own() -> None:
    plan = load.loads(PLAN)
    whole = roles.with_roles(plan, {**roles.find(), "own": Role(model="fast")}, "security", None)
    assert set(whole.roles) == {"own", "testing", "docs", "security"}
    assert whole.roles["own"].model == "best"
    assert roles.with_roles(plan, {}) is plan
    assert roles.used(plan) == {"own", "testing", "docs"}


def test_only_the_roles_that_are_named_are_read() -> None:
    files = [_file("docs", "model: best"), _file("broken", "model: [")]
    assert roles.with_roles(load.loads(PLAN), roles.find(None, files)).roles["docs"].model == "best"


def test_a_task_s_role_is_its_own_or_that_of_the_defaults() -> None:
    plan = roles.with_roles(load.loads(PLAN), roles.find(), "security")
    by_id = {task.id: task for task in plan.tasks}
    assert role_of(plan, by_id["a"]) == plan.roles["testing"]
    assert role_of(plan, by_id["c"]) == plan.roles["docs"]
    without = plan.model_copy(update={"defaults": Defaults()})
    assert role_of(without, by_id["c"]) is None
    assert role_of(without, by_id["c"], Defaults(role="security")) == plan.roles["security"]


def test_a_role_s_budget_is_that_of_each_of_its_tasks_unless_they_have_one() -> None:
    plan = Plan(
        roles={"r": Role(limits=RoleLimits(budget={"usd": 2}), engine="e")},
        defaults=Defaults(budget={"usd": 1}),
        tasks=(Task(id="a", role="r"), Task(id="b", role="r", budget={"usd": 3}), Task(id="c")),
    )
    found = [resolve(plan, task) for task in plan.tasks]
    assert [task.budget and task.budget.usd for task in found] == [2, 3, 1]
    assert [task.engine for task in found] == [Choice(members=("e",)), Choice(members=("e",)), None]


# What it says


def test_instructions_hold_the_expertise_and_the_words() -> None:
    role = Role(expertise=["sql", "python"], instructions="\nBe short.\n")
    assert roles.instructions_of(role) == "Your expertise: sql, python.\n\nBe short."
    assert roles.instructions_of(Role(model="best")) is None
    assert roles.instructions_of(None) is None


def test_a_task_is_told_what_its_role_may_not_change_only_if_it_edits() -> None:
    role = Role(owns=["src/**"], avoids=["src/x"], reads=["docs/api.md"])
    told = roles.told_by(role, edits=True) or ""
    assert all(f"`{pattern}`" in told for pattern in ("src/**", "src/x", "docs/api.md"))
    assert roles.told_by(role, edits=False) == "Before you begin, read what concerns you of `docs/api.md`."
    assert roles.told_by(Role(), edits=True) is None


@pytest.mark.parametrize(
    ("path", "is_forbidden"),
    [("src/a.py", False), ("docs/a.md", True), ("src/gen/a.py", True), ("src/ui/a", True), ("go.mod", False)],
)
def test_what_a_role_does_not_own_it_may_not_change(path: str, is_forbidden: bool) -> None:
    role = Role(owns=["src/**", "!src/gen/**"], avoids=["src/ui/**"])
    assert Matcher(roles.forbidden_by(role, ["go.mod"])).selects(path) is is_forbidden


def test_who_owns_nothing_in_particular_may_change_all_but_what_it_avoids() -> None:
    assert roles.forbidden_by(Role(avoids=["a"])) == ("a",)
    assert roles.forbidden_by(None) == ()
