"""When an attempt is tried again, and after how long. The scheduler is the one owner of retries."""

from __future__ import annotations

from random import Random

from parallelai.records import ErrorRecord, Outcome

LONGEST_BACKOFF_SECONDS = 60.0

_RETRY_WORDS = {"timeout": "timed_out"}
"""What a plan's `retry_on` calls an error kind, where that differs."""

_GOES_OVER = frozenset({"unavailable", "rejected", "rate_limited", "transient", "timed_out"})
_BLOCKS = frozenset({"unavailable", "rate_limited", "trespass", "gate_failed", "conflict"})


def retried_kinds(retry_on: frozenset[str]) -> frozenset[str]:
    """Give the error kinds that count as retries: `transient`, and what the plan adds."""
    return frozenset({"transient", *(_RETRY_WORDS.get(word, word) for word in retry_on)})


def goes_over(kind: str) -> bool:
    """Say whether another member of a choice may do better (CONTRACTS §2, Choice)."""
    return kind in _GOES_OVER


def backoff_seconds(retry: int, random: Random, at_least: float | None = None) -> float:
    """Give the pause before the `retry`-th retry (from 1): up to 2**retry seconds, with full jitter.

    `at_least` is what the provider asked for, None where it asked for nothing.
    """
    pause = random.uniform(0.0, min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(retry, 30)))
    return pause if at_least is None else max(pause, at_least)


def limited_seconds(limited: int, random: Random) -> float:
    """Give the pause after the `limited`-th rate limit in a row (from 1) that named no time.

    At least half of the full pause, so that a provider that never says when is not asked without end.
    """
    full = min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(limited, 30))
    return full * (0.5 + 0.5 * random.random())


def outcome_of(error: ErrorRecord) -> Outcome:
    """Say how a task ends on this error: `blocked` where a person, or time, must act first."""
    return Outcome.BLOCKED if error.kind in _BLOCKS else Outcome.FAILED


def decisive(errors: list[ErrorRecord | None]) -> ErrorRecord:
    """Choose, of the members' last errors, the one that a task ends with: a failure before a block."""
    known = [error for error in errors if error is not None]
    failures = [error for error in known if outcome_of(error) is Outcome.FAILED]
    return (failures or known or [NO_ERROR])[0]


NO_ERROR = ErrorRecord("internal", "the attempt failed and did not say why", next="see the attempt's log")
