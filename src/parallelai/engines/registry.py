"""Which engines there are, by name, and the one object of each that a run uses.

A name is looked up among the instances that a library user gave, the entries of plan and config, and the entry
points `parallelai.engines`.
"""

from __future__ import annotations

import asyncio
import difflib
import importlib
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from parallelai import extensions
from parallelai.engines.context import EngineContext
from parallelai.engines.protocol import Availability, Engine
from parallelai.errors import ConfigError, NotFoundError, ParallelAIError, Unavailable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from parallelai.plan.model import EngineEntry

GROUP = "parallelai.engines"
EMBEDDED: Mapping[str, str] = {
    "acp": "parallelai.engines.acp.engine:AcpEngine",
    "aider": "parallelai.engines.commands.command:CommandEngine",
    "analyzers": "parallelai.engines.analyzers.engine:AnalyzersEngine",
    "openai": "parallelai.engines.models.openai:OpenAIEngine",
    "anthropic": "parallelai.engines.models.anthropic:AnthropicEngine",
    "ollama": "parallelai.engines.models.openai:OpenAIEngine",
    "vllm": "parallelai.engines.models.openai:OpenAIEngine",
    "llamacpp": "parallelai.engines.models.openai:OpenAIEngine",
    "lmstudio": "parallelai.engines.models.openai:OpenAIEngine",
    "perplexity": "parallelai.engines.models.openai:OpenAIEngine",
    "openrouter": "parallelai.engines.models.openai:OpenAIEngine",
    "azure": "parallelai.engines.models.openai:OpenAIEngine",
    "claude-code": "parallelai.engines.clients.claude_code:ClaudeCodeEngine",
    "codex": "parallelai.engines.clients.codex:CodexEngine",
    "command": "parallelai.engines.commands.command:CommandEngine",
    "cursor": "parallelai.engines.acp.engine:AcpEngine",
    "gemini": "parallelai.engines.acp.engine:AcpEngine",
    "mini-swe-agent": "parallelai.engines.commands.command:CommandEngine",
    "mock": "parallelai.engines.mock:MockEngine",
    "opencode": "parallelai.engines.acp.engine:AcpEngine",
    "pi": "parallelai.engines.commands.command:CommandEngine",
    "qwen": "parallelai.engines.acp.engine:AcpEngine",
    "replay": "parallelai.engines.replay:ReplayEngine",
}
"""The entry points of this package itself: known without a search through all that is installed, and not to
be replaced by another package's of the same name."""
DEFAULT = "analyzers"
"""What `auto` takes where nothing else may be."""
DETECT_SECONDS = 0.7
"""How long one engine may take to say whether it is there."""

State = Literal["ready", "found", "missing"]
Origin = Literal["embedded", "installed", "configured", "given"]
Maker = Callable[[str, "EngineEntry", EngineContext], Engine]


class EngineRow(Struct, frozen=True):
    """A line of `engines list`.

    `state`: it can be used (ready), something of it is here but it cannot be used (found), or it is missing.
    `use` is the registered engine behind the name, None for an instance that was given.
    """

    name: str
    use: str | None
    state: State
    origin: Origin
    availability: Availability
    is_default: bool = False


class Registry:
    """The engines of one client. Each is made when it is first asked for, and once.

    `entries` are those of plan and config, by name; `given` are instances of a library user, who closes them.
    """

    def __init__(
        self,
        entries: Mapping[str, EngineEntry],
        context: EngineContext,
        *,
        given: Mapping[str, Engine] | None = None,
    ) -> None:
        self._entries = dict(entries)
        self._context = context
        self._given = dict(given or {})
        self._made: dict[str, Engine] = dict(self._given)
        self._points: dict[str, EntryPoint] | None = None

    @property
    def names(self) -> frozenset[str]:
        """Every name that a plan may use."""
        return frozenset({*self._given, *self._entries, *self.driven})

    @property
    def driven(self) -> frozenset[str]:
        """The registered names that some code here serves."""
        return frozenset({*EMBEDDED, *self._installed()})

    @property
    def configured(self) -> frozenset[str]:
        """The names that plan or config define."""
        return frozenset(self._entries)

    def entry(self, name: str) -> EngineEntry | None:
        """Give the settings of a name: its entry, or a registered one's defaults; None if it was given."""
        from parallelai.plan.model import EngineEntry

        if name in self._given:
            return None
        return self._entries.get(name) or EngineEntry(use=name)

    def get(self, name: str) -> Engine:
        """Give the engine of a name; the same object each time.

        Raises `NotFoundError` for a name that nobody knows or registered, `Unavailable` for one
        whose package fails to load, `ConfigError` for an entry that its engine cannot take.
        """
        engine = self._made.get(name)
        if engine is None:
            engine = self._made[name] = self._make(name)
        return engine

    def _make(self, name: str) -> Engine:
        entry = self.entry(name)
        if entry is None or (name not in self._entries and name not in self.names):
            raise self._unknown(name)
        if entry.use not in self.driven:
            raise self._unregistered(name, entry.use)
        recorded = self._recorded(name, entry)
        if recorded is not None:
            return recorded
        maker = self._maker(entry.use)
        try:
            return maker(name, entry, self._context)
        except ParallelAIError:
            raise
        except Exception as error:  # other people's code: one broken engine must not end the others
            said = f"engine `{name}` could not be made: {type(error).__name__}: {error}"
            raise Unavailable(said, next=f"look at what serves `{entry.use}`") from error

    def _recorded(self, name: str, entry: EngineEntry) -> Engine | None:
        """Make an engine that records another one of these; None if the entry is nothing of the kind."""
        if entry.use != "replay" or entry.use not in EMBEDDED or len(entry.args) < 2:
            return None
        from parallelai.engines.replay import recorded_engine, recorder

        other = recorded_engine(entry)
        if other is None:
            return None
        of = self.entry(other)
        if other == name or (of is not None and of.use == "replay"):
            raise ConfigError(
                f"engine `{name}` records `{other}`, which is itself a recording",
                next="record the engine that answers",
            )
        return recorder(name, entry, self._context, self.get(other), of)

    def _maker(self, use: str) -> Maker:
        try:
            loaded: Any
            if use in EMBEDDED:
                module, _, attribute = EMBEDDED[use].partition(":")
                loaded = getattr(importlib.import_module(module), attribute)
            else:
                loaded = self._installed()[use].load()
        except Exception as error:  # a plugin's import may raise anything
            said = f"the engine `{use}` could not be loaded: {type(error).__name__}: {error}"
            raise Unavailable(said, next="install it again, or remove it") from error
        made: Maker = loaded
        return made

    def _installed(self) -> Mapping[str, EntryPoint]:
        """The entry points of other packages."""
        if self._points is None:
            found = extensions.of_group(GROUP)
            self._points = {point.name: point for point in found if point.name not in EMBEDDED}
        return self._points

    def _unknown(self, name: str) -> NotFoundError:
        near = difflib.get_close_matches(name, sorted(self.names), n=1)
        hint = f"did you mean `{near[0]}`?" if near else "`parallelai engines list` shows all"
        return NotFoundError(f"there is no engine `{name}`", next=hint)

    def _unregistered(self, name: str, use: str) -> NotFoundError:
        near = difflib.get_close_matches(use, sorted(self.driven), n=1)
        hint = f"did you mean `use: {near[0]}`?" if near else "`parallelai engines list` shows all"
        return NotFoundError(f"engine `{name}` uses `{use}`, which is not registered", next=hint)

    async def listing(
        self, names: Collection[str] | None = None, *, defaults: Collection[str] = (DEFAULT,)
    ) -> list[EngineRow]:
        """Say of every name, or of these, whether it can be used here; those that can come first.

        `defaults` are those that are taken where nobody names another.
        Starts no client and asks no server. An engine that does not answer in time is listed as missing.
        """
        async with asyncio.TaskGroup() as group:
            asked = sorted(self.names if names is None else names)
            tasks = [group.create_task(self._row(name, name in defaults)) for name in asked]
        order = ("ready", "found", "missing")
        return sorted((task.result() for task in tasks), key=lambda row: (order.index(row.state), row.name))

    async def _row(self, name: str, is_default: bool) -> EngineRow:
        entry = self.entry(name)
        use = None if entry is None else entry.use
        availability = await self._detect(name)
        state: State = "ready" if availability.is_available else "missing"
        if state == "missing" and (availability.path is not None or availability.needs_entry):
            state = "found"
        return EngineRow(name, use, state, self._origin(name), availability, is_default)

    async def _detect(self, name: str) -> Availability:
        try:
            async with asyncio.timeout(DETECT_SECONDS):
                return await self.get(name).detect()
        except TimeoutError:
            return Availability(
                False, "did not say in time whether it is there", how=f"try `engines test {name}`"
            )
        except ParallelAIError as error:
            return Availability(False, error.said, how=error.next)
        except Exception as error:  # other people's code: it is listed as what it is, broken
            said = f"its detection failed: {type(error).__name__}: {error}"
            return Availability(False, said, how="report it to whoever made the engine")

    def _origin(self, name: str) -> Origin:
        if name in self._given:
            return "given"
        if name in self._entries:
            return "configured"
        if name in EMBEDDED:
            return "embedded"
        return "installed"

    async def aclose(self) -> None:
        """Close every engine that was made here, whatever the others do; then raise the first error."""
        made = [engine for name, engine in self._made.items() if name not in self._given]
        self._made = dict(self._given)
        failures: list[Exception] = []
        for engine in made:
            try:
                await engine.aclose()
            except Exception as error:  # the next one must be closed all the same
                failures.append(error)
        if failures:
            raise failures[0]
