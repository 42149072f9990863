"""What a warden is told to start.

The zygote loads this file, too; it imports next to nothing.
"""

from __future__ import annotations

import marshal
import struct
from typing import NamedTuple

LENGTH = struct.Struct("!Q")
STATUS_DESCRIPTOR, BRIDGE_DESCRIPTOR = 3, 4
"""Where bubblewrap tells what became of the program, and where the bridge's listeners come out."""


class Restrictions(NamedTuple):
    """What Landlock holds a program to. Paths are absolute, without links; `hidden` may hold `readable`."""

    hidden: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    network: str = "on"
    ports: tuple[int, ...] = ()


class Specification(NamedTuple):
    """What a warden starts. All bytes are without NUL; `env` holds `NAME=value`.

    `memory_bytes` (0: any) is what the tree may take. `is_wrapped` says that bubblewrap is started, and the
    program in it; then `ports` are those of the bridge, and `is_isolated` has Landlock keep it from abstract
    sockets. `restrictions` are Landlock's alone.
    """

    executable: bytes
    cwd: bytes
    grace_seconds: float
    argv: tuple[bytes, ...]
    env: tuple[bytes, ...]
    memory_bytes: int = 0
    is_wrapped: bool = False
    ports: tuple[int, ...] = ()
    is_isolated: bool = False
    restrictions: Restrictions | None = None

    def encode(self) -> bytes:
        """Return the bytes that go over the control socket, length included."""
        plain = self._replace(restrictions=None)
        body = marshal.dumps((tuple(plain), self.restrictions and tuple(self.restrictions)))
        return LENGTH.pack(len(body)) + body

    @classmethod
    def decode(cls, body: bytes) -> Specification:
        """Read back what `encode` wrote, without the length. Both ends are the same interpreter."""
        fields, restrictions = marshal.loads(body)  # noqa: S302 - from the process that started this one
        return cls(*fields)._replace(restrictions=restrictions and Restrictions(*restrictions))
