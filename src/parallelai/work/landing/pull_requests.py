"""Pull requests instead of landings (`via: pr`): each branch is tried on the target, pushed, and proposed.

GitHub's own program (`gh`) or GitLab's (`glab`) opens them, whichever is on the PATH and fits the remote.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import shlex
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from parallelai.errors import ParallelAIError, UsageError
from parallelai.git.repository import Repository
from parallelai.processes import Completed, environment, find, run_quick
from parallelai.records import ErrorRecord
from parallelai.work.landing import messages
from parallelai.work.landing.commits import words
from parallelai.work.landing.explaining import (
    broken_gate,
    conflicts,
    fails_alone,
    merged_there,
    of_error,
    waits_for,
)
from parallelai.work.landing.judging import Judging
from parallelai.work.landing.merging import Chain, Merging
from parallelai.work.landing.push import TOKENS, Remote, fetched, masked, push_commit, remote_of
from parallelai.work.landing.records import Arrival, Candidate, Plan
from parallelai.work.landing.session import ALREADY
from parallelai.work.landing.target import Target, Tip
from parallelai.work.streams.landed import landed_by_content
from parallelai.work.streams.record import Landed

_SECONDS = 120.0
_ADDRESS = re.compile(r"https?://[^\s\"'<>]+")
_PASSED = (
    *TOKENS,
    *("GH_HOST", "GH_CONFIG_DIR", "GITLAB_HOST", "GLAB_CONFIG_DIR"),
    *("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS"),
)
_OWNER = re.compile(r"[/:]([A-Za-z0-9][A-Za-z0-9-]*)/[^/:]+?/?$")
"""Whose repository an address names, on GitHub."""
_COMMAND = re.compile(r"^/", re.MULTILINE)
"""How a line of a description begins that GitLab takes for a command, such as `/merge` (quick actions)."""
_PLAIN = r"\\/"
_HOST = re.compile(r"(?:^[a-z+]+://(?:[^/@]*@)?|^(?:[^/@:]+@)?(?=[^/]+:))([A-Za-z0-9.-]+)")
"""Which machine an address names, as a URL or in the short form for ssh (git-clone(1), GIT URLS)."""


class RequestError(ParallelAIError):
    """The host's program did not open a pull request."""

    kind = "rejected"
    exit_code = 4


class PullRequests:
    """Opens pull requests for candidates. Raises `UsageError` where there is no program, or no remote."""

    def __init__(
        self, repository: Repository, plan: Plan, target: Target, merging: Merging, judging: Judging
    ) -> None:
        self._repository = repository
        self._plan = plan
        self._target = target
        self._merging = merging
        self._judging = judging

    async def open(self, candidates: Sequence[Candidate], tip: Tip) -> list[Arrival]:
        """Open one for each candidate that passes on the target; whose dependency has not landed has to wait."""
        remote = await remote_of(self._repository, self._plan.target)
        if remote is None:
            raise UsageError("pull requests need a remote", next="`git remote add origin ADDRESS`")
        host = await _host(self._repository, remote)
        chains = {one.name: await self._merging.chain(tip.commit, [one]) for one in candidates}
        there = {one.name for one in candidates if await self._is_there(one, chains[one.name], tip)}
        tree = await self._repository.tree(tip.commit)
        arrived = Landed(self._plan.target, tip.commit, tip.commit, tree, tip.pending)
        left = chains.keys() - there
        not_pulled = await self._not_pulled([one for one in candidates if one.name in left], tip, remote)
        return [
            Arrival(one.name, arrived, notes=(ALREADY,))
            if one.name in there
            else not_pulled.get(one.name) or await self._one(one, chains[one.name], left, tip, remote, host)
            for one in candidates
        ]

    async def _not_pulled(
        self, candidates: Sequence[Candidate], tip: Tip, remote: Remote
    ) -> dict[str, Arrival]:
        """What the remote's target has and the one here has not, by name: it is not to be proposed once more."""
        theirs = await fetched(self._repository, remote) if candidates else tip.commit
        if isinstance(theirs, ErrorRecord) or await self._repository.ancestor(theirs, tip.commit):
            return {}  # the push will tell what is wrong with the remote
        how = "--ff-only" if await self._repository.ancestor(tip.commit, theirs) else "--no-rebase"
        words = f"pull {how} {shlex.quote(remote.name)} {shlex.quote(remote.branch)}"
        error = merged_there(str(remote), self._plan.target, await self._target.by_hand(words))
        return {
            one.name: Arrival(one.name, error=error)
            for one in candidates
            if one.commit not in self._merging.stand_ins
            and await landed_by_content(self._repository, one.commit, theirs)
        }

    async def _is_there(self, candidate: Candidate, chain: Chain, tip: Tip) -> bool:
        """Whether the target has a candidate in other words: its host may have squashed or rebased what it merged."""
        if chain.members:
            return chain.members[0].tree == await self._repository.tree(tip.commit)
        was_taken_back = candidate.commit in self._merging.stand_ins
        return not was_taken_back and await landed_by_content(self._repository, candidate.commit, tip.commit)

    async def _one(
        self, candidate: Candidate, chain: Chain, names: Set[str], tip: Tip, remote: Remote, host: Host
    ) -> Arrival:
        name = candidate.name
        for need in candidate.depends_on:
            if need in names:
                return Arrival(name, error=waits_for(name, need, None), with_=(need,), waits_for=need)
        if not chain.members:
            return Arrival(name, error=conflicts(chain.clashes[0], (), self._plan.target))
        verdict = await self._judging.judge(chain.members[0].commit, tip.commit, (name,))
        try:
            broken_gate(verdict)
            if not verdict.ok:
                return Arrival(
                    name, error=fails_alone(name, verdict, candidate.worktree), flaky=verdict.flaky
                )
            branch = candidate.branch or f"parallelai/{name}"
            said, _ = await push_commit(self._repository, remote.name, candidate.commit, branch)
            if said is not None:
                said = f"`{branch}` was not pushed: {said}"
                return Arrival(name, error=ErrorRecord("rejected", said))
            address = await host.open(candidate, branch, remote.branch)
        except ParallelAIError as error:
            return Arrival(name, error=of_error(error))
        return Arrival(name, flaky=verdict.flaky, notes=verdict.notes, next=address, pull_request=address)


@dataclass(frozen=True, slots=True)
class Host:
    """The program of a host, `gh` or `glab`, in the user's repository.

    `owner` is whose repository is pushed to, as far as the address tells; `is_fork` says that `gh` proposes for the
    repository of somebody else.
    """

    repository: Repository
    program: str
    path: str
    owner: str | None = None
    is_fork: bool = False

    async def open(self, candidate: Candidate, branch: str, base: str) -> str:
        """Open a pull request, or find the one that is open; gives its address. Raises `RequestError`."""
        known = await self._known(branch, base)
        if known is not None:
            return known
        title, _, rest = messages.member(candidate, {}, None).partition("\n")
        body = rest.strip() or title
        if self.program == "gh":
            head = f"{self.owner}:{branch}" if self.is_fork else branch
            done = await self.run(
                *("pr", "create", f"--base={base}", f"--head={head}", f"--title={title}", "--body-file=-"),
                stdin=body.encode(),
            )
        else:
            done = await self.run(
                *("mr", "create", f"--target-branch={base}", f"--source-branch={branch}"),
                *(f"--title={title}", f"--description={_COMMAND.sub(_PLAIN, body)}", "--yes"),
            )
        found = _ADDRESS.findall(os.fsdecode(done.stdout))
        if done.exit != 0 or not found:
            said = f"`{self.program}` opened no pull request for `{branch}`, which is pushed: {masked(words(done))}"
            advice = f"`{self.program} auth status` tells whether you are logged in; then land it again"
            raise RequestError(said, next=advice)
        return str(found[-1])

    async def _known(self, branch: str, base: str) -> str | None:
        """The address of what is open for a branch; None where there is nothing, or the program is too old to say."""
        if self.program == "gh":
            # Not `pr view`, which takes a branch called `7` for the number of another one.
            asked = (f"--head={branch}", f"--base={base}", "--state=open")
            done = await self.run("pr", "list", *asked, "--json=url,isCrossRepository,headRepositoryOwner")
        else:
            ends = (f"--source-branch={branch}", f"--target-branch={base}")
            done = await self.run("mr", "list", *ends, "--output=json")  # of those that are open
        try:
            told = json.loads(done.stdout) if done.exit == 0 else None
            is_github = self.program == "gh"
            found = _of_github(told, self) if is_github else _of_gitlab(told, branch, base)
            return found if isinstance(found, str) else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    async def run(self, *arguments: str, stdin: bytes = b"") -> Completed:
        """Run the program as the user would, without questions. It may fail."""
        env = environment(env={"GH_PROMPT_DISABLED": "1", "NO_COLOR": "1"}, pass_env=_PASSED)
        call = functools.partial(
            run_quick, (self.path, *arguments), self.repository.root, _SECONDS, env=env, stdin=stdin
        )
        return await asyncio.to_thread(call)


def _of_github(told: Any, host: Host) -> Any:
    """The address of the first that is from the repository that is pushed to, in what `gh pr list` tells."""
    for row in told:
        login = (row.get("headRepositoryOwner") or {}).get("login")
        if row["isCrossRepository"] == host.is_fork and (not host.is_fork or _is_same(login, host.owner)):
            return row["url"]
    return None


def _is_same(login: Any, owner: str | None) -> bool:
    return isinstance(login, str) and owner is not None and login.casefold() == owner.casefold()


def _of_gitlab(told: Any, branch: str, base: str) -> Any:
    """The address of the first that is open, from the branch and for the base, in what `glab mr list` tells."""
    wanted = ("opened", base, branch)
    found = (
        row["web_url"]
        for row in told
        if (row["state"], row["target_branch"], row["source_branch"]) == wanted
        and row.get("source_project_id") == row.get("target_project_id")  # else a fork's
    )
    return next(found, None)


async def _host(repository: Repository, remote: Remote) -> Host:
    """The program that fits the remote: the one that its address names, else one that is logged in there."""
    done = await repository.as_user("remote", "get-url", "--", remote.name)
    address = os.fsdecode(done.stdout).strip()
    named = _OWNER.search(address)
    owner = named.group(1) if named else None
    found = [
        Host(repository, name, path, owner) for name in ("gh", "glab") if (path := find(name)) is not None
    ]
    if not found:
        raise UsageError(
            "pull requests are opened by `gh` or `glab`, and neither is installed",
            next="install one of them and log in, or land with `via: ref`",
        )
    return await _seen_as(found[0] if len(found) == 1 else await _fitting(found[0], found[1], address))


async def _fitting(gh: Host, glab: Host, address: str) -> Host:
    if "gitlab" in address.casefold():
        return glab
    name = _HOST.search(address)
    if name is None or "github" in name.group(1).casefold():
        return gh
    done = await gh.run("auth", "status", f"--hostname={name.group(1)}")
    return gh if done.exit == 0 else glab


async def _seen_as(host: Host) -> Host:
    """Ask `gh` for whose repository it proposes: with several remotes that may be the one that was forked."""
    remotes = (await host.repository.as_user("remote")).stdout.split()
    if host.program != "gh" or host.owner is None or len(remotes) < 2:
        return host
    done = await host.run("repo", "view", "--json=owner")
    try:
        login = json.loads(done.stdout)["owner"]["login"] if done.exit == 0 else host.owner
    except (ValueError, KeyError, TypeError):
        return host
    return replace(host, is_fork=isinstance(login, str) and not _is_same(login, host.owner))
