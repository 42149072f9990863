"""Merging as a checkout's `.gitattributes` say, without a checkout.

`git merge` reads them from the work tree that it merges into; `git merge-tree` in a folder without files finds
none, and merges files as text that `git merge` would take as binary, or by union. Here a small folder holds
just the `.gitattributes` of the commit that is merged into. What names a program of the user's (`merge=name`) is
left out: nothing that a repository configures is run, and such files are merged as text.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from parallelai.git import merging
from parallelai.git.merging import Merged
from parallelai.git.plumbing import Git
from parallelai.processes.temporary import temporary_folder

NAME = ".gitattributes"
MOST_BYTES = 1_000_000
MOST_FILES = 200
_BUILT_IN = (b"merge=text", b"merge=binary", b"merge=union")
_TELLING = (b"merge", b"binary", b"[attr]")
_FILES = ("100644", "100755")
_Attributes = Mapping[str, bytes]


class Attributes:
    """The attributes of commits that matter for merges, kept by the content of their files."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._found: dict[str, tuple[tuple[str, str], ...]] = {}
        self._texts: dict[str, bytes] = {}
        self._places: set[str] = set()

    @contextlib.asynccontextmanager
    async def grouped(
        self, pairs: Sequence[tuple[str, str]], changed: Iterable[str] = ()
    ) -> AsyncIterator[list[tuple[Git, list[tuple[str, str]]]]]:
        """Give the pairs in groups that merge by the same attributes, each with the git to merge them by.

        `changed` are all paths that differ between any two of the commits: attributes lie in the first commit's
        folders, or are among them.
        """
        await self._look(list(dict.fromkeys(ours for ours, _ in pairs)), changed)
        groups: dict[tuple[tuple[str, str], ...], list[tuple[str, str]]] = {}
        for pair in pairs:
            groups.setdefault(self._found[pair[0]], []).append(pair)
        with contextlib.ExitStack() as folders:
            found = []
            for files, group in groups.items():
                git = self._git
                if files:
                    folder = folders.enter_context(temporary_folder("attributes"))
                    _write(folder, {path: self._texts[blob] for path, blob in files})
                    git = replace(self._git, work_tree=folder)
                found.append((git, group))
            yield found

    async def _look(self, commits: Sequence[str], changed: Iterable[str]) -> None:
        """Find the files of commits: where they lie is taken from all of them together."""
        fresh = [commit for commit in commits if commit not in self._found]
        if not fresh:
            return
        if len(self._found) > 10_000:
            self._found = {}
        folders = await self._folders(fresh[0], changed)
        rows = [(commit, path) for commit in fresh for path in folders]
        stdin = "".join(f"{commit}:{path}\n" for commit, path in rows).encode()
        listed = (await self._git.run("cat-file", "--batch-check", stdin=stdin)).splitlines() if rows else []
        blobs: dict[str, list[tuple[str, str]]] = {commit: [] for commit in fresh}
        for (commit, path), line in zip(rows, listed, strict=True):
            words = line.split()
            if len(words) == 3 and words[1] == b"blob" and int(words[2]) <= MOST_BYTES:
                blobs[commit].append((path, words[0].decode()))
        names = {blob for found in blobs.values() for _, blob in found} - self._texts.keys()
        texts = await self._git.blobs(names)
        self._texts.update({name: sanitized(text) for name, text in texts.items()})
        for commit, found in blobs.items():
            self._found[commit] = tuple(row for row in found if self._texts.get(row[1]))

    async def _folders(self, commit: str, changed: Iterable[str]) -> list[str]:
        """Where attributes lie, at most `MOST_FILES`, the uppermost first."""
        if not self._places:
            listed = await self._git.run("ls-tree", "-r", "-z", "--name-only", commit)
            end = b"/" + NAME.encode()
            self._places = {NAME, *(os.fsdecode(path) for path in listed.split(b"\0") if path.endswith(end))}
        self._places.update(path for path in changed if path.endswith("/" + NAME))
        plain = [path for path in self._places if "\n" not in path and ".." not in PurePosixPath(path).parts]
        return sorted(plain, key=lambda path: (path.count("/"), path))[:MOST_FILES]


async def merge_all(attributes: Attributes, pairs: Sequence[tuple[str, str]]) -> list[Merged]:
    """Merge each pair of commits as a checkout of its first one would. Raises `GitError`."""
    found: dict[tuple[str, str], Merged] = {}
    async with attributes.grouped(pairs) as groups:
        for git, group in groups:
            found.update(zip(group, await merging.merge_all(git, group), strict=True))
    return [found[pair] for pair in pairs]


def sanitized(text: bytes) -> bytes:
    """Keep what git itself knows how to do; nothing where no merge would go another way."""
    if not any(word in text for word in _TELLING):
        return b""
    lines = []
    for line in text.splitlines():
        words = line.split(b" ") if b"merge=" in line else [line]
        lines.append(b" ".join(word for word in words if not _is_program(word)))
    return b"\n".join(lines) + b"\n"


def _is_program(word: bytes) -> bool:
    return word.startswith(b"merge=") and word not in _BUILT_IN


def _write(folder: Path, files: _Attributes) -> None:
    for path, text in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text)
