"""One run of a gate's command in a prepared folder, and its report."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from parallelai.errors import ProgramError, Unavailable
from parallelai.work.gates.again import pytest_at
from parallelai.work.gates.ran import Ran
from parallelai.work.gates.reports import MAX_BYTES, BadReport, Report, parse, parse_all, printed

PLACEHOLDER = "{report}"
MAX_FILES = 20_000
"""How many files a report that is a folder may have."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Result:
    """What a gate said of a tree.

    Attributes:
        command: as it is shown: words of a shell, `{report}` as it was written.
        exit: None where a signal or a limit ended it, or it could not be started.
        report: the tests; None where none was asked for and none was printed, or it is no good.
        trouble: what went wrong beside tests: the time-out, a missing or broken report, the start.
        said: the end of what it printed.
        asked: whether the command has `{report}`.
        is_pytest: whether its exit codes are pytest's.
        flaky: failing tests that passed when they were run again.
        advice: what brings its program into the tree, where that does not hold it.
    """

    command: str
    exit: int | None
    seconds: float
    log: str
    report: Report | None = None
    trouble: str | None = None
    said: str = ""
    asked: bool = False
    is_pytest: bool = False
    flaky: tuple[str, ...] = ()
    advice: str | None = None

    @property
    def counted(self) -> tuple[int | None, int | None]:
        """How many tests its report has, those that were skipped left out, and how many of them passed."""
        if self.report is None:
            return None, None
        return len(self.report.cases) - self.report.count("skipped"), self.report.count("passed")

    @property
    def failing(self) -> tuple[str, ...]:
        """The tests that failed, and did so again where they were run again."""
        if self.report is None:
            return ()
        flaky = frozenset(self.flaky)
        return tuple(test for test in self.report.failed if test not in flaky)

    @property
    def passed(self) -> bool:
        """Green: no trouble, no test that fails, and exit 0 or flaky tests that explain another."""
        if self.trouble is not None or self.failing:
            return False
        return self.exit == 0 or (bool(self.flaky) and (not self.is_pytest or self.exit == 1))


def shown(argv: tuple[str, ...]) -> str:
    """A command as it is shown: quoted for a shell, but for the placeholder's braces."""
    words = (word if re.fullmatch(r"[\w@%+=:,./{}-]+", word) else shlex.quote(word) for word in argv)
    return " ".join(words)


def asks_for_report(argv: tuple[str, ...]) -> bool:
    return any(PLACEHOLDER in word for word in argv)


class Folder(Protocol):
    """A prepared folder, for one use. `temporary` is a folder of this use alone."""

    temporary: Path

    async def run(self, argv: tuple[str, ...], seconds: float, log: Path) -> Ran:
        """Run a command at its top. Raises `EngineError`, `ProgramError`."""


async def run_gate(tree: Folder, argv: tuple[str, ...], seconds: float, log: Path, *, name: str) -> Result:
    """Run a gate's command in a folder; what goes wrong in the tree is in the result.

    `name` is how the log is called in the result. Raises `Unavailable` where the machine lacks the program,
    `EngineError` where it cannot be confined as asked, and OSError where no log can be written.
    """
    place = tree.temporary / "report.xml"
    given = tuple(word.replace(PLACEHOLDER, str(place)) for word in argv)
    result = Result(
        shown(argv), None, 0.0, name, asked=asks_for_report(argv), is_pytest=pytest_at(argv) is not None
    )
    try:
        ran = await tree.run(given, seconds, log)
    except ProgramError as error:
        if "/" not in given[0]:  # the machine lacks it, whatever the tree holds
            raise Unavailable(error.said, next=error.next) from None
        return replace(result, trouble=f"it could not be run: {error.said}")
    result = replace(result, exit=ran.exit, seconds=ran.seconds, said=ran.said, trouble=_limit(ran, seconds))
    if not result.asked:
        is_whole = not ran.is_truncated and result.trouble is None
        return replace(result, report=printed(ran.stdout) if is_whole else None)
    try:
        return replace(result, report=await asyncio.to_thread(read_report, place))
    except BadReport as error:
        trouble = result.trouble or f"its report (`{PLACEHOLDER}`) is no good: {error}"
        return replace(result, trouble=trouble)


def _limit(ran: Ran, seconds: float) -> str | None:
    if ran.ended_by is None:
        return None
    if ran.ended_by == "timeout":
        return f"it was not done after {seconds:g} s"
    if ran.ended_by == "memory":
        return "it took more memory than it may"
    return f"it was ended by {ran.ended_by}"


def read_report(place: Path) -> Report:
    """Read a report: a file, or a folder of XML files. Nothing is read through a link, and no more than bounded.

    Raises `BadReport`.
    """
    try:
        opened = os.open(place, _READ)
    except FileNotFoundError:
        raise BadReport("it was not written") from None
    except OSError as error:
        raise BadReport(f"it cannot be read ({error.strerror})") from None
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            return parse(_content(opened, MAX_BYTES))
        return parse_all(_files(opened))
    except OSError as error:
        raise BadReport(f"it cannot be read ({error.strerror})") from None
    finally:
        os.close(opened)


def _content(opened: int, room: int) -> bytes:
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        raise BadReport("it is no plain file")
    with os.fdopen(os.dup(opened), "rb") as file:
        data = file.read(room + 1)
    if len(data) > room:
        raise BadReport(f"it is larger than {MAX_BYTES // 1024 // 1024} MiB")
    return data


def _files(folder: int) -> list[bytes]:
    names = sorted(name for name in os.listdir(folder) if name.endswith(".xml"))
    if len(names) > MAX_FILES:
        raise BadReport(f"it has more than {MAX_FILES} files")
    found: list[bytes] = []
    for name in names:
        opened = os.open(name, _READ, dir_fd=folder)
        try:
            found.append(_content(opened, MAX_BYTES - sum(map(len, found))))
        finally:
            os.close(opened)
    return found
