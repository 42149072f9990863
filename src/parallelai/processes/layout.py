"""How the file system looks to a confined program: which paths are hidden, readable, writable.

The decisions are pure (`arrange`), apart from the look at what exists and where links lead (`lay_out`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

from msgspec import Struct

from parallelai.processes.confinement import Confinement, Mount

_SOCKETS = (
    "/run/user",
    "/run/dbus",
    "/run/docker.sock",
    "/run/docker",
    "/run/containerd",
    "/run/crio",
    "/run/podman",
    "/run/libvirt",
    "/run/lxd.socket",
    "/run/snapd.socket",
    "/run/systemd/private",
    "/run/screen",
    "/run/tmux",
    "/run/pcscd",
    "/var/lib/docker",
    "/var/lib/lxd",
    "/var/snap/lxd",
)
"""Where the doors of services are that do things for who knocks: start containers, or programs outside."""


class Kind(Enum):
    """What a program may do with a path and all below it, until a deeper entry says otherwise."""

    HIDDEN = "hidden"
    READABLE = "readable"
    WRITABLE = "writable"


class Layout(Struct, frozen=True):
    """What differs from "all is readable": (path, kind), links followed, outer before inner.

    `temporary` is the private temporary folder; it is among the entries, too.
    """

    entries: tuple[tuple[str, Kind], ...]
    temporary: str

    def of(self, kind: Kind) -> tuple[str, ...]:
        """Return the paths of one kind."""
        return tuple(path for path, found in self.entries if found is kind)

    def kind(self, path: str) -> Kind:
        """Return what holds for an absolute path."""
        found = Kind.READABLE
        for entry, kind in self.entries:
            if is_within(path, entry):
                found = kind
        return found

    def showing(self, path: str) -> Layout:
        """Return one where the file `path`, perhaps a link, can be read even where it is hidden."""
        if self.kind(path) is not Kind.HIDDEN:
            return self
        return Layout((*self.entries, (path, Kind.READABLE)), self.temporary)


def is_within(path: str, folder: str) -> bool:
    """Say whether `path` is `folder`, or lies below it. Both are absolute and normal."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def lay_out(confinement: Confinement, readable: Iterable[str] = ()) -> Layout:
    """Follow the links of all paths and arrange them. Raises ValueError with what is wrong with them.

    `readable` adds to the confinement's. A link that lies where the program may write is not followed: an
    earlier one may have planted it to be given what it leads to.
    """
    writable = [*confinement.writable, confinement.temporary]
    for path in (*writable, *confinement.readable, *confinement.hidden):
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"`{path}` is not an absolute path")
    for path in writable:
        if not Path(path).exists():
            raise ValueError(f"`{path}`, which it may write, does not exist")
    if not Path(confinement.temporary).is_dir():
        raise ValueError(f"`{confinement.temporary}`, its temporary folder, is not a folder")
    if any(is_within(folder, os.path.realpath(confinement.temporary)) for folder in _temporary_folders()):
        raise ValueError(f"`{confinement.temporary}`, its temporary folder, is not its alone")
    own = {os.path.realpath(path) for path in writable}
    for path in (*writable, *confinement.readable):
        _refuse_planted(path, own)
    return arrange(
        hidden=_existing((*_temporary_folders(), *_SOCKETS, *confinement.hidden)),
        readable=_existing((*confinement.readable, *readable)),
        protected=_existing(confinement.protected),
        writable=own,
        temporary=os.path.realpath(confinement.temporary),
    )


def mounts_of(confinement: Confinement) -> tuple[Mount, ...]:
    """Follow the links of all mounts. Raises ValueError for one that cannot be made."""
    for path in (path for mount in confinement.mounts for path in (mount.what, mount.place)):
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"`{path}` is not an absolute path")
    for mount in confinement.mounts:
        if not Path(mount.what).exists():
            raise ValueError(f"`{mount.what}`, which is to be mounted, does not exist")
    real = os.path.realpath
    return tuple(
        mount._replace(what=real(mount.what), place=real(mount.place)) for mount in confinement.mounts
    )


def arrange(
    *,
    hidden: Iterable[str],
    readable: Iterable[str],
    writable: Iterable[str],
    temporary: str,
    protected: Iterable[str] = (),
) -> Layout:
    """Put the entries in order, and leave out those that change nothing.

    Of two for one path the wider counts: writable, then readable. A readable path below a writable one stays
    writable, unless it is protected.
    """
    kinds: dict[str, Kind] = {}
    kept = frozenset(protected)
    for kind, paths in (
        (Kind.HIDDEN, hidden),
        (Kind.READABLE, (*readable, *kept)),
        (Kind.WRITABLE, writable),
    ):
        kinds.update(dict.fromkeys(paths, kind))
    if kinds.get("/") is Kind.HIDDEN:
        raise ValueError("all of the file system cannot be hidden")
    layout = Layout((), temporary)
    for path in sorted(kinds, key=lambda path: (path.rstrip("/").count("/"), path)):
        outer, kind = layout.kind(path), kinds[path]
        is_idle = kind is Kind.READABLE and outer is Kind.WRITABLE and path not in kept
        if kind is not outer and not is_idle:
            layout = Layout((*layout.entries, (path, kind)), temporary)
    return layout


def _temporary_folders() -> set[str]:
    import tempfile  # not for those who confine nothing

    return {os.path.realpath(folder) for folder in ("/tmp", tempfile.gettempdir())}  # noqa: S108 - to hide it


def _existing(paths: Iterable[str]) -> list[str]:
    """Follow links; leave out what does not exist, or cannot be looked at by this user."""
    return [os.path.realpath(path) for path in paths if os.path.exists(path)]  # noqa: PTH110


def _refuse_planted(path: str, writable: set[str]) -> None:
    """Raise ValueError where a link on the way lies in one of the folders of `writable`."""
    step = "/"
    for part in Path(path).parts[1:]:
        folder, step = step, os.path.join(step, part)  # noqa: PTH118
        if os.path.islink(step):  # noqa: PTH114
            if any(is_within(os.path.realpath(folder), own) for own in writable):
                raise ValueError(f"`{step}` is a link in a folder that the program may write")
            step = os.path.realpath(step)
