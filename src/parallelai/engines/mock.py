"""The engine `mock`: answers at once, or as a script says.

A script is a list of rules, given to the constructor, or as YAML in a file that the entry's `args` name:

    - {task: "slow-*", latency: 0.2, text: done}
    - {task: "*", times: 3, error: rate_limited, retry_after: 2}     # its first three calls
    - {task: broken, attempts: [1], error: transient, said: "503"}   # its first attempt only
    - {task: review-*, findings: [{file: a.py, line: 3, severity: high, message: m}]}
    - {task: dear, usage: {input: 90000, cached: 80000, output: 400}}
    - {task: stuck, hang: true}

The first rule that fits a call is what happens; where none fits, the mock answers at once.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from parallelai.engines.context import EngineContext, refuse_unused
from parallelai.engines.protocol import (
    TUNED,
    Availability,
    Capabilities,
    Estimate,
    FinalEvent,
    Port,
    Request,
    UsageEvent,
)
from parallelai.errors import (
    ENGINE_ERRORS,
    ConfigError,
    EngineError,
    Invalid,
    RateLimited,
    TimedOut,
)
from parallelai.records import FREE, Finding, LimitKey, Reply, Usage

if TYPE_CHECKING:
    from parallelai.plan.model import EngineEntry, Price

MAX_SCRIPT_BYTES = 4 * 1024 * 1024

_CAPABILITIES = Capabilities(
    answers=frozenset({"text", "findings", "schema"}),
    structured=True,
    batch=50,
    is_repeatable=True,
    tunes=TUNED,
    takes_price=True,
)
_FINAL = FinalEvent(ok=True)
_ANSWER = Reply(text="ok", usage=FREE)
_NO_FINDINGS = Reply(usage=FREE)
_NOTHING = Estimate()


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to the calls that it fits.

    It fits a call if `task` (a shell pattern) matches the task's id, `attempts` (empty: all) holds the
    attempt's number, and, of the calls that these fit and no earlier rule took, `after` came before it, it is
    the first or an `every`-th one, and the rule was taken fewer than `times` times (None: no end).
    `latency` and `retry_after` are seconds. With `error`, one of the kinds of CONTRACTS §5, the call fails
    with `said`; with `hang` it never ends by itself.
    """

    task: str = "*"
    attempts: tuple[int, ...] = ()
    after: int = 0
    every: int = 1
    times: int | None = None
    latency: float = 0.0
    hang: bool = False
    text: str | None = None
    findings: tuple[Finding, ...] = ()
    data: Any = None
    usage: Usage | None = None
    error: str | None = None
    said: str = ""
    retry_after: float | None = None
    is_quota: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.error is not None and self.error not in ENGINE_ERRORS:
            known = ", ".join(sorted(ENGINE_ERRORS))
            raise ConfigError(f"`{self.error}` is not a kind of error", next=f"write one of {known}")
        if self.every < 1 or self.latency < 0:
            raise ConfigError("a rule's `every` is at least 1 and its `latency` at least 0")


class _Counted(Struct):
    """How often a rule's task and attempt fitted, and how often the rule was taken."""

    rule: Rule
    fitted: int = 0
    taken: int = 0

    def takes(self, request: Request) -> bool:
        """Count the call, and say whether the rule is what happens to it."""
        rule = self.rule
        if not _fits(rule, request):
            return False
        self.fitted += 1
        number = self.fitted - rule.after  # from 1 for the first call that counts
        if number < 1 or (number - 1) % rule.every or (rule.times is not None and self.taken >= rule.times):
            return False
        self.taken += 1
        return True


class MockEngine:
    """An assistant that costs nothing and does what it is told (`Rule`)."""

    def __init__(
        self,
        name: str = "mock",
        entry: EngineEntry | None = None,
        context: EngineContext | None = None,
        *,
        script: Sequence[Rule] = (),
    ) -> None:
        """Take a script, or read it from the file that the entry's `args` name. Raises `ConfigError`."""
        self.name = name
        self.capabilities = _CAPABILITIES
        self._price: Price | None = None
        rules = tuple(script)
        if entry is not None:
            refuse_unused(name, entry, frozenset({"args", "price", "account", "model"}))
            self._price = entry.price
            if entry.args and context is not None:
                rules += _scripts(name, entry.args, context)
        self._rules = [_Counted(rule) for rule in rules]
        self._key = LimitKey(name)
        self._calls: list[str] = []

    @property
    def calls(self) -> Sequence[str]:
        """The tasks of the calls that a script saw, in order; empty without a script."""
        return self._calls

    async def detect(self) -> Availability:
        """Is always there."""
        return Availability(True, "built in; answers at once, or as its script says")

    def limit_key(self, request: Request) -> LimitKey:
        """Count by model, as a provider would."""
        return self._key if request.model is None else LimitKey(self.name, "default", request.model)

    def estimate(self, request: Request) -> Estimate:
        """Foretell what the first rule for the task will use."""
        for counted in self._rules:
            if counted.rule.usage is not None and _fits(counted.rule, request):
                usage = self._priced(counted.rule.usage)
                return Estimate(tokens=usage.tokens, usd=usage.usd)
        return _NOTHING

    async def perform(self, request: Request, port: Port) -> Reply:
        """Answer at once, or do what the first fitting rule says."""
        if self._rules:
            self._calls.append(request.task)
            for counted in self._rules:
                if counted.takes(request):
                    return await self._follow(counted.rule, request, port)
        if request.output == "schema":
            raise Invalid("the mock has no data for the schema", next="give it a script with `data`")
        await port.emit(_FINAL)
        return _NO_FINDINGS if request.output == "findings" else _ANSWER

    async def _follow(self, rule: Rule, request: Request, port: Port) -> Reply:
        try:
            async with asyncio.timeout(request.timeout_seconds):
                await (asyncio.Event().wait() if rule.hang else asyncio.sleep(rule.latency))
        except TimeoutError:
            raise TimedOut(f"no answer in {request.timeout_seconds:g} s") from None
        if rule.error is not None:
            raise _error(rule)
        usage = FREE if rule.usage is None else self._priced(rule.usage)
        if usage is not FREE:
            await port.emit(UsageEvent(usage))
        await port.emit(_FINAL)
        text = "ok" if rule.text is None and request.output == "text" else rule.text
        return Reply(
            text=text,
            findings=rule.findings,
            data=rule.data,
            usage=usage,
            model=request.model,
            notes=rule.notes,
        )

    def _priced(self, usage: Usage) -> Usage:
        """Free as the mock is, unless the entry has a price."""
        price = self._price
        if price is None:
            return replace(usage, usd=0.0, basis="free") if usage.basis == "unknown" else usage
        cached = usage.cached or 0
        fresh = (usage.input or 0) - cached
        rate = price.input if price.cached is None else price.cached
        usd = (fresh * price.input + cached * rate + (usage.output or 0) * price.output) / 1_000_000
        return replace(usage, usd=usd, basis="prices")

    def attach(self, session: str) -> list[str] | None:
        """Has no sessions."""
        return None

    async def aclose(self) -> None:
        """Holds nothing."""


def _fits(rule: Rule, request: Request) -> bool:
    return (rule.task == "*" or fnmatchcase(request.task, rule.task)) and (
        not rule.attempts or request.attempt in rule.attempts
    )


def _error(rule: Rule) -> EngineError:
    said = rule.said or f"the script says {rule.error}"
    if rule.error == RateLimited.kind:
        return RateLimited(said, retry_after_seconds=rule.retry_after, is_quota=rule.is_quota)
    return ENGINE_ERRORS[rule.error or "internal"](said)


def _scripts(name: str, paths: Sequence[str], context: EngineContext) -> tuple[Rule, ...]:
    return tuple(rule for path in paths for rule in load_script(context.path(path), shown=f"{name}: {path}"))


def load_script(path: Path, *, shown: str | None = None) -> tuple[Rule, ...]:
    """Read a script's rules from a YAML file. Raises `ConfigError` with the place, `shown` or the path."""
    shown = shown or str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SCRIPT_BYTES + 1)
        if len(raw) > MAX_SCRIPT_BYTES:
            raise ConfigError(f"the script is larger than {MAX_SCRIPT_BYTES:,} bytes", where=shown)
        return parse_script(raw.decode(), shown=shown)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the script cannot be read: {error}", where=shown) from None


def parse_script(text: str, *, shown: str = "script") -> tuple[Rule, ...]:
    """Read rules from YAML (no aliases). Raises `ConfigError` naming the rule that is wrong."""
    import yaml
    from pydantic import ValidationError

    from parallelai.records import adapter

    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise ConfigError("a script has no aliases", where=shown, next="write the rule out")
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"the script is not YAML: {error}", where=shown) from None
    if not isinstance(data, list):
        raise ConfigError("a script is a list of rules", where=shown)
    rules = []
    for number, item in enumerate(data, 1):
        where = f"{shown}, rule {number}"
        if not isinstance(item, dict) or (unknown := [key for key in item if key not in _rule_keys()]):
            wrong = f"does not know `{unknown[0]}`" if isinstance(item, dict) else "is not a mapping"
            raise ConfigError(f"the rule {wrong}", where=where, next=f"known keys: {', '.join(_rule_keys())}")
        try:
            rules.append(adapter(Rule).validate_python(_completed(item)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"`{place}`: {first['msg']}", where=where) from None
        except ConfigError as error:
            raise ConfigError(error.said, where=where, next=error.next) from None
    return tuple(rules)


@functools.cache
def _rule_keys() -> tuple[str, ...]:
    return tuple(Rule.__dataclass_fields__)


def _completed(item: dict[str, Any]) -> dict[str, Any]:
    """Let a finding's line be one number, as everywhere where people write findings."""
    findings = item.get("findings")
    if not isinstance(findings, list):
        return item
    lines = [
        {**finding, "line": (finding["line"], finding["line"])}
        if isinstance(finding, dict) and isinstance(finding.get("line"), int)
        else finding
        for finding in findings
    ]
    return {**item, "findings": lines}
