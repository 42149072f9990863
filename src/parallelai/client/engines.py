"""`ai.engines`: who can do tasks here."""

from __future__ import annotations

import time

from parallelai.client.project import OpenProject
from parallelai.engines.detection import probe
from parallelai.engines.registry import EngineRow, Registry
from parallelai.engines.selection import AUTO
from parallelai.errors import UntrustedError
from parallelai.plan.model import Choice
from parallelai.records import Reply


class Engines:
    """The engines of a project."""

    def __init__(self, project: OpenProject) -> None:
        self._project = project

    async def list(self) -> list[EngineRow]:
        """Say what is here and what is missing; starts no client and calls no model."""
        registry = self._project.registry()
        try:
            return await registry.listing()
        finally:
            await registry.aclose()

    async def test(self, name: str) -> tuple[Reply, float]:
        """Do one small real request; gives the reply and the seconds that it took.

        Raises:
            NotFoundError: there is no such engine.
            UntrustedError: only the project's config knows it, which nobody trusts.
            EngineError: it could not answer.
        """
        registry = self._project.registry()
        try:
            if name not in registry.names and self._is_ignored(name):
                said = f"engine `{name}` is in the project's config, which is not trusted"
                raise UntrustedError(said, next="read it, then `parallelai trust`")
            began = time.monotonic()
            reply = await probe(registry.get(name), self._project.root)
            return reply, time.monotonic() - began
        finally:
            await registry.aclose()

    def _is_ignored(self, name: str) -> bool:
        return any(key.startswith(f"engines.{name}.") for key in self._project.ignored)


def require(registry: Registry, choice: Choice | None) -> None:
    """Refuse names that nobody knows, also where no task would take them. Raises `NotFoundError`."""
    for name in choice.members if choice is not None else ():
        if name != AUTO and name not in registry.names:
            registry.get(name)
