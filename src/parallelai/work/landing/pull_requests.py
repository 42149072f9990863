"""Pull requests instead of landings (`via: pr`): each branch is tried on the target, pushed, and proposed.

GitHub's own program (`gh`) or GitLab's (`glab`) opens them, whichever is on the PATH and fits the remote.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from parallelai.errors import ParallelAIError, UsageError
from parallelai.git.repository import Repository
from parallelai.processes import Completed, environment, find, run_quick
from parallelai.records import ErrorRecord
from parallelai.work.landing import messages
from parallelai.work.landing.commits import words
from parallelai.work.landing.explaining import broken_gate, conflicts, fails_alone, of_error, waits_for
from parallelai.work.landing.judging import Judging
from parallelai.work.landing.merging import Merging
from parallelai.work.landing.push import Remote, push_commit, remote_of
from parallelai.work.landing.records import Arrival, Candidate, Plan
from parallelai.work.landing.target import Tip

_SECONDS = 120.0
_ADDRESS = re.compile(r"https?://[^\s\"'<>]+")
_PASSED = (
    *(
        "GH_TOKEN",
        "GITHUB_TOKEN",
        "GH_HOST",
        "GH_ENTERPRISE_TOKEN",
        "GITHUB_ENTERPRISE_TOKEN",
        "GH_CONFIG_DIR",
    ),
    *("GITLAB_TOKEN", "GITLAB_HOST", "GLAB_CONFIG_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"),
    *("http_proxy", "https_proxy", "no_proxy", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS"),
)
_VIEW = {
    "gh": (("pr", "--json=url,state,baseRefName"), "state", "baseRefName", "url"),
    "glab": (("mr", "--output=json"), "state", "target_branch", "web_url"),
}
"""How each program tells of what is open: its noun and option, and the names of state, target and address."""


class RequestError(ParallelAIError):
    """The host's program did not open a pull request."""

    kind = "rejected"
    exit_code = 4


class PullRequests:
    """Opens pull requests for candidates. Raises `UsageError` where there is no program, or no remote."""

    def __init__(self, repository: Repository, plan: Plan, merging: Merging, judging: Judging) -> None:
        self._repository = repository
        self._plan = plan
        self._merging = merging
        self._judging = judging

    async def open(self, candidates: Sequence[Candidate], tip: Tip) -> list[Arrival]:
        """Open one for each candidate that passes on the target; whose dependency has not landed has to wait."""
        remote = await remote_of(self._repository, self._plan.target)
        if remote is None:
            raise UsageError("pull requests need a remote", next="`git remote add origin ADDRESS`")
        host = await _host(self._repository, remote)
        names = {one.name for one in candidates}
        return [await self._one(one, names, tip, remote, host) for one in candidates]

    async def _one(
        self, candidate: Candidate, names: set[str], tip: Tip, remote: Remote, host: Host
    ) -> Arrival:
        name = candidate.name
        for need in candidate.depends_on:
            if need in names:
                return Arrival(name, error=waits_for(name, need, None), with_=(need,), waits_for=need)
        chain = await self._merging.chain(tip.commit, [candidate])
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
                return Arrival(name, error=ErrorRecord("rejected", f"`{branch}` was not pushed: {said}"))
            address = await host.open(candidate, branch, remote.branch)
        except ParallelAIError as error:
            return Arrival(name, error=of_error(error))
        return Arrival(name, flaky=verdict.flaky, notes=verdict.notes, next=address, pull_request=address)


@dataclass(frozen=True, slots=True)
class Host:
    """The program of a host, `gh` or `glab`, in the user's repository."""

    repository: Repository
    program: str
    path: str

    async def open(self, candidate: Candidate, branch: str, base: str) -> str:
        """Open a pull request, or find the one that is open; gives its address. Raises `RequestError`."""
        known = await self._known(branch, base)
        if known is not None:
            return known
        title, _, rest = messages.member(candidate, {}, None).partition("\n")
        body = rest.strip() or title
        if self.program == "gh":
            done = await self._run(
                *("pr", "create", f"--base={base}", f"--head={branch}", f"--title={title}", "--body-file=-"),
                stdin=body.encode(),
            )
        else:
            done = await self._run(
                *("mr", "create", f"--target-branch={base}", f"--source-branch={branch}"),
                *(f"--title={title}", f"--description={body}", "--yes"),
            )
        found = _ADDRESS.findall(os.fsdecode(done.stdout))
        if done.exit != 0 or not found:
            advice = f"`{self.program} auth status` tells whether you are logged in"
            raise RequestError(f"`{self.program}` opened no pull request: {words(done)}", next=advice)
        return str(found[-1])

    async def _known(self, branch: str, base: str) -> str | None:
        """The address of what is open for a branch; None where there is nothing, or the program is too old to say."""
        view, state, target, address = _VIEW[self.program]
        done = await self._run(view[0], "view", branch, view[1])
        try:
            told = json.loads(done.stdout)
            is_open = (str(told[state]).lower(), told[target]) in (("open", base), ("opened", base))
            return str(told[address]) if done.exit == 0 and is_open else None
        except (ValueError, KeyError, TypeError):
            return None

    async def _run(self, *arguments: str, stdin: bytes = b"") -> Completed:
        env = environment(env={"GH_PROMPT_DISABLED": "1", "NO_COLOR": "1"}, pass_env=_PASSED)
        call = functools.partial(
            run_quick, (self.path, *arguments), self.repository.root, _SECONDS, env=env, stdin=stdin
        )
        return await asyncio.to_thread(call)


async def _host(repository: Repository, remote: Remote) -> Host:
    """The program that fits the remote: GitLab's for an address that says so, else GitHub's first."""
    done = await repository.as_user("remote", "get-url", "--push", "--", remote.name)
    is_gitlab = b"gitlab" in done.stdout.lower()
    for program in ("glab", "gh") if is_gitlab else ("gh", "glab"):
        path = find(program)
        if path is not None:
            return Host(repository, program, path)
    raise UsageError(
        "pull requests are opened by `gh` or `glab`, and neither is installed",
        next="install one of them and log in, or land with `via: ref`",
    )
