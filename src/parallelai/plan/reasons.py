"""Why a text could not be rendered, in the words of plans: nobody is told the names of Python's classes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError

_KINDS = {
    "TaskView": "a task",
    "Finding": "a finding",
    "_File": "a file",
    "_Lines": "lines",
    "_Named": "`vars` or `params`",
    "_Tasks": "`tasks`",
    "Missing": "nothing",
    "NoneType": "nothing",
    "bool": "yes or no",
    "dict": "a mapping",
    "float": "a number",
    "int": "a number",
    "list": "a list",
    "str": "a text",
    "tuple": "a list",
}
_CLASS = re.compile(
    rf"""(?P<quote>['"])(?:[A-Za-z_]\w*\.)*(?P<name>{"|".join(_KINDS)})(?: object)?(?P=quote)(?: object)?"""
)
_MOST = 300


class Missing(StrictUndefined):
    """What is not there; whoever uses it is told its name, and the nearest one that is."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        name, owner = str(self._undefined_name), self._undefined_obj
        return self._undefined_hint or f"`{name}` is not defined{did_you_mean(name, _members(owner))}"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Give the words that name the nearest of what is known, empty where nothing is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def reason(error: BaseException) -> str:
    """Say in a few words, on one line, what went wrong."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, SyntaxError):
        return f"{error.msg}"  # without its line, which is one of what Jinja made of the text
    line = getattr(error, "lineno", None)
    # As a text, a template's error has its line, too. Of all others, only a lack of memory says nothing.
    said = error.message if isinstance(error, TemplateError) else str(error)
    text = " ".join((said or "it takes too much memory").split())[:_MOST]
    text = "".join(char for char in text if char.isprintable())
    text = text.replace("unexpected 'end of template'", "unexpected end")
    text = _CLASS.sub(lambda found: _KINDS[found["name"]], text)
    return f"line {line}: {text}" if line and line > 1 else text


def _members(owner: Any) -> list[str]:
    """The names that somebody may use of a thing."""
    if isinstance(owner, Mapping):
        return [str(name) for name in owner]
    return [name for name in dir(owner) if not name.startswith("_")]
