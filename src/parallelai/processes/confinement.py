"""What a program may see, change and reach; and what can hold it to that on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

By = Literal["bubblewrap", "landlock"]


class Mount(NamedTuple):
    """A folder, or a file, that a program sees in the place of another one. Paths are absolute.

    `place` has to be there when its turn comes, or in a folder that can be written.
    """

    what: str
    place: str
    is_writable: bool = False


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a program and its whole tree are held to. Paths are absolute.

    Everything is read-only but `writable` (existing folders or files) and `temporary`, an existing private
    folder: it is TMPDIR, and with bubblewrap seen as `/tmp`. The machine's temporary folder and what is
    `hidden` are seen as empty, but for the `readable` and `writable` ones below them; where one lies below
    another, the deeper one counts. What is hidden or readable need not exist. What is `protected`
    is read-only below writable paths, too; by bubblewrap alone, as Landlock takes nothing back that it gave.
    `mounts` lie over all that, in their order, by bubblewrap alone, too: with Landlock their places stay what
    they are.

    With the network on `loopback`, only `ports` of 127.0.0.1 can be reached. `memory_bytes` is for the whole
    tree. `by` None takes the best that works here.
    """

    writable: tuple[str, ...]
    temporary: str
    readable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: Literal["on", "loopback", "off"] = "on"
    ports: tuple[int, ...] = ()
    memory_bytes: int | None = None
    by: By | None = None
