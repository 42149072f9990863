"""Small synchronous calls."""

from __future__ import annotations

import asyncio
import hashlib
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes_support import HERE, gone_within, open_files, token

from parallelai.errors import ProgramError
from parallelai.processes import environment, run_quick


def test_tells_exit_code_and_output(tmp_path: Path) -> None:
    done = run_quick(["sh", "-c", 'echo "$PWD"; echo err >&2; exit 3'], tmp_path)
    assert (done.exit, done.signal, done.stdout, done.stderr) == (3, None, f"{tmp_path}\n".encode(), b"err\n")
    assert not done.is_truncated


def test_passes_standard_input_and_environment() -> None:
    data = bytes(range(256)) * 10_000
    code = (
        "import hashlib, os, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest(), os.environ['X'])"
    )
    done = run_quick([sys.executable, "-c", code], HERE, stdin=data, env={**environment(), "X": "y"})
    assert done.stdout.decode().split() == [hashlib.sha256(data).hexdigest(), "y"]
    assert run_quick(["true"], HERE, stdin=data).exit == 0
    assert run_quick(["cat"], HERE).stdout == b""


def test_a_time_out_ends_its_group() -> None:
    name = token()
    done = run_quick(["sh", "-c", "trap '' TERM INT; sleep 60 & sleep 60", name], HERE, 0.1)
    assert (done.exit, done.signal, done.ended_by) == (None, signal.SIGKILL, "timeout")
    assert gone_within(name)


def test_what_holds_its_output_open_is_not_waited_for_but_ended() -> None:
    name = token()
    done = run_quick(["sh", "-c", 'sh -c "sleep 60; :" "$0" & echo here', name], HERE, 100)
    assert (done.exit, done.stdout, done.ended_by) == (0, b"here\n", None)
    assert gone_within(name)


def test_what_is_printed_at_the_very_end_is_read_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(self: subprocess.Popen[bytes]) -> int:
        return self.wait()  # as if this thread got no processor between its look at the output and this one

    monkeypatch.setattr(subprocess.Popen, "poll", late)
    assert run_quick(["sh", "-c", "sleep 0.2; echo done"], HERE).stdout == b"done\n"


def test_a_flood_is_ended() -> None:
    done = run_quick(["sh", "-c", "exec cat /dev/zero"], HERE, max_output_bytes=100_000)
    assert done.is_truncated
    assert done.stdout == bytes(100_000)
    assert done.ended_by is None


def test_what_was_cut_off_is_told_also_if_both_streams_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real = selectors.DefaultSelector.select

    def both(self: selectors.DefaultSelector, timeout: float | None = None) -> list[Any]:
        while len(ready := real(self, timeout)) < len(self.get_map()):
            pass
        return sorted(ready, key=lambda each: each[0].fd)

    monkeypatch.setattr(selectors.DefaultSelector, "select", both)
    done = run_quick(["sh", "-c", "echo long; echo x >&2"], HERE, max_output_bytes=3)
    assert (done.is_truncated, done.stdout) == (True, b"lon")


def test_a_missing_program_or_folder_is_told() -> None:
    before = open_files()
    with pytest.raises(ProgramError, match="not found on PATH"):
        run_quick(["no-such-program"], HERE)
    with pytest.raises(ProgramError, match="does not exist"):
        run_quick(["true"], HERE / "nowhere")
    for argv in (["true", "\0"], [""], []):
        with pytest.raises(ProgramError):
            run_quick(argv, HERE)
    assert open_files() == before


def test_it_works_beside_a_running_loop_and_leaks_nothing() -> None:
    async def inside() -> list[int | None]:
        return [run_quick(["sh", "-c", f"exit {n}"], HERE).exit for n in range(20)]

    before = open_files()
    assert asyncio.run(inside()) == list(range(20))
    assert open_files() == before
