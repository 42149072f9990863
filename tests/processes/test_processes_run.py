"""Running one program: what goes in, what comes out, what is said when it cannot be."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import signal
import sys
from pathlib import Path

import pytest
from processes_support import HERE, Ready, alive, open_files, python, run_until_ready, shell, token

from parallelai.errors import ProgramError
from parallelai.processes import Program, environment, launch, run
from parallelai.processes.zygote import is_supported, zygote_pid


async def test_tells_exit_code_output_and_time() -> None:
    done = await run(shell("echo out; echo err >&2; exit 3"))
    assert (done.exit, done.signal) == (3, None)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert done.seconds > 0
    assert not done.is_truncated
    assert done.ended_by is None
    assert done.notes == ()


async def test_tells_the_signal_that_ended_it() -> None:
    done = await run(shell("kill -USR2 $$"))
    assert (done.exit, done.signal) == (None, signal.SIGUSR2)


async def test_output_is_bytes_with_or_without_a_last_newline() -> None:
    lines: list[tuple[str, bytes]] = []
    code = "import os; os.write(1, bytes(range(256)) + b'\\n\\xff\\x00end')"
    done = await run(python(code), on_line=lambda stream, line: lines.append((stream, line)))
    raw = bytes(range(256))
    assert done.stdout == raw + b"\n\xff\x00end"
    assert [line for _, line in lines] == [*raw.split(b"\n"), b"\xff\x00end"]


async def test_lines_name_their_stream() -> None:
    lines: list[tuple[str, bytes]] = []
    await run(shell("echo a; echo b >&2"), on_line=lambda stream, line: lines.append((stream, line)))
    assert sorted(lines) == [("stderr", b"b"), ("stdout", b"a")]


async def test_others_have_their_turn_while_a_program_prints_thousands_of_lines() -> None:
    taken, most, is_over = 0, 0, asyncio.Event()

    def take(stream: str, line: bytes) -> None:
        nonlocal taken
        taken += 1

    async def others() -> None:
        nonlocal most
        while not is_over.is_set():
            before = taken
            await asyncio.sleep(0)
            most = max(most, taken - before)

    beside = asyncio.create_task(others())
    await run(shell("yes '' | head -n 300000"), on_line=take)
    is_over.set()
    await beside
    assert taken == 300_000
    assert most <= 100_000, "so many were looked at in one turn"


async def test_arguments_reach_the_program_without_a_shell() -> None:
    hostile = "$(touch pwned); `id` | * ' \" \n \u2028 é"
    done = await run(python("import sys; sys.stdout.buffer.write(sys.argv[1].encode())", hostile))
    assert done.stdout.decode() == hostile


async def test_an_empty_argument_stays() -> None:
    done = await run(python("import sys; print(sys.argv[1:])", "", "x", ""))
    assert done.stdout == b"['', 'x', '']\n"


async def test_standard_input_arrives_whole() -> None:
    data = os.urandom(10_000_000)
    done = await run(
        python("import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())", stdin=data)
    )
    assert done.stdout.decode().strip() == hashlib.sha256(data).hexdigest()


async def test_standard_input_that_nobody_reads_does_no_harm() -> None:
    before = open_files()
    done = await run(shell("exec 0<&-; exit 7", stdin=bytes(10_000_000)))
    assert done.exit == 7
    done = await run(shell("exit 8", stdin=bytes(10_000_000)))
    assert done.exit == 8
    assert open_files() == before


async def test_without_standard_input_the_program_reads_an_end() -> None:
    assert (await run(shell("cat; echo end"))).stdout == b"end\n"


async def test_it_sees_only_the_given_environment_its_folder_and_the_mark(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "ONE": "1\n=2"}
    code = (
        "import os; print(sorted(os.environ), os.environ['ONE'] == '1\\n=2', os.environ['PWD'], os.getcwd())"
    )
    done = await run(python(code, env=env, cwd=tmp_path, run="r-1"))
    names = ["ONE", "PARALLELAI_MARK", "PATH", "PWD"]
    assert done.stdout.decode().replace("'LC_CTYPE', ", "").strip() == f"{names} True {tmp_path} {tmp_path}"


async def test_the_mark_names_owner_and_run() -> None:
    done = await run(shell("echo $PARALLELAI_MARK", run="r-20261120-7f3a"))
    pid, start, name, _ = done.stdout.decode().strip().split(":")
    assert int(pid) == os.getpid()
    assert start == Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    assert name == "r-20261120-7f3a"


async def test_signals_and_descriptors_are_as_in_a_fresh_process() -> None:
    code = (
        "import os, signal\n"
        "print([s for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN],"
        " signal.pthread_sigmask(signal.SIG_BLOCK, []), os.getpid() == os.getsid(0))\n"
        "print(sorted(int(n) for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')))"
    )
    with open(os.devnull) as held:
        os.set_inheritable(held.fileno(), True)
        done = await run(python(code))
    ignored = "[<Signals.SIGPIPE: 13>, <Signals.SIGXFSZ: 25>]"  # Python's own doing
    assert done.stdout.decode() == f"{ignored} set() True\n[0, 1, 2]\n"


async def test_a_flood_stays_out_of_memory(tmp_path: Path) -> None:
    await run(shell("true"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    log = tmp_path / "deep" / "log"
    program = shell("head -c 400000000 /dev/zero; echo; echo last", max_output_bytes=1 << 20, log=log)
    done = await run(program)
    assert done.exit == 0
    assert done.is_truncated
    assert done.stdout.endswith(b"\nlast\n")
    assert len(done.stdout) < (1 << 20) + 100
    assert f"[{400_000_006 - (1 << 20)} bytes left out]".encode() in done.stdout
    assert log.stat().st_size < 257 * 1024 * 1024
    assert log.stat().st_mode & 0o777 == 0o600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB
    log.unlink()


async def test_a_flood_without_line_ends_gives_one_cut_line() -> None:
    lines: list[int] = []
    program = shell("head -c 100000000 /dev/zero", max_output_bytes=1000)
    await run(program, on_line=lambda _, line: lines.append(len(line)))
    assert lines == [1000]


async def test_the_log_holds_both_streams_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for word in ("one", "two"):
        await run(shell(f"echo {word}; echo e{word} >&2", log=log))
    assert sorted(log.read_text().split()) == ["eone", "etwo", "one", "two"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
async def test_a_log_that_cannot_be_written_is_noted_and_the_program_goes_on(tmp_path: Path) -> None:
    for log in (Path("/dev/full"), tmp_path, tmp_path / "link"):
        if log.name == "link":
            log.symlink_to(tmp_path / "elsewhere")
        done = await run(shell("echo hello", log=log))
        assert (done.exit, done.stdout) == (0, b"hello\n")
        assert len(done.notes) == 1
        assert str(log) in done.notes[0]
    assert not (tmp_path / "elsewhere").exists()


async def test_a_time_out_interrupts_it_first() -> None:
    done = await run(shell("exec sleep 60", timeout_seconds=0.1, grace_seconds=60))
    assert (done.exit, done.signal, done.ended_by) == (None, signal.SIGINT, "timeout")


async def test_a_cancelled_program_may_clean_up_within_its_grace(tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "def bye(*_): pathlib.Path('bye').touch(); sys.exit(5)\n"
        "signal.signal(signal.SIGINT, bye)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    task, _ = await run_until_ready(python(code, cwd=tmp_path, grace_seconds=60), 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "bye").exists()


@pytest.mark.skipif(not is_supported(), reason="nobody starts programs for us here")
async def test_a_time_out_is_kept_where_nobody_starts_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_ABANDON_SECONDS", 0.0)
    os.kill(zygote_pid(), signal.SIGSTOP)
    try:
        async with asyncio.timeout(30):
            done = await run(shell("exit 3", timeout_seconds=0.1, grace_seconds=0.0))
    finally:
        os.kill(zygote_pid(), signal.SIGCONT)
    assert (done.exit, done.signal, done.ended_by) == (None, None, "timeout")


async def test_a_time_out_ends_what_ignores_signals() -> None:
    name = token()
    done = await run(
        shell("trap '' INT TERM; while :; do sleep 60; done", name, timeout_seconds=0.2, grace_seconds=0.1)
    )
    assert (done.exit, done.signal, done.ended_by) == (None, signal.SIGKILL, "timeout")
    assert not alive(name)


async def test_a_time_out_ends_what_is_stopped() -> None:
    done = await run(shell("kill -STOP $$", timeout_seconds=0.2, grace_seconds=30))
    assert (done.signal, done.ended_by) == (signal.SIGINT, "timeout")


async def test_a_program_that_is_silent_and_uses_no_cpu_is_idle() -> None:
    done = await run(shell("echo start; sleep 60", idle_timeout_seconds=0.4))
    assert done.ended_by == "idle"
    assert done.stdout == b"start\n"


async def test_a_program_that_prints_or_works_is_not_idle() -> None:
    printing = shell("for i in 1 2 3 4 5 6 7 8; do sleep 0.2; echo $i; done", idle_timeout_seconds=1.0)
    code = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass"
    working = python(code, idle_timeout_seconds=1.0)
    # The work of a grandchild, and one in its own session, counts as well.
    below = python(
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], start_new_session=True)",
        idle_timeout_seconds=1.0,
    )
    for done in await asyncio.gather(run(printing), run(working), run(below)):
        assert (done.exit, done.ended_by) == (0, None)


async def test_an_exception_from_on_line_ends_the_program_and_is_raised() -> None:
    name = token()

    def refuse(stream: str, line: bytes) -> None:
        raise ValueError(line.decode())

    with pytest.raises(ValueError, match="first"):
        await run(shell("echo first; echo second; sleep 60", name), on_line=refuse)
    assert not alive(name)


async def test_on_line_is_called_while_it_runs() -> None:
    ready = Ready(1)
    task = asyncio.create_task(run(shell("echo ready; sleep 60"), on_line=ready))
    await ready.event.wait()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def _script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


async def test_a_missing_program_is_named_with_what_to_do() -> None:
    with pytest.raises(ProgramError) as caught:
        await run(Program(("no-such-program",), HERE, environment(), label="tasks.yaml:3:5"))
    assert caught.value.said == "`no-such-program` was not found on PATH"
    assert caught.value.where == "tasks.yaml:3:5"
    assert "install `no-such-program`" in (caught.value.next or "")
    assert not caught.value.retry_helps


async def test_the_programs_own_path_is_searched(tmp_path: Path) -> None:
    _script(tmp_path / "tool", "#!/bin/sh\necho mine\n")
    done = await run(Program(("tool",), HERE, {"PATH": str(tmp_path)}))
    assert done.stdout == b"mine\n"


@pytest.mark.parametrize("path", [".", "", "sub", ":/usr/bin"])
async def test_a_checkout_cannot_slip_in_a_program(tmp_path: Path, path: str) -> None:
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        _script(folder / "slipped-in", "#!/bin/sh\necho pwned\n")
    with pytest.raises(ProgramError, match="not found"):
        await run(Program(("slipped-in",), tmp_path, {"PATH": path}))


async def test_a_path_counts_from_the_folder(tmp_path: Path) -> None:
    _script(tmp_path / "tool", "#!/bin/sh\necho here\n")
    done = await run(Program(("./tool",), tmp_path, environment()))
    assert done.stdout == b"here\n"


async def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    cases = {
        _script(tmp_path / "plain", "echo", 0o644): "not an executable file",
        str(tmp_path / "missing"): "does not exist",
        str(tmp_path): "not an executable file",
        _script(tmp_path / "bad", "#!/no/such/interpreter\n"): "interpreter",
        _script(tmp_path / "junk", "\x01\x02"): "program for this machine",
    }
    before = open_files()
    for name, said in cases.items():
        with pytest.raises(ProgramError, match=said):
            await run(Program((name,), tmp_path, environment()))
    with pytest.raises(ProgramError, match="standard input"):
        await run(shell("true", "x" * 3_000_000))
    with pytest.raises(ProgramError, match="folder"):
        await run(shell("true", cwd=tmp_path / "nowhere"))
    assert open_files() == before


@pytest.mark.parametrize(
    ("argv", "env"),
    [((), {}), (("",), {}), (("true", "a\0b"), {}), (("true",), {"A": "\0"}), (("true",), {"A=B": "c"})],
)
async def test_what_no_program_could_be_given_is_refused(argv: tuple[str, ...], env: dict[str, str]) -> None:
    with pytest.raises(ProgramError):
        await run(Program(argv, HERE, {**environment(), **env}))


async def test_undecodable_names_pass_through(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    os.mkdir(folder)
    done = await run(
        python(
            "import os, sys; os.write(1, os.fsencode(sys.argv[1]) + os.getcwdb())", folder, cwd=Path(folder)
        )
    )
    assert done.stdout == os.fsencode(folder) * 2


async def test_the_interpreter_in_use_is_found_as_it_is() -> None:
    done = await run(Program((sys.executable, "-c", "import sys; print(sys.prefix)"), HERE, environment()))
    assert done.stdout.decode().strip() == sys.prefix
