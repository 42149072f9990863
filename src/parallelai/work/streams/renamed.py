"""A plan by another name: it would do again what was begun, or has landed, under the name that it had before."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from parallelai.errors import UsageError
from parallelai.results.printable import visible
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams, is_finished


def refuse_renamed(
    streams: Streams, root: Path, plan: str, works: Mapping[str, str], *, is_anew: bool
) -> None:
    """Refuse a plan whose workstreams belong to one that is not where it was. Raises `UsageError`.

    Args:
        plan: what the plan is known by now.
        works: its workstreams' descriptions, by their names.
        is_anew: what is finished is done again in any case, or was not there when the run began.
    """
    mine = [
        each
        for each in streams.all()
        if each.name in works and _is_same(each, works[each.name], is_anew) and _has_moved(root, plan, each)
    ]
    if not mine:
        return
    old = mine[0].plan
    named = ", ".join(f"`{each.name}`" for each in mine if each.plan == old)
    said = f"{named} of `{visible(plan)}` belong{'s' if ',' not in named else ''} to `{visible(old)}`"
    back = f"mv {shlex.quote(plan)} {shlex.quote(old)} && parallelai work run {shlex.quote(old)}"
    raise UsageError(
        f"{said}, which is not there any more: a plan is known by its path",
        next=f"if it was renamed, `{back}` goes on with it; {_otherwise(plan, old, mine)}",
    )


def _is_same(stream: Stream, description: str, is_anew: bool) -> bool:
    """Whether a workstream is the plan's own: one that is finished may only have lent its name."""
    return not is_finished(stream) or (not is_anew and stream.description == description)


def _has_moved(root: Path, plan: str, stream: Stream) -> bool:
    return stream.plan != plan and not (root / stream.plan).exists()


def _otherwise(plan: str, old: str, mine: list[Stream]) -> str:
    left = next((each for each in mine if each.plan == old and not is_finished(each)), None)
    if left is not None:
        return f"if not, `parallelai work drop {shlex.quote(left.name)}` gives it up"
    return f"if not, `parallelai work run {shlex.quote(plan)} --new` does all of it anew"
