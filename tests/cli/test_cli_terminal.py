"""What a person sees on a terminal: a live line, colours, questions; and plain lines where there is none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from running import PROGRAM, environment, run_program

BAR = "╌"
PLAN = """\
version: 1
engines: {wait: {use: command, command: [cat, gate.fifo]}}
tasks: [{id: one, description: one, engine: wait}]
"""


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, root: Path, *arguments: str, columns: int = 80, **variables: str) -> None:
        self.text = ""
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        given = environment(**{"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1", **variables})
        for name in ("COLUMNS", "LINES", "PYTEST_CURRENT_TEST", "CI"):
            given.pop(name, None)
        self.program = subprocess.Popen(
            [*PROGRAM, *arguments],
            cwd=root,
            env=given,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            preexec_fn=_heed_interrupts,
        )
        os.close(follower)

    def until(self, text: str) -> str:
        """Read until there is such a text; gives all that was read."""
        while text not in self.text:
            read = self._read()
            assert read, f"it ended without {text!r}: {self.text!r}"
        return self.text

    def write(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def end(self) -> int:
        """Read to the end, and give the exit code."""
        while self._read():
            pass
        return self.program.wait(timeout=60)

    def close(self) -> None:
        self.program.kill()
        self.program.wait(timeout=60)
        os.close(self._leader)

    def _read(self) -> str:
        try:
            read = os.read(self._leader, 65536).decode(errors="replace")
        except OSError:  # nobody holds the other end any more
            read = ""
        self.text += read
        return read


def _heed_interrupts() -> None:
    """Whoever runs the tests may ignore SIGINT, as workers of xdist do, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def terminal(root: Path, *arguments: str, **more: Any) -> Iterator[Terminal]:
    made = Terminal(root, *arguments, **more)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def gated(here: Path) -> Path:
    """A project with a plan whose task ends when somebody writes into a fifo."""
    os.mkfifo(here / "gate.fifo")
    (here / "gated.yaml").write_text(PLAN)
    return here


def release(root: Path) -> None:
    (root / "gate.fifo").write_text("let go\n")


def test_a_bar_appears_and_goes_away(gated: Path) -> None:
    with terminal(gated, "execute", "gated.yaml") as screen:
        seen = screen.until(BAR + " 0/1 task")
        release(gated)
        assert screen.end() == 0

    assert "run r-" in seen
    assert "\x1b[?25l" in seen  # the cursor is hidden
    after = screen.text.rpartition(BAR)[2]
    assert "\x1b[?25h" in after
    assert "1 task: 1 ok" in after
    assert "\x1b[1A" in after or "\x1b[2K" in after


def test_what_control_c_does_is_told_on_a_line_of_its_own(gated: Path) -> None:
    with terminal(gated, "execute", "gated.yaml") as screen:
        screen.until(BAR + " 0/1 task")
        screen.program.send_signal(signal.SIGINT)
        before = screen.until("stopping: what runs").rpartition("stopping: what runs")[0]
        assert screen.end() == 130

    assert before.endswith("\r\x1b[2K"), "the bar is taken away first"


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_the_bar_fits_the_terminal(gated: Path, columns: int) -> None:
    with terminal(gated, "execute", "gated.yaml", columns=columns) as screen:
        seen = screen.until("0/1 task")
        release(gated)
        assert screen.end() == 0

    line = seen.rpartition("\x1b[?25l")[2].splitlines()[0]
    assert len(line) <= columns


@pytest.mark.parametrize("words", [["--quiet"], ["-q", "--json"]])
def test_no_bar_where_nobody_wants_one(gated: Path, words: list[str]) -> None:
    with terminal(gated, *words, "execute", "gated.yaml") as screen:
        release(gated)
        assert screen.end() == 0

    assert BAR not in screen.text
    assert "\x1b[?25l" not in screen.text


def test_no_bar_on_a_dumb_terminal(gated: Path) -> None:
    with terminal(gated, "execute", "gated.yaml", TERM="dumb") as screen:
        release(gated)
        assert screen.end() == 0

    assert "\x1b" not in screen.text
    assert "1 task: 1 ok" in screen.text


@pytest.mark.parametrize(
    ("flags", "variables", "is_coloured"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        (["--color", "never"], {}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
    ],
)
def test_colours_on_a_terminal(
    here: Path, flags: list[str], variables: dict[str, str], is_coloured: bool
) -> None:
    with terminal(here, "review", "a.py", "--quiet", *flags, **variables) as screen:
        assert screen.end() == 0

    assert ("\x1b[1m" in screen.text) is is_coloured


def test_no_colour_in_the_bar_either(gated: Path) -> None:
    with terminal(gated, "execute", "gated.yaml", NO_COLOR="1") as screen:
        screen.until(BAR)
        release(gated)
        assert screen.end() == 0

    assert "\x1b[3" not in screen.text


@pytest.mark.parametrize(("answer", "is_gone"), [("y\r", True), ("n\r", False), ("\r", False)])
def test_a_question_is_asked(cli: Any, here: Path, plan: Path, answer: str, is_gone: bool) -> None:
    run = cli("execute", plan, "--json").document["run"]

    with terminal(here, "runs", "delete") as screen:
        screen.until(f"Delete run {run} (plan.yaml)?")
        screen.write(answer)
        assert screen.end() == 0

    assert (cli("runs", "list").out == "no run yet\n") is is_gone


def test_control_c_at_a_question_is_an_interruption(cli: Any, here: Path, plan: Path) -> None:
    cli("execute", plan)

    with terminal(here, "runs", "delete") as screen:
        screen.until("[y/N]: ")
        screen.program.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # it may have ended already
            screen.write(
                "\x04"
            )  # where the signal came just before it began to read, the end of input is seen
        assert screen.end() == 130

    assert "Traceback" not in screen.text
    assert "interrupted" in screen.text
    assert len(cli("runs", "list").out.splitlines()) == 1


def test_plain_lines_where_there_is_no_terminal(here: Path, plan: Path) -> None:
    ended = run_program(here, "execute", "plan.yaml")

    assert ended.returncode == 0
    assert "\x1b" not in ended.stdout + ended.stderr
    assert BAR not in ended.stderr
    assert ended.stderr.splitlines()[1].startswith("engine: `mock`")


def test_a_terminal_of_ascii_gets_ascii(here: Path) -> None:
    (here / "z.yaml").write_text(
        "version: 1\ntasks: [{id: a, description: ü, engine: mock},\n"
        "  {id: b, description: x, depends_on: a, engine: mock}]\n"
    )
    for words in (
        ["plan", "graph", "z.yaml"],
        ["plan", "estimate", "z.yaml"],
        ["execute", "z.yaml"],
        ["review"],
    ):
        ended = subprocess.run(
            [*PROGRAM, *words],
            cwd=here,
            env=environment(PYTHONIOENCODING="ascii"),
            capture_output=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.isascii()
        assert rb"\u" not in ended.stdout
