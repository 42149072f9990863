"""The progress of a run: its line at every width, the plain lines without a terminal, the bar on a real one."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.cli.board import Standing, clock, draw
from parallelai.cli.progress import PLAIN_SECONDS, Progress
from parallelai.cli.shared import Shared
from parallelai.events import (
    AttemptEnded,
    BudgetReached,
    BudgetWarned,
    ConflictWaited,
    ConflictWaiting,
    Event,
    RunCreated,
    RunEnded,
    RunPaused,
    RunStarted,
    TaskEnded,
    TaskExpanded,
    TaskStep,
    WorkspaceRepaired,
)
from parallelai.records import FREE, Outcome, Reply, TaskResult, Usage
from running import PROGRAM, environment, project


def event(data: Any, task: str | None = None, number: int = 1) -> Event:
    return Event("r-1", number, "2026-11-20T10:00:00Z", data.type, data, task)


def ended(task: str, status: Outcome = Outcome.OK, *, findings: int = 0, is_kept: bool = False) -> Event:
    result = TaskResult(id=task, status=status, why="plan", findings=findings)
    return event(TaskEnded(result, is_kept=is_kept), task)


def expanded(files: int, tasks: int) -> Event:
    """So many tasks with so many files each."""
    items = tuple(f"t{number}" for number in range(tasks))
    return event(TaskExpanded(items, dict.fromkeys(items, ("f",) * files) if files else {}))


def attempt(usage: Usage, *, is_cached: bool = False, notes: tuple[str, ...] = ()) -> Event:
    reply = Reply(text="x", usage=usage, notes=notes)
    return event(AttemptEnded("e", True, 1.0, usage, reply, is_cached=is_cached), "t0")


def standing(*events: Event) -> Standing:
    found = Standing()
    for one in events:
        found.take(one)
    return found


def test_counts_rate_cost_and_time_left() -> None:
    paid = attempt(Usage(1, 0, 1, 0, 0.25, "prices"))
    found = standing(expanded(100, 4), paid, ended("t0", findings=3))
    line = draw(found, 10.0, 120)
    for said in ("100/400 files", "1/4 tasks", "3 findings", "$0.25", "10 files/s", "0:30 left", "0:10"):
        assert said in line
    assert line.count("━") == 7, "a quarter of thirty cells"


def test_files_are_the_measure_only_where_every_task_has_some() -> None:
    mixed = event(TaskExpanded(("t0", "look"), {"t0": ("a", "b", "c")}))
    found = standing(mixed, ended("t0"))
    assert found.measure == ("task", 1, 0, 2)
    assert "━" * 15 + "╌" * 15 in draw(found, 1.0, 120)


def test_what_is_not_ok_is_told_and_skipped_ones_are_ok() -> None:
    found = standing(expanded(0, 3), ended("t0", Outcome.FAILED), ended("t1", Outcome.SKIPPED))
    assert "1 not ok" in draw(found, 1.0, 80)
    found.take(ended("t0"))  # somebody had it tried again
    assert (found.bad, found.done) == (0, 2)


def test_what_is_kept_from_before_is_no_speed() -> None:
    kept = [ended(f"t{number}", is_kept=True) for number in range(50)]
    found = standing(expanded(0, 100), *kept)
    assert found.seconds_left(1.0) is None
    found.take(ended("t50"))
    assert found.seconds_left(2.0) == pytest.approx(98)


def test_a_stored_reply_costs_nothing_and_an_unknown_price_is_said() -> None:
    found = standing(expanded(0, 2), attempt(Usage(1, 0, 1, 0, 5.0, "prices"), is_cached=True))
    assert "$" not in draw(found, 1.0, 120)
    found.take(attempt(Usage(1, 0, 1, 0, None, "unknown")))
    assert "$0.00 + unknown" in draw(found, 1.0, 120)


def test_added_tasks_count() -> None:
    found = standing(expanded(0, 2), event(TaskExpanded(("more",), is_addition=True)))
    assert found.total == 3


@given(
    files=st.integers(0, 5000),
    tasks=st.integers(0, 60),
    done=st.integers(0, 60),
    elapsed=st.floats(0, 1e6),
    width=st.integers(1, 200),
    is_ascii=st.booleans(),
)
def test_the_line_fits_at_every_width(
    files: int, tasks: int, done: int, elapsed: float, width: int, is_ascii: bool
) -> None:
    found = standing(expanded(files, tasks), *(ended(f"t{n}", findings=n) for n in range(min(done, tasks))))
    line = draw(found, elapsed, width, is_ascii=is_ascii)
    assert len(line) <= width
    assert "\n" not in line
    assert line.isascii() or not is_ascii
    if width >= 60:
        assert f"{found.done:,}/{found.total:,} task" in line


@pytest.mark.parametrize("width", range(24, 120, 7))
def test_what_has_no_room_is_left_out_whole_and_the_counts_stay(width: int) -> None:
    found = standing(expanded(100, 4), ended("t0", findings=3))
    line = draw(found, 10.0, width)
    said = line.lstrip("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏━╌ ").split(" · ")
    assert said == found.words(10.0)[: len(said)]
    assert said[0] == "100/400 files"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (7.4, "0:07"), (750, "12:30"), (3900, "1:05:00"), (59.7, "1:00")]
)
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


# -- without a terminal


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def told(capsys: pytest.CaptureFixture[str], shared: Shared, *batches: Sequence[Event]) -> list[str]:
    with Progress(shared) as progress:
        for batch in batches:
            progress.take(batch)
    out, err = capsys.readouterr()
    assert out == "", "progress is no result"
    return err.splitlines()


def created(**options: Any) -> Event:
    return event(RunCreated("execute", "p.yaml", "/x", "1", {}, options, ("be careful",)))


def test_every_run_says_who_does_it_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    engines = {"a": ["sh"], "b": ["sh"], "c": ["one", "two"]}
    why = {"a": "plan", "b": "plan", "c": "argument"}
    lines = told(capsys, Shared(), [created(engines=engines, why=why)])
    assert lines == [
        "run r-1",
        "engine: `sh` (plan), 2 tasks",
        "engine: `one`, `two` (argument), 1 task",
        "note: be careful",
    ]
    del engines["c"], why["c"]
    assert told(capsys, Shared(), [created(engines=engines, why=why)])[1] == "engine: `sh` (plan)"


@pytest.mark.parametrize(("count", "named", "more"), [(5, 5, []), (7, 4, ["engine: and 3 other choices"])])
def test_no_line_hides_one_line(
    capsys: pytest.CaptureFixture[str], count: int, named: int, more: list[str]
) -> None:
    tasks = [f"t{number}" for number in range(count)]
    lines = told(
        capsys, Shared(), [created(engines={t: [t] for t in tasks}, why=dict.fromkeys(tasks, "plan"))]
    )
    assert [line.partition(";")[0] for line in lines[1:-1]] == [
        *(f"engine: `{task}` (plan), 1 task" for task in tasks[:named]),
        *more,
    ]


def test_what_happens_is_told_once_and_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    note = attempt(FREE, notes=("rules \x1b[31mX are unknown",))
    events = [
        event(RunStarted(1, "h", 2, "dag", is_resume=True)),
        note,
        note,
        event(RunPaused("paused by ana")),
        event(BudgetWarned("time", 1.60388, 2)),
        event(BudgetWarned("tokens", 1_600_000, 2_000_000)),
        event(BudgetReached("usd", 5, 5)),
        event(WorkspaceRepaired("/p", "your repository was touched: `main` was moved")),
    ]
    assert told(capsys, Shared(), events) == [
        "run r-1, going on",
        "note: rules \\x1b[31mX are unknown",
        "paused by ana; `parallelai runs resume` lets it go on",
        "budget: 1.60 s of 2.00 s are used or reserved",
        "budget: 1,600,000 tokens of 2,000,000 tokens are used or reserved",
        "budget: the limit of 5 usd is reached; no new starts",
        "your repository was touched: `main` was moved: /p",
    ]


def test_who_waits_for_a_person_or_a_slot_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [("approve", "queued"), ("leave", "waiting"), ("wait", "waiting"), ("perform", "working")]
    assert told(capsys, Shared(), [event(TaskStep(*step), task="fix") for step in steps]) == [
        "`fix` waits for leave: `parallelai work approve fix`, or `parallelai work reject fix`",
        "`fix` waits for what others hold of this machine: see `parallelai work ledger`",
    ]


def test_a_workstream_that_waits_for_another_says_so_and_when_it_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    why = "`two` calls `load(path)`, which `one` removed (util.py:1)"
    events = [
        event(ConflictWaiting(("one",), "", why), task="two"),
        event(ConflictWaited(("one",)), task="two"),
        event(ConflictWaiting(("one", "six"), "`a.py`"), task="two"),
        event(ConflictWaited((), ("one", "six")), task="two"),
        event(ConflictWaited(), task="two"),
    ]
    assert told(capsys, Shared(), events) == [
        f"`two` waits for `one` to land: {why}",
        "`two` goes on: `one` has landed",
        "`two` waits for `one`, `six` to land: conflict in `a.py`",
        "`two` goes on: `one`, `six` have ended without landing",
        "`two` goes on: what it does fits again",
    ]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, Shared(is_quiet=True), [created(engines={}, why={})]) == []


def test_plain_lines_come_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = Clock()
    with Progress(Shared(), now=now) as progress:
        progress.take([event(RunStarted(1, "h", 2, "dag")), expanded(10, 100)])
        for number in range(40):
            now.seconds += PLAIN_SECONDS / 10
            progress.take([ended(f"t{number}")])
        progress.take([event(RunEnded(Outcome.OK, 0, 1.0, 1.0, {}, FREE))])
        now.seconds += PLAIN_SECONDS
        progress.take([ended("t99")])
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" files, ")[0] for line in lines] == [f"{n}00/1,000" for n in (1, 2, 3, 4)]
    assert "10/100 tasks" in lines[0]
    assert "left" in lines[0]


# -- on a terminal


def on_terminal(folder: Path, *arguments: str, **env: str) -> tuple[int, str, str]:
    """Run the command line with a terminal as stderr; gives its code, stdout and what the terminal got."""
    master, slave = pty.openpty()
    given = environment(**{"COLUMNS": "80", "TERM": "xterm-256color", **env})
    with subprocess.Popen(
        [*PROGRAM, *arguments], cwd=folder, env=given, stdin=slave, stdout=subprocess.PIPE, stderr=slave
    ) as process:
        os.close(slave)
        assert process.stdout is not None
        shown, out, streams = b"", b"", {master, process.stdout.fileno()}
        while streams:
            for stream in select.select(list(streams), [], [], 60)[0]:
                try:
                    data = os.read(stream, 65536)
                except OSError:  # Linux says so where others say that it has ended
                    data = b""
                if not data:
                    streams.discard(stream)
                elif stream == master:
                    shown += data
                else:
                    out += data
    os.close(master)
    return process.returncode, out.decode(), shown.decode()


SLOW = """\
version: 1
engines: {sh: {use: command, command: [sh, -c, "cat >/dev/null; sleep 0.6"]}}
tasks:
  - {id: one, description: x, engine: sh, output: text}
  - {id: two, description: x, engine: sh, depends_on: one}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="terminals differ")
def test_a_live_line_on_a_terminal_is_gone_in_the_end(tmp_path: Path) -> None:
    root = project(tmp_path, {"plan.yaml": SLOW})
    code, out, shown = on_terminal(root, "execute", "plan.yaml")
    assert code == 0, shown
    assert re.search(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] [━╌]+ 1/2 tasks · 0:0\d left", shown), shown
    assert "engine: `sh` (plan)" in shown
    assert "2 tasks: 2 ok" in out
    assert "\x1b" not in out
    assert shown.rstrip().endswith("\x1b[2K") or "━" not in shown.splitlines()[-1]
    assert "\x1b[?25h" in shown, "the cursor is back"


@pytest.mark.parametrize(("flags", "env"), [(("--quiet",), {}), ((), {"TERM": "dumb"})])
def test_no_live_line_where_nobody_wants_one(
    tmp_path: Path, flags: tuple[str, ...], env: dict[str, str]
) -> None:
    root = project(tmp_path, {"plan.yaml": SLOW})
    code, _, shown = on_terminal(root, "execute", "plan.yaml", *flags, **env)
    assert code == 0
    assert "\x1b" not in shown
    assert "━" not in shown
