"""What test runners report: which tests passed, failed or were skipped. Pure.

Three forms are read, told apart by their content: JUnit XML (pytest, jest-junit, gradle, surefire, go-junit-report,
ctest, googletest; the form is that of Jenkins' `junit-10.xsd`), TAP 12 to 14, and the events of `go test -json`
(cmd/test2json). Reports are written by code that assistants wrote: sizes are bounded, and XML with a document type,
and so with entities, is refused.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from xml.parsers import expat

from msgspec import Struct

Status = Literal["passed", "skipped", "failed", "error"]
MAX_BYTES = 64 * 1024 * 1024
MAX_CASES = 500_000
MAX_DEPTH = 200
MAX_NAME = 1000
_WORST: Mapping[Status, int] = {"skipped": 0, "passed": 1, "failed": 2, "error": 3}
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


class BadReport(Exception):
    """A report that cannot be read, is not complete, or names no test; the text says which."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test, or all that have one id. `group` and `name` are the runner's own words (JUnit: `classname`, `name`).

    `failures` is how many of them fail, where any does.
    """

    id: str
    status: Status
    group: str = ""
    name: str = ""
    failures: int = 1

    @property
    def is_failing(self) -> bool:
        return self.status in ("failed", "error")


class Report(Struct, frozen=True):
    """All tests of one run of a gate, by their ids; of several with one id the worst counts, and how many fail."""

    cases: Mapping[str, Case]

    @property
    def failed(self) -> tuple[str, ...]:
        """The failing tests, in the report's order."""
        return tuple(each.id for each in self.cases.values() if each.is_failing)

    def count(self, status: Status) -> int:
        return sum(each.status == status for each in self.cases.values())

    @property
    def pass_rate(self) -> float | None:
        """The share of tests that passed, of all but the skipped; None where there is none."""
        counted = len(self.cases) - self.count("skipped")
        return self.count("passed") / counted if counted else None

    def without(self, folder: Path) -> Report:
        """The same tests by names without a folder's path, which PHPUnit, mocha and others put into them."""
        places = {f"{folder}/", f"{os.path.realpath(folder)}/"}

        def renamed(name: str) -> str:
            return functools.reduce(lambda left, place: left.replace(place, ""), places, name)

        if not any(place in name for name in self.cases for place in places):
            return self
        return collected(replace(case, id=renamed(name)) for name, case in self.cases.items())


def collected(cases: Iterable[Case]) -> Report:
    """Put tests together. Raises `BadReport` where there is none."""
    found: dict[str, Case] = {}
    for case in cases:
        known = found.get(case.id, case)
        worst = max(known, case, key=lambda each: _WORST[each.status])
        if known is not case and known.is_failing and case.is_failing:
            worst = replace(worst, failures=known.failures + case.failures)
        found[case.id] = worst
        if len(found) > MAX_CASES:
            raise BadReport(f"it names more than {MAX_CASES} tests")
    if not found:
        raise BadReport("it names no test")
    return Report(found)


def parse(data: bytes) -> Report:
    """Read a report. Raises `BadReport` with what is wrong with it, as the end of a sentence about it."""
    if len(data) > MAX_BYTES:
        raise BadReport(f"it is larger than {MAX_BYTES // 1024 // 1024} MiB")
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        raise BadReport("it is empty")
    if start[:1] == b"<" or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return collected(_junit(data))
    if start[:1] == b"{":
        return collected(_go(data))
    if _looks_like_tap(start):
        return collected(_tap(data.decode("utf-8", "replace")))
    raise BadReport("it is neither JUnit XML, TAP nor the output of `go test -json`")


def parse_all(files: Iterable[bytes]) -> Report:
    """Read the files of a report that is a folder, as gradle and surefire write it."""
    return collected(case for data in files for case in parse(data).cases.values())


def printed(stdout: bytes) -> Report | None:
    """Read what a runner printed, if that is a report as a whole: TAP, or the events of `go test -json`."""
    start = stdout[:4096].lstrip()
    try:
        if start.startswith((b"TAP version ", b'{"Time":', b'{"ImportPath":', b'{"Action":')):
            return parse(stdout)
    except BadReport:
        return None
    return None


def identity(where: str, group: str, name: str) -> str:
    """How a test is named in all that follows: one line, bounded, the same in each run.

    Addresses of objects, which runners put into names of parameters, differ between runs and are left out.
    """
    text = "::".join(part for part in (where, group, name) if part) or "(without a name)"
    clean = _UNSEEN.sub(" ", _ADDRESS.sub("0x…", text)).strip() or "(without a name)"
    if len(clean) <= MAX_NAME:
        return clean
    return f"{clean[: MAX_NAME - 17]}…{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"


# -- JUnit XML

_MARKS: Mapping[str, Status] = {"failure": "failed", "error": "error", "skipped": "skipped"}
_STATES: Mapping[str, Status] = {
    **dict.fromkeys(("notrun", "disabled", "skipped", "ignored", "suppressed"), "skipped"),
    **dict.fromkeys(("fail", "failed", "failure"), "failed"),
    "error": "error",
}
_NO_CLASS = ("", "test")
"""What stands for a class where there is none: Node's own runner says `test` of every test."""
_NO_SUITE = ("", "pytest")
"""What stands for a suite where there is none."""


class _Junit:
    """Takes the elements of a document as expat finds them; nothing but names is kept."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self._open: list[str] = []
        self._suites: list[tuple[dict[str, str], int]] = []
        self._case: tuple[dict[str, str], list[Status]] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        if not self._open and tag not in ("testsuites", "testsuite"):
            raise BadReport(f"it is no JUnit XML: it begins with `<{tag[:40]}>`")
        if len(self._open) > MAX_DEPTH:
            raise BadReport(f"its elements are nested more than {MAX_DEPTH} deep")
        if tag == "testsuite":
            self._suites.append((attributes, len(self.cases)))
        elif tag == "testcase":
            self._case = (attributes, [])
        elif self._case is not None and self._open[-1] == "testcase" and tag in _MARKS:
            self._case[1].append(_MARKS[tag])
        self._open.append(tag)

    def end(self, tag: str) -> None:
        tag = self._open.pop()
        if tag == "testcase" and self._case is not None:
            self._add(*self._case)
            self._case = None
        elif tag == "testsuite":
            self._end_suite(*self._suites.pop())

    def _add(self, attributes: dict[str, str], marks: list[Status]) -> None:
        if len(self.cases) >= MAX_CASES:
            raise BadReport(f"it names more than {MAX_CASES} tests")
        stated = _STATES.get((attributes.get("result") or attributes.get("status") or "").lower(), "passed")
        status = max(marks, key=_WORST.__getitem__) if marks else stated
        group, name = attributes.get("classname", ""), attributes.get("name", "")
        self.cases.append(Case(identity(self._where(attributes), group, name), status, group, name))

    def _where(self, attributes: dict[str, str]) -> str:
        """What tells tests with the same names apart: the file, or a suite named by a package's path.

        Where no class is named, it is also the suites around it.
        """
        suite = self._suites[-1][0] if self._suites else {}
        where = attributes.get("file") or suite.get("file") or ""
        group, name = attributes.get("classname", ""), suite.get("name", "")
        if group in _NO_CLASS:
            names = (each.get("name", "") for each, _ in self._suites)
            around = " > ".join(each for each in names if each not in _NO_SUITE)
            return "::".join(filter(None, (where, around)))
        return where or (name if "/" in name and not group.startswith(name) else "")

    def _end_suite(self, attributes: dict[str, str], before: int) -> None:
        """A suite that failed as a whole has no test that could say so."""
        said = [attributes.get(key, "0") for key in ("failures", "errors")]
        if len(self.cases) == before and any(each.isdigit() and int(each) for each in said):
            name = attributes.get("name", "")
            self.cases.append(Case(identity("", name, "(the whole suite)"), "error", name))


def _junit(data: bytes) -> Iterator[Case]:
    taken = _Junit()
    parser = expat.ParserCreate()
    parser.StartElementHandler = taken.start
    parser.EndElementHandler = taken.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.EntityDeclHandler = _refuse_doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BadReport(f"it is no whole XML document ({error})") from None
    except (LookupError, ValueError) as error:  # an encoding that there is not
        raise BadReport(f"it cannot be decoded ({error})") from None
    yield from taken.cases


def _refuse_doctype(*_: object) -> None:
    raise BadReport("it has a document type, which no test runner writes")


# -- TAP

_POINT = re.compile(r"(not )?ok\b(?:\s+(\d+))?(?:\s+-)?\s*(.*)")
_PLAN = re.compile(r"1\.\.(\d+)\b")
_DIRECTIVE = re.compile(r"(?<!\\)#\s*(skip|todo)\b", re.IGNORECASE)
_SUBTEST = re.compile(r"# Subtest: (.*)")


def _looks_like_tap(start: bytes) -> bool:
    first = start.decode("utf-8", "replace").splitlines()[0] if start else ""
    return first.startswith("TAP version ") or bool(_PLAN.match(first) or _POINT.match(first))


def _tap(text: str) -> Iterator[Case]:
    """TAP (testanything.org): points of subtests are indented; the plan says how many there are at the top."""
    parents: dict[int, str] = {}
    planned: int | None = None
    points = 0
    block: str | None = None
    for line in text.splitlines():
        bare = line.lstrip(" ")
        indent = len(line) - len(bare)
        if block is not None:  # a YAML block with details
            block = None if line.rstrip() == block else block
        elif bare.rstrip() == "---" and indent:
            block = " " * indent + "..."
        elif bare.startswith("Bail out!"):
            raise BadReport(f"its runner gave up: {_UNSEEN.sub(' ', bare[9:])[:200].strip() or 'no reason'}")
        elif found := _SUBTEST.match(bare):
            parents = {level: name for level, name in parents.items() if level < indent} | {indent: found[1]}
        elif (plan := _PLAN.match(bare)) and not indent:
            planned = int(plan[1][:9])
        elif point := _POINT.match(bare):
            points += not indent
            above = " > ".join(name for level, name in sorted(parents.items()) if level < indent)
            yield _tap_case(point, above)
    if planned is None or points != planned:
        raise BadReport(
            f"it is not complete: {points} tests of {planned if planned is not None else 'no plan'}"
        )


def _tap_case(point: re.Match[str], above: str) -> Case:
    words = _DIRECTIVE.split(point[3], maxsplit=1)
    directive = words[1].lower() if len(words) > 1 else ""
    name = words[0].strip() or f"test {point[2] or '?'}"
    failed = bool(point[1])
    status: Status = "skipped" if directive == "skip" or (directive and failed) else "passed"
    if failed and not directive:
        status = "failed"
    return Case(identity("", above, name), status, above, name)


# -- go test -json

_ENDS: Mapping[str, Status] = {"pass": "passed", "fail": "failed", "skip": "skipped"}


def _go(data: bytes) -> Iterator[Case]:
    """The events of `go test -json`; a test that began and did not end was stopped by a panic or a time-out."""
    found: dict[tuple[str, str], Status] = {}
    packages: dict[str, Status] = {}
    for line in data.splitlines():
        event = _go_event(line)
        package, test, action = (str(event.get(key) or "") for key in ("Package", "Test", "Action"))
        if test and action == "run":
            found.setdefault((package, test), "error")
        elif test and action in _ENDS:
            found[package, test] = _ENDS[action]
        elif package and action in ("pass", "fail"):
            packages[package] = _ENDS[action]
    for (package, test), status in found.items():
        yield Case(identity("", package, test), status, package, test)
    explained = {package for (package, _), status in found.items() if status in ("failed", "error")}
    for package, status in packages.items():
        if status == "failed" and package not in explained:  # it did not build
            yield Case(identity("", package, "(the whole package)"), "error", package)


def _go_event(line: bytes) -> Mapping[str, object]:
    """One event; what the build prints between them is none."""
    if not line.startswith(b"{"):
        return {}
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
