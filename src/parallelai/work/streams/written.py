"""A workstream as JSON. Paths may be no text: `json` keeps what is not UTF-8 in them, which pydantic refuses."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

from parallelai.work.streams.record import GateRun, KeptOut, Landed, Rules, State, Stream

VERSION = 1


class UnknownVersion(ValueError):
    """The file is of a later version than this one knows."""


def write_stream(stream: Stream) -> bytes:
    """Write a workstream as JSON text."""
    return json.dumps({"v": VERSION, **dataclasses.asdict(stream)}, indent=1).encode() + b"\n"


def read_stream(data: Any) -> Stream:
    """Read a workstream from JSON data, checked. Raises `ValueError` saying what is wrong."""
    fields = dict(_mapping(data, "the file"))
    version = fields.pop("v", None)
    if isinstance(version, int) and version > VERSION:
        raise UnknownVersion(f"it is of version {version}")
    if version != VERSION:
        raise ValueError("it is no workstream's")
    fields["rules"] = _record(Rules, fields.get("rules"))
    fields["kept_out"] = tuple(_record(KeptOut, each) for each in _list(fields.get("kept_out", [])))
    for key in ("landed", "undone_by"):
        fields[key] = None if fields.get(key) is None else _landed(fields[key])
    stream: Stream = _record(Stream, fields)
    if stream.state not in typing.get_args(State):
        raise ValueError(f"`{stream.state}` is no state")
    return stream


def _landed(data: Any) -> Landed:
    fields = dict(_mapping(data, "`landed`"))
    fields["gates"] = tuple(_record(GateRun, each) for each in _list(fields.get("gates", [])))
    found: Landed = _record(Landed, fields)
    return found


def _record(kind: type[Any], data: Any) -> Any:
    """Make a record from its fields, each of the type that it has there."""
    fields = _mapping(data, f"`{kind.__name__.lower()}`")
    types = _FIELDS[kind]
    unknown = sorted(set(fields) - set(types))
    if unknown:
        raise UnknownVersion(f"it has `{unknown[0]}`")
    given = {name: _value(types[name], value, name) for name, value in fields.items()}
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _value(kind: Any, value: Any, name: str) -> Any:
    if kind == tuple[str, ...]:
        words = _list(value)
        if not all(isinstance(word, str) for word in words):
            raise ValueError(f"`{name}` is no list of texts")
        return tuple(words)
    if isinstance(value, bool) and kind is not bool:
        raise ValueError(f"`{name}` is neither true nor false")
    if kind in _TYPES and not isinstance(value, _TYPES[kind]):
        raise ValueError(f"`{name}` is of another type")
    return value


_FIELDS = {kind: typing.get_type_hints(kind) for kind in (Stream, Rules, KeptOut, Landed, GateRun)}
_TYPES: dict[Any, tuple[type, ...]] = {
    str: (str,),
    str | None: (str, type(None)),
    bool: (bool,),
    float: (int, float),
    int | None: (int, type(None)),
}


def _mapping(data: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{what} is no object")
    return data


def _list(data: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(data, (list, tuple)):
        raise ValueError("a list is missing")
    return data
