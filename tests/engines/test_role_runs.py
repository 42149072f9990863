"""Whole runs with roles: what they say reaches the engine, what they forbid is kept out, trust comes first."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from loopback import Loopback

from parallelai import AsyncParallelAI, Claude, OpenAI
from parallelai.engines.protocol import Capabilities, Request
from parallelai.errors import PlanError
from parallelai.run.executors.attempt import completed
from running import FakeEngine, opened, project, scripted, statuses

ROLE = "expertise: [ships]\ninstructions: Speak like a pirate.\n"
TOLD = "Your expertise: ships.\n\nSpeak like a pirate."
TASK = {"id": "a", "description": "Say hello.", "role": "pirate"}
PLACE = Capabilities(takes_instructions=True)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def _here(tmp_path: Path, **roles: str) -> Path:
    return project(
        tmp_path / "here", {f".parallelai/roles/{name}.yaml": text for name, text in roles.items()}
    )


def _plan(*tasks: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"tasks": [dict(task) for task in tasks or (TASK,)], **more}


# It reaches the model


@pytest.mark.parametrize("form", ["messages", "chat", "responses"])
async def test_instructions_and_settings_reach_the_model(form: str, tmp_path: Path) -> None:
    here = _here(tmp_path, pirate=f"{ROLE}temperature: 0.25\nmax_tokens: 777\nmodel: tiny-2\n")
    async with Loopback("hello") as server:
        kind = Claude if form == "messages" else OpenAI
        args = {"args": (form,)} if form == "responses" else {}
        engine = kind(base_url=server.url, model="tiny", temperature=0.9, max_tokens=5, **args)
        async with AsyncParallelAI(here, engines=[engine], trust=True) as ai:
            document = await ai.execute(_plan(TASK, {"id": "b", "description": "Plain."}), engine=engine.name)
    assert document.exit == 0
    bodies = {("hello" in seen.prompt): seen.body for seen in server.seen}
    with_role, without = bodies[True], bodies[False]
    said = with_role.get("system") or with_role.get("instructions") or with_role["messages"][0]["content"]
    assert said == TOLD
    limit = next(
        key for key in ("max_tokens", "max_completion_tokens", "max_output_tokens") if key in with_role
    )
    assert (with_role["model"], with_role["temperature"], with_role[limit]) == ("tiny-2", 0.25, 777)
    assert (without["model"], without["temperature"], without[limit]) == ("tiny", 0.9, 5)
    assert TOLD not in str(without)


async def test_a_tier_that_a_server_does_not_know_is_what_its_entry_names(tmp_path: Path) -> None:
    async with Loopback("hello", models=("a", "b")) as server:
        engine = OpenAI(base_url=server.url, model="a")
        async with AsyncParallelAI(_here(tmp_path), engines=[engine]) as ai:
            document = await ai.execute(_plan({**TASK, "role": "security"}), engine=engine.name)
    assert document.exit == 0
    assert [seen.body["model"] for seen in server.seen] == ["a"]


async def _requests(tmp_path: Path, capabilities: Capabilities, plan: Mapping[str, Any]) -> list[Request]:
    engine = FakeEngine(capabilities=capabilities)
    async with opened(_here(tmp_path, pirate=ROLE), engine, trust=True) as ai:
        document = await ai.execute(plan, engine="fake")
    assert document.exit == 0
    return engine.requests


async def test_an_engine_with_a_place_for_instructions_is_given_them_there(tmp_path: Path) -> None:
    [request] = await _requests(tmp_path, PLACE, _plan())
    assert (request.instructions, request.prompt) == (TOLD, "Say hello.\n")


async def test_others_find_them_before_the_prompt(tmp_path: Path) -> None:
    [request] = await _requests(tmp_path, Capabilities(), _plan({**TASK, "template": "explain"}))
    assert request.instructions is None
    assert request.prompt.startswith(f"{TOLD}\n\n")
    assert request.shared > len(TOLD) + 2
    assert request.prompt[request.shared :].lstrip("\n").startswith("Say hello.")


async def test_without_a_role_nothing_is_said(tmp_path: Path) -> None:
    [request] = await _requests(tmp_path, Capabilities(), _plan({"id": "a", "description": "Say hello."}))
    assert (request.instructions, request.prompt) == (None, "Say hello.\n")


async def test_a_role_of_the_defaults_is_that_of_every_task(tmp_path: Path) -> None:
    tasks = ({"id": "a", "description": "x"}, {"id": "b", "description": "y", "role": "docs"})
    found = await _requests(tmp_path, PLACE, _plan(*tasks, defaults={"role": "pirate"}))
    told = {request.task: request.instructions for request in found}
    assert told["a"] == TOLD
    assert "technical writing" in str(told["b"])


async def test_a_role_in_the_plan_comes_before_the_file(tmp_path: Path) -> None:
    [request] = await _requests(tmp_path, PLACE, _plan(roles={"pirate": {"instructions": "Be polite."}}))
    assert request.instructions == "Be polite."


def test_a_session_that_goes_on_was_told_before() -> None:
    engine = FakeEngine()
    request = Request("r", "a", 1, "/", "Go on.", instructions=TOLD, files_at=3, shared=2)
    first = completed(engine, request)
    assert first.prompt == f"{TOLD}\n\nGo on."
    assert (first.shared, first.files_at) == (len(TOLD) + 4, len(TOLD) + 5)
    again = completed(engine, dataclasses.replace(request, session="s"))
    assert (again.prompt, again.instructions) == ("Go on.", None)
    assert completed(FakeEngine(capabilities=PLACE), request) is request


async def test_the_engine_of_a_role_does_its_tasks(tmp_path: Path) -> None:
    one, other = FakeEngine("one"), FakeEngine("other")
    async with opened(_here(tmp_path), one, other) as ai:
        roles = {"r": {"engine": "other"}}
        tasks = ({"id": "a", "description": "x"}, {**TASK, "id": "b", "role": "r"})
        await ai.execute(_plan(*tasks, roles=roles), engine="one")
        await ai.execute(_plan(tasks[0], roles=roles, defaults={"role": "r"}), engine="one")
    assert (one.tasks, other.tasks) == (["a"], ["b", "a"])


async def test_a_task_that_is_added_to_a_run_has_its_role(tmp_path: Path) -> None:
    begun, added = asyncio.Event(), asyncio.Event()

    async def answer(request: Request, port: Any) -> str:
        begun.set()
        await added.wait()
        return "done"

    here, engine = _here(tmp_path), FakeEngine(answer=answer, capabilities=PLACE)
    async with opened(here, engine) as ai, opened(here, engine) as other, asyncio.TaskGroup() as group:
        call = group.create_task(ai.execute(_plan({"id": "a", "description": "x"}), engine="fake"))
        await begun.wait()
        await other.runs.add(None, {"id": "b", "description": "y", "role": "docs"})
        added.set()
        assert (await call).exit == 0
    told = {request.task: request.instructions for request in engine.requests}
    assert told["a"] is None
    assert "technical writing" in str(told["b"])


# What has changed is done again


async def test_a_changed_role_is_asked_again_and_an_unchanged_one_not(tmp_path: Path) -> None:
    here = _here(tmp_path, pirate=ROLE)
    (here / "p.yaml").write_text("tasks: [{id: a, description: Say hello, role: pirate}]\n")

    async def carried_out(**more: Any) -> int:
        engine = FakeEngine()
        async with opened(here, engine, trust=True) as ai:
            await ai.execute(here / "p.yaml", engine="fake", **more)
        return len(engine.requests)

    assert await carried_out() == 1
    assert await carried_out(resume=True) == 0
    (here / ".parallelai/roles/pirate.yaml").write_text(
        f"# a word\nmodel: best\n{ROLE}limits: {{budget: 9usd}}\n"
    )
    changed_model = await carried_out(resume=True)
    (here / ".parallelai/roles/pirate.yaml").write_text(f"model: best\n{ROLE}limits: {{budget: 8usd}}\n")
    assert await carried_out(resume=True) == 0, "its limits are no matter of what comes out"
    (here / ".parallelai/roles/pirate.yaml").write_text("model: best\ninstructions: Be polite.\n")
    assert (changed_model, await carried_out(resume=True)) == (1, 1)


async def test_a_stored_reply_is_that_of_the_same_role(tmp_path: Path) -> None:
    engine = scripted(name="m")
    seen: list[str] = []
    perform = engine.perform

    async def counted(request: Request, port: Any) -> Any:
        seen.append(request.task)
        return await perform(request, port)

    engine.perform = counted  # type: ignore[method-assign]
    async with opened(_here(tmp_path), engine) as ai:
        for role in (
            {"instructions": "a"},
            {"instructions": "a"},
            {"instructions": "b"},
            {"temperature": 0.1},
        ):
            await ai.execute(_plan({**TASK, "role": "r"}, roles={"r": role}), engine="m")
    assert len(seen) == 3


# Trust


async def test_a_role_that_only_the_project_has_needs_trust(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with opened(_here(tmp_path, pirate=ROLE), engine) as ai:
        with pytest.raises(PlanError, match="nobody said that it may be used") as caught:
            await ai.execute(_plan(), engine="fake")
    assert str(caught.value.where) == ".parallelai/roles/pirate.yaml"
    assert "parallelai trust" in str(caught.value.next)
    assert engine.requests == []


async def test_a_project_s_role_that_nobody_trusts_does_not_replace_one_that_ships(tmp_path: Path) -> None:
    engine = FakeEngine(capabilities=PLACE)
    notes: list[str] = []
    async with opened(_here(tmp_path, docs=ROLE), engine) as ai:

        def take(events: Any) -> None:
            notes.extend(note for event in events if event.type == "run.created" for note in event.data.notes)

        await ai.execute(_plan({**TASK, "role": "docs"}), engine="fake", on_events=take)
    assert "technical writing" in str(engine.requests[0].instructions)
    assert "not trusted, so ignored: roles.docs (`parallelai trust`)" in notes


async def test_the_user_s_own_roles_need_no_trust(tmp_path: Path) -> None:
    engine = FakeEngine(capabilities=PLACE)
    folder = tmp_path / "config" / "parallelai" / "roles"
    folder.mkdir(parents=True)
    (folder / "pirate.yaml").write_text(ROLE)
    async with opened(_here(tmp_path), engine) as ai:
        await ai.execute(_plan(), engine="fake")
    assert engine.requests[0].instructions == TOLD


# What cannot be carried out is refused


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("temperature: 0.1\n", "the role sets `temperature`, which `fake` cannot heed"),
        ("max_tokens: 100\n", "the role sets `max_tokens`, which `fake` cannot heed"),
        (
            "limits: {max_wait: 2h}\n",
            "pirate.yaml:1:10: `max_wait` is no limit of a role: a provider's limit holds",
        ),
        ("engine: nobody\n", "nobody"),
        ("instruction: x\n", "unknown key `instruction`"),
    ],
)
async def test_what_a_role_cannot_have_is_refused_before_anything_starts(
    role: str, said: str, tmp_path: Path
) -> None:
    engine = FakeEngine()
    async with opened(_here(tmp_path, pirate=role), engine, trust=True) as ai:
        with pytest.raises(PlanError, match=said):
            await ai.execute(_plan(), engine="fake")
    assert engine.requests == []


async def test_a_setting_that_one_of_a_choice_heeds_is_no_mistake(tmp_path: Path) -> None:
    engine = FakeEngine()
    async with opened(_here(tmp_path), engine, scripted()) as ai:
        plan = _plan(
            {**TASK, "role": "r"}, roles={"r": {"temperature": 0.1, "engine": {"fallback": ["m", "fake"]}}}
        )
        document = await ai.execute(plan)
    assert statuses(document) == {"a": "ok"}


async def test_a_role_s_budget_holds_for_each_of_its_tasks(tmp_path: Path) -> None:
    from parallelai.engines.protocol import Estimate

    engine = FakeEngine(estimate=Estimate(tokens=500, usd=0.0))
    async with opened(_here(tmp_path), engine) as ai:
        roles = {
            "small": {"limits": {"budget": {"tokens": 100}}},
            "large": {"limits": {"budget": {"tokens": 1000}}},
        }
        tasks = ({**TASK, "role": "small"}, {**TASK, "id": "b", "role": "large"})
        document = await ai.execute(_plan(*tasks, roles=roles), engine="fake")
    assert statuses(document) == {"a": "over_budget", "b": "ok"}


# What a role may not change


async def test_what_a_role_may_not_change_is_no_part_of_a_task_s_change(tmp_path: Path) -> None:
    here = _here(tmp_path)
    (here / "src" / "ui").mkdir(parents=True)
    for name in ("src/a.py", "src/ui/b.py", "README.md"):
        (here / name).write_text("before\n")
    for argv in (
        ("init", "-q"),
        ("add", "-A"),
        ("-c", "user.name=t", "-c", "user.email=t@e", "commit", "-qm", "c"),
    ):
        subprocess.run(["git", *argv], cwd=here, check=True)
    script = "cat > told; for f in src/a.py src/ui/b.py README.md src/new.py other; do echo after > $f; done; rm told"
    plan = _plan(
        {"id": "a", "description": "Change all.", "role": "r", "edits": True, "engine": "sh"},
        engines={"sh": {"use": "command", "command": ["sh", "-c", script]}},
        roles={"r": {"owns": ["src/**"], "avoids": ["src/ui/**"]}},
    )
    async with AsyncParallelAI(here) as ai:
        document = await ai.execute(plan, apply=True)
    change = document.tasks[0].change
    assert change is not None
    assert sorted(change.files) == ["src/a.py", "src/new.py"]
    assert sorted(change.kept_out) == ["README.md", "other", "src/ui/b.py"]
    assert (here / "src/a.py").read_text() == "after\n"
    assert (here / "README.md").read_text() == "before\n"
