"""What the user has now, as a commit in a private repository; nothing is written to the user's own.

The private repository reads the user's objects as alternates and keeps new ones to itself. Files are taken
byte by byte as they lie on disk: no filter, no conversion of line ends, so that what is applied later is
compared with exactly what was there. (git's index format and alternates: gitformat-index(5),
gitrepository-layout(5).)
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from parallelai.errors import UsageError
from parallelai.git.listing import list_files
from parallelai.git.plumbing import Git, GitError

_AS_IT_LIES = "* -text -ident !eol !filter !working-tree-encoding\n"
_CONVERTS = re.compile(rb"\b(text|eol|filter|ident|crlf|working-tree-encoding)\b")
_GITLINK = b"160000"
_EXCLUDES = "info/exclude"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a checkout. `repository` is the private one; `head` the user's commit, if there is any.

    `objects` is the user's folder of objects; `submodules` are folders whose content is not in it.
    """

    root: Path
    repository: Path
    objects: Path
    commit: str
    head: str | None = None
    submodules: tuple[str, ...] = ()

    @property
    def git(self) -> Git:
        """git in the private repository."""
        return Git(self.repository)

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
        GitError: a file cannot be read, or there is no room.
    """
    user = await _users_git(root)
    objects = Path(await user.line("rev-parse", "--path-format=absolute", "--git-path", "objects"))
    await _make_private(user, repository, objects)
    head = await _head(user)
    index = repository / "base-index"
    taking = Git(repository, work_tree=root, index=index)
    links = await _begin_index(user, taking, root)
    await _add_all(taking, root, links)
    tree = await taking.line("write-tree")
    parents = ("-p", head) if head is not None else ()
    commit = await taking.line("commit-tree", tree, *parents, "-m", "What was in the checkout")
    await taking.run("update-ref", "refs/parallelai/base", commit)
    return Snapshot(root, repository, objects, commit, head, tuple(sorted(links)))


async def open_snapshot(root: Path, repository: Path) -> Snapshot | None:
    """Open a snapshot that an earlier process took; None where there is none."""
    if not (repository / "refs" / "parallelai" / "base").exists():
        return None
    user = await _users_git(root)
    objects = Path(await user.line("rev-parse", "--path-format=absolute", "--git-path", "objects"))
    private = Git(repository)
    commit = await private.line("rev-parse", "refs/parallelai/base")
    listed = await private.run("ls-tree", "-r", "-z", commit)
    links = [os.fsdecode(row.split(b"\t", 1)[1]) for row in listed.split(b"\0") if row.startswith(_GITLINK)]
    return Snapshot(root, repository, objects, commit, await _head(user), tuple(links))


async def blobs(snapshot: Snapshot) -> dict[str, str]:
    """Give the hash of each file of the base, by path."""
    listed = await snapshot.git.run("ls-tree", "-r", "-z", snapshot.commit)
    rows = (row.split(b"\t", 1) for row in listed.split(b"\0") if row)
    return {os.fsdecode(path): meta.split()[2].decode() for meta, path in rows}


async def _users_git(root: Path) -> Git:
    if not (root / ".git").exists():
        raise UsageError(f"`{root}` is not the top of a git checkout", next="`git init` makes it one")
    found = await asyncio.to_thread(list_files, root)
    if found is None:
        raise UsageError(
            f"git does not work in `{root}`", next=f"see what `git -C {root} status` says, and correct that"
        )
    pointer = root / ".git"
    if pointer.is_dir():
        return Git(pointer.resolve(), work_tree=root)
    target = pointer.read_text(encoding="utf-8", errors="surrogateescape").removeprefix("gitdir:").strip()
    return Git((root / target).resolve(), work_tree=root)


async def _head(user: Git) -> str | None:
    done = await user.attempt("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    return done.stdout.decode().strip() if done.exit == 0 else None


async def _make_private(user: Git, repository: Path, objects: Path) -> None:
    """Make the private repository, with the user's objects as alternates and what the user ignores."""
    form = (await user.attempt("rev-parse", "--show-object-format")).stdout.decode().strip() or "sha1"
    await asyncio.to_thread(repository.mkdir, parents=True, mode=0o700)
    await Git(repository).run("init", "--quiet", "--bare", f"--object-format={form}", "--template=")
    info = repository / "objects" / "info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "alternates").write_bytes(alternates_file((objects,)))
    (repository / "info").mkdir(exist_ok=True)
    (repository / "info" / "attributes").write_text(_AS_IT_LIES, encoding="utf-8")
    (repository / _EXCLUDES).write_bytes(await _excludes(user))
    shallow = Path(await user.line("rev-parse", "--path-format=absolute", "--git-path", "shallow"))
    if shallow.exists():
        shutil.copyfile(shallow, repository / "shallow")


def alternates_file(folders: tuple[Path, ...]) -> bytes:
    """The content of `objects/info/alternates`."""
    return b"".join(os.fsencode(folder) + b"\n" for folder in folders)


async def _excludes(user: Git) -> bytes:
    """What the user ignores beside the project's own `.gitignore`: for this clone, and everywhere."""
    path = Path(await user.line("rev-parse", "--path-format=absolute", "--git-path", _EXCLUDES))
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    found = [_read(path), _read(config / "git" / "ignore")]
    named = await Git(user.git_dir, env=_USERS_CONFIG).attempt(
        "config", "--get", "--path", "core.excludesFile"
    )
    if named.exit == 0 and (name := os.fsdecode(named.stdout).strip()) and name != os.devnull:
        found.append(_read(Path(name)))
    return b"\n".join(found) + b"\n"


_USERS_CONFIG = {"GIT_CONFIG_GLOBAL": str(Path("~/.gitconfig").expanduser())}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def _begin_index(user: Git, taking: Git, root: Path) -> frozenset[str]:
    """Begin with the user's index, whose times save reading what did not change; gives the submodules.

    Where contents are converted on their way into the index it does not tell what lies on disk.
    """
    listed = await user.attempt("ls-files", "--stage", "-z")
    rows = [row for row in listed.stdout.split(b"\0") if row]
    links = frozenset(os.fsdecode(row.split(b"\t", 1)[1]) for row in rows if row.startswith(_GITLINK))
    index = Path(await user.line("rev-parse", "--path-format=absolute", "--git-path", "index"))
    is_whole = not any(index.parent.glob("sharedindex.*"))
    if is_whole and index.exists() and not await _is_converted(user, root, rows):
        assert taking.index is not None  # noqa: S101 -- it was made with one
        await asyncio.to_thread(shutil.copyfile, index, taking.index)
        return links
    kept = [row for row in rows if row.startswith(_GITLINK)]
    await taking.run("update-index", "-z", "--index-info", stdin=b"".join(row + b"\0" for row in kept))
    return links


async def _is_converted(user: Git, root: Path, rows: list[bytes]) -> bool:
    """Whether git converts files here: by attributes, or by the user's settings."""
    for key in ("core.autocrlf", "core.attributesFile"):
        done = await Git(user.git_dir, env=_USERS_CONFIG).attempt("config", "--get", key)
        if done.exit == 0 and done.stdout.strip() not in (b"", b"false", b"/dev/null"):
            return True
    paths = [row.split(b"\t", 1)[1] for row in rows]
    files = [os.fsdecode(path) for path in paths if path.rsplit(b"/", 1)[-1] == b".gitattributes"]
    contents = [_read(root / file) for file in {*files, ".gitattributes"}]
    contents.append(_read(user.git_dir / "info" / "attributes"))
    return any(_CONVERTS.search(content) for content in contents)


async def _add_all(taking: Git, root: Path, links: frozenset[str]) -> None:
    tree = await asyncio.to_thread(list_files, root)
    names = set(tree.paths) if tree is not None else set()
    await taking.attempt("update-index", "-q", "--unmerged", "--really-refresh")
    known = {os.fsdecode(row) for row in (await taking.run("ls-files", "-z")).split(b"\0") if row}
    gone = known - names - links
    if gone:
        await taking.run("update-index", "-z", "--force-remove", "--stdin", stdin=listing(gone))
    try:
        await taking.run(
            "update-index", "-z", "--add", "--remove", "--replace", "--stdin", stdin=listing(names)
        )
    except GitError as error:
        free = shutil.disk_usage(taking.git_dir).free
        advice = "make room on the disk" if free < 1 << 20 else "make it readable, or let git ignore it"
        raise GitError(f"what is in the checkout cannot be taken: {error.said}", next=advice) from None


def listing(names: frozenset[str] | set[str] | list[str]) -> bytes:
    """Paths as git reads them from stdin with `-z`."""
    return b"".join(os.fsencode(name) + b"\0" for name in sorted(names))
