"""What a resolver is given, and what it is: plain data, and a function of it.

A resolver is a pure function from a `Conflict` to the settled text, or to None: it does not know. It is one
file and an entry point in the group `parallelai.resolvers`. Decorated with `rung`, it says when its turn is, and
whether it looks at whole files or at single hunks; a plain function comes last and looks at whole files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from parallelai.records import ConflictKind

Scope = Literal["hunk", "file"]
LAST = 1000
"""The rank of a resolver that says none."""


class Replaced(Struct, frozen=True):
    """One place that one commit changed in a file: the lines that it took away, and those it put there."""

    removed: tuple[bytes, ...]
    added: tuple[bytes, ...]


class Past(Struct, frozen=True):
    """What one side did to a file since the two parted: newest first, as far as it was looked at.

    Attributes:
        versions: contents that the file had on the way, and has now.
        changes: what each commit changed, in the file's order.
        is_cut: there are more changes than these.
    """

    versions: tuple[bytes, ...] = ()
    changes: tuple[tuple[Replaced, ...], ...] = ()
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """What the commits of both sides say of a file."""

    ours: Past = field(default_factory=Past)
    theirs: Past = field(default_factory=Past)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A file, or a hunk of it, that both sides changed. None stands for a file that is not there.

    Attributes:
        path: the file's, from the root.
        kind: of the whole file's conflict, as git calls it.
        history: what the commits of both sides did to the file.
        whole: of a hunk the file's conflict, None for a file.
        before: of a hunk the merged lines before it, back to the hunk before; empty for a file.
        after: of a hunk the merged lines after it, up to the next hunk.
    """

    path: str
    base: bytes | None
    ours: bytes | None
    theirs: bytes | None
    kind: ConflictKind = "content"
    history: History = field(default_factory=History)
    whole: Conflict | None = None
    before: bytes = b""
    after: bytes = b""

    def swapped(self) -> Conflict:
        """The same conflict, as the other side meets it."""
        return Conflict(
            self.path,
            self.base,
            self.theirs,
            self.ours,
            self.kind,
            History(self.history.theirs, self.history.ours),
            self.whole.swapped() if self.whole is not None else None,
            self.before,
            self.after,
        )


Resolver = Callable[[Conflict], bytes | None]


class Rung(Struct, frozen=True):
    """A resolver with its place: smaller ranks are tried first, and names break ties."""

    name: str
    resolve: Resolver
    rank: int = LAST
    scope: Scope = "file"

    def __call__(self, conflict: Conflict) -> bytes | None:
        return self.resolve(conflict)


def rung(name: str, *, rank: int, scope: Scope) -> Callable[[Resolver], Rung]:
    """Make a function a rung of the ladder."""

    def made(resolve: Resolver) -> Rung:
        return Rung(name, resolve, rank, scope)

    return made
