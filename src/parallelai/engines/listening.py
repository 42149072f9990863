"""Whether something listens at an address of this machine, from the kernel's own tables: nobody is asked."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

_LISTEN = "0A"
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def is_listening(url: str, tables: tuple[str, ...] = _TABLES) -> bool | None:
    """Say whether a program of this machine listens at the port of `url`; None where that cannot be seen.

    The form of the tables is that of Linux's `proc_net_tcp`.
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
