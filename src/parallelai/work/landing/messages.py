"""The words of the commits that a landing makes, and the trailers that tell later what it was. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from parallelai.work.landing.records import REGENERATED, Candidate

LANDS = "ParallelAI-Lands"
"""Trailer of a landing's commit: the full hash of the branch's tip that it brought."""
UNDOES = "ParallelAI-Undoes"
"""Trailer of a commit that takes a landing back: the same hash."""

_WIDTH = 72
_MOST_SETTLED, _SHOWN = 20, 5
"""Of so many settled files each is named; of more the first few."""
_OURS = re.compile(rf"^\s*({LANDS}|{UNDOES})\s*:", re.IGNORECASE)
_SETTLED = re.compile(r" (was|were) settled by ")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u2028\u2029]")


def member(candidate: Candidate, settled: Mapping[str, str], verb: str | None = "Merge") -> str:
    """The message of one candidate's merge, or of its only commit where `verb` is None (squash)."""
    name, intent = _line(candidate.name), [_line(line) for line in candidate.intent.strip().splitlines()]
    first = intent[0] if intent else ""
    if verb is not None:
        name = f"{verb} {name}"
        first = f"{name}: {first}" if first else ""
    title = first or name
    said = intent[1:] if title == first and len(title) <= _WIDTH else intent  # a title is not repeated
    body = [line for line in said if not _OURS.match(line)] if len(title) > _WIDTH or intent[1:] else []
    settling = [f"Conflict in {paths} settled {how}." for paths, _, how in _settled(settled, _line)]
    return _message(
        _cut(title), [*body, *([""] if body and settling else []), *settling], trailers([candidate])
    )


def settled_notes(settled: Mapping[str, str]) -> list[str]:
    """What a person is told of conflicts that were settled, by path who settled it; of many files the first few."""
    rows = _settled(settled, lambda path: f"`{path}`")
    return [f"{paths} {'were' if is_many else 'was'} settled {how}" for paths, is_many, how in rows]


def is_of_settling(note: str) -> bool:
    """Whether a note of a landing says how a conflict was settled (`settled_notes`)."""
    return _SETTLED.search(note) is not None


def _settled(settled: Mapping[str, str], word: Callable[[str], str]) -> list[tuple[str, bool, str]]:
    """Paths in words, whether these are many, and how they were settled: a row for each, or one for many."""
    rows = []
    for by in dict.fromkeys(by for _, by in sorted(settled.items())):
        paths = [word(path) for path, each in sorted(settled.items()) if each == by]
        is_many = len(paths) > _MOST_SETTLED
        if is_many:
            paths = [f"{', '.join(paths[:_SHOWN])} and {len(paths) - _SHOWN} more"]
        rows += [(path, is_many, _line(how(by, is_many=is_many))) for path in paths]
    return rows


def how(by: str, *, is_many: bool = False) -> str:
    """How a conflict was settled, in words, by who settled it."""
    return f"by the program that makes {'them' if is_many else 'it'}" if by == REGENERATED else f"by {by}"


def batch(candidates: Sequence[Candidate]) -> str:
    """The message of the merge by which several candidates become part of the target at once."""
    names = [_line(one.name) for one in candidates]
    title = f"Land {', '.join(names[:-1])} and {names[-1]}"
    if len(title) > _WIDTH:
        title = f"Land {len(names)} branches"
    body = []
    for one in candidates:
        lines = one.intent.strip().splitlines()
        body.append(f"- {_line(one.name)}: {_line(lines[0])}" if lines else f"- {_line(one.name)}")
    return _message(title, body, trailers(candidates))


def replayed(original: str, candidate: Candidate, is_last: bool) -> str:
    """The message of a replayed commit: its own, with the run's trailers; the last one says what it lands."""
    lines = [line for line in original.rstrip().splitlines() if not _OURS.match(line)]
    pairs = [f"{key}: {value}" for key, value in _given(candidate) if f"{key}: {value}" not in lines]
    if is_last:
        pairs.append(f"{LANDS}: {candidate.commit}")
    if not pairs:
        return "\n".join(lines) + "\n"
    ends_in_trailers = len(lines) > 1 and re.match(r"[A-Za-z0-9-]+: ", lines[-1]) and "" in lines
    return "\n".join([*lines, *([] if ends_in_trailers else [""]), *pairs]) + "\n"


def undoing(title: str, commit: str, hashes: Sequence[str]) -> str:
    """The message of the commit that takes a landing back."""
    body = [f"This takes back what landed with {commit}."]
    return _message(_cut(f'Revert "{_line(title)}"'), body, [(UNDOES, each) for each in hashes])


def trailers(candidates: Iterable[Candidate]) -> list[tuple[str, str]]:
    """The trailers of a commit that lands these: run, task and engine as given, and what each one lands."""
    ordered = list(candidates)
    pairs = [pair for one in ordered for pair in _given(one)]
    return list(dict.fromkeys([*pairs, *((LANDS, one.commit) for one in ordered)]))


def _given(candidate: Candidate) -> list[tuple[str, str]]:
    return [
        (key, _line(value))
        for key, value in candidate.trailers.items()
        if _KEY.fullmatch(key) and not _OURS.match(f"{key}:")
    ]


def _message(title: str, body: Sequence[str], pairs: Sequence[tuple[str, str]]) -> str:
    parts = [title, "\n".join(body).strip(), "\n".join(f"{key}: {value}" for key, value in pairs)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _line(text: str) -> str:
    """One line without control characters, encodable whatever a branch or a path is called."""
    clean = _CONTROL.sub("", " ".join(text.split()))
    return clean.encode("utf-8", "replace").decode()


def _cut(title: str) -> str:
    return title if len(title) <= _WIDTH else title[: _WIDTH - 1].rstrip() + "…"
