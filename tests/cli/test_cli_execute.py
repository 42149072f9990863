"""`parallelai execute`, and how any command ends: exit codes, errors, reports."""

from __future__ import annotations

import json
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from parallelai.client import AsyncParallelAI
from running import run_program, start_program

SCRIPT = """\
- {task: dear, usage: {input: 90000, output: 400}, text: done}
- {task: bad, error: rejected, said: "401 no key"}
- {task: flaky, attempts: [1], error: transient, said: "503"}
- {task: slow, hang: true}
- {task: found, findings: [{file: a.py, line: 2, severity: high, message: m}]}
"""


@pytest.fixture
def scripted(here: Path) -> Path:
    """A plan whose tasks the scripted mock does as they are named."""
    (here / "script.yaml").write_text(SCRIPT)
    path = here / "scripted.yaml"
    path.write_text(
        "version: 1\nengines: {m: {use: mock, args: [script.yaml]}}\ndefaults: {engine: m, retries: 0}\ntasks:\n"
        + "".join(
            f"  - {{id: {name}, description: do {name}, tags: [{name[0]}]}}\n"
            for name in ("fine", "dear", "bad", "after")
        ).replace("do after,", "do after, depends_on: bad,")
        + "  - {id: found, description: look, files: a.py, template: code-review}\n"
    )
    return path


def statuses(called: Any) -> dict[str, str]:
    return {task["id"]: task["status"] for task in called.document["tasks"]}


# -- a plan


def test_that_nothing_was_found_is_said_only_where_somebody_was_asked_to_look(cli: Any, here: Path) -> None:
    def plan(*tasks: str) -> Path:
        (here / "told.yaml").write_text(
            "version: 1\ndefaults: {engine: mock, files: a.py}\ntasks:\n" + "".join(tasks)
        )
        return here / "told.yaml"

    tells = "  - {id: tell, description: tell of it}\n"
    explains = "  - {id: explain, description: tell of it, template: explain}\n"
    looks = "  - {id: look, description: look, output: findings}\n"
    told = cli("execute", plan(tells, explains)).out
    assert "ok          tell  mock" in told
    for form in ("terminal", "markdown", "github", "html"):
        shown = cli("runs", "show", "--format", form).out
        assert ("No findings" in shown, "Nothing was found" in shown, "2 tasks" in shown) == (0, 0, 1), shown
    assert cli("runs", "show", "--json").document["files"]["covered"] == 1
    assert "No findings; 1 file looked at" in cli("execute", plan(tells, looks)).out


def test_checked_json_is_shown_and_given_to_those_who_wait_for_it(cli: Any, here: Path) -> None:
    (here / "counted.yaml").write_text(
        "version: 1\n"
        "engines:\n"
        "  counter: {use: command, command: [printf, 'Sure:\\n```json\\n{\"n\": 3}\\n```\\n']}\n"
        "  echo: {use: command, command: [cat]}\n"
        "tasks:\n"
        "  - {id: count, description: count, engine: counter, output: {schema: {type: object}}}\n"
        "  - {id: use, description: \"so <{{ tasks['count'].text }}>\", engine: echo, depends_on: count}\n"
        "  - {id: wait, description: then, engine: echo, depends_on: count}\n"
    )
    document = cli("execute", "counted.yaml", "--json").document
    count, use, wait = (task["text"] for task in document["tasks"])
    assert json.loads(count) == {"n": 3}
    assert f"so <{count}>" in use
    assert f"Task `count`:\n```\n{count}\n```" in wait
    assert '    {\n      "n": 3\n    }\n' in cli("runs", "show").out


def test_why_a_task_was_skipped_is_said(cli: Any, scripted: Path) -> None:
    scripted.write_text(
        scripted.read_text()
        + "  - {id: never, description: x, depends_on: fine, when: \"tasks['fine'].findings\"}\n"
        "  - {id: last, description: x, depends_on: after}\n"
    )
    called = cli("execute", scripted)
    lines = [line.strip() for line in called.out.splitlines()]
    told = {
        line.split()[1]: lines[number + 1] for number, line in enumerate(lines) if line.startswith("skipped ")
    }
    assert told == {
        "after": "because `bad` failed",
        "never": "because its `when` does not hold",
        "last": "because `after` was skipped",
    }


def test_an_engine_s_concurrency_that_binds_is_said_once(cli: Any, here: Path) -> None:
    (here / "p.yaml").write_text(
        "engines: {m: {use: mock, concurrency: 2}, n: {use: mock, concurrency: 3}}\n"
        "defaults: {engine: m}\nlimits: {parallel: 6}\ntasks:\n"
        + "".join(f"  - {{id: t{number}, description: x}}\n" for number in range(6))
        + "  - {id: other, description: x, engine: n}\n"
    )

    called = cli("execute", "p.yaml")

    assert called.code == 0
    told = [line for line in called.err.splitlines() if "waiting: " in line]
    assert told == ["waiting: engine `m`: 2 of 2 at work, its `concurrency`"]


def test_of_a_role_no_more_work_at_once_than_it_allows_and_that_is_said(cli: Any, here: Path) -> None:
    (here / "p.yaml").write_text(
        "engines: {m: {use: mock}}\ndefaults: {engine: m}\nlimits: {parallel: 6}\n"
        "roles: {backend: {limits: {parallel: 2}}}\ntasks:\n  - {id: other, description: x}\n"
        + "".join(f"  - {{id: b{number}, description: x, role: backend}}\n" for number in range(5))
    )
    assert cli("plan", "show", "p.yaml").out.endswith("6 at once, at most 2 of role `backend`\n")

    called = cli("execute", "p.yaml", "--events", "events.jsonl")

    assert called.code == 0
    assert called.err.count("waiting: role `backend`: 2 of 2 at work\n") == 1
    events = [json.loads(line) for line in (here / "events.jsonl").read_text().splitlines()]
    at_work, most = 0, 0
    for event in events:
        if (event["task"] or "").startswith("b"):
            at_work += (event["type"] == "attempt.reserved") - (event["type"] == "attempt.ended")
            most = max(most, at_work)
    assert (at_work, most) == (0, 2)


def test_a_vote_names_all_who_voted_and_what_is_reused_is_counted(cli: Any, here: Path) -> None:
    (here / "p.yaml").write_text(
        "engines: {m1: {use: mock}, m2: {use: mock}}\ndefaults: {engine: {vote: [m1, m2]}}\n"
        "tasks: [{id: a, description: look, files: a.py, template: code-review}]\n"
    )
    first = cli("execute", "p.yaml")
    closing = first.out.splitlines()[-1]
    assert "m1 (plan), m2 (plan)" in closing
    assert "reused" not in closing

    again = cli("execute", "p.yaml")
    assert " · 1 reused · " in again.out.splitlines()[-1]


def test_who_said_what_is_told_where_several_answered_in_words(cli: Any, here: Path) -> None:
    (here / "p.yaml").write_text(
        "engines:\n  ann: {use: command, command: [echo, yes]}\n  bob: {use: command, command: [echo, no]}\n"
        "tasks:\n  - {id: both, description: x, engine: {vote: [ann, bob]}}\n"
        "  - {id: one, description: x, engine: ann}\n"
    )
    both, one = cli("execute", "p.yaml", "--json").document["tasks"]

    assert sorted(both["text"].split("\n\n")) == ["`ann`:\nyes", "`bob`:\nno"]
    assert one["text"] == "yes\n"
    shown = [line.strip() for line in cli("runs", "show").out.splitlines()]
    assert shown[shown.index("`bob`:") + 1] == "no"


def test_a_reply_that_cannot_be_used_is_kept_and_shown(cli: Any, here: Path) -> None:
    (here / "say.py").write_text("print('I found \\x1b[31mnothing', 'sk-' + 'a' * 30)\n")
    (here / "p.yaml").write_text(
        "engines: {c: {use: command, command: [python3, say.py]}}\ndefaults: {engine: c, retries: 0}\n"
        "tasks: [{id: a, description: look, files: a.py, output: findings}]\n"
    )
    called = cli("execute", "p.yaml", "--json")

    assert called.code == 4
    error = called.document["tasks"][0]["error"]
    assert error["kind"] == "invalid"
    command = f"parallelai runs logs {called.document['run']} a"
    assert f"`{command}` shows what came" in error["next"]
    shown = cli(*command.split()[1:])
    assert "I found" in shown.out
    assert "nothing ••••" in shown.out
    assert "\x1b" not in shown.out


@pytest.mark.parametrize(
    ("of_engine", "of_plan", "place"),
    [
        (", network: off", "", "the entry of `e`"),
        ("", "workspace: {network: off}", "the `workspace`"),
    ],
)
def test_a_model_server_of_this_machine_behind_a_closed_network_is_refused_before_the_start(
    cli: Any, here: Path, of_engine: str, of_plan: str, place: str
) -> None:
    (here / "p.yaml").write_text(
        f"""engines: {{e: {{use: codex, command: ["/bin/cat"], base_url: "http://127.0.0.1:9/v1"{of_engine}}}}}
defaults: {{engine: e}}
{of_plan}
tasks: [{{id: a, description: say hello}}]
"""
    )
    called = cli("execute", "p.yaml", "--json")

    assert called.code == 2
    assert "`network: off` closes port 9 of this machine too" in called.error["said"]
    assert f"write `network: loopback` in {place}" in json.dumps(called.error, ensure_ascii=False)
    assert cli("runs", "list", "--json").document["runs"] == []


def test_a_plan_is_carried_out_and_told(cli: Any, plan: Path) -> None:
    called = cli("execute", "plan.yaml")

    assert called.code == 0
    assert called.out.splitlines()[-1].startswith("2 tasks: 2 ok · ")
    assert called.err.startswith("run r-")


def test_json_has_every_key_of_the_contract(cli: Any, plan: Path) -> None:
    document = cli("execute", plan, "--json").document

    assert list(document) == (
        [
            "schema",
            "run",
            "plan",
            "exit",
            "outcome",
            "seconds",
            "seconds_one_by_one",
            "counts",
            "usage",
            "tasks",
            "findings",
            "dropped",
            "files",
            "is_review",
        ]
    )
    assert document["plan"] == "plan.yaml"
    assert set(document["tasks"][0]) == {
        "id",
        "status",
        "engine",
        "account",
        "model",
        "why",
        "attempts",
        "turns",
        "seconds",
        "text",
        "findings",
        "usage",
        "change",
        "workstream",
        "error",
        "because",
        "voters",
        "reused",
    }


@pytest.mark.parametrize("strategy", ["dag", "parallel", "batch:2", "pipeline"])
def test_strategies(cli: Any, plan: Path, strategy: str) -> None:
    called = cli("execute", plan, "--strategy", strategy, "--parallel", "1", "--json")

    assert called.code == 0
    assert statuses(called) == {"one": "ok", "two": "ok"}


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["one"], {"one": "ok"}),
        (["two"], {"one": "ok", "two": "ok"}),
        (["first"], {"one": "ok"}),
        (["one,two"], {"one": "ok", "two": "ok"}),
        (["one", "--only", "two"], {"one": "ok", "two": "ok"}),
    ],
)
def test_only_some_tasks(cli: Any, plan: Path, only: list[str], expected: dict[str, str]) -> None:
    called = cli("execute", plan, "--only", *only, "--json")

    ended = {task: status for task, status in statuses(called).items() if status != "skipped"}
    assert (called.code, ended) == (0, expected)


def test_only_what_is_not_there(cli: Any, plan: Path) -> None:
    called = cli("execute", plan, "--only", "three", "--json")

    assert called.code == 2
    assert "three" in called.error["said"]


def test_variables_are_set_from_outside(cli: Any, here: Path) -> None:
    (here / "vars.yaml").write_text(
        "version: 1\nvars: {who: nobody, count: 1}\n"
        "tasks: [{id: t, description: 'hello {{ vars.who }} {{ vars.count + 1 }} {{ vars.more }}', engine: sh}]\n"
        "engines: {sh: {use: command, command: [cat]}}\n"
    )

    called = cli("execute", "vars.yaml", "--set", "who=a=b", "--set", "count=41", "--set", "more=", "--json")

    assert called.code == 0, called
    assert "hello a=b 42" in called.document["tasks"][0]["text"]
    assert cli("execute", "vars.yaml").code == 2
    for wrong in ("who", "=x"):
        assert "is not of the form `name=value`" in cli("execute", "vars.yaml", "--set", wrong).err


def test_a_dry_run_does_nothing(cli: Any, scripted: Path) -> None:
    called, document = cli("execute", scripted, "--dry-run"), cli("execute", scripted, "--dry-run", "--json")

    assert called.code == document.code == 0
    assert called.out.splitlines()[-1].startswith("5 to carry out, strategy dag, ")
    assert "after: `m` (plan)  after bad" in called.out
    assert [task["id"] for task in document.document["tasks"]] == ["fine", "dear", "bad", "after", "found"]
    assert cli("runs", "list").out == "no run yet\n"


def test_a_dry_run_says_what_is_wrong(cli: Any, here: Path) -> None:
    (here / "wrong.yaml").write_text("version: 1\ntasks: [{id: a}]\n")

    assert cli("execute", "wrong.yaml", "--dry-run").code == 2


def test_resume_goes_on_and_new_starts_afresh(cli: Any, scripted: Path) -> None:
    first = cli("execute", scripted, "--json")
    again = cli("execute", scripted, "--resume", "--json")
    fresh = cli("execute", scripted, "--resume", "--new", "--json")
    plain = cli("execute", scripted, "--json")

    assert [called.code for called in (first, again, fresh, plain)] == [4, 4, 4, 4]
    assert again.document["run"] == first.document["run"]
    assert len({called.document["run"] for called in (again, fresh, plain)}) == 3
    events = cli("runs", "export", first.document["run"]).out.splitlines()
    started = [event["task"] for event in map(json.loads, events) if event["type"] == "attempt.started"]
    assert (started.count("fine"), started.count("bad")) == (1, 2)


def test_resume_with_nothing_left_gives_the_result_again(cli: Any, plan: Path) -> None:
    first, again = cli("execute", plan, "--json"), cli("execute", plan, "--resume", "--json")

    assert again.code == 0
    assert again.document["tasks"] == first.document["tasks"]
    assert [row["id"] for row in cli("runs", "list", "--json").document["runs"]] == [first.document["run"]]


def test_a_plan_of_a_later_version_is_refused_with_all_its_reasons(cli: Any, here: Path) -> None:
    (here / "later.yaml").write_text(
        "version: 1\nengines: {m: {use: mock, account: a1}}\ntasks: [{id: a, description: b, engine: m}]\n"
        "workstreams: {gui: {description: G, owns: 'src/**'}}\nteam: {ana: {workstreams: [gui]}}\n"
    )

    called = cli("execute", "later.yaml")

    assert (called.code, called.out) == (2, "")
    *problems, count = called.err.splitlines()
    assert count == "2 problems"
    assert all(problem.startswith("later.yaml:") for problem in problems)
    assert all("cannot carry it out yet" in problem for problem in problems)


def test_all_problems_are_listed_with_their_places(cli: Any, here: Path) -> None:
    (here / "broken.yaml").write_text(
        "version: 1\ntasks:\n  - {id: a, description: x, depend_on: b}\n  - {id: a, description: y}\n"
    )

    called, document = cli("execute", "broken.yaml"), cli("execute", "broken.yaml", "--json")

    assert called.code == document.code == 2
    *problems, count = called.err.splitlines()
    assert count == f"{len(problems)} problems"
    assert [problem.split(": ")[0] for problem in problems] == [
        problem["where"] for problem in document.error["problems"]
    ]
    assert {"broken.yaml:3:29", "broken.yaml:4:10"} == {problem.split(": ")[0] for problem in problems}


# -- exit codes


def test_0_done(cli: Any, scripted: Path) -> None:
    assert cli("execute", scripted, "--only", "fine,found").code == 0


def test_1_found_what_fail_on_asks_for(cli: Any, scripted: Path) -> None:
    assert cli("execute", scripted, "--only", "found", "--fail-on", "high").code == 1
    assert cli("execute", scripted, "--only", "found", "--fail-on", "critical").code == 0


def test_3_nothing_could_be_attempted(cli: Any, here: Path) -> None:
    (here / "gone.yaml").write_text(
        "version: 1\nengines: {gone: {use: command, command: [no-such-program]}}\n"
        "tasks: [{id: t, description: x, engine: gone}]\n"
    )

    called = cli("execute", "gone.yaml", "--json")

    assert called.code == 3
    assert called.document["tasks"][0]["error"]["kind"] == "unavailable"


def test_4_some_failed(cli: Any, scripted: Path) -> None:
    called = cli("execute", scripted, "--json")

    assert called.code == 4 == called.document["exit"]
    assert statuses(called) == {
        "fine": "ok",
        "dear": "ok",
        "bad": "failed",
        "after": "skipped",
        "found": "ok",
    }
    failed = called.document["tasks"][2]["error"]
    assert (failed["kind"], failed["said"], failed["where"]) == (
        "rejected",
        "401 no key",
        "scripted.yaml:7:5",
    )
    shown = cli("execute", scripted)
    assert "401 no key" in shown.out
    assert "go on with `parallelai runs resume r-" in shown.err


def test_5_the_budget_is_used_up(cli: Any, scripted: Path) -> None:
    called = cli(
        "execute", scripted, "--only", "dear,found", "--budget", "1ktok", "--parallel", "1", "--json"
    )

    assert called.code == 5
    assert "over_budget" in statuses(called).values()
    assert f"go on with `parallelai runs resume {called.document['run']} --budget …`" in called.err
    again = cli("runs", "resume", "--budget", "1ktok")
    assert again.code == 5
    assert "nothing was left to do" not in again.err
    on = cli("runs", "resume", "--budget", "5Mtok", "--json")
    assert on.code == 0
    assert set(statuses(on).values()) == {"ok"}


def test_what_a_budget_would_have_needed_is_foretold(cli: Any, here: Path) -> None:
    (here / "script.yaml").write_text("- {task: '*', usage: {input: 1000000, output: 0}, text: done}\n")
    (here / "p.yaml").write_text(
        "engines: {m: {use: mock, args: [script.yaml], price: {input: 2.0, output: 1.0}}}\n"
        "defaults: {engine: m}\nlimits: {parallel: 1, budget: {usd: 3}}\n"
        "tasks: [" + ", ".join(f"{{id: t{n}, description: x}}" for n in range(4)) + "]\n"
    )
    called = cli("execute", "p.yaml")

    assert called.code == 5
    over = sum(line.startswith("over_budget ") for line in called.out.splitlines())
    assert over in {2, 3}
    assert f"about {2 * over:.2f} USD more for {over} tasks, by what the others took" in called.err


@pytest.mark.parametrize("budget", ["10", "usd", "10usd,20usd", "-1usd", "1e999usd"])
def test_2_a_budget_that_is_none(cli: Any, plan: Path, budget: str) -> None:
    called = cli("execute", plan, f"--budget={budget}", "--json")

    assert called.code == 2, called
    assert called.error["said"].startswith("`budget`: ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_130_and_143_it_was_stopped(here: Path, scripted: Path, number: int, code: int) -> None:
    (here / "slow.yaml").write_text(
        "version: 1\nlimits: {grace: 0.1}\nengines: {m: {use: mock, args: [script.yaml]}}\n"
        "tasks: [{id: slow, description: x, engine: m}]\n"
    )
    with start_program(here, "execute", "slow.yaml", "--events", "-", "--json") as program:
        assert program.stdout is not None
        lines = []
        for line in program.stdout:
            lines.append(json.loads(line))
            if lines[-1].get("type") == "attempt.started":
                program.send_signal(number)
        program.wait(timeout=60)

    assert program.returncode == code
    assert lines[-1]["exit"] == code
    assert lines[-1]["outcome"] == "cancelled"


def test_who_stops_what_is_done_all_the_same_is_not_told_to_go_on(here: Path) -> None:
    (here / "slow.yaml").write_text(
        "engines: {sh: {use: command, command: [sh, -c, 'until [ -e go ]; do sleep 0.02; done']}}\n"
        "tasks: [{id: slow, description: x, engine: sh}]\n"
    )
    with start_program(here, "execute", "slow.yaml", "--events", "-") as program:
        assert program.stdout is not None
        for line in program.stdout:
            kind = json.loads(line)["type"] if line.startswith("{") else ""
            if kind == "attempt.started":
                program.send_signal(signal.SIGINT)
            elif kind == "run.stopping":
                (here / "go").touch()
        program.wait(timeout=60)
        told = program.stderr.read() if program.stderr is not None else ""

    assert program.returncode == 130
    assert "go on with" not in told


# -- failures


def test_an_unexpected_failure_gives_a_report_and_no_traceback(
    cli: Any, plan: Path, reports: Path, monkeypatch: Any
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("\x1b[31ma bug\x1b[0m")

    monkeypatch.setattr(AsyncParallelAI, "carry_out_plan", breaks)
    told, document = cli("execute", plan), cli("execute", plan, "--json")

    assert told.code == document.code == 3
    assert "Traceback" not in told.err + document.err
    assert "\x1b" not in told.err
    assert told.err.startswith("error: ParallelAI failed: RuntimeError: ")
    assert document.error["kind"] == "internal"
    assert set(document.error) == {"kind", "said", "where", "next", "retry_helps"}
    written = sorted(reports.iterdir())
    assert len(written) == 2
    assert str(written[0]) in told.err + document.err
    assert "Traceback" in written[0].read_text()
    assert "arguments: ['execute'" in written[0].read_text()


def test_a_report_that_cannot_be_written(cli: Any, plan: Path, reports: Path, monkeypatch: Any) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(AsyncParallelAI, "carry_out_plan", breaks)
    monkeypatch.setattr("tempfile.tempdir", str(reports / "not-there"))

    called = cli("execute", plan)

    assert called.code == 3
    assert called.err.endswith("next: please report it\n")


@pytest.mark.parametrize(
    "content", ["", "[]", "just text", "version: 1\n", "version: 1\ntasks: []\n", "a: [\n"]
)
def test_what_is_no_plan(cli: Any, here: Path, content: str) -> None:
    (here / "p.yaml").write_text(content)

    called = cli("execute", "p.yaml", "--json")

    assert called.code == 2
    assert called.error["kind"] == "plan"
    assert called.error["where"].startswith("p.yaml")


@pytest.mark.parametrize("path", ["src", "nope.yaml", "../outside.yaml", ""])
def test_a_path_that_is_no_plan(cli: Any, here: Path, path: str) -> None:
    called = cli("execute", path, "--json")

    assert called.code == 2, called
    assert called.error["said"]


def test_a_project_that_is_not_there(cli: Any, here: Path, tmp_path: Path) -> None:
    called = cli("execute", "plan.yaml", "--project", tmp_path / "nowhere", "--json")

    assert called.code == 2
    assert "nowhere" in called.error["said"]


def test_a_failure_leaves_no_threads(cli: Any, plan: Path) -> None:
    before = set(threading.enumerate())
    cli("execute", plan)
    cli("execute", "nope.yaml")

    assert set(threading.enumerate()) <= before


def test_stdout_is_empty_on_failure_of_a_program(here: Path) -> None:
    ended = run_program(here, "execute", "nope.yaml")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "nope.yaml" in ended.stderr


def test_where_nobody_is_chosen_those_who_are_ready_are_named(
    cli: Any, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "bin" / "codex"
    client.parent.mkdir()
    client.write_text("#!/bin/sh\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent), prepend=":")
    (here / "auto.yaml").write_text("tasks: [{id: a, description: x, edits: true}]\n")
    (row,) = cli("execute", "auto.yaml", "--json").document["tasks"]
    assert re.match(
        "ready, but not chosen: .*`codex`.*; name an engine, by `--engine NAME`", row["error"]["next"]
    )
    assert "mock" not in row["error"]["next"]


def test_what_was_to_be_changed_is_not_called_unread(cli: Any, here: Path) -> None:
    (here / "p.yaml").write_text(
        "engines: {gone: {use: command, command: [no-such-agent]}}\ndefaults: {engine: gone}\n"
        "tasks: [{id: change, description: x, edits: true, files: a.py}]\n"
    )

    called = cli("execute", "p.yaml")

    assert (called.code, "1 task: 1 blocked" in called.out) == (3, True)
    assert "looked at" not in called.out
    assert "1 file failed" not in called.out
    assert cli("runs", "show", "--json").document["files"] == {"covered": 0, "skipped": [], "failed": []}
