"""Whether a name that is gone from one file is still defined in another: then a use need not mean what is gone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from parallelai.git.plumbing import Git, GitError
from parallelai.work.conflicts.imports import reach
from parallelai.work.conflicts.logic import Broken, Clash
from parallelai.work.symbols import language_of

MOST_NAMES = 100
_PLAIN = re.compile(r"\w+", re.ASCII)
_WORDS = "def|class|func|function|fn|interface|type|struct|enum|trait|const|let|var|define|static|module"


class Elsewhere:
    """Looks through trees for definitions, by one `git grep` for each; answers are kept."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._found: dict[tuple[str, str, str], frozenset[str] | None] = {}

    async def look(self, tree: str, gone: Iterable[Broken]) -> None:
        """Look for what else defines the names of a tree's broken definitions."""
        fresh = {each.bare: each for each in gone if self._key(tree, each) not in self._found}
        if len(self._found) > 10_000:
            self._found = {}
        for each in [*fresh.values()][MOST_NAMES:]:
            self._found[self._key(tree, each)] = None
        wanted = [each for each in [*fresh.values()][:MOST_NAMES] if _PLAIN.fullmatch(each.bare)]
        defining = await self._grep(tree, wanted)
        for each in fresh.values():
            places = defining.get(each.bare, set())
            self._found.setdefault(self._key(tree, each), frozenset(places - {each.path}))

    def has(self, tree: str, clash: Clash) -> bool:
        """Whether what is used is defined in another file of the tree, as far as was looked: one that may be meant."""
        places = self._found.get(self._key(tree, clash.broken), frozenset())
        if not clash.is_named:
            return places is None or bool(places)
        if not places or not clash.module:
            return False
        near = reach(clash.module, clash.path, clash.broken.path) or 0
        found = (reach(clash.module, clash.path, each) for each in places)
        return any(each is not None and each >= near for each in found)

    def _key(self, tree: str, gone: Broken) -> tuple[str, str, str]:
        return tree, gone.path, gone.bare

    async def _grep(self, tree: str, gone: Collection[Broken]) -> dict[str, set[str]]:
        if not gone:
            return {}
        patterns = [word for each in gone for word in ("-e", _pattern(each))]
        plain = ("--no-color", "--no-line-number", "--no-column", "--no-heading", "--no-break", "--full-name")
        arguments = ("grep", "-z", "-o", "-I", "-E", *plain, *patterns, tree, "--")
        done = await self._git.attempt(*arguments)
        if done.exit not in (0, 1) or done.is_truncated:
            raise GitError("`git grep` failed: too many definitions")
        names = {each.bare for each in gone}
        found: dict[str, set[str]] = {}
        for line in done.stdout.split(b"\n"):
            place, _, text = line.decode("utf-8", "surrogateescape").partition("\0")
            for name in names.intersection(_PLAIN.findall(text)):
                found.setdefault(name, set()).add(place.partition(":")[2])
        return found


def _pattern(gone: Broken) -> str:
    """What a line looks like that defines the same: at the same depth in Python, anywhere in other languages."""
    name = gone.bare
    end = "([^[:alnum:]_]|$)"
    if language_of(gone.path) == "python":
        start = "^[[:space:]]+" if "." in gone.name else "^"
        return f"{start}((async[[:space:]]+)?(def|class)[[:space:]]+{name}{end}|{name}[[:space:]]*=)"
    if gone.kind == "constant":
        return f"(^|[[:space:]]){name}([[:space:]]+[^=[:space:]]+|[[:space:]]*:[^=]*)?[[:space:]]*=([^=]|$)"
    return f"({_WORDS})[[:space:]]+(\\([^)]*\\)[[:space:]]*)?{name}{end}"
