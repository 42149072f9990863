"""Folders cut from a snapshot: plain ones to read, and repositories of their own to edit.

A scratch repository shares nothing with the user's but objects, which it can only read: own config, refs,
hooks, stash. So whatever an assistant does to git there, the user's repository does not notice. What was
changed is measured from the file system, with the private repository's configuration and an index of ours:
the scratch's own `.git` is the assistant's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from msgspec import Struct

from parallelai.errors import Conflict
from parallelai.git.plumbing import Git, in_parts
from parallelai.plan.files import Matcher
from parallelai.processes.removing import remove
from parallelai.work.scratch import hidden, sparse
from parallelai.work.scratch.bringing import bring, copy_in, included, link_in, to_bring
from parallelai.work.scratch.gathering import check_room, listing
from parallelai.work.scratch.measuring import clear_pipes, is_link_out, judge
from parallelai.work.scratch.snapshot import Snapshot, alternates_file

__all__ = [
    "BRANCH",
    "Conflict",
    "Folder",
    "Measure",
    "bring",
    "check_out",
    "clear_away",
    "copy_in",
    "included",
    "link_in",
    "make_repository",
    "measure",
    "merge",
    "patch_of",
    "remove",
    "restore",
    "skipped_in",
    "take_back",
    "to_bring",
    "untracked",
    "with_seen",
]

BRANCH = "refs/heads/parallelai/scratch"
_LINK = b"120000"
_REPOSITORY = b"160000"
_CONFIG = """\
[core]
\trepositoryformatversion = {version}
\tbare = false
\tfilemode = true
\thooksPath = /dev/null
[user]
\tname = ParallelAI
\temail = parallelai@localhost
[commit]
\tgpgSign = false
[gc]
\tauto = 0
{extensions}"""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder cut from `base`. `index` is ours; `brought` are paths that came from the user's checkout.

    `skipped` are files of the base that were not written (`sparse`).
    """

    path: Path
    base: str
    index: Path
    brought: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()


class Measure(Struct, frozen=True):
    """What lies in a folder beside its base: a commit, the paths that differ, those that were kept out.

    Of these `unseen` are files that were written over though the folder does not hold them.
    """

    commit: str
    files: tuple[str, ...]
    kept_out: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


async def check_out(
    snapshot: Snapshot,
    commit: str,
    path: Path,
    index: Path,
    env: Mapping[str, str] | None = None,
    wanted: tuple[str, ...] = (),
) -> Folder:
    """Lay the files of a commit out in a folder that does not exist yet, without a repository.

    `env` is for git, such as the settings of filters; `wanted` are patterns of the files that are written, all
    where there is none.
    """
    await asyncio.to_thread(path.mkdir, parents=True, mode=0o700)
    await asyncio.to_thread(index.parent.mkdir, parents=True, exist_ok=True)
    git = Git(snapshot.repository, work_tree=path, index=index, env=env or {})
    await _read(snapshot, git, commit, index)
    skipped = sparse.left_out(_paths(await git.run("ls-files", "-z")) if wanted else (), wanted)
    await _write(git, skipped)
    return Folder(path, commit, index, skipped=skipped)


async def _read(snapshot: Snapshot, git: Git, commit: str, index: Path) -> None:
    """Make an index of a commit; that of the snapshot's, from which most folders are cut, by a copy."""
    kept = snapshot.repository / "read-index"
    if commit != snapshot.commit:
        await git.run("read-tree", commit)
    elif kept.exists():
        await asyncio.to_thread(shutil.copyfile, kept, index)
    else:
        await git.run("read-tree", commit)
        await asyncio.to_thread(_keep, index, kept)


def _keep(file: Path, kept: Path) -> None:
    """Copy a file to where others look for it: it is whole there, or not there."""
    handle, part = tempfile.mkstemp(dir=kept.parent)
    os.close(handle)
    shutil.copyfile(file, part)
    os.replace(part, kept)  # noqa: PTH105 -- a text


async def _write(git: Git, skipped: frozenset[str]) -> None:
    """Write what the index holds, but what is skipped."""
    if not skipped:
        await git.run("checkout-index", "--all", "--force", "--index")
        return
    names = [name for name in _paths(await git.run("ls-files", "-z")) if name not in skipped]
    await git.run("checkout-index", "--force", "--index", "-z", "--stdin", stdin=listing(names))


async def skipped_in(snapshot: Snapshot, commit: str, wanted: tuple[str, ...]) -> frozenset[str]:
    """Name the files of a commit that a folder which holds only what is `wanted` has not."""
    if not wanted:
        return frozenset()
    return sparse.left_out(
        _paths(await snapshot.git.run("ls-tree", "-r", "-z", "--name-only", commit)), wanted
    )


async def make_repository(snapshot: Snapshot, folder: Folder) -> None:
    """Make a folder a git repository of its own, on a branch at its base, as clean as it was laid out."""
    git_dir = folder.path / ".git"
    for name in ("objects/info", "refs/heads/parallelai", "refs/tags", "info"):
        await asyncio.to_thread((git_dir / name).mkdir, parents=True)
    is_sha256 = len(folder.base) == 64
    extensions = "[extensions]\n\tobjectFormat = sha256\n" if is_sha256 else ""
    config = _CONFIG.format(version=1 if is_sha256 else 0, extensions=extensions)
    (git_dir / "config").write_text(config, encoding="utf-8")
    (git_dir / "HEAD").write_text(f"ref: {BRANCH}\n", encoding="utf-8")
    (git_dir / BRANCH).write_text(f"{folder.base}\n", encoding="utf-8")
    (git_dir / "objects" / "info" / "alternates").write_bytes(alternates_file(snapshot.alternates))
    excludes = [(snapshot.repository / "info" / "exclude").read_bytes()]
    excludes += [b"/" + _escaped(path) + b"\n" for path in sorted(folder.brought)]
    (git_dir / "info" / "exclude").write_bytes(b"".join(excludes))
    shutil.copyfile(snapshot.repository / "info" / "attributes", git_dir / "info" / "attributes")
    shallow = snapshot.repository / "shallow"
    if shallow.exists():
        shutil.copyfile(shallow, git_dir / "shallow")
    shutil.copy2(folder.index, git_dir / "index")  # with its time: see `gathering`
    if folder.skipped:  # to its own git they are not gone either
        own = Git(snapshot.repository, work_tree=folder.path, index=git_dir / "index")
        stdin = listing(folder.skipped)
        await own.run("update-index", "-z", "--skip-worktree", "--stdin", stdin=stdin)


def _escaped(path: str) -> bytes:
    """A path as a pattern of git that means just it."""
    special = "".join(f"\\{char}" if char in "\\*?[] " else char for char in path)
    return os.fsencode(special)


# -- what was changed


async def measure(
    snapshot: Snapshot,
    folder: Folder,
    leave_out: frozenset[str] = frozenset(),
    forbidden: Matcher | None = None,
) -> Measure:
    """Say what differs from the base, whatever was committed since, and keep it as a commit.

    `leave_out` are paths that somebody else made there (what checks left behind), `forbidden` those that may
    not be part of the change.
    """
    git = snapshot.taking(folder.path, folder.index)
    await asyncio.to_thread(clear_pipes, folder.path)
    objects = git.objects or snapshot.repository / "objects"
    left = await hidden.bring_back(snapshot, folder.path, folder.base, folder.skipped, objects)
    known, differing = await _listed(git)
    brought = folder.brought | leave_out
    seen = await asyncio.to_thread(sparse.look, folder.path, differing, folder.skipped)
    wanted = {name for name in seen.changed if not _is_below(name, brought)}
    hiding = {name for name in seen.hiding if not _is_below(name, brought)}
    unseen = {name for name in seen.unseen if not _is_below(name, brought)}
    judged = await asyncio.to_thread(judge, folder.path, wanted, known, forbidden)
    await asyncio.to_thread(check_room, snapshot.repository, judged.size)
    if judged.gone:
        await git.run("update-index", "-z", "--force-remove", "--stdin", stdin=listing(judged.gone))
    if judged.lying:
        stdin = listing(judged.lying)
        await git.run("update-index", "-z", "--add", "--remove", "--replace", "--stdin", stdin=stdin)
    await _forget(snapshot, git, folder.base, judged.kept_out & known)
    commit, changed, links = await _committed(snapshot, git, folder.base)
    if links:  # put in place of a file after it was judged
        await _forget(snapshot, git, folder.base, links)
        commit, changed, _ = await _committed(snapshot, git, folder.base)
    kept_out = judged.kept_out | links | hiding | unseen | left
    return Measure(commit, changed, tuple(sorted(kept_out)), tuple(sorted(unseen)))


_LISTING = ("ls-files", "-z", "-t", "--cached", "--modified", "--others", "--exclude-standard")
_CACHED = b"H "


async def _listed(git: Git) -> tuple[frozenset[str], frozenset[str]]:
    """Name what an index holds, and what lies there otherwise: changed, gone, or new and not ignored; in one call.

    git compares contents where the times do not tell.
    """
    known, differing = set[str](), set[str]()
    for row in (await git.run(*_LISTING)).split(b"\0")[:-1]:
        (known if row.startswith(_CACHED) else differing).add(os.fsdecode(row[2:]))
    return frozenset(known), frozenset(differing)


async def _committed(snapshot: Snapshot, git: Git, base: str) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """Commit the index; gives the commit, what differs from the base, and of that the links that lead out."""
    tree = await git.line("write-tree", "--missing-ok")
    private = snapshot.git
    commit = await private.line("commit-tree", tree, "-p", base, "-m", "What an assistant changed")
    listed = await private.run("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", base, commit)
    fields = listed.split(b"\0")
    rows = [(meta.split(), os.fsdecode(path)) for meta, path in zip(fields[::2], fields[1::2], strict=False)]
    links = {path: meta[3].decode() for meta, path in rows if meta[1] == _LINK}
    targets = await private.blobs(set(links.values()))
    out = frozenset(path for path, blob in links.items() if is_link_out(path, targets.get(blob, b"/")))
    return commit, tuple(sorted(path for _, path in rows)), out


async def _forget(snapshot: Snapshot, git: Git, base: str, paths: frozenset[str]) -> None:
    """Let paths be in the index what they are in the base, whatever an earlier measuring took of them."""
    if not paths:
        return
    tree = ("ls-tree", "-r", "-z", "--full-tree", base, "--")
    rows = b"".join([await snapshot.git.run(*tree, *some) for some in in_parts(sorted(paths))])
    await git.run("update-index", "-z", "--force-remove", "--stdin", stdin=listing(paths))
    await git.run("update-index", "-z", "--replace", "--index-info", stdin=rows)


async def take_back(snapshot: Snapshot, folder: Folder, leave_out: frozenset[str]) -> frozenset[str]:
    """Undo what was changed since the folder was measured last, and name what is new there."""
    git = Git(snapshot.repository, work_tree=folder.path, index=folder.index)
    names = _paths(await git.run("ls-files", "-z", "--modified"))
    seen = await asyncio.to_thread(sparse.look, folder.path, names, folder.skipped)
    changed = seen.changed - leave_out
    if changed:
        await git.run("checkout-index", "--force", "--index", "-z", "--stdin", stdin=listing(changed))
    return (await untracked(snapshot, folder) | seen.unseen) - leave_out


async def with_seen(folder: Folder) -> Folder:
    """Give a folder in which nothing counts as skipped that lies there by now."""
    if not folder.skipped:
        return folder
    there = await asyncio.to_thread(sparse.lying, folder.path)
    return dataclasses.replace(folder, skipped=folder.skipped - there)


async def untracked(snapshot: Snapshot, folder: Folder) -> frozenset[str]:
    """Name what is new in a folder since it was measured last, but what was brought there."""
    git = Git(snapshot.repository, work_tree=folder.path, index=folder.index)
    await asyncio.to_thread(clear_pipes, folder.path)
    others = _paths(await git.run("ls-files", "--others", "--exclude-standard", "-z"))
    return frozenset(name for name in others if not _is_below(name, folder.brought))


async def restore(snapshot: Snapshot, folder: Folder, changed: Iterable[str]) -> None:
    """Make a folder what it was laid out as: what was changed there is dropped."""
    git = Git(snapshot.repository, work_tree=folder.path, index=folder.index)
    for name in changed:
        await asyncio.to_thread(clear_away, folder.path, name)
    await git.run("read-tree", folder.base)
    await _write(git, folder.skipped)


async def patch_of(snapshot: Snapshot, base: str, commit: str, names: Set[str]) -> bytes:
    """Give the patch from one commit to another, as `git apply` takes it; `names` are the paths that differ."""
    # git does not apply a file's renaming into a folder that takes the file's own place.
    is_swapped = any(str(parent) in names for name in names for parent in PurePosixPath(name).parents)
    renames = "--no-renames" if is_swapped else "--find-renames"
    return await snapshot.git.run("diff-tree", "-r", "-p", "--binary", "--full-index", renames, base, commit)


def _paths(listed: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _is_below(name: str, tops: frozenset[str]) -> bool:
    if name in tops:
        return True
    return any(str(parent) in tops for parent in PurePosixPath(name).parents) if tops else False


def clear_away(folder: Path, name: str) -> None:
    """Remove what lies at a path, unless that is behind a link."""
    path = folder / name
    if any((folder / parent).is_symlink() for parent in PurePosixPath(name).parents):
        return
    if path.is_dir() and not path.is_symlink():
        remove(path)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


# -- several tasks' changes


async def merge(snapshot: Snapshot, base: str, commits: Iterable[tuple[str, str]]) -> str:
    """Put changes one after another on a base; gives the commit that holds all of them.

    Args:
        commits: each with the name of its task.

    Raises:
        Conflict: two of them do not fit together.
    """
    git, current = snapshot.git, base
    for name, commit in commits:
        if (await git.attempt("merge-base", "--is-ancestor", commit, current)).exit == 0:
            continue
        if (await git.attempt("merge-base", "--is-ancestor", current, commit)).exit == 0:
            current = commit
            continue
        done = await git.attempt("merge-tree", "--write-tree", "-z", "--name-only", current, commit)
        parts = done.stdout.split(b"\0")
        if done.exit != 0:
            paths = ", ".join(
                f"`{os.fsdecode(path)}`" for path in dict.fromkeys(parts[1:]) if path and b"\n" not in path
            )
            said = f"what `{name}` changed does not fit to what others changed before it: {paths[:500]}"
            raise Conflict(said, next="let one of the tasks depend on the other")
        tree = parts[0].decode().strip()
        current = await git.line("commit-tree", tree, "-p", current, "-p", commit, "-m", f"With {name}")
    return current
