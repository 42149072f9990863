"""The one question before anything leaves the machine: may `auto` take this engine? (DESIGN §5, "Consent")."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from parallelai.client.addresses import USUAL, shown
from parallelai.client.project import OpenProject
from parallelai.engines.protocol import Engine, OutputKind, Request
from parallelai.engines.registry import Registry
from parallelai.errors import ParallelAIError, UsageError
from parallelai.records import FilePart

CANDIDATES = ("anthropic", "openai", "claude-code", "codex")
"""Registered engines that people have a key or a login for without any configuration."""


class Offer(Struct, frozen=True):
    """An engine that could do it, and what that would take. `usd` is None where no price is known.

    `address` is where it would ask, if its surroundings decide that and not its entry.
    """

    engine: str
    address: str
    said: str
    files: int
    tokens: int | None
    usd: float | None

    @property
    def question(self) -> str:
        """What the user is asked."""
        tokens = f"about {self.tokens:,} tokens" if self.tokens is not None else "an unknown number of tokens"
        cost = f"about {self.usd:.2f} USD" if self.usd is not None else "unknown cost"
        what = f"{self.files} file{'s' * (self.files != 1)}, {tokens}, {cost}"
        return (
            f"`{self.engine}` is ready ({self.said}). May reviews be sent to it from now on? This one: {what}"
        )


async def offer(
    project: OpenProject, paths: Sequence[str], output: OutputKind = "findings", *, prompt: str = ""
) -> Offer | None:
    """Find an engine to ask about; None where the user was asked before, or there is none.

    Args:
        project: whose settings name no engine.
        paths: the files that would be sent.
        output: what the engine has to give.
        prompt: what goes along with each file.
    """
    registry = project.registry()
    try:
        for name in (*sorted(registry.configured), *CANDIDATES):
            if has_consent(project, registry, name) or project.machine.has_declined(name):
                return None
            engine = _able(registry, name, output)
            if engine is None:
                continue
            found = await engine.detect()
            if found.is_available:
                tokens, usd = _estimate(project, engine, paths, prompt)
                return Offer(name, _address(registry, name), found.said, len(paths), tokens, usd)
        return None
    finally:
        await registry.aclose()


def answer(project: OpenProject, offer: Offer, is_yes: bool) -> None:
    """Remember what the user said, for all projects of this machine."""
    if is_yes:
        project.machine.consent(offer.engine, offer.address)
    else:
        project.machine.decline(offer.engine)


def has_consent(project: OpenProject, registry: Registry, engine: str) -> bool:
    """Whether the user said that `auto` may take an engine, at the address where it would ask now."""
    return project.has_consent(engine, lambda: _address(registry, engine))


def _address(registry: Registry, engine: str) -> str:
    try:
        return shown(registry.get(engine).capabilities.asks_at)
    except ParallelAIError:  # not here, or not trusted
        return USUAL


def take_back(project: OpenProject, engines: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Forget what the user agreed to, for all projects of this machine.

    Returns:
        The engines that there was a consent to, and those that the user's config agrees to all the same.

    Raises:
        UsageError: there is no engine of a name, and nobody agreed to one; nothing is forgotten then.
    """
    _refuse_unknown(project, engines)
    revoked = tuple(name for name in dict.fromkeys(engines) if project.machine.revoke(name))
    return revoked, tuple(name for name in dict.fromkeys(engines) if name in project.settings.consent)


def _refuse_unknown(project: OpenProject, engines: Sequence[str]) -> None:
    """What is misspelt was not taken back. What was agreed to, and is not installed any more, may be."""
    known = project.registry().names | set(project.settings.consent)
    for name in engines:
        if name not in known and not project.machine.has_consent(name):
            listed = ", ".join(f"`{each}`" for each in sorted(known))
            raise UsageError(f"there is no engine `{name}`", next=f"there are {listed}")


def _able(registry: Registry, name: str, output: OutputKind) -> Engine | None:
    try:
        engine = registry.get(name)
    except ParallelAIError:  # not here, or not trusted
        return None
    able = engine.capabilities
    return engine if able.is_remote and output in able.answers else None


def _estimate(
    project: OpenProject, engine: Engine, paths: Sequence[str], prompt: str
) -> tuple[int | None, float | None]:
    """What one request for each file takes, in all."""
    tokens: int | None = 0
    usd: float | None = 0.0
    for path in paths:
        request = Request(
            "",
            path,
            0,
            str(project.root),
            prompt,
            files=(FilePart(path),),
            files_at=len(prompt),
            output="findings",
        )
        estimate = engine.estimate(request)
        tokens = None if tokens is None or estimate.tokens is None else tokens + estimate.tokens
        usd = None if usd is None or estimate.usd is None else usd + estimate.usd
    return tokens, usd
