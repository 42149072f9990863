"""What makes a command of an assistant without a protocol.

An argv, an environment, a way for the prompt, and a reader of what it prints, because their exit codes lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct, field

from parallelai.engines.untrusted import money
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

    def usage(self, folder: Path) -> Usage | None:
        """Say what it has taken so far; None where that is unknown. Of one that fails or is ended, too."""


class Wanted(Struct, frozen=True):
    """What an entry and a request ask for. `files` are relative to the folder that it works in."""

    prompt: str
    edits: bool
    model: str | None = None
    base_url: str | None = None
    key: str | None = None
    max_turns: int | None = None
    files: tuple[str, ...] = ()


class Template(Struct, frozen=True):
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


def priced(usage: Usage, usd: object) -> Usage:
    """Add what a program says that it cost, where that can be: nothing is how some say that they do not know."""
    price = money(usd)
    return replace(usage, usd=price, basis="client") if price else usage


class PlainReader:
    """What is printed is the answer."""

    def take(self, line: str) -> str:
        """Give the line."""
        return line + "\n"

    def finish(self, stdout: str, folder: Path) -> Said:
        """Give all of it."""
        return Said(stdout, Usage(0, 0, 0, 0, 0.0, "free"))

    def usage(self, folder: Path) -> Usage | None:
        """Know nothing of it."""
        return None


def count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 50 else None


PROVIDER_KEYS = (
    "OPENAI_API_KEY",
    "OPENAI_API_BASE",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "OPENROUTER_API_KEY",
    "DEEPSEEK_API_KEY",
)
KEYS = frozenset({"model", "base_url", "api_key_env", "api_key_file"})


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
