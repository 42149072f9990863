"""What of a task's schema a server can hold its answers to.

Servers take a part of JSON Schema: objects at the top, no others than the named properties, few keywords. What
they cannot express is left out (the answer is checked here in any case), or the schema is not sent at all.
Sources: OpenAI's "Structured Outputs" and Anthropic's "Structured outputs" guides.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from parallelai.engines.edits import CHANGE_SCHEMA
from parallelai.engines.models.wire.records import Structure
from parallelai.engines.protocol import OutputKind
from parallelai.records import Severity

_KEPT = frozenset({"type", "description", "enum", "const", "title"})
"""Keywords that every server knows."""
_NULL = {"type": "null"}
MOST_NODES = 2_000
"""Larger schemas are not sent."""


class _Inexpressible(Exception):
    """The schema says something that servers cannot hold an answer to."""


def _nullable(kind: str) -> dict[str, Any]:
    return {"anyOf": [{"type": kind}, _NULL]}


FINDINGS = Structure(
    name="findings",
    schema={
        "type": "object",
        "properties": {
            "findings": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "description": "the path as it was given"},
                        "line": {"type": "integer", "description": "the first line concerned, from 1"},
                        "severity": {"type": "string", "enum": [str(severity) for severity in Severity]},
                        "category": {"type": "string"},
                        "message": {"type": "string"},
                        "quote": {"type": "string", "description": "the code, character by character"},
                        "suggestion": _nullable("string"),
                        "confidence": {"type": "number", "description": "from 0 to 1"},
                    },
                    "required": [
                        "file",
                        "line",
                        "severity",
                        "category",
                        "message",
                        "quote",
                        "suggestion",
                        "confidence",
                    ],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["findings"],
        "additionalProperties": False,
    },
    is_strict=True,
)
"""The findings of `engines.replies.FINDINGS_SCHEMA`, in the subset that every server takes."""
CHANGE = Structure("change", CHANGE_SCHEMA, is_strict=True)


def structure_of(output: OutputKind, schema: Mapping[str, Any] | None) -> Structure | None:
    """Give what is sent along for an output; None where the words of the prompt must do."""
    if output == "findings":
        return FINDINGS
    if output == "change":
        return CHANGE
    return None if output != "schema" or schema is None else portable(schema)


def portable(schema: Mapping[str, Any]) -> Structure | None:
    """Turn a task's own schema into one that servers take; None where there is none."""
    try:
        made = _Maker(schema).make()
    except _Inexpressible:
        return None
    return made


class _Maker:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._nodes = 0
        self._is_strict = True

    def make(self) -> Structure:
        made = self._node(self._schema, depth=0)
        definitions = {
            key: {name: self._node(one, depth=1) for name, one in self._schema[key].items()}
            for key in ("$defs", "definitions")
            if isinstance(self._schema.get(key), dict)
        }
        if made.get("type") == "object":
            return Structure("answer", made | definitions, self._is_strict)
        wrapped = {
            "type": "object",
            "properties": {"value": made},
            "required": ["value"],
            "additionalProperties": False,
        }
        return Structure("answer", wrapped | definitions, self._is_strict, is_wrapped=True)

    def _node(self, schema: Any, depth: int) -> dict[str, Any]:
        self._nodes += 1
        if not isinstance(schema, dict) or depth > 20 or self._nodes > MOST_NODES:
            raise _Inexpressible
        if "$ref" in schema:
            return {"$ref": self._reference(schema["$ref"])}
        made = {key: schema[key] for key in _KEPT & schema.keys()}
        choices = schema.get("anyOf", schema.get("oneOf"))
        if isinstance(choices, list) and choices:
            made["anyOf"] = [self._node(one, depth + 1) for one in choices]
        kinds = schema.get("type")
        if kinds == "object" or (isinstance(kinds, list) and "object" in kinds):
            made |= self._object(schema, depth)
        if kinds == "array" or (isinstance(kinds, list) and "array" in kinds):
            made["items"] = self._node(schema.get("items"), depth + 1)
        if not made.keys() & {"type", "anyOf", "enum", "const"} or "allOf" in schema or "not" in schema:
            raise _Inexpressible
        return made

    def _reference(self, reference: Any) -> str:
        """References to definitions are taken; one to the whole would mean another schema once wrapped."""
        if not isinstance(reference, str) or not reference.startswith(("#/$defs/", "#/definitions/")):
            raise _Inexpressible
        return reference

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties or schema.get("patternProperties"):
            raise _Inexpressible  # any keys: no server can be told so
        if isinstance(schema.get("additionalProperties"), dict):
            raise _Inexpressible
        required = [name for name in schema.get("required", ()) if name in properties]
        self._is_strict = self._is_strict and len(set(required)) == len(properties)
        return {
            "properties": {name: self._node(one, depth + 1) for name, one in properties.items()},
            "required": required,
            "additionalProperties": False,
        }


@functools.lru_cache(maxsize=64)
def _portable_text(text: str) -> Structure | None:
    import json

    return portable(json.loads(text))


def structure_of_cached(output: OutputKind, schema: Mapping[str, Any] | None) -> Structure | None:
    """As `structure_of`; a plan's one schema, asked for by a thousand tasks, is turned once."""
    if output != "schema" or schema is None:
        return structure_of(output, schema)
    import json

    return _portable_text(json.dumps(schema, sort_keys=True, default=dict))
