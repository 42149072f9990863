"""Landing by hand: what `--all` leaves out, what is told of it, and what a deleted run leaves to go on with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

from parallelai.client import AsyncParallelAI
from parallelai.client.workstreams.landing_means import LandingMeans
from parallelai.client.workstreams.landings import Landings
from parallelai.errors import BusyError
from parallelai.events import RunCreated, RunEnded, RunStarted, TaskEnded, TaskExpanded
from parallelai.records import FREE, ErrorRecord, Outcome, TaskResult
from parallelai.results.document import exit_code
from parallelai.work.scratch.home import home
from parallelai.work.streams.locks import in_use, starting
from running import run_program

PLAN = """\
version: 1
workstreams:
  abe: {description: A., owns: src/abe.py}
  bob: {description: B., owns: src/bob.py, approve: true}
gates: {landing: ["true"], canary: "off"}
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


# -- what is there


def test_who_looks_where_nothing_is_started_sees_nothing(cli: Any, shop: Path) -> None:
    for verb in ("status", "conflicts"):
        called = cli("work", verb)
        assert (called.code, called.out) == (0, "no workstream is worked on\n")
    document = cli("work", "conflicts", "--fail", "--json").document
    assert (document["target"], document["names"], document["pairs"]) == ("main", [], [])
    assert cli("work", "conflicts", "--plan", "plan.yaml").code == 2


@pytest.mark.parametrize("words", [("done", "abe"), ("drop", "abe", "--yes")])
def test_nobody_judges_or_removes_what_a_run_begins_with_at_the_same_time(
    cli: Any, shop: Path, words: tuple[str, ...]
) -> None:
    assert cli("work", "start", "plan.yaml", "abe").code == 0
    there = shop.parent / "shop-worktrees" / "abe" / "src" / "abe.py"
    there.write_text("x = 1\n")
    lock = in_use(shop / ".parallelai" / "state", "abe")  # as a run that is about to begin with it
    try:
        refused = cli("work", *words)
        assert (refused.code, "another command works on `abe` now" in refused.err) == (2, True)
        assert there.read_text() == "x = 1\n"
        assert row(cli, "abe")["stage"] == "waiting"
    finally:
        lock.release()
    assert cli("work", *words).code == 0


def test_a_workstream_needs_no_process_to_keep_what_it_holds(cli: Any, shop: Path) -> None:
    (shop / "plan.yaml").write_text(f"{PLAN}workspace: {{needs: {{ports: 1}}}}\n")
    run_program(shop, "work", "start", "plan.yaml", "abe")

    said = cli("work", "ledger").out

    assert "kept until it has landed or is dropped" in said
    assert "gone" not in said
    assert cli("work", "ledger", "--json").document["held"][0]["is_kept"] is True


async def test_two_starts_of_a_plan_at_once_come_to_what_one_would(shop: Path) -> None:
    async with AsyncParallelAI(shop) as one, AsyncParallelAI(shop) as other:
        both = await asyncio.gather(*(each.work.start("plan.yaml") for each in (one, other)))

        made = sorted([it.is_new for it in started] for started in both)
        assert made == [[False, False], [True, True]]
        (later,) = [started for started in both if not started[0].is_new]
        assert later[0].notes == ("another start of this plan was waited for",)
        assert len({it.stream.run for started in both for it in started}) == len(one.runs.list()) == 1


async def test_a_start_that_does_not_end_is_waited_for_no_longer_than_that(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parallelai.work.streams.locks.START_SECONDS", 0.0)
    async with AsyncParallelAI(shop) as ai, starting(ai.project.state, "plan.yaml"):
        with pytest.raises(BusyError, match="another `work start` is at the worktrees of"):
            await ai.work.start("plan.yaml")


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


def test_what_is_to_be_settled_is_not_said_to_be_ready(cli: Any, ready: Path) -> None:
    worktree = ready.parent / "shop-worktrees" / "abe"
    (ready / "src" / "abe.py").write_text("x = 3\n")
    commit(ready, "theirs")
    assert row(cli, "abe")["is_ready"]
    assert "`src/abe.py` has to be settled" in cli("work", "sync", "abe").out

    found = row(cli, "abe")
    said = "`abe` cannot land: conflict markers are left in `src/abe.py`"
    assert (found["is_ready"], found["why"]) == (
        False,
        f"{said}; settle that, then `parallelai work done abe`",
    )
    assert said in cli("work", "land", "abe", "--dry-run").out

    (worktree / "src" / "abe.py").write_text("x = 1\n")
    assert cli("work", "done", "abe").code == 0
    assert row(cli, "abe")["is_ready"]


def test_a_run_by_hand_shows_what_landed(cli: Any, ready: Path) -> None:
    assert cli("work", "land", "abe").code == 0

    (task,) = cli("runs", "show", "--json").document["tasks"]
    assert (task["id"], task["status"]) == ("abe", "ok")
    assert "1 task: 1 ok" in cli("runs", "show").out
    assert {each["name"] for each in cli("work", "status", "--json").document["workstreams"]} == {"bob"}


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
        patched.setattr(LandingMeans, "parted", stopped)
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
    for stage, code in (("open", 3), ("done", 4), ("landed", 4)):
        row = TaskResult("abe", Outcome.BLOCKED, error=error, workstream={"stage": stage})
        assert exit_code([row]) == code


# -- a workstream's branch as any branch


def test_of_a_workstreams_branch_it_is_said_that_its_plans_word_does_not_count(cli: Any, ready: Path) -> None:
    land = ("work", "land", "--branches", "parallelai/bob", "one", "--gate", "true")
    said = (
        "`parallelai/bob` is workstream `bob` of plan.yaml, whose gates, and leave, do not count here:"
        " `parallelai work land bob` lands it by them"
    )
    assert f"note: {said}\n" in cli(*land, "--dry-run").out
    landed = cli(*land).out
    assert said in landed
    assert "`one` is workstream" not in landed
    assert "do not count" not in cli("work", "land", "abe").out


# -- a run after a start by hand

SERVED = """\
version: 1
engines: {sh: {use: command, command: [python3, agent.py]}}
defaults: {engine: sh}
workstreams:
  abe: {description: A., owns: src/abe.py}
gates: {landing: ["true"], canary: "off"}
"""
AGENT = """\
import pathlib, sys
sys.stdin.read()
path = pathlib.Path("src/abe.py")
is_first = not path.exists()
path.write_text("its = 1\\n")
sys.exit(is_first)
"""


@pytest.fixture
def begun(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The worktree of a workstream that a person started, in a plan with an engine."""
    root = shop_with(tmp_path, monkeypatch, {"served.yaml": SERVED, "agent.py": AGENT})
    assert cli("work", "start", "served.yaml").code == 0
    return root.parent / "shop-worktrees" / "abe"


@pytest.mark.parametrize("is_committed", [False, True])
@pytest.mark.parametrize("how", [(), ("--new",), ("--dry-run",)])
def test_no_assistant_begins_over_what_a_person_is_at(
    cli: Any, begun: Path, how: tuple[str, ...], is_committed: bool
) -> None:
    (begun / "src" / "abe.py").write_text("mine = 1\n")
    if is_committed:
        commit(begun, "mine")

    called = cli("work", "run", "served.yaml", *how)

    assert called.code == 2
    assert "nobody has called done: `abe` (`src/abe.py`)" in called.err
    assert "`parallelai work done abe`" in called.err
    assert "`parallelai work drop abe`" in called.err
    assert (begun / "src" / "abe.py").read_text() == "mine = 1\n"


def test_what_a_person_called_done_lands_as_it_is(cli: Any, begun: Path) -> None:
    (begun / "src" / "abe.py").write_text("mine = 1\n")
    assert cli("work", "run", "served.yaml").code == 2
    assert cli("work", "done", "abe").code == 0
    assert cli("work", "run", "served.yaml").code == 0
    assert Path("src/abe.py").read_text() == "mine = 1\n"


def test_what_a_person_reworks_after_a_refusal_is_not_begun_over_either(cli: Any, begun: Path) -> None:
    (begun / "src" / "abe.py").write_text("mine = 1\n")
    assert cli("work", "done", "abe").code == 0
    assert cli("work", "reject", "abe", "--reason", "wrong").code == 0
    (begun / "src" / "abe.py").write_text("mine = 2\n")
    assert cli("work", "run", "served.yaml").code == 2
    assert (begun / "src" / "abe.py").read_text() == "mine = 2\n"


@pytest.mark.parametrize("how", [(), ("--new",)])
def test_what_an_assistant_left_is_not_taken_for_a_persons(
    cli: Any, begun: Path, how: tuple[str, ...]
) -> None:
    assert cli("work", "run", "served.yaml").code == 4  # its first attempt fails
    assert (begun / "src" / "abe.py").exists()
    assert cli("work", "run", "served.yaml", *how).code == 0
    assert Path("src/abe.py").read_text() == "its = 1\n"


def test_what_is_done_lands_also_where_no_engine_is(cli: Any, ready: Path) -> None:
    called = cli("work", "run", "plan.yaml", "--only", "abe")
    assert called.code == 0
    assert "landed on main at" in called.out
    assert (ready / "src" / "abe.py").exists()


# -- commits of a person

PAIR = ("--author", "Pair <pair@example.org>")


def log(place: Path, form: str = "%an: %s") -> list[str]:
    return git(place, "log", f"--format={form}", "main..HEAD").splitlines()


def made(place: Path, said: str, files: dict[str, str], *more: str) -> str:
    """Commit files, as a person does; gives the commit."""
    for name, text in files.items():
        (place / name).write_text(text)
    git(place, "add", "-A")
    git(place, "commit", "-qm", said, *more)
    return git(place, "rev-parse", "HEAD")


def test_a_persons_commits_stay_as_they_are(cli: Any, begun: Path) -> None:
    first = made(begun, "Ticket 1: begin", {"src/abe.py": "x = 1\n"}, *PAIR)
    second = made(begun, "Ticket 2: go on", {"src/abe.py": "x = 2\n"})

    called = cli("work", "done", "abe")

    assert (called.code, "undone" in called.out) == (0, False)
    assert log(begun, "%H") == [second, first]
    assert cli("work", "land", "abe").code == 0
    assert git(Path(), "rev-parse", "main^2") == second


def test_what_a_person_has_not_committed_comes_on_top_of_their_commits(cli: Any, begun: Path) -> None:
    first = made(begun, "Ticket 1: begin", {"src/abe.py": "x = 1\n"}, *PAIR)
    (begun / "src" / "abe.py").write_text("x = 2\n")
    (begun / "other.py").write_text("not mine\n")

    assert "kept out: other.py" in cli("work", "done", "abe").out

    assert log(begun) == ["A: abe: A.", "Pair: Ticket 1: begin"]
    assert git(begun, "rev-parse", "HEAD^") == first
    assert git(begun, "diff", "--name-only", "main", "HEAD") == "src/abe.py"
    assert git(begun, "status", "--porcelain") == ""


def test_a_persons_rebase_onto_the_target_keeps_their_commits(cli: Any, begun: Path) -> None:
    made(begun, "Ticket 1: begin", {"src/abe.py": "x = 1\n"}, *PAIR)
    made(Path(), "meanwhile", {"late.py": "late = 1\n"})
    git(begun, "rebase", "-q", "main")
    tip = git(begun, "rev-parse", "HEAD")

    assert cli("work", "done", "abe").code == 0
    assert log(begun, "%H") == [tip]


TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


@pytest.mark.parametrize("bad", [{"src/app.py": "not = 'mine'\n"}, {"src/abe.py": f"t = '{TOKEN}'\n"}])
def test_commits_that_may_not_stay_are_told_by_the_one_that_stands_for_them(
    cli: Any, begun: Path, bad: dict[str, str]
) -> None:
    made(begun, "Ticket 1: begin", {"src/abe.py": "x = 1\n"}, *PAIR)
    made(begun, "Ticket 2: too much\n\nCo-authored-by: Third <third@example.org>", bad)
    # What they come to is good, and all the same the history is not.
    old = made(begun, "Ticket 3: take it back", {"src/app.py": "x = 1\n", "src/abe.py": "x = 1\n"})

    called = cli("work", "done", "abe")

    assert log(begun) == ["A: abe: A."]
    said = git(begun, "log", "-1", "--format=%B")
    assert "- Ticket 1: begin\n- Ticket 2: too much\n- Ticket 3: take it back\n" in said
    authors = git(begun, "log", "-1", "--format=%(trailers:key=Co-authored-by,valueonly)")
    assert authors.splitlines() == ["Pair <pair@example.org>", "Third <third@example.org>"]
    assert "3 commits were undone: what may stay is committed anew; `git log refs/parallelai/" in called.out
    assert f"up to `{old[:10]}`" in cli("work", "status", "abe").out
    assert cli("work", "land", "abe").code == 0
    cli("work", "clean")
    assert git(Path(), "for-each-ref", "--format=%(objectname)", "refs/parallelai/left") == old


def test_several_are_called_done_at_once_and_none_where_one_is_unknown(cli: Any, shop: Path) -> None:
    assert cli("work", "start", "plan.yaml").code == 0
    for name in ("abe", "bob"):
        (shop.parent / "shop-worktrees" / name / "src" / f"{name}.py").write_text("x = 1\n")

    assert cli("work", "done", "abe", "nobody").code == 2
    assert row(cli, "abe")["is_ready"] is False

    called = cli("work", "done", "abe", "bob")
    assert (called.code, called.out.count("is ready to land"), row(cli, "abe")["is_ready"]) == (0, 2, True)


def test_leave_to_change_a_file_that_is_not_there_says_so_and_what_may_be_meant(cli: Any, shop: Path) -> None:
    assert cli("work", "start", "plan.yaml").code == 0

    there = cli("work", "lease", "abe", "src/app.py")
    misspelt = cli("work", "lease", "abe", "src/apps.py")
    new = cli("work", "lease", "abe", "docs/guide.md")

    assert "not there" not in there.out
    assert "`src/apps.py` is not there yet, and may be made; did you mean `src/app.py`?\n" in misspelt.out
    assert new.out.endswith("`docs/guide.md` is not there yet, and may be made\n")
    assert (there.code, misspelt.code, new.code) == (0, 0, 0)
    folder = cli("work", "lease", "abe", "src")
    assert (folder.code, folder.err) == (
        2,
        "error: `src` is a folder\n  next: name the files in it, by their paths\n",
    )


def test_what_is_given_up_holds_nothing_that_was_merged_of_the_target(cli: Any, shop: Path) -> None:
    assert cli("work", "start", "plan.yaml", "abe").code == 0
    folder = shop.parent / "shop-worktrees" / "abe"
    (folder / "src" / "abe.py").write_text("x = 1\n")
    commit(folder, "mine")
    (shop / "other.txt").write_text("landed since\n")
    commit(shop, "other")
    git(folder, "merge", "-q", "main")
    said = cli("work", "drop", "abe", "--yes").out
    git(shop, "apply", said.split("`")[3])
    assert git(shop, "status", "--porcelain").splitlines() == ["?? src/abe.py"]


def test_of_a_worktree_that_was_moved_it_is_said_where_it_is_and_what_brings_it_back(
    cli: Any, shop: Path
) -> None:
    assert cli("work", "start", "plan.yaml", "abe").code == 0
    old, new = shop.parent / "shop-worktrees" / "abe", shop.parent / "elsewhere"
    (old / "src" / "abe.py").write_text("x = 1\n")
    git(shop, "worktree", "move", str(old), str(new))
    back = f"git worktree move {new} {old}"

    for words in (
        ("start", "plan.yaml", "abe"),
        ("done", "abe"),
        ("sync", "abe"),
        ("diff", "abe"),
        ("attach", "abe", "--print"),
        ("drop", "abe", "--yes"),  # which would find nothing to keep
    ):
        again = cli("work", *words)
        assert (again.code, f"`{back}` brings it back" in again.err) == (2, True), words
        assert f"was moved from `{old}` to `{new}`" in again.err

    assert f"its worktree was moved to `{new}`\n  {back}\n" in cli("work", "clean").out
    assert f"\nabe: parallelai/abe in {new}, moved from {old}\n" in cli("work", "status", "abe").out
    assert (row(cli, "abe")["worktree"], row(cli, "abe")["is_ready"]) == (str(new), False)
    assert row(cli, "abe")["why"] == f"its worktree was moved: `{back}` brings it back"
    git(shop, *back.split()[1:])
    assert cli("work", "start", "plan.yaml", "abe").code == 0
    assert cli("work", "done", "abe").code == 0
    assert row(cli, "abe")["is_ready"]


def test_what_was_merged_by_hand_is_no_difference_any_more(cli: Any, shop: Path) -> None:
    assert cli("work", "start", "plan.yaml", "abe").code == 0
    assert cli("work", "diff", "abe").out == "`abe` has changed nothing\n"
    folder = shop.parent / "shop-worktrees" / "abe"
    (folder / "src" / "abe.py").write_text("x = 1\n")
    commit(folder, "mine")
    (shop / "other.txt").write_text("theirs\n")
    commit(shop, "other")
    assert "+++ b/src/abe.py\n" in cli("work", "diff", "abe").out

    git(shop, "merge", "-q", "-m", "by hand", "parallelai/abe")

    assert cli("work", "diff", "abe").out == "`abe` is merged: its target has all of it\n"
    git(folder, "merge", "-q", "main")
    (folder / "src" / "more.py").write_text("x = 2\n")
    shown = cli("work", "diff", "abe").out
    assert [line for line in shown.splitlines() if line.startswith("+++")] == ["+++ b/src/more.py"]


def test_the_plan_itself_is_kept_out_of_what_a_person_did_also_where_all_is_owned(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = 'version: 1\nworkstreams: {abe: {description: A., owns: "**"}}\ngates: {canary: "off"}\n'
    root = shop_with(tmp_path, monkeypatch, {"plan.yaml": plan})
    assert cli("work", "start", "plan.yaml").code == 0
    there = tmp_path / "shop-worktrees" / "abe"
    (there / "src" / "abe.py").write_text("x = 1\n")
    (there / "plan.yaml").write_text(f"{plan}# mine\n")
    commit(there, "both")
    called = cli("work", "done", "abe")
    assert "kept out: plan.yaml (protected: a person has to give leave)" in called.out + called.err
    assert git(root, "diff", "--name-only", "main", "parallelai/abe").split() == ["src/abe.py"]
