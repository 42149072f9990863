"""Why worktrees and branches are kept by `work clean`, and the commands that would rescue what is in them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from parallelai.work.streams.more import commits_all
from parallelai.work.streams.now import Now
from parallelai.work.streams.record import Stream, how_taken_back
from parallelai.work.streams.registry import is_finished


class Kept(Struct, frozen=True):
    """What is kept of the workstream `name`: why, and the command that would save its work, or let it go."""

    name: str
    why: str
    command: str


def not_ours(name: str, left: Path) -> Kept:
    """What is told of what is left of a worktree that was removed, as far as that may be."""
    return Kept(name, "some of what was in its worktree is not yours to remove", removes(left))


def removes(left: Path) -> str:
    """The command that removes what is somebody else's."""
    return f"sudo rm -rf {shlex.quote(str(left))}"


def taken_back(stream: Stream, tip: str) -> Kept:
    """What is told of work that the target had, and has not as it was: by `work undo`, or by somebody's hand."""
    name = shlex.quote(stream.name)
    where = f"what it did is on `{stream.branch}`{'' if Path(stream.worktree).is_dir() else ', without a worktree'}"
    if (
        stream.undone is None and stream.undone_by is None
    ):  # git takes a merge for done, and lands nothing of it
        said = f"its work was in `{stream.target}`, and was taken back or changed there since: {where}"
        if is_finished(stream):
            picks = shlex.join(["git", "cherry-pick", f"{stream.base}..{stream.branch}"])
            return Kept(stream.name, f"{said}; `{_lets_go(stream)}` lets it go", picks)
        return Kept(stream.name, f"{said}; given up, it is kept as a patch", f"parallelai work drop {name}")
    drops = f"`parallelai work drop {name}` gives it up, and keeps it as a patch"
    return Kept(stream.name, f"its landing {how_taken_back(stream)}: {where}; {drops}", lands(stream, tip))


def _lets_go(stream: Stream) -> str:
    words = ["git", "worktree", "remove", stream.worktree] if Path(stream.worktree).is_dir() else []
    branch = shlex.join(["git", "branch", "-D", stream.branch])
    return " && ".join([shlex.join(words), branch]) if words else branch


def lands(stream: Stream, tip: str) -> str:
    """The command that lands what is on the branch: a person calls it ready first, in a worktree."""
    plan, name = shlex.quote(stream.plan), shlex.quote(stream.name)
    words = [f"parallelai work land {name}"]
    is_ready = is_finished(stream) or (stream.state == "done" and tip == stream.head)
    if not is_ready:
        words.insert(0, f"parallelai work done {name}")
        if not Path(stream.worktree).is_dir():
            words.insert(0, f"parallelai work start {plan} {name}")
    return " && ".join(words)


def uncommitted(stream: Stream, now: Now) -> Kept:
    """What is told of what lies in a worktree, and the command that commits it."""
    shown, name = shlex.quote(stream.worktree), shlex.quote(stream.name)
    paths = (*now.changed, *now.left_out)
    named = ", ".join(f"`{each}`" for each in paths[:3])
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    command = f"parallelai work done {name}"
    if not os.path.lexists(Path(stream.worktree) / ".git"):  # no git finds its way from there
        command = as_worktree(stream)
    elif not now.changed:  # git cannot record the rest
        command = f"git -C {shown} status"
    elif is_finished(stream):
        command = " && ".join([*_shows(shown, now.hidden), commits_all(stream, now.left_out)])
    return Kept(stream.name, f"what is in its worktree is not committed: {named}{more}", command)


def _shows(shown: str, hidden: Sequence[str]) -> list[str]:
    """The commands by which git in a worktree looks again at files of which it was told not to."""
    options = ("--no-assume-unchanged", "--no-skip-worktree") if hidden else ()
    return [f"git -C {shown} update-index {option} -- {shlex.join(hidden)}" for option in options]


def as_worktree(stream: Stream) -> str:
    """The command for a folder that git takes for no worktree: it is made one again, or put away."""
    if is_finished(stream):
        return shlex.join(["mv", stream.worktree, f"{stream.worktree}-kept"])
    return shlex.join(["parallelai", "work", "start", stream.plan, stream.name])


def unlock(path: str) -> str:
    return f"git worktree unlock {shlex.quote(path)}"
