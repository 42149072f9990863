"""The landed target on its remote: a plain push, as the user's git is configured.

Where others pushed meanwhile, git rejects it. What they pushed is then fetched and landed here like any other
branch, gates included, and pushed again: the target's own commits stay its first parents.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Awaitable, Callable, Collection

from msgspec import Struct

from parallelai.git.repository import Repository
from parallelai.records import ErrorRecord
from parallelai.run.masking import Masker
from parallelai.work.landing.commits import words
from parallelai.work.landing.records import Arrival, Candidate
from parallelai.work.landing.target import Target, Tip

TRIES = 5
"""So often a push is tried, with what others pushed merged in between."""
TOKENS = ("GH_TOKEN", "GITHUB_TOKEN", "GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN", "GITLAB_TOKEN")
"""Variables by which git's helpers, and the hosts' programs, log in."""
_NO_REMOTE = "`git remote add origin ADDRESS`, then land again with `--push`"
_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
_REJECTED = ("[rejected]", "fetch first", "non-fast-forward", "failed to update ref", "cannot lock ref")
"""What git says where the branch is elsewhere there; the last ones, where it moved while it was pushed."""

Bring = Callable[[Candidate, Tip], Awaitable[Arrival]]
"""Lands on the target what others pushed."""


class Remote(Struct, frozen=True):
    """Where a branch is pushed to: the remote's name, and what the branch is called there."""

    name: str
    branch: str

    def __str__(self) -> str:
        return f"{self.name}/{self.branch}"


def pushed_to(where: Remote | str) -> str:
    """What is told of what was pushed."""
    return f"pushed to `{where}`"


async def push(repository: Repository, target: Target, bring: Bring) -> Remote | ErrorRecord:
    """Push the target; gives where it is now, else why it is not there. What has landed here stays."""
    remote = await remote_of(repository, target.name)
    if remote is None:
        return ErrorRecord("unavailable", "not pushed: the repository has no remote", next=_NO_REMOTE)
    advice = f"git push {remote.name} {target.name}:{remote.branch}"
    for _ in range(TRIES):
        tip = await target.tip()
        if tip.pending is not None:
            waits = f"not pushed: what landed waits on `{tip.pending}`"
            return ErrorRecord("conflict", waits, next=(await target.look()).next)
        said, is_rejected = await push_commit(repository, remote.name, tip.commit, remote.branch)
        if said is None:
            return remote
        if not is_rejected:
            return ErrorRecord("rejected", f"not pushed: {said}", next=advice)
        theirs = await fetched(repository, remote)
        if isinstance(theirs, ErrorRecord):
            return theirs
        if await repository.ancestor(theirs, tip.commit):  # nobody was faster
            return ErrorRecord("rejected", f"not pushed: {said}", next=advice)
        error = await _bring_theirs(remote, theirs, tip, target, bring)
        if error is not None:
            return error
    why = f"not pushed: others pushed to `{remote.name}` {TRIES} times meanwhile"
    return ErrorRecord("transient", why, next="land again", retry_helps=True)


async def push_commit(
    repository: Repository, remote: str, commit: str, branch: str
) -> tuple[str | None, bool]:
    """Push a commit to a branch; gives git's words where that failed, and whether others were faster."""
    refspec = f"{commit}:refs/heads/{branch}"
    done = await repository.as_user("push", "--porcelain", "--", remote, refspec)
    if done.exit == 0:
        return None, False
    answer = [line for line in os.fsdecode(done.stdout).splitlines() if line.startswith("!")]
    said = masked("; ".join(line.split("\t")[-1] for line in answer) or words(done))
    is_rejected = any(any(word in line for word in _REJECTED) for line in answer)
    return said, is_rejected


def masked(said: str) -> str:
    """What a program said, without the tokens that it was given, and without logins in addresses."""
    return _LOGIN.sub("", Masker.of_environment(os.environ, TOKENS).text(said))


async def remote_of(repository: Repository, branch: str) -> Remote | None:
    """Where a plain `git push` of a branch would go, by git's own settings; else `origin`, else the only one."""
    listed = os.fsdecode((await repository.as_user("remote")).stdout).split()
    merged = await _setting(repository, f"branch.{branch}.merge")
    upstream = await _setting(repository, f"branch.{branch}.remote")
    chosen = (
        await _setting(repository, f"branch.{branch}.pushRemote")
        or await _setting(repository, "remote.pushDefault")
        or upstream
    )
    if chosen is None:
        chosen = "origin" if "origin" in listed else listed[0] if len(listed) == 1 else None
    if chosen is None or chosen not in listed:
        return None
    is_tracked = chosen == upstream and merged is not None and merged.startswith("refs/heads/")
    return Remote(chosen, merged.removeprefix("refs/heads/") if merged and is_tracked else branch)


async def not_there(repository: Repository, target: str, commits: Collection[str]) -> frozenset[str]:
    """Give those commits of a target that its remote has not, as far as git knows: a person may have pushed them."""
    remote = await remote_of(repository, target)
    tip = await repository.commit(f"refs/remotes/{remote}") if remote is not None else None
    if tip is None:
        return frozenset(commits)
    listed = await repository.git.line("rev-list", "--ignore-missing", *commits, f"^{tip}", "--")
    return frozenset(commits) & frozenset(listed.split("\n"))


async def fetched(repository: Repository, remote: Remote) -> str | ErrorRecord:
    """The commit that a branch of a remote is at, which is here then, or why nobody can say."""
    kept = f"refs/parallelai/fetched/{remote.branch}"
    done = await repository.as_user(
        *("fetch", "--no-tags", "--no-write-fetch-head", "--quiet", "--"),
        *(remote.name, f"+refs/heads/{remote.branch}:{kept}"),
    )
    theirs = await repository.commit(kept)
    if done.exit != 0 or theirs is None:
        return ErrorRecord("transient", f"not pushed: {masked(words(done))}", retry_helps=True)
    await repository.git.attempt("update-ref", "-d", kept, theirs)
    return theirs


async def _bring_theirs(
    remote: Remote, theirs: str, tip: Tip, target: Target, bring: Bring
) -> ErrorRecord | None:
    """Land here what others pushed."""
    arrival = await bring(
        Candidate(str(remote), theirs, tip.commit, intent="what others pushed meanwhile"), tip
    )
    if arrival.error is None:
        return None
    said = f"not pushed: {arrival.error.said}"
    # Without a word on how, git refuses to pull what parted; a rebase would make what landed anew.
    advice = await target.by_hand(f"pull --no-rebase {remote.name} {shlex.quote(remote.branch)}")
    return ErrorRecord(arrival.error.kind, said, arrival.error.where, advice)


async def _setting(repository: Repository, key: str) -> str | None:
    done = await repository.as_user("config", "--get", key)
    return os.fsdecode(done.stdout).strip() or None if done.exit == 0 else None
