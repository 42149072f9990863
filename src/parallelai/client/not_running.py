"""What somebody is told who asks something of a run that nobody carries out."""

from __future__ import annotations

from parallelai.errors import UsageError
from parallelai.records import Outcome

_LEFT = frozenset({Outcome.FAILED, Outcome.CANCELLED, Outcome.OVER_BUDGET})


def not_running(run: str, state: str, again: str) -> UsageError:
    """Say that a run has ended, and how, or that its process is gone; `again` is the command that goes on with it."""
    if state == Outcome.OK:
        return UsageError(f"run `{run}` has ended, ok", next=f"`parallelai runs show {run}` shows it")
    if state in _LEFT:
        return UsageError(f"run `{run}` has ended, {state}", next=f"`{again}` goes on with what is left")
    return UsageError(f"nobody carries out run `{run}`", next=f"`{again}` starts it again")
