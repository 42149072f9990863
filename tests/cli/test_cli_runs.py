"""`parallelai runs …`: on runs that have ended, and on one that another process carries out."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parallelai import __version__
from parallelai.cli.following import Story, Told
from parallelai.cli.listings import attempt_lines
from parallelai.cli.words import WORDS, said_of, said_of_wait, told
from parallelai.client.runs import AttemptLog
from parallelai.events import (
    TYPES,
    AttemptEnded,
    AttemptReserved,
    Event,
    EventData,
    GateEnded,
    SessionOpened,
)
from parallelai.records import FREE, ErrorRecord, LimitKey, Reply, Usage
from parallelai.run.report import Report
from running import start_program


class Live:
    """A run that another process carries out; its tasks wait until they are let go, each by its fifo."""

    def __init__(self, root: Path, program: subprocess.Popen[str]) -> None:
        self.root = root
        self.program = program
        self.events: list[dict[str, Any]] = []
        self.run = self.until("run.created")["run"]

    def until(self, kind: str, task: str | None = None, **data: Any) -> dict[str, Any]:
        """Read events until one is as said."""
        assert self.program.stdout is not None
        for line in self.program.stdout:
            event: dict[str, Any] = json.loads(line)
            self.events.append(event)
            if (
                event["type"] == kind
                and task in (None, event.get("task"))
                and data.items() <= event["data"].items()
            ):
                return event
        raise AssertionError(f"it ended without {kind}: {self.events[-3:]}")

    def release(self, task: str) -> None:
        """Let a task end; it must have started."""
        with (self.root / f"{task}.fifo").open("w") as fifo:
            fifo.write(f"{task} was let go\n")

    def end(self) -> int:
        """Read to the end, and give the exit code."""
        assert self.program.stdout is not None
        self.events += map(json.loads, self.program.stdout)
        return self.program.wait(timeout=60)


PLAN = """\
version: 1
limits: {parallel: 1, grace: 0.1}
engines: {wait: {use: command, command: [sh, -c, 'read -r task; cat "$task.fifo"']}}
tasks:
  - {id: one, description: one, engine: wait}
  - {id: two, description: two, engine: wait, depends_on: one}
"""


@pytest.fixture
def live(here: Path) -> Iterator[Live]:
    for task in ("one", "two", "three"):
        os.mkfifo(here / f"{task}.fifo")
    (here / "live.yaml").write_text(PLAN.replace("read -r task; cat", "task=$(head -1); cat"))
    with start_program(here, "execute", "live.yaml", "--events", "-") as program:
        try:
            found = Live(here, program)
            found.until("attempt.started", "one")
            yield found
        finally:
            program.kill()


@pytest.fixture
def done(cli: Any, plan: Path) -> str:
    """A run that has ended well."""
    called = cli("execute", plan, "--json")
    assert called.code == 0
    run: str = called.document["run"]
    return run


# -- runs that have ended


def test_list_the_newest_first(cli: Any, here: Path, plan: Path, done: str) -> None:
    second = cli("execute", plan, "--json").document["run"]
    cli("review", "a.py")

    called, document = cli("runs", "list"), cli("runs", "list", "--json").document

    rows = called.out.splitlines()
    assert (called.code, called.err, len(rows)) == (0, "", 3)
    assert [row.split()[0] for row in rows[1:]] == [second, done]
    assert rows[1].split()[3:] == ["ok", "plan.yaml", "2", "ok"]
    assert [row["id"] for row in document["runs"]][1:] == [second, done]
    assert {row["state"] for row in document["runs"]} == {"ok"}
    assert cli("runs", "list", "--limit", "1").out.splitlines() == rows[:1]


def test_show_is_what_execute_printed(cli: Any, plan: Path) -> None:
    executed = cli("execute", plan, "--json")
    run = executed.document["run"]

    for words in (["show"], ["show", run], ["show", run[:-2]]):
        assert cli("runs", *words, "--json").document == executed.document
    assert run in cli("runs", "show").out
    assert json.loads(cli("runs", "show", "--format", "sarif").out)["version"] == "2.1.0"


def test_show_into_a_file(cli: Any, here: Path, done: str) -> None:
    called = cli("runs", "show", "--output", "run.json")

    assert (called.code, called.out, called.err) == (0, "", "written to run.json\n")
    assert json.loads((here / "run.json").read_text())["run"] == done
    assert cli("runs", "show", "--output", "no/run.json").code == 2


VERBS = ("show", "logs", "resume", "cancel", "pause", "export", "delete")


@pytest.mark.parametrize("verb", VERBS)
def test_without_any_run(cli: Any, here: Path, verb: str) -> None:
    called = cli("runs", verb, "--json", "--yes")

    assert called.code == 2
    assert called.error["said"] == "there is no run here yet"
    assert not (here / ".parallelai/state").exists()


@pytest.mark.parametrize("verb", [*VERBS, "compare", "retry"])
@pytest.mark.parametrize("run", ["r-nope", "../../etc", "r-20200101-00000000"])
def test_a_run_that_is_not_there(cli: Any, done: str, verb: str, run: str) -> None:
    called = cli("runs", verb, run, *(["x"] if verb in ("compare", "retry") else []), "--json", "--yes")

    assert called.code == 2, called
    assert called.error["kind"] in ("not_found", "usage")


def test_who_does_it_and_why_is_said_again_where_a_run_goes_on(cli: Any, here: Path, plan: Path) -> None:
    text = plan.read_text() + "  - {id: look, description: look, files: a.py, template: code-review}\n"
    plan.write_text(text)
    first = cli("execute", plan)
    named, auto = first.err.splitlines()[1:3]
    assert (named, auto.split()[:2]) == ("engine: `mock` (plan), 2 tasks", ["engine:", "`analyzers`"])

    for words in (["runs", "resume"], ["runs", "resume", "--json"], ["execute", plan, "--resume"]):
        again = cli(*words).err.splitlines()
        assert again[1:3] == [named, auto.replace("), 1", "; as in the run so far), 1")], words
    found = {
        row["id"]: (row["engine"], row["why"]) for row in cli("runs", "resume", "--json").document["tasks"]
    }
    assert found == {
        "one": ("mock", "plan"),
        "two": ("mock", "plan"),
        "look": ("analyzers", auto.partition("(")[2].removesuffix("), 1 task")),
    }
    assert "(argument)" in cli("runs", "resume", "--engine", "analyzers").err


def test_a_resume_with_nothing_left_to_do_says_so_and_takes_no_time(cli: Any, done: str) -> None:
    seconds = cli("runs", "show", "--json").document["seconds"]
    called = cli("runs", "resume")

    assert called.err.splitlines()[-1] == "nothing was left to do"
    assert "resume" not in cli("execute", "plan.yaml").err
    assert cli("runs", "resume", done, "--json").document["seconds"] == seconds


def test_only_attempts_that_finished_count_for_the_speed_up() -> None:
    report = Report()
    ends = (("ok", True, None), ("bad", False, ErrorRecord("refused", "no")), ("cancelled", False, None))
    for task, is_ok, error in ends:
        report.take(Event("r-1", 1, "", "", AttemptEnded("sh", is_ok, 13.0, FREE, None, error), task, 1))
    assert report.seconds_one_by_one == 26.0


def test_a_review_that_goes_on_says_it_too(cli: Any, here: Path) -> None:
    (here / "parallelai.toml").write_text("[engines.x]\nuse = 'mock'\n")
    assert cli("review", "a.py").code == 0
    said = cli("review", "a.py", "--resume").err
    assert said.count("engine: `analyzers` (auto: ") == 1
    assert "; as in the run so far)" in said
    assert said.count("note: not trusted, so ignored") == 1


def test_logs_are_the_events(cli: Any, done: str) -> None:
    called, document = cli("runs", "logs"), cli("runs", "logs", done, "--json").document

    lines = [line.partition(" ")[2] for line in called.out.splitlines()]
    kinds = [event["type"] for event in document["events"]]
    assert (kinds[0], kinds[-1], document["run"]) == ("run.created", "run.ended", done)
    assert (len(lines), "{" in called.out) == (len(kinds), False), "a line for each, and no data"
    assert lines[:3] == [
        f" run of plan.yaml, by version {__version__}",
        " started, at most 50 at once",
        " 2 tasks",
    ]
    assert "one  attempt 1 by mock started" in lines
    assert any(re.fullmatch(r"two  attempt 1 by mock ended, .+ s", line) for line in lines)
    assert re.fullmatch(r" the run ended, ok \(exit 0\): 2 ok, .+ s", lines[-1])
    assert cli("runs", "logs", "--follow").out == called.out
    followed = [json.loads(line) for line in cli("runs", "logs", "--follow", "--json").out.splitlines()]
    assert followed == document["events"]


def test_what_an_assistant_does_is_told_when_it_does_it(tmp_path: Path) -> None:
    def told(lines: Iterable[Told]) -> list[str]:
        return [f"{line.at} {line.task} {line.words}" for line in lines]

    def happened(at: str, seq: int, data: EventData) -> list[str]:
        return told(story.take(Event("r-1", seq, at, data.type, data, "fix", 1)))

    story, stream = Story(tmp_path), tmp_path / "attempts/7.jsonl"
    stream.parent.mkdir()
    assert happened("01", 7, AttemptReserved("codex", LimitKey("codex"), "plan")) == [
        "01 fix attempt 1 by codex is due (plan)"
    ]
    stream.write_text(
        '{"at":"02","type":"text","delta":"I look\\nat "}\n{"at":"02","type":"text","delta":"it"}\n'
        '{"at":"03","type":"tool","id":"1","name":"shell","args":{"command":"ls"},"state":"started"}\n'
        '{"at":"05","type":"text","delta":"do'
    )
    assert happened("02", 8, SessionOpened("s1")) == ["02 fix session s1"], "it is still saying it"
    assert told(story.written()) == ["02 fix says: at it", "03 fix [shell] ls"], "of several lines the last"
    assert told(story.written()) == [], "once"
    with stream.open("a") as file:
        file.write('ne"}\n')
    failed = AttemptEnded(
        "codex", False, 3.0, Usage(9, 0, 1, 0, 0.02, "prices"), None, ErrorRecord("refused", "no\nmore")
    )
    assert happened("06", 9, failed) == [
        "05 fix says: done",
        "06 fix attempt 1 by codex failed after 3.00 s, 9 tokens in, 1 out, 0.02 USD: refused: no",
    ]
    story.close()


def test_a_canary_that_fails_is_told_to_be_right() -> None:
    ended = GateEnded("canary: make", "c", True, 2, 1.5, "gates/1.log", why="a canary: it has to fail")
    said = told(Event("r-1", 1, "", ended.type, ended, None, None))
    assert said == "gate `canary: make` failed, 1.50 s, as it has to; see `gates/1.log`"


def test_every_event_has_words() -> None:
    special = (said_of, said_of_wait, told)
    known = {name for each in special for name in each.__code__.co_names} | {kind.__name__ for kind in WORDS}
    assert {kind.__name__ for kind in TYPES.values()} <= known


def test_logs_of_an_attempt_are_its_answer_where_nothing_was_streamed(tmp_path: Path) -> None:
    told = ErrorRecord("rejected", "401 wrong key")
    log = AttemptLog("ask", 2, "api", tmp_path / "7.jsonl")
    assert attempt_lines(replace(log, reply=Reply("it is\nfine")))[1:] == ["it is", "fine"]
    assert attempt_lines(replace(log, error=told))[1:] == ["[error] rejected: 401 wrong key"]
    assert attempt_lines(log)[1:] == ["  (it printed nothing)"]

    turn = '{"type":"text","delta":"did "}\n{"type":"text","delta":"it"}\n{"type":"final","ok":true}\n'
    log.path.write_text(turn * 2)
    assert attempt_lines(replace(log, reply=Reply("did it"))) == [
        "ask, attempt 2, `api`",
        "did it",
        "did it",
    ]


def test_logs_of_a_task_are_what_it_printed(cli: Any, here: Path) -> None:
    (here / "say.yaml").write_text(
        "version: 1\ndefaults: {retries: 0}\n"
        "engines: {sh: {use: command, command: [sh, -c, 'printf \"\\033[31mred\\n\"; echo bad >&2; exit 3']}}\n"
        "tasks: [{id: say, description: x, engine: sh}]\n"
    )
    assert cli("execute", "say.yaml").code == 4

    called, document = cli("runs", "logs", "say"), cli("runs", "logs", "say", "--json").document

    assert called.code == 0
    heading, *printed, error = called.out.splitlines()
    assert heading == "say, attempt 1, `sh`"
    assert sorted(printed) == ["bad", "red"], "of two pipes, whose order is not known"
    assert error == "[error] internal: `sh` ended with exit 3: bad"
    (attempt,) = document["attempts"]
    assert (attempt["task"], attempt["error"]["kind"]) == ("say", "internal")
    assert cli("runs", "logs", "nobody").code == 2


def test_export_is_lines_of_json_by_the_contract(cli: Any, here: Path, done: str) -> None:
    lines = cli("runs", "export").out.splitlines()
    events = [json.loads(line) for line in lines]

    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {"v", "run", "seq", "at", "type", "data"} <= set(events[0])
    cli("runs", "export", done, "--output", "events.jsonl")
    assert (here / "events.jsonl").read_text().splitlines() == lines
    assert cli("runs", "export", "--json").document["events"] == events


def test_compare_two_reviews(cli: Any, here: Path) -> None:
    first = cli("review", "--json").document["run"]
    (here / "a.py").write_text("x = 1\n")
    (here / "src/b.py").write_text("assert 1\n")
    second = cli("review", "--json").document["run"]

    called, document = cli("runs", "compare", first, second), cli("runs", "compare", first, "--json").document

    assert called.out.splitlines() == [
        "1 fixed, 1 new, 1 stayed",
        "- a.py:2 low S101: Use of `assert` detected",
        "+ src/b.py:1 low S101: Use of `assert` detected",
    ]
    assert [len(document[key]) for key in ("fixed", "new", "stayed")] == [1, 1, 1]


def test_compare_two_runs_without_findings(cli: Any, here: Path) -> None:
    plan = here / "two.yaml"
    plan.write_text(
        "engines: {sh: {use: command, command: [echo, x]}, no: {use: command, command: ['false']}}\n"
        "tasks: [{id: a, description: x, engine: sh}, {id: b, description: x, engine: no}]\n"
    )
    first = cli("execute", "two.yaml", "--json").document["run"]
    plan.write_text(plan.read_text().replace("engine: no", "engine: sh"))
    second = cli("execute", "two.yaml", "--json").document["run"]

    called, document = cli("runs", "compare", first, second), cli("runs", "compare", first, "--json").document

    assert re.fullmatch(r"a: ok, [\d.]+ s → [\d.]+ s\nb: failed → ok, [\d.]+ s → [\d.]+ s\n", called.out)
    assert [task["status"] for task in document["tasks"]] == [["ok", "ok"], ["failed", "ok"]]


@pytest.mark.parametrize("words", [["delete"], ["prune", "--keep", "0"]])
def test_nothing_is_deleted_unless_somebody_says_yes(
    cli: Any, done: str, words: list[str], monkeypatch: Any
) -> None:
    called = cli("runs", *words, "--json")

    assert called.code == 2
    assert "`--yes`" in called.error["next"]
    assert cli("runs", "show", done).code == 0
    assert cli("runs", *words, "--yes", "--json").document == {"deleted": [done], "kept": []}
    assert cli("runs", "list").out == "no run yet\n"


def test_prune_keeps_the_newest(cli: Any, plan: Path, done: str) -> None:
    second = cli("execute", plan, "--json").document["run"]

    assert cli("runs", "prune", "--yes").out == "deleted no runs\n"
    assert cli("runs", "prune", "--keep", "1", "--yes").out == f"deleted {done}\n"
    assert [row["id"] for row in cli("runs", "list", "--json").document["runs"]] == [second]
    assert cli("runs", "prune", "--keep", "-1", "--yes").code == 2


def test_resume_of_what_is_done_gives_its_result(cli: Any, plan: Path, done: str) -> None:
    called = cli("runs", "resume", "--json")

    assert called.code == 0
    assert called.document["run"] == done


def test_resume_says_what_is_left(cli: Any, here: Path) -> None:
    (here / "half.yaml").write_text(
        "version: 1\nengines: {no: {use: command, command: ['false']}, sh: {use: command, command: [cat]}}\n"
        "tasks: [{id: a, description: x, engine: sh}, {id: b, description: y, engine: no}]\n"
    )
    assert cli("execute", "half.yaml").code == 4

    called = cli("runs", "resume", "--dry-run")
    (here / "half.yaml").write_text((here / "half.yaml").read_text().replace("engine: no}", "engine: sh}"))

    assert called.out.startswith("b\n1 left of run r-")
    assert cli("runs", "resume", "--new").code == 2
    assert cli("runs", "resume").code == 0


@pytest.mark.parametrize(
    "words", [["cancel"], ["pause"], ["retry", "one"], ["add", "say hello", "--id", "three"]], ids=" ".join
)
def test_what_nobody_carries_out_cannot_be_steered(cli: Any, done: str, words: list[str]) -> None:
    called = cli("runs", *words, "--json")

    assert called.code == 2
    assert called.error["said"] == f"run `{done}` has ended, ok"
    assert called.error["next"] == f"`parallelai runs show {done}` shows it"


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_of_a_run_that_ended_badly_more_can_be_done(cli: Any, here: Path, verb: str) -> None:
    (here / "bad.yaml").write_text(
        "engines: {sh: {use: command, command: [sh, -c, exit 3]}}\n"
        "tasks: [{id: bad, description: x, engine: sh}]\n"
    )
    run = cli("execute", "bad.yaml", "--json").document["run"]

    error = cli("runs", verb, "--json").error

    assert error["said"] == f"run `{run}` has ended, failed"
    assert error["next"] == f"`parallelai runs resume {run}` goes on with what is left"


# -- a run that another process carries out


def test_a_live_run_is_seen(cli: Any, live: Live) -> None:
    (row,) = cli("runs", "list", "--json").document["runs"]
    shown, document = cli("runs", "show"), cli("runs", "show", "--json").document

    assert (row["id"], row["state"]) == (live.run, "running")
    assert shown.code == 0
    assert f"run {live.run} is running; this is where it stands" in shown.err
    assert "2 tasks have not ended (1 at work, 1 waiting):\n" in shown.err
    assert shown.out.startswith("no task has ended yet")
    assert document["run"] == live.run
    assert cli("runs", "logs").out.count("started\n") == 1
    assert cli("runs", "delete", "--yes", "--json").error["kind"] == "busy"
    assert cli("runs", "prune", "--keep", "0", "--yes").out == "deleted no runs\n"
    assert cli("execute", "live.yaml", "--resume", "--json").error["kind"] == "busy"


def test_a_live_run_is_followed_to_its_end(live: Live) -> None:
    with start_program(live.root, "runs", "logs", "-f", "--json") as follower:
        assert follower.stdout is not None
        first = json.loads(follower.stdout.readline())
        live.release("one")
        live.until("attempt.started", "two")
        live.release("two")
        assert live.end() == 0
        rest = [json.loads(line) for line in follower.stdout]
        assert follower.wait(timeout=60) == 0

    assert first["type"] == "run.created"
    assert rest[-1]["type"] == "run.ended"
    assert [first, *rest] == live.events


def test_pause_and_resume(cli: Any, live: Live) -> None:
    paused = cli("runs", "pause", "--json")
    live.until("run.paused")
    live.release("one")
    live.until("task.ended", "one")
    listed, shown = cli("runs", "list").out, cli("runs", "show").err
    resumed = cli("runs", "resume", "--json")
    live.until("attempt.started", "two")
    live.release("two")

    assert paused.code == resumed.code == 0
    assert set(paused.document) == set(resumed.document) == {"said"}
    assert live.run in resumed.document["said"]
    assert "  paused  " in listed
    assert f"run {live.run} is paused; `parallelai runs resume {live.run}` lets it go on" in shown
    assert live.end() == 0


def test_add_a_task(cli: Any, live: Live) -> None:
    called = cli("runs", "add", live.run, "three", "--id", "three", "--engine", "wait", "--after", "one")
    twice = cli("runs", "add", "three", "--id", "three", "--engine", "wait", "--json")
    wrong = cli("runs", "add", "x", "--id", "four", "--after", "nobody", "--json")
    live.release("one")
    live.until("attempt.started", "two")
    live.release("two")
    live.until("attempt.started", "three")
    live.release("three")

    assert called.code == 0
    assert (twice.code, wrong.code) == (2, 2)
    assert live.end() == 0
    assert cli("runs", "show", "--json").document["counts"]["ok"] == 3


def test_cancel_a_task_then_the_rest(cli: Any, live: Live) -> None:
    assert cli("runs", "cancel", "two").code == 0
    live.until("task.ended", "two")
    assert cli("runs", "cancel", live.run).code == 0

    assert live.end() == 4
    assert cli("runs", "show", "--json").document["counts"]["cancelled"] == 2


def test_retry_of_nothing(cli: Any, live: Live) -> None:
    assert cli("runs", "cancel", "one").code == 0
    live.until("task.ended", "one")
    wrong = [cli("runs", "retry", "--json"), cli("runs", "retry", "nobody", "--json")]

    assert [called.code for called in wrong] == [2, 2]
    assert "runs retry" in wrong[0].error["next"]


def test_retry_a_task(cli: Any, live: Live) -> None:
    assert cli("runs", "cancel", "two").code == 0
    live.until("task.ended", "two")
    called = cli("runs", "retry", "two")
    live.release("one")
    live.until("attempt.started", "two")
    live.release("two")

    assert called.code == 0
    assert live.end() == 0
    assert cli("runs", "show", "--json").document["counts"]["ok"] == 2


def test_a_run_whose_process_was_killed_is_interrupted_and_goes_on(cli: Any, live: Live) -> None:
    live.program.kill()
    live.program.wait(timeout=60)

    (row,) = cli("runs", "list", "--json").document["runs"]
    shown = cli("runs", "show")
    assert row["state"] == "interrupted"
    told = shown.err[shown.err.index("2 tasks have not ended:") :]
    assert [line.split(" (")[0].strip() for line in told.splitlines()[1:]] == [
        "one: in attempt 1",
        "two: not started",
    ]
    assert f"run {live.run} is interrupted; go on with `parallelai runs resume {live.run}`" in shown.err
    (live.root / "live.yaml").write_text(
        PLAN.replace("[sh, -c, 'read -r task; cat \"$task.fifo\"']", "[cat]")
    )
    called = cli("runs", "resume", "--json")
    assert (called.code, called.document["run"]) == (0, live.run)
    assert called.document["counts"]["ok"] == 2


def test_a_secret_in_an_engines_env_is_kept_in_no_journal(cli: Any, here: Path, monkeypatch: Any) -> None:
    secret = "hunter2hunter2"
    (here / "env.yaml").write_text(
        "engines: {e: {use: command, command: [sh, -c, 'cat >/dev/null; echo \"$MY_TOKEN $MODE\"'],\n"
        f"  env: {{MY_TOKEN: {secret}, MODE: quick}}}}}}\n"
        "tasks: [{id: a, description: x, engine: e}]\n"
    )
    assert cli("execute", "env.yaml").code == 0
    exported = cli("runs", "export").out
    assert secret not in exported
    assert '"MODE":"quick"' in exported.replace(" ", "")
    for path in (here / ".parallelai" / "state").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()

    (here / "env.yaml").unlink()  # what is left is what was recorded
    monkeypatch.setenv("MY_TOKEN", secret)
    kept = cli("runs", "resume", "--json").document
    assert [task["attempts"] for task in kept["tasks"]] == [1]
