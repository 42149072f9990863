"""Plans as canonical YAML: `load(to_yaml(plan)) == plan`.

Only what was set is written, in the order of CONTRACTS §1, under canonical keys. Text that YAML would read as
something else is quoted.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic_core import to_jsonable_python

from parallelai.plan import values
from parallelai.plan.base import Model
from parallelai.plan.model import Choice, Plan, SchemaOutput, Task
from parallelai.plan.source import core_value
from parallelai.plan.values import Wrong

_DURATIONS = frozenset({"estimate", "timeout", "idle_timeout", "max_wait", "grace", "time"})
_COMMANDS = frozenset({"checks", "setup", "gate"})
_AUTO = frozenset({"parallel", "batch"})
_FIRST = ("id", "description", "owns")
_PRIORITIES = {values.PRIORITIES[name]: name for name in ("urgent", "high", "normal", "low")}
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def to_yaml(plan: Plan) -> str:
    """Write a plan as canonical YAML."""
    data = to_data(plan)
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


_WORK = re.compile(r"""  (?:- id: )?["']?(?P<id>[A-Za-z0-9][A-Za-z0-9._-]*)["']?:?""")


def with_places(text: str, places: Mapping[str, str]) -> str:
    """Write beside each task of a plan's canonical text where it came from, such as `TASKS.md:3:7`.

    A comment holds no line break, whatever the file is called.
    """
    lines, is_work = text.split("\n"), False
    for number, line in enumerate(lines):
        if line[:1].strip():
            is_work = line in ("tasks:", "workstreams:")
        found = _WORK.fullmatch(line) if is_work else None
        if found is not None and found["id"] in places:
            where = "".join(char if char.isprintable() else "\ufffd" for char in places[found["id"]])
            lines[number] = f"{line}  # {where}"
    return "\n".join(lines)


def to_data(plan: Plan) -> dict[str, Any]:
    """Write a plan as plain JSON data, as `from_mapping` reads it."""
    data = {"version": plan.version, **_model(plan)}
    ids = [work.id for work in plan.workstreams]
    if data.get("workstreams") and len(set(ids)) == len(ids):
        data["workstreams"] = {entry.pop("id"): entry for entry in data["workstreams"]}
    return data


def _model(model: Model) -> dict[str, Any]:
    names = _names(type(model), frozenset(model.model_fields_set))
    return {shown: _field(name, getattr(model, name)) for name, shown in names}


@functools.lru_cache(maxsize=256)
def _names(kind: type[Model], given: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """The fields that were given, in order, each with how a plan calls it."""
    fields = kind.model_fields
    names = [name for name in fields if name in given]
    if issubclass(kind, Task):
        names.sort(key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    return tuple((name, fields[name].alias or name) for name in names)


def _field(name: str, value: Any) -> Any:
    if value is None:
        return "auto" if name in _AUTO else None
    if name in _DURATIONS:
        return duration(value)
    if name == "priority":
        return _PRIORITIES.get(value, value)
    if name in _COMMANDS:
        return [command(argv) for argv in value]
    if name == "landing" and isinstance(value, tuple):
        return [_plain(gate) if isinstance(gate, Model) else command(gate) for gate in value]
    return _plain(value)


def _plain(value: Any) -> Any:
    if type(value) is str:  # most are
        return value
    if isinstance(value, Choice):
        return choice(value)
    if isinstance(value, SchemaOutput):
        return {"schema": to_jsonable_python(value.schema_)}
    if isinstance(value, Model):
        return _model(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return to_jsonable_python(value)


def choice(value: Choice) -> Any:
    """Write a choice as a plan has it: a name, or `{rule: [...]}`."""
    if value.rule == "one":
        return value.members[0]
    return {value.rule: dict(value.routes) if value.rule == "route" else list(value.members)}


def duration(seconds: float) -> str | float:
    """Write seconds as `30m`, `4h`, …; those with a fraction stay a number."""
    whole = int(seconds)
    if whole != seconds:
        return seconds
    size, unit = next(((size, unit) for size, unit in _UNITS if whole and whole % size == 0), (1, "s"))
    return f"{whole // size}{unit}"


def command(argv: Sequence[str]) -> str | list[str]:
    """Write a command as one text if that is read back as the same words, else as a list."""
    text = " ".join(argv)
    try:
        return text if values.command(text) == tuple(argv) else list(argv)
    except Wrong:
        return list(argv)


class _Dumper(yaml.SafeDumper):
    """Block style, lists indented, text that is no text by the core schema in quotes, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_OTHER_BREAKS = frozenset("\r\x85\u2028\u2029")
"""Line ends to the writer, which not every reader of YAML keeps as they are outside of double quotes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None
    if not isinstance(core_value(text), str) or _OTHER_BREAKS.intersection(text):
        style = '"'
    elif "\n" in text and all(line == line.rstrip() for line in text.split("\n")):
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
