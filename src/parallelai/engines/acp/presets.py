"""Agents that are known: how each is started, kept quiet, given a key or a model, and where its login lies.

Data, and the few lines of settings that some want as JSON. What is written here was seen to work (CLIENTS §2, §6) with
the version that `how` pins; of `cursor` only what its documentation says.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct, field

from parallelai.engines.acp import reporters as acp_reporters
from parallelai.engines.acp.report import Reporter
from parallelai.engines.planted import read_plain

MIB = 1024 * 1024


class Preset(Struct, frozen=True):
    """One agent. All of it is data of this package, nothing of a stranger.

    Attributes:
        command: argv; the first word is looked for on the PATH.
        model_args: put before `{model}` in argv where a model is asked for; empty: the session's own option.
        env: what keeps it from phoning home, updating itself, and trying again by itself.
        settings: makes a settings document; `settings_env` is the variable that holds it, or, with
            `is_settings_file`, the path of a file that holds it. With a key or a server of one's own, which
            needs no login, `home_env` names a home of its own instead, whose file `home_settings` holds them.
        login_file: below HOME, is there where the user has logged in.
        obeyed: what in a project makes it run something, and no option of its own turns off.
        keep: called with the home and a session that is to be loaded.
        key_env, url_env, model_env: the variables that it takes its key, its server and its model from.
        pass_env: variables of the user's environment that are a login of its own.
        login: folders below HOME (or the XDG folder that they begin with) that hold its login and sessions:
            writable to it. `read_only` are paths below HOME that would make it run or obey something later.
        how: how to install it. memory_bytes: about 1.3 times what one session alone was seen to take at most
            (the proportional memory of its whole tree, as it wrote files and ran commands): real models' are longer.
        counts_last_call: the tokens that it reports are those of a turn's last call alone.
        attach: argv that opens a session for a person, with `{session}`; empty: there is none.
        reports: how it is made to report its calls (`acp_report`), of which the protocol says too little.
    """

    command: tuple[str, ...]
    how: str
    memory_bytes: int
    model_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    settings: Callable[[Wanted], object] | None = None
    settings_env: str = ""
    is_settings_file: bool = False
    home_env: str | None = None
    home_settings: str = ""
    login_file: str | None = None
    keep: Callable[[Path, str], None] | None = None
    key_env: str | None = None
    url_env: str | None = None
    model_env: str | None = None
    pass_env: tuple[str, ...] = ()
    login: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    obeyed: tuple[str, ...] = ()
    attach: tuple[str, ...] = ()
    counts_last_call: bool = False
    reports: Reporter | None = None


class Wanted(Struct, frozen=True):
    """What an entry asks of an agent. `key_env` is the variable that the key is handed over in."""

    model: str | None = None
    base_url: str | None = None
    key_env: str | None = None
    max_turns: int | None = None


def keep_gemini_session(home: Path, session: str) -> None:
    """Rename the file of a session that gemini is to load.

    gemini 0.61 names a session's file after the minute, and empties the file of this minute before it loads: a
    session that is continued within its first minute would be lost. It goes on in the file that was renamed, and
    leaves the one of this minute without a word: that one must not take its place at the next turn.
    """
    for file in home.glob(f".gemini/tmp/*/chats/session-2*-{glob.escape(session[:8])}.jsonl"):
        try:
            is_it = session.encode() in read_plain(file, 10_000).partition(b"\n")[0]
        except OSError:
            continue
        kept = file.with_name(f"session-kept-{file.name.removeprefix('session-')}")
        if is_it and kept.exists():
            file.unlink()
        elif is_it:
            file.rename(kept)


def _gemini_settings(wanted: Wanted) -> object:
    """Settings of a home of its own."""
    model = {} if wanted.max_turns is None else {"model": {"maxSessionTurns": wanted.max_turns}}
    auth = {} if wanted.key_env is None else {"security": {"auth": {"selectedType": "gemini-api-key"}}}
    return {
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {
            "enableAutoUpdate": False,
            "enableAutoUpdateNotification": False,
            "maxAttempts": 1,
            "sessionRetention": {"enabled": False},
        },
        **model,
        **auth,
    }


def _qwen_settings(wanted: Wanted) -> object:
    """Settings over the user's: it asks before it edits or runs anything, where by itself a model of its own judges.

    Nor does it ask its model for what nobody sees here: memories of the conversation, what to say next.
    """
    auth = {} if wanted.key_env is None else {"security": {"auth": {"selectedType": "openai"}}}
    turns = {} if wanted.max_turns is None else {"maxSessionTurns": wanted.max_turns}
    return {
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"enableAutoUpdate": False},
        "tools": {"approvalMode": "default"},
        "memory": {
            "enableManagedAutoMemory": False,
            "enableManagedAutoDream": False,
            "enableAutoSkill": False,
        },
        "ui": {"enableFollowupSuggestions": False},
        "model": {"generationConfig": {"maxRetries": 0}, **turns},
        **auth,
    }


def _opencode_settings(wanted: Wanted) -> object:
    """Settings over the user's: it asks before it edits or runs anything, and a server of one's own.

    With a `base_url` its models are the provider `given`, spoken to as Chat Completions.
    """
    ask = {"edit": "ask", "bash": "ask", "webfetch": "ask"}
    settings: dict[str, object] = {
        "autoupdate": False,
        "share": "disabled",
        "permission": ask,
        "agent": {"title": {"disable": True}},  # a call of its model for a title that nobody sees
        "plugin": ["{env:PARALLELAI_PLUGIN}"],  # beside the user's own; it tells what its protocol does not
    }
    if wanted.base_url is None:
        return settings if wanted.model is None else {**settings, "model": wanted.model}
    model = wanted.model or "default"
    key = "none" if wanted.key_env is None else f"{{env:{wanted.key_env}}}"
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": wanted.base_url, "apiKey": key},
        "models": {model: {"limit": {"context": 128_000, "output": 16_000}}},
    }
    named = f"given/{model}"
    return {
        **settings,
        "model": named,
        "small_model": named,
        "enabled_providers": ["given"],
        "provider": {"given": provider},
    }


PRESETS: Mapping[str, Preset] = {
    "gemini": Preset(
        command=("gemini", "--acp", "--skip-trust"),
        model_args=("-m",),
        env={"GEMINI_CLI_NO_RELAUNCH": "true"},  # else a second process of node stands by: 60 MB, 0.3 s
        settings=_gemini_settings,  # not by GEMINI_CLI_SYSTEM_SETTINGS_PATH: it must be root's, all the way up
        home_env="GEMINI_CLI_HOME",
        home_settings=".gemini/settings.json",
        login_file=".gemini/oauth_creds.json",
        keep=keep_gemini_session,
        key_env="GEMINI_API_KEY",
        url_env="GOOGLE_GEMINI_BASE_URL",
        pass_env=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"),
        login=(".gemini",),
        read_only=(
            ".gemini/settings.json",
            ".gemini/GEMINI.md",
            ".gemini/commands",
            ".gemini/extensions",
            ".gemini/policies",
            ".gemini/skills",
            ".gemini/agents",
            ".gemini/hooks",
            ".gemini/trustedFolders.json",
        ),
        how="npm install -g @google/gemini-cli@0.61.0",
        memory_bytes=390 * MIB,  # of 299 seen
        reports=acp_reporters.GEMINI,
    ),
    "opencode": Preset(
        command=("opencode", "acp"),
        env={
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        },
        settings=_opencode_settings,
        settings_env="OPENCODE_CONFIG_CONTENT",
        key_env="OPENAI_API_KEY",
        login=(".local/share/opencode", ".local/state/opencode", ".cache/opencode", ".config/opencode"),
        read_only=(".config/opencode",),
        how="npm install -g opencode-ai@1.18.33",
        obeyed=("opencode.json", "opencode.jsonc", ".opencode"),
        memory_bytes=800 * MIB,  # of 609 to 735 seen
        attach=("opencode", "--session", "{session}"),
        counts_last_call=True,
        reports=acp_reporters.OPENCODE,
    ),
    "qwen": Preset(
        command=("qwen", "--acp"),
        settings=_qwen_settings,
        settings_env="QWEN_CODE_SYSTEM_SETTINGS_PATH",
        is_settings_file=True,
        key_env="OPENAI_API_KEY",
        url_env="OPENAI_BASE_URL",
        model_env="OPENAI_MODEL",
        pass_env=("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"),
        login=(".qwen",),
        read_only=(
            ".qwen/settings.json",
            ".qwen/QWEN.md",
            ".qwen/commands",
            ".qwen/extensions",
            ".qwen/skills",
            ".qwen/agents",
            ".qwen/trustedFolders.json",
        ),
        how="npm install -g @qwen-code/qwen-code@0.24.4  # needs node 22",
        obeyed=(".qwen",),
        memory_bytes=600 * MIB,  # of 471 seen
        reports=acp_reporters.QWEN,
    ),
    "cursor": Preset(
        command=("cursor-agent", "acp"),
        key_env="CURSOR_API_KEY",
        pass_env=("CURSOR_API_KEY",),
        login=(".cursor", ".config/cursor", ".config/cursor-agent"),
        read_only=(
            ".cursor/rules",
            ".cursor/commands",
            ".cursor/hooks",
            ".cursor/hooks.json",
            ".cursor/mcp.json",
            ".cursor/extensions",
        ),
        how="install it as its own documentation says, then `cursor-agent login`",
        obeyed=(".cursor/mcp.json", ".cursor/hooks.json"),
        memory_bytes=400 * MIB,
    ),
}
"""Registered names that are one agent each, by the name that plans use."""


def settings_text(preset: Preset, wanted: Wanted) -> str:
    """Write the settings of a preset as JSON."""
    return "{}" if preset.settings is None else json.dumps(preset.settings(wanted), sort_keys=True)
