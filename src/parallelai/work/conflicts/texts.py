"""Files as they are on each side: their definitions and uses, read once for each content."""

from __future__ import annotations

import re
from collections.abc import Iterable

from parallelai.git.plumbing import Git
from parallelai.work.conflicts.imports import Imported, imported
from parallelai.work.conflicts.naming import bound
from parallelai.work.symbols import Definition, Use, definitions, language_of, uses
from parallelai.work.symbols.grammars import MOST_BYTES

MOST_KEPT = 4_000
"""Contents whose symbols are remembered."""
MOST_READ = 1_000
"""Contents that are read for one look at the matrix; what is beyond is not looked into."""
_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")


Wanted = Iterable[tuple[str, str]]
_Key = tuple[str, str]


class Texts:
    """The symbols of contents, by hash; the language is told by the path's ending."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._definitions: dict[_Key, tuple[Definition, ...]] = {}
        self._uses: dict[_Key, tuple[Use, ...]] = {}
        self._words: dict[_Key, frozenset[bytes]] = {}
        self._imports: dict[_Key, tuple[Imported, ...]] = {}

    async def read_definitions(self, wanted: Wanted) -> None:
        """Read what (path, hash) each define; hashes of only zeroes are no content."""
        fresh = _fresh(wanted, self._definitions)
        if len(self._definitions) + len(fresh) > MOST_KEPT:
            self._definitions = {}
            fresh = _fresh(wanted, self._definitions)
        texts = await self._texts(blob for _, blob in fresh)
        for (language, blob), path in fresh.items():
            self._definitions[language, blob] = definitions(path, texts.get(blob, b""))

    async def read_words(self, wanted: Wanted) -> None:
        """Read all words of (path, hash) each, also those in comments and strings, and what `naming.bound` gives.

        And what each imports, where it is Python.
        """
        if len(self._words) > MOST_KEPT:
            self._words, self._imports = {}, {}
        fresh = _fresh(wanted, self._words)
        texts = await self._texts(blob for _, blob in fresh)
        for language, blob in fresh:
            text = texts.get(blob, b"")
            self._words[language, blob] = _words(text)
            if language == "python":
                self._imports[language, blob] = imported(text)

    async def read_uses(self, wanted: Wanted) -> None:
        """Read what (path, hash) each use."""
        if len(self._uses) > MOST_KEPT:
            self._uses = {}
        fresh = _fresh(wanted, self._uses)
        texts = await self._texts(blob for _, blob in fresh)
        for (language, blob), path in fresh.items():
            self._uses[language, blob] = uses(path, texts.get(blob, b""))

    def definitions(self, path: str, blob: str) -> tuple[Definition, ...]:
        """Give what was read; nothing for what was not."""
        return self._definitions.get((language_of(path) or "", blob), ())

    def uses(self, path: str, blob: str) -> tuple[Use, ...]:
        """Give what was read; nothing for what was not."""
        return self._uses.get((language_of(path) or "", blob), ())

    def words(self, path: str, blob: str) -> frozenset[bytes]:
        """Give what was read; nothing for what was not."""
        return self._words.get((language_of(path) or "", blob), frozenset())

    def imports(self, path: str, blob: str) -> tuple[Imported, ...]:
        """Give what was read; nothing for what was not, or is no Python."""
        return self._imports.get((language_of(path) or "", blob), ())

    async def _texts(self, blobs: Iterable[str]) -> dict[str, bytes]:
        """Give contents, without those that are too large to be parsed."""
        names = sorted(set(blobs))
        if not names:
            return {}
        stdin = "".join(f"{name}\n" for name in names).encode()
        listed = (await self._git.run("cat-file", "--batch-check", stdin=stdin)).decode().splitlines()
        rows = (line.split(" ") for line in listed)
        small = {row[0] for row in rows if len(row) == 3 and row[1] == "blob" and int(row[2]) <= MOST_BYTES}
        return await self._git.blobs(small)


def _words(text: bytes) -> frozenset[bytes]:
    return frozenset(_WORD.findall(text)) | bound(text)


def _fresh(wanted: Wanted, known: Iterable[_Key]) -> dict[_Key, str]:
    there = set(known)
    found: dict[_Key, str] = {}
    for path, blob in wanted:
        language = language_of(path)
        if language is not None and blob.strip("0") and (language, blob) not in there:
            found.setdefault((language, blob), path)
    return dict(list(found.items())[:MOST_READ])
