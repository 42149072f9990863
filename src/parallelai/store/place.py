"""The folder that state lives in: made private, kept out of git, refused on network file systems."""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from parallelai.errors import NotFoundError, StoreError
from parallelai.store.faults import told

# fmt: off
_NETWORK = {
    "9p", "afs", "afpfs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "gfs", "gfs2",
    "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2",
    "smb3", "smbfs", "webdav",
}
# fmt: on
_FILES = ("journal.db", "journal.db-wal", "journal.db-shm", "journal.lock")
_FOLDERS = ("runs", "cache")
_IDENTITY = "identity"
_NETWORK_FUSE = (
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.s3fs",
    "fuse.rclone",
    "fuse.gcsfuse",
    "fuse.davfs",
)


def prepare(state: Path, *, create: bool) -> Path:
    """Make the state folder, readable by its owner alone and ignored by git, or check one that is there.

    Returns its absolute path. Raises `NotFoundError` if it is missing and `create` is False, `StoreError` if
    it lies on a network file system, is or holds a link, or came with the repository.
    """
    state = Path(os.path.normpath(state.absolute()))
    refuse_network(state)
    above = (state.parent,) if state.parent.name == ".parallelai" else ()
    for folder in (*above, state):
        if folder.is_symlink():
            raise StoreError(
                f"`{folder}` is a link, and a repository can bring one that leads anywhere",
                next="remove it, and set `state.path` to the folder that you want",
            )
    if not create and not (state / "journal.db").exists():
        raise NotFoundError(f"no run was ever started here: `{state}` holds no journal", next="start one")
    with told(state):
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_private(state)
        _refuse_planted(state)
        _ignore(state / ".gitignore")
    return state


def _make_private(state: Path) -> None:
    mode = stat.S_IMODE(state.stat().st_mode)
    if not mode & 0o077:
        return
    if (state / "journal.db").exists():
        # Ours is 0700 from its first moment; one that came with a checkout or an archive is usually not, and
        # what its journal says would be carried out by `resume`.
        raise StoreError(
            f"`{state}` holds a journal, and others may read or write there (mode {mode:o})",
            next=f"if it is yours and not part of the repository: `chmod 700 {state}`; otherwise remove it",
        )
    state.chmod(0o700)


def _refuse_planted(state: Path) -> None:
    """Stop at a link, pipe or device in the place of a file of ours: it would lead out, or never end."""
    kinds = [*((name, stat.S_ISREG) for name in _FILES), *((name, stat.S_ISDIR) for name in _FOLDERS)]
    for name, is_ours in kinds:
        path = state / name
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        if not is_ours(mode):
            kind = "folder" if name in _FOLDERS else "file"
            raise StoreError(
                f"`{path}` is no {kind} that ParallelAI made, and may have come with the repository",
                next="look at it, and remove it",
            )


def _ignore(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write("*\n")


def identity(state: Path, *, is_made: bool) -> str | None:
    """Name this very folder: by its place on the disk, and by a word in it that nobody could know before.

    A copy has another place, and what came in an archive has a word that was never given here. `is_made`: it
    gets its word now. None where it has none. Raises `StoreError`.
    """
    path = state / _IDENTITY
    with told(path):
        if is_made:
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(16))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as stream:
            word = stream.read(64)
        there = state.stat()
        return f"{there.st_dev}:{there.st_ino}:{word.hex()}"


def refuse_network(path: Path) -> None:
    """Raise `StoreError` where `path` is, or would be, on a network file system."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    kind = network_kind(there.resolve(), _mounts())
    if kind is not None:
        raise StoreError(
            f"`{path}` is on a network file system ({kind}), where locks and shared memory cannot be trusted",
            next="set `state.path` to a folder on a local disk",
        )


def _mounts() -> list[tuple[str, str]]:
    """List (mount point, type), in the order in which they were mounted."""
    try:
        return parse_mounts(Path("/proc/self/mountinfo").read_text(errors="replace"))
    except OSError:
        import psutil  # only where there is no /proc, for it takes a while to import

        return [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]


def parse_mounts(text: str) -> list[tuple[str, str]]:
    """Read the format of /proc/self/mountinfo (proc(5)) into (mount point, type)."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, types = before.split(), after.split()
        if len(fields) > 4 and types:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
            mounts.append((point, types[0]))
    return mounts


def network_kind(path: Path, mounts: list[tuple[str, str]]) -> str | None:
    """Return the type of the file system that holds `path` if it is a network's, else None."""
    kind, length = "", -1
    for point, type_ in mounts:
        if path.is_relative_to(point) and len(point) >= length:
            kind, length = type_, len(point)
    is_network = kind in _NETWORK or kind.startswith(_NETWORK_FUSE)
    return kind if is_network else None
