"""Why git would not move a checkout along, for the person whose files are in the way. Pure."""

from __future__ import annotations

from parallelai.processes import Completed
from parallelai.results.document import WAITS
from parallelai.work.landing.commits import words

_SHOWN = 3


def reason(done: Completed) -> str:
    """What git said of a merge that it refused: which files are in the way, and what to do with them."""
    heading, paths = "", list[str]()
    for line in done.stderr.decode("utf-8", "replace").splitlines():
        if line.startswith("error: "):
            if paths:  # the first reason is enough to begin with
                break
            heading = line
        elif line[:1].isspace() and line.strip():
            paths.append("".join(character for character in line.strip() if character.isprintable()))
    if not paths or not heading.endswith(":"):
        return words(done)
    named = ", ".join(f"`{path}`" for path in paths[:_SHOWN])
    named += f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    if "untracked" in heading:
        return f"{named} {'is' if len(paths) == 1 else 'are'} in the way: move {'it' if len(paths) == 1 else 'them'}"
    return f"what you changed in {named} is in the way: put it aside"


def waits(why: str | None, next_: str | None) -> str:
    """The note of what landed and the checkout could not follow: what is in the way, and what takes it over."""
    said = f"{why}, then `{next_}`" if why and next_ else why or f"`{next_}` takes it over"
    return f"{WAITS}{said}"
