"""`ai.engines`: who can do tasks here."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from parallelai.client.project import OpenProject
from parallelai.engines.registry import EngineRow, Registry
from parallelai.errors import ParallelAIError, UntrustedError, UsageError
from parallelai.plan.values import AUTO

if TYPE_CHECKING:
    from parallelai.client.adding import Added
    from parallelai.engines.conformance import Verdict
    from parallelai.engines.protocol import Availability, Capabilities, Engine
    from parallelai.plan.model import Choice, EngineEntry
    from parallelai.records import Reply


class Engines:
    """The engines of a project."""

    def __init__(self, project: OpenProject) -> None:
        self._project = project

    async def list(self) -> list[EngineRow]:
        """Say what is here and what is missing; starts no client and calls no model."""
        registry = self._project.registry()
        try:
            return await registry.listing(defaults=self._taken(registry))
        finally:
            await registry.aclose()

    async def absent(
        self, names: Collection[str], entries: Mapping[str, EngineEntry] = MappingProxyType({})
    ) -> dict[str, Availability]:
        """Say which of these cannot be used here, and what is missing; as `list`, it starts no client.

        `entries` are a plan's own engines.
        """
        registry = self._project.registry(entries)
        try:
            rows = await registry.listing(names)
        finally:
            await registry.aclose()
        return {row.name: row.availability for row in rows if row.state != "ready"}

    def _taken(self, registry: Registry) -> tuple[str, ...]:
        """Say who would do a review where nobody names another; nobody, where that cannot be."""
        from parallelai.client.consent import has_consent
        from parallelai.engines.selection import select

        try:
            return select(
                self._project.settings.defaults.engine,
                output="findings",
                registry=registry,
                consent=lambda name: has_consent(self._project, registry, name),
            ).choice.members
        except ParallelAIError:  # an engine that is not here, or gives no findings
            return ()

    async def test(self, name: str) -> tuple[Reply, float]:
        """Do one small real request; gives the reply and the seconds that it took.

        Raises:
            NotFoundError: there is no such engine.
            UntrustedError: only the project's config knows it, which nobody trusts.
            EngineError: it could not answer.
        """
        from parallelai.engines.detection import probe

        registry = self._project.registry()
        try:
            self._refuse_untrusted(registry, name)
            began = time.monotonic()
            reply = await probe(registry.get(name), self._project.root)
            return reply, time.monotonic() - began
        finally:
            await registry.aclose()

    async def conform(self, name: str) -> tuple[Verdict, ...]:
        """Prove an engine: some twenty small real requests, in folders of their own; a verdict for each check.

        What failed is kept with the client's version, for `doctor`.

        Raises:
            NotFoundError: there is no such engine.
            UntrustedError: only the project's config knows it, which nobody trusts.
            UsageError: it is not installed, or something else is missing: there is nothing to prove.
            Unavailable: it cannot be driven here at all.
        """
        from parallelai.engines.proving import prove

        registry = self._project.registry()
        self._refuse_untrusted(registry, name)
        try:
            able = registry.get(name).capabilities
            entry = registry.entry(name)
            (row,) = await registry.listing((name,))
        finally:
            await registry.aclose()
        _refuse_absent(row, able)
        makers: deque[Registry] = deque()

        def make() -> Engine:
            makers.append(self._project.registry())
            return makers[-1].get(name)

        takes_model = entry is not None and (entry.model is not None or entry.use not in ("command", "mock"))
        try:
            verdicts = await prove(
                make,
                sandbox="auto" if entry is None else entry.sandbox,
                takes_model=takes_model and able.is_remote,
            )
            version = (await make().detect()).version
            failed = [verdict.check for verdict in verdicts if not verdict.ok]
            self._project.machine.keep_conformance(name, version, failed)
            return tuple(verdicts)
        finally:
            for each in makers:
                await each.aclose()

    async def add(self, name: str, command: Sequence[str]) -> Added:
        """Write an engine that speaks the Agent Client Protocol into the user's own config.

        Raises:
            UsageError: the name is none, there is such an engine already, or the file cannot be written.
            ConfigError: the file cannot be read.
        """
        from parallelai.client.adding import add_engine

        registry = self._project.registry()
        try:
            names = registry.names
        finally:
            await registry.aclose()
        return await asyncio.to_thread(add_engine, name, tuple(command), names, os.environ)

    def _refuse_untrusted(self, registry: Registry, name: str) -> None:
        if name not in registry.names and self._is_ignored(name):
            said = f"engine `{name}` is in the project's config, which is not trusted"
            raise UntrustedError(said, next="read it, then `parallelai trust`")

    def _is_ignored(self, name: str) -> bool:
        return any(key.startswith(f"engines.{name}.") for key in self._project.ignored)


def _refuse_absent(row: EngineRow, able: Capabilities) -> None:
    """Raise `UsageError` for an engine that nothing can be asked of here."""
    if row.state != "ready":
        is_program = row.state == "missing" and able.works_in_folder
        lacks = "is not installed" if is_program else "cannot be used"
        said = f"engine `{row.name}` {lacks} here: {row.availability.said}"
        raise UsageError(said, next=row.availability.how)


def require(registry: Registry, choice: Choice | None) -> None:
    """Refuse names that nobody knows, also where no task would take them. Raises `NotFoundError`."""
    for name in choice.members if choice is not None else ():
        if name != AUTO and name not in registry.names:
            registry.get(name)
