"""The repositories that lie in a folder, and which commits are in them alone: read without obeying their settings.

A tag tells that a remote has a commit where the repository knows one, and has not made that commit itself.
(What is where: gitrepository-layout(5).)
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from parallelai.engines.planted import read_plain
from parallelai.git.plumbing import Git, objects_of
from parallelai.work.guard.published import PUBLISHED, refs_in
from parallelai.work.sheltering import HASH
from parallelai.work.streams.places import first_line

_REMOTES, _TAGS = PUBLISHED
_MOST_BYTES = 16 * 1024 * 1024
_REMOTE = re.compile(rb"^\s*\[remote ", re.MULTILINE)
_BARE = re.compile(rb"^\s*bare\s*=\s*true\b", re.MULTILINE)
_MIRROR = re.compile(rb"^\s*mirror\s*=\s*true\b", re.MULTILINE)
_LINE = re.compile(rb"^[0-9a-f]{40,64} ([0-9a-f]{40,64}) [^\n\t]*\t?([^\n]*)", re.MULTILINE)
_NAME = re.compile(rb"^([0-9a-f]{40}(?:[0-9a-f]{24})?)\b", re.MULTILINE)
_FETCHED_FROM = re.compile(
    rb"^([0-9a-f]{40}(?:[0-9a-f]{24})?)\t(?:not-for-merge)?\t(?:[^\n]* )?(?:[a-z0-9+.-]+://|[^\s/:]+:)[^\s]+$",
    re.MULTILINE,
)
"""A row of `FETCH_HEAD` that names a remote by its address, not by a path: such a folder may go, too."""
_MADE = (b"commit", b"merge", b"pull", b"cherry-pick", b"revert", b"rebase", b"am:")
_FETCHED = b": Fast-forward"


class Own(Struct, frozen=True):
    """What a git folder has: tips that may be its own alone, tags, commits that were made there, and what remotes have.

    `is_unread`: its refs are kept in a form that is not read here.
    """

    tips: frozenset[str]
    tags: frozenset[str]
    made: frozenset[str]
    safe: frozenset[str]
    is_unread: bool = False


def repositories(root: Path) -> Iterator[tuple[str, Path]]:
    """The repositories that lie in a folder, bare ones too, with their git folders; none behind a link.

    Raises `PermissionError` for a folder of the user's own that cannot be read: it could be removed all the same.
    """
    for above, folders, names in os.walk(root, onerror=_refuse):
        has_git = ".git" in folders or ".git" in names
        folders[:] = [name for name in folders if name != ".git"]
        top = Path(above)
        if top == root:
            continue
        if has_git and (folder := git_folder(top)) is not None:
            yield top.relative_to(root).as_posix(), folder
        elif "HEAD" in names and {"objects", "refs"} <= {*folders, *names}:
            folders.clear()
            yield top.relative_to(root).as_posix(), top


def _refuse(error: OSError) -> None:
    if not isinstance(error, PermissionError):  # it is gone
        return
    with contextlib.suppress(OSError):
        if os.stat(error.filename, follow_symlinks=False).st_uid != os.geteuid():  # noqa: PTH116
            return
    raise error


def git_folder(top: Path) -> Path | None:
    """The git folder of a repository whose files lie in a folder, if it is one."""
    pointer = top / ".git"
    if top.is_symlink():
        return None
    if pointer.is_dir():  # also through a link
        return pointer if not pointer.is_symlink() else Path(os.path.realpath(pointer))
    line = first_line(pointer) or ""
    folder = Path(os.path.normpath(top / line.removeprefix("gitdir:").strip()))
    return folder if line.startswith("gitdir:") and folder.is_dir() else None


def at(top: Path) -> Path | None:
    """The git folder of a repository at a path, which may be bare."""
    is_bare = (top / "HEAD").is_file() and (top / "objects").is_dir() and not top.is_symlink()
    return top if is_bare else git_folder(top)


def is_linked(folder: Path) -> bool:
    """Whether a git folder is one of a linked worktree: what it has is in another one."""
    return (folder / "commondir").exists()


def has_remote(folder: Path) -> bool:
    """Whether a repository was told of another one that it comes from."""
    return _REMOTE.search(_content(folder / "config")) is not None


def own(folder: Path) -> Own:
    """Look at what a git folder has."""
    knows_remote = has_remote(folder)
    refs = refs_in(folder, ("refs/",))
    remotes = {tip for name, tip in refs.items() if name.startswith(_REMOTES)}
    tags = {tip for name, tip in refs.items() if name.startswith(_TAGS)}
    others = {tip for name, tip in refs.items() if not name.startswith(PUBLISHED)}
    if knows_remote and _BARE.search(_content(folder / "config")):
        remotes |= _copied(folder, others | tags) - _made(folder)
    remotes |= {name.decode() for name in _FETCHED_FROM.findall(_content(folder / "FETCH_HEAD"))}
    others |= _named_alone(folder)
    is_unread = (folder / "reftable").is_dir()
    if not knows_remote:
        return Own(frozenset(others | tags), frozenset(), frozenset(), frozenset(remotes), is_unread)
    made = _made(folder) if tags else set()
    return Own(frozenset(others), frozenset(tags), frozenset(made), frozenset(remotes), is_unread)


def _copied(folder: Path, tips: Collection[str]) -> set[str]:
    """What a bare repository has from the remote that it is a copy of: people commit in others."""
    if _MIRROR.search(_content(folder / "config")):
        return set(tips)
    known = (_content(folder / name) for name in ("packed-refs", "FETCH_HEAD"))
    return {name.decode() for data in known for name in _NAME.findall(data)}


def _named_alone(folder: Path) -> set[str]:
    """What no ref has: what is checked out, also in worktrees of the repository, and its older stashes."""
    places = [folder, *_below(folder / "worktrees")]
    heads = {first_line(place / "HEAD") or "" for place in places}
    refs = {tip for place in places[1:] for tip in refs_in(place, ("refs/",)).values()}
    stashed = {row[0].decode() for row in _LINE.findall(_content(folder / "logs" / "refs" / "stash"))}
    return {name for name in heads if HASH.fullmatch(name)} | refs | stashed


def _made(folder: Path) -> set[str]:
    """The commits that logs say were made in a repository."""
    found = set[str]()
    for place in (folder, *_below(folder / "worktrees")):
        data = _content(place / "logs" / "HEAD")
        rows = ((name, words) for name, words in _LINE.findall(data) if words.startswith(_MADE))
        found |= {name.decode() for name, words in rows if not words.endswith(_FETCHED)}
    return found


def _below(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _content(path: Path) -> bytes:
    """The end of a file; nothing where it cannot be read."""
    try:
        return read_plain(path, _MOST_BYTES, is_tail=True)
    except OSError:
        return b""


async def beyond(folder: Path, users: Path | None, found: Own) -> str | None:
    """One of the commits that nobody else has; `users` is the user's own git folder of the same repository."""
    safe = set(found.safe)
    if users is not None:
        safe |= set(refs_in(users, ("refs/",)).values())
    every = found.tips | found.tags
    if not every:
        return None
    async with objects_of(folder, next(iter(every))) as git:
        if users is not None:
            git = replace(git, alternates=(*git.alternates, users / "objects"))
        for tip in sorted(found.tips):
            if await _commits(git, {tip}, safe | found.tags, "--max-count=1") != []:
                return tip
        if not found.tags or not found.made:
            return None
        there = await _commits(git, found.tags, safe)
    if there is None:
        return min(found.tags)
    return next((commit for commit in there if commit in found.made), None)


async def _commits(git: Git, tips: Collection[str], safe: Collection[str], *options: str) -> list[str] | None:
    """The commits that lead to tips and are not safe; None where that cannot be told: some are missing."""
    asked = "".join(f"{line}\n" for line in (*sorted(tips), *(f"^{each}" for each in safe)))
    done = await git.attempt("rev-list", *options, "--ignore-missing", "--stdin", stdin=asked.encode())
    return done.stdout.decode().split() if done.exit == 0 else None
