"""Settings, checked; and what holds of a project's config that nobody trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parallelai import config
from parallelai.config import Config, Project
from parallelai.errors import ConfigError
from parallelai.plan.load import loads
from parallelai.plan.model import Choice, Defaults, EngineEntry, Plan, Role, Task
from parallelai.plan.resolve import model_for, resolve, workspace_of
from parallelai.plan.settings import Settings, parse, restrict, settings_for


def _settings(**values: Any) -> Settings:
    return Settings.model_validate(values)


def test_settings_are_the_plans_objects_and_more() -> None:
    settings = parse(
        Config(
            {
                "limits": {"parallel": 4, "budget": "10usd"},
                "engines": {"e": {"use": "mock"}},
                "permissions": "ask",
                "worktrees": {"path": "../w"},
                "analyzers": {"eslint": {"command": "eslint -f sarif", "files": "*.js", "batch": 9}},
            }
        )
    )
    assert settings.limits.budget.usd == 10
    assert settings.analyzers["eslint"].command == ("eslint", "-f", "sarif")
    assert settings.fetch == "auto"


def test_all_that_is_wrong_is_named_with_its_origin_and_key() -> None:
    values = {
        "limits": {"paralel": 4},
        "engines": {"e": {"use": "mock", "timeout": "soon"}},
        "state": {"pth": "x"},
    }
    origins = {
        "limits.paralel": "parallelai.toml",
        "engines.e.use": "u",
        "engines.e.timeout": "PARALLELAI_X",
        "state.pth": "u",
    }
    with pytest.raises(ConfigError) as caught:
        parse(Config(values, origins))
    assert str(caught.value).splitlines() == [
        "PARALLELAI_X: engines.e.timeout: `timeout`: `soon` is no duration (write it like 90s, 30m, 4h or 2d)",
        "parallelai.toml: limits.paralel: unknown key `paralel` (did you mean `parallel`?)",
        "u: state.pth: unknown key `pth` (did you mean `path`?)",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engines = 3\n", "`engines`: expected a mapping, not a number"),
        ("[limits]\nbudget = 3\n", "`budget`: `3` is no budget"),
    ],
)
def test_what_to_write_is_said_as_toml(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "parallelai.toml").write_text(text)
    loaded = config.load(Project(tmp_path, tmp_path / "state"), env={"XDG_CONFIG_HOME": str(tmp_path)})
    with pytest.raises(ConfigError) as wrong:
        parse(loaded)
    assert wrong.value.said == said
    advice = {"engines": "write {NAME = {use = …}}", "limits": "write it like 10usd,5Mtok,4h"}
    assert wrong.value.next == next(advice[key] for key in advice if key in text)


def test_what_only_plans_have_is_no_setting() -> None:
    for key in ("tasks", "workstreams", "phases"):
        with pytest.raises(ConfigError, match=f"unknown key `{key}`"):
            parse(Config({key: []}, {key: "parallelai.toml"}))


HOSTILE = {
    "engines": {
        "evil": {"use": "command", "command": ["rm", "-rf", "/"], "sandbox": "required"},
        "mine": {"command": ["evil"], "base_url": "http://x"},
    },
    "analyzers": {"evil": {"command": ["evil"]}},
    "gates": {"landing": ["evil"]},
    "workspace": {"setup": ["evil"], "copy": ["x"], "env": {"A": "b"}},
    "landing": {"push": True},
    "state": {"path": "/tmp/x"},
    "consent": ["mine"],
    "permissions": "auto",
    "fetch": "auto",
    "limits": {"parallel": 1000, "unpriced": "allow", "max_wait": "9h", "budget": {"usd": 1000}},
}


def test_what_nobody_trusts_loosens_nothing_and_is_named() -> None:
    base = _settings(
        engines={"mine": {"use": "mock"}}, permissions="ask", fetch="never", limits={"parallel": 8}
    )
    settings, ignored = restrict(base, HOSTILE)
    assert settings == base
    assert set(ignored) == {
        "engines.evil.use",
        "engines.evil.command",
        "engines.evil.sandbox",
        "engines.mine.command",
        "engines.mine.base_url",
        "analyzers.evil.command",
        "gates.landing",
        "workspace.setup",
        "workspace.copy",
        "workspace.env.A",
        "landing.push",
        "state.path",
        "consent",
        "permissions",
        "fetch",
        "limits.parallel",
        "limits.unpriced",
        "limits.max_wait",
        "limits.budget.usd",
    }


def test_what_nobody_trusts_may_tighten() -> None:
    base = _settings(engines={"mine": {"use": "mock"}}, limits={"parallel": 8, "unpriced": "allow"})
    settings, ignored = restrict(
        base,
        {
            "limits": {
                "parallel": 2,
                "unpriced": "refuse",
                "on_budget": "cancel",
                "budget": {"usd": 1, "tokens": "5k"},
                "grace": 1,
            },
            "permissions": "deny",
            "fetch": "never",
            "engines": {"mine": {"sandbox": "required", "network": "off"}},
            "workspace": {"network": "off"},
        },
    )
    assert ignored == ()
    assert (settings.limits.parallel, settings.limits.unpriced, settings.limits.on_budget) == (
        2,
        "refuse",
        "cancel",
    )
    assert (settings.limits.budget.usd, settings.limits.budget.tokens, settings.limits.grace) == (1, 5000, 1)
    assert (settings.permissions, settings.fetch) == ("deny", "never")
    assert (settings.engines["mine"].sandbox, settings.engines["mine"].network) == ("required", "off")
    assert (settings.workspace.network, settings.engines["mine"].use) == ("off", "mock")


def test_a_money_limit_above_the_built_in_one_is_no_tightening() -> None:
    assert restrict(Settings(), {"limits": {"budget": "6usd"}})[1] == ("limits.budget",)
    assert restrict(Settings(), {"limits": {"budget": "5usd,1M tok"}})[1] == ()


def test_trust_decides_and_consent_is_never_a_projects(tmp_path: Path) -> None:
    (tmp_path / "parallelai.toml").write_text(
        "consent = ['x']\n[limits]\nparallel = 1\n[engines.e]\nuse = 'command'\ncommand = ['a']\n"
    )
    env = {"XDG_CONFIG_HOME": str(tmp_path / "none"), "PARALLELAI_LIMITS__PARALLEL": "3"}
    found = config.load(Project(tmp_path, tmp_path), env=env)
    trusted, ignored = settings_for(found, is_trusted=True)
    assert ("e" in trusted.engines, trusted.consent, ignored) == (True, (), ("consent",))
    untrusted, ignored = settings_for(found, is_trusted=False)
    assert untrusted.engines == {}
    assert untrusted.limits.parallel == 3  # a variable comes before the project, also where that is tighter
    assert set(ignored) == {"consent", "engines.e.use", "engines.e.command"}


# Which of task, role, plan and config holds


def test_the_task_comes_before_its_role_then_the_plan_then_the_config() -> None:
    plan = Plan(
        roles={"r": Role(engine="role", model="role")},
        defaults=Defaults(engine="plan", timeout="1m", model="plan", retries=1),
        engines={"e": EngineEntry(use="mock", model="entry")},
    )
    own = Defaults(retries=9, on_failure="stop", checks=["make"])
    bare, with_role, full = (
        Task(id="a"),
        Task(id="b", role="r"),
        Task(id="c", role="r", engine="task", model="task"),
    )
    assert resolve(plan, bare, own).engine == Choice(members=("plan",))
    assert resolve(plan, with_role, own).engine == Choice(members=("role",))
    assert resolve(plan, full, own).engine == Choice(members=("task",))
    resolved = resolve(plan, bare, own)
    assert (resolved.timeout, resolved.retries, resolved.on_failure, resolved.checks) == (
        60,
        1,
        "stop",
        (("make",),),
    )
    assert resolve(Plan(), bare) == bare
    assert resolve(plan, Task(id="a", timeout=1800)).timeout == 1800  # said, though it is what holds anyway


def test_an_engines_own_model_comes_before_the_defaults() -> None:
    plan = Plan(
        roles={"r": Role(model="role")},
        defaults=Defaults(model="plan"),
        engines={"e": EngineEntry(use="mock", model="entry")},
    )
    assert model_for(plan, Task(id="a", role="r", model="task"), "e") == "task"
    assert model_for(plan, Task(id="a", role="r"), "e") == "role"
    assert model_for(plan, Task(id="a"), "e") == "entry"
    assert model_for(plan, Task(id="a"), "other") == "plan"
    assert model_for(Plan(), Task(id="a"), "e", Defaults(model="config")) == "config"
    assert resolve(plan, Task(id="a")).model is None


def test_what_a_task_says_of_its_folder_holds_key_by_key_over_the_plan() -> None:
    plan = loads(
        "workspace: {copy: .env, setup: [npm ci], needs: {ports: 2}}\n"
        "tasks:\n- {id: own, description: x, workspace: {sparse: src/, setup: []}}\n- {id: bare, description: x}\n"
    )
    own, bare = (workspace_of(plan, task) for task in plan.tasks)
    assert (own.copy_, own.needs.ports, own.sparse, own.setup) == ((".env",), 2, ("src/",), ())
    assert bare == plan.workspace
