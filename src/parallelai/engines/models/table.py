"""Which model a tier or a familiar name means, for each provider (CONTRACTS §1, `model`).

A table, because names of models come and go: config extends it under `models`, in the same shape:

    models:
      anthropic: {best: claude-opus-5-5, sonnet: claude-sonnet-5-5}
      my-gateway: {standard: qwen3-coder}
"""

from __future__ import annotations

from collections.abc import Mapping

TIERS = ("best", "standard", "fast")

Table = Mapping[str, Mapping[str, str]]

MODELS: Table = {
    "anthropic": {
        "best": "claude-opus-5-5",
        "standard": "claude-sonnet-5-5",
        "fast": "claude-haiku-5-5",
        "fable": "claude-fable-5-2",
        "opus": "claude-opus-5-5",
        "sonnet": "claude-sonnet-5-5",
        "haiku": "claude-haiku-5-5",
        "fable-5": "claude-fable-5",
        "fable-5.1": "claude-fable-5-1",
        "fable-5.2": "claude-fable-5-2",
        "opus-5.5": "claude-opus-5-5",
        "opus-5": "claude-opus-5",
        "opus-4.8": "claude-opus-4-8",
        "opus-4.7": "claude-opus-4-7",
        "opus-4.6": "claude-opus-4-6",
        "opus-4.5": "claude-opus-4-5",
        "opus-4.1": "claude-opus-4-1",
        "opus-4": "claude-opus-4-0",
        "opus-3": "claude-3-opus-latest",
        "sonnet-5.5": "claude-sonnet-5-5",
        "sonnet-5": "claude-sonnet-5",
        "sonnet-4.6": "claude-sonnet-4-6",
        "sonnet-4.5": "claude-sonnet-4-5",
        "sonnet-4": "claude-sonnet-4-0",
        "sonnet-3.7": "claude-3-7-sonnet-latest",
        "sonnet-3.5": "claude-3-5-sonnet-latest",
        "haiku-5.5": "claude-haiku-5-5",
        "haiku-4.5": "claude-haiku-4-5",
        "haiku-3.5": "claude-3-5-haiku-latest",
        "haiku-3": "claude-3-haiku-20240307",
    },
    "openai": {
        "best": "gpt-6-astra",
        "standard": "gpt-6.1-sol",
        "fast": "gpt-6-luna",
        "astra": "gpt-6-astra",
        "sol": "gpt-6.1-sol",
        "terra": "gpt-6.1-terra",
        "luna": "gpt-6-luna",
        "gpt": "gpt-6.1-sol",
        "gpt-6": "gpt-6.1-sol",
        "gpt-6.1": "gpt-6.1-sol",
        "gpt4": "gpt-4.1",
        "gpt4o": "gpt-4o",
        "gpt5": "gpt-5",
    },
    "azure": {},  # a deployment's name there is whatever its owner gave it
    "openrouter": {
        "best": "anthropic/claude-opus-5.5",
        "standard": "anthropic/claude-sonnet-5.5",
        "fast": "anthropic/claude-haiku-5.5",
        "opus": "anthropic/claude-opus-5.5",
        "sonnet": "anthropic/claude-sonnet-5.5",
        "haiku": "anthropic/claude-haiku-5.5",
        "sol": "openai/gpt-6.1-sol",
        "terra": "openai/gpt-6.1-terra",
        "luna": "openai/gpt-6-luna",
    },
    "perplexity": {"best": "sonar-reasoning-pro", "standard": "sonar-pro", "fast": "sonar"},
}
"""Of `openai` and `anthropic` the names that their own pages and price lists had when this was written."""


def extended(more: Mapping[str, object], table: Table = MODELS) -> Table:
    """Add what config says to a table; what is no mapping of names to names there is passed over."""
    made = {provider: dict(names) for provider, names in table.items()}
    for provider, names in more.items():
        if isinstance(names, Mapping):
            known = made.setdefault(str(provider), {})
            known |= {str(name): model for name, model in names.items() if isinstance(model, str)}
    return made


def familiar_names(more: Mapping[str, object]) -> frozenset[str]:
    """Give every name that some provider's model is known by here, with what config adds."""
    return frozenset(name for names in extended(more).values() for name in names)


def model_name(wanted: str, provider: str, table: Table = MODELS) -> str:
    """Give the name by which a provider knows a model.

    `wanted` is a tier, a familiar name or the model's own; case and a provider's prefix (`claude-opus`) do
    not matter for familiar ones. Empty where it is a tier and the provider has none: a server with models of
    its own.
    """
    names = table.get(provider, {})
    if wanted in names:
        return names[wanted]
    lowered = wanted.strip().lower()
    for name in (lowered, lowered.removeprefix("claude-").removeprefix("claude ").replace(" ", "-")):
        if name in names:
            return names[name]
    return "" if lowered in TIERS else wanted
