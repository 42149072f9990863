"""The folders in which a run's attempts work: what the run asks for, whoever makes them (DESIGN §5).

`work` makes them; the run knows these interfaces only, so that it needs no git.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec import Struct

from parallelai.engines.protocol import Request, Workspace
from parallelai.errors import EngineError
from parallelai.events import ChangeApplied, ChangeRefused
from parallelai.records import Change, Reply


@dataclass(frozen=True, slots=True)
class Work:
    """What an attempt does beside answering its first prompt; plain data, as the request is.

    Attributes:
        edits: its result is a change.
        todo: what it does one after another, in one session and one folder.
        checks: commands that have to pass in its folder, as argv each.
        is_empty_ok: nothing need be changed.
        after: the tasks' instances whose changes it has to see.
        number: the instance's place in the plan, for the names of its files.
        sandbox: what the engine's entry says of confinement.
        network: what the engine's entry says of the network; None leaves it to the workspace and the engine.
        is_homeless: it needs a folder, and there is no git repository to cut one from.
        verify: the engine that tries to refute each finding; None for no second pass.
        avoids: patterns of what its role may not change; the last that matches decides.
        folder: of an interrupted attempt, whose session is continued in it.
        is_stream: it is a workstream, whose folder stays.
    """

    edits: bool = False
    todo: tuple[str, ...] = ()
    checks: tuple[tuple[str, ...], ...] = ()
    is_empty_ok: bool = False
    after: tuple[str, ...] = ()
    number: int = 0
    sandbox: Literal["auto", "required", "none"] = "auto"
    network: Literal["on", "loopback", "off"] | None = None
    is_homeless: bool = False
    verify: str | None = None
    folder: str | None = None
    avoids: tuple[str, ...] = ()
    is_stream: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether one prompt and its answer are all."""
        return not self.edits and not self.todo and not self.checks


PLAIN = Work()
HOMELESS = Work(is_homeless=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """What an assistant changed in its folder.

    `commit` is the result and `base` what it was cut from, in the run's own repository of snapshots;
    `kept_out` are paths that may not be changed, and are not part of the change; `unseen` are those of them that its
    folder does not hold (`sparse`). `is_guarded`: of a workstream, whose guard has written down already what it kept
    out.
    """

    base: str
    commit: str
    files: tuple[str, ...]
    kept_out: tuple[str, ...] = ()
    is_guarded: bool = False
    unseen: tuple[str, ...] = ()


class Told(Struct, frozen=True):
    """What an assistant is told between turns: `words` in a turn of their own, `aside` with the next one, if any.

    `untold` is what people said that it is not told, unless it has another turn after all. Where the attempt can go on
    without that turn, should it not come to its end, `about` names what the words are about: what was kept out, which
    stays out, and what people said, of which somebody is to know then.
    """

    words: str = ""
    aside: str = ""
    untold: tuple[str, ...] = ()
    about: str = ""


NOTHING_TOLD = Told()

Parked = Callable[[], AbstractAsyncContextManager[None]]
"""Inside of what it gives an attempt holds no slot, and its time does not count."""


class Place(Protocol):
    """One folder in which an attempt works, until it is closed.

    `root` is its absolute path, `base` the commit that it was cut from; `workspace` says how a program may work there.
    """

    root: str
    base: str
    workspace: Workspace

    async def briefed(self, request: Request, has_hands: bool) -> Request:
        """Put what an assistant has to know of this folder into the request of its first turn.

        Who has no hands cannot open files: their text has to be in the request.
        """

    async def measure(self) -> Measured:
        """Say what was changed since the folder was made."""

    async def keep(self, measured: Measured) -> Change:
        """Write the change down as a patch. Raises `Trespass` if it holds what looks like a secret."""

    async def keep_aside(self) -> str | None:
        """Keep what an attempt changed that failed, as a patch that nobody applies; gives its path below the root.

        None where nothing was changed, where it stays in its folder, or where it cannot be kept.
        """

    async def write(self, edits: Any) -> None:
        """Write the edits that a model proposed (`engines.edits`). Raises `Invalid` where they do not fit."""

    async def heard(self, reply: Reply, can_go_on: bool, parked: Parked) -> Told:
        """Take in a turn's answer before the next begins; gives what to tell the assistant.

        A workstream's folder answers leases and says what was kept out of it; `can_go_on` says whether there
        can be another turn. Whoever waits here for another task does so inside of `parked`. Raises the
        `EngineError` that ends the attempt.
        """

    async def check(self, argv: tuple[str, ...], seconds: float) -> EngineError | None:
        """Run a command there, confined as the assistant is; gives why it failed, None if it passed."""

    async def put_right(self) -> tuple[str, ...]:
        """Put right what an attempt that failed did outside of the folder; gives what to say of it with its error."""

    async def close(self, *, is_left: bool = False) -> None:
        """Let go of the folder, and remove it unless it is left for a later process."""


Digests = tuple[str | None, str | None]
"""The hashes of what lay at a path before a change was applied, and after it; None where there was no file."""
Written = Mapping[str, Mapping[str, Digests]]
"""What applied changes of a run wrote, by task and path."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a change that was to be applied to, or taken back from, the user's checkout.

    `written` gives for each path the content's hash before and after, None where there was no file;
    `refused` are the paths that stood in the way: nothing was written then, and `why` says it. `kept_out` are
    paths that are no part of the change; `dependents` are tasks that build on what was taken back, and stay applied.
    """

    task: str
    written: dict[str, Digests]
    refused: tuple[str, ...] = ()
    why: str | None = None
    kept_out: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()


def applied_event(applied: Applied, *, is_undone: bool = False) -> ChangeApplied | ChangeRefused:
    """The event that tells what became of a change."""
    if applied.refused or applied.why is not None:
        return ChangeRefused(applied.refused, applied.why or "it does not fit any more", is_undone)
    return ChangeApplied(tuple(applied.written), applied.written, is_undone)


class Workspaces(Protocol):
    """Makes and removes the folders of one run."""

    async def open(self, task: str, work: Work, seconds: float, parked: Parked) -> Place:
        """Make a folder for an attempt of a task. Raises an `EngineError` where it cannot be made.

        Whoever waits here for what others hold of this machine does so inside of `parked`.
        """

    def ended(self, task: str, measured: Measured | None) -> None:
        """Remember the change of a task that ended well, for those that come after it."""

    def gave_up(self, task: str) -> None:
        """Take in that a task ended, and not well."""

    async def apply(self, tasks: Sequence[str], written: Written) -> list[Applied]:
        """Apply the changes of these tasks to the user's checkout, one after another, each all or nothing.

        `written` is what was applied before: what is still there is passed over.
        """

    def digest(self, path: str) -> str:
        """The content's hash of a file of the run's base, `absent` where it has none."""

    def workstream(self, task: str) -> dict[str, Any] | None:
        """What there is to say of a workstream in the run's document (CONTRACTS §5); None of a plain task."""

    async def aclose(self) -> None:
        """Remove what was made, but what a later process of the run needs."""
