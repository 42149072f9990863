"""A new engine in the user's own config: written whole or not at all, and nothing of theirs changed."""

from __future__ import annotations

import fcntl
import json
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from msgspec import Struct

from parallelai.config import user_file
from parallelai.errors import ConfigError, UsageError
from parallelai.plan.values import AUTO
from parallelai.results.write import write_atomically

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Added(Struct, frozen=True):
    """What was written: the entry as it stands in `file`."""

    name: str
    file: Path
    text: str


def add_engine(name: str, command: tuple[str, ...], names: Collection[str], env: Mapping[str, str]) -> Added:
    """Add `[engines.NAME]` with `use = "acp"` to the end of the user's config, which is made if it is missing.

    Raises `UsageError` for a name that is none or is taken, and for a command that TOML cannot hold;
    `ConfigError` where the file is no TOML.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"`{name}` cannot be an engine's name", next="use letters, digits, `-` and `_`")
    if name == AUTO:
        raise UsageError("`auto` stands for the engines that ParallelAI chooses", next="choose another name")
    if name in names:
        raise UsageError(
            f"there is an engine `{name}` already", next="choose another name, or edit its entry"
        )
    if not command or not all(_is_plain(word) for word in command):
        raise UsageError("the command is empty, or holds what no file can", next="write it after `--`")
    entry = f'[engines.{name}]\nuse = "acp"\ncommand = {json.dumps(list(command))}\n'
    file = user_file(env)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two commands at once: neither may lose the other's entry
        _append(file, name, entry)
    finally:
        os.close(lock)
    return Added(name, file, entry)


def _append(file: Path, name: str, entry: str) -> None:
    try:
        before = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"the file cannot be read: {error}", where=str(file)) from None
    gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
    text = f"{before}{gap}{entry}"
    try:
        if name in tomllib.loads(before).get("engines", {}):
            raise UsageError(f"there is an engine `{name}` already", where=str(file), next="edit its entry")
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = f"the file is no TOML that an entry can be added to: {error}"
        raise ConfigError(said, where=str(file), next="correct it, or write the entry yourself") from None
    write_atomically(file, text)


def _is_plain(word: str) -> bool:
    """Say whether TOML can hold a word: no halves of surrogate pairs, no NUL."""
    return "\0" not in word and not any("\ud800" <= character <= "\udfff" for character in word)
