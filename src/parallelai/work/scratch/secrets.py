"""What is said of a change that brings a secret in: where it is and of which kind, never what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from parallelai.errors import Trespass
from parallelai.run.masking import kind_of
from parallelai.work.checkout.changes import secrets_of

Find = Callable[[str], frozenset[str]]
"""The secrets of a text."""


def refuse_secrets(changed: Iterable[tuple[str, bytes | None, bytes | None]], find: Find) -> None:
    """Raise `Trespass` for a change that brings a secret in: in a file's bytes, or in its name.

    `changed` are paths with their bytes before and after; None where there is no file. What only moved, from one of
    them to another, was there before.
    """
    known: set[str] = set()
    brought: list[tuple[str, int, str]] = []
    for path, before, after in changed:
        had = frozenset[str]() if before is None else secrets_of(before, path, find)
        known |= had
        if after is not None:
            brought += [(path, _line(after, each), each) for each in secrets_of(after, path, find) - had]
    new = [(path, line, kind_of(secret)) for path, line, secret in brought if secret not in known]
    if new:
        path, line, kind = min(each for each in new if each[0] == new[0][0])
        place = f"{path}:{line}" if line else path
        said = f"the change puts what looks like a secret into `{place}`: {kind}"
        raise Trespass(said, next="take it out, or make the change yourself")


def _line(data: bytes, secret: str) -> int:
    """The line where a file has a secret, from 1; 0 where its name holds it."""
    for text in (data.decode("utf-8", "replace"), data.replace(b"\0", b"").decode("utf-8", "replace")):
        before, found, _ = text.partition(secret)
        if found:
            return before.count("\n") + 1
    return 0
