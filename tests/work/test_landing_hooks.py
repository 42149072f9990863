"""The user's hooks that look at files, run on what is to land before the gates: real git, confined as gates are."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from landing_support import Field, Gate, blocked, landed

from parallelai.events import GateEnded
from parallelai.records import ErrorRecord
from parallelai.work.gates.commands import Result
from parallelai.work.gates.memory import Memory
from parallelai.work.gates.running import Runs
from parallelai.work.gates.running import Setting as GateSetting
from parallelai.work.gates.trees import Settings, open_trees
from parallelai.work.guard.hooks import install
from parallelai.work.landing.hooks import Choice, CommitHooks, Seen, choose, judged
from parallelai.work.landing.lander import Lander
from parallelai.work.landing.records import Arrival, Candidate, Plan, Preview, Resolved

NO_TABS = 'git diff --cached --name-only | grep "^tab" && { echo "no tabs, please" >&2; exit 1; } || exit 0'


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path / "repo", {"a.txt": "1\n2\n3\n"})


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def hook(field: Field, name: str, text: str, mode: int = 0o755) -> Path:
    return script(field.root / ".git" / "hooks" / name, text, mode)


async def _with_lander(field: Field, plan: Plan, gates: Any, resolving: Any, work: Any) -> Any:
    logs = field.root.parent / "logs"
    async with open_trees(field.repository, Settings("r-hooks", logs)) as trees:
        runs = Runs(GateSetting(field.repository, trees, field.tell, logs, 20.0, Memory(None)))
        hooks = CommitHooks(field.repository, trees, runs, plan.target, 20.0)
        lander = Lander(field.repository, plan, gates, resolving, field.tell, ours=frozenset, hooks=hooks)
        return await work(lander)


def land(
    field: Field,
    branches: Sequence[Candidate],
    method: Any = "merge",
    gates: Gate | None = None,
    resolving: Any = None,
) -> dict[str, Arrival]:
    async def work(lander: Lander) -> list[Arrival]:
        return await lander.land(branches)

    found = asyncio.run(_with_lander(field, Plan("main", method), gates, resolving, work))
    return {one.name: one for one in found}


def preview(field: Field, branches: Sequence[Candidate], method: Any) -> tuple[str, ...]:
    async def work(lander: Lander) -> Preview:
        return await lander.preview(branches)

    found: Preview = asyncio.run(_with_lander(field, Plan("main", method), None, None, work))
    return found.notes


def ran(field: Field) -> list[tuple[str, bool]]:
    """The hooks that ran, by name, and whether they passed."""
    ended = [event for _, event in field.events if isinstance(event, GateEnded)]
    return [(event.command.removeprefix("git hook run "), event.ok) for event in ended]


# -- which hook, and what it says


@pytest.mark.parametrize(
    ("method", "name", "other"),
    [("merge", "pre-merge-commit", "pre-commit"), ("squash", "pre-commit", "pre-merge-commit")],
)
def test_a_hook_that_refuses_keeps_a_branch_from_landing_and_the_rest_goes_on(
    field: Field, method: Any, name: str, other: str
) -> None:
    hook(field, name, NO_TABS)
    hook(field, other, "exit 1")  # git does not run it for this way of landing
    branches = [field.branch(f"b{n}", {("tab" if n == 1 else f"f{n}"): "1"}) for n in range(4)]
    gate = field.gate(lambda _: True)
    arrivals = land(field, branches, method, gate)
    assert landed(arrivals) == {"b0", "b2", "b3"}
    error = arrivals["b1"].error
    assert error is not None
    assert error.kind == "gate_failed"
    assert error.said == f"`b1` is refused: the `{name}` hook failed (exit 1): tab; no tabs, please"
    assert error.where is not None
    assert "no tabs, please" in (field.root / error.where).read_text()
    assert {each for each, _ in ran(field)} == {name}
    refused = field.checkout.git("rev-parse", "b1^{tree}").strip()
    assert refused not in gate.judged  # no gate ran on what a hook refused


def test_no_hook_is_run_for_commits_that_are_replayed(field: Field) -> None:
    hook(field, "pre-commit", "exit 1")
    hook(field, "pre-merge-commit", "exit 1")
    assert landed(land(field, [field.branch("one", {"x": "1"})], "rebase")) == {"one"}
    assert not ran(field)
    assert preview(field, [field.branch("two", {"y": "1"})], "rebase") == (
        "the `pre-merge-commit` hook (`.git/hooks/pre-merge-commit`) is not run:"
        " git has none of this name for a rebase",
        "the `pre-commit` hook (`.git/hooks/pre-commit`) is not run: git has none of this name for a rebase",
    )


def test_good_branches_that_land_together_cost_one_run(field: Field) -> None:
    hook(field, "pre-merge-commit", "git diff --cached --name-only")
    branches = [field.branch(f"b{n}", {f"f{n}": "1"}) for n in range(5)]
    assert len(landed(land(field, branches))) == 5
    assert ran(field) == [("pre-merge-commit", True)]


def test_the_hook_is_not_asked_again_who_breaks_with_whom_when_a_gate_says_that(field: Field) -> None:
    hook(field, "pre-commit", "exit 0")
    branches = [field.branch(name, {name: "1"}) for name in ("x", "a", "b", "y")]
    gate = field.gate(lambda files: not {"x", "y"} <= set(files))
    assert blocked(land(field, branches, "squash", gate)) == {"y": ("x",)}
    assert len(ran(field)) == 5  # each on those before it, and y alone


def test_what_a_hook_said_is_remembered_until_it_is_another_hook(field: Field) -> None:
    refusing = hook(field, "pre-merge-commit", "exit 1")
    one = field.branch("one", {"x": "1"})

    async def work(lander: Lander) -> list[bool]:
        tries = []
        for _ in range(2):
            tries += [arrival.landed is not None for arrival in await lander.land([one])]
        hook(field, refusing.name, "exit 0")
        return [*tries, *(arrival.landed is not None for arrival in await lander.land([one]))]

    assert asyncio.run(_with_lander(field, Plan("main"), None, None, work)) == [False, False, True]
    assert ran(field) == [("pre-merge-commit", False), ("pre-merge-commit", True)]


class Settles:
    """Puts both sides' texts into a file."""

    async def failed(self, name: str) -> None:
        """Nothing is remembered here."""

    def __init__(self, field: Field) -> None:
        self.git = field.repository.git

    async def settle(self, ours: str, theirs: str, merged: Any, sides: Any, *, may_ask: bool) -> Any:
        blob = await self.git.line("hash-object", "-w", "--stdin", stdin=b"both\n")
        tree = await self.git.line("mktree", stdin=f"100644 blob {blob}\ta.txt\n".encode())
        return Resolved(tree, {"a.txt": "both"})


def test_a_merge_whose_conflict_was_settled_is_a_commit_to_git(field: Field) -> None:
    one = field.branch("one", {"a.txt": "one\n"})
    field.checkout.commit({"a.txt": "two\n"})
    hook(field, "pre-merge-commit", "exit 1")
    hook(field, "pre-commit", 'test "$(git rev-parse MERGE_HEAD)" = "$(git rev-parse one)" || exit 1')
    assert landed(land(field, [one], resolving=Settles(field))) == {"one"}
    assert ran(field) == [("pre-commit", True)]
    assert field.files()["a.txt"] == "both\n"


# -- what it sees


LOOK = """\
exec 1>&2
echo "branch $(git symbolic-ref HEAD)"
echo "head $(git rev-parse HEAD)"
echo "staged $(git diff --cached --name-status | tr '\\t\\n' ' ,')"
echo "changed $(git diff --name-only | tr '\\n' ',')"
echo "index $GIT_INDEX_FILE"
echo "prefix [$GIT_PREFIX]"
echo "editor $GIT_EDITOR"
echo "top $(test "$PWD" = "$(git rev-parse --show-toplevel)" && cat b.txt)"
echo "merging $(git rev-parse -q --verify MERGE_HEAD)"
echo "me $0 $#"
echo "mail $(git config user.email) $(git config --bool hooks.allownonascii)"
"""


def looked(text: str) -> list[str]:
    words = (
        "branch",
        "head",
        "staged",
        "changed",
        "index",
        "prefix",
        "editor",
        "top",
        "merging",
        "me",
        "mail",
    )
    return [line for line in text.splitlines() if line.startswith(words)]


@pytest.mark.parametrize(("method", "name"), [("merge", "pre-merge-commit"), ("squash", "pre-commit")])
def test_a_hook_sees_what_git_shows_it(field: Field, method: Any, name: str) -> None:
    """The same hook says the same, called by git itself for the same merge in the checkout."""
    field.checkout.git("config", "hooks.allowNonAscii", "true")
    one = field.branch("one", {"b.txt": "new\n", "a.txt": None})
    field.checkout.commit({"c.txt": "meanwhile\n"})
    hook(field, name, LOOK)
    before = field.tip()
    assert landed(land(field, [one], method)) == {"one"}
    (log,) = [event.log for _, event in field.events if isinstance(event, GateEnded)]
    ours = looked((field.root / log).read_text())
    field.checkout.git("reset", "-q", "--hard", before)
    if method == "merge":
        gits = git_says(field, "merge", "--no-ff", "--no-edit", "one")
    else:
        field.checkout.git("merge", "--squash", "one")
        gits = git_says(field, "commit", "-m", "x")
    assert len(ours) == 11
    assert ours == looked(gits)


def git_says(field: Field, *words: str) -> str:
    env = {**os.environ, "GIT_EDITOR": ":"}
    done = subprocess.run(
        ["git", *words], cwd=field.root, env=env, capture_output=True, text=True, check=True
    )
    return done.stderr


def test_a_hook_is_confined_as_a_gate_is(field: Field) -> None:
    loot = field.root / "loot"
    hook(field, "pre-commit", f"touch '{loot}' .git/mine; sh ./evil.sh; exit 0")
    one = field.branch("one", {"evil.sh": f"touch '{loot}'; git -C '{field.root}' tag evil\n"})
    assert landed(land(field, [one], "squash")) == {"one"}
    assert not loot.exists()
    assert not field.checkout.git("tag").strip()
    assert not (field.root / ".git/mine").exists()


def test_what_a_hook_changes_does_not_land_and_is_said(field: Field) -> None:
    hook(field, "pre-merge-commit", "echo formatted > b.txt; rm a.txt; echo new > c.txt; git add c.txt")
    arrivals = land(field, [field.branch("one", {"b.txt": "raw\n"})])
    assert landed(arrivals) == {"one"}
    assert field.files() == {"a.txt": "1\n2\n3\n", "b.txt": "raw\n"}
    assert arrivals["one"].notes == (
        "the `pre-merge-commit` hook changed `a.txt`, `b.txt`, `c.txt`; what was tried lands, without that",
    )


def test_a_hook_that_leaves_nothing_but_files_of_its_own_changes_nothing(field: Field) -> None:
    hook(field, "pre-commit", "mkdir .cache; echo x > .cache/x; touch b.txt; git status; git stash list")
    assert land(field, [field.branch("one", {"b.txt": "b\n"})], "squash")["one"].notes == ()


def test_an_index_that_is_none_any_more_is_told_of(field: Field) -> None:
    hook(field, "pre-commit", "rm .git/index; mkfifo .git/index")
    notes = land(field, [field.branch("one", {"b.txt": "b\n"})], "squash")["one"].notes
    assert "`.git/index`" in notes[0]


# -- where it lies


def test_a_hook_that_is_not_executable_is_ignored_with_a_hint(field: Field) -> None:
    hook(field, "pre-commit", "exit 1", 0o644)
    said = (
        "the `pre-commit` hook (`.git/hooks/pre-commit`) is not run: it is not executable, and git ignores it"
    )
    one = field.branch("one", {"b.txt": "b\n"})
    assert preview(field, [one], "squash") == (said,)
    arrivals = land(field, [one], "squash")
    assert landed(arrivals) == {"one"}
    assert arrivals["one"].notes == (said,)


def test_a_hook_of_the_project_is_the_one_that_lands(field: Field) -> None:
    """As in a checkout, into which git has put what it merges before it runs the hook."""
    field.checkout.git("config", "core.hooksPath", "tools/hooks")
    old = script(field.root / "tools/hooks/pre-merge-commit", "exit 1")
    field.checkout.git("add", ".")
    field.checkout.git("commit", "-q", "-m", "Hooks")
    base = field.tip()
    assert blocked(land(field, [field.branch("one", {"b.txt": "b\n"}, base=base)])) == {"one": ()}
    script(old, 'test "$0" = tools/hooks/pre-merge-commit')
    field.checkout.git("commit", "-q", "-a", "-m", "Better")
    better = field.tip()
    field.checkout.git("branch", "better")
    field.checkout.git("reset", "-q", "--hard", base)
    assert landed(land(field, [Candidate("better", better, base)])) == {"better"}
    gone = field.branch("gone", {"tools/hooks/pre-merge-commit": None}, base=better)
    assert land(field, [gone])["gone"].notes == (
        "the `pre-merge-commit` hook (`tools/hooks/pre-merge-commit`) is not run: what lands deletes it",
    )


def test_a_hook_that_git_ignores_in_the_checkout_is_brought_along(field: Field) -> None:
    """As husky lays them out: `.husky/_` is made by its installation, and runs what the project holds."""
    field.checkout.git("config", "core.hooksPath", ".husky/_")
    field.checkout.commit(
        {".husky/pre-commit": "grep -q tab ./* && { echo 'no tabs' >&2; exit 1; } || exit 0\n"}
    )
    base = field.tip()
    script(field.root / ".husky/_/pre-commit", '. "$(dirname "$0")/h"')
    script(field.root / ".husky/_/h", 'sh -e "$(dirname "$(dirname "$0")")/$(basename "$0")"', 0o644)
    (field.root / ".husky/_/.gitignore").write_text("*")
    good, bad = field.branch("good", {"g": "1"}, base=base), field.branch("bad", {"b": "tab"}, base=base)
    notes = preview(field, [good, bad], "squash")
    assert notes == ("the `pre-commit` hook (`.husky/_/pre-commit`) runs on what lands, before the gates",)
    arrivals = land(field, [good, bad], "squash")
    assert (landed(arrivals), set(blocked(arrivals))) == ({"good"}, {"bad"})
    assert arrivals["good"].notes == ()


def test_hooks_for_all_repositories_are_run(field: Field, tmp_path: Path) -> None:
    elsewhere = tmp_path / "all of them"
    script(elsewhere / "pre-merge-commit", '. "$(dirname "$0")/more"')
    script(elsewhere / "more", "echo no more >&2; exit 3")
    field.checkout.git("config", "core.hooksPath", str(elsewhere))
    arrivals = land(field, [field.branch("one", {"b.txt": "b\n"})])
    assert "(exit 3): no more" in str(arrivals["one"].error)


def test_hooks_behind_a_link_that_a_sandbox_does_not_show_are_run(field: Field, tmp_path: Path) -> None:
    script(tmp_path / "kept" / "pre-merge-commit", "echo behind it >&2; exit 3")
    (tmp_path / "link").symlink_to("kept")
    field.checkout.git("config", "core.hooksPath", str(tmp_path / "link"))
    arrivals = land(field, [field.branch("one", {"b.txt": "b\n"})])
    assert "(exit 3): behind it" in str(arrivals["one"].error)


def test_what_lies_there_and_is_no_file_is_no_hook(field: Field) -> None:
    hooks = field.root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    os.mkfifo(hooks / "pre-merge-commit")  # who reads it waits for ever
    assert landed(land(field, [field.branch("one", {"b.txt": "b\n"})])) == {"one"}


def test_a_hook_that_is_a_link_into_the_checkout_is_run(field: Field) -> None:
    made = script(field.root / "tools" / "check", "echo linked to >&2; exit 1")
    link = field.root / ".git" / "hooks" / "pre-merge-commit"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(made)
    arrivals = land(field, [field.branch("one", {"b.txt": "b\n"})])
    assert "linked to" in str(arrivals["one"].error)


def test_gits_own_sample_of_a_merges_hook_finds_the_one_of_a_commit(field: Field) -> None:
    sample = '. git-sh-setup\ntest -x "$GIT_DIR/hooks/pre-commit" && exec "$GIT_DIR/hooks/pre-commit"\n:'
    hook(field, "pre-merge-commit", sample)
    hook(field, "pre-commit", "echo by the sample >&2; exit 1")
    arrivals = land(field, [field.branch("one", {"b.txt": "b\n"})])
    assert "by the sample" in str(arrivals["one"].error)


@pytest.mark.parametrize("own", [None, "exit 0", "echo mine >&2; exit 1"])
def test_our_own_hook_for_people_says_nothing_of_landings(field: Field, own: str | None) -> None:
    if own is not None:
        hook(field, "pre-commit", own)
    asyncio.run(install(field.repository, ("false",)))
    one = field.branch("one", {"b.txt": "b\n"})
    shown = preview(field, [one], "squash")
    arrivals = land(field, [one], "squash")
    if own is None:
        why = "it checks what people commit"
        assert shown == (f"the `pre-commit` hook (`.git/hooks/pre-commit`) is not run: {why}",)
        assert not ran(field)
    if own is not None and "mine" in own:
        assert "mine" in str(arrivals["one"].error)
    else:
        assert (landed(arrivals), arrivals["one"].notes) == ({"one"}, ())


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"exit": 3, "said": "one\ntwo\n\x1b[31mno\x1b[0m\n"}, "(exit 3): one; two; [31mno[0m"),
        ({"exit": None, "trouble": "it was not done after 9 s"}, "(it was not done after 9 s)"),
    ],
)
def test_a_hook_that_fails_is_told_by_its_end_and_its_last_words(end: dict[str, Any], said: str) -> None:
    verdict = judged("pre-commit", Result("git hook run pre-commit", seconds=1.0, log="a.log", **end), ())
    assert (verdict.ok, verdict.hook) == (False, "pre-commit")
    assert verdict.error == ErrorRecord("gate_failed", f"the `pre-commit` hook failed {said}", "a.log")


@pytest.mark.parametrize(
    ("seen", "choice"),
    [
        (Seen(), Choice()),
        (Seen(disk=True), Choice(True, True)),
        (Seen(disk=True, head=True), Choice()),  # of another branch, which is checked out
        (Seen(lands=True, disk=False), Choice(True)),
        (Seen(lands=True, is_for_people=True), Choice(True)),
    ],
)
def test_the_hook_is_the_one_that_git_would_find(seen: Seen, choice: Choice) -> None:
    assert choose(seen) == choice
