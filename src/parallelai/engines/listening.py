"""Whether something listens at an address of this machine."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

from parallelai.engines.loopback import loopback_port
from parallelai.engines.models.http import nothing_listens

KNOCK_SECONDS = 1.0
"""How long a server of this machine may take to accept a connection; a slower one is left to the client."""
_LISTEN = "0A"
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def refuse_closed(url: str | None) -> None:
    """Raise `Unavailable` where `url` is on this machine and its port refuses: clients would try again for minutes.

    By a connection, not by the kernel's tables: a port may be forwarded by what is in none of them.
    """
    port = loopback_port(url)
    if url is None or port is None:
        return
    try:
        socket.create_connection((urlsplit(url).hostname or "", port), KNOCK_SECONDS).close()
    except ConnectionRefusedError:
        raise nothing_listens(url) from None
    except OSError:  # what the client makes of it says more
        return


def is_listening(url: str, tables: tuple[str, ...] = _TABLES) -> bool | None:
    """Say whether a program of this machine listens at the port of `url`; None where that cannot be seen.

    From the kernel's own tables: nobody is asked. The form of the tables is that of Linux's `proc_net_tcp`.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    wanted = f":{port:04X}"
    has_table = False
    for table in tables:
        try:
            lines = Path(table).read_text(encoding="ascii", errors="replace").splitlines()[1:]
        except OSError:
            continue
        has_table = True
        for line in lines:
            fields = line.split(maxsplit=4)
            if len(fields) > 3 and fields[3] == _LISTEN and fields[1].endswith(wanted):
                return True
    return False if has_table else None
