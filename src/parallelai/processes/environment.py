"""The environment of what is started, and where programs are found.

A program sees only what it needs: a leaked key or proxy setting of the user's shell is not its business.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

MARK = "PARALLELAI_MARK"
"""The variable that marks every program that was started: owner's pid, its start time, run, launch."""

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ")


def environment(
    *,
    env: Mapping[str, str] | None = None,
    pass_env: Iterable[str] = (),
    source: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Build a complete environment for a program.

    From `source` (default: this process's environment) come PATH, HOME, LANG, LC_ALL, LC_CTYPE, TZ, TMPDIR
    where that folder exists, and what `pass_env` names; `env` is laid over it. Names that `source` lacks are
    left out. `PWD` is set when the program starts.
    """
    given = os.environ if source is None else source
    result = {name: given[name] for name in _KEPT if name in given}
    result.setdefault("PATH", os.defpath)
    # A client whose TMPDIR does not exist fails in strange ways; without one it takes /tmp.
    if given.get("TMPDIR") and Path(given["TMPDIR"]).is_dir():
        result["TMPDIR"] = given["TMPDIR"]
    result.update((name, given[name]) for name in pass_env if name in given)
    result.update(env or {})
    result.pop(MARK, None)  # an outer ParallelAI's mark is not ours to hand on
    return result


def find(name: str, path: str | None = None) -> str | None:
    """Return the program that `name` starts, None where there is none.

    `path` is a PATH to search (default: this process's). Relative entries are left out: a checkout must not
    be able to put a program of its own in place of a known one. A name with a slash is taken as a path.
    """
    if "/" in name:
        return str(Path(name).absolute()) if is_executable(Path(name)) else None
    search = os.environ.get("PATH", os.defpath) if path is None else path
    for folder in search.split(os.pathsep):
        if name and folder.startswith("/") and is_executable(candidate := Path(folder) / name):
            return str(candidate)
    return None


def is_executable(path: Path) -> bool:
    """Say whether `path` is a file that this user may execute."""
    try:
        return path.is_file() and os.access(path, os.X_OK)
    except (OSError, ValueError):
        return False
