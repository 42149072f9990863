"""What to write where a mapping or a list should stand: a short example of it, made from the models."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from parallelai.plan.model import Budget, Defaults, Limits, Role, RoleLimits, Task, Workstream
from parallelai.plan.positions import Step

_SHOWN: Mapping[type[BaseModel], tuple[str, ...]] = {
    Budget: ("usd", "tokens", "time"),
    Defaults: ("engine", "timeout"),
    Limits: ("parallel", "budget"),
    Role: ("expertise", "instructions"),
    RoleLimits: ("parallel", "budget"),
    Task: ("id", "description"),
    Workstream: ("description", "owns"),
}
"""The keys that an example shows, where those that a model cannot do without are not the best."""
_DOTS = "…"
_UNIONS = (Union, types.UnionType)


def example(
    model: type[BaseModel], path: Iterable[Step], wanted: str, *, is_toml: bool = False
) -> str | None:
    """Give an example of the value at a path of a model, such as `{NAME: {use: …}}`; None where none is known.

    `wanted` is `a mapping` or `a list`, where the value may be either. In TOML a key is followed by ` = `.
    """
    mark = " = " if is_toml else ": "
    current: list[Any] = [model]
    for step in path:
        current = [inner for each in current for inner in _below(each, step)] or current
    shapes = [shape for each in current for shape in _shapes(each)]
    found = next((shape for shape in shapes if _kind(shape) == wanted), None)
    return None if found is None else _written(found, mark)


def _below(annotation: Any, step: Step) -> Iterator[Any]:
    """What may stand in a value under a key or index."""
    for shape in _shapes(annotation):
        if _is_model(shape):
            yield from (
                _whole(field) for name, field in shape.model_fields.items() if step in (name, field.alias)
            )
        elif get_origin(shape) in (Mapping, tuple):
            yield from get_args(shape)[1 if get_origin(shape) is Mapping else 0 :][:1]


def _whole(field: FieldInfo) -> Any:
    """A field's annotation, with what pydantic has taken out of it."""
    inner = [extra for extra in field.metadata if _is_model(extra)]
    return Union[(field.annotation, *inner)]  # made of values


def _shapes(annotation: Any) -> Iterator[Any]:
    """The single types that an annotation allows."""
    if get_origin(annotation) is Annotated:
        yield from _shapes(get_args(annotation)[0])
    elif get_origin(annotation) in _UNIONS:
        for inner in get_args(annotation):
            yield from _shapes(inner)
    else:
        yield annotation


def _is_model(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, BaseModel)


def _kind(shape: Any) -> str:
    if _is_model(shape) or get_origin(shape) is Mapping:
        return "a mapping"
    return "a list" if get_origin(shape) is tuple else "another"


def _written(shape: Any, mark: str) -> str:
    """Write a type as a flow mapping or list, at most two levels deep."""
    if _is_model(shape):
        return "{" + ", ".join(f"{key}{mark}{_DOTS}" for key in _keys(shape)) + "}"
    inner = get_args(shape)[1 if get_origin(shape) is Mapping else 0]
    named = next((each for each in _shapes(inner) if _is_model(each)), None)
    item = _DOTS if named is None else _written(named, mark)
    return f"{{NAME{mark}{item}}}" if get_origin(shape) is Mapping else f"[{item}]"


def _keys(model: type[BaseModel]) -> list[str]:
    """The keys that an example of a model shows: its required ones, else its first, where nothing else is said."""
    fields = model.model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    names = _SHOWN.get(model) or required or list(fields)[:1]
    return [fields[name].alias or name for name in names]
