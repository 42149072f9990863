"""The submodules of a commit, and their files as they lie in the user's repository; nothing is fetched.

What `.gitmodules` says is anybody's: a name is only looked up below the user's own folder of modules. (Where
that is: gitrepository-layout(5).)
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from parallelai.git.plumbing import Git

_LINK = b"160000"
_PATHS = r"^submodule\..*\.path$"


@dataclass(frozen=True, slots=True)
class Submodule:
    """A submodule at `path`, which is to be at `commit`.

    `folder` is the user's git folder of it, which has the commit; None where it has not, `is_begun` or not.
    """

    path: str
    commit: str
    folder: Path | None
    is_begun: bool = False


async def submodules(git: Git, commit: str, root: Path | None = None) -> tuple[Submodule, ...]:
    """List the submodules of a commit; `root` is the user's checkout, which may hold their git folders itself.

    Raises `GitError`.
    """
    if (await git.attempt("cat-file", "-e", f"{commit}:.gitmodules")).exit != 0:
        return ()
    listed = await git.run("ls-tree", "-r", "-z", "--full-tree", commit)
    rows = (row.split(b"\t", 1) for row in listed.split(b"\0") if row.startswith(_LINK))
    links = {os.fsdecode(path): meta.split()[2].decode() for meta, path in rows}
    words = ("config", "--blob", f"{commit}:.gitmodules", "--null", "--get-regexp", _PATHS)
    asked = (await git.attempt(*words)).stdout
    pairs = (os.fsdecode(row).partition("\n") for row in asked.split(b"\0") if row)
    names = {path: key.removeprefix("submodule.").removesuffix(".path") for key, _, path in pairs}
    return tuple(
        [
            await _found(_folder(git.git_dir, root, path, names.get(path)), path, links[path])
            for path in sorted(links)
        ]
    )


def _folder(common: Path, root: Path | None, path: str, name: str | None) -> Path | None:
    """Where the user's git folder of a submodule is, if it was ever checked out."""
    modules = (common / "modules").resolve()
    places = [modules / name] if name and ".." not in PurePosixPath(name).parts else []
    if root is not None and not (root / path).is_symlink():
        places.append(root / path / ".git")
    for place in places:
        is_ours = place.resolve().is_relative_to(modules) or place.parent == (root or modules) / path
        if is_ours and (place / "HEAD").is_file() and not place.is_symlink():
            return place
    return None


async def _found(folder: Path | None, path: str, commit: str) -> Submodule:
    if folder is None:
        return Submodule(path, commit, None)
    has_it = (await Git(folder).attempt("cat-file", "-e", f"{commit}^{{tree}}")).exit == 0
    return Submodule(path, commit, folder if has_it else None, True)


async def names_in(found: Submodule) -> tuple[str, ...]:
    """The paths, from the top of the whole, of what lies directly in a submodule."""
    if found.folder is None:
        return ()
    listed = await Git(found.folder).run("ls-tree", "-z", "--name-only", found.commit)
    return tuple(f"{found.path}/{os.fsdecode(name)}" for name in listed.split(b"\0") if name)


async def lay_out(found: Submodule, top: Path) -> None:
    """Write the files of a submodule, and of those in it, below a folder; they are plain files, no repository.

    Does nothing where they are not here, where git made no folder for them (a sparse checkout), or where that
    is a repository by now. Raises `GitError`, `OSError`.
    """
    target = top / found.path
    if found.folder is None or not target.is_dir() or (target / ".git").exists():
        return
    if target.resolve() != top.resolve() / found.path:  # somebody put a link in its way
        return
    with tempfile.TemporaryDirectory(prefix="parallelai-submodule-") as beside:
        git = Git(found.folder, work_tree=target, index=Path(beside) / "index")
        await git.run("read-tree", found.commit)
        await git.run("checkout-index", "--all", "--force", "--quiet")
    for inner in await submodules(Git(found.folder), found.commit):
        await lay_out(inner, target)
