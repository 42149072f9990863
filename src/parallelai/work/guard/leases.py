"""Leases: who may change files beside those that it owns, for a while (CONTRACTS §10). Pure.

A list is granted whole or not at all. Who holds a lease is never made to wait for another one, and nobody is made
to wait where that would close a circle of waiting, also through dependencies and through who owns what: so there is
always somebody who can go on. No file is ever held by two, also not under two names that some file systems take for
the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from msgspec import Struct, field

from parallelai.git.paths import is_gits_own
from parallelai.work.guard.rules import Permits, folded

MOST_PATHS = 100
MOST_REQUESTS = 20
MOST_BLOCK_CHARS = 64 * 1024
MOST_PATH_CHARS = 1024
MOST_REASON_CHARS = 500
_FENCE = re.compile(r"^ {0,3}(`{3,})[ \t]*parallelai[ \t]*$", re.MULTILINE)


class Granted(Struct, frozen=True):
    """A lease of these files, which may be none. `must_sync`: it waited, and has to see the target as it is now."""

    stream: str
    paths: tuple[str, ...]
    must_sync: bool = False
    by: str = "policy"


class Waits(Struct, frozen=True):
    """It gets all of the files when these workstreams have landed or were dropped; until then it does not run."""

    stream: str
    paths: tuple[str, ...]
    on: tuple[str, ...]


class Refused(Struct, frozen=True):
    stream: str
    paths: tuple[str, ...]
    why: str


class NeedsPerson(Struct, frozen=True):
    """A person has to say whether it may have the files, because of some of them (`leave`, then `Leases.leave`)."""

    stream: str
    paths: tuple[str, ...]
    because: tuple[str, ...]


Answer = Granted | Waits | Refused | NeedsPerson


class Claim(Struct, frozen=True):
    """A workstream that has not ended: what it may change, and whose end it waits for anyway, directly or not."""

    permits: Permits
    depends_on: tuple[str, ...] = ()


class _Wish(Struct, frozen=True):
    paths: tuple[str, ...]
    by: str


class Leases(Struct):
    """The leases of one run. `order` is the workstreams' order in the graph; `live` those that have not ended."""

    order: Sequence[str]
    live: dict[str, Claim]
    held: dict[str, str] = field(default_factory=dict)
    """Who holds a path."""
    also: dict[str, frozenset[str]] = field(default_factory=dict)
    """Who waits for whose landing for another reason: a conflict."""
    link_above: Callable[[str, str], str | None] = lambda stream, path: None
    """Of a workstream and a path: the folder on the way there that is a link, if one is."""
    _wishes: dict[str, _Wish] = field(default_factory=dict)

    def ask(self, stream: str, paths: Iterable[str]) -> Answer:
        """Decide what a workstream asked for between two turns. What it may change anyway is granted as well.

        Raises `KeyError` for a workstream that is not live.
        """
        wanted = self._missing(stream, paths)
        because = tuple(path for path in wanted if self.live[stream].permits.by_person(path) is not None)
        if because:
            return NeedsPerson(stream, wanted, because)
        return self._decide(stream, wanted, "policy")

    def leave(self, stream: str, paths: Iterable[str], by: str) -> Answer:
        """Decide what a person gave leave to; held by another, it is waited for like any file."""
        return self._decide(stream, self._missing(stream, paths), by)

    def of(self, stream: str) -> frozenset[str]:
        """The files that a workstream holds leases of."""
        return frozenset(path for path, holder in self.held.items() if holder == stream)

    def waiting(self) -> Mapping[str, tuple[str, ...]]:
        """Who waits, and for whom."""
        return {name: self._blockers(name, wish.paths) for name, wish in self._wishes.items()}

    def waits(self) -> dict[str, set[str]]:
        """Who waits for whom now: for files, to depend on a landing, or because of a conflict."""
        waits = {
            name: {each for each in claim.depends_on if each in self.live}
            for name, claim in self.live.items()
        }
        for name, wish in self._wishes.items():
            waits.setdefault(name, set()).update(self._blockers(name, wish.paths))
        for name, others in self.also.items():
            waits.setdefault(name, set()).update(others)
        return waits

    def restore(self, stream: str, paths: Iterable[str]) -> None:
        """Take up a lease that was granted before this process began. Of a file that another holds nothing is."""
        for path in paths:
            if not self._holders([path]) - {stream}:
                self.held[path] = stream

    def withdraw(self, stream: str) -> tuple[str, ...]:
        """Forget what a workstream waits for: it goes on without. Gives the files."""
        wish = self._wishes.pop(stream, None)
        return wish.paths if wish is not None else ()

    def end(self, stream: str) -> tuple[tuple[str, ...], tuple[Granted | Refused, ...]]:
        """End all leases of a workstream that landed or was dropped.

        Gives what it held, and what those get that waited for it, in the order of the graph.
        """
        ended = tuple(sorted(self.of(stream)))
        self.live.pop(stream, None)
        self._wishes.pop(stream, None)
        for path in ended:
            del self.held[path]
        return ended, tuple(self._serve())

    # -- deciding

    def _missing(self, stream: str, paths: Iterable[str]) -> tuple[str, ...]:
        permits = self.live[stream].permits
        wanted = dict.fromkeys(paths)
        return tuple(
            path for path in wanted if self.held.get(path) != stream and permits.refusal(path) is not None
        )

    def _decide(self, stream: str, wanted: tuple[str, ...], by: str) -> Answer:
        self._wishes.pop(stream, None)
        never = [path for path in wanted if any(map(is_gits_own, PurePosixPath(path).parts))]
        if never:
            return Refused(stream, wanted, f"`{never[0]}` is a name that git keeps for itself")
        behind = [link for path in wanted if (link := self.link_above(stream, path)) is not None]
        if behind:
            return Refused(
                stream, wanted, f"`{behind[0]}` is a link, and what lies behind it is no file of the project"
            )
        blockers = self._blockers(stream, wanted)
        if not blockers:
            return self._grant(stream, wanted, by, must_sync=False)
        named = ", ".join(f"`{name}`" for name in blockers)
        if self.of(stream):
            return Refused(
                stream, wanted, f"{named} has them first, and who holds a lease waits for no other"
            )
        self._wishes[stream] = _Wish(wanted, by)
        if self._is_locked():
            del self._wishes[stream]
            return Refused(stream, wanted, f"{named} has them first, and waits for this workstream itself")
        return Waits(stream, wanted, blockers)

    def _grant(self, stream: str, wanted: tuple[str, ...], by: str, *, must_sync: bool) -> Granted | Refused:
        self.held.update((path, stream) for path in wanted)
        if self._is_locked():  # somebody who waits for these files as well would wait for it, and it for them
            for path in wanted:
                del self.held[path]
            return Refused(stream, wanted, "others that it depends on wait for them")
        return Granted(stream, wanted, must_sync, by)

    def _serve(self) -> Iterable[Granted | Refused]:
        """Grant what has become free to those who wait, in the order of the graph."""
        for name in sorted(self._wishes, key=self._rank):
            wish = self._wishes[name]
            if self._blockers(name, wish.paths):
                continue
            del self._wishes[name]
            yield self._grant(name, wish.paths, wish.by, must_sync=True)

    def _rank(self, name: str) -> tuple[int, str]:
        return (self.order.index(name) if name in self.order else len(self.order), name)

    def _blockers(self, stream: str, paths: Collection[str]) -> tuple[str, ...]:
        """The workstreams that have to end before one can have files: who holds them, and who owns them."""
        owners = {
            name
            for name, claim in self.live.items()
            if name != stream and any(claim.permits.owns_alike(path) for path in paths)
        }
        return tuple(sorted((self._holders(paths) | owners) - {stream}, key=self._rank))

    def _holders(self, paths: Iterable[str]) -> set[str]:
        """Who holds leases of files, or of others that some file systems take for the same."""
        wanted = {folded(path) for path in paths}
        return {holder for path, holder in self.held.items() if folded(path) in wanted}

    def _is_locked(self) -> bool:
        """Whether some workstreams wait for each other in a circle."""
        return has_circle(self.waits())


def has_circle(waits: Mapping[str, Collection[str]]) -> bool:
    """Whether a graph of who waits for whom has a circle."""
    left = {name: set(others) for name, others in waits.items()}
    while True:
        free = [name for name, others in left.items() if not others & left.keys()]
        if not free:
            return bool(left)
        for name in free:
            del left[name]


# -- what a reply asks for


class LeaseRequest(Struct, frozen=True):
    """What a turn's text asks for. `problem` says why it cannot be asked so; then there are no paths."""

    paths: tuple[str, ...]
    reason: str = ""
    problem: str | None = None


def requests(text: str) -> list[LeaseRequest]:
    """Read the closing ```parallelai block of a reply: what is asked for, in its order.

    The text is anybody's. A block that is not the end of it, or asks for no lease, is none.
    """
    block = _closing_block(text)
    if block is None:
        return []
    try:
        data = json.loads(block)
    except (ValueError, RecursionError):
        return [LeaseRequest((), problem="the closing block is no JSON")]
    items = data if isinstance(data, list) else [data]
    asked = [item for item in items if isinstance(item, dict) and "lease" in item]
    return [_request(item) for item in asked[:MOST_REQUESTS]]


def _closing_block(text: str) -> str | None:
    """The content of the fenced block that a text ends with."""
    end = text.rstrip()
    found = list(_FENCE.finditer(end, max(0, len(end) - MOST_BLOCK_CHARS)))
    opened = found[-1] if found else None
    if opened is None:
        return None
    inside = end[opened.end() :]
    fence = opened.group(1)
    closed = re.search(rf"^ {{0,3}}{fence}`*[ \t]*$", inside, re.MULTILINE)
    if closed is None or closed.end() != len(inside):
        return None
    return inside[: closed.start()]


def _request(item: Mapping[str, Any]) -> LeaseRequest:
    given = item["lease"]
    texts = given if isinstance(given, list) else [given]
    reason = item.get("reason")
    words = _one_line(reason)[:MOST_REASON_CHARS] if isinstance(reason, str) else ""
    if len(texts) > MOST_PATHS:
        return LeaseRequest((), words, f"more than {MOST_PATHS} files are asked for at once")
    paths = [path_of(text) for text in texts]
    bad = [text for text, path in zip(texts, paths, strict=True) if path is None]
    if bad or not paths:
        named = f"`{_one_line(bad[0])[:100]}`" if bad and isinstance(bad[0], str) else "what it names"
        return LeaseRequest(
            (), words, f"{named} is no file of the project; name files by their paths from its root"
        )
    return LeaseRequest(tuple(dict.fromkeys(path for path in paths if path is not None)), words)


def path_of(text: Any) -> str | None:
    """A file's path from the root, None where it cannot be one."""
    if not isinstance(text, str) or not 0 < len(text) <= MOST_PATH_CHARS or text.endswith("/"):
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    parts = PurePosixPath(text).parts
    is_bad = not parts or text.startswith("/") or ".." in parts or any(ord(char) < 32 for char in text)
    return None if is_bad else "/".join(parts)


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
