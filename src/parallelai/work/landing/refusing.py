"""Why git would not move a checkout along, for the person whose files are in the way. Pure."""

from __future__ import annotations

import re

from parallelai.processes import Completed
from parallelai.results.document import WAITS
from parallelai.work.landing.commits import words

_SHOWN = 3
_UNDONE = {
    "you have unmerged files": "files there have conflicts that are not settled: settle them",
    "You have not concluded your merge": "a merge there is not finished: finish it",
    "GPG signature": "it is not signed as `merge.verifySignatures` asks for: `git config merge.verifySignatures false`",
}
"""What git says of a checkout in the middle of something, or where it wants signatures, and what that means."""
_LOCKED = re.compile(r"'(?P<path>[^'\n]*\.lock)': File exists")


def is_locked(done: Completed) -> bool:
    """Whether git refused because of the lock of another one, which is soon over."""
    return _LOCKED.search(done.stderr.decode("utf-8", "replace")) is not None


def reason(done: Completed) -> str:
    """What git said of a merge that it refused: which files are in the way, and what to do with them."""
    heading, paths = "", list[str]()
    said = done.stderr.decode("utf-8", "replace")
    locked = _LOCKED.search(said)
    if locked is not None:
        return (
            f"another git works there, or was killed and left `{locked['path']}`: let it end, or remove that"
        )
    for sign, why in _UNDONE.items():
        if sign in said:
            return why
    for line in said.splitlines():
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
