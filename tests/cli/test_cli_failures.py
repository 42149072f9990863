"""How failures are told: the one that matters of several, in one line, as JSON too, with the right code."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from parallelai.cli.carry import carry_out
from parallelai.cli.failures import Stopped, tell
from parallelai.cli.flags import Carrying
from parallelai.cli.shared import Shared
from parallelai.client.options import CarryOut
from parallelai.errors import (
    BusyError,
    Internal,
    PlanError,
    Problem,
    StoreFullError,
    Unavailable,
    UntrustedError,
    UsageError,
)
from parallelai.results.schemas import error_schema
from running import PROGRAM, environment

KEYS = {"kind", "said", "where", "next", "retry_helps"}


@pytest.mark.parametrize(
    ("failure", "code", "kind"),
    [
        (UsageError("no"), 2, "usage"),
        (UntrustedError("no"), 2, "untrusted"),
        (BusyError("no"), 2, "busy"),
        (StoreFullError("no"), 3, "store_full"),
        (Unavailable("no"), 3, "unavailable"),
        (Internal("no"), 4, "internal"),
        (click.UsageError("no"), 2, "usage"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (Stopped(signal.SIGTERM), 143, "interrupted"),
        (RuntimeError("no"), 3, "internal"),
    ],
)
def test_every_failure_has_a_code_and_one_document(
    capsys: Any, failure: BaseException, code: int, kind: str
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert tell(failure, ["review", "--json"]) == code
    out, err = capsys.readouterr()
    document = json.loads(out)
    jsonschema.validate(document, error_schema())
    assert set(document["error"]) == KEYS
    assert document["error"]["kind"] == kind
    assert err
    assert "Traceback" not in err


def test_no_json_where_nobody_asked_for_it(capsys: Any) -> None:
    assert tell(UsageError("no", where="a.yaml:1:2", next="do that"), ["review", "--", "--json"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: a.yaml:1:2: no\n  next: do that\n")


def test_who_asked_for_json_and_quiet_is_told_once(capsys: Any) -> None:
    for words in (["--json", "-q"], ["runs", "show", "--quiet", "--json"]):
        assert tell(UsageError("no"), words) == 2
        out, err = capsys.readouterr()
        assert (json.loads(out)["error"]["said"], err) == ("no", "")
    assert tell(UsageError("no"), ["--quiet", "--", "--json"]) == 2
    assert capsys.readouterr() == ("", "error: no\n")


def test_all_problems_of_a_plan(capsys: Any) -> None:
    problems = [Problem("one", "p.yaml", 1, 2, "do"), Problem("two", "p.yaml", 3, 4)]
    assert tell(PlanError(problems), ["--json"]) == 2
    out, err = capsys.readouterr()
    assert err == "p.yaml:1:2: one; do\np.yaml:3:4: two\n2 problems\n"
    assert [problem["where"] for problem in json.loads(out)["error"]["problems"]] == [
        "p.yaml:1:2",
        "p.yaml:3:4",
    ]


def test_a_problem_that_is_in_no_file_is_told_like_any_mistake(capsys: Any) -> None:
    tell(PlanError([Problem("there is no engine `x`", next="did you mean `y`?")]), [])
    assert capsys.readouterr().err == "error: there is no engine `x`\n  next: did you mean `y`?\n"


def test_of_several_failures_the_one_that_a_user_can_do_something_about(capsys: Any) -> None:
    group = ExceptionGroup(
        "tasks", [RuntimeError("a consequence"), ExceptionGroup("in", [StoreFullError("full")])]
    )
    assert tell(group, []) == 3
    assert capsys.readouterr().err == "error: full\n"


def test_text_from_elsewhere_is_not_obeyed(capsys: Any) -> None:
    tell(UsageError("a file `\x1b]0;owned\x07`"), ["--json"])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\x07" not in out + err


def test_click_s_words_are_one_line(capsys: Any) -> None:
    tell(click.UsageError("Missing argument 'X'. Choose from:\n\tone,\n\ttwo."), [])
    assert capsys.readouterr().err.splitlines()[0] == "error: missing argument 'X'. Choose from: one, two"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_anything_runs_ends_with_its_code(here: Path, number: int, code: int) -> None:
    async def call(ai: Any, carry: CarryOut) -> None:
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()

    with pytest.raises(Stopped) as stopped:
        carry_out(Shared(), Carrying(CarryOut()), call)
    assert stopped.value.exit_code == code


def test_a_signal_counts_also_where_nobody_reads_what_is_said_of_it(here: Path, monkeypatch: Any) -> None:
    async def call(ai: Any, carry: CarryOut) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(30):
            await asyncio.Event().wait()

    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        with pytest.raises(Stopped) as stopped:
            carry_out(Shared(), Carrying(CarryOut()), call)
    assert stopped.value.exit_code == 143


def test_a_cancellation_that_no_signal_asked_for_is_passed_on(here: Path) -> None:
    async def call(ai: Any, carry: CarryOut) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        carry_out(Shared(), Carrying(CarryOut()), call)


def test_whoever_reads_the_events_may_leave_and_the_run_goes_on(here: Path, plan: Path, cli: Any) -> None:
    with subprocess.Popen(
        [*PROGRAM, "execute", str(plan), "--events", "-"],
        cwd=here, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.close()
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    assert "Traceback" not in complaint
    assert "Exception ignored" not in complaint
    assert cli("runs", "show", "--json").document["counts"]["ok"] == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_stdout_is_no_bug_of_ours(here: Path, plan: Path, cli: Any, reports: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*PROGRAM, "execute", str(plan)],
            cwd=here, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 3
    assert "is full" in ended.stderr
    assert "Exception ignored" not in ended.stderr
    assert list(reports.iterdir()) == []
    assert cli("runs", "show", "--json").document["counts"]["ok"] == 2, "the result is kept"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_events_that_cannot_be_written_do_not_end_the_run(here: Path, plan: Path, cli: Any) -> None:
    called = cli("execute", plan, "--events", "/dev/full", "--json")
    assert called.code == 0, called
    assert called.document["counts"]["ok"] == 2
    assert called.err.count("events are written no more") == 1


def test_a_terminal_without_utf8_gets_ascii(here: Path) -> None:
    (here / "p.yaml").write_text(
        "version: 1\ntasks:\n  - {id: a, description: x, engine: mock, files: '*.py', each: file}\n"
        "  - {id: b, description: y, engine: mock, depends_on: a}\n"
    )
    for command in ("plan show", "plan graph", "plan estimate", "execute"):
        ended = subprocess.run(
            [sys.executable, "-c", "from parallelai.cli import main; main()", *command.split(), "p.yaml"],
            cwd=here, env=environment(PYTHONIOENCODING="ascii"), capture_output=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended
        assert ended.stdout.isascii()
        assert b"\\u" not in ended.stdout, command


def test_a_later_flag_is_refused_by_name(cli: Any, here: Path) -> None:
    called = cli("runs", "resume", "--new")
    assert (called.code, "`--new`" in called.err) == (2, True)
