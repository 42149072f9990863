"""What engines give, held against the types that records say: in Python nothing else does.

What goes into the journal must come out again: otherwise nobody could show or resume the run. Nor may one engine's
slip end the work of the others.
"""

from __future__ import annotations

from typing import get_args

from parallelai.engines.protocol import EngineEvent, SessionEvent, StderrEvent, TextEvent, UsageEvent
from parallelai.engines.untrusted import MAX_LINE
from parallelai.errors import EngineError, Internal, Invalid, RateLimited
from parallelai.records import (
    FREE,
    Change,
    CostBasis,
    Coverage,
    FileNote,
    Finding,
    FindingState,
    Reply,
    Severity,
    Tier,
    Usage,
)

_SEVERITIES, _TIERS, _STATES = (
    frozenset(Severity),
    frozenset(get_args(Tier)),
    frozenset(get_args(FindingState)),
)
_BASES = frozenset(get_args(CostBasis))
_ROWS, _NUMBERS = (tuple, list), (int, float)  # made once: `tuple | list` makes a new type each time
_MOST = 1 << 62
"""What is kept as a number must fit into 8 bytes."""


def wrong_form(reply: Reply) -> Invalid | None:
    """Name the first field of a reply that is not what records say of it; None where all are."""
    if not (_is_text(reply.text) and _is_text(reply.model) and _is_text(reply.session)):
        return _misfit("its `text`, `model` or `session` is neither text nor None")
    if not _are_texts(reply.notes):
        return _misfit("its `notes` are no tuple of texts")
    if not _is_count(reply.memory_bytes):
        return _misfit("its `memory_bytes` is no number of bytes")
    if not _is_row(reply.findings) or not all(map(_is_finding, reply.findings)):
        return _misfit("its `findings` holds what is no `Finding`, or one with fields of another type")
    if reply.change is not None and not _is_change(reply.change):
        return _misfit("its `change` is no `Change`, or one with fields of another type")
    if reply.coverage is not None and not _is_coverage(reply.coverage):
        return _misfit("its `coverage` is no `Coverage`, or one with fields of another type")
    return None


def check_usage(usage: object) -> None:
    """Raise `Invalid` for what cannot be added up."""
    if not _is_usage(usage):
        raise _misfit("its `usage` is no `Usage` of numbers from 0, or None where they are unknown")


def check_event(event: object) -> None:
    """Raise `Invalid` for an event that could not be kept."""
    match event:
        case TextEvent() | StderrEvent():
            is_right = isinstance(event.delta, str)
        case SessionEvent():
            is_right = isinstance(event.id, str)
        case UsageEvent():
            is_right = _is_usage(event.usage)
        case _:
            is_right = isinstance(event, EngineEvent)
    if not is_right:
        raise _misfit(
            f"it reports a `{type(event).__name__}` that is no event, or has fields of another type"
        )


def sound(error: EngineError) -> EngineError:
    """An engine's error as it can be kept; one whose words are none becomes `Internal`."""
    is_right = isinstance(error.said, str) and _is_text(error.where) and _is_text(error.next)
    if is_right and not (isinstance(error, RateLimited) and not _is_amount(error.retry_after_seconds)):
        return error
    return Internal(f"{type(error).__name__} with words or a wait of another type: {error.args!r:.500}")


def _misfit(said: str) -> Invalid:
    return Invalid(f"what the engine gave is not of the protocol's form: {said}", next="correct the engine")


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_row(value: object) -> bool:
    return isinstance(value, _ROWS)


def _are_texts(value: object) -> bool:
    return isinstance(value, _ROWS) and all(isinstance(each, str) for each in value)


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and 0 <= value <= _MOST)


def _is_amount(value: object) -> bool:
    return value is None or (isinstance(value, _NUMBERS) and 0 <= value <= _MOST)


def _is_usage(value: object) -> bool:
    return value is FREE or (
        isinstance(value, Usage)
        and _is_count(value.input)
        and _is_count(value.cached)
        and _is_count(value.output)
        and _is_count(value.reasoning)
        and _is_amount(value.usd)
        and _is_one_of(value.basis, _BASES)
    )


def _is_finding(found: object) -> bool:
    return (  # quick: there are thousands
        isinstance(found, Finding)
        and isinstance(found.file, str)
        and isinstance(found.message, str)
        and (type(found.severity) is Severity or _is_one_of(found.severity, _SEVERITIES))
        and _is_span(found.line)
        and (found.column is None or _is_span(found.column))
        and isinstance(found.category, str)
        and _is_text(found.rule)
        and _is_text(found.suggestion)
        and _is_text(found.quote)
        and (found.confidence is None or _is_confidence(found.confidence))
        and _has_right_marks(found)
    )


def _has_right_marks(found: Finding) -> bool:
    """Look at what a run itself writes into a finding, and few engines do."""
    return (
        isinstance(found.id, str)
        and isinstance(found.task, str)
        and _is_one_of(found.tier, _TIERS)
        and _is_one_of(found.state, _STATES)
        and _are_texts(found.by)
        and isinstance(found.votes, int)
        and _is_count(found.votes)
    )


def _is_confidence(value: object) -> bool:
    """Any number, also none (NaN): what lies beyond 0 and 1 is cut off where findings are collected."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= _MOST)


def _is_one_of(value: object, known: frozenset[str]) -> bool:
    return isinstance(value, str) and value in known


def _is_span(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    first, last = value
    return isinstance(first, int) and isinstance(last, int) and first <= MAX_LINE and last <= MAX_LINE


def _is_change(value: object) -> bool:
    return (
        isinstance(value, Change)
        and isinstance(value.patch, str)
        and _are_texts(value.files)
        and isinstance(value.applied, bool)
        and _are_texts(value.kept_out)
        and _is_text(value.why)
    )


def _is_coverage(value: object) -> bool:
    if not isinstance(value, Coverage) or not _are_texts(value.covered):
        return False
    notes = [value.skipped, value.failed]
    return all(_is_row(row) and all(map(_is_note, row)) for row in notes)


def _is_note(value: object) -> bool:
    return isinstance(value, FileNote) and isinstance(value.file, str) and isinstance(value.why, str)
