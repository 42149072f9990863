"""What has to be known of changes before they can be judged, asked of git."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from parallelai.git.plumbing import Git, failure
from parallelai.git.repository import Repository
from parallelai.work.checkout.changes import secrets_of
from parallelai.work.guard.annexed import brought_in
from parallelai.work.guard.measure import Entry, Found, Measured
from parallelai.work.guard.place import Place, Settings, listing, names_of
from parallelai.work.guard.published import unpublished
from parallelai.work.guard.rules import Changed, Judged, Permits, judge
from parallelai.work.guard.unseen import Unseen
from parallelai.work.streams.record import Rules

_NOTHING = Unseen()


async def permits_of(
    repository: Repository,
    rules: Rules,
    leases: Collection[str],
    plan_file: str | None,
    settling: Collection[str] = (),
) -> Permits:
    """The permits of a workstream, with what git runs as hooks among what is protected."""
    folder = await hooks_folder(repository)
    hooks = await asyncio.to_thread(_hooks, repository, folder)
    return Permits(rules, leases, plan_file=plan_file, hooks=hooks, settling=settling)


def plan_below(root: Path, plan: str) -> str | None:
    """The file of a plan that lies below the root, which no workstream may change; None where it is none."""
    return plan if not Path(plan).is_absolute() and (root / plan).is_file() else None


async def judged(
    place: Place, permits: Permits, head: str, rows: Sequence[Found], unseen: Unseen = _NOTHING
) -> Judged:
    """Judge changes that were measured; `unseen` are the files that the worktree did not have before them."""
    if not rows:
        return Judged((), ())
    existing = names_of(await place.plumbing().run("ls-tree", "-r", "-z", "--name-only", head))
    changes = [each.change for each in rows]
    generated = await _generated(place, changes)
    lost = await unpublished(place.settings.repository.git, head, rows)
    annexed = await brought_in(place, rows)
    hidden = unseen.among(changes)
    about = {"generated": generated, "unpublished": lost, "annexed": annexed, "unseen": hidden}
    return judge(changes, permits, existing=existing, **about)


async def _generated(place: Place, changes: Iterable[Changed]) -> set[str]:
    """The paths that the repository marks as generated."""
    stdin = listing({path for change in changes for path in change.paths})
    done = await place.attempt("check-attr", "-z", "--stdin", "linguist-generated", stdin=stdin)
    fields = done.stdout.split(b"\0")
    triples = zip(fields[::3], fields[1::3], fields[2::3], strict=False)
    return {os.fsdecode(path) for path, _, value in triples if value in (b"set", b"true")}


async def new_modules(settings: Settings, leases: Collection[str]) -> frozenset[str]:
    """Submodules that `.gitmodules` names, where a person gave leave to change that."""
    path = settings.worktree / ".gitmodules"
    if ".gitmodules" not in leases or path.is_symlink() or not path.is_file():
        return frozenset()
    arguments = (
        "config",
        "--file",
        str(path),
        "--no-includes",
        "-z",
        "--get-regexp",
        r"^submodule\..*\.path$",
    )
    listed = await settings.repository.git.attempt(*arguments)
    rows = (os.fsdecode(row).partition("\n")[2] for row in listed.stdout.split(b"\0") if row)
    return frozenset(row.strip("/") for row in rows)


async def special_entries(place: Place, measured: Measured) -> dict[Changed, Entry | None]:
    """What no patch can hold, as changes, each with what the base has at its path."""
    if not measured.special:
        return {}
    listed = await place.plumbing().run("ls-tree", "-r", "-z", measured.head)
    entries: dict[str, Entry] = {}
    for row in listed.split(b"\0")[:-1]:
        meta, raw = row.split(b"\t", 1)
        if (path := os.fsdecode(raw)) in measured.special:
            mode, _, name = meta.decode().split()
            entries[path] = (mode, name)
    found: dict[Changed, Entry | None] = {}
    for path in sorted(measured.special):
        entry = entries.get(path)
        found[Changed(path, "changed" if entry else "added", None, entry[0] if entry else None)] = entry
    return found


async def secrets_in(
    git: Git, head: str, tree: str, find: Callable[[str], frozenset[str]]
) -> tuple[str, ...]:
    """The paths where a tree brings in what looks like a secret that `head` has not, in bytes or name.

    What only moved was there before: a secret that is in one of the files that changed or went is none of these.
    """
    arguments = ("-r", "-z", "--raw", "--no-abbrev", "--no-renames", f"{head}^{{tree}}", f"{tree}^{{tree}}")
    fields = (await git.run("diff-tree", *arguments)).split(b"\0")
    rows = [
        (meta.decode().split()[2:4], os.fsdecode(path))
        for meta, path in zip(fields[::2], fields[1::2], strict=False)
    ]
    found: dict[str, frozenset[str]] = {}
    for (_, after), path in rows:  # one at a time: they may be large
        if (now := await _blob(git, after)) is not None and (secrets := secrets_of(now, path, find)):
            found[path] = secrets
    known: set[str] = set()
    for (before, _), path in rows if found else ():
        if (was := await _blob(git, before)) is not None:
            known |= secrets_of(was, path, find)
    return tuple(path for path, secrets in found.items() if secrets - known)


async def _blob(git: Git, name: str) -> bytes | None:
    return (await git.blobs({name})).get(name) if set(name) != {"0"} else None


async def hooks_folder(repository: Repository) -> Path:
    """The folder of hooks that the user's git uses (absolute, links as they are). Raises `GitError`."""
    words = ("rev-parse", "--path-format=absolute", "--git-path", "hooks")
    asked = await repository.as_user(*words)
    if asked.exit != 0:
        raise failure(words, asked)
    return Path(os.fsdecode(asked.stdout).removesuffix("\n"))


def _hooks(repository: Repository, folder: Path) -> list[str]:
    """The folder of hooks and what links lead to from there, where it belongs to the checkout: below its root.

    git runs it beside every sandbox, whether it is called by a link or not.
    """
    found = [folder]
    with contextlib.suppress(OSError):  # there is none
        found += [each for each in folder.iterdir() if each.is_symlink()]
    return _inside(repository, [folder, *(os.path.realpath(each) for each in found)])


def _inside(repository: Repository, paths: Iterable[str | Path]) -> list[str]:
    """Those of the paths that lie in the checkout, and not in git's own folder."""
    root, own = os.path.realpath(repository.root), os.path.realpath(repository.common)
    found = [Path(os.path.normpath(path)) for path in paths]
    inside = [
        path.relative_to(root) for path in found if path.is_relative_to(root) and not path.is_relative_to(own)
    ]
    return list(dict.fromkeys(path.as_posix() for path in inside if path.parts))
