"""What a plan is known by in journals and records."""

from __future__ import annotations

from pathlib import Path


def plan_name(path: Path, root: Path) -> str:
    """What a plan is known by: its path below the root, outside of it its real path; as text in any case."""
    real = path.resolve()
    name = real.relative_to(root).as_posix() if real.is_relative_to(root) else str(real)
    return name.encode("utf-8", "backslashreplace").decode()
