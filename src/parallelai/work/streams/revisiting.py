"""Which workstreams a run takes up again, of those that had ended before: what is not on the target is not done.

What a person took out on purpose (`work undo`, `work drop`) stays out until somebody asks for it. What went from the
target in another way, such as by `git reset`, is to be had: it lands again from its branch, or is begun anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from msgspec import Struct, field

from parallelai.events import WorkstreamRevisited
from parallelai.git.repository import Repository
from parallelai.work.streams.landed import gone
from parallelai.work.streams.record import Landed, Stream, how_taken_back, is_reverted, is_undone
from parallelai.work.streams.registry import Streams

Course = Literal["as-it-is", "land", "anew", "leave"]
"""as-it-is: go on as its record says; land: its work is done, and lands, or is pushed, again; anew: nothing of it
holds."""


class Revisited(Struct):
    """What became of the workstreams of a plan, by their names.

    Attributes:
        performed: their work is done, and has only to land.
        anew: what is known of their work holds no more.
        left: they are not done, and why.
        news: what is to be written down about it.
    """

    performed: set[str] = field(default_factory=set)
    anew: set[str] = field(default_factory=set)
    left: dict[str, str] = field(default_factory=dict)
    news: list[WorkstreamRevisited] = field(default_factory=list)


async def revisit(
    repository: Repository,
    streams: Streams,
    plan: str,
    is_asked: Callable[[str], bool],
    *,
    is_pushed: bool = False,
) -> Revisited:
    """Decide for each workstream of a plan, and put its record right.

    Args:
        is_asked: whether somebody asked for a workstream as such: by `--new`, or by its name.
        is_pushed: whether the plan pushes what landed.
    """
    found = Revisited()
    mine = [each for each in streams.all() if each.plan == plan]
    lost = await gone(repository, mine)
    for stream in mine:
        has_branch = stream.name in lost and await _has_branch(repository, stream)
        match course_of(
            stream,
            is_lost=stream.name in lost,
            has_branch=has_branch,
            is_asked=is_asked(stream.name),
            is_pushed=is_pushed,
        ):
            case "as-it-is" if stream.state == "done":
                found.performed.add(stream.name)
            case "land":
                why = _why_taken_up(stream, is_lost=stream.name in lost)
                found.performed.add(stream.name)
                found.news.append(WorkstreamRevisited(stream.name, False, why))
                streams.update(stream.name, lambda it: replace(it, state="done", landed=None))
            case "anew":
                found.anew.add(stream.name)
                found.news.append(WorkstreamRevisited(stream.name, True, _why_taken_up(stream, is_lost=True)))
                streams.retire(stream.name)
            case "leave":
                found.left[stream.name] = why_left(stream)
    return found


def course_of(
    stream: Stream, *, is_lost: bool, has_branch: bool, is_asked: bool, is_pushed: bool = False
) -> Course:
    """Decide what becomes of one workstream; `is_lost`: its landing is not on the target any more. Pure."""
    if is_out(stream):
        if not is_asked:
            return "leave"
        return "anew" if stream.state == "dropped" else "land"
    if is_lost:
        return "land" if has_branch else "anew"
    return "land" if is_pushed and is_unpushed(stream) else "as-it-is"


def is_unpushed(stream: Stream) -> bool:
    """Say whether a workstream is on its target, and that has not been pushed since."""
    landed = stream.landed
    return stream.state == "landed" and landed is not None and landed.pushed is None and not landed.pending


def is_out(stream: Stream) -> bool:
    """Say whether a person took a workstream out on purpose."""
    return stream.state == "dropped" or is_undone(stream)


def why_left(stream: Stream) -> str:
    """Say why a workstream is not done, and what does it."""
    if stream.state == "dropped":
        return f"`{stream.name}` was given up; `--new` or `--only {stream.name}` does it again"
    return (
        f"`{stream.name}` {_how(stream)}; `work land {stream.name}`, `--new` or"
        f" `--only {stream.name}` lands it again"
    )


def landed_again(landed: Landed, before: Stream, notes: Sequence[str] = ()) -> Landed:
    """Note on a landing that an earlier one was taken back, as the workstream's record `before` says, and `notes`."""
    if before.undone is not None:
        notes = (*notes, f"{_how(before)} ({before.undone[:10]}); landed again as {landed.commit[:10]}")
    return replace(landed, notes=(*landed.notes, *notes))


async def _has_branch(repository: Repository, stream: Stream) -> bool:
    """Whether a workstream's work is there to be landed again."""
    branch = await repository.commit(f"refs/heads/{stream.branch}")
    return branch is not None and await repository.ancestor(stream.head, branch)


def _why_taken_up(stream: Stream, *, is_lost: bool) -> str:
    landed = stream.landed
    if landed is not None and not is_lost and is_unpushed(stream):
        return f"landed as {landed.commit[:10]}, and was not pushed"
    if landed is not None:
        return f"landed as {landed.commit[:10]}, which is not on `{landed.target}` any more"
    return "was given up" if stream.state == "dropped" else _how(stream)


def _how(stream: Stream) -> str:
    return how_taken_back(stream) if is_reverted(stream) else "was taken back by `work undo`"
