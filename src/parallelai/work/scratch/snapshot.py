"""What the user has now, as a commit in a private repository; nothing is written to the user's own.

The private repository reads the user's objects as alternates and keeps new ones to itself. Files are taken
byte by byte as they lie on disk: no filter, no conversion of line ends, so that what is applied later is
compared with exactly what was there. (Alternates, and what is in a repository: gitrepository-layout(5).)
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from parallelai.errors import UsageError
from parallelai.git.listing import works_in
from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository
from parallelai.work.scratch.gathering import UsersRepository, gather, listing, read_or_nothing

__all__ = [
    "AS_IT_LIES",
    "Snapshot",
    "alternates_file",
    "blobs",
    "listing",
    "open_objects",
    "open_snapshot",
    "take_snapshot",
]

AS_IT_LIES = "* -text -ident !eol !crlf !filter !working-tree-encoding !merge !diff\n"
_BASE = "refs/parallelai/base"
_EXCLUDES = "info/exclude"
_TAKEN = "taken"  # below `objects`: those of ours, without the user's beside them
_SETTINGS = r"^core\.(autocrlf|attributesfile|excludesfile|filemode|symlinks)$"
_AS_IS = ("core.filemode", "core.symlinks")
"""Settings of the user's that hold for what is taken, too: what their file system can keep."""
_LEFT_OUT = "parallelai-left-out"
_SIZE = "parallelai-size"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a checkout. `repository` is the private one; `head` the user's commit, if there is any.

    `objects` is the user's folder of objects; `submodules` are folders whose content is not in it, because
    they are not checked out. What others have is taken as plain files. `size` is what the files take on a disk,
    in bytes.
    """

    root: Path
    repository: Path
    objects: Path
    commit: str
    head: str | None = None
    submodules: tuple[str, ...] = ()
    size: int = 0

    @property
    def git(self) -> Git:
        """git in the private repository."""
        return Git(self.repository)

    def taking(self, work_tree: Path, index: Path) -> Git:
        """git that brings files into an index; it reads no objects but those it writes."""
        return _taking(self.repository, work_tree, index)

    @property
    def alternates(self) -> tuple[Path, ...]:
        """The folders of objects that a repository needs which is cut from the snapshot."""
        return (self.repository / "objects", self.objects)


async def take_snapshot(root: Path, repository: Path) -> Snapshot:
    """Take what is in the checkout at `root`: uncommitted and new work too, what git ignores not.

    Args:
        root: the top of a checkout.
        repository: a folder that does not exist yet; the private repository is made there.

    Raises:
        UsageError: `root` is no checkout, or git does not work there.
        StoreFullError: there is no room for it.
        GitError: a file cannot be read.
    """
    user = await _users_repository(root)
    await _make_private(user, repository)
    head = await _head(user.git)
    as_is = tuple(f"{key}={user.settings[key]}" for key in _AS_IS if key in user.settings)
    gathered = await gather(user, head, root, _taking(repository, root, repository / "base-index", as_is))
    private = Git(repository)
    parents = ("-p", head) if head is not None else ()
    commit = await private.line("commit-tree", gathered.tree, *parents, "-m", "What was in the checkout")
    (repository / _LEFT_OUT).write_bytes(listing(gathered.left_out))
    (repository / _SIZE).write_text(f"{gathered.size}\n", encoding="utf-8")
    await private.run("update-ref", _BASE, commit)
    return Snapshot(root, repository, user.objects, commit, head, gathered.left_out, gathered.size)


async def open_snapshot(root: Path, repository: Path) -> Snapshot | None:
    """Open a snapshot that an earlier process took; None where there is none."""
    if not (repository / _BASE).exists():
        return None
    user = await _users_repository(root)
    commit = await Git(repository).line("rev-parse", _BASE)
    left_out = read_or_nothing(repository / _LEFT_OUT).split(b"\0")[:-1]
    links = tuple(os.fsdecode(link) for link in left_out)
    size = int(read_or_nothing(repository / _SIZE) or b"0")
    return Snapshot(root, repository, user.objects, commit, await _head(user.git), links, size)


async def open_objects(repository: Repository, private: Path) -> Snapshot:
    """Make a private repository which holds nothing yet: folders of any commit of the user's are cut from it.

    Unlike a snapshot's it converts line ends as `.gitattributes` say, as a checkout of a commit does. `commit` is
    the user's HEAD, or the empty tree's where there is none. Raises `UsageError` for a path that git cannot give.
    """
    user = await _paths_of(repository.git, repository.root)
    await _make_private(user, private, read_or_nothing(user.attributes))
    head = await _head(user.git)
    commit = head or await Git(private).line("mktree")
    await Git(private, index=private / "base-index").run("read-tree", commit)
    return Snapshot(repository.root, private, user.objects, commit, head)


async def blobs(snapshot: Snapshot) -> dict[str, str]:
    """Give the hash of each file of the base, by path."""
    listed = await snapshot.git.run("ls-tree", "-r", "-z", snapshot.commit)
    rows = (row.split(b"\t", 1) for row in listed.split(b"\0") if row)
    return {os.fsdecode(path): meta.split()[2].decode() for meta, path in rows}


def alternates_file(folders: Iterable[Path]) -> bytes:
    """The content of `objects/info/alternates`: a path that git would misread is quoted as C does."""
    return b"".join(_quoted(os.fsencode(folder)) + b"\n" for folder in folders)


def _quoted(path: bytes) -> bytes:
    if b"\n" not in path and not path.startswith((b'"', b"#")):
        return path
    return b'"' + path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


def _taking(repository: Path, work_tree: Path, index: Path, settings: tuple[str, ...] = ()) -> Git:
    objects = repository / "objects" / _TAKEN
    return Git(repository, work_tree=work_tree, index=index, objects=objects, settings=settings)


async def _users_repository(root: Path) -> UsersRepository:
    return await _paths_of(await _users_git(root), root)


async def _paths_of(git: Git, root: Path) -> UsersRepository:
    names = ("objects", "index", _EXCLUDES, "info/attributes", "shallow")
    asked = [word for name in names for word in ("--git-path", name)]
    said = await git.line("rev-parse", "--show-object-format", "--path-format=absolute", *asked)
    form, *lines = said.split("\n")
    if len(lines) != len(names):
        raise UsageError(
            f"the path of the repository of `{root}` holds a line's end", next="rename that folder"
        )
    return UsersRepository(git, form, await git.configured(_SETTINGS), *map(Path, lines))


async def _users_git(root: Path) -> Git:
    pointer = root / ".git"
    if not pointer.exists():
        found = await asyncio.to_thread(works_in, root)
        where = "is a folder of a git checkout, and not its top" if found else "is no git checkout"
        advice = "name the top (`--project`)" if found else "`git init` makes it one"
        raise UsageError(f"`{root}` {where}", next=advice)
    if not await asyncio.to_thread(works_in, root):
        raise UsageError(
            f"git does not work in `{root}`", next=f"see what `git -C {root} status` says, and correct that"
        )
    if pointer.is_dir():
        return Git(pointer.resolve(), work_tree=root)
    target = pointer.read_text(encoding="utf-8", errors="surrogateescape").removeprefix("gitdir:").strip()
    return Git((root / target).resolve(), work_tree=root)


async def _head(user: Git) -> str | None:
    done = await user.attempt("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    return done.stdout.decode().strip() if done.exit == 0 else None


async def _make_private(
    user: UsersRepository, repository: Path, attributes: bytes = AS_IT_LIES.encode()
) -> None:
    """Make the private repository, with the user's objects as alternates and what the user ignores."""
    await asyncio.to_thread(repository.mkdir, parents=True, mode=0o700)
    await Git(repository).run("init", "--quiet", "--bare", f"--object-format={user.form}", "--template=")
    taken = repository / "objects" / _TAKEN
    for folder in (taken, repository / "info", repository / "objects" / "info"):
        folder.mkdir(parents=True, exist_ok=True)
    (repository / "objects" / "info" / "alternates").write_bytes(alternates_file((taken, user.objects)))
    (repository / "info" / "attributes").write_bytes(attributes)
    (repository / _EXCLUDES).write_bytes(_excludes(user))
    if user.shallow.exists():
        shutil.copyfile(user.shallow, repository / "shallow")


def _excludes(user: UsersRepository) -> bytes:
    """What the user ignores beside the project's own `.gitignore`: everywhere, and in this clone."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    named = user.settings.get("core.excludesfile")
    everywhere = Path(named).expanduser() if named else config / "git" / "ignore"
    return read_or_nothing(everywhere) + b"\n" + read_or_nothing(user.excludes) + b"\n"
