"""The flags of all that carries out a plan: `review`, `execute`, `runs resume` (CONTRACTS §4).

Only what help and completion need is loaded here; `carry` does the carrying out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from parallelai.cli import completing
from parallelai.cli.grammar import SectionOption
from parallelai.errors import UsageError

if TYPE_CHECKING:
    from parallelai.client.options import CarryOut

F = TypeVar("F", bound=Callable[..., Any])
SEVERITIES = ["critical", "high", "medium", "low", "info", "never"]
NOT_YET = {
    "monitor": "this version has no dashboard; `--events -` and `parallelai runs logs --follow` show a run live",
}
"""Flags of later versions, with what to do instead."""


class CarryOption(SectionOption):
    """A flag of all that carries out a plan."""

    section = "Carrying out"


def _flag(*names: str, **given: Any) -> Callable[[F], F]:
    return click.option(*names, cls=CarryOption, **given)


_FLAGS: tuple[Callable[[Any], Any], ...] = (
    _flag(
        "--engine",
        multiple=True,
        metavar="NAME",
        shell_complete=completing.engines,
        help="Who does the tasks that name nobody; given several times: a vote.",
    ),
    _flag("--model", metavar="NAME", help="A tier (best, standard, fast) or a model's name."),
    _flag("--parallel", type=click.IntRange(min=1), metavar="N", help="How many attempts at once."),
    _flag("--budget", metavar="LIMITS", help="Totals of the run, such as 10usd,5Mtok,4h."),
    _flag("--timeout", metavar="TIME", help="An attempt's time-out, such as 30m."),
    _flag("--strategy", metavar="NAME", help="Which starts when: dag, parallel, batch:N, pipeline."),
    _flag("--set", "pairs", multiple=True, metavar="K=V", help="A variable, over the plan's `vars`."),
    _flag("--only", multiple=True, metavar="ID|TAG", help="Only these tasks, and what they depend on."),
    _flag("--apply", "is_applied", is_flag=True, help="Put changes into your checkout at the end."),
    _flag("--no-cache", "is_uncached", is_flag=True, help="Use no stored replies."),
    _flag(
        "--resume",
        "is_resume",
        is_flag=True,
        help="Go on with the latest run of the same; `work run` does so by itself.",
    ),
    _flag("--new", "is_new", is_flag=True, help="Start a new run all the same."),
    _flag("--trust", "is_trusted", is_flag=True, help="Let what the project's config names run this time."),
    _flag("--dry-run", "is_dry", is_flag=True, help="Show what would be done, and by whom."),
    _flag("--fail-on", type=click.Choice(SEVERITIES), help="Exit with 1 from this severity on."),
    _flag(
        "--format",
        "format_",
        metavar="NAME",
        shell_complete=completing.formats,
        help="How to print: terminal, json, sarif, html, markdown, junit, github, rdjsonl.",
    ),
    _flag("--output", type=click.Path(), metavar="FILE", help="Write the result to a file, all at once."),
    _flag("--events", type=click.Path(), metavar="FILE", help="Write events as JSON lines; - is stdout."),
    _flag("--monitor", "is_monitor", is_flag=True, hidden=True, help="A live page (a later version)."),
)


def carrying(function: F) -> F:
    """Give a command the flags of all that carries out a plan."""
    wrapped: Any = function
    for flag in reversed(_FLAGS):
        wrapped = flag(wrapped)
    return wrapped  # type: ignore[no-any-return]  # click's decorators are untyped here


@dataclass(frozen=True, slots=True)
class Carrying:
    """What the flags said."""

    carry: CarryOut
    is_dry: bool = False
    events: str | None = None
    format: str | None = None
    output: str | None = None

    @classmethod
    def of(cls, given: dict[str, Any]) -> Carrying:
        """Take the flags out of a command's arguments. Raises `UsageError`."""
        from parallelai.client.arguments import budget_of, choice_of, seconds_of, severity_of, strategy_of
        from parallelai.client.options import CarryOut

        for flag, why in NOT_YET.items():
            if given.pop(f"is_{flag}"):
                raise UsageError(f"`--{flag}` is not built yet in this version of ParallelAI", next=why)
        engines = list(given.pop("engine"))
        carry = CarryOut(
            engine=choice_of(engines)[0] if engines else None,
            model=given.pop("model"),
            parallel=given.pop("parallel"),
            budget=budget_of(given.pop("budget")),
            timeout_seconds=seconds_of(given.pop("timeout")),
            strategy=strategy_of(given.pop("strategy")),
            variables=variables(given.pop("pairs")),
            only=tuple(word for text in given.pop("only") for word in text.split(",") if word),
            is_cacheable=not given.pop("is_uncached"),
            is_resume=given.pop("is_resume"),
            is_new=given.pop("is_new"),
            is_trusted=given.pop("is_trusted"),
            is_applied=given.pop("is_applied"),
            is_attended=sys.stdin.isatty() and sys.stderr.isatty(),
            fail_on=severity_of(given.pop("fail_on")),
        )
        where = (given.pop("events"), given.pop("format_"), given.pop("output"))
        return cls(carry, given.pop("is_dry"), *where)


def variables(pairs: Sequence[str]) -> dict[str, Any]:
    """`--set k=v`; numbers, true and false, lists are taken as such. Raises `UsageError`."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            said = f"`--set {pair}` is not of the form `name=value`"
            raise UsageError(said, next="write `--set name=value`")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    import yaml  # only where something is set

    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError:
        return text
