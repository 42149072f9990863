"""What an engine may know of where it works, beside its own entry.

Given to every engine at its making: `Engine(name, entry, context)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, field

from parallelai.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from parallelai.plan.model import EngineEntry

COMMON_KEYS = frozenset({"use", "concurrency", "timeout", "idle_timeout", "sandbox"})
"""Keys of an entry that mean something for every engine: whoever runs the engine reads them."""


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


class EngineContext(Struct, frozen=True):
    """The project that engines serve.

    `root` is absolute. `analyzers` are the configured tools by name; `trusted` says whether the user
    said so of the project: its files may then name what runs (DESIGN §5, "Commands are code"). `models` is
    the config's key of that name: what it adds to `engines.models_table`.
    """

    root: Path
    analyzers: Mapping[str, Analyzer] = field(default_factory=dict)
    trusted: bool = False
    models: Mapping[str, Any] = field(default_factory=dict)

    def path(self, relative: str) -> Path:
        """Resolve a path that an entry names, links followed. Raises `UsageError` if it leaves the root."""
        root = self.root.resolve()
        try:
            found = (root / relative).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(f"`{relative!a}` is not a usable path: {error}") from None
        if not found.is_relative_to(root):
            raise UsageError(f"`{relative}` leads out of the project", next="name a path below its root")
        return found


def asked_at(entry: EngineEntry, variables: Iterable[str]) -> str:
    """Give the address that the environment gives a client by one of `variables`; empty where its entry decides."""
    if entry.base_url is not None:
        return ""
    return next(
        (os.environ[name] for name in variables if name not in entry.env and os.environ.get(name)), ""
    )


def refuse_unused(name: str, entry: EngineEntry, used: frozenset[str] = frozenset()) -> None:
    """Refuse keys of an entry that its engine would ignore; `used` are those beside `COMMON_KEYS`.

    One that runs a program in a workspace uses `sandbox`; the others cannot give a required one.

    Raises `ConfigError` naming them. A key that has no effect would be a promise not kept: `network: off` on
    a program that nothing confines, or a `price` where no token is counted.
    """
    if entry.sandbox == "required" and "sandbox" not in used:
        raise ConfigError(
            f"engine `{name}` asks for `sandbox: required`, which `{entry.use}` cannot give",
            next="take it out of the entry: it starts no program that could be confined",
        )
    unused = sorted(entry.model_fields_set - COMMON_KEYS - used)
    if unused:
        keys = ", ".join(f"`{key}`" for key in unused)
        raise ConfigError(
            f"engine `{name}`: `{entry.use}` makes no use of {keys}", next="take it out of the entry"
        )
