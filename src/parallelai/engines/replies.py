"""From what an engine wrote to a checked `Reply`.

Everything that comes back is data of a stranger: it may be huge, deep, half finished, full of terminal
escapes, or name files anywhere. What does not fit raises `Invalid`, never anything else.

Findings are read from JSON (a list of findings, or an object with `findings`), from SARIF 2.1.0, and from a
fenced block of either in a longer text, which is how assistants write them.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from parallelai.engines.protocol import OutputKind
from parallelai.engines.untrusted import MAX_FIELD_CHARS, MAX_LINE, clean, clean_json, safe_path, shorten
from parallelai.errors import Invalid, Rejected
from parallelai.records import FREE, Finding, Reply, Severity, Usage

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MAX_CHARS = 16 * 1024 * 1024
"""Longer replies are not read as findings or JSON, and cut as text."""
MAX_FINDINGS = 50_000
"""What one reply may hold."""
MAX_DEPTH = 100
"""How deep a reply with a schema may nest."""

FINDINGS_SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["findings"],
    "properties": {
        "findings": {
            "type": "array",
            "maxItems": MAX_FINDINGS,
            "items": {
                "type": "object",
                "required": ["file", "line", "severity", "message"],
                "properties": {
                    "file": {"type": "string", "description": "relative to the project's root"},
                    "line": {"$ref": "#/$defs/span"},
                    "column": {"anyOf": [{"$ref": "#/$defs/span"}, {"type": "null"}]},
                    "severity": {"enum": [str(severity) for severity in Severity]},
                    "category": {"type": "string"},
                    "rule": {"type": ["string", "null"]},
                    "message": {"type": "string", "minLength": 1},
                    "suggestion": {"type": ["string", "null"]},
                    "quote": {"type": ["string", "null"], "description": "the code, as it stands there"},
                    "confidence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
                },
            },
        }
    },
    "$defs": {
        "span": {
            "description": "from 1: one number, or the first and the last line (columns: the end exclusive)",
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1},
                    "minItems": 2,
                    "maxItems": 2,
                },
            ],
        }
    },
}
"""What an engine that can be given a schema is asked for."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_MOST_DIGITS = 400
"""Of a whole number: more than the largest float has; Python itself refuses thousands, in words for programmers."""
_JSON = (str, int, float, list, dict, type(None))
_FENCE = re.compile(r"[ \t]*(`{3,})([^`\n]*)")


def to_reply(
    text: str,
    *,
    output: OutputKind,
    schema: Mapping[str, Any] | None = None,
    root: str | None = None,
    usage: Usage = FREE,
    notes: Iterable[str] = (),
) -> Reply:
    """Read a whole answer as the `output` that the task asked for.

    `root` is the absolute folder that findings' absolute paths may lie below. Raises `Invalid`, which has the text,
    where it is not that, and `Rejected` where the task's schema is none.
    """
    try:
        return _read(text, output, schema, root, usage, tuple(notes))
    except Invalid as error:
        error.reply = text
        raise


def _read(
    text: str,
    output: OutputKind,
    schema: Mapping[str, Any] | None,
    root: str | None,
    usage: Usage,
    kept: tuple[str, ...],
) -> Reply:
    if output == "findings":
        findings = parse_findings(text, root=root)
        return Reply(text=_prose(text), findings=findings, usage=usage, notes=kept)
    if output == "schema":
        data = parse_json(text, schema or {})
        return Reply(text=_prose(text), data=data, usage=usage, notes=kept)
    if len(text) > MAX_CHARS:
        kept += (f"the text was cut to {MAX_CHARS:,} characters",)
        text = shorten(text, MAX_CHARS)
    return Reply(text=clean(text), usage=usage, notes=kept)


def parse_findings(text: str, *, root: str | None = None) -> tuple[Finding, ...]:
    """Read findings from JSON, SARIF or a fenced block of either.

    What only ParallelAI may say (`id`, `task`, `by`, `votes`, `state`) is left at its default whatever the
    text says, and keys that nobody knows are passed over. Raises `Invalid` with what is wrong.
    """
    data = _load(text)
    if isinstance(data, dict) and "runs" in data and "findings" not in data:
        return _from_sarif(data, root)
    items = data.get("findings") if isinstance(data, dict) else data
    if not isinstance(items, list):
        raise Invalid(
            "the reply holds no findings",
            next="a list of findings, or an object with `findings`, is expected",
        )
    _check_number(len(items))
    return tuple(_finding(item, position, root) for position, item in enumerate(items, 1))


def parse_json(text: str, schema: Mapping[str, Any]) -> Any:
    """Read JSON, whole or from a fenced block, and check it. Raises as `check_schema` does."""
    data = _load(text)
    check_storable(data)
    check_schema(data, schema)
    return data


def check_schema(data: Any, schema: Mapping[str, Any]) -> None:
    """Check JSON data by a JSON Schema (draft 2020-12 unless it names another one that is known).

    References to other documents are not followed: a schema must not make this process fetch anything.
    Raises `Invalid` where the data do not fit, `Rejected` where the schema itself is wrong.
    """
    import jsonschema  # heavy: only tasks with a schema need it
    from referencing.exceptions import Unresolvable

    try:
        wrong = _first_misfit(data, schema)
    except jsonschema.SchemaError as error:
        said = f"the task's schema is not one: {_brief(error.message)}"
        raise Rejected(said, next="correct `output: {schema: …}`") from None
    except re.error as error:
        said = f"a pattern of the task's schema is not one: {_brief(str(error))}"
        raise Rejected(said, next="correct `output: {schema: …}`") from None
    except Unresolvable as error:
        said = f"the task's schema refers to `{_brief(str(error.ref))}`, which it does not hold"
        raise Rejected(said, next="put it into `$defs`") from None
    except (RecursionError, ArithmeticError) as error:
        raise Invalid(f"the reply cannot be checked by the schema: {_brief(str(error))}") from None
    if wrong is not None:
        raise Invalid(f"the reply does not fit the schema {wrong}")


def _first_misfit(data: Any, schema: Mapping[str, Any]) -> str | None:
    import jsonschema
    from jsonschema.exceptions import best_match
    from referencing import Registry

    named = str(schema.get("$schema", "")).rstrip("#")
    kinds = {
        str(kind.META_SCHEMA.get("$schema", "")).rstrip("#"): kind
        for kind in (jsonschema.Draft7Validator, jsonschema.Draft201909Validator)
    }
    kind = kinds.get(named, jsonschema.Draft202012Validator)
    kind.check_schema(schema)
    wrong = best_match(kind(schema, registry=Registry()).iter_errors(data))
    return None if wrong is None else f"at `{_brief(wrong.json_path)}`: {_brief(wrong.message)}"


def _load(text: str) -> Any:
    """Read the text, or the last fenced block in it that can be read, as JSON."""
    if len(text) > MAX_CHARS:
        raise Invalid(f"the reply is longer than {MAX_CHARS:,} characters")
    text = text.removeprefix("\ufeff")
    whole = clean_json(text)
    try:
        return _json(whole)
    except ValueError as error:
        said = str(error)
    for block in reversed(_split_blocks(whole)[0]):
        try:
            return _json(block)
        except ValueError:
            continue
    empty = not whole.strip()
    raise Invalid("the reply is empty" if empty else f"the reply is not JSON: {_brief(said)}")


def _split_blocks(text: str) -> tuple[list[str], str]:
    """Give what stands in fenced blocks (Markdown's, of JSON or of no named language), and the rest."""
    blocks: list[str] = []
    rest: list[str] = []
    inside: list[str] = []
    fence, is_data = "", False
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence and mark and len(mark[1]) >= len(fence) and not mark[2].strip():
            (blocks if is_data else rest).append("".join(inside))
            fence, inside = "", []
        elif fence:
            inside.append(line)
        elif mark:
            fence, is_data = mark[1], mark[2].strip().lower() in {"", "json", "sarif"}
        else:
            rest.append(line)
    return blocks, "".join(rest + inside)


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"{text[:40]}… is too large a number")
    return int(text)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def check_storable(data: Any) -> None:
    """Refuse what a journal cannot keep. Raises `Invalid`.

    JSON allows endless nesting, halves of surrogate pairs, and numbers beyond all bounds; an engine in Python
    may give what is no JSON at all.
    """
    if data is None:
        return
    level = [data]
    for _ in range(MAX_DEPTH):
        for item in level:
            _check_value(item)
        inner = [
            item.values() if isinstance(item, dict) else item
            for item in level
            if isinstance(item, dict | list)
        ]
        level = [item for items in inner for item in items]
        if not level:
            return
    raise Invalid(f"the reply is nested more than {MAX_DEPTH} levels deep")


def _check_value(item: Any) -> None:
    texts = [item] if isinstance(item, str) else list(item) if isinstance(item, dict) else []
    if not all(isinstance(text, str) for text in texts) or not isinstance(item, _JSON):
        raise Invalid("the reply holds what JSON does not have")
    if any(_SURROGATES.search(text) for text in texts):
        raise Invalid("the reply holds half of a surrogate pair")
    if isinstance(item, float) and not math.isfinite(item):
        raise Invalid("the reply holds a number that JSON does not have")


def _prose(text: str) -> str | None:
    """What stands around the fenced block, for people; None where the text is only data."""
    if text.lstrip("\ufeff \t\r\n")[:1] in "[{":
        return None
    rest = clean(_split_blocks(clean_json(text))[1]).strip()
    return shorten(rest, MAX_CHARS) or None


def _from_sarif(data: dict[str, Any], root: str | None) -> tuple[Finding, ...]:
    from parallelai.engines.analyzers.sarif_input import read_sarif

    try:
        findings = read_sarif(data, root=root)
    except RecursionError:
        raise Invalid("the document is nested too deeply") from None
    _check_number(len(findings))
    return findings


def _check_number(number: int) -> None:
    if number > MAX_FINDINGS:
        raise Invalid(f"the reply holds {number:,} findings; at most {MAX_FINDINGS:,} are read")


def _finding(item: Any, position: int, root: str | None) -> Finding:
    from pydantic import ValidationError

    if not isinstance(item, dict):
        raise Invalid(f"finding {position} is not an object")
    known = {key: item[key] for key in _FIELDS if item.get(key) is not None}
    for key in ("line", "column"):
        given = known.get(key)
        if any(isinstance(each, bool) for each in (given if isinstance(given, list) else (given,))):
            raise Invalid(f"finding {position}: `{key}` is true or false, not a number")
        if isinstance(given, int):
            known[key] = [given, given + (key == "column")]
    for key, value in known.items():
        if isinstance(value, str) and key != "file":  # a path is refused rather than mended
            known[key] = clean(value)
    if isinstance(known.get("severity"), str):
        known["severity"] = known["severity"].strip().lower()
    try:
        found = _reader().validate_python(known)
    except (ValidationError, RecursionError, OverflowError) as error:
        raise Invalid(f"finding {position}: {_first_problem(error)}") from None
    try:
        return _cleaned(found, root)
    except Invalid as error:
        raise Invalid(f"finding {position}: {error.said}") from None


_FIELDS = (
    "file",
    "line",
    "column",
    "severity",
    "category",
    "rule",
    "message",
    "suggestion",
    "quote",
    "confidence",
    "tier",
)


@functools.cache
def _reader() -> TypeAdapter[Finding]:
    from parallelai.records import adapter

    return adapter(Finding)


def _first_problem(error: Exception) -> str:
    problems = getattr(error, "errors", None)
    if problems is None:
        return _brief(str(error))
    first = problems(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return _brief(f"`{place}`: {first['msg']}")


def _cleaned(found: Finding, root: str | None) -> Finding:
    """Bound and clean every field; what a field may hold beyond its type is checked here."""
    first, last = found.line
    if not 1 <= first <= last <= MAX_LINE:
        raise Invalid(f"`line` is {first} to {last}; lines count from 1")
    if found.column is not None and not _is_column(found.column, first == last):
        raise Invalid(f"`column` is {found.column[0]} to {found.column[1]}; columns count from 1")
    if found.confidence is not None and not 0 <= found.confidence <= 1:
        raise Invalid("`confidence` is not between 0 and 1")
    message = _field(found.message)
    if not message:
        raise Invalid("`message` is empty")
    return Finding(
        file=safe_path(found.file, root),
        line=found.line,
        severity=found.severity,
        message=message,
        column=found.column,
        category=_label(found.category) or "general",
        rule=_label(found.rule or "") or None,
        suggestion=_field(found.suggestion or "") or None,
        quote=shorten(clean(found.quote), MAX_FIELD_CHARS) if found.quote else None,
        confidence=found.confidence,
        tier=found.tier,
    )


def _is_column(column: tuple[int, int], is_one_line: bool) -> bool:
    """On one line the end is not before the start; over several it is a column of another line."""
    start, end = column
    return 1 <= start <= MAX_LINE and 1 <= end <= MAX_LINE and (start <= end or not is_one_line)


def _field(text: str) -> str:
    return shorten(clean(text).strip(), MAX_FIELD_CHARS)


def _label(text: str) -> str:
    """A word or two: one line, short."""
    return shorten(" ".join(clean(text).split()), 200)


def _brief(text: str) -> str:
    return shorten(" ".join(clean(text).split()), 300)
