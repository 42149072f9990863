"""Where the folders of a run lie, and their end."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from parallelai.work.scratch.removing import remove


def home(run: str) -> Path:
    """Where the folders of a run lie: in the user's cache."""
    return Path(platformdirs.user_cache_dir("parallelai")) / "workspaces" / run


def forget(run: str) -> None:
    """Remove what is left of a run's folders."""
    remove(home(run))
