"""Where a key for a model API comes from, read where the attempt runs and nowhere else.

A key is in no plan, no request, no event and no error: what an error quotes is masked.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from parallelai.errors import EngineError, Rejected, Unavailable, UsageError

if TYPE_CHECKING:
    from parallelai.plan.model import EngineEntry

MASK = "••••"
MAX_KEY_BYTES = 16 * 1024
_LEAST_MASKED = 8
LEAST_MASKED_IN_ANSWERS = 16
"""What servers that want no key are given (`none`, `lm-studio`) may be a word of an answer."""


def read_key(
    entry: EngineEntry, variables: tuple[str, ...], path_of: Callable[[str], Path]
) -> tuple[str | None, str]:
    """Give an entry's key, and where it comes from, for a word about what to do.

    `variables` are looked at where the entry names no source; `path_of` resolves the path of a key's file.
    None where no source is named and no variable is set. Raises `Rejected` for a source that has no key.
    """
    if entry.api_key_env:
        value = os.environ.get(entry.api_key_env, "").strip()
        if not value:
            raise Rejected(f"`{entry.api_key_env}` is not set", next=f"set {entry.api_key_env}")
        return _checked(value, entry.api_key_env), f"look at the key in {entry.api_key_env}"
    if entry.api_key_file:
        return _checked(_of_file(entry.api_key_file, path_of), entry.api_key_file), (
            f"look at the key in {entry.api_key_file}"
        )
    if entry.api_key_keyring:
        name = entry.api_key_keyring
        return _checked(_of_keyring(name), name), f"look at the key `{name}` of the keyring"
    for variable in variables:
        value = os.environ.get(variable, "").strip()
        if value:
            return _checked(value, variable), f"look at the key in {variable}"
    return None, f"set {variables[0]}" if variables else "name the key's variable in `api_key_env`"


def _checked(key: str, source: str) -> str:
    """A header is one line of Latin characters; anything else is a slip of the hand."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Rejected(f"what {source} holds is no key", next="it is one word, on one line")
    return key


def _of_file(name: str, path_of: Callable[[str], Path]) -> str:
    try:
        path = Path(name).expanduser()
        path = path if path.is_absolute() else path_of(name)
        with path.open("rb") as file:
            text = file.read(MAX_KEY_BYTES).decode("utf-8").strip()
    except (OSError, ValueError, RuntimeError, UsageError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise Rejected(
            f"the key's file `{name}` cannot be read: {said}", next="correct `api_key_file`"
        ) from None
    if not text:
        raise Rejected(f"the key's file `{name}` is empty", next="write the key into it")
    return text


def _of_keyring(name: str) -> str:
    """A keyring's entry is named `service/user`, or `service` alone, whose user is `parallelai`."""
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        raise Unavailable(
            "`api_key_keyring` needs the package `keyring`", next="install `parallelai[keyring]`"
        ) from None
    service, _, user = name.partition("/")
    try:
        key = keyring.get_password(service, user or "parallelai")
    except Exception as error:  # each system's keyring raises errors of its own
        raise Unavailable(f"the keyring cannot be read: {type(error).__name__}: {error}") from None
    if not key:
        raise Rejected(f"the keyring holds no key `{name}`", next=f"store one for the service `{service}`")
    return str(key).strip()


def masked(text: str, key: str | None, least: int = _LEAST_MASKED) -> str:
    """Take a key out of a text, unless it is shorter than `least` characters."""
    return text.replace(key, MASK) if key and len(key) >= least else text


def split_at_key(text: str, key: str | None) -> tuple[str, str]:
    """Split a piece of a stream before its end, if that is the beginning of the key, whose rest is to come."""
    if key is None or len(key) < LEAST_MASKED_IN_ANSWERS:
        return text, ""
    for size in range(min(len(key) - 1, len(text)), 0, -1):
        if text.endswith(key[:size]):
            return text[:-size], text[-size:]
    return text, ""


def mask_error(error: EngineError, key: str | None) -> EngineError:
    """Take a key out of an error, which is then raised anew."""
    error.said = masked(error.said, key)
    error.next = None if error.next is None else masked(error.next, key)
    error.args = (error.said,)
    return error
