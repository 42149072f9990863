"""Writing a file so that there is always a whole one: the old or the new."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from parallelai.config import find_project
from parallelai.errors import UsageError
from parallelai.store.files import replace_whole


def write_atomically(path: Path, text: str) -> None:
    """Write text to a file as UTF-8, whole or not at all.

    A file that is there keeps its permissions, a link keeps pointing where it does. What is no regular file,
    such as `/dev/stdout` or a pipe, is written to directly.

    Raises:
        UsageError: the path is a folder, its folder does not exist, it is a link that leads out of its
            project, or it cannot be written.
    """
    data = text.encode("utf-8", "backslashreplace")
    try:
        refuse_link_out(path)
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise UsageError(f"`{path}` is a folder", next="name a file in it")
        if mode is not None and not stat.S_ISREG(mode):
            path.write_bytes(data)  # by its own name: where `/dev/stdout` leads has none of its own
        else:
            replace_whole(path.resolve(), data, mode=None if mode is None else stat.S_IMODE(mode))
    except FileNotFoundError as error:
        raise UsageError(
            f"the folder of `{path}` does not exist", next=f"make `{path.parent}` first"
        ) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"`{path}` cannot be written: {why}", next="name another file") from error


def refuse_link_out(path: Path) -> None:
    """Raise `UsageError` if a path in a project leads out of it by a link, which the project may have brought."""
    written = Path(os.path.abspath(path))  # noqa: PTH100  # `..` by the text alone, links not followed
    real = written.resolve()
    if real == written:
        return
    above = next(folder for folder in written.parents if folder.resolve() == folder)
    root = find_project(above).root
    is_project = any((root / mark).exists() for mark in (".git", ".parallelai", "parallelai.toml"))
    if is_project and not real.is_relative_to(root):
        raise UsageError(
            f"`{path}` is not written: it leads out of the project, to `{real}`", next="name that file itself"
        )


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
