"""Is a reply what the task asked for? Only such a reply is a success, is cached, is shown to dependents."""

from __future__ import annotations

import json
from typing import cast, get_args

from parallelai.engines.protocol import Request
from parallelai.engines.replies import check_schema, check_storable
from parallelai.errors import EngineError, Invalid
from parallelai.events.writing import write_json
from parallelai.records import ErrorKind, ErrorRecord, Reply, changed
from parallelai.run.forms import wrong_form


def wrong_with(reply: Reply, request: Request) -> EngineError | None:
    """Say what is wrong with a reply; None if nothing is.

    Engines validate what they parse; this holds for every engine, also other people's.
    """
    error = wrong_form(reply) or _wrong_with(reply, request)
    if isinstance(error, Invalid) and isinstance(reply.text, str):
        error.reply = reply.text
    return error


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


def told(reply: Reply, request: Request) -> Reply:
    """Give a reply that had to meet a schema its JSON as text: that is what people, scripts and dependents read."""
    if request.output != "schema":
        return reply
    return changed(reply, text=json.dumps(reply.data, ensure_ascii=False, indent=2))


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
    for file in dict.fromkeys(finding.file for finding in reply.findings):
        if file.startswith("/") or ".." in file.split("/"):
            return Invalid(f"a finding names a file outside the project: `{file}`")
    for finding in reply.findings:
        if finding.line[0] < 1 or finding.line[1] < finding.line[0]:
            return Invalid(f"a finding in `{finding.file}` has the impossible lines {finding.line}")
    return None
