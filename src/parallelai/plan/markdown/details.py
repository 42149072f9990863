"""The details of a task as a Markdown task list writes them: `**AGENT**: gui`, `(depends on: a, b)`, `files: …`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from parallelai.plan.markdown.outline import Piece

KEYS: Mapping[str, str] = {
    **dict.fromkeys(("agent", "agent id", "id"), "id"),
    **dict.fromkeys(("stream", "streams", "tags"), "tags"),
    **dict.fromkeys(("goal", "description"), "description"),
    **dict.fromkeys(("files", "owns", "allowed files"), "owns"),
    **dict.fromkeys(("reads", "context files"), "reads"),
    **dict.fromkeys(("avoids", "forbidden files"), "avoids"),
    "contracts": "contracts",
    "branch": "branch",
    **dict.fromkeys(("dependencies", "depends on", "after tasks", "blocked by"), "depends_on"),
    **dict.fromkeys(("estimated time", "estimated hours", "estimate"), "ESTIMATED TIME"),
    "priority": "priority",
    "role": "role",
    **dict.fromkeys(("engine", "provider"), "engine"),
    **dict.fromkeys(("model", "tier"), "model"),
    "checks": "checks",
    **dict.fromkeys(("tasks", "todo", "steps", "subtasks"), "todo"),
    "status": "status",
}
"""What a detail is called, in small letters, to the key that it is in a plan; `status` is none."""
BRACKETED: Mapping[str, str] = {**KEYS, "file": "owns"}
"""The same in brackets, where one file is no word of a sentence."""
OWNING = frozenset({"owns", "reads", "avoids", "contracts", "branch"})
"""The keys that only a workstream has."""
LISTS = frozenset({"tags", "owns", "reads", "avoids", "contracts", "depends_on", "checks", "todo"})
PATTERNS = frozenset({"owns", "reads", "avoids", "contracts"})
_SENTENCES = frozenset({"checks", "todo"})  # an item of these may have commas
CLEAR = frozenset({"owns", "reads", "avoids", "branch", "depends_on", "ESTIMATED TIME", "priority"})
"""The keys whose names hardly begin an item that is to be done, as `model: add a price` would."""
_LONGEST_SLUG = 50
_LONGEST_TITLE = 500
"""Of a longer title the rest is not in the id."""


def _either(names: Iterable[str]) -> str:
    return "|".join(sorted((name.replace(" ", "[ _-]") for name in names), key=len, reverse=True))


_NAMES = _either(KEYS)
_NAMES_INSIDE = _either(BRACKETED)
_LINE = re.compile(
    rf"(?:[^\w\s*_`]{{1,4}}[ \t]*)?(?P<mark>\*\*|__|\*|_|)(?:[^\w\s*_`]{{1,4}}[ \t]*)?(?P<key>{_NAMES})[ \t]{{0,4}}"
    r"(?::(?P=mark)|(?P=mark)[ \t]{0,4}:)(?P<value>.*)\Z",
    re.IGNORECASE,
)
_INSIDE = re.compile(
    rf"\([ \t]{{0,4}}(?P<key>{_NAMES_INSIDE})[ \t]{{0,4}}:(?P<value>[^()]*)\)", re.IGNORECASE
)
_MORE = re.compile(rf";[ \t]{{0,4}}(?P<key>{_NAMES_INSIDE})[ \t]{{0,4}}:", re.IGNORECASE)
_TRAILING = re.compile(
    r"(?:\A|[ \t](?:[-–—|][ \t]{1,4})?|[;.,][ \t]{1,4})"
    rf"(?P<key>{_either(name for name in KEYS if KEYS[name] in CLEAR)})[ \t]{{0,4}}:(?P<value>[^:]*)\Z",
    re.IGNORECASE,
)
_PATH = re.compile(r"`[^`]+`|!?[\w.@*?\[\]/~+-]*[*./][\w.@*?\[\]/~+-]*")
_LONGEST_PATH = 300
_CODE = re.compile(r"(?<!`)(`{1,3})(?!`)(?P<text>[^`]+)\1")
_BRACKETS = re.compile(r"(?<![ \t])[ \t]+\([^()]*\)[ \t]*\Z")  # looking back keeps long runs of spaces cheap
_ASIDE = re.compile(_BRACKETS.pattern + r"|(?<![ \t])[ \t]+[-–—][ \t].*\Z")
_NONE = re.compile(r"(?:none\b(?![._-]\w)|n/a\b|nothing\b|[-–—]+\Z).*", re.IGNORECASE)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")


class Detail(NamedTuple):
    """A detail: its key in a plan, where its name stands, and what it says."""

    key: str
    name: Piece
    value: Piece


def key_of(name: str, keys: Mapping[str, str] = KEYS) -> str | None:
    """Say which key of a plan a name means, such as a heading's."""
    return keys.get(re.sub(r"[ _-]+", " ", name.strip(" *_:").casefold()))


def of_line(piece: Piece, *, is_item: bool = False) -> Detail | None:
    """Read a line that is a detail as a whole: `**FILES**: src/gui/**`.

    `is_item`: it is an item of a list, which may also be something to do; names of details that are common words
    have to be bold there, or in capitals, or `Agent` or `Goal`.
    """
    found = _LINE.match(piece.text)
    if found is None:
        return None
    name = found["key"]
    is_plain = not found["mark"] and not name.isupper() and name.casefold() not in ("agent", "goal")
    return None if is_item and is_plain and key_of(name) not in CLEAR else _detail(piece, found)


def within(piece: Piece) -> tuple[Piece, list[Detail]]:
    """Take the details out of a task's line: `Build it (depends on: a; files: src/**)`, `Build it - files: src/**`."""
    found: list[Detail] = []

    def blank(match: re.Match[str]) -> str:
        found.extend(_inside(piece, match))
        return " " * len(match[0])  # what is left keeps its columns

    text = _INSIDE.sub(blank, piece.text)
    for _ in CLEAR:  # each once, at most
        trailing = _TRAILING.search(text.rstrip())
        if trailing is None or not is_meant(key_of(trailing["key"]), trailing["value"]):
            break
        found.append(_detail(piece, trailing))
        text = text[: trailing.start()]
    kept = re.sub(r"[ \t]{2,}", " ", text).strip()
    return Piece(kept, piece.line, piece.column + len(text) - len(text.lstrip())), found


def is_meant(key: str | None, value: str) -> bool:
    """Whether the words after a name in a sentence are what the name asks for: `files: a/b`, no `files: see below`."""
    if key not in PATTERNS:
        return True
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return bool(parts) and all(len(part) <= _LONGEST_PATH and _PATH.fullmatch(part) for part in parts)


def _inside(piece: Piece, match: re.Match[str]) -> Iterator[Detail]:
    names = [(match.start("key"), match.end("key"), match.start("value"))]
    names += [
        (m.start("key"), m.end("key"), m.end()) for m in _MORE.finditer(piece.text, *match.span("value"))
    ]
    ends = [*(piece.text.rfind(";", 0, start) for start, _, _ in names[1:]), match.end("value")]
    for (start, end, value), stop in zip(names, ends, strict=True):
        key = key_of(piece.text[start:end], BRACKETED)
        if key is not None:
            yield Detail(key, piece.part(start, end), piece.part(value, stop))


def _detail(piece: Piece, found: re.Match[str]) -> Detail:
    key = key_of(found["key"])
    assert key is not None  # noqa: S101  # the expression is made of the keys
    value = piece.part(found.start("value"), found.end("value"))
    return Detail(
        key, piece.part(found.start("key"), found.end("key")), value._replace(text=_bare(value.text))
    )


def _bare(text: str) -> str:
    """Without the mark of a hard line break."""
    return text.removesuffix("\\").rstrip()


def is_none(text: str) -> bool:
    """Whether a text says that there is nothing: `None (can start at once)`, `N/A`, `-`."""
    return not text or _NONE.match(text) is not None


def parts(key: str, value: Piece) -> list[Piece]:
    """Split what a detail says into its parts, without asides such as `(new)` and back-ticks."""
    if not value.text:
        return []
    if key in _SENTENCES:
        return [unquoted(value)]
    text = _without_asides(value.text)
    if key == "depends_on":
        text = re.sub(r" and |[&+]", lambda found: "," * len(found[0]), text)
    cut = [value.part(*found.span()) for found in re.finditer(r"[^,;]+", text)]
    return [
        piece for part in cut for piece in (_codes(part) or [unquoted(_without_aside(part))]) if piece.text
    ]


def _codes(part: Piece) -> list[Piece]:
    """What stands in back-ticks in a part; around it are only words about it."""
    return [part.part(found.start("text"), found.end("text")) for found in _CODE.finditer(part.text)]


def _without_asides(text: str) -> str:
    """Blank out what is in brackets, in which commas separate nothing."""
    return re.sub(r"[ \t]\([^()]*\)", lambda found: " " * len(found[0]), text)


def _without_aside(piece: Piece) -> Piece:
    found = _ASIDE.search(piece.text)
    return piece if found is None else piece.part(0, found.start())


def unquoted(piece: Piece) -> Piece:
    """Take back-ticks, or marks of bold and italic text, from around a text."""
    found = re.fullmatch(r"(`{1,3}|\*\*|__|\*(?!\*)|_)(?P<text>[^`]+?)\1", piece.text)
    return (
        piece if found is None or not _is_whole(found) else piece.part(found.start("text"), found.end("text"))
    )


def _is_whole(found: re.Match[str]) -> bool:
    """Whether the marks belong together: `*.py, *` is no italic text."""
    return found[1].startswith("`") or (
        found[1] not in found["text"] and not re.search(r"[/.]", found["text"])
    )


def single(value: Piece) -> Piece:
    """What a detail says that has one value, without an aside in brackets."""
    found = _BRACKETS.search(value.text)
    return unquoted(value if found is None else value.part(0, found.start()))


def slug(text: str) -> str:
    """Make an id of a text: small letters, digits and dashes; empty where it has none of these."""
    plain = (
        unicodedata.normalize("NFKD", _LINK.sub(r"\1", text[:_LONGEST_TITLE]))
        .encode("ascii", "ignore")
        .decode()
    )
    words = re.sub(r"[^a-z0-9]+", "-", plain.lower().replace("'", "")).strip("-")
    if len(words) <= _LONGEST_SLUG:
        return words
    return words[: _LONGEST_SLUG + 1].rpartition("-")[0] or words[:_LONGEST_SLUG]


def literal(text: str) -> str:
    """Write a text so that rendering it gives it back letter by letter."""
    return re.sub(r"\{[{%#]", lambda found: "{{ '" + found[0] + "' }}", text)


def first_text(pieces: Sequence[Piece]) -> Piece:
    """Join lines to one text, at the place of the first."""
    return Piece("\n".join(piece.text for piece in pieces), pieces[0].line, pieces[0].column)
