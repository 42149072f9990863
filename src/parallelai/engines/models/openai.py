"""The engines `openai`, `ollama`, `vllm`, `llamacpp`, `lmstudio`, `perplexity`, `openrouter`, `azure`.

    engines:
      local: {use: openai, base_url: http://127.0.0.1:8000/v1, model: small, api_key_env: LOCAL_KEY}
      gpt:   {use: openai, model: best, args: [responses]}

All that speaks OpenAI's API: Chat Completions, or Responses where `args` says so. `openai` counts as remote at
any address; the servers that people run themselves do not on this machine.
"""

from __future__ import annotations

from parallelai.engines.models.api import ModelEngine


class OpenAIEngine(ModelEngine):
    """A server that speaks OpenAI's API, by the name that its entry uses."""
