"""What `work status` says of a run that is carried out, and what `work run` says of landings in the end."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from shops import shop_with

from parallelai import AsyncParallelAI
from parallelai.cli.carry import landing_notes
from parallelai.events import AttemptReserved, AttemptStarted, LimitReached, TaskStep
from parallelai.records import LimitKey, Outcome, RunDocument, TaskResult, Usage

PLAN = """\
version: 1
engines: {hand: {use: command, command: [python3, hand.py]}}
defaults: {engine: hand}
workstreams:
  core: {description: Core., owns: [src/core.py, go]}
  gui: {description: Gui., owns: src/gui.py, depends_on: core}
  docs: {description: Docs., owns: docs/**}
phases:
  - {name: first, tasks: [core, gui]}
  - {name: last, tasks: [docs]}
gates: {landing: ["python3 --version"]}
"""
HAND = """\
import pathlib, time
print("I look at the orders.", flush=True)
go = pathlib.Path("go")
while pathlib.Path.cwd().name == "core" and not go.exists():
    time.sleep(0.02)
go.unlink(missing_ok=True)
place = {"core": "src/core.py", "gui": "src/gui.py", "docs": "docs/a.md"}[pathlib.Path.cwd().name]
pathlib.Path(place).parent.mkdir(exist_ok=True)
pathlib.Path(place).write_text("x = 1\\n")
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a plan of three workstreams, one after the other."""
    return shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN, "hand.py": HAND})


def test_who_is_not_started_is_listed_with_what_it_waits_for(cli: Any, shop: Path) -> None:
    assert cli("work", "start", "plan.yaml", "core").code == 0

    rows = {row["name"]: row for row in cli("work", "status", "--json").document["workstreams"]}

    assert list(rows) == ["core", "gui", "docs"]
    assert rows["gui"]["stage"] == "waiting"
    assert rows["gui"]["worktree"] is None
    assert rows["gui"]["why"] == "not started: waits for `core`"
    assert rows["docs"]["why"] == "not started: waits for the phase `first`"
    alone = cli("work", "status", "gui").out
    assert "gui: parallelai/gui has no worktree yet\n  not started: waits for `core`\n" in alone
    assert "core" not in alone.splitlines()[0]
    cli("work", "status", "--write", "STATUS.md")
    assert "| gui | waiting |" in (shop / "STATUS.md").read_text()
    assert cli("work", "status", "nobody").code == 2


def test_who_came_into_the_plan_since_the_run_began_is_listed(cli: Any, shop: Path) -> None:
    head, _, rest = PLAN.partition("  gui:")
    begun = head.replace("[python3, hand.py]", "[python3, -c, 'exit(3)']") + rest.partition("\n")[2]
    plan = begun.partition("phases:")[0]
    (shop / "plan.yaml").write_text(plan.partition("  docs:")[0])
    assert cli("work", "run", "plan.yaml").code == 4
    (shop / "plan.yaml").write_text(
        plan.replace("owns: docs/**", "owns: docs/**, depends_on: core, todo: [one]")
    )
    assert cli("work", "run", "plan.yaml").code == 4

    rows = {row["name"]: row for row in cli("work", "status", "--json").document["workstreams"]}

    assert list(rows) == ["core", "docs"]
    assert (rows["docs"]["stage"], rows["docs"]["todo"]) == ("skipped", {"passed": 0, "of": 1})
    assert rows["docs"]["why"] == "not started: waits for `core`"
    (shop / "plan.yaml").write_text("workstreams: [")  # somebody is at it
    assert [row["name"] for row in cli("work", "status", "--json").document["workstreams"]] == ["core"]


async def test_who_waits_for_a_place_in_its_role_says_so_as_long_as_the_run_lives(
    cli: Any, shop: Path
) -> None:
    roles = "roles: {hands: {limits: {parallel: 1}}}\ndefaults: {engine: hand, role: hands}\n"
    plan = PLAN.partition("phases:")[0].replace("defaults: {engine: hand}\n", roles)
    (shop / "roles.yaml").write_text(plan)
    await asyncio.to_thread(cli, "work", "start", "roles.yaml", "core")
    async with AsyncParallelAI(shop) as ai:
        async with ai.project.store.journal.writer(ai.work.find("core").run) as writer:
            writer.append(AttemptReserved("hand", LimitKey("hand"), "plan"), task="core")
            writer.append(LimitReached("role", "hands", 1, 1))
            writer.append(TaskStep("prepare", "preparing"), task="docs")
            await writer.flush()
            live = (await ai.work.status(["docs"]))[0]
        killed = (await ai.work.status(["docs"]))[0]
    assert live.why == "not started: waits for the role `hands`: 1 of 1 at work"
    assert (killed.why, killed.next) == (
        "it is not started yet",
        "`parallelai work run roles.yaml` begins it",
    )
    assert live.next is None
    assert (live.stage, killed.stage, killed.activity) == ("preparing", "waiting", "waiting")


async def test_the_context_is_what_an_assistant_would_be_told_now_and_showing_it_takes_nothing_away(
    cli: Any, shop: Path
) -> None:
    async def told(name: str) -> dict[str, Any]:
        called = await asyncio.to_thread(cli, "work", "context", name, "--json")
        assert isinstance(called.document, dict)
        return called.document

    await asyncio.to_thread(cli, "work", "start", "plan.yaml", "core", "gui")
    before = await told("gui")
    await asyncio.to_thread(cli, "work", "reject", "gui", "--reason", "x is no name")
    async with AsyncParallelAI(shop) as ai:
        ai.work.streams.update("core", lambda it: dataclasses.replace(it, said="I made x."))

    after = await told("gui")

    heeded = after["text"].partition("## For you\n")[2].partition("\n## ")[0]
    others = after["text"].partition("## From the others\n")[2].partition("\n## ")[0]
    assert "## For you" not in before["text"]
    assert (": x is no name\n" in heeded, "I made x." in heeded) == (True, False), heeded
    assert "`core`, what it finished:\n```\nI made x.\n" in others, others
    assert {part["name"] for part in after["parts"]} - {part["name"] for part in before["parts"]} == {
        "words",
        "notes",
    }
    assert after["tokens"] > before["tokens"]
    assert await told("gui") == after
    assert "x is no name" not in (await told("core"))["text"]


async def test_whom_a_killed_run_worked_on_is_interrupted(cli: Any, shop: Path) -> None:
    await asyncio.to_thread(cli, "work", "start", "plan.yaml", "core")
    async with AsyncParallelAI(shop) as ai:
        async with ai.project.store.journal.writer(ai.work.find("core").run) as writer:
            writer.append(AttemptReserved("hand", LimitKey("hand"), "plan"), task="core")
            writer.append(AttemptStarted("hand"), task="core")
            await writer.flush()
            live = (await ai.work.status(["core"]))[0]
            told = ai.work.killed()
        killed = (await ai.work.status(["core"]))[0]
    assert (live.stage, live.why) == ("working", "it is being worked on")
    assert (killed.stage, killed.activity) == ("interrupted", "waiting")
    assert told == ()
    shown = (await asyncio.to_thread(cli, "work", "status")).out
    assert (
        "nobody works on `plan.yaml` now: its run was interrupted; `parallelai work run plan.yaml`" in shown
    )
    named = (await asyncio.to_thread(cli, "work", "status", "core")).out
    assert "\n  its run was interrupted: `parallelai work run plan.yaml` goes on with it\n" in named
    assert [text.count("`parallelai work run plan.yaml`") for text in (shown, named)] == [1, 1]


def test_what_is_said_below_the_table_is_not_said_in_it(cli: Any, shop: Path) -> None:
    own = "import pathlib\nfor it in ('src/core.py', 'README.md'):\n    pathlib.Path(it).write_text('y = 1\\n')\n"
    plan = PLAN.partition("  gui:")[0] + 'gates: {landing: ["no-such-program --all"]}\n'
    (shop / "hand.py").write_text(own)
    (shop / "plan.yaml").write_text(plan.replace("src/core.py", "src/**"))
    subprocess.run(["git", "commit", "-qam", "hand"], cwd=shop, check=True)
    run = cli("work", "run", "plan.yaml")
    assert run.code == 4
    assert "note: gate `no-such-program --all` could not be run: `no-such-program` was not found" in run.err

    whole, named = cli("work", "status").out, cli("work", "status", "core").out
    (row,) = cli("work", "status", "--json").document["workstreams"]

    assert "`no-such-program` was not found on PATH" in row["why"]
    assert row["next"].startswith("install `no-such-program`")
    for text in (whole, named):
        assert text.count("kept out: README.md") == 1
        assert text.count("not found") == 1
    assert f"\n  {row['why']}\n  next: {row['next']}\n  kept out: README.md" in named
    assert whole.endswith("\n`parallelai work status core` says what helps\n")


def test_a_live_run_shows_last_words_ends_who_waits_and_says_what_to_know_of_its_landings(
    cli: Any, shop: Path
) -> None:
    command = [sys.executable, "-m", "parallelai", "work", "run", "plan.yaml", "--json"]
    with subprocess.Popen(
        command, cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            words: dict[str, Any] = {}
            while not words.get("core"):  # until the assistant's stream has its first line
                assert run.poll() is None, run.communicate()
                time.sleep(0.1)
                called = cli("work", "status", "--json")
                words = {row["name"]: row["words"] for row in called.document.get("workstreams", ())}
            stopped = cli("work", "stop", "docs")  # which has neither begun nor a worktree
            there = cli("work", "attach", "core", "--print")
            (shop.parent / "shop-worktrees" / "core" / "go").write_text("")
            out, err = run.communicate()
        except BaseException:
            run.terminate()
            raise

    assert words == {"core": "I look at the orders.", "gui": None, "docs": None}
    assert (stopped.code, stopped.out) == (0, "ending `docs`; its worktree stays, if it has one\n")
    assert "the assistant is at work there now, and you would be two; `parallelai work send core" in there.err
    assert run.returncode == 4, err
    landed = {row["id"]: row["workstream"]["landed"] for row in json.loads(out)["tasks"] if row["workstream"]}
    assert "stays green with a syntax error" in landed["core"]["notes"][0]
    assert "notes of what landed:\n  core, gui: gate `python3 --version` stays green" in err
    rows = cli("work", "status", "--all", "--json").document["workstreams"]
    assert {row["name"]: row["stage"] for row in rows} == {
        "core": "landed",
        "gui": "landed",
        "docs": "cancelled",
    }


def document(*notes: tuple[str, ...]) -> RunDocument:
    rows = tuple(
        TaskResult(id=f"t{number}", status=Outcome.OK, workstream={"landed": {"notes": list(each)}})
        for number, each in enumerate(notes)
    )
    row = TaskResult(id="plain", status=Outcome.OK)
    return RunDocument("r-1", None, 0, Outcome.OK, 1.0, 1.0, {}, Usage(), tasks=(*rows, row))


def test_notes_of_landings_are_a_few_lines_each_note_once() -> None:
    settled = "`a.py` was settled by versions"
    assert landing_notes(document(("flaky \x1b[2J",), (settled, "flaky \x1b[2J"))) == [
        "notes of what landed:",
        "  t0, t1: flaky \\x1b[2J",
        f"  t1: {settled}",
        "  why: `parallelai work decisions`",
    ]
    assert landing_notes(document(())) == []
    many = landing_notes(document(tuple(map(str, range(15)))))
    assert many[-1] == "  and 5 more: `parallelai runs show r-1 --json`"
    assert len(many) == 12
    assert landing_notes(dataclasses.replace(document(), tasks=())) == []
