"""The JSON schemas of the engine protocol: what is asked of an engine, and what it streams (CONTRACTS §7).

They ship as `schemas/request.json` and `schemas/stream.json`; running this module writes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parallelai.engines.protocol import EngineEvent, Request
from parallelai.records import adapter

Schema = dict[str, Any]

FOLDER = Path(__file__).parents[1] / "schemas"
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def request_schema() -> Schema:
    """Describe a `Request`, as an executor on another machine would be given it."""
    schema: Schema = adapter(Request).json_schema(mode="serialization")
    schema["required"] = ["run", "task", "attempt", "root", "prompt"]
    return _finish(schema, "request", "One turn of one task")


def stream_schema() -> Schema:
    """Describe an event of a turn's stream: a line of `attempts/<n>.jsonl`, less its time."""
    from pydantic import TypeAdapter

    kinds: list[Schema] = []
    definitions: Schema = {}
    for kind in EngineEvent.__args__:
        schema = TypeAdapter(kind).json_schema(mode="serialization")
        definitions |= schema.pop("$defs", {})
        schema["properties"]["type"] = {"const": schema["properties"]["type"]["const"]}
        schema["required"] = sorted({"type", *schema.get("required", [])})
        definitions[kind.__name__] = schema
        kinds.append({"$ref": f"#/$defs/{kind.__name__}"})
    # A usage event has the figures beside its type, not below a key of their own.
    usage = definitions["Usage"]
    definitions["UsageEvent"] = {
        **usage,
        "title": "UsageEvent",
        "properties": {"type": {"const": "usage"}, **usage["properties"]},
        "required": ["type"],
    }
    return _finish({"oneOf": kinds, "$defs": definitions}, "stream", "An event of a turn's stream")


def files() -> dict[str, str]:
    """Give the text of each schema file, by its name."""
    makers = {"request": request_schema, "stream": stream_schema}
    return {
        f"{name}.json": json.dumps(make(), indent=2, ensure_ascii=False) + "\n"
        for name, make in makers.items()
    }


def _finish(schema: Schema, name: str, title: str) -> Schema:
    return {"$schema": _DRAFT, "$id": f"urn:parallelai:schema:{name}:1", **schema, "title": title}


if __name__ == "__main__":
    for _name, _text in files().items():
        (FOLDER / _name).write_text(_text, encoding="utf-8")
