"""Where a run's requests go: a run that is gone on with sends them to no other address without leave.

An engine that a plan or config gives an address asks there: that is what was written. Where the environment gives it
(`OPENAI_BASE_URL`), a variable may have changed since the run began, and its prompts and files would go to somebody
else. So addresses are written down, and another one needs a yes: a person's on a terminal, or the engine named again.
Where an engine has nothing left to do, nothing goes there, and nobody is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct, field

from parallelai.client.addresses import shown
from parallelai.engines.protocol import Engine
from parallelai.errors import ConsentError, Unavailable
from parallelai.events import EnginesTaken, Event, RunCreated
from parallelai.run.job import Job


class Known(Struct):
    """Where a run's engines sent their requests so far, by engine. Of runs of old versions nothing is known."""

    addresses: dict[str, str] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Learn one event of the run."""
        match event.data:
            case RunCreated() as created:
                self.addresses.update(created.options.get("addresses", {}))
            case EnginesTaken() as taken:
                self.addresses.update(taken.addresses)


class Moved(Struct, frozen=True):
    """An engine whose requests would go to another address. `is_written`: plan or config give the address."""

    engine: str
    before: str
    now: str
    is_written: bool

    @property
    def said(self) -> str:
        """What the user is told."""
        return (
            f"`{self.engine}` sends its requests to {_named(self.now)} now; so far to {_named(self.before)}"
        )


def addresses(job: Job) -> dict[str, str]:
    """Give the addresses that a job's requests go to, by engine; only of engines that ask a model."""
    members = sorted(
        {name for who in job.assignments.values() if not who.error for name in who.choice.members}
    )
    found = {name: _address(job, name) for name in members}
    return {name: address for name, address in found.items() if address is not None}


def moved(job: Job, known: Mapping[str, str]) -> list[Moved]:
    """Say which engines of a job ask elsewhere now than the run did so far."""
    return [
        Moved(name, known[name], address, is_written=_written(job, name) is not None)
        for name, address in addresses(job).items()
        if name in known and known[name] != address
    ]


class Yes(Struct, frozen=True):
    """Who said that requests may go to another address.

    `named` are engines that this very call names, `just_now` addresses that the user just agreed to, by engine.
    """

    named: Collection[str]
    just_now: Mapping[str, str]


def heading(
    job: Job, known: Mapping[str, str], asked: Callable[[], Collection[str]], yes: Yes
) -> tuple[list[Moved], dict[str, str]]:
    """Say which engines' requests go elsewhere from now on, and where those of all go. Raises `ConsentError`.

    Args:
        job: a run that is gone on with.
        known: where its requests went so far, by engine.
        asked: names the engines that have something to do still; is called only where that matters.
        yes: who said that they may.
    """
    found = moved(job, known)
    still = asked() if found else ()
    going = [one for one in found if one.engine in still]
    _refuse(job, going, yes)
    stay = {one.engine: one.before for one in found if one.engine not in still}
    return going, {**addresses(job), **stay}


def _refuse(job: Job, found: Sequence[Moved], yes: Yes) -> None:
    """Refuse what nobody said yes to. Raises `ConsentError`."""
    left = [
        one
        for one in found
        if not one.is_written and one.engine not in yes.named and yes.just_now.get(one.engine) != one.now
    ]
    if not left:
        return
    how = "write `base_url` into the engine's entry, in plan or config: what it has done is done again then"
    if _does_all(job, left[0].engine):  # else others' tasks would become its own
        how = f"say `parallelai runs resume {job.run} --engine {left[0].engine}`"
    raise ConsentError(
        "; ".join(one.said for one in left),
        next=f"set the variable that gives the address as it was; or, if they may go there, {how}",
        addresses={one.engine: one.now for one in left},
    )


def _does_all(job: Job, engine: str) -> bool:
    """Whether an engine alone does all tasks of a job: naming it changes who does what for none of them."""
    choices = (who.choice for who in job.assignments.values())
    return all(choice.members in ((), (engine,)) for choice in choices)


def _address(job: Job, name: str) -> str | None:
    """Where an engine asks, without passwords; None for one that asks no model, or is not here."""
    try:
        engine: Engine = job.engines(name)
    except Unavailable:
        return None
    can = engine.capabilities
    if not (can.is_remote or can.takes_text):
        return None
    return shown(_written(job, name) or can.asks_at)


def _written(job: Job, name: str) -> str | None:
    entry = job.entries.get(name)
    return entry.base_url if entry is not None else None


def _named(address: str) -> str:
    return address or "its usual address"
