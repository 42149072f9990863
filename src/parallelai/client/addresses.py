"""An engine's address as it may be kept and shown."""

from __future__ import annotations

from parallelai.engines.models.http import shown_url

USUAL = ""
"""In place of an address: wherever an engine of that kind usually asks."""


def shown(written: str) -> str:
    """Give an address that somebody wrote as it may be kept and shown: without a user, a password or a query."""
    return shown_url(written if "://" in written else f"http://{written.lstrip('/')}") if written else USUAL
