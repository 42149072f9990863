"""The JSON schemas of what scripts read and write, made from the code: draft 2020-12.

They ship as `schemas/{run,event,error,conflicts,plan}.json`; running this module writes
them anew. They name what is always there, and allow more: a later version may add keys, and never takes one
away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from parallelai import errors, events, records
from parallelai.plan.schema import plan_schema
from parallelai.results.json import dump

Schema = dict[str, Any]

FOLDER = Path(__file__).parents[1] / "schemas"
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_LATER = {"TaskResult": ("because", "voters", "reused"), "Change": ("why",)}
"""Keys that documents of earlier versions do not have, by what they are of."""
_LATER_OF_RUNS = ("is_review",)
_RUN_OUTCOMES = [
    records.Outcome.OK.value,
    records.Outcome.FAILED.value,
    records.Outcome.OVER_BUDGET.value,
    records.Outcome.CANCELLED.value,
]


def run_schema() -> Schema:
    """Describe the run document: `execute --json`, `review --json`, `runs show --json`."""
    schema: Schema = records.adapter(records.RunDocument).json_schema(mode="serialization")
    _tidy(schema)
    definitions = schema["$defs"]
    definitions["Coverage"]["properties"]["covered"] = {
        "description": "How many files somebody looked at.",
        "minimum": 0,
        "type": "integer",
    }
    definitions["TaskResult"]["properties"]["workstream"] = _nullable({"$ref": "#/$defs/Workstream"})
    for name, later in _LATER.items():
        required = definitions[name]["required"]
        definitions[name]["required"] = [key for key in required if key not in later]
    definitions |= _workstream()
    _bound_finding(definitions["Finding"])
    count = {"type": "integer", "minimum": 0}
    outcomes = [outcome.value for outcome in records.Outcome]
    schema["properties"] |= {
        "counts": _object(dict.fromkeys(outcomes, count), "How many tasks ended in each way."),
        "outcome": {"enum": _RUN_OUTCOMES, "type": "string"},
        "exit": {"type": "integer", "minimum": 0, "maximum": 255},
        "seconds": {"type": "number", "minimum": 0},
        "seconds_one_by_one": {"type": "number", "minimum": 0},
    }
    schema["properties"] = {"schema": schema["properties"].pop("schema"), **schema["properties"]}
    schema["required"] = [key for key in schema["properties"] if key not in _LATER_OF_RUNS]
    return _finish(schema, "run", "What a run came to")


def event_schema() -> Schema:
    """Describe one event: a line of `--events`, and of `runs export`.

    `data` is described for the types that this version writes; none of its keys is required, because a
    journal may be older. Types that it does not know are allowed.
    """
    from pydantic import TypeAdapter

    known: Schema = {}
    definitions: Schema = {}
    for name, kind in sorted(events.TYPES.items()):
        schema = TypeAdapter(kind).json_schema(mode="serialization")
        _tidy(schema)
        definitions |= schema.pop("$defs", {})
        schema.pop("required", None)
        definitions[kind.__name__] = schema
        known[name] = {"$ref": f"#/$defs/{kind.__name__}"}
    properties = {
        "v": {"const": events.VERSION},
        "run": {"type": "string"},
        "seq": {"type": "integer", "minimum": 1, "description": "Counts from 1, without gaps."},
        "at": {"type": "string", "description": "The time in UTC."},
        "type": {"type": "string", "description": "Such as " + ", ".join(sorted(known)) + "."},
        "task": _nullable({"type": "string"}),
        "attempt": _nullable({"type": "integer", "minimum": 1}),
        "data": {"type": "object"},
    }
    rules = [
        {"if": {"properties": {"type": {"const": name}}}, "then": {"properties": {"data": data}}}
        for name, data in known.items()
    ]
    schema = {**_object(properties, "One fact of a run."), "allOf": rules, "$defs": definitions}
    return _finish(schema, "event", "Something that happened in a run")


def error_schema() -> Schema:
    """Describe what `--json` prints when a command failed."""
    kinds = {error.kind for error in vars(errors).values() if _is_error(error)} | set(
        get_args(records.ErrorKind)
    )
    kinds.add("interrupted")  # a signal ended the command before there was a run
    text, maybe = {"type": "string"}, _nullable({"type": "string"})
    problem = _object({"said": text, "where": maybe, "next": maybe}, "One thing wrong in a file.")
    error = _object(
        {
            "kind": {"enum": sorted(kinds), "type": "string"},
            "said": {**text, "description": "What happened."},
            "where": {**maybe, "description": "Where, such as file:line:column."},
            "next": {**maybe, "description": "What to do next."},
            "retry_helps": {
                "type": "boolean",
                "description": "Whether the same call could succeed if tried again.",
            },
        },
        "Why a command failed.",
    )
    error["properties"]["problems"] = {
        "type": "array",
        "items": problem,
        "description": "All problems of a plan.",
    }
    return _finish(_object({"error": error}, "What `--json` prints on failure."), "error", "An error")


def conflicts_schema() -> Schema:
    """Describe the conflict document: `work conflicts --json` of a later version."""
    schema: Schema = records.adapter(records.ConflictDocument).json_schema(mode="serialization")
    _tidy(schema)
    pair = schema["$defs"]["ConflictPair"]
    pair["properties"] = {key.rstrip("_"): value for key, value in pair["properties"].items()}
    pair["properties"]["risk"] = {"type": "number", "minimum": 0, "maximum": 1}
    pair["required"] = [key for key in pair["properties"] if key != "why"]
    return _finish(schema, "conflicts", "How workstreams conflict")


def files() -> dict[str, str]:
    """Give the text of each schema file that ships, by its name."""
    makers: Mapping[str, Callable[[], Schema]] = {
        "run": run_schema,
        "event": event_schema,
        "error": error_schema,
        "conflicts": conflicts_schema,
        "plan": plan_schema,
    }
    return {f"{name}.json": dump(make()) for name, make in makers.items()}


def main() -> None:
    """Write the schema files that ship."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def _is_error(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, errors.ParallelAIError)


def _finish(schema: Schema, name: str, title: str) -> Schema:
    return {"$schema": _DRAFT, "$id": f"urn:parallelai:schema:{name}:1", **schema, "title": title}


def _object(properties: Schema, description: str) -> Schema:
    """An object whose keys are always there."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties),
    }


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _tidy(schema: Schema) -> None:
    """Say of every record that all its keys are written; drop titles and defaults, which say nothing here."""
    for part in _parts(schema):
        part.pop("title", None)
        part.pop("default", None)
        if "properties" in part:
            part["required"] = list(part["properties"])
        if "description" in part:
            part["description"] = " ".join(part["description"].split())


def _parts(schema: Any) -> Iterator[Schema]:
    """All schemas in a schema, itself first; the names of properties are no schemas."""
    if isinstance(schema, list):
        for item in schema:
            yield from _parts(item)
    elif isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            if key in ("properties", "$defs"):
                for inner in value.values():
                    yield from _parts(inner)
            elif key in ("anyOf", "items", "prefixItems", "additionalProperties", "propertyNames"):
                yield from _parts(value)


def _bound_finding(finding: Schema) -> None:
    """Say what the types cannot: places count from 1, confidence is a share."""
    place = {"type": "integer", "minimum": 1}
    pair = {"type": "array", "prefixItems": [place, place], "minItems": 2, "maxItems": 2}
    properties = finding["properties"]
    properties["line"] = {**pair, "description": "The first and the last line, from 1."}
    properties["column"] = {
        **_nullable(pair),
        "description": "The first column and the one after the last, from 1, in code points.",
    }
    properties["confidence"] = _nullable({"type": "number", "minimum": 0, "maximum": 1})
    properties["votes"] = {"type": "integer", "minimum": 1}


def _workstream() -> Schema:
    """What CONTRACTS §5 says of `workstream`, which the records keep as plain data."""
    text, maybe = {"type": "string"}, _nullable({"type": "string"})
    gate = _object(
        {
            "command": {"anyOf": [text, {"type": "array", "items": text}]},
            "exit": _nullable({"type": "integer"}),
            "seconds": {"type": "number", "minimum": 0},
            "log": maybe,
        },
        "A gate that ran before landing.",
    )
    gates = {"type": "array", "items": {"$ref": "#/$defs/Gate"}}
    landed = _object({"commit": text, "tree": text, "pending": maybe, "gates": gates}, "What landed.")
    landed["properties"]["notes"] = {
        "type": "array",
        "items": text,
        "description": "What a person should know: who settled which conflict, flaky tests, what a gate missed.",
    }
    workstream = _object(
        {
            "branch": text,
            "worktree": maybe,
            "base": text,
            "stage": text,
            "kept_out": {"type": "array", "items": text},
            "landed": _nullable({"$ref": "#/$defs/Landed"}),
        },
        "A task that has a branch of its own.",
    )
    workstream["properties"]["trespasses"] = {
        "type": "array",
        "items": _object(
            {"paths": {"type": "array", "items": text}, "why": text, "patch": maybe}, "Kept out."
        ),
        "description": "What was kept out by the guard, why, and the patch that holds it.",
    }
    return {"Workstream": workstream, "Landed": landed, "Gate": gate}


if __name__ == "__main__":
    main()
