"""Run many AI assistants at once over one code base, and bring their work back safely.

The public names are loaded when they are first used, so that importing the library costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI, ParallelAI
    from parallelai.engines.choice import MultiEngine
    from parallelai.engines.familiar import GPT4, Claude, Ollama, OpenAI
    from parallelai.engines.protocol import Engine
    from parallelai.errors import EngineError, ParallelAIError, PlanError
    from parallelai.events import Event
    from parallelai.plan.model import Plan, Task
    from parallelai.records import Finding, Outcome, RunDocument, Severity, TaskResult, Usage
    from parallelai.run.scheduling.strategies import (
        BatchStrategy,
        DAGStrategy,
        ParallelStrategy,
        PipelineStrategy,
    )

__version__ = "0.1.0"

_HOMES = {
    "AsyncParallelAI": "parallelai.client",
    "BatchStrategy": "parallelai.run.scheduling.strategies",
    "Claude": "parallelai.engines.familiar",
    "DAGStrategy": "parallelai.run.scheduling.strategies",
    "Engine": "parallelai.engines.protocol",
    "EngineError": "parallelai.errors",
    "Event": "parallelai.events",
    "Finding": "parallelai.records",
    "GPT4": "parallelai.engines.familiar",
    "MultiEngine": "parallelai.engines.choice",
    "Ollama": "parallelai.engines.familiar",
    "OpenAI": "parallelai.engines.familiar",
    "Outcome": "parallelai.records",
    "ParallelAI": "parallelai.client",
    "ParallelAIError": "parallelai.errors",
    "ParallelStrategy": "parallelai.run.scheduling.strategies",
    "PipelineStrategy": "parallelai.run.scheduling.strategies",
    "Plan": "parallelai.plan.model",
    "PlanError": "parallelai.errors",
    "RunDocument": "parallelai.records",
    "Severity": "parallelai.records",
    "Task": "parallelai.plan.model",
    "TaskResult": "parallelai.records",
    "Usage": "parallelai.records",
}

__all__ = [
    "GPT4",
    "AsyncParallelAI",
    "BatchStrategy",
    "Claude",
    "DAGStrategy",
    "Engine",
    "EngineError",
    "Event",
    "Finding",
    "MultiEngine",
    "Ollama",
    "OpenAI",
    "Outcome",
    "ParallelAI",
    "ParallelAIError",
    "ParallelStrategy",
    "PipelineStrategy",
    "Plan",
    "PlanError",
    "RunDocument",
    "Severity",
    "Task",
    "TaskResult",
    "Usage",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module `parallelai` has no attribute `{name}`")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
