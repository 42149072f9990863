"""`ai.engines`: who can do tasks here."""

from __future__ import annotations

import time

from parallelai.client.project import OpenProject
from parallelai.engines.detection import probe
from parallelai.engines.registry import EngineRow
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
            EngineError: it could not answer.
        """
        registry = self._project.registry()
        try:
            began = time.monotonic()
            reply = await probe(registry.get(name), self._project.root)
            return reply, time.monotonic() - began
        finally:
            await registry.aclose()
