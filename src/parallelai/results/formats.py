"""The output formats: who turns a run's document into text, found by name.

A format is a pure function of (document, context) to text, registered in the entry point group
`parallelai.formats`. The formats that ship come in by the same door as anybody else's.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TextIO

from msgspec import Struct

from parallelai import extensions
from parallelai.errors import UsageError
from parallelai.records import RunDocument

GROUP = "parallelai.formats"
SHOWN = 100
"""How many findings, and how many tasks, the terminal shows before it says how to see the rest."""
PLAIN_WIDTH = 100
"""Columns of output that goes to a file or a pipe, where nobody says how wide it is."""


def read_nothing(_file: str) -> str | None:
    """Read no file: what is shown comes from the document alone."""
    return None


class RenderContext(Struct, frozen=True):
    """What a format may know beside the document.

    `width` is in terminal cells. `read` gives a file's text by its path below `root`, None where it cannot be
    read. `limit` is how many findings and tasks the terminal lists, None for all of them.
    """

    root: Path = Path()
    width: int = PLAIN_WIDTH
    color: bool = False
    ascii_only: bool = False
    read: Callable[[str], str | None] = read_nothing
    limit: int | None = SHOWN


class Format(Protocol):
    """A format: a pure function, which raises nothing for any valid document."""

    def __call__(self, document: RunDocument, context: RenderContext) -> str: ...


def context_for(
    stream: TextIO,
    *,
    root: Path,
    environ: Mapping[str, str],
    color: str = "auto",
    read: Callable[[str], str | None] = read_nothing,
    limit: int | None = SHOWN,
) -> RenderContext:
    """Find out what the stream can show.

    Args:
        stream: where the text will be written.
        root: the project's root.
        environ: the environment; NO_COLOR and `TERM=dumb` switch colour off in `auto`.
        color: `auto`, `always` or `never`, as the flag `--color` has it.
        read: gives a file's text by its path below the root.
        limit: how many findings and tasks to list, None for all.
    """
    is_terminal = stream.isatty()
    is_colorful = is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").replace("_", "")
    return RenderContext(
        root=root,
        width=shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if is_terminal else PLAIN_WIDTH,
        color=color == "always" or (color == "auto" and is_colorful),
        ascii_only=not encoding.startswith("utf"),
        read=read,
        limit=limit,
    )


def names() -> tuple[str, ...]:
    """Name all registered formats, sorted."""
    return tuple(sorted({point.name for point in extensions.of_group(GROUP)}))


def find(name: str) -> Format:
    """Find a format by its name. Raises `UsageError` if there is none, or if it cannot be loaded."""
    points = {point.name: point for point in extensions.of_group(GROUP)}
    if name not in points:
        close = difflib.get_close_matches(name, points, n=1)
        advice = f"did you mean `{close[0]}`?" if close else "one of: " + ", ".join(sorted(points))
        raise UsageError(f"no output format `{name}`", next=advice)
    try:
        loaded: Format = points[name].load()
    except Exception as error:  # a plugin's module: whatever it does at import is told in a line
        said = f"the output format `{name}` cannot be loaded: {error}"
        raise UsageError(
            said, where=points[name].value, next="update or uninstall the package it is from"
        ) from error
    return loaded


def render(name: str, document: RunDocument, context: RenderContext) -> str:
    """Turn a document into text by a format's name. Raises `UsageError` if there is no such format."""
    return find(name)(document, context)
