"""The engine `anthropic`: Claude models by the Messages API.

engines:
  opus: {use: anthropic, model: opus, api_key_env: ANTHROPIC_API_KEY, max_tokens: 8000}
"""

from __future__ import annotations

from parallelai.engines.models.api import ModelEngine


class AnthropicEngine(ModelEngine):
    """Anthropic's API, or a gateway that speaks it."""
