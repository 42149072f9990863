"""Which engine does a task, and why: pure decisions over facts (DESIGN §5, "Consent").

An exported key must not send a thousand files away. So what a task, plan, argument or config names is taken;
`auto` takes a remote or paid engine only after the user said yes to it once, else a model server on this
machine, else `analyzers`, which answers with findings only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from parallelai.engines.detection import LOCAL_SERVERS
from parallelai.engines.protocol import Capabilities, Engine, OutputKind
from parallelai.errors import NotFoundError, Unavailable, UsageError
from parallelai.plan.values import AUTO

if TYPE_CHECKING:
    from parallelai.plan.model import Choice

EMBEDDED_ANALYSER = "analyzers"
UNASKED_USD = 5.0
"""The money limit where the user wrote none; it holds for what has a known price."""
HOW_TO_SERVE = (
    "name an engine, by `--engine NAME` or by `engine: NAME` in the plan or config; "
    "`parallelai engines list` shows all"
)

Source = Literal["plan", "argument", "config"]


class Engines(Protocol):
    """What is asked of a registry: all names, those that code serves, those that are configured."""

    @property
    def names(self) -> frozenset[str]: ...

    @property
    def driven(self) -> frozenset[str]: ...

    @property
    def configured(self) -> frozenset[str]: ...

    def get(self, name: str) -> Engine: ...


class About(Struct, frozen=True):
    """What a route may look at. `files` are the task's paths, relative to the root."""

    kind: str | None = None
    tags: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class Selection(Struct, frozen=True):
    """The choice without `auto` and routes. `why` is the source of a named one, else auto and its reason."""

    choice: Choice
    why: str


def select(
    wanted: Choice | None,
    *,
    output: OutputKind,
    registry: Engines,
    consent: Callable[[str], bool],
    source: Source = "plan",
    about: About | None = None,
) -> Selection:
    """Decide who does a task.

    `wanted` is what was named, None or `auto` where nothing was; `source` is where. `consent` says whether
    the user said yes to a remote engine. Raises `NotFoundError` for an unknown engine, `UsageError` for one
    that cannot give that output, and `Unavailable` where nobody can do it: the task then ends `blocked`.
    """
    from parallelai.plan.model import Choice

    if wanted is not None and wanted.rule == "route":
        wanted = Choice(rule="one", members=(route(wanted, about or About()),))
    named = () if wanted is None else wanted.members
    if wanted is None or named == (AUTO,):
        name, reason = automatic(output, registry, consent)
        return Selection(Choice(rule="one", members=(name,)), f"auto: {reason}")
    members = tuple(
        dict.fromkeys(automatic(output, registry, consent)[0] if name == AUTO else name for name in named)
    )
    _check_members(members, output, registry)
    return Selection(wanted if members == named else wanted.model_copy(update={"members": members}), source)


def route(choice: Choice, about: About) -> str:
    """Give the engine of the first route, in the order written, that the task's kind, tags or files fit.

    A file pattern fits a task that has files if it matches all of them; `else` is for the rest.
    """
    from parallelai.plan.files import match

    for key, name in choice.routes.items():
        if key == "else":
            continue
        if key == about.kind or key in about.tags:
            return name
        if about.files and len(match([key], about.files)) == len(about.files):
            return name
    return choice.routes["else"]


def automatic(output: OutputKind, registry: Engines, consent: Callable[[str], bool]) -> tuple[str, str]:
    """Give the engine that `auto` stands for, and why. Raises `Unavailable` where there is none."""
    for name in _consented(registry, consent):
        if _can(registry, name, output, lambda can: can.is_remote):
            return name, "you said yes to it"
    for name in LOCAL_SERVERS:
        is_local = name in registry.driven and _can(registry, name, output, lambda can: not can.is_remote)
        if is_local and _is_here(registry.get(name)):
            return name, "a model server on this machine"
    if output == "findings":
        return EMBEDDED_ANALYSER, "no other engine may be taken without asking you"
    wanted = {"text": "a text", "change": "a change", "schema": "data"}[output]
    raise Unavailable(
        f"no engine here can give {wanted}: `{EMBEDDED_ANALYSER}` gives findings only", next=HOW_TO_SERVE
    )


def money_limit(written_usd: float | None) -> float:
    """Give the money limit of a run, in USD: the user's own, else `UNASKED_USD`."""
    return UNASKED_USD if written_usd is None else written_usd


def _consented(registry: Engines, consent: Callable[[str], bool]) -> Iterable[str]:
    """Ask for consent before anything else: code of an engine that nobody wants is not even loaded."""
    return (name for name in sorted(registry.configured | registry.driven) if consent(name))


def _can(registry: Engines, name: str, output: OutputKind, is_meant: Callable[[Capabilities], bool]) -> bool:
    try:
        can = registry.get(name).capabilities
    except (Unavailable, UsageError):
        return False  # consent to something that is not there any more
    return output in can.answers and is_meant(can)


def _is_here(engine: Engine) -> bool:
    """Say whether a model server seems to run; one that cannot tell is taken at its word (`engines.model_api`)."""
    tell: Callable[[], bool] | None = getattr(engine, "is_here", None)
    return tell is None or tell()


def _check_members(members: tuple[str, ...], output: OutputKind, registry: Engines) -> None:
    """Refuse what cannot work at all. Of several members, some may be unavailable: others take over."""
    unavailable: list[Unavailable] = []
    for name in members:
        try:
            answers = registry.get(name).capabilities.answers
        except NotFoundError:
            raise
        except Unavailable as error:
            unavailable.append(error)
            continue
        if output not in answers:
            raise UsageError(
                f"engine `{name}` gives {_joined(answers)}, and the task's output is {output}",
                next=f"write `output: {sorted(answers)[0]}`, or name another engine",
            )
    if len(unavailable) == len(members):
        raise unavailable[0]


def _joined(answers: Iterable[str]) -> str:
    return ", ".join(sorted(answers))
