"""Files as they are on each side: their definitions and uses, read once for each content."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from parallelai.git.plumbing import Git
from parallelai.work.symbols import Definition, Use, language_of
from parallelai.work.symbols.definitions import defined
from parallelai.work.symbols.grammars import MOST_BYTES, parse
from parallelai.work.symbols.uses import used

MOST_KEPT = 4_000
"""Contents whose symbols are remembered."""
MOST_READ = 1_500
"""Contents that are read for one look at the matrix."""
_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Symbols:
    """What one content defines, uses and mentions."""

    definitions: tuple[Definition, ...] = ()
    uses: tuple[Use, ...] = ()
    words: frozenset[bytes] = frozenset()
    is_known: bool = False


NOTHING = Symbols()


class Texts:
    """The symbols of contents, by hash; the language is told by the path's ending."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._found: dict[tuple[str | None, str], Symbols] = {}

    async def read(self, wanted: Iterable[tuple[str, str]]) -> None:
        """Read the symbols of (path, hash) each; hashes of only zeroes are no content."""
        fresh = {}
        for path, blob in wanted:
            language = language_of(path)
            if language is not None and blob.strip("0") and (language, blob) not in self._found:
                fresh[language, blob] = path
        rows = list(fresh.items())[:MOST_READ]
        names = await self._small({blob for (_, blob), _ in rows})
        texts = await self._git.blobs(names)
        if len(self._found) + len(rows) > MOST_KEPT:
            self._found = {}
        for key, path in rows:
            self._found[key] = symbols(path, texts.get(key[1]))

    def of(self, path: str, blob: str) -> Symbols:
        """Give what was read; nothing for what was not."""
        return self._found.get((language_of(path), blob), NOTHING)

    async def _small(self, names: set[str]) -> set[str]:
        if not names:
            return names
        stdin = "".join(f"{name}\n" for name in sorted(names)).encode()
        listed = (await self._git.run("cat-file", "--batch-check", stdin=stdin)).decode().splitlines()
        rows = (line.split(" ") for line in listed)
        return {row[0] for row in rows if len(row) == 3 and int(row[2]) <= MOST_BYTES}


def symbols(path: str, text: bytes | None) -> Symbols:
    """Parse a content once for both: definitions and uses."""
    parsed = None if text is None else parse(path, text)
    if parsed is None or text is None:
        return NOTHING
    return Symbols(defined(*parsed), used(*parsed), frozenset(_WORD.findall(text)), True)
