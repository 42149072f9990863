"""What comes along into a workspace from the user's checkout: files that are copied, folders that are linked to.

Nothing is read through a link that leads out of the project, and nothing written through one in the workspace.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from parallelai.errors import UsageError
from parallelai.git.paths import is_gits_own
from parallelai.git.plumbing import Git
from parallelai.plan.files import match
from parallelai.work.scratch.snapshot import Snapshot

INCLUDE_FILE = ".worktreeinclude"


async def included(snapshot: Snapshot) -> tuple[str, ...]:
    """List the ignored files that the project's `.worktreeinclude` names, by the rules of a `.gitignore`."""
    patterns = snapshot.root / INCLUDE_FILE
    if patterns.is_symlink() or not patterns.is_file():
        return ()
    git = Git(snapshot.repository, work_tree=snapshot.root, index=snapshot.repository / "base-index")
    listed = await git.run("ls-files", "-z", "--others", "--ignored", f"--exclude-from={patterns}")
    names = (os.fsdecode(name) for name in listed.split(b"\0") if name)
    return tuple(name for name in names if not name.endswith("/") and not _is_ours(PurePosixPath(name)))


def to_bring(snapshot: Snapshot, patterns: Iterable[str]) -> list[str]:
    """List the paths of the user's checkout that patterns name; also ignored files, which a snapshot has not.

    A pattern that names a path means it, and a folder all of it; other patterns are matched, by git's rules,
    against the names at the top of the checkout and below the folder that they name. Raises `UsageError` for
    one that leads out of the project.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        clean = PurePosixPath(pattern)
        if clean.is_absolute() or ".." in clean.parts or any(map(is_gits_own, clean.parts)):
            raise UsageError(f"`{pattern}` leads out of the project", next="name a path below its root")
        if not clean.parts or _is_ours(clean):
            said = f"`{pattern}` would bring ParallelAI's own state along, with what all runs said"
            raise UsageError(said, next="name what the workspace needs")
        path = snapshot.root / clean
        if path.is_symlink() or path.exists():
            found[str(clean)] = None
            continue
        for name in match([pattern], _candidates(snapshot.root, clean)):
            found[name] = None
    return list(found)


def bring(
    snapshot: Snapshot, folder: Path, copied: Iterable[str], linked: Iterable[str]
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Bring what patterns name into a folder, by copies and by links.

    Gives the paths that they name, and what is linked to, absolute. Raises `UsageError` for a pattern or a link
    that leads out of the project.
    """
    copies, links = to_bring(snapshot, copied), to_bring(snapshot, linked)
    copy_in(snapshot, folder, copies)
    return frozenset((*copies, *links)), link_in(snapshot, folder, links)


def _is_ours(path: PurePosixPath) -> bool:
    """Whether a path is ParallelAI's folder, or in it: journals, logs and patches are nobody's input."""
    return path.parts[:1] == (".parallelai",)


def _candidates(root: Path, pattern: PurePosixPath) -> list[str]:
    """The names that a pattern can mean: those of the folder before its first wildcard."""
    fixed = PurePosixPath(*[part for part in pattern.parts[:-1] if not set(part) & set("*?[")])
    try:
        names = sorted(path.name for path in (root / fixed).iterdir())
    except OSError:
        return []
    found = [fixed / name for name in names if not is_gits_own(name)]
    return [str(path) for path in found if not _is_ours(path)]


def copy_in(snapshot: Snapshot, folder: Path, paths: Iterable[str]) -> None:
    """Copy paths from the user's checkout, links as links that stay inside it; what is there already stays."""
    for path in paths:
        source = snapshot.root / path
        if _leads_out(source, snapshot.root):
            raise UsageError(f"`{path}` leads out of the project", next="copy what it points to instead")
        for each in below(source):
            _copy(snapshot.root, folder, str(each.relative_to(snapshot.root)))


def below(source: Path) -> Iterator[Path]:
    """The files and links of a path; a repository's own folder is none of them."""
    if source.is_symlink() or not source.is_dir():
        yield source
        return
    for top, folders, files in os.walk(source):
        folders[:] = [name for name in folders if not is_gits_own(name)]
        links = [name for name in folders if Path(top, name).is_symlink()]
        yield from (Path(top, name) for name in (*files, *links) if not is_gits_own(name))


def _copy(root: Path, folder: Path, path: str) -> None:
    source, target = root / path, folder / path
    mode = source.lstat().st_mode
    if not _make_parents(folder, path) or target.is_symlink() or target.exists():
        return
    if stat.S_ISREG(mode):
        shutil.copy2(source, target, follow_symlinks=False)
    elif stat.S_ISLNK(mode) and not _leads_out(source, root) and not source.readlink().is_absolute():
        target.symlink_to(source.readlink())


def link_in(snapshot: Snapshot, folder: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Link to paths of the user's checkout; gives what is linked to, absolute, which has to stay readable."""
    targets: list[str] = []
    for path in paths:
        source, target = snapshot.root / path, folder / path
        if _leads_out(source, snapshot.root):
            raise UsageError(f"`{path}` leads out of the project", next="link what it points to yourself")
        if not _make_parents(folder, path) or target.is_symlink() or target.exists():
            continue  # it came with the snapshot
        target.symlink_to(source)
        targets.append(str(source.resolve()))
    return tuple(targets)


def _make_parents(folder: Path, path: str) -> bool:
    """Make the folders on the way to a path; False where a link or a file is in the way."""
    for parent in reversed(PurePosixPath(path).parents[:-1]):
        each = folder / parent
        if each.is_symlink() or (each.exists() and not each.is_dir()):
            return False
        each.mkdir(exist_ok=True)
    return True


def _leads_out(path: Path, root: Path) -> bool:
    try:
        return not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return True
