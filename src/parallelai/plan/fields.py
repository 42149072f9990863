"""The types of a plan's values: how each is read, and how the JSON Schema says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from parallelai.plan import values

_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_ARGV = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_COMMAND = {"anyOf": [{"type": "string", "minLength": 1}, _ARGV]}
_COMMANDS = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": _COMMAND}]}
_SCALAR = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}

Seconds = Annotated[float, BeforeValidator(values.duration), WithJsonSchema(_SCALAR)]
Tokens = Annotated[int, BeforeValidator(values.tokens), WithJsonSchema(_SCALAR)]
Bytes = Annotated[int, BeforeValidator(values.size), WithJsonSchema(_SCALAR)]
Usd = Annotated[float, BeforeValidator(values.usd), WithJsonSchema({"type": "number", "minimum": 0})]
Priority = Annotated[float, BeforeValidator(values.priority), WithJsonSchema(_SCALAR)]
Pattern = Annotated[str, AfterValidator(values.pattern)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(values.pattern_list), WithJsonSchema(_TEXTS)]
Words = Annotated[tuple[str, ...], BeforeValidator(values.words), WithJsonSchema(_TEXTS)]
Sentences = Annotated[tuple[str, ...], BeforeValidator(values.sentences), WithJsonSchema(_TEXTS)]
Ids = Annotated[tuple[str, ...], BeforeValidator(values.dependencies), WithJsonSchema(_TEXTS)]
Command = Annotated[tuple[str, ...], BeforeValidator(values.command), WithJsonSchema(_COMMAND)]
Commands = Annotated[tuple[Command, ...], BeforeValidator(values.command_list), WithJsonSchema(_COMMANDS)]
Variable = Annotated[str, BeforeValidator(values.variable)]
Identifier = Annotated[
    str,
    BeforeValidator(values.identifier),
    WithJsonSchema(
        {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "not": {"const": "landing"}}
    ),
]
EngineName = Annotated[
    str,
    BeforeValidator(values.engine_name),
    WithJsonSchema({"type": "string", "not": {"const": values.AUTO}}),
]
Environment = Mapping[Variable, str]
Count = Annotated[int, Field(ge=1)]
AutoCount = Annotated[Count | None, BeforeValidator(values.auto_count)]
"""A count, or `auto`, which is None."""
Network = Literal["on", "loopback", "off"]
Sandbox = Literal["auto", "required", "none"]
SeverityName = Literal["critical", "high", "medium", "low", "info"]
OnFailure = Literal["skip-dependents", "continue", "stop"]
RetryOn = Literal["timeout", "refused", "invalid"]
Reaction = Literal["go-on", "wait", "ask"]
Rule = Literal["one", "fallback", "race", "vote", "spread", "route"]


def one_or_many(value: Any) -> Any:
    """Make a tuple of a list, or of one text."""
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


def as_tuple(value: Any) -> Any:
    """Make a tuple of a list."""
    return tuple(value) if isinstance(value, list) else value


def shape_of(value: Any) -> str:
    """Say whether a value is an object or a plain one, for unions of both."""
    return "object" if isinstance(value, (Mapping, BaseModel)) else "plain"
