"""Which workstreams may land by hand: those that are ready, and whose dependencies are on the target."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from parallelai.client.workstreams.arrivals import now_in, result_of, told
from parallelai.errors import ParallelAIError, Trespass, UsageError
from parallelai.git.repository import Repository
from parallelai.plan.model import Plan
from parallelai.records import ErrorRecord, TaskResult
from parallelai.run.validation import record_of
from parallelai.work.conflicts.advice import left_unsettled, marked, marked_branch, what_to_do
from parallelai.work.guard import words
from parallelai.work.guard.rules import BY_PERSON, LEASABLE
from parallelai.work.landing.records import Arrival, Candidate, Preview
from parallelai.work.landing.session import ALREADY
from parallelai.work.putting_back import by_hand
from parallelai.work.streams import taking_over
from parallelai.work.streams.landed import gone, is_taken_over
from parallelai.work.streams.markers import brought, places
from parallelai.work.streams.moved import moved
from parallelai.work.streams.record import KeptOut, Landed, Stream, described, how_taken_back, is_undone
from parallelai.work.streams.registry import Streams, is_finished

MOST_NAMED = 10
"""How many files a command that is proposed names."""
_BY_LEAVE = frozenset(map(words.why, (*LEASABLE, *BY_PERSON)))
"""Why files are kept out that a person may give leave for."""


class NothingReady(ParallelAIError):
    """Workstreams are there, and none may land yet."""

    kind = "unavailable"
    exit_code = 4


async def ready(
    repository: Repository, streams: Streams, names: Sequence[str], left: Collection[str] = ()
) -> list[Stream]:
    """Give the workstreams that are meant: those named, or all that are ready but `left`.

    One that had landed, and is not on its target any more, is ready again as long as its branch is there. Nothing
    is written. Raises `UsageError` where one may not land, and `NothingReady` where none is ready.
    """
    if not names:
        found = [each for each in streams.all() if each.state == "done" and each.name not in left]
    else:
        named = [streams.find(name) for name in names]
        lost = await gone(repository, named)
        found = [await _again(repository, each) if each.name in lost else _able(each) for each in named]
    if not found:
        raise NothingReady("nothing is ready to land", next="`parallelai work status` says what is missing")
    if len({each.run for each in found}) > 1:
        raise UsageError("these workstreams are of several runs", next="land those of one run at a time")
    return found


async def there_already(
    repository: Repository, streams: Streams, names: Sequence[str]
) -> tuple[dict[str, TaskResult], list[str]]:
    """Part those named into rows of what the target has already, by name, and the names of what may be to land."""
    landed = [each for each in map(streams.find, names) if each.state == "landed"]
    lost = await gone(repository, landed)
    there = {each.name: await _there(repository, each) for each in landed if each.name not in lost}
    return there, [name for name in names if name not in there]


async def _there(repository: Repository, stream: Stream) -> TaskResult:
    """Nothing is to land of one, unless more was done in its worktree since."""
    tip = await repository.commit(f"refs/heads/{stream.target}") or stream.head
    how = stream.landed or Landed(stream.target, tip, tip, await repository.tree(tip))  # a person merged it
    if how.pending is not None and await is_taken_over(repository, how):
        how = dataclasses.replace(how, pending=None)
    now = await now_in(repository, stream)
    if now == stream.head or any([await repository.ancestor(now, each) for each in (tip, how.commit)]):
        about = described(dataclasses.replace(stream, landed=how))
        return result_of(Arrival(stream.name, how, notes=(ALREADY,)), about)
    said = f"`{stream.name}` is landed already, and has more by now"
    error = ErrorRecord("unavailable", said, next=finished(stream).next)
    return result_of(Arrival(stream.name, None, error), described(dataclasses.replace(stream, landed=None)))


def said_ready(streams: Streams, stream: Stream) -> str:
    """Say that a workstream is ready, and by which command it lands: with those that have to land before it."""
    known = map(streams.get, stream.depends_on)
    first = [each.name for each in known if each is not None and each.state != "landed"]
    after = f", after {', '.join(f'`{name}`' for name in first)}" if first else ""
    lands = shlex.join(["parallelai", "work", "land", *first, stream.name])
    return f"`{stream.name}` is ready to land{after}: `{lands}`"


def with_there(found: Preview, there: Mapping[str, TaskResult]) -> Preview:
    """What a landing would do, with what is said of those that their target has."""
    landed = (name for name, row in there.items() if row.error is None)
    refused = ((name, row.error.said) for name, row in there.items() if row.error is not None)
    return dataclasses.replace(found, landed=(*found.landed, *landed), refused=(*refused, *found.refused))


def finished(stream: Stream) -> UsageError:
    """What is told where nothing more can be done with a workstream that has landed, or was dropped."""
    name, plan, branch = (shlex.quote(each) for each in (stream.name, stream.plan, stream.branch))
    advice = f"`parallelai work start {plan} {name}` begins it anew"
    if stream.state == "landed" and Path(stream.worktree).is_dir():
        advice = (
            f"what you commit in `{stream.worktree}` now lands with `parallelai work land --branches {branch}`; "
            f"once that is done, {advice}"
        )
    if stream.landed is not None:
        advice = f"{advice}; `parallelai work undo {name}` takes back what landed"
    kept = f"; its work is kept in `{stream.patch}`" if stream.patch and stream.state == "dropped" else ""
    return UsageError(f"`{stream.name}` is {stream.state} already{kept}", next=advice)


def worktree_gone(repository: Repository, stream: Stream) -> UsageError:
    """What is told where a workstream is worked on, and somebody removed its folder, or moved it."""
    elsewhere = moved(repository, stream)
    if elsewhere is not None:
        return elsewhere
    again = f"`parallelai work start {shlex.quote(stream.plan)} {shlex.quote(stream.name)}`"
    said = f"the worktree of `{stream.name}` is gone: `{stream.worktree}`"
    return UsageError(said, next=f"{again} makes it again from its branch")


def _able(stream: Stream) -> Stream:
    if is_finished(stream):
        raise finished(stream)
    if stream.state != "done":
        raise UsageError(
            f"`{stream.name}` is not ready to land",
            next=f"`parallelai work done {stream.name}` says that it is",
        )
    return stream


async def _again(repository: Repository, stream: Stream) -> Stream:
    """One whose landing is gone, as ready to land. Raises `UsageError` where its branch is gone, too."""
    branch = await repository.commit(f"refs/heads/{stream.branch}")
    if branch is None or not await repository.ancestor(stream.head, branch):
        raise UsageError(
            f"{_lost(stream)}, and its branch is gone", next="`parallelai work run PLAN` does it anew"
        )
    return dataclasses.replace(stream, state="done", landed=None)


def refuse_empty(stream: Stream, root: Path) -> None:
    """Refuse what has changed nothing, because all of it was kept out. Raises `Trespass`."""
    out = [kept for kept in stream.kept_out if kept.paths]
    if not out:
        return
    patches = tuple(dict.fromkeys(kept.patch for kept in out if kept.patch is not None))
    again = _gives_leave(stream, out)
    raise Trespass(
        "\n".join((f"`{stream.name}` has changed nothing but what it may not change", *map(told, out))),
        next=f"{again}; by hand: {by_hand(root, patches[-1])}" if patches else again,
    )


def said_of_leave(stream: Stream, new: Sequence[KeptOut]) -> str:
    """Say how a person gives leave for what was kept out just now; nothing where that takes more than leave."""
    out = [kept for kept in new if kept.why in _BY_LEAVE]
    return _gives_leave(stream, out) if out else ""


def _gives_leave(stream: Stream, out: Sequence[KeptOut]) -> str:
    paths = tuple(dict.fromkeys(path for kept in out for path in kept.paths))
    return (
        f"`{words.gives_leave(stream.name, paths, MOST_NAMED)}` gives leave, and puts it back where it fits"
    )


async def missing(
    repository: Repository, streams: Streams, found: Sequence[Stream], tasks: Collection[str]
) -> Mapping[str, ErrorRecord]:
    """Give those of `found` whose dependencies neither are on the target nor land with them, and why.

    `tasks` are the plain tasks of their plan: these never land.
    """
    landing = {each.name for each in found}
    wanted = {other for each in found for other in each.depends_on} - landing - set(tasks)
    known = {other: streams.get(other) for other in wanted}
    lost = await gone(repository, [stream for stream in known.values() if stream is not None])
    missing: dict[str, ErrorRecord] = {}
    for each in found:
        for other in (name for name in each.depends_on if name in wanted):
            before = known[other]
            if before is None or before.landed is None:
                said = f"`{other}`, which it depends on, has not landed"
            elif other in lost:
                said = f"it depends on `{other}`: {_lost(before)}"
            else:
                continue
            missing[each.name] = ErrorRecord("unavailable", said, None, f"land `{other}` first")
    return missing


def left_out(waiting: Sequence[Stream], plans: Mapping[str, Plan]) -> dict[str, str]:
    """Name those that a landing of all leaves out, unless they are named, and say why.

    These are what a person took back, what nobody gave the leave that its plan asks for, and what depends on such.

    Args:
        waiting: those that are ready to land.
        plans: the plan of each run that they are of.
    """
    left = {each.name: why for each in waiting if (why := _why_left_out(each, plans[each.run])) is not None}
    while True:
        because = ((each.name, other) for each in waiting for other in each.depends_on if other in left)
        more = next(((name, other) for name, other in because if name not in left), None)
        if more is None:
            return left
        left[more[0]] = f"`{more[1]}`, which it depends on, is left out"


def _why_left_out(stream: Stream, plan: Plan) -> str | None:
    if is_undone(stream):
        return f"it {how_taken_back(stream)}: `parallelai work land {stream.name}` lands it again"
    asks = any(work.id == stream.name and work.approve for work in plan.works)
    if asks and not stream.is_approved:
        return f"it waits for a person's leave to land: `parallelai work approve {stream.name}`"
    return None


async def unsettled(repository: Repository, found: Sequence[Stream]) -> dict[str, ErrorRecord]:
    """Give those with conflicts that nobody settled, or with markers that nobody gave leave for."""
    kept = {}
    for each in found:
        left = await taking_over.unsettled(repository, each.base, each.head, each.unsettled)
        markers = () if left or each.is_approved else await brought(repository, each.base, each.head)
        if left:
            kept[each.name] = record_of(left_unsettled(each.name, left))
        elif markers:
            kept[each.name] = record_of(marked(each.name, markers))
    return kept


async def said_of_markers(repository: Repository, stream: Stream) -> str:
    """What a person should know of a workstream that is done with conflict markers in it; nothing without any."""
    markers = () if stream.is_approved else await brought(repository, stream.base, stream.head)
    if not markers:
        return ""
    return f"note: there are conflict markers in {places(markers)}: {what_to_do(stream.name)}"


async def without_markers(
    repository: Repository, candidates: Sequence[Candidate]
) -> tuple[list[Candidate], list[Arrival]]:
    """Part branches that no plan made into those that may land, and those that brought conflict markers."""
    able, held = [], []
    for each in candidates:
        markers = await brought(repository, each.base, each.commit)
        if markers:
            error = record_of(marked_branch(each.name, markers))
            held.append(Arrival(each.name, None, error))
        else:
            able.append(each)
    return able, held


def _lost(stream: Stream) -> str:
    where = f"landed as {stream.landed.commit[:10]}" if stream.landed is not None else "landed"
    return f"`{stream.name}` {where}, which is not on `{stream.target}` any more"
