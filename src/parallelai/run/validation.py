"""Is a reply what the task asked for? Only such a reply is a success, is cached, is shown to dependents."""

from __future__ import annotations

from typing import cast, get_args

from parallelai.engines.protocol import Request
from parallelai.engines.replies import check_schema, check_storable
from parallelai.engines.untrusted import MAX_LINE
from parallelai.errors import EngineError, Invalid
from parallelai.events.writing import write_json
from parallelai.records import ErrorKind, ErrorRecord, Finding, Reply, Severity

_SEVERITIES = frozenset(Severity)
_MOST_BYTES = 1 << 62
"""What is kept as a number must fit into 8 bytes."""


def wrong_with(reply: Reply, request: Request) -> EngineError | None:
    """Say what is wrong with a reply; None if nothing is.

    Engines validate what they parse; this holds for every engine, also other people's.
    """
    error = _wrong_form(reply) or _wrong_with(reply, request)
    if isinstance(error, Invalid) and isinstance(reply.text, str):
        error.reply = reply.text
    return error


def _wrong_form(reply: Reply) -> Invalid | None:
    """Name the first field that is not what records say of it: in Python nothing else holds an engine to that."""
    if not (_is_text(reply.text) and _is_text(reply.model) and _is_text(reply.session)):
        return _misfit("`text`, `model` or `session` is neither text nor None")
    if not _is_row(reply.notes) or not all(isinstance(note, str) for note in reply.notes):
        return _misfit("`notes` are no tuple of texts")
    if reply.memory_bytes is not None and not _is_number(reply.memory_bytes, _MOST_BYTES):
        return _misfit("`memory_bytes` is no number of bytes")
    if not _is_row(reply.findings) or not all(map(_is_finding, reply.findings)):
        return _misfit("`findings` holds what is no `Finding`, or one with fields of another type")
    return None


def _misfit(said: str) -> Invalid:
    return Invalid(f"the engine's reply is not of the protocol's form: {said}", next="correct the engine")


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_row(value: object) -> bool:
    return isinstance(value, tuple | list)


def _is_number(value: object, most: int) -> bool:
    return isinstance(value, int) and value <= most


def _is_finding(found: object) -> bool:
    return (  # quick: there are thousands
        isinstance(found, Finding)
        and isinstance(found.file, str)
        and isinstance(found.message, str)
        and (type(found.severity) is Severity or _is_severity(found.severity))
        and _is_span(found.line)
        and (found.column is None or _is_span(found.column))
    )


def _is_severity(value: object) -> bool:
    return isinstance(value, str) and value in _SEVERITIES


def _is_span(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    first, last = value
    return isinstance(first, int) and isinstance(last, int) and first <= MAX_LINE and last <= MAX_LINE


def _wrong_with(reply: Reply, request: Request) -> EngineError | None:
    try:
        check_storable(reply.data)
    except EngineError as error:
        return error
    if reply.data is not None and not _can_be_written(reply.data):
        return Invalid("the reply holds a number that is too long to be kept")
    match request.output:
        case "findings":
            return _wrong_findings(reply, request)
        case "schema" if request.schema is not None:
            try:
                check_schema(reply.data, request.schema)
            except EngineError as error:
                return error
        case "text" if reply.text is None:
            return Invalid("the reply has no text", next="ask for another `output`, or look at the log")
        case "change" if reply.change is None:  # whether it may be empty is judged where it is measured
            return Invalid("the reply holds no change")
    return None


def record_of(error: EngineError) -> ErrorRecord:
    """Turn an engine's error into the record that is stored and shown."""
    known = get_args(ErrorKind)
    kind: ErrorKind = cast("ErrorKind", error.kind) if error.kind in known else "internal"
    return ErrorRecord(kind, error.said, error.where, error.next, error.retry_helps)


def _can_be_written(data: object) -> bool:
    """A number of thousands of digits is not: Python does not turn it into text."""
    try:
        write_json(data)
    except ValueError:
        return False
    return True


def _wrong_findings(reply: Reply, request: Request) -> EngineError | None:
    for finding in reply.findings:
        if finding.file.startswith("/") or ".." in finding.file.split("/"):
            return Invalid(f"a finding names a file outside the project: `{finding.file}`")
        if finding.line[0] < 1 or finding.line[1] < finding.line[0]:
            return Invalid(f"a finding in `{finding.file}` has the impossible lines {finding.line}")
    return None
