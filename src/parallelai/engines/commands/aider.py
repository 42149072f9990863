"""aider, a command (`use: aider`); it ends with 0 whatever happened (CLIENTS §4)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from parallelai.engines.acp.errors import read_words
from parallelai.engines.commands.parts import (
    FOLDER,
    KEYS,
    MIB,
    PROMPT,
    PROVIDER_KEYS,
    Said,
    Template,
    Wanted,
    priced,
)
from parallelai.errors import EngineError, Invalid
from parallelai.records import Usage

_TOKENS = re.compile(
    r"^Tokens: ([\d.,]+)([kM]?) sent,.*?([\d.,]+)([kM]?) received\.(?: Cost: \$(\d+(?:\.\d+)?) message)?"
)
_FULL = "has hit a token limit!"
_ERROR = re.compile(
    r"^(?:litellm\.\w*(?:Error|Timeout)|The API provider|.*\bModel \S+: (?:Unknown|not found)"
    rf"|Model \S+ {_FULL})"
)


class Reader:
    """Plain text: a head, the answer, a line of tokens for each call, then what was done with it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._usage: Usage | None = None
        self._error: list[str] = []
        self._is_failing = False

    def take(self, line: str) -> str:
        """Read a line; a failure counts until a later call succeeds."""
        tokens = _TOKENS.match(line)
        if tokens is not None:
            usage = _usage(tokens)
            self._usage = usage if self._usage is None else self._usage + usage
            self._error, self._is_failing = [], False
        elif self._is_failing and line.startswith("Retrying in "):
            raise self._failure()
        elif _ERROR.match(line):
            self._error.append(line)
            self._is_failing = True
        elif self._is_failing and line.strip() and len(self._error) < 12:
            self._error.append(line)
        elif line.startswith("Repo-map:"):
            self._lines = []
        else:
            self._lines.append(line)
        return line + "\n"

    def finish(self, stdout: str, folder: Path) -> Said:
        """Say what the last call came to."""
        if self._is_failing or self._usage is None:
            raise self._failure()
        return Said("\n".join(self._lines).strip() + "\n", self._usage)

    def usage(self, folder: Path) -> Usage | None:
        """Give the sum of its calls."""
        return self._usage

    def _failure(self) -> EngineError:
        words = " ".join(self._error) or "\n".join(self._lines[-6:])
        if _FULL in words and "".join(self._lines).strip():  # else it was the prompt that was too long
            return Invalid("`aider` reached its limit of tokens", next="make the task smaller")
        return read_words("aider", words, "could not do it")


def _usage(match: re.Match[str]) -> Usage:
    sent, received = (_number(match[i], match[i + 1]) for i in (1, 3))
    return priced(Usage(sent, None, received), float(match[5] or 0))


def _number(text: str, unit: str) -> int | None:
    try:
        return int(float(text.replace(",", "")) * {"": 1, "k": 1_000, "M": 1_000_000}[unit])
    except (ValueError, OverflowError):
        return None


_IDENTITY = {
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "user.name",
    "GIT_CONFIG_VALUE_0": "aider",
    "GIT_CONFIG_KEY_1": "user.email",
    "GIT_CONFIG_VALUE_1": "aider@localhost",
}
"""Where git knows no name for its user, aider writes one into the repository: it fails where it may only read."""


def _files(wanted: Wanted) -> Mapping[str, str]:
    """Have a server of one's own asked once, not three times, for what it refuses just now.

    Not where aider has a login of its own: settings of the user's for all models would make room for these.
    """
    if wanted.base_url is None:
        return {}
    settings = {"name": "aider/extra_params", "extra_params": {"max_retries": 0}}
    return {"models.yml": json.dumps([settings])}


def _arguments(wanted: Wanted) -> tuple[str, ...]:
    server = () if wanted.base_url is None else ("--model-settings-file", f"{FOLDER}/models.yml")
    model = () if wanted.model is None else ("--model", wanted.model)
    mode = () if wanted.edits else ("--chat-mode", "ask")
    kind = "--file" if wanted.edits else "--read"
    return (*server, *model, *mode, *(word for file in wanted.files for word in (kind, f"./{file}")))


TEMPLATE = Template(
    command=(
        *("aider", "--yes-always", "--no-pretty", "--no-stream"),
        *("--no-show-model-warnings", "--no-auto-lint"),
        *("--analytics-disable", "--no-check-update", "--no-show-release-notes", "--no-detect-urls"),
        *("--no-suggest-shell-commands", "--no-gitignore", "--map-tokens", "0"),
        # A commit would have its model asked for a message that nobody sees.
        *("--no-auto-commits", "--no-dirty-commits"),
        *("--chat-history-file", f"{FOLDER}/chat.md", "--input-history-file", f"{FOLDER}/input"),
        *("--message-file", PROMPT),
    ),
    arguments=_arguments,
    files=_files,
    env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONUNBUFFERED": "1", **_IDENTITY},
    url_env="OPENAI_API_BASE",
    key_env="OPENAI_API_KEY",
    login=(".aider",),
    obeyed=(".aider.conf.yml", ".aider.model.settings.yml", ".aider.model.metadata.json", ".env"),
    pass_env=PROVIDER_KEYS,
    reader=Reader,
    how="uv tool install aider-chat==0.86.2",
    memory_bytes=240 * MIB,
    keys=KEYS,
)
