"""Findings, replies and documents for the tests of this folder."""

from __future__ import annotations

from hypothesis import strategies as st

from parallelai.records import (
    FREE,
    Change,
    Coverage,
    ErrorRecord,
    FileNote,
    Finding,
    Outcome,
    Reply,
    RunDocument,
    Severity,
    TaskResult,
    Usage,
)
from parallelai.results.collect import Reported
from parallelai.results.document import counts


def finding(file="src/a.py", line=1, **fields):
    fields = {"severity": Severity.HIGH, "message": "Something is wrong", **fields}
    place = line if isinstance(line, tuple) else (line, line)
    return Finding(file=file, line=place, **fields)


def reported(*findings, task="review", engine="analyzers"):
    return Reported(task, engine, Reply(findings=findings, usage=FREE))


def document(findings=(), tasks=(), **fields):
    fields = {
        "run": "r-20261120-7f3a",
        "plan": "tasks.yaml",
        "exit": 0,
        "outcome": Outcome.OK,
        "seconds": 1.25,
        "seconds_one_by_one": 1.25,
        "counts": counts(tasks),
        "usage": FREE,
        **fields,
    }
    return RunDocument(findings=tuple(findings), tasks=tuple(tasks), **fields)


# Text as a repository or an engine may hold it: control characters, wide and combining ones, odd line ends.
_nasty = st.sampled_from("\x00\x07\x1b\x7f\x85\x9b\t\r\n\x0b\x0c\u2028\u200d\u202e\ufeff\u0301値🙂é \u00a0")
text = st.text(st.one_of(_nasty, st.characters(exclude_categories=("Cs",))), max_size=60)
paths = st.text(st.sampled_from("abc/.é #%:\udcff"), max_size=12).map("p".__add__)
number = st.integers(min_value=0, max_value=10**9)
place = st.tuples(st.integers(1, 60), st.integers(0, 60)).map(lambda pair: (pair[0], sum(pair)))


def maybe(strategy):
    return st.none() | strategy


usages = st.builds(
    Usage,
    input=maybe(number),
    cached=maybe(number),
    output=maybe(number),
    reasoning=maybe(number),
    usd=maybe(st.floats(0, 1e6)),
    basis=st.sampled_from(["client", "prices", "subscription", "free", "unknown"]),
)
errors = st.builds(
    ErrorRecord,
    kind=st.sampled_from(["rate_limited", "rejected", "unavailable", "internal"]),
    said=text,
    where=maybe(text),
    next=maybe(text),
)
findings = st.builds(
    Finding,
    file=paths,
    line=place,
    severity=st.sampled_from(Severity),
    message=text,
    id=st.text("0123456789abcdef", max_size=12).map("f-".__add__),
    task=text,
    column=maybe(place),
    category=st.sampled_from(["security", "style", "bug", ""]),
    rule=maybe(text),
    suggestion=maybe(text),
    quote=maybe(text),
    confidence=maybe(st.floats(0, 1)),
    tier=st.sampled_from(["must", "maybe"]),
    by=st.lists(text, max_size=2).map(tuple),
    votes=st.integers(1, 5),
    state=st.sampled_from(["open", "open", "baseline", "suppressed", "refuted"]),
)
tasks = st.builds(
    TaskResult,
    id=text,
    status=st.sampled_from(Outcome),
    engine=maybe(text),
    account=maybe(text),
    model=maybe(text),
    why=maybe(text),
    attempts=st.integers(0, 5),
    turns=st.integers(0, 5),
    seconds=st.floats(0, 1e6),
    text=maybe(text),
    findings=st.integers(0, 5),
    usage=maybe(usages),
    change=maybe(
        st.builds(Change, patch=text, files=st.lists(paths, max_size=2).map(tuple), applied=st.booleans())
    ),
    error=maybe(errors),
)
_notes = st.lists(st.builds(FileNote, file=paths, why=text), max_size=3).map(tuple)
coverages = st.builds(Coverage, covered=st.lists(paths, max_size=3).map(tuple), skipped=_notes, failed=_notes)


@st.composite
def documents(draw):
    listed = draw(st.lists(tasks, max_size=4))
    return document(
        findings=draw(st.lists(findings, max_size=6)),
        tasks=listed,
        plan=draw(maybe(text)),
        exit=draw(st.sampled_from([0, 1, 3, 4, 5, 130, 143])),
        outcome=draw(st.sampled_from([Outcome.OK, Outcome.FAILED, Outcome.OVER_BUDGET, Outcome.CANCELLED])),
        seconds=draw(st.floats(0, 1e6)),
        seconds_one_by_one=draw(st.floats(0, 1e6)),
        usage=draw(usages),
        dropped={"quote_not_found": draw(number)},
        files=draw(coverages),
    )
