"""The envelope of an event, and how events are written and read as JSON."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from parallelai.events.runs import RunData
from parallelai.events.tasks import TaskData
from parallelai.events.workstreams import WorkstreamData
from parallelai.events.writing import write_json
from parallelai.records import from_json

VERSION = 1

EventData = RunData | TaskData | WorkstreamData

TYPES: dict[str, type[EventData]] = {kind.type: kind for kind in EventData.__args__}
"""The data class of each event type that this version writes."""
_CLASSES = frozenset(TYPES.values())


class Event(NamedTuple):  # a run makes four a task: it takes a third of the time that a data class does
    """One fact of a run. `seq` counts from 1 without gaps; `data` is a mapping only if the type is unknown."""

    run: str
    seq: int
    at: str
    type: str
    data: EventData | Mapping[str, Any]
    task: str | None = None
    attempt: int | None = None
    v: int = VERSION


def data_to_json(data: EventData | Mapping[str, Any]) -> str:
    """Encode an event's data as compact JSON text, as the journal stores it."""
    if type(data) not in _CLASSES and isinstance(data, Mapping):
        return json.dumps(data, separators=(",", ":"))
    if _LATEST and (latest := _LATEST[0])[0] is data:
        return latest[1]
    text = write_json(data).decode()
    if len(text) >= _LARGE:
        _LATEST.append((data, text))
    return text


_LARGE = 64 * 1024
_LATEST: deque[tuple[object, str]] = deque(maxlen=1)
"""The last large one: thousands of findings are encoded for the journal, and at once again for who watches."""


def data_from_json(type_: str, text: str) -> EventData | Mapping[str, Any]:
    """Decode what `data_to_json` wrote. Raises `pydantic.ValidationError` if it is not of that type."""
    raw = json.loads(text)
    kind = TYPES.get(type_)
    return raw if kind is None else from_json(kind, raw)


def event_to_json(event: Event) -> str:
    """Encode an event as one line of JSON, in the shape of CONTRACTS §8."""
    envelope = {
        "v": event.v,
        "run": event.run,
        "seq": event.seq,
        "at": event.at,
        "type": event.type,
        "task": event.task,
        "attempt": event.attempt,
    }
    head = json.dumps(envelope, separators=(",", ":"))
    return f'{head[:-1]},"data":{data_to_json(event.data)}}}'
