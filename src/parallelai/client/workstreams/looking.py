"""How far workstreams are: from their records, what the events of their runs say, and what is in their worktrees."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from parallelai.client.project import OpenProject
from parallelai.client.recorded import plan_seen
from parallelai.client.runs import Runs
from parallelai.client.workstreams.conflicts_now import conflicts_now
from parallelai.client.workstreams.gates_of_config import over_config
from parallelai.client.workstreams.landed_branches import landed_branches
from parallelai.client.workstreams.seen import Seen
from parallelai.errors import ParallelAIError
from parallelai.git.repository import Repository, open_repository
from parallelai.records import Outcome
from parallelai.run.report import Report
from parallelai.work.landing.reverts import as_they_are
from parallelai.work.landing.waiting import Waiting, said_of, said_to, waiting
from parallelai.work.status.folding import Files, StreamStatus, count, status_of
from parallelai.work.status.progress import Watched
from parallelai.work.status.saying import said_lately
from parallelai.work.status.unstarted import unstarted
from parallelai.work.streams.landed import is_taken_over, strayed
from parallelai.work.streams.moved import back, moved_to
from parallelai.work.streams.now import current
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams, is_finished
from parallelai.work.streams.revisiting import is_unpushed


class Looking:
    """Looks at the workstreams of a project, and disturbs nobody."""

    def __init__(self, project: OpenProject, runs: Runs) -> None:
        self._project = project
        self._runs = runs
        self._streams = Streams(project.state)

    async def status(self, names: Sequence[str], *, is_all: bool) -> list[StreamStatus]:
        """See `Work.status`. Raises `UsageError` in a project that is no repository."""
        repository = await open_repository(self._project.root)
        known = await as_they_are(repository, self._streams.all())
        lost, pending = await strayed(self._project.root, known)
        runs = self._runs_of(known)
        seen = {run: self._seen(run) for run in runs}
        landed = {each.name for each in known if each.landed is not None} - lost
        unbegun = {each.name: each for run in runs for each in self._unstarted(seen[run], known, landed)}
        standing = {each.name: each for each in known}
        started = (
            [standing.get(name) or self._streams.find(name) for name in names if name not in unbegun]
            if names
            else [each for each in known if is_all or not is_finished(each) or each.name in lost | pending]
        )
        seen |= {run: self._seen(run) for run in {each.run for each in started} - seen.keys()}
        unpushed = await self._unpushed(repository, [each for each in known if each.name not in lost], seen)
        if unpushed and not names:
            shown = unpushed.union(each.name for each in started)
            started = [each for each in known if each.name in shown]
        standings = await waiting(repository, self._streams.worktrees) if started and pending else {}
        now = {each.name: await self._now(repository, each) for each in started}
        conflicts = await self._conflicts(repository, known, now) if started else {}
        found = []
        for stream in started:
            work = seen[stream.run].work(stream.name)
            progress = seen[stream.run].watched.of(stream.name)
            status = status_of(
                stream,
                progress,
                now=datetime.now(UTC),
                todo=work.todo if work is not None else (),
                checks=len(work.checks) if work is not None else 0,
                files=await self._files(repository, stream, now[stream.name]),
                landed=landed,
                words=self._words(stream.run, progress.stream),
                is_lost=stream.name in lost,
                waits=said_to(stream, standings) if stream.name in pending else None,
                is_interrupted=self._runs.is_interrupted(stream.run),
                is_at_rest=not self._is_live(stream.run),
                conflicts=conflicts.get(stream.name),
            )
            if status.is_ready or not self._is_live(stream.run):
                status = await _not_settled(repository, stream, status)
            if stream.name in unpushed:
                status = _not_pushed(status)
            found.append(_where_it_is(repository, stream, status))
        return found + [each for each in unbegun.values() if not names or each.name in names]

    async def landed(self) -> frozenset[str]:
        """See `Work.landed`."""
        known = await as_they_are(await open_repository(self._project.root), self._streams.all())
        lost, pending = await strayed(self._project.root, known)
        return frozenset({each.name for each in known if each.landed is not None} - lost - pending)

    def killed(self) -> tuple[str, ...]:
        """See `Work.killed`."""
        resting = [each for each in self._streams.open() if self._runs.is_interrupted(each.run)]
        return tuple(
            f"nobody works on `{plan}` now: its run was interrupted; `parallelai work run {shlex.quote(plan)}`"
            " goes on with it"
            for plan in dict.fromkeys(each.plan for each in resting)
        )

    async def waiting(self) -> tuple[Waiting, ...]:
        """See `Work.waiting`."""
        if not self._project.has_store:
            return ()
        try:
            repository = await open_repository(self._project.root)
        except ParallelAIError:  # reviews need no repository
            return ()
        found = await waiting(repository, self._streams.worktrees)
        names = await self._beside(repository) if found else {}
        return tuple(
            Waiting(
                target, standing.pending, names.get(standing.pending, ()), said_of(standing), standing.next
            )
            for target, standing in found.items()
            if standing.pending is not None
        )

    async def _beside(self, repository: Repository) -> dict[str, tuple[str, ...]]:
        """The branches without a plan that landed beside their target, and are not taken over, by where they are."""
        taken = {name for each in self._streams.all() for name in (each.name, each.branch)}
        found: dict[str, tuple[str, ...]] = {}
        for name, each in (await landed_branches(repository, self._project.store.journal)).items():
            landed = each.landed
            if name in taken or landed is None or landed.pending is None:
                continue
            if not await is_taken_over(repository, landed):
                found[landed.pending] = (*found.get(landed.pending, ()), name)
        return found

    def _runs_of(self, known: Sequence[Stream]) -> tuple[str, ...]:
        """The runs whose plans may have workstreams that are not started: of those worked on, and the last one."""
        runs = dict.fromkeys(each.run for each in known if not is_finished(each))
        if known:
            runs[max(known, key=lambda each: each.started_at).run] = None
        latest = self._project.store.journal.latest() if self._project.has_store else None
        if latest is not None and latest.kind == "execute":
            runs[latest.id] = None
        return tuple(runs)

    def _seen(self, run: str) -> Seen:
        """Fold a run's events."""
        streams = (each.name for each in self._streams.all() if each.run == run)
        root, standing = self._project.root, self._project.settings.vars.keys()
        seen = Seen(Report(), Watched(streams), lambda created: plan_seen(created, root, standing))
        if self._runs.is_kept(run):  # of one that was deleted, its workstreams' records say all that is known
            for event in self._runs.events(run):
                seen.take(event)
        return seen

    def _unstarted(
        self, seen: Seen, known: Sequence[Stream], landed: Collection[str]
    ) -> Iterator[StreamStatus]:
        run = seen.report.run
        targets = [each.target for each in known if each.run == run]
        done = {
            *landed,
            *(name for name, row in seen.report.results.items() if row.result.status is Outcome.OK),
        }
        started = {each.name for each in known}
        if seen.report.order:  # with `--only` a run is about some of its plan
            started |= {work.id for work in seen.plan.workstreams if work.id not in seen.report.order}
        target = targets[0] if targets else None
        limits = seen.limits if run and self._is_live(run) else None
        path = seen.report.created.plan if seen.report.created is not None else None
        return unstarted(
            seen.plan,
            seen.watched,
            started=started,
            done=done,
            target=target,
            limits=limits,
            path=path,
        )

    async def _unpushed(
        self, repository: Repository, known: Sequence[Stream], seen: Mapping[str, Seen]
    ) -> frozenset[str]:
        """Name those of runs that were looked at whose plan pushes what landed, and that is on no remote."""
        by_target: dict[str, list[Stream]] = {}
        for each in known:
            if not is_unpushed(each) or each.run not in seen or self._is_live(each.run):
                continue
            landing = over_config(seen[each.run].plan, self._project.settings).landing
            if landing.push and landing.via == "ref":
                by_target.setdefault(each.target, []).append(each)
        if not by_target:
            return frozenset()
        from parallelai.work.landing.push import not_there  # with what lands: seldom needed here

        found: set[str] = set()
        for target, landed in by_target.items():
            commits = {each.name: each.landed.commit for each in landed if each.landed is not None}
            off = await not_there(repository, target, frozenset(commits.values()))
            found.update(name for name, commit in commits.items() if commit in off)
        return frozenset(found)

    def _is_live(self, run: str) -> bool:
        return self._project.has_store and self._project.store.journal.is_owned(run)

    def _words(self, run: str, attempt: int | None) -> str | None:
        """What an assistant says just now, if it works."""
        if attempt is None or not self._is_live(run):
            return None
        return said_lately(self._project.state / "runs" / run / "attempts" / f"{attempt}.jsonl")

    async def _conflicts(
        self, repository: Repository, known: Sequence[Stream], now: Mapping[str, str | None]
    ) -> dict[str, frozenset[str]]:
        """What does not fit of those that no run carries out, by what is in their worktrees; a run looks itself.

        `now` has what was looked at already.
        """
        resting = [each for each in known if not is_finished(each) and not self._is_live(each.run)]
        if not any(each.name in now for each in resting):
            return {}
        commits = {}
        for each in resting:
            found = now[each.name] if each.name in now else await self._now(repository, each)
            commits[each.name] = found or each.head
        cache = self._project.state / "cache" / "conflicts"
        return await conflicts_now(repository, resting, commits, cache)

    async def _now(self, repository: Repository, stream: Stream) -> str | None:
        """What is in a worktree, as a commit; None where there is none to look at."""
        if is_finished(stream) or not Path(stream.worktree).is_dir():
            return None
        found = None
        try:
            found = await current(repository, stream)
        except* (
            ParallelAIError
        ):  # its folder is gone, or goes just now: it landed, or `work start` puts that right
            pass
        return found

    async def _files(self, repository: Repository, stream: Stream, now: str | None) -> Files | None:
        if now is None:
            return None
        try:
            return await count(repository.git, stream.base, now)
        except ParallelAIError:  # what it was cut from is gone
            return None


async def _not_settled(repository: Repository, stream: Stream, status: StreamStatus) -> StreamStatus:
    """The status of what has conflicts left since its target was brought in: it cannot land, whatever was before."""
    if not stream.unsettled or is_finished(stream):
        return status
    from parallelai.client.workstreams.landable import unsettled  # with what lands: seldom needed here

    left = (await unsettled(repository, [stream])).get(stream.name)
    if left is None:
        return status
    why = f"{left.said}; settle that, then `parallelai work done {shlex.quote(stream.name)}`"
    return dataclasses.replace(status, is_ready=False, why=why, next=None)


def _not_pushed(status: StreamStatus) -> StreamStatus:
    """The status of what landed, and was not pushed as its plan asks."""
    why = f"not pushed: `parallelai work land {shlex.quote(status.name)}` pushes it"
    return dataclasses.replace(status, is_push_left=True, why=why)


def _where_it_is(repository: Repository, stream: Stream, status: StreamStatus) -> StreamStatus:
    """The status with the folder that a worktree was moved to; nobody has looked there whether it was begun."""
    path = moved_to(repository, stream)
    if path is None:
        return status
    is_unseen = stream.state == "open" and status.stage == "waiting"
    why = f"its worktree was moved: `{back(path, stream)}` brings it back" if is_unseen else status.why
    return dataclasses.replace(status, worktree=str(path), why=why)
