"""The command engine, with real small programs: good ones, and every way of being bad."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from parallelai.engines.commands.command import CommandEngine
from parallelai.engines.conformance import CollectingPort
from parallelai.engines.context import EngineContext
from parallelai.engines.protocol import FinalEvent, Request, TextEvent, Workspace
from parallelai.errors import (
    ConfigError,
    Internal,
    Invalid,
    StoreFullError,
    TimedOut,
    Transient,
    Unavailable,
)
from parallelai.plan.model import EngineEntry
from parallelai.records import FREE, Reply

FINDING = {"file": "src/a.py", "line": 3, "severity": "high", "message": "bad"}


class Asker:
    """Runs Python programs as engines in a folder of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = CollectingPort()
        self.request = Request(
            run="r-1", task="t", attempt=1, root=str(root), prompt="the prompt", grace_seconds=0.2
        )

    def engine(self, *argv: str, **keys: object) -> CommandEngine:
        entry = EngineEntry(use="command", command=argv or None, **keys)
        return CommandEngine("sh", entry, EngineContext(self.root))

    async def python(self, code: str, *, entry: dict[str, object] | None = None, **request: object) -> Reply:
        engine = self.engine(sys.executable, "-c", code, **(entry or {}))
        return await engine.perform(replace(self.request, **request), self.port)


@pytest.fixture
def ask(tmp_path: Path) -> Asker:
    return Asker(tmp_path)


# --- What goes well


async def test_the_prompt_is_on_stdin_and_the_answer_on_stdout(ask: Asker) -> None:
    reply = await ask.python("import sys; print(sys.stdin.read().upper())")
    assert (reply.text, reply.usage) == ("THE PROMPT\n", FREE)
    assert ask.port.text == "THE PROMPT\n"
    assert ask.port.events[-1] == FinalEvent(ok=True)


async def test_a_program_may_leave_its_prompt_unread(ask: Asker) -> None:
    reply = await ask.python("print('done')", prompt="x" * 2_000_000)
    assert reply.text == "done\n"


async def test_runs_in_the_request_s_folder_with_args_after_the_command(ask: Asker) -> None:
    code = "import os, sys; print(os.getcwd(), os.environ['PWD'], sys.argv[1:])"
    reply = await ask.python(code, entry={"args": ("--fast", "a b; $(id)")})
    assert reply.text == f"{ask.root} {ask.root} ['--fast', 'a b; $(id)']\n"


async def test_streams_lines_while_the_program_runs(ask: Asker) -> None:
    code = "import sys; print('first', flush=True); sys.stdin.read(); open('go').read(); print('second')"
    os.mkfifo(ask.root / "go")  # the program waits until somebody has seen its first line
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(ask.python(code))
        await ask.port.started.wait()
        assert ask.port.events == [TextEvent("first\n")]
        await asyncio.to_thread((ask.root / "go").write_text, "")
    assert turn.result().text == "first\nsecond\n"


@pytest.mark.parametrize(
    "printed",
    [
        json.dumps([FINDING]),
        json.dumps({"findings": [FINDING]}),
        "Found one:\n```json\n" + json.dumps([FINDING]) + "\n```",
    ],
)
async def test_reads_findings(ask: Asker, printed: str) -> None:
    reply = await ask.python(f"print({printed!r})", output="findings")
    assert [(f.file, f.line) for f in reply.findings] == [("src/a.py", (3, 3))]


async def test_reads_sarif_with_paths_below_the_folder(ask: Asker) -> None:
    place = {"artifactLocation": {"uri": f"file://{ask.root}/src/a.py"}, "region": {"startLine": 2}}
    result = {"ruleId": "R", "message": {"text": "m"}, "locations": [{"physicalLocation": place}]}
    sarif = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}, "results": [result]}]}
    reply = await ask.python(f"print({json.dumps(sarif)!r})", output="findings")
    assert [f.file for f in reply.findings] == ["src/a.py"]


async def test_reads_data_with_a_schema(ask: Asker) -> None:
    schema = {"type": "object", "required": ["n"]}
    assert (await ask.python("print('{\"n\": 1}')", output="schema", schema=schema)).data == {"n": 1}
    with pytest.raises(Invalid):
        await ask.python("print('{}')", output="schema", schema=schema)


async def test_complaints_of_a_program_that_succeeds_are_not_its_answer(ask: Asker) -> None:
    reply = await ask.python("import sys; print('warning!', file=sys.stderr); print('fine')")
    assert reply.text == "fine\n"
    assert ask.port.text == "fine\n"


async def test_the_log_holds_both_streams(ask: Asker) -> None:
    log = ask.root / "log"
    await ask.python("import sys; print('warning!', file=sys.stderr); print('fine')", log=str(log))
    assert {"warning!", "fine"} <= set(log.read_text().split())


# --- The environment


async def test_no_secret_of_this_process_reaches_the_program(
    ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_OWN"):
        monkeypatch.setenv(name, "sesame")
    reply = await ask.python("import os, json; print(json.dumps(dict(os.environ)))")
    seen = json.loads(reply.text or "")
    assert "sesame" not in seen.values()
    assert set(seen) <= {
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "TMPDIR",
        "PWD",
        "PARALLELAI_MARK",
    }


async def test_gets_what_entry_and_request_name_and_no_more(
    ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANTED", "from outside")
    code = "import os; print([os.environ.get(n) for n in ('A', 'B', 'WANTED', 'ABSENT')])"
    reply = await ask.python(
        code, entry={"env": {"A": "entry", "B": "entry"}}, env={"B": "request"}, pass_env=("WANTED", "ABSENT")
    )
    assert reply.text == "['entry', 'request', 'from outside', None]\n"


# --- What goes wrong


async def test_a_failing_program_is_quoted_without_its_escapes(ask: Asker) -> None:
    code = (
        "import sys; print(*range(50), sep='\\n', file=sys.stderr)\n"
        "sys.exit('\\x1b[31mno such table\\x1b[0m')"
    )
    with pytest.raises(Internal) as caught:
        await ask.python(code, log=str(ask.root / "log"))
    said = caught.value.said
    assert "exit 1" in said
    assert said.endswith("no such table")
    assert "\x1b" not in said
    assert "\n49\n" in said
    assert "\n3\n" not in said
    assert "log" in (caught.value.next or "")
    assert not any(isinstance(event, FinalEvent) for event in ask.port.events)


async def test_exit_75_asks_to_be_tried_again(ask: Asker) -> None:
    with pytest.raises(Transient, match="later"):
        await ask.python("import sys; sys.exit(75)")


async def test_findings_of_a_program_that_then_fails_are_not_taken(ask: Asker) -> None:
    with pytest.raises(Internal, match="exit 2"):
        await ask.python(f"import sys; print({json.dumps([FINDING])!r}); sys.exit(2)", output="findings")


async def test_a_program_killed_by_a_signal_is_told_by_its_name(ask: Asker) -> None:
    with pytest.raises(Internal, match="SIGKILL"):
        await ask.python("import os; os.kill(os.getpid(), 9)")


@pytest.mark.parametrize("printed", ['[{"file": "a.py", "line": 3,', "nothing to say", "", "[1]"])
async def test_half_a_document_is_invalid(ask: Asker, printed: str) -> None:
    with pytest.raises(Invalid):
        await ask.python(f"print({printed!r}, end='')", output="findings")


async def test_a_hanging_program_is_ended_with_all_that_it_started(ask: Asker) -> None:
    code = (
        "import subprocess, sys, time, signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sleeper = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "child = subprocess.Popen(sleeper, start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(600)\n"
    )
    with pytest.raises(TimedOut, match=r"1\.5 s"):
        await ask.python(code, timeout_seconds=1.5)
    assert not psutil.pid_exists(int(ask.port.text))


async def test_silence_is_no_reason_to_end_a_program_unless_the_entry_says_so(ask: Asker) -> None:
    code = "import time; time.sleep(0.6); print('done')"
    assert (await ask.python(code, idle_timeout_seconds=0.1)).text == "done\n"
    with pytest.raises(TimedOut, match="nothing"):
        await ask.python("import time; time.sleep(600)", entry={"idle_timeout": 0.2})


async def test_a_cancelled_turn_leaves_no_process(ask: Asker) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(ask.python(code))
        await ask.port.started.wait()
        turn.cancel()
    assert turn.cancelled()
    assert not psutil.pid_exists(int(ask.port.text))


async def test_a_flood_is_bounded_in_memory_and_says_what_was_left_out(ask: Asker) -> None:
    code = "import sys\nfor n in range(40): sys.stdout.write(('x' * 999 + '\\n') * 1000)"
    reply = await ask.python(code)
    assert len(reply.text or "") < 9 * 1024 * 1024
    assert "too long" in reply.notes[0]


async def test_a_flood_is_no_document(ask: Asker) -> None:
    code = "import sys\nsys.stdout.write('[')\nfor n in range(40): sys.stdout.write('1, ' * 400_000)"
    with pytest.raises(Invalid, match="too long"):
        await ask.python(code, output="findings")


async def test_a_flood_of_complaints_harms_no_findings(ask: Asker) -> None:
    code = (
        "import sys\nfor n in range(10): sys.stderr.write(('e' * 999 + '\\n') * 1000)\n"
        f"print({json.dumps([FINDING])!r})"
    )
    assert len((await ask.python(code, output="findings")).findings) == 1


async def test_what_is_streamed_is_bounded_while_nobody_takes_it(ask: Asker) -> None:
    class Slow(CollectingPort):
        async def emit(self, event: object) -> None:
            await super().emit(event)
            if len(self.events) == 1:
                await asyncio.to_thread((ask.root / "go").read_text)  # until the program has written all

    ask.port = Slow()
    os.mkfifo(ask.root / "go")
    code = (
        "import sys; print('first', flush=True)\nfor n in range(3000): print('x' * 999)\n"
        "sys.stdout.flush(); open('go', 'w').close()"
    )
    reply = await ask.python(code)
    assert len(ask.port.text) < 1_000_000
    assert "lines not shown" in ask.port.text
    assert (reply.text or "").count("\n") == 3001


async def test_terminal_escapes_and_broken_text_are_taken_out(ask: Asker) -> None:
    code = "import sys; sys.stdout.buffer.write(b'\\x1b[2J\\x1b]0;owned\\x07ok \\xff\\x00 end\\r\\n')"
    reply = await ask.python(code)
    assert reply.text == "ok \ufffd end\n"
    assert ask.port.text == "ok \ufffd end\n"


async def test_a_missing_program_is_unavailable(ask: Asker) -> None:
    engine = ask.engine("no-such-program-here")
    assert not (await engine.detect()).is_available
    with pytest.raises(Unavailable, match="no-such-program-here") as caught:
        await engine.perform(ask.request, ask.port)
    assert "install" in (caught.value.next or "")


async def test_a_program_of_the_project_is_found_by_its_path(ask: Asker) -> None:
    tool = ask.root / "tools" / "agent.sh"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\ncat; echo ' and more'\n")
    engine = ask.engine("tools/agent.sh")
    assert "tools/agent.sh" in (await engine.detect()).said
    with pytest.raises(Unavailable):  # not executable yet
        await engine.perform(ask.request, ask.port)
    tool.chmod(0o755)
    assert (await engine.detect()).is_available
    assert (await engine.perform(ask.request, ask.port)).text == "the prompt and more\n"


async def test_without_a_command_it_says_what_to_write(ask: Asker) -> None:
    engine = ask.engine()
    found = await engine.detect()
    assert not found.is_available
    assert "command:" in (found.how or "")
    with pytest.raises(Unavailable):
        await engine.perform(ask.request, ask.port)


@pytest.mark.parametrize("key", [{"base_url": "http://x"}, {"max_turns": 2}, {"api_key_env": "K"}])
def test_refuses_keys_whose_promise_it_cannot_keep(ask: Asker, key: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(key))):
        ask.engine("true", **key)


# --- Where it works


def workspace(root: Path, *, edits: bool = True, **more: object) -> Workspace:
    temporary = root.parent / f"{root.name}-temporary"
    temporary.mkdir(exist_ok=True)
    return Workspace(edits=edits, temporary=str(temporary), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [{"network": "off"}, {"network": "loopback"}, {"sandbox": "required"}])
async def test_is_not_run_unconfined_where_it_was_to_be_confined(ask: Asker, key: dict[str, object]) -> None:
    with pytest.raises(Unavailable, match="needs a workspace"):
        await ask.python("open('ran', 'w')", entry=key)
    if "network" in key:
        with pytest.raises(Unavailable, match="no sandbox confines it"):
            await ask.python("open('ran', 'w')", entry=key, workspace=workspace(ask.root, sandbox="none"))
    assert not (ask.root / "ran").exists()


@pytest.mark.parametrize("edits", [True, False])
async def test_a_sandbox_lets_it_write_its_folder_if_it_edits_and_nothing_else(
    ask: Asker, tmp_path_factory: pytest.TempPathFactory, edits: bool
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    code = (
        "import sys, os\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        open(path, 'w').close()\n    except OSError:\n        print('kept', path)\n"
    )
    given = workspace(ask.root, edits=edits, sandbox="required")
    reply = await ask.python(
        code,
        entry={"args": ("inside", f"{outside}/x")},
        workspace=given,
        output="change" if edits else "text",
    )
    assert not (outside / "x").exists()
    assert (ask.root / "inside").exists() is edits
    assert reply.text == ("" if edits else "kept inside\n") + f"kept {outside}/x\n"


async def test_an_error_of_whoever_listens_ends_the_program_and_comes_out_as_it_is(ask: Asker) -> None:
    class Full(CollectingPort):
        async def emit(self, event: object) -> None:
            await super().emit(event)
            raise StoreFullError("disk full")

    ask.port = Full()
    with pytest.raises(StoreFullError, match="disk full"):
        await ask.python("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    assert not psutil.pid_exists(int(ask.port.text))


async def test_many_at_once_do_not_mix(ask: Asker) -> None:
    engine = ask.engine(sys.executable, "-c", "import sys; print(sys.stdin.read() * 3, end='')")

    async def one(number: int) -> bool:
        reply = await engine.perform(replace(ask.request, prompt=f"<{number}>"), CollectingPort())
        return reply.text == f"<{number}>" * 3

    async with asyncio.TaskGroup() as group:
        turns = [group.create_task(one(number)) for number in range(12)]
    assert all(turn.result() for turn in turns)
