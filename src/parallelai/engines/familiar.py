"""Engines by the names that people know them by, for the library:

    ai.review("src/**/*.py", engine=MultiEngine([Claude(), GPT4()]))
    ai.execute("tasks.yaml", engine=Ollama(model="qwen3-coder"))

Keys come from the environment (`ANTHROPIC_API_KEY`, `OPENAI_API_KEY`), unless one is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parallelai.engines.context import EngineContext
from parallelai.engines.models.api import ModelEngine
from parallelai.errors import UsageError

_NOT_FOR_NAMES = str.maketrans(dict.fromkeys(" /:@", "-"))


class _Familiar(ModelEngine):
    """An engine that was made without a plan. What `settings` may hold are the keys of a plan's entry."""

    label = ""
    usual: str | None = None

    def __init__(
        self,
        model: str | None = None,
        *,
        name: str | None = None,
        api_key: str | None = None,
        **settings: Any,
    ) -> None:
        """Make the engine; see the keys of `engines` in a plan for `settings`.

        Args:
            model: a tier, a familiar name or the model's own.
            name: what results and events call it; two engines of one run need two.
            api_key: the key itself. It stays in this object, and is written down nowhere.

        Raises:
            UsageError: a setting is none, or has a wrong value.
        """
        from pydantic import ValidationError

        from parallelai.plan.model import EngineEntry

        known = {key: value for key, value in settings.items() if value is not None}
        try:
            entry = EngineEntry(use=self.use, model=model or self.usual, **known)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            said = f"`{type(self).__name__}`: `{place}`: {first['msg']}"
            raise UsageError(said, next="the settings are the keys of an engine in a plan") from None
        super().__init__(
            name or self._name_for(model), entry, EngineContext(root=Path.cwd()), api_key=api_key
        )

    def _name_for(self, model: str | None) -> str:
        """Its label; with a model that was chosen, so that two of a kind have two names."""
        if model is None:
            return self.label
        short = model.translate(_NOT_FOR_NAMES)
        return short if short.startswith(self.label) else f"{self.label}-{short}"


class Claude(_Familiar):
    """Claude models by Anthropic's API: `Claude()`, `Claude("opus")`, `Claude(model="haiku-4.5")`."""

    use = "anthropic"
    label = "claude"


class OpenAI(_Familiar):
    """OpenAI's models, and any server that speaks its API: `OpenAI(base_url="http://127.0.0.1:8000/v1")`."""

    use = "openai"
    label = "openai"


class GPT4(_Familiar):
    """OpenAI's GPT-4.1."""

    use = "openai"
    label = "gpt4"
    usual = "gpt-4.1"


class Ollama(_Familiar):
    """A model of Ollama on this machine; without a name, the one that is installed."""

    use = "ollama"
    label = "ollama"
