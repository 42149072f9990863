"""Which addresses are on this machine: what goes there leaves it not, costs nothing, and is reached by its port."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_loopback(url: str | None) -> bool:
    """Say whether an address is on this machine; what is no address is not."""
    return loopback_port(url) is not None


def loopback_port(url: str | None) -> int | None:
    """Give the port of an address on this machine; None for any other, and for none."""
    try:
        parts = urlsplit(url or "")
        port = parts.port
    except ValueError:
        return None
    if not _is_here((parts.hostname or "").rstrip(".")):
        return None
    return port or (443 if parts.scheme == "https" else 80)


def _is_here(host: str) -> bool:
    """Whether a host's name is `localhost`, one below it (RFC 6761), or a number of this machine: no other name is."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if not host or not (host[0].isdigit() or ":" in host):
        return False
    import ipaddress  # few need it

    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return False
    return number.is_loopback or number.is_unspecified
