"""Writes the pages of docs/reference/ that come from the code. Run it after changing options, keys or events:

    python docs/generate.py

`tests/docs/test_docs_reference.py` says when a page is out of date.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import yaml

from parallelai import errors, events
from parallelai.cli import COMMANDS, app
from parallelai.errors import ParallelAIError
from parallelai.plan.schema import plan_schema
from parallelai.plan.settings import Settings

HERE = Path(__file__).parent
NOTE = "<!-- Made by docs/generate.py from the code: change that, or docs/keys.yaml, not this page. -->\n"
OBJECTS = {
    "Plan": "The plan",
    "Task": "Tasks",
    "EngineEntry": "Engines",
    "Price": "An engine's price",
    "Limits": "Limits",
    "Budget": "Budgets",
    "Phase": "Phases",
    "Chunk": "Chunks",
    "SchemaOutput": "JSON as output",
    "Workspace": "Workspace",
    "Needs": "What a workspace needs",
    "Workstream": "Workstreams",
    "Role": "Roles",
    "RoleLimits": "A role's limits",
    "Gates": "Gates",
    "ReviewGate": "Reviews as gates",
    "Landing": "Landing",
    "Generator": "Generated files",
    "Conflicts": "Conflicts of workstreams",
    "Member": "Team",
}
"""The objects of a plan, in the order in which a reader meets them, with their headings."""

_INSIDE = re.compile(r" \(CONTRACTS §\d+\)")
"""What only those who work on the project can look up."""


def pages() -> dict[str, str]:
    """Give each page's text by its file name in docs/reference/."""
    return {
        "cli.md": cli_page(),
        "plan.md": plan_page(),
        "config.md": config_page(),
        "events.md": events_page(),
        "errors.md": errors_page(),
        "engines.md": engines_page(),
    }


# -- the command line


def cli_page() -> str:
    """The options of every command."""
    context = click.Context(app, info_name="parallelai", **app.context_settings)
    parts = [NOTE, "# Command line\n", "`parallelai COMMAND --help` says the same.\n"]
    parts += ["## Flags of all commands\n", _options(app, context)]
    for name in COMMANDS:
        command = app.get_command(context, name)
        if command is not None:
            parts += list(_command(command, f"parallelai {name}", 2, _flags(app)))
    return _joined(parts)


def _command(command: click.Command, name: str, level: int, known: frozenset[str]) -> Iterator[str]:
    context = click.Context(command, info_name=name, **app.context_settings)
    yield f"{'#' * level} `{name}`\n"
    yield inspect.cleandoc(command.help or "").strip() + "\n"
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            if found is not None and not found.hidden:
                yield from _command(found, f"{name} {sub}", level + 1, known)
        return
    usage = " ".join(piece for piece in command.collect_usage_pieces(context) if piece)
    yield f"```text\n{name} {usage}\n```\n"
    yield _options(command, context, known)


def _flags(command: click.Command) -> frozenset[str]:
    return frozenset(flag for parameter in command.params for flag in parameter.opts)


def _options(command: click.Command, context: click.Context, known: frozenset[str] = frozenset()) -> str:
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is None or known.intersection(parameter.opts) or "--help" in parameter.opts:
            continue
        rows.append(f"| `{_cell(record[0])}` | {_cell(record[1])} |")
    return "\n".join(["| option | what |", "| --- | --- |", *rows]) + "\n" if rows else ""


# -- plans and config


def _said() -> Mapping[str, Mapping[str, str]]:
    said: Mapping[str, Mapping[str, str]] = yaml.safe_load((HERE / "keys.yaml").read_text(encoding="utf-8"))
    return said


def plan_page() -> str:
    """Every key of a plan."""
    schema = plan_schema()
    definitions = {**schema["$defs"], "Plan": schema, "Budget": schema["$defs"]["Budget"]["anyOf"][1]}
    parts = [
        NOTE,
        "# Keys of a plan\n",
        "A plan is a YAML file. Any key that is not on this page is an error. What is marked *(later)* is checked, "
        "shown and converted, but a plan that has it is not carried out by this version.\n",
        "Times are written `90s`, `30m`, `4h`, `2d`; a bare number is seconds. File patterns follow git's rules: a "
        "text, or a list; `!` leaves out. Commands are lists, or text that is split into words without a shell.\n",
    ]
    own = set(definitions["Task"]["properties"])
    for name, heading in OBJECTS.items():
        parts += [f"## {heading}\n"]
        if name == "Workstream":
            parts.append("All keys of a task, and these:\n")
        parts.append(_keys(name, definitions[name], own if name == "Workstream" else set()))
        aliases = _aliases(definitions[name])
        if aliases:
            parts.append(f"Other tools' names are taken too: {aliases}.\n")
    parts.append("`defaults` has the keys of a task, without `id`, `description`, `depends_on` and `todo`.\n")
    return _joined(parts)


def config_page() -> str:
    """Every setting."""
    schema = Settings.model_json_schema(by_alias=True)
    parts = [
        NOTE,
        "# Keys of the config\n",
        "The same objects as in a [plan](plan.md), in TOML, and a few more. [Configuration](../configuration.md) "
        "says where they are written, and which comes before which.\n",
        _keys("Settings", schema, set()),
    ]
    for name, heading in (("Analyzer", "Analysers"), ("State", "State"), ("Worktrees", "Worktrees")):
        parts += [f"## {heading}\n", _keys(name, schema["$defs"][name], set())]
    return _joined(parts)


def _keys(name: str, definition: Mapping[str, Any], skipped: set[str]) -> str:
    said = _said()[name]
    keys = {
        key: value
        for key, value in definition.get("properties", {}).items()
        if not value.get("deprecated") and key not in skipped
    }
    if set(keys) != set(said):
        raise SystemExit(f"docs/keys.yaml, {name}: {sorted(set(keys) ^ set(said))} missing or gone")
    required = definition.get("required", ())
    rows = [
        f"| `{key}` | {_type(value)} | {'required' if key in required else _default(key, value)} | {_cell(said[key])} |"
        for key, value in keys.items()
    ]
    return "\n".join(["| key | value | default | what |", "| --- | --- | --- | --- |", *rows]) + "\n"


_NAMES = {
    "EngineEntry": "engine",
    "RoleLimits": "a role's limits",
    "SchemaOutput": "`{schema: …}`",
    "Chunk": "`{chunk: …}`",
    "Choice": "name or choice",
}


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return _NAMES.get(name, name.lower())
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            kinds = [_type(option) for option in schema[key] if option != {"type": "null"}]
            return " or ".join(dict.fromkeys(kinds))
    kind = str(schema.get("type", "mapping"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return {"object": "mapping", "string": "text", "integer": "whole number", "boolean": "true or false"}.get(
        kind, kind
    )


def _default(key: str, schema: Mapping[str, Any]) -> str:
    value = schema.get("default")
    if value in (None, [], {}, ""):
        return ""
    if key == "priority":
        return "`normal`"
    if isinstance(value, float):
        return f"`{value / 60:g}m`" if value >= 60 else f"`{value:g}s`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _aliases(definition: Mapping[str, Any]) -> str:
    found = []
    for key, value in definition.get("properties", {}).items():
        if value.get("deprecated"):
            found.append(f"`{key}` is {value['description'].split()[-1].rstrip('.')}")
    return ", ".join(found)


# -- events and errors


def events_page() -> str:
    """Every type of event and its data."""
    parts = [
        NOTE,
        "# Events\n",
        "Everything that happens in a run is an event. `parallelai runs logs` shows them, `--events FILE` and "
        "`parallelai runs export` write them as lines of JSON:\n",
        '```json\n{"v": 1, "run": "r-…", "seq": 7, "at": "2026-11-20T10:00:00.123456Z", "type": "task.ended", '
        '"task": "notes", "attempt": null, "data": {}}\n```\n',
        "`seq` counts from 1 without gaps. `parallelai/schemas/event.json` in the package is their JSON Schema. "
        "A reader should pass over types that it does not know.\n",
    ]
    for type_, kind in events.TYPES.items():
        parts += _fields(f"## `{type_}`\n", "data", kind)
    parts.append("## What the data are made of\n")
    for kind in _records(events.TYPES.values()):
        parts += _fields(f"### `{kind.__name__}`\n", "field", kind)
    return _joined(parts)


def _fields(heading: str, of_what: str, kind: type) -> list[str]:
    """A heading, what the class says of itself, and a table of its fields with their types."""
    doc = inspect.getdoc(kind) or ""
    text = "" if doc.startswith(f"{kind.__name__}(") else _INSIDE.sub("", " ".join(doc.split()))
    rows = [f"| `{name}` | `{_cell(type_)}` |" for name, type_ in _types(kind).items()]
    table = "\n".join([f"| {of_what} | type |", "| --- | --- |", *rows]) + "\n" if rows else ""
    return [heading, f"{text}\n" if text else "", table]


def _types(kind: type) -> dict[str, str]:
    """The fields of a dataclass, with their types as they are written; none of other classes."""
    return (
        {field.name: str(field.type) for field in dataclasses.fields(kind)}
        if dataclasses.is_dataclass(kind)
        else {}
    )


def _records(kinds: Iterable[type]) -> list[type]:
    """The classes that the fields of others are made of, each once, as they come up."""
    known = list(kinds)
    count = len(known)
    for kind in known:  # which grows
        hints = get_type_hints(kind)
        for part in (part for name in _types(kind) for part in _parts(hints[name])):
            if isinstance(part, type) and part not in known and _types(part):
                known.append(part)
    return known[count:]


def _parts(hint: Any) -> Iterator[Any]:
    """A type, and all that stand within its brackets."""
    yield hint
    for inner in get_args(hint):
        yield from _parts(inner)


EXIT_CODES = {
    0: "done",
    1: "done, and something as severe as `--fail-on` was found",
    2: "wrong usage, plan or config, or not trusted",
    3: "nothing could be attempted, because no engine can serve; or an internal error",
    4: "some tasks failed or are blocked",
    5: "a budget or the time ran out",
    130: "interrupted (Ctrl-C)",
    143: "terminated (SIGTERM)",
}


def errors_page() -> str:
    """Exit codes, and the tree of errors."""
    parts = [
        NOTE,
        "# Exit codes and errors\n",
        "## Exit codes\n",
        "\n".join(["| code | means |", "| --- | --- |", *(f"| {n} | {t} |" for n, t in EXIT_CODES.items())])
        + "\n",
        "Where several hold, the first of 130, 143, 2, 3, 5, 4, 1 counts.\n",
        "## Errors\n",
        "An error says what happened (`said`), where (`where`), what to do (`next`), and whether the same call "
        "could succeed later (`retry_helps`). With `--json` it is one object:\n",
        '```json\n{"error": {"kind": "usage", "said": "…", "where": null, "next": "…", "retry_helps": false}}\n```\n',
        "A plan's error has `problems` too: all that is wrong with it. "
        "[Troubleshooting](../troubleshooting.md) says what to do.\n",
        "| class | `kind` | exit code | trying again helps | what |",
        "| --- | --- | --- | --- | --- |",
        *_error_rows(ParallelAIError, 0),
    ]
    return _joined(parts)


def _error_rows(kind: type[ParallelAIError], depth: int) -> Iterator[str]:
    if kind.__module__ != errors.__name__:
        return
    doc = kind.__dict__.get("__doc__") or ""
    name = "&nbsp;" * 3 * depth + f"`{kind.__name__}`"
    yield (
        f"| {name} | `{kind.kind}` | {kind.exit_code} | {'yes' if kind.retry_helps else 'no'} "
        f"| {_cell(' '.join(doc.split()))} |"
    )
    for child in kind.__subclasses__():
        yield from _error_rows(child, depth + 1)


# -- the assistants

ENGINES_HEAD = """
# Assistants, measured

What the assistants can do under ParallelAI, and what becomes of each fault, as the programs themselves showed it
with a model server that fails on demand. Measured without a sandbox; where the server hangs, the task's time-out
was 5 s. A fault that became `ok` was overcome, or the program keeps it to itself: see below the tables. A dash in
place of the exit code: the program was ended, or was not started.
"""
ENGINES_TAIL = """
## What is kept to itself

- Claude Code asks again, in another way, where an answer was cut off or broke in the midst; the work is then
  whole. It is the only one whose own second try cannot be turned off.
- gemini reports a refusal, and an answer that was cut at the most tokens, as a good end of its turn. Its telemetry
  tells them apart: it is written to a file in a temporary folder of ours, without prompts, read after the turn,
  and deleted; none of it is sent. Where several tasks with plain text as their answer share one gemini, this may
  add 5 s to a task. Who sets a `GEMINI_TELEMETRY_…` variable in the engine's `env` has it so, and goes without this.
- An assistant that is denied a tool says so, and goes on. Nothing changed then fails the task, unless it says
  `empty: ok`: this is the row of denied tools.

## Not in the tables

`opencode` 1.18.33 and `qwen` 0.24.4 were tried by hand with the same server, and did what is asked of an engine: they
create and edit files, ask for leave, find, continue a session in another process, share one process where they only
read, take a prompt of 210 kB, and leave no process after a cancel or a time-out. A wrong key, an unknown model, a bad
request and too long a context are `rejected`.

Where the server fails, is overloaded, says 429, or its answer breaks off, both would ask again by themselves, for
minutes, and tell nobody: neither has a setting against it. So ParallelAI has them report their calls, ends the turn
before the second one, and does the waiting itself. One request was sent in each of these cases:

| fault | `opencode` | `qwen` |
| --- | --- | --- |
| 429, Retry-After 7 | `rate_limited`, for 7 s | `rate_limited`, for 7 s |
| 429 | `rate_limited` | `rate_limited` |
| quota used up | `rate_limited` (quota) | `rate_limited` (quota) |
| server error 500, overloaded 529 | `transient` | `transient` |
| answer cut off, or ended without its end | `transient` | `transient` |
| error in the midst of an answer, garbage | `transient` | `transient` |
| refusal | `refused` | `refused` |
| answer cut at the most tokens | `invalid` | `invalid` (after 5 requests: it has its model go on four times) |

qwen reports by its telemetry, into a file, without prompts; who sets a `QWEN_TELEMETRY_…` variable in the engine's
`env` has it so, and goes without this. opencode reports by a plugin of ours, beside your own ones. The files lie in a
temporary folder of ours and are deleted after the turn.

`aider` 0.86.2, `pi` 0.74.2 and `mini-swe-agent` 2.4.6, the ready-made commands, were tried in the same way, and
create files and answer with a sandbox and without one. A wrong key and an unknown model are `rejected`, 429 and a quota
that is used up `rate_limited` (none of the three hands on for how long), a server error 500 and garbage `transient`, a
server that hangs `timed_out`, after one request each. By aider and pi too long a context is `rejected`, an answer cut
at the most tokens `invalid`. pi tells a refusal from an answer (`refused`). aider does not: the words of the refusal
are the answer, and a task with `edits: true` fails for its empty change.

`cursor` needs an account of its own to do anything, and is built after its documentation.

## Older versions

The tests also read what these once printed: Claude Code 2.1.197, Codex 0.153.0, gemini 0.47.0, opencode 1.17.11 and
qwen 0.15.10. The first three say what today's versions say. opencode 1.17 calls a turn well ended whose model answered
with an error; its report tells, and the task fails with that error. qwen 0.15 reports neither how an answer ended nor
for how long a server asks to wait: there a refusal, or an answer that was cut, counts as an answer, and up to three
requests are sent where a server fails. Take a newer one.
"""
ABILITIES = (
    "answers",
    "edits",
    "structured",
    "streams",
    "resumes",
    "interrupts",
    "asks",
    "attaches",
    "messages",
)


def engines_page() -> str:
    """Make the tables of what was measured (`tests/clients/measuring.py` writes the file)."""
    measured = json.loads((HERE / "reference" / "engines.json").read_text(encoding="utf-8"))
    parts = [NOTE, ENGINES_HEAD.strip(), "", *_abilities(measured)]
    for name, found in measured.items():
        parts += ["", f"## `{name}`, version {found['version']}", ""]
        parts += ["| fault | becomes | requests | seconds | exit code |", "| --- | --- | --- | --- | --- |"]
        for fault, row in found["faults"].items():
            code = "–" if row["exit"] is None else row["exit"]
            parts.append(
                f"| {fault} | `{row['became']}` | {row['requests']} | {row['seconds']:.1f} | {code} |"
            )
    return "\n".join((*parts, ENGINES_TAIL.rstrip())) + "\n"


def _abilities(measured: Mapping[str, Any]) -> Iterator[str]:
    names = list(measured)
    yield f"| can | {' | '.join(f'`{name}`' for name in names)} |"
    yield "| --- |" + " --- |" * len(names)
    for ability in ABILITIES:
        values = (measured[name]["can"][ability] for name in names)
        cells = (_joined_words(value) for value in values)
        yield f"| {ability} | {' | '.join(cells)} |"


def _joined_words(value: bool | list[str]) -> str:
    return ", ".join(value) if isinstance(value, list) else ("yes" if value else "no")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _joined(parts: list[str]) -> str:
    return "\n".join(part for part in parts if part).rstrip("\n") + "\n"


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (HERE / "reference" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
