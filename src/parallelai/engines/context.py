"""What an engine may know of where it works, beside its own entry.

Given to every engine at its making: `Engine(name, entry, context)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class Analyzer(Protocol):
    """A tool that the user configured and that prints SARIF (config key `analyzers`).

    `command` is argv, to which the files are added; `files` are git patterns of what it looks at; `batch` is
    how many files one call gets.
    """

    @property
    def command(self) -> tuple[str, ...]: ...

    @property
    def files(self) -> tuple[str, ...]: ...

    @property
    def batch(self) -> int: ...


@dataclass(frozen=True, slots=True)
class EngineContext:
    """The project that engines serve.

    `root` is absolute. `analyzers` are the configured tools by name; `trusted` says whether what the
    project's own files name may run (DESIGN §5, "Commands are code").
    """

    root: Path
    analyzers: Mapping[str, Analyzer] = field(default_factory=dict)
    trusted: bool = False
