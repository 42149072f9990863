"""Turn what library users may write for an argument into the one thing that it means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from pydantic import ValidationError

from parallelai.engines.choice import MultiEngine
from parallelai.engines.protocol import Engine
from parallelai.errors import UsageError
from parallelai.plan import values
from parallelai.plan.model import Budget, Choice
from parallelai.records import Severity
from parallelai.run.scheduling import strategies
from parallelai.run.scheduling.strategies import Strategy


def words_of(value: str | Sequence[str]) -> tuple[str, ...]:
    """One string, or several."""
    return (value,) if isinstance(value, str) else tuple(value)


def choice_of(value: Any) -> tuple[Choice | None, tuple[Engine, ...]]:
    """An engine's name, several (a vote), an engine, a `MultiEngine`, a `Choice` or `{rule: […]}`.

    Returns:
        The choice, and the engines that were given as objects.

    Raises:
        UsageError: it is none of these.
    """
    if value is None or isinstance(value, Choice):
        return value, ()
    if isinstance(value, MultiEngine):
        return _made(lambda: value.choice), value.engines
    if isinstance(value, Engine):
        return Choice(rule="one", members=(value.name,)), (value,)
    if isinstance(value, (list, tuple)):
        return _choice(value[0] if len(value) == 1 else {"vote": list(value)}), ()
    return _choice(value), ()


def _choice(value: Any) -> Choice:
    return _made(lambda: Choice.model_validate(value))


def _made(make: Callable[[], Choice]) -> Choice:
    try:
        return make()
    except ValidationError as error:
        raise UsageError(f"`engine`: {_first(error)}") from None


def budget_of(value: Any) -> Budget | None:
    """A budget as `10usd,5Mtok,4h`, as a mapping, or as it is."""
    if value is None or isinstance(value, Budget):
        return value
    try:
        return Budget.model_validate(value)
    except ValidationError as error:
        raise UsageError(f"`budget`: {_first(error)}", next="write `10usd,5Mtok,4h`, say") from None


def seconds_of(value: float | str | None) -> float | None:
    """A duration in seconds, or as `30m`."""
    if value is None:
        return None
    try:
        seconds = float(values.duration(value))
    except ValueError as error:
        raise UsageError(f"`timeout`: {error}", next="write `30m`, say") from None
    if seconds <= 0:
        raise UsageError("`timeout` must be more than nothing", next="write `30m`, say")
    return seconds


def count_of(value: Any) -> int | None:
    """How much at once: a whole number of at least 1, or None for as much as is usual."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise UsageError(
        f"`parallel` is a whole number of at least 1, not `{value}`", next="write `parallel=8`, say"
    )


def severity_of(value: str | Severity | None) -> Severity | None:
    """A severity by its name; "never" and None are none."""
    if value is None or value == "never":
        return None
    try:
        return Severity(value)
    except ValueError:
        known = ", ".join(f"`{severity}`" for severity in Severity)
        raise UsageError(f"there is no severity `{value}`", next=f"one of {known}, `never`") from None


def strategy_of(value: str | Strategy | None) -> Strategy | None:
    """A strategy by its name, such as `batch:4`, or as it is."""
    if value is None or callable(getattr(value, "key", None)):
        return cast("Strategy | None", value)
    if isinstance(value, str):
        return strategies.find(value)
    raise UsageError(f"`strategy`: {value!r} is none", next="give a name, such as `dag`, or `DAGStrategy()`")


def _first(error: ValidationError) -> str:
    message = error.errors()[0]["msg"]
    return message.removeprefix("Value error, ")
