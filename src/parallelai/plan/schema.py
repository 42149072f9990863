"""The JSON Schema of plan files, for editors and for other programs. It is generated from the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from parallelai.plan.base import Model
from parallelai.plan.model import Plan, Workstream
from parallelai.plan.problems import all_models

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAMES = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
_CHOICE: dict[str, Any] = {
    "title": "Choice",
    "description": "An engine's name, `auto`, or a rule over several.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        *(
            {
                "type": "object",
                "properties": {rule: _NAMES},
                "required": [rule],
                "additionalProperties": False,
            }
            for rule in ("fallback", "race", "vote", "spread")
        ),
        {
            "type": "object",
            "properties": {
                "route": {
                    "type": "object",
                    "properties": {"else": {"type": "string"}},
                    "required": ["else"],
                    "additionalProperties": {"type": "string"},
                }
            },
            "required": ["route"],
            "additionalProperties": False,
        },
    ],
}


def plan_schema() -> dict[str, Any]:
    """Give the schema of a plan file: JSON Schema, draft 2020-12; import aliases are in it too."""
    raw = Plan.model_json_schema(by_alias=True, mode="validation")
    definitions: dict[str, Any] = raw.pop("$defs")
    definitions["Choice"] = _CHOICE
    for model in all_models(Plan):
        if model.__name__ in definitions and model.__name__ != "Choice":
            definitions[model.__name__] = _with_aliases(model, definitions[model.__name__])
    definitions["Budget"] = {"anyOf": [{"type": "string"}, definitions["Budget"]]}
    raw["properties"]["workstreams"] = _workstreams()
    for definition in definitions.values():
        _allow_auto(definition)
    schema: dict[str, Any] = _tidy(
        {"$schema": DIALECT, **raw, "title": "ParallelAI plan", "$defs": definitions}
    )
    return schema


def _with_aliases(model: type[BaseModel], definition: dict[str, Any]) -> dict[str, Any]:
    aliases = dict(model.aliases) if issubclass(model, Model) else {}
    if model is Workstream:
        aliases["files"] = "owns"
    properties = dict(definition.get("properties", {}))
    for alias, canonical in aliases.items():
        own = {key: value for key, value in properties[canonical].items() if key not in {"default", "title"}}
        if alias not in properties:
            properties[alias] = {**own, "description": f"Import alias of `{canonical}`.", "deprecated": True}
    required = [name for name in definition.get("required", ()) if not (model is Workstream and name == "id")]
    if model is Workstream:
        required.append("description")
    rest = {key: value for key, value in definition.items() if key not in {"required", "properties"}}
    return {**rest, "properties": properties, **_required(required, aliases)}


def _required(names: list[str], aliases: Mapping[str, str]) -> dict[str, Any]:
    """Demand each key, or one of its aliases."""
    plain = [name for name in names if name not in aliases.values()]
    wanted = [[name, *(a for a, c in aliases.items() if c == name)] for name in names if name not in plain]
    either = [{"anyOf": [{"required": [option]} for option in options]} for options in wanted]
    return {**({"required": plain} if plain else {}), **({"allOf": either} if either else {})}


def _workstreams() -> dict[str, Any]:
    """By name, or as a list of which each names itself."""
    entry = {"$ref": "#/$defs/Workstream"}
    named = _required(["id"], Workstream.aliases)
    names = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "not": {"const": "landing"}}
    by_name = {"type": "object", "propertyNames": names, "additionalProperties": entry}
    listed = {"type": "array", "items": {"allOf": [entry, *named["allOf"]]}}
    return {"title": "Workstreams", "anyOf": [by_name, listed]}


def _allow_auto(definition: dict[str, Any]) -> None:
    for name in ("parallel", "batch"):
        found = definition.get("properties", {}).get(name)
        if found is not None and definition.get("title") in {"Limits", "RoleLimits", "Landing"}:
            found["anyOf"] = [*found.get("anyOf", []), {"const": "auto"}]


def _tidy(value: Any) -> Any:
    """Drop what only pydantic needs: discriminators, titles that repeat the key."""
    if isinstance(value, dict):
        return {key: _tidy(inner) for key, inner in value.items() if key != "discriminator"}
    return [_tidy(item) for item in value] if isinstance(value, list) else value
