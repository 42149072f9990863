"""What a turn did to the user's repository beside its worktree, put right: settings, hooks, refs, stashes, HEAD, index.

A sandbox keeps programs from it; where there is none, all is seen to. `restore_settings` and `see_first` come before
anything else, `see_last` when all refs are in their places.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from parallelai.work.guard import stashes
from parallelai.work.guard.aftercare import First, said
from parallelai.work.guard.restoring import Refs, keep_tips, move_back, own_files, restore_files, sort_refs
from parallelai.work.guard.state import State
from parallelai.work.guard.traces import NOTHING_TRACED, STASH, read_trace
from parallelai.work.guard.turn import store
from parallelai.work.guard.watch import Moved, Watch, files_changed_since, refs_moved_since

_OF_STASHES: Mapping[stashes.Outcome, str] = {
    "back": "stashes were dropped, and are back",
    "not_back": "stashes were dropped, could not be put back",
    "unknown": "stashes are gone, by whom is not known",
    "more": "one more; `git stash pop` in your checkout brings it back",
}


async def see_to_all(state: State) -> tuple[str, ...]:
    """Put right what a turn did to the user's repository, and say what: of one that nobody judges in this run.

    What it left in its worktree stays as it is, for whoever goes on with it. Raises `GitError`, `OSError`.
    """
    settings, turn = state.place.settings, state.turn
    if settings.aftercare is None or not turn.is_open or turn.watch is None:
        return ()
    await restore_settings(state)
    first = await see_first(state)
    refs = await moved_refs(state)
    await keep_tips(settings.repository, settings.name, refs.back, turn.watch)
    # Branches that it made in its worktree are no more than part of what it left there.
    await move_refs(state, replace(refs, made=tuple(each for each in refs.made if each in refs.traced)))
    await see_last(state, first)
    seen = replace(state.turn, standing=None, stashes=None, is_seen_to=True)
    await asyncio.to_thread(store, settings.folder, seen)
    return state.for_person()


async def restore_settings(state: State) -> None:
    """Put configuration and hooks back, and take away what bars git, before it is called in their reach."""
    watch = state.turn.watch
    if watch is None or not state.turn.is_open:
        return
    care, standing = state.place.settings.aftercare, state.turn.standing
    state.touched += await care.clear_way(standing, state.aside) if care is not None else ()
    changed = await files_changed_since(watch)
    worktree = state.place.git_dir.name
    to_restore, to_name = own_files(watch, changed, worktree, is_confined=state.place.settings.is_confined)
    back, left = await asyncio.to_thread(restore_files, watch, to_restore, state.aside)
    state.restored.extend(_below(watch, path) for path in back)
    state.seen.extend(_below(watch, path) for path in (*to_name, *left))


async def see_first(state: State) -> First:
    """See to what was thrown away, which else may be missed, and to HEAD of the user's checkout."""
    care, settings = state.place.settings.aftercare, state.place.settings
    if care is None or not state.turn.is_open:
        return First(())
    first = await care.first(settings.name, state.turn.standing, is_late=state.is_late)
    state.touched.extend(first.said)
    outcome = await care.stashes(settings.name, state.turn.stashes)
    # One that it made in its worktree is its own.
    if outcome in _OF_STASHES and (outcome != "more" or await care.has_stashed(settings.name)):
        state.touched.append(said(STASH, _OF_STASHES[outcome]))
    if first.left and state.turn.watch is not None:
        left = [Moved("HEAD", None, each) for each in first.left]
        await keep_tips(settings.repository, settings.name, left, state.turn.watch)
    return first


async def see_last(state: State, first: First) -> None:
    """See to the index of the user's checkout, and to logs of refs."""
    care, name = state.place.settings.aftercare, state.place.settings.name
    if care is not None and state.turn.is_open:
        standing, is_late = state.turn.standing, state.is_late
        state.touched += await care.last(
            name, standing, first.head, state.aside, moves=state.moved, is_late=is_late
        )


async def moved_refs(state: State) -> Refs:
    """What is to become of the refs that moved since before the turn."""
    settings, watch = state.place.settings, state.turn.watch
    if watch is None or not state.turn.is_open or settings.is_confined:
        return Refs()
    moves = await refs_moved_since(watch)
    worktree = state.place.git_dir.name
    traced = NOTHING_TRACED
    if settings.aftercare is not None:
        traced = await asyncio.to_thread(read_trace, settings.aftercare.trace(settings.name))
    refs = await sort_refs(settings.repository, watch, moves, worktree, settings.ref, traced)
    if refs.stashed in stashes.commits_of(state.turn.stashes):  # the user's, on top now that others are gone
        refs = replace(refs, stashed=None)
    if settings.aftercare is None:
        return refs
    unknown = tuple(each for each in refs.unknown if each.ref != STASH)  # it was seen to
    return replace(refs, unknown=unknown)


async def move_refs(state: State, refs: Refs) -> None:
    """Move refs back; what they were put on, and is in no worktree of ours, is kept first."""
    settings = state.place.settings
    if refs.traced and state.turn.watch is not None:
        await keep_tips(settings.repository, settings.name, refs.traced, state.turn.watch)
    back, left = await move_back(settings.repository, refs)
    state.moved.extend(back)
    state.restored.extend(_moved(move) for move in back)
    state.seen.extend(_moved(move) for move in (*refs.unknown, *left))


def _below(watch: Watch, path: str) -> str:
    return os.path.relpath(path, Path(watch.git_dir).parent) if path.startswith(watch.git_dir) else path


def _moved(moved: Moved) -> str:
    before, after = (None if each is None else each[:10] for each in (moved.before, moved.after))
    if before is None:
        return f"{moved.ref} (new, at {after})"
    return f"{moved.ref} ({before} → {after or 'deleted'})"
