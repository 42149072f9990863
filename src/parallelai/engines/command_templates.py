"""Assistants without a protocol, as ready-made commands: `use: aider`, `use: pi`, `use: mini-swe-agent`.

Each is an argv, an environment, a way for the prompt, and a reader of what it prints, because their exit codes
lie (CLIENTS §4: pi and aider end with 0 whatever happened). Seen to work with the versions that `how` pins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from parallelai.engines.acp_errors import read_words
from parallelai.engines.untrusted import clean, money, shorten
from parallelai.errors import EngineError, Invalid, Refused, Transient
from parallelai.records import Usage

MIB = 1024 * 1024
MAX_FILE_BYTES = 64 * MIB
PROMPT, FOLDER = "{prompt}", "{folder}"


@dataclass(frozen=True, slots=True)
class Said:
    """What a program said in the end."""

    text: str
    usage: Usage


class Reader(Protocol):
    """Reads what a program prints, line by line."""

    def take(self, line: str) -> str:
        """Take a line of stdout without its end; gives what of it is for people, as it comes.

        Raises an `EngineError` where the program is about to try again by itself: it is then ended.
        """

    def finish(self, stdout: str, folder: Path) -> Said:
        """Say what it came to. Raises the `EngineError` that a failure stands for, whatever the exit code."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an entry and a request ask for. `files` are relative to the folder that it works in."""

    prompt: str
    edits: bool
    model: str | None = None
    base_url: str | None = None
    key: str | None = None
    max_turns: int | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Template:
    """A ready-made command.

    Attributes:
        command: argv, in which `{prompt}` is a file with what `message` writes and `{folder}` a folder of the
            call's own; without `{prompt}` the prompt goes to stdin.
        arguments: more argv for what is wanted.
        env: what keeps it quiet and from trying again. url_env, key_env: where it takes server and key from.
        files: writes more files into the call's folder, by name.
        login: below HOME, its own folders: writable. read_only: what in them makes it obey something later.
        obeyed: what in a project makes it run something, and no option of its own turns off.
        pass_env: variables of the user that are a login of its own.
        given_env: more of the environment where a server is named.
    """

    command: tuple[str, ...]
    how: str
    memory_bytes: int
    reader: Callable[[], Reader]
    arguments: Callable[[Wanted], tuple[str, ...]] = lambda wanted: ()
    message: Callable[[Wanted], str] = lambda wanted: wanted.prompt
    files: Callable[[Wanted], Mapping[str, str]] = lambda wanted: {}
    env: Mapping[str, str] = field(default_factory=dict)
    given_env: Mapping[str, str] = field(default_factory=dict)
    url_env: str | None = None
    key_env: str | None = None
    login: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    obeyed: tuple[str, ...] = ()
    pass_env: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()


def _priced(usage: Usage, usd: object) -> Usage:
    """Add what a program says that it cost, where that can be: nothing is how some say that they do not know."""
    price = money(usd)
    return replace(usage, usd=price, basis="client") if price else usage


# --- Plain programs


class PlainReader:
    """What is printed is the answer."""

    def take(self, line: str) -> str:
        """Give the line."""
        return line + "\n"

    def finish(self, stdout: str, folder: Path) -> Said:
        """Give all of it."""
        return Said(stdout, Usage(0, 0, 0, 0, 0.0, "free"))


# --- aider

_AIDER_TOKENS = re.compile(
    r"^Tokens: ([\d.,]+)([kM]?) sent,.*?([\d.,]+)([kM]?) received\.(?: Cost: \$(\d+(?:\.\d+)?) message)?"
)
_AIDER_FULL = "has hit a token limit!"
_AIDER_ERROR = re.compile(
    r"^(?:litellm\.\w*(?:Error|Timeout)|The API provider|.*\bModel \S+: (?:Unknown|not found)"
    rf"|Model \S+ {_AIDER_FULL})"
)


class AiderReader:
    """Plain text: a head, the answer, a line of tokens for each call, then what was done with it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._usage: Usage | None = None
        self._error: list[str] = []
        self._is_failing = False

    def take(self, line: str) -> str:
        """Read a line; a failure counts until a later call succeeds."""
        tokens = _AIDER_TOKENS.match(line)
        if tokens is not None:
            usage = _aider_usage(tokens)
            self._usage = usage if self._usage is None else self._usage + usage
            self._error, self._is_failing = [], False
        elif self._is_failing and line.startswith("Retrying in "):
            raise self._failure()
        elif _AIDER_ERROR.match(line):
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

    def _failure(self) -> EngineError:
        words = " ".join(self._error) or "\n".join(self._lines[-6:])
        if _AIDER_FULL in words and "".join(self._lines).strip():  # else it was the prompt that was too long
            return Invalid("`aider` reached its limit of tokens", next="make the task smaller")
        return read_words("aider", words, "could not do it")


def _aider_usage(match: re.Match[str]) -> Usage:
    sent, received = (_aider_number(match[i], match[i + 1]) for i in (1, 3))
    return _priced(Usage(sent, None, received), float(match[5] or 0))


def _aider_number(text: str, unit: str) -> int | None:
    try:
        return int(float(text.replace(",", "")) * {"": 1, "k": 1_000, "M": 1_000_000}[unit])
    except (ValueError, OverflowError):
        return None


_AIDER_IDENTITY = {
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "user.name",
    "GIT_CONFIG_VALUE_0": "aider",
    "GIT_CONFIG_KEY_1": "user.email",
    "GIT_CONFIG_VALUE_1": "aider@localhost",
}
"""Where git knows no name for its user, aider writes one into the repository: it fails where it may only read."""


def _aider_files(wanted: Wanted) -> Mapping[str, str]:
    """Have a server of one's own asked once, not three times, for what it refuses just now.

    Not where aider has a login of its own: settings of the user's for all models would make room for these.
    """
    if wanted.base_url is None:
        return {}
    settings = {"name": "aider/extra_params", "extra_params": {"max_retries": 0}}
    return {"models.yml": json.dumps([settings])}


def _aider_arguments(wanted: Wanted) -> tuple[str, ...]:
    server = () if wanted.base_url is None else ("--model-settings-file", f"{FOLDER}/models.yml")
    model = () if wanted.model is None else ("--model", wanted.model)
    mode = () if wanted.edits else ("--chat-mode", "ask")
    kind = "--file" if wanted.edits else "--read"
    return (*server, *model, *mode, *(word for file in wanted.files for word in (kind, f"./{file}")))


# --- pi


class PiReader:
    """JSON lines (`--mode json`); the last message of the assistant decides."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._usage: Usage | None = None
        self._stop: str | None = None
        self._error = ""
        self._is_ended = False

    def take(self, line: str) -> str:
        """Read a line; what is no event is passed over."""
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return ""
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "message_update":
            update = event.get("assistantMessageEvent")
            is_text = isinstance(update, dict) and update.get("type") == "text_delta"
            delta = update.get("delta") if is_text else None
            return delta if isinstance(delta, str) else ""
        if kind == "message_end":
            self._message(event.get("message"))
        elif kind == "auto_retry_start":
            raise read_words("pi", str(event.get("errorMessage") or self._error), "could not do it")
        elif kind in {"agent_start", "agent_end"}:
            self._is_ended = kind == "agent_end"
        return ""

    def _message(self, message: Any) -> None:
        if not isinstance(message, dict) or message.get("role") != "assistant":
            return
        self._stop = str(message.get("stopReason"))
        self._error = str(message.get("errorMessage") or "")
        content = message.get("content")
        parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
        text = "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
        if text.strip():
            self._texts.append(text)
        usage = _pi_usage(message.get("usage"))
        if usage is not None and self._stop != "error":
            self._usage = usage if self._usage is None else self._usage + usage

    def finish(self, stdout: str, folder: Path) -> Said:
        """Say what the last message came to."""
        if self._stop in {"error", "aborted"}:
            raise _pi_error(self._error)
        if self._stop is None or not self._is_ended:
            raise read_words("pi", stdout[-2000:], "ended before its last word")
        if self._stop == "length":
            raise Invalid("`pi` reached its limit of tokens before it was done", next="make the task smaller")
        return Said(self._texts[-1] if self._texts else "", self._usage or Usage())


def _pi_error(words: str) -> EngineError:
    """Read its own words for how an answer ended; any others are the provider's."""
    error = read_words("pi", words, "could not do it")
    if "finish_reason: content_filter" in words:
        return Refused(error.said)
    if words.startswith("Stream ended"):
        return Transient(error.said)
    return error


def _pi_usage(usage: Any) -> Usage | None:
    """`input` is what was not cached."""
    if not isinstance(usage, dict):
        return None
    given, output, cached, written = (
        _count(usage.get(k)) for k in ("input", "output", "cacheRead", "cacheWrite")
    )
    if given is None or output is None:
        return None
    cost = usage.get("cost")
    usd = cost.get("total") if isinstance(cost, dict) else None
    return _priced(Usage(given + (cached or 0) + (written or 0), cached, output), usd)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 50 else None


def _pi_arguments(wanted: Wanted) -> tuple[str, ...]:
    provider = () if wanted.base_url is None else ("--provider", "given")
    model = () if wanted.model is None else ("--model", wanted.model)
    return (*provider, *model, *(() if wanted.edits else ("--tools", "read,grep,find,ls")))


def _pi_files(wanted: Wanted) -> Mapping[str, str]:
    """A server of one's own is a provider in `models.json`, whose key is the name of a variable."""
    if wanted.base_url is None:
        return {}
    name = wanted.model or "default"
    model = {"id": name, "name": name, "input": ["text"], "contextWindow": 128_000, "maxTokens": 16_000}
    provider = {
        "baseUrl": wanted.base_url,
        "apiKey": "PARALLELAI_GIVEN_KEY",
        "api": "openai-completions",
        "models": [model],
    }
    settings = {"retry": {"enabled": False, "maxRetries": 0, "provider": {"maxRetries": 0}}}
    return {
        "pi/models.json": json.dumps({"providers": {"given": provider}}),
        "pi/settings.json": json.dumps(settings),
    }


# --- mini-swe-agent


class MiniReader:
    """A trajectory in `traj.json`; what is printed is for people."""

    def take(self, line: str) -> str:
        """Give the line."""
        return clean(line) + "\n"

    def finish(self, stdout: str, folder: Path) -> Said:
        """Read the trajectory's last message."""
        try:
            with (folder / "traj.json").open("rb") as file:
                data = json.loads(file.read(MAX_FILE_BYTES))
            messages = [message for message in data["messages"] if isinstance(message, dict)]
            last = messages[-1]
            extra = last["extra"]
            status = str(extra["exit_status"])
        except (OSError, ValueError, RecursionError, LookupError, TypeError):
            raise read_words("mini", stdout[-2000:], "left no trajectory") from None
        if status == "Submitted":
            return Said(str(extra.get("submission") or ""), _mini_usage(data, messages))
        if status in {"LimitsExceeded", "RetriesExceeded", "TimeExceeded"}:
            raise Invalid(f"`mini` stopped: {status}", next="raise `max_turns`, or make the task smaller")
        if status == "RepeatedFormatError":
            said = f"`mini` gave up: its model did not call its tool as it must: {_mini_told(messages)}"
            raise Invalid(said, next="name a model that calls tools, or make the task smaller")
        raise read_words("mini", str(last.get("content") or status), f"stopped with {status}")


def _mini_told(messages: list[dict[str, Any]]) -> str:
    """What it told its model last, without the advice around it."""
    told = " ".join(clean(str(messages[-2].get("content"))).split()) if len(messages) > 1 else ""
    return shorten(told.removeprefix("Tool call error: <error> ").partition(" </error>")[0], 500)


def _mini_usage(data: Any, messages: list[dict[str, Any]]) -> Usage:
    total: Usage | None = None
    for message in messages:
        response = (
            message.get("extra", {}).get("response") if isinstance(message.get("extra"), dict) else None
        )
        usage = response.get("usage") if isinstance(response, dict) else None
        if isinstance(usage, dict):
            one = Usage(_count(usage.get("prompt_tokens")), None, _count(usage.get("completion_tokens")))
            total = one if total is None else total + one
    stats = data.get("info", {}).get("model_stats") if isinstance(data.get("info"), dict) else None
    usd = stats.get("instance_cost") if isinstance(stats, dict) else None
    return _priced(total or Usage(), usd)


_MINI_CONFIG = "../../minisweagent/config/mini.yaml"
"""Its own defaults, from where they lie: a plain `mini.yaml` of the project would take their place."""


def _mini_message(wanted: Wanted) -> str:
    """A config file with the task in it: an argument could not hold a long one. JSON is YAML."""
    agent: dict[str, object] = {"mode": "yolo", "confirm_exit": False, "cost_limit": 0}
    if wanted.max_turns is not None:
        agent["step_limit"] = wanted.max_turns
    model = {"model_kwargs": {"max_retries": 0}}  # beside its own: its library tries each call three times
    config = json.dumps({"run": {"task": wanted.prompt}, "agent": agent, "model": model}, ensure_ascii=False)
    return "".join(each if " " <= each < "\x7f" else _yaml_escape(each) for each in config)


def _yaml_escape(character: str) -> str:
    """Write a character as YAML takes it: JSON's two escapes for one beyond the first plane are none there."""
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


_PROVIDER_KEYS = (
    "OPENAI_API_KEY",
    "OPENAI_API_BASE",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "OPENROUTER_API_KEY",
    "DEEPSEEK_API_KEY",
)
_KEYS = frozenset({"model", "base_url", "api_key_env", "api_key_file"})

TEMPLATES: Mapping[str, Template] = {
    "aider": Template(
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
        arguments=_aider_arguments,
        files=_aider_files,
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONUNBUFFERED": "1", **_AIDER_IDENTITY},
        url_env="OPENAI_API_BASE",
        key_env="OPENAI_API_KEY",
        login=(".aider",),
        obeyed=(".aider.conf.yml", ".aider.model.settings.yml", ".aider.model.metadata.json", ".env"),
        pass_env=_PROVIDER_KEYS,
        reader=AiderReader,
        how="uv tool install aider-chat==0.86.2",
        memory_bytes=240 * MIB,
        keys=_KEYS,
    ),
    "pi": Template(
        command=("pi", "-p", "--mode", "json", "--no-session"),
        arguments=_pi_arguments,
        files=_pi_files,
        env={"PI_OFFLINE": "1", "PI_TELEMETRY": "0"},
        given_env={"PI_CODING_AGENT_DIR": f"{FOLDER}/pi"},
        key_env="PARALLELAI_GIVEN_KEY",
        login=(".pi",),
        read_only=(
            ".pi/agent/settings.json",
            ".pi/agent/models.json",
            ".pi/agent/extensions",
            ".pi/agent/skills",
        ),
        obeyed=(".pi",),
        pass_env=_PROVIDER_KEYS,
        reader=PiReader,
        how="npm install -g @earendil-works/pi-coding-agent@0.74.2",
        memory_bytes=160 * MIB,
        keys=_KEYS,
    ),
    "mini-swe-agent": Template(
        command=(
            "mini",
            *("-c", _MINI_CONFIG, "-c", PROMPT),
            *("-y", "--exit-immediately", "-o", f"{FOLDER}/traj.json"),
        ),
        arguments=lambda wanted: () if wanted.model is None else ("-m", wanted.model),
        message=_mini_message,
        env={
            "MSWEA_CONFIGURED": "true",
            "MSWEA_COST_TRACKING": "ignore_errors",
            "MSWEA_SILENT_STARTUP": "1",
            "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "PYTHONUNBUFFERED": "1",
        },
        url_env="OPENAI_API_BASE",
        key_env="OPENAI_API_KEY",
        login=(".config/mini-swe-agent",),
        pass_env=_PROVIDER_KEYS,
        reader=MiniReader,
        how="uv tool install --with mcp mini-swe-agent==2.4.6",
        memory_bytes=240 * MIB,
        keys=_KEYS | {"max_turns"},
    ),
}
"""Registered names that are a command each, by the name that plans use."""


def placed(word: str, folder: Path) -> str:
    """Put the paths of a call's folder into a word of argv or of the environment."""
    return word.replace(PROMPT, str(folder / "prompt.yaml")).replace(FOLDER, str(folder))


def write_files(template: Template, wanted: Wanted, folder: Path) -> dict[str, str]:
    """Write what a template needs into the call's folder, and give its environment."""
    files = dict(template.files(wanted))
    if any(PROMPT in word for word in template.command):
        files["prompt.yaml"] = template.message(wanted)  # mini wants that ending, the others none
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "replace"))
    given = dict(template.env)
    if wanted.base_url is not None:
        given.update((name, placed(value, folder)) for name, value in template.given_env.items())
    return given
