"""Git's pattern rules (gitignore(5)), as regular expressions.

Written out here, and not taken from a library, for two reasons: the result is compared with git itself, also
for character classes and odd brackets; and a pattern may come from a repository that nobody trusts, so every
expression matches in polynomial time of low degree: each `*` and `**` but the last takes its first fit and
never gives it up (atomic groups), which is enough, because an earlier fit leaves more for what follows.
As git's manual has it, `**` that is not a whole path component is a plain `*`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from msgspec import Struct

from parallelai.errors import UsageError

NEVER = r"(?!)"
_SPECIAL = frozenset("*?[\\")
_POSIX = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r" \t\n\r\f\v",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9A-Fa-f",
    "cntrl": r"\x00-\x1f\x7f",
    "graph": "!-~",
    "print": " -~",
}
_STAR, _SLASH = "*", "/"


class Pattern(Struct, frozen=True):
    """One pattern, whose `source` is the expression that a path which it names itself matches.

    `literal` is that path where it has no wildcard and is anchored to the root, else None.
    """

    text: str
    is_negated: bool
    is_folder_only: bool
    source: str
    literal: str | None = None

    @property
    def entry(self) -> re.Pattern[str]:
        """Matches (in full) what the pattern names itself."""
        return _compiled(self.source)

    @property
    def below(self) -> re.Pattern[str]:
        """Matches (in full) files that the pattern names, and all that is in a folder that it names."""
        return _compiled(self.source + ("/.+" if self.is_folder_only else "(?:/.+)?"))


@functools.lru_cache(maxsize=16384)
def parse(text: str) -> Pattern | None:
    """Read one line of a pattern list; None for a comment or an empty line."""
    line = _trim(text)
    if not line or line.startswith("#"):
        return None
    is_negated = line.startswith("!")
    body = line[1:] if is_negated else line
    is_folder_only = body.endswith("/")
    body = body.removesuffix("/")
    if not body:
        return None
    is_anchored = "/" in body
    body = body.removeprefix("/")
    source = _regex(body, is_anchored)
    if source is None:
        return Pattern(text, is_negated, is_folder_only, NEVER)
    literal = _unescaped(body) if is_anchored and not is_folder_only else None
    return Pattern(text, is_negated, is_folder_only, source, literal)


@functools.lru_cache(maxsize=16384)
def _compiled(source: str) -> re.Pattern[str]:
    return re.compile(source, re.DOTALL)


def escape(path: str) -> str:
    """Give the pattern that matches exactly this path from the root, and what is below it: `./src/a.py`."""
    escaped = re.sub(r"([*?\[\\{}])", r"\\\1", path)
    stripped = escaped.rstrip(" ")
    return "./" + stripped + "\\ " * (len(escaped) - len(stripped))


def rooted(text: str) -> str:
    """Turn `./x`, which git's rules do not have, into `/x`: x in the root itself."""
    sign, body = ("!", text[1:]) if text.startswith("!") else ("", text)
    while body.startswith("./"):
        body = "/" + body[2:].lstrip("/")
    return sign + body


def refuse_braces(text: str) -> None:
    """Raise `UsageError` where a pattern uses `{a,b}`, which git's rules do not have."""
    body = re.sub(r"\\.", "", text)
    body = re.sub(r"\[[!^]?\]?[^\]]*\]", "", body)
    if "{" in body or "}" in body:
        raise UsageError(
            f"the pattern `{text}` has braces, which git's pattern rules do not know",
            next="write one pattern for each alternative, or `\\{` for the character itself",
        )


def _trim(text: str) -> str:
    """Drop spaces at the end, but for those after a backslash (gitignore(5))."""
    line = text.rstrip("\r\n")
    while line.endswith(" ") and (len(line) - len(line.rstrip(" ")), _is_escaped(line)) != (1, True):
        line = line[:-1]
    return line


def _is_escaped(line: str) -> bool:
    before = line.rstrip(" ")
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _unescaped(body: str) -> str | None:
    """The path that a pattern names whose only special characters are escapes; None if there are others."""
    if not _SPECIAL.intersection(body):
        return body
    if _SPECIAL.intersection(re.sub(r"\\.", "", body, flags=re.DOTALL)):
        return None
    return re.sub(r"\\(.)", r"\1", body, flags=re.DOTALL)


def _regex(body: str, is_anchored: bool) -> str | None:
    """Translate a pattern without `!` and slashes at its ends; None if nothing can match it."""
    segments: list[list[str] | None] = [[]]  # None: a `**` component
    for token in _tokens(body):
        last = segments[-1]
        if token is None or last is None:
            return None
        if token is _SLASH:
            segments.append([])
        else:
            last.append(token)
    if not all(segments):
        return None  # an empty component, as in `a//b`
    parts = [None if _is_globstar(segment) else segment for segment in segments]
    if not is_anchored:
        parts.insert(0, None)
    return _join(parts)


def _is_globstar(segment: list[str] | None) -> bool:
    return segment is not None and len(segment) > 1 and all(token is _STAR for token in segment)


def _join(parts: list[list[str] | None]) -> str:
    chunks: list[list[str]] = [[]]  # what stands between two `**`
    for index, part in enumerate(parts):
        if part is not None:
            chunks[-1].append(_segment(part))
        elif index == 0 or parts[index - 1] is not None:
            chunks.append([])
    *before, last = chunks
    out: list[str] = []
    for index, chunk in enumerate(before):
        inner = "".join(segment + "/" for segment in chunk)
        out.append(f"(?>(?:[^/]+/)*?{inner})" if index and inner else inner)
    if not last:
        out.append(".+")
    else:
        out.append(("(?:[^/]+/)*?" if before else "") + "/".join(last))
    return "".join(out)


def _segment(tokens: list[str]) -> str:
    """One component. Between its first and its last `*` each piece takes its first fit."""
    pieces: list[str] = [""]
    for token in tokens:
        if token is _STAR:
            pieces.append("")
        else:
            pieces[-1] += token
    first, *others = pieces
    if not others:
        return first
    middle = "".join(f"(?>[^/]*?{piece})" for piece in others[:-1] if piece)
    end = r"(?=/|\Z)"
    return f"(?!{end}){first}{middle}[^/]*{others[-1]}{end}"


def _tokens(body: str) -> Iterator[str | None]:
    """Split a pattern into `*`, `/` and expressions for one character; None: it is broken."""
    at = 0
    while at < len(body):
        char = body[at]
        at += 1
        if char == "*":
            yield _STAR
        elif char == "/":
            yield _SLASH
        elif char == "?":
            yield "[^/]"
        elif char == "[":
            found = _bracket(body, at)
            if found is None:
                yield None
                return
            at, expression = found
            yield expression
        elif char == "\\":
            if at == len(body):
                yield None
                return
            yield _SLASH if body[at] == "/" else re.escape(body[at])
            at += 1
        else:
            yield re.escape(char)


def _bracket(body: str, at: int) -> tuple[int, str] | None:
    """Read `[…]` from after its `[`: where it ends, and the expression; None if it is never closed."""
    is_negated = body[at : at + 1] in ("!", "^")
    at += is_negated
    items: list[str] = []
    start = at
    while at < len(body) and (body[at] != "]" or at == start):
        if body.startswith("[:", at) and (end := body.find(":]", at)) > 0:
            name = body[at + 2 : end]
            if name not in _POSIX:
                return None
            items.append(_POSIX[name])
            at = end + 2
            continue
        at, low = _character(body, at)
        high = low
        if body[at : at + 1] == "-" and body[at + 1 : at + 2] not in ("]", ""):
            at, high = _character(body, at + 1)
        if low <= high:
            items.append(f"{_in_set(low)}-{_in_set(high)}")
    if at >= len(body):
        return None
    inner = "".join(items)
    if not inner:
        return at + 1, "[^/]" if is_negated else NEVER
    return at + 1, f"(?!/)[{'^' if is_negated else ''}{inner}]"


def _character(body: str, at: int) -> tuple[int, str]:
    if body[at] == "\\" and at + 1 < len(body):
        at += 1
    return at + 1, body[at]


def _in_set(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
