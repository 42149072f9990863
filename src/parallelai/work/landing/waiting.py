"""What landed, or was taken back, and waits for the user's checkout: looked up as it is now; nothing is moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parallelai.git.repository import Repository
from parallelai.results.document import WAITS
from parallelai.work.landing.refusing import waits
from parallelai.work.landing.target import Standing, Target, Worktrees, pending_targets
from parallelai.work.streams.base import LANDING, PendingError
from parallelai.work.streams.record import Stream, pending_part


@dataclass(frozen=True, slots=True)
class Waiting:
    """A result that is complete on a branch of its own, until a person takes it over.

    `names` are the branches without a plan that landed there; `said` tells a person what to do, `next` is the command.
    """

    target: str
    branch: str
    names: tuple[str, ...]
    said: str
    next: str | None

    @property
    def told(self) -> str:
        """What it is about, and what to do."""
        return f"{', '.join(self.names)}: {self.said}" if self.names else self.said


async def waiting(repository: Repository, ours: Worktrees) -> dict[str, Standing]:
    """Give, by target, what has to be taken over, and the command that does it as things are now."""
    found = {}
    for target in await pending_targets(repository):
        if await repository.commit(f"refs/heads/{target}") is None:
            continue
        try:
            standing = await Target(repository, target, ours).look()
        except PendingError as error:
            said = f"{error.said}; {error.next}"
            standing = Standing(target, f"{LANDING}{target}", None, why=said)
        if standing.pending is not None:
            found[target] = standing
    return found


def said_of(standing: Standing) -> str:
    """What a person is told of it."""
    return waits(standing.why, standing.next)


def said_to(stream: Stream, found: Mapping[str, Standing]) -> str:
    """What is said of a workstream that is not in its target yet: what was in the way, if the command still holds."""
    part = pending_part(stream)
    pending = part.pending if part is not None else f"{LANDING}{stream.target}"
    standing = found.get(stream.target) or Standing(stream.target, pending, None, next=f"git merge {pending}")
    told = next((note for note in (part.notes if part is not None else ()) if note.startswith(WAITS)), "")
    return told if told.endswith(f"then `{standing.next}`") else said_of(standing)
