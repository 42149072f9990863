"""Landing by hand: what `--all` leaves out, what is told of it, and what a deleted run leaves to go on with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

from parallelai.client import AsyncParallelAI
from parallelai.client.landings import Landings
from parallelai.events import RunCreated, RunEnded, RunStarted, TaskEnded, TaskExpanded
from parallelai.records import FREE, ErrorRecord, Outcome, TaskResult
from parallelai.results.document import exit_code
from parallelai.work.scratch.home import home

PLAN = """\
version: 1
workstreams:
  abe: {description: A., owns: src/abe.py}
  bob: {description: B., owns: src/bob.py, approve: true}
gates: {landing: ["python3 -c 'pass'"], canary: "off"}
"""
LEAVE = "bob: left out: it waits for a person's leave to land: `parallelai work approve bob`"
UNDONE = "abe: left out: it was taken back: `parallelai work land abe` lands it again"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a plan, and a branch `one` that no plan made."""
    root = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    git(root, "checkout", "-qb", "one")
    (root / "src" / "one.py").write_text("x = 1\n")
    commit(root, "one")
    git(root, "checkout", "-q", "main")
    return root


@pytest.fixture
def ready(cli: Any, shop: Path) -> Path:
    """The same, with both workstreams ready to land, and done by hand."""
    assert cli("work", "start", "plan.yaml").code == 0
    for name in ("abe", "bob"):
        (shop.parent / "shop-worktrees" / name / "src" / f"{name}.py").write_text("x = 1\n")
        assert cli("work", "done", name).code == 0
    return shop


def row(cli: Any, name: str) -> dict[str, Any]:
    (found,) = cli("work", "status", name, "--json").document["workstreams"]
    assert isinstance(found, dict)
    return found


# -- what all are


def test_all_are_those_that_a_person_wants(cli: Any, ready: Path) -> None:
    first = cli("work", "land", "--all")
    assert first.code == 0, first.err
    assert not list(home("any").parent.iterdir())  # nothing is left of what was only needed meanwhile
    assert first.out.splitlines()[-2:] == [LEAVE, "1 landed, 1 left out"]

    cli("work", "undo", "abe")
    before = git(ready, "rev-parse", "main")

    for more in ((), ("--dry-run",)):
        again = cli("work", "land", "--all", *more)
        assert (again.code, again.out.splitlines()) == (0, ["nothing is left to land", UNDONE, LEAVE])
    assert git(ready, "rev-parse", "main") == before


def test_leave_does_not_outlive_what_it_was_for(cli: Any, ready: Path) -> None:
    cli("work", "approve", "bob")
    assert cli("work", "land", "--all").out.endswith("2 of 2 landed\n")
    cli("work", "undo")
    cli("work", "done", "bob")  # it is taken up again

    assert cli("work", "land", "--all").out.splitlines()[-1] == LEAVE


def test_what_a_person_refused_says_so(cli: Any, ready: Path) -> None:
    cli("work", "reject", "bob", "--reason", "the name is wrong")

    found = row(cli, "bob")
    assert found["stage"] == "rejected"
    assert found["why"].startswith("rejected by ")
    assert ": the name is wrong; " in found["why"]

    cli("work", "done", "bob")
    assert row(cli, "bob")["stage"] == "queued"


# -- runs that were deleted


def test_a_deleted_run_is_in_nobodys_way(cli: Any, ready: Path) -> None:
    assert cli("work", "land", "abe").code == 0
    (run,) = cli("runs", "list", "--json").document["runs"]
    assert run["state"] == "by hand"
    resumed = cli("work", "resume")
    assert (resumed.code, "runs resume" in resumed.err) == (2, False)
    cli("runs", "delete", run["id"], "--yes")

    assert row(cli, "abe")["stage"] == "landed"
    assert cli("work", "status", "--all").code == 0
    assert cli("work", "status", "--write", "STATUS.md").code == 0
    logs = cli("work", "logs", "abe")
    assert (logs.code, "was deleted, and its logs with it" in logs.err) == (2, True)
    assert cli("work", "undo").out.startswith("abe: taken back from main")
    assert cli("work", "land", "bob").code == 0

    cli("runs", "delete", run["id"], "--yes")
    (ready / "plan.yaml").unlink()
    gone = cli("work", "undo", "bob")
    assert (gone.code, "its plan `plan.yaml` is gone" in gone.err) == (2, True)


# -- branches


def test_what_was_there_already_is_not_counted_as_landed(cli: Any, shop: Path) -> None:
    git(shop, "branch", "old", "main")

    landed = cli("work", "land", "--branches", "one", "old", "--push", "--json")

    assert landed.code == 4  # there is no remote
    assert {row["id"]: row["workstream"]["stage"] for row in landed.document["tasks"]} == {
        "one": "landed",
        "old": "there",
    }
    again = cli("work", "land", "--branches", "one", "old", "--push")
    assert "one: not pushed: the repository has no remote" in again.out
    assert again.out.endswith("\n2 were there already\n")
    resumed = cli("runs", "resume")
    assert "call `parallelai work land --branches old one --target main` again" in resumed.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("main",), "`main` is the target itself"),
        (("one", "--engine", "nope"), "there is no engine `nope`"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(
    cli: Any, shop: Path, words: tuple[str, ...], said: str
) -> None:
    called = cli("work", "land", "--branches", *words)

    assert (called.code, said in called.err) == (2, True)
    assert cli("runs", "list", "--json").document["runs"] == []


def test_ctrl_c_says_what_goes_on(cli: Any, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Landings, "land_branches", stopped)
    called = cli("work", "land", "--branches", "one", "--gate", "make test")

    assert called.code == 130
    assert (
        called.err == "interrupted\n"
        "  next: call `parallelai work land --branches one --gate 'make test'` again; what had landed stays\n"
    )


def test_what_goes_on_with_a_landing_of_branches_is_the_same_call(
    cli: Any, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Landings, "_candidates", stopped)
        assert cli("work", "land", "--branches", "one", "--gate", "make test").code == 130

    shown = cli("runs", "show").err
    assert "go on with `parallelai work land --branches one --target main --gate 'make test'`" in shown
    assert cli("work", "land", "--branches", "one", "--gate", "false").code == 4
    assert "not landed: one\n" in cli("runs", "show").out


# -- runs


def test_a_run_whose_last_workstream_landed_since_has_not_failed(cli: Any, shop: Path) -> None:
    ended = {status: TaskEnded(TaskResult("abe", status)) for status in (Outcome.FAILED, Outcome.OK)}
    events = (
        RunCreated("execute", "plan.yaml", str(shop), "1", {}, {}),
        RunStarted(1, "here", 1, "dag"),
        TaskExpanded(("abe",)),
        RunEnded(Outcome.FAILED, 4, 1.0, 1.0, {Outcome.FAILED: 1}, FREE),
    )

    async def write(*data: Any) -> None:
        async with AsyncParallelAI(shop) as ai, ai.project.store.journal.writer("r-1") as writer:
            for each in data:
                writer.append(each, task="abe" if isinstance(each, TaskEnded) else None)
            await writer.flush()

    def state() -> str:
        (run,) = cli("runs", "list", "--json").document["runs"]
        return str(run["state"])

    asyncio.run(write(*events[:3], ended[Outcome.FAILED], events[3]))
    assert state() == "failed"
    asyncio.run(write(ended[Outcome.OK]))
    assert state() == "ok"
    compared = cli("runs", "compare", "latest")
    assert (compared.code, "there is only one run" in compared.err) == (2, True)


def test_what_landed_and_was_not_pushed_was_attempted() -> None:
    error = ErrorRecord("unavailable", "not pushed: the repository has no remote")

    assert exit_code([TaskResult("abe", Outcome.OK, error=error)]) == 0
    assert exit_code([TaskResult("abe", Outcome.BLOCKED, error=error)]) == 3
