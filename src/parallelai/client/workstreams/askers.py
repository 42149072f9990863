"""What a landing asks engines for: the review of a merged difference, and the settling of a conflict.

Each is a run of its own, in a folder of its own that is a small repository at the commit in question, and its
journal lies with the landing's run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import shlex
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from parallelai.client.arguments import choice_of
from parallelai.client.engines import require
from parallelai.client.project import OpenProject
from parallelai.client.workstreams.purse import Purse
from parallelai.engines.protocol import Engine
from parallelai.engines.registry import Registry
from parallelai.errors import ConfigError, NotFoundError, Unavailable, UsageError
from parallelai.git.repository import open_repository
from parallelai.plan.model import Budget, Choice, Plan, ReviewGate
from parallelai.records import ErrorRecord, Outcome, RunDocument, Severity
from parallelai.results import formats
from parallelai.run.executors.attempt import EMPTY_IS_FINE
from parallelai.work.gates.removed import lay_removed
from parallelai.work.landing.records import LAND_WITH, Tell
from parallelai.work.opening import Ports
from parallelai.work.resolvers import asking
from parallelai.work.resolvers.asking import ConflictQuestion, Contents
from parallelai.work.scratch import folders
from parallelai.work.scratch.snapshot import open_objects

TURNS = 20
"""How many turns of its own an assistant may take to settle a conflict, where it can be told, unless its entry says."""
OVER = "what is left of the budget of the run does not allow to ask an engine"
OTHERS = f"another one may: {LAND_WITH}"
_numbers = itertools.count(1)

PortsOf = Callable[[Plan, Path, Tell], Ports]
"""Gives what the landings of a plan may ask engines for; the path is the run's folder."""


class Nested(Protocol):
    """The facade, on a folder of its own."""

    async def review(
        self, *, since: str, template: str, engine: Choice | None, model: str | None, budget: Budget
    ) -> RunDocument:
        """Review what changed since a commit."""

    async def execute(
        self,
        *,
        tasks: Iterable[Mapping[str, Any]],
        engine: Choice | None,
        variables: Mapping[str, Any],
        apply: bool,
        budget: Budget,
    ) -> RunDocument:
        """Carry tasks out."""


class Open(Protocol):
    """Opens a facade on a folder, with settings and engines."""

    def __call__(
        self, project: Path, *, config: Mapping[str, Any], engines: Iterable[Engine]
    ) -> AbstractAsyncContextManager[Nested]: ...


async def refuse_unknown(project: OpenProject, plan: Plan, engine: Any) -> None:
    """Refuse an engine that a landing is to ask, and that nobody knows. Raises `NotFoundError`, `UsageError`."""
    registry = project.registry(plan.engines)
    try:
        require(registry, choice_of(engine)[0])
    finally:
        await registry.aclose()


def ports_for(project: OpenProject, open_nested: Open, plan: Plan, folder: Path, tell: Tell) -> Ports:
    """Give what a landing may ask engines for. `folder` is the run's; `tell` takes what was asked."""
    asker = Engines(project, open_nested, plan, folder, tell)
    return Ports(asker.review, asker.settle if plan.landing.resolver is not None else None)


class Engines:
    """Asks a plan's engines. Each call is a run of its own."""

    def __init__(self, project: OpenProject, open_nested: Open, plan: Plan, folder: Path, tell: Tell) -> None:
        self._project = project
        self._open = open_nested
        self._plan = plan
        self._folder = folder
        self._purse = Purse(project, plan, folder.name, tell)

    async def review(self, base: str, commit: str, gate: ReviewGate) -> tuple[int, str]:
        """Have the difference between two commits reviewed (`gates.judge.ReviewRunner`), what it removes included."""
        async with self._purse.open() as (budget, settle), self._laid(commit) as (folder, state):
            await lay_removed(folder, base, commit)
            document = await self._nested(folder, state, gate, base, budget)
            settle("review", document)
        if document.outcome is Outcome.OVER_BUDGET:
            raise Unavailable(OVER, next=self._purse.more)
        if document.outcome is not Outcome.OK or any(row.error is not None for row in document.tasks):
            seen = (self._as_seen_here(row.error, folder, state) for row in document.tasks)
            errors = [error for error in seen if error is not None]
            said = errors[0].said if errors else f"it ended {document.outcome}"
            raise Unavailable(
                f"the review could not be done: {said}", next=errors[0].next if errors else None
            )
        worst = Severity(gate.fail_on).rank
        count = sum(one.state == "open" and one.severity.rank <= worst for one in document.findings)
        return count, formats.render("markdown", document, formats.RenderContext(root=folder))

    async def _nested(
        self, folder: Path, state: Path, gate: ReviewGate, base: str, budget: Budget
    ) -> RunDocument:
        async with self._open(folder, config=self._config(state), engines=self._given) as ai:
            try:
                return await ai.review(
                    since=base,
                    template=gate.review,
                    engine=gate.engine or self._plan.defaults.engine,
                    model=gate.model,
                    budget=budget,
                )
            except UsageError as error:  # its price is not known, say
                raise Unavailable(error.said, next=error.next) from error

    async def settle(self, question: ConflictQuestion) -> Contents | ErrorRecord:
        """Have an engine settle a conflict (`resolvers.asking.Asker`)."""
        laid = self._laid(question.ours, question.tree)
        async with self._purse.open() as (budget, settle), laid as (folder, state):
            await asyncio.to_thread(_lay_over, folder, question.files)
            config = self._config(state)
            config["engines"] |= await self._in_turns()
            async with self._open(folder, config=config, engines=self._given) as ai:
                # The prompt holds code, which must not be taken for a template.
                task = {"id": "settle", "description": "{{ vars.prompt }}", "edits": True}
                try:
                    document = await ai.execute(
                        tasks=[task],
                        engine=self._plan.landing.resolver,
                        variables={"prompt": question.prompt},
                        apply=True,
                        budget=budget,
                    )
                except UsageError as error:  # its price is not known, say
                    return ErrorRecord("unavailable", error.said, next=error.next)
                settle("conflict", document)
            if document.outcome is Outcome.OVER_BUDGET:
                return ErrorRecord("unavailable", OVER, next=self._purse.more)
            row = document.tasks[0]
            if row.error is not None or row.change is None:
                return _unsettled(self._as_seen_here(row.error, folder, state), row.engine)
            contents = await asking.read(question, folder)
            if isinstance(contents, ErrorRecord):
                return contents
            return asking.answer(question, contents, (*row.change.files, *row.change.kept_out))

    @property
    def _given(self) -> tuple[Engine, ...]:
        return tuple(self._project.given.values())

    def _config(self, state: Path) -> dict[str, Any]:
        """The engines and models of the project and the plan; the commit's own config counts for nothing."""
        settings = self._project.settings
        engines = {**settings.engines, **self._plan.engines}
        named = {name: entry.model_dump(mode="json", exclude_unset=True) for name, entry in engines.items()}
        return {
            "engines": named,
            "models": dict(settings.models),
            "state": {"path": str(state)},
            "consent": list(settings.consent),
            "limits": {"unpriced": self._purse.unpriced},
        }

    async def _in_turns(self) -> dict[str, Any]:
        """The entries of those that settle conflicts, with a limit on their turns where they have none."""
        resolver = self._plan.landing.resolver
        registry = self._project.registry(self._plan.engines)
        found = {name: registry.entry(name) for name in (resolver.members if resolver is not None else ())}
        limited = {
            name: entry.model_copy(update={"max_turns": TURNS})
            for name, entry in found.items()
            if entry is not None and entry.max_turns is None
        }
        taking = self._project.registry({**self._plan.engines, **limited})
        try:
            taken = [name for name in limited if _takes(taking, name)]
        finally:
            await taking.aclose()
        return {name: limited[name].model_dump(mode="json", exclude_unset=True) for name in taken}

    def _as_seen_here(self, error: ErrorRecord | None, folder: Path, state: Path) -> ErrorRecord | None:
        """An error whose advice names what is kept as it is found from the project, not from the run's own folder."""
        if error is None or error.next is None:
            return error
        here = os.path.relpath(state, self._project.root)
        kept = error.next.replace(os.path.relpath(state, folder), here)
        logs = "`parallelai runs logs "  # the run is in a journal of its own
        kept = kept.replace(logs, f"`PARALLELAI_STATE__PATH={shlex.quote(here)} {logs[1:]}")
        return dataclasses.replace(error, next=kept)

    @asynccontextmanager
    async def _laid(self, commit: str, tree: str | None = None) -> AsyncIterator[tuple[Path, Path]]:
        """Lay a commit out, or a tree upon it, as a repository of its own; gives the folder, and one for the state."""
        repository = await open_repository(self._project.root)
        top = self._folder / "asked" / str(next(_numbers))
        await asyncio.to_thread(folders.remove, top)
        try:
            objects = await open_objects(repository, top / "base.git")
            if tree is not None:
                commit = await objects.git.line("commit-tree", tree, "-p", commit, "-m", "To be settled")
            laid = await folders.check_out(objects, commit, top / "tree", top / "index")
            await folders.make_repository(objects, laid)
            yield laid.path, top / "state"
        finally:
            for folder in ("tree", "base.git"):
                await asyncio.to_thread(folders.remove, top / folder)


def _takes(registry: Registry, name: str) -> bool:
    """Whether an engine takes its entry as it is; what else is wrong with one is told when it is asked."""
    try:
        registry.get(name)
    except (ConfigError, NotFoundError, Unavailable):
        return False
    return True


def _unsettled(error: ErrorRecord | None, engine: str | None) -> ErrorRecord:
    """Why an engine settled nothing. Of one that left all as it was, what helps is another one, or a person."""
    if error is not None and error.next != EMPTY_IS_FINE:
        return error
    shown = f"`{engine}`" if engine is not None else "the engine"
    return ErrorRecord("conflict", f"{shown} was asked, and changed nothing", next=OTHERS)


def _lay_over(folder: Path, files: Mapping[str, bytes | None]) -> None:
    for path, content in files.items():
        folders.clear_away(folder, path)
        if content is not None:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
