"""What the guard of a worktree has found so far, while it looks at one turn."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from msgspec import Struct, field

from parallelai.results.printable import visible
from parallelai.work.guard.measure import Found
from parallelai.work.guard.place import Place
from parallelai.work.guard.rules import Out
from parallelai.work.guard.turn import Turn, store
from parallelai.work.guard.unseen import Unseen
from parallelai.work.guard.watch import Moved
from parallelai.work.streams.record import KeptOut

REPOSITORY = "160000"
_OURS = ("refs/parallelai/", "refs/heads/parallelai/", ".git/worktrees/")
"""What comes and goes with runs."""


class State(Struct):
    """What one look at a turn has found so far. `is_late`: the turn began in a process that was killed since.

    `moved` are refs that were put back, and `restored` says so of them, and of files.
    """

    turn: Turn
    place: Place
    unseen: Unseen = field(default_factory=Unseen)
    is_late: bool = False
    undone: tuple[str, ...] = ()
    restored: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    out: list[Out] = field(default_factory=list)

    def go_on_from(self, earlier: State) -> None:
        """Take in what an earlier look at the same turn put right, which did not come to its end."""
        self.undone, self.moved, self.out = earlier.undone, earlier.moved, earlier.out
        self.restored, self.seen = earlier.restored, earlier.seen
        self.touched, self.notes = earlier.touched, earlier.notes

    @property
    def aside(self) -> Path:
        """Where is kept what lies in the place of something that is put back."""
        settings = self.place.settings
        return settings.patches / f"{settings.name}-git"

    def for_person(self) -> tuple[str, ...]:
        """What was done to the repository: what was seen to, what was put back, and what only was seen."""
        back = (f"{visible(each)} was put back" for each in self.restored)
        seen = (visible(each) for each in self.seen if not each.startswith(_OURS))
        return (*self.touched, *back, *(f"{each} changed, by whom is not known" for each in seen))

    async def remember(self, kept: KeptOut) -> None:
        """Write down what is kept out."""
        self.turn = replace(self.turn, kept=(*self.turn.kept, kept))
        await asyncio.to_thread(store, self.place.settings.folder, self.turn)

    def is_known(self, found: Found) -> bool:
        """Whether this is a submodule that was kept out before, and left where it is."""
        known = self.turn.submodules.get(found.change.path)
        return known is not None and found.after == (REPOSITORY, known)
