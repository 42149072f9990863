"""The servers of models that are registered by name: data, read by `engines.openai` and `engines.anthropic`.

Addresses and variables are those of the servers' own documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from parallelai.errors import ConfigError

Format = Literal["chat", "responses", "messages"]
KeyHeader = Literal["bearer", "api-key", "x-api-key"]


@dataclass(frozen=True, slots=True)
class ModelServer:
    """How a kind of server is reached.

    `base_url` is its usual address (empty: every user has one of their own), `root` what follows a host that
    was given alone, `url_variables` and `key_variables` where its own tools look. `is_local`: it is a server
    that people run themselves, and on this machine it is neither remote nor paid. `programs` are its names on
    the PATH, `provider` its name in the table of models. `caches`: what prompts begin with alike, it reads once.
    """

    base_url: str = ""
    root: str = "/v1"
    url_variables: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    key_header: KeyHeader = "bearer"
    needs_key: bool = False
    is_local: bool = False
    limit_key: str = "max_tokens"
    format: Format = "chat"
    programs: tuple[str, ...] = ()
    provider: str = ""
    start: str = ""
    port: int | None = None  # of an address without one and without a scheme
    caches: bool = False


SERVERS: Mapping[str, ModelServer] = {
    "openai": ModelServer(
        "https://api.openai.com/v1",
        url_variables=("OPENAI_BASE_URL",),
        key_variables=("OPENAI_API_KEY",),
        needs_key=True,
        limit_key="max_completion_tokens",
        provider="openai",
        caches=True,
    ),
    "anthropic": ModelServer(
        "https://api.anthropic.com/v1",
        url_variables=("ANTHROPIC_BASE_URL",),
        key_variables=("ANTHROPIC_API_KEY",),
        key_header="x-api-key",
        needs_key=True,
        format="messages",
        provider="anthropic",
        caches=True,
    ),
    "ollama": ModelServer(
        "http://127.0.0.1:11434/v1",
        url_variables=("OLLAMA_HOST",),
        is_local=True,
        programs=("ollama",),
        provider="ollama",
        start="ollama serve",
        port=11434,
    ),
    "vllm": ModelServer(
        "http://127.0.0.1:8000/v1",
        key_variables=("VLLM_API_KEY",),
        is_local=True,
        programs=("vllm",),
        provider="vllm",
        start="vllm serve MODEL",
    ),
    "llamacpp": ModelServer(
        "http://127.0.0.1:8080/v1",
        key_variables=("LLAMA_API_KEY",),
        is_local=True,
        programs=("llama-server",),
        provider="llamacpp",
        start="llama-server -m MODEL.gguf",
    ),
    "lmstudio": ModelServer(
        "http://127.0.0.1:1234/v1",
        is_local=True,
        programs=("lms",),
        provider="lmstudio",
        start="lms server start",
    ),
    "perplexity": ModelServer(
        "https://api.perplexity.ai",
        root="",
        key_variables=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
        needs_key=True,
        provider="perplexity",
    ),
    "openrouter": ModelServer(
        "https://openrouter.ai/api/v1",
        root="/api/v1",
        key_variables=("OPENROUTER_API_KEY",),
        needs_key=True,
        provider="openrouter",
    ),
    "azure": ModelServer(
        root="/openai/v1",
        url_variables=("AZURE_OPENAI_ENDPOINT",),
        key_variables=("AZURE_OPENAI_API_KEY",),
        key_header="api-key",
        needs_key=True,
        limit_key="max_completion_tokens",
        provider="azure",
        caches=True,
    ),
}
"""By the registered name."""

_HOSTS = (
    (re.compile(r"(?:^|\.)api\.openai\.com$"), "openai"),
    (re.compile(r"(?:^|\.)api\.anthropic\.com$"), "anthropic"),
    (re.compile(r"(?:^|\.)openrouter\.ai$"), "openrouter"),
    (re.compile(r"(?:^|\.)api\.perplexity\.ai$"), "perplexity"),
    (re.compile(r"\.openai\.azure\.com$|\.(?:services\.ai|cognitiveservices)\.azure\.com$"), "azure"),
)
_VERSION = re.compile(r"/v\d+[a-z0-9]*(?:/|$)")


def known_by(url: str) -> str | None:
    """Give the registered name of the server that an address belongs to, None for one nobody knows."""
    host = (urlsplit(url).hostname or "").lower()
    return next((name for pattern, name in _HOSTS if pattern.search(host)), None)


def completed(url: str, server: ModelServer, *, where: str) -> str:
    """Make an address of what people write: with or without `/v1`, a `/` at its end, a scheme.

    A path that somebody wrote is kept as it is; only Messages always ends in a version, as Anthropic's own
    clients do it. Raises `ConfigError` where it is no address.
    """
    text = url.strip()
    has_scheme = "://" in text
    try:
        parts = urlsplit(text if has_scheme else f"http://{text}")
        if not has_scheme and server.port is not None and parts.port is None:
            parts = parts._replace(netloc=f"{parts.netloc}:{server.port}")
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError(f"{where}: it is no address of a server", next="write `http://HOST:PORT/v1`, say")
    netloc = re.sub(r"(^|@)(?:0\.0\.0\.0|\[::\])(?=:|$)", r"\g<1>127.0.0.1", parts.netloc)
    path = parts.path.rstrip("/")
    for call in ("/chat/completions", "/responses", "/messages"):
        path = path.removesuffix(call)
    if not path:
        path = server.root
    elif server.format == "messages" and not _VERSION.search(path):
        path += server.root
    return urlunsplit((parts.scheme, netloc, path, parts.query, ""))


def reached(use: str, base_url: str | None, env: Mapping[str, str], *, where: str) -> tuple[str, ModelServer]:
    """Give the address that an engine calls (empty where none is known), and how it is called there.

    `base_url` is the entry's, before the environment's. A host that is known is called as it wants it, whatever
    the engine. A key of the environment belongs to the server of the environment, or to its own provider,
    never to another one that an entry names: it would be sent to whoever runs that.
    """
    kind = SERVERS[use]
    variable = next((name for name in kind.url_variables if env.get(name, "").strip()), None)
    if not base_url and variable is None:
        return kind.base_url, kind
    given = base_url or env[variable or ""]
    own = SERVERS.get(known_by(given if "://" in given else f"http://{given}") or "")
    url = completed(given, own or kind, where=where if base_url else f"`{variable}`")
    if own is None or own is kind:
        is_kept = own is kind or kind.is_local or not base_url
        limit_key = kind.limit_key if own is kind or use != "openai" else "max_tokens"
        variables = kind.key_variables if is_kept else ()
        return url, replace(kind, key_variables=variables, needs_key=own is kind, limit_key=limit_key)
    header = own.key_header if own.format == kind.format else kind.key_header
    known = replace(own, key_header=header, format=kind.format, is_local=False, provider=kind.provider)
    return url, replace(known, key_variables=own.key_variables if base_url else kind.key_variables)


def call_url(base_url: str, path: str) -> str:
    """Put the path of a call behind a base address, before its query."""
    parts = urlsplit(base_url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path + path, parts.query, ""))
