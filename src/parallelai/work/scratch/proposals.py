"""Edits that a model proposed, written into a folder made for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parallelai.engines.edits import edits_of
from parallelai.errors import Invalid
from parallelai.work.checkout.writing import NotWritten, read


def write_edits(root: Path, data: Any) -> None:
    """Write what an engine without hands proposed (`engines.edits`): all of it, or nothing.

    Raises:
        Invalid: the edits do not fit to the files, or name what may not be written.
    """
    results: list[tuple[Path, str | None]] = []
    for edit in edits_of(data):
        before = _text(root, edit.path)
        results.append((root / edit.path, edit.apply(before)))
    for path, after in results:
        if after is None:
            path.unlink()
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                file.write(after)
        except (OSError, UnicodeEncodeError) as error:
            raise Invalid(f"`{path.relative_to(root)}` cannot be written: {error}") from None


def _text(root: Path, path: str) -> str | None:
    """A file's text as it lies there, line ends included."""
    try:
        found = read(root, path)
        if found is not None and found.is_link:
            raise Invalid(f"`{path}` is a link")
        return None if found is None else found.data.decode("utf-8")
    except NotWritten as error:
        raise Invalid(error.said) from None
    except UnicodeDecodeError:
        raise Invalid(f"`{path}` is no UTF-8 text") from None
