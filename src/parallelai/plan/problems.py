"""From pydantic's errors to problems that a user can act on, each at its place in the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from parallelai.errors import Problem
from parallelai.plan.base import Model
from parallelai.plan.examples import example
from parallelai.plan.positions import Positions, Step
from parallelai.plan.values import Wrong, joined, kind_of, shown

_SECRET_KEYS = ("api_key", "apikey", "api-key", "token", "secret", "password")
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_TAGS = frozenset({"plain", "object", "flag", "choice"})
"""Steps that pydantic puts into a path where a value may have several shapes."""
_BOUNDS = {"greater_than": ("gt", "above"), "greater_than_equal": ("ge", "at least"),
           "less_than": ("lt", "below"), "less_than_equal": ("le", "at most")}  # fmt: skip


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that was probably meant."""
    options = {option.lower(): option for option in known}
    found = difflib.get_close_matches(name[:100].lower(), options, n=1, cutoff=0.65)
    return options[found[0]] if found else None


def meant(name: str, known: Iterable[str], what: str) -> str:
    """Advise what to write instead of an unknown name."""
    names = sorted(known)
    found = nearest(name, names)
    if found:
        return f"did you mean `{found}`?"
    listed = joined(names[:12]) + (" …" if len(names) > 12 else "")
    return f"write {listed}" if names else f"there is no {what} yet"


def problems_of(
    error: ValidationError, model: type[BaseModel], positions: Positions, *, most: int | None = None
) -> list[Problem]:
    """Translate the errors of a validation, in the order in which they were found; at most the first `most`."""
    return [_problem(details, model, positions) for details in error.errors(include_url=False)[:most]]


def _problem(details: ErrorDetails, model: type[BaseModel], positions: Positions) -> Problem:
    path = tuple(details["loc"])
    is_key = details["type"] == "extra_forbidden" or path[-1:] == ("[key]",)
    path = tuple(step for step in path if step != "[key]")
    said, advice = _words(details, path, model, is_toml=(positions.file or "").endswith(".toml"))
    at = positions.key(*path) if is_key or details["type"] == "missing" else positions.of(*path)
    line, column = at or (None, None)
    return Problem(said, positions.file, line, column, advice)


def _words(
    details: ErrorDetails, path: tuple[Step, ...], model: type[BaseModel], *, is_toml: bool
) -> tuple[str, str | None]:
    kind, context = details["type"], details.get("ctx", {})
    name = key_of(path)
    if kind == "extra_forbidden":
        return unknown_key(str(path[-1]), models_at(model, path[:-1]))
    if kind == "missing":
        return f"{_owner(path[:-1])}has no `{path[-1]}`", f"add `{path[-1]}: …`"
    wrong = context.get("error")
    if isinstance(wrong, Wrong):
        return f"{name}{wrong.said}", wrong.next
    if kind in _BOUNDS:
        bound, text = _BOUNDS[kind]
        said = f"{name}{shown(details['input'])} is out of bounds"
        return said, f"write a number {text} {context[bound]:g}"
    if kind == "literal_error":
        return _not_an_option(name, details["input"], str(context.get("expected", "")))
    wanted = _WANTED.get(kind)
    if wanted is None:
        return f"{name}{details['msg']}", None
    return _wrong_type(
        name, wanted, details["input"], example(model, path, wanted, is_toml=is_toml) or wanted
    )


def _wrong_type(name: str, wanted: str, value: Any, advice: str) -> tuple[str, str | None]:
    if value is None:
        return f"{name}expected {wanted}, but it is empty", f"write {advice}, or leave the key out"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted == "text" and (is_number or isinstance(value, bool)):
        return f"{name}expected text, not {kind_of(value)}", f'write it in quotes: "{value}"'
    if wanted == "a whole number" and is_number:
        return f"{name}expected {wanted}, not {shown(value)}", "write it without a point"
    return f"{name}expected {wanted}, not {kind_of(value)}", f"write {advice}"


def _not_an_option(name: str, value: Any, expected: str) -> tuple[str, str | None]:
    options = [part.strip().strip("'\"") for part in expected.replace(" or ", ", ").split(",")]
    text = value if isinstance(value, str) else repr(value)
    found = nearest(text, options) if isinstance(value, str) else None
    advice = f"did you mean `{found}`?" if found else f"write {joined(options)}"
    said = (
        f"{shown(text)} is not one of {joined(options)}" if found else f"{shown(text)} is not possible here"
    )
    return f"{name}{said}", advice


def key_of(path: tuple[Step, ...]) -> str:
    """Name the key that a message is about, as its beginning."""
    names = [step for step in path if isinstance(step, str) and step not in _TAGS]
    return f"`{names[-1]}`: " if names else ""


def _owner(path: tuple[Step, ...]) -> str:
    singular = {"tasks": "the task", "workstreams": "the workstream", "phases": "the phase"}
    if len(path) > 1 and path[-2] in singular:
        return singular[str(path[-2])] + " "
    names = [step for step in path if isinstance(step, str) and step not in _TAGS]
    return f"`{names[-1]}` " if names else "the plan "


def unknown_key(key: str, models: Sequence[type[BaseModel]]) -> tuple[str, str | None]:
    """Say that a key is not known, or known and there already under another name; and what to write."""
    known: set[str] = set()
    canonical: set[str] = set()
    for model in models:
        aliases = model.aliases if issubclass(model, Model) else {}
        if key in aliases:
            return f"`{key}` says the same as `{aliases[key]}`, which is there too", f"keep `{aliases[key]}`"
        if issubclass(model, Model) and key in model.refused:
            return model.refused[key]
        canonical |= keys(model)
        known |= keys(model) | set(aliases)
    if key.lower().endswith(_SECRET_KEYS) and key not in known:
        said = f"the key {shown(key)} is unknown: secrets are never in a plan"
        return said, "name the variable that holds it: api_key_env: NAME"
    found = nearest(key, known)
    below = None if found else _below(key, models)
    return f"unknown key {shown(key)}", below or meant(key, {found} if found else canonical, "key")


def _below(key: str, models: Iterable[type[BaseModel]]) -> str | None:
    """Advise where a key belongs that stands one level too high, such as `budget` beside `limits`."""
    places: dict[str, list[str]] = {}
    for model in models:
        for name, field in model.model_fields.items():
            inner = field.annotation
            if (
                isinstance(inner, type)
                and issubclass(inner, BaseModel)
                and (found := nearest(key, keys(inner)))
            ):
                places.setdefault(found, []).append(field.alias or name)
    found = nearest(key, places)
    return None if found is None else f"did you mean `{found}` in {joined(places[found])}?"


def keys(model: type[BaseModel]) -> set[str]:
    """The keys of a model, as they are written."""
    return {field.alias or name for name, field in model.model_fields.items()}


def models_at(model: type[BaseModel], path: Iterable[Step]) -> list[type[BaseModel]]:
    """Find the models that a value at a path may be."""
    current = [model]
    for step in path:
        below = [inner for each in current for inner in _models_below(each, step)]
        current = below or current
    return current


def _models_below(model: type[BaseModel], step: Step) -> list[type[BaseModel]]:
    for name, field in model.model_fields.items():
        if step in (name, field.alias):
            return list(_models_in(field.annotation)) + [
                m for extra in field.metadata for m in _models_in(extra)
            ]
    return []


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _models_in(argument)


def alias_table(models: Iterable[type[BaseModel]]) -> Mapping[str, tuple[str, ...]]:
    """For each canonical key, the import aliases under which it may have been written."""
    table: dict[str, dict[str, None]] = {}
    for model in models:
        for alias, canonical in (model.aliases if issubclass(model, Model) else {}).items():
            table.setdefault(canonical, {})[alias] = None
        for name, field in model.model_fields.items():
            if field.alias:
                table.setdefault(name, {})[field.alias] = None
    return {canonical: tuple(names) for canonical, names in table.items()}


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Put problems in the order of the file, each once."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda p: (p.line or 0, p.column or 0))


def all_models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and all that it is made of."""
    found: dict[type[BaseModel], None] = {}
    waiting = [model]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found[current] = None
            waiting += [m for field in current.model_fields.values() for m in _models_in(field.annotation)]
    return list(found)
