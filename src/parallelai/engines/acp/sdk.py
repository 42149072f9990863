"""The official SDK of the Agent Client Protocol, loaded without what only its documentation needs.

Its models are made for two things that ParallelAI does not do: each reads the docstrings of its fields out of its
own source, and builds its validator at once, whether it is used or not. That is most of what loading it takes,
while clients wait to be started. Both are settings of pydantic, which are given here for the time of the import:
https://docs.pydantic.dev/latest/api/config/ (`use_attribute_docstrings`, `defer_build`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pydantic

__all__ = ["acp", "schema"]


@contextmanager
def _lean_models() -> Iterator[None]:
    """Have the SDK's models, defined meanwhile, read no docstrings, and build their validators at their first use."""
    settings = pydantic.ConfigDict

    def lean(**asked: Any) -> pydantic.ConfigDict:
        # Other threads may define models meanwhile, or take this name over for good: that is none of ours.
        if sys._getframe(1).f_globals.get("__name__") != "acp.schema":
            return settings(**asked)
        return settings(**{**asked, "use_attribute_docstrings": False, "defer_build": True})

    pydantic.ConfigDict = lean  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        pydantic.ConfigDict = settings  # type: ignore[misc]


with _lean_models():
    import acp
    from acp import schema
