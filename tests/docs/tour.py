"""Carries out what a page of the documentation shows, as a reader would, and compares what comes out.

A page is Markdown. Of its fenced blocks, in their order:

    console             commands after `$ `, each with the output that the page shows; `…` stands for anything
                        in a line, a line of its own for any lines; how many spaces there are does not
                        count. A command must end with 0, unless the next one is `echo $?`.
    python              a program; a `text` block right after it is what it prints
    any, title="NAME"   a file that the reader writes
    yaml, toml          an example by itself: it must be what it seems to be

`<!-- interrupt when TASK starts -->` before a console block sends Ctrl-C to its only command, then.
The reader has keys of model APIs: what they open is `shop_model.py`, on this machine.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]
_FENCE = re.compile(
    r"(?:^<!-- (?P<note>.*?) -->\n+)?^```(?P<info>\S[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
_TITLE = re.compile(r'title="([^"]+)"')
_MARK = "@@end-of-command@@"
_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, title, text, the comment before it, and its line in the page."""

    language: str
    title: str | None
    body: str
    note: str | None
    line: int
    follows: bool  # nothing but blank lines is between it and the block before


def blocks(text: str) -> list[Block]:
    """Give the fenced blocks of a page."""
    found, end = [], 0
    for match in _FENCE.finditer(text):
        title = _TITLE.search(match["info"])
        found.append(
            Block(
                match["info"].split()[0],
                title[1] if title else None,
                match["body"],
                match["note"],
                text.count("\n", 0, match.start("info")) + 1,
                not text[end : match.start()].strip(),
            )
        )
        end = match.end()
    return found


def matches(shown: str, printed: str) -> bool:
    """Say whether what was printed is what the page shows."""
    pattern = ""
    for line in _even(shown):
        if line == "…":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part) for part in line.split("…")) + r"\n"
    return re.fullmatch(pattern, "\n".join(_even(printed)) + "\n") is not None


def _even(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.rstrip("\n").split("\n")]


def commands_of(body: str) -> list[tuple[str, str]]:
    """Split a console block into commands and what the page shows after each."""
    found: list[tuple[str, list[str]]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (found[-1][0] + "\n" + line.removeprefix("> "), [])
        else:
            assert found, f"output before any command: {line!r}"
            found[-1][1].append(line)
    return [(command, "\n".join(lines)) for command, lines in found]


@functools.cache
def model_server() -> subprocess.Popen[str]:
    """Start the server that stands for all model APIs; it ends with its stdin. Its port is its first line."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("shop_model.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@functools.cache
def model_address() -> str:
    """Give the server's address, without `/v1`."""
    started = model_server()
    assert started.stdout is not None
    return f"http://127.0.0.1:{int(started.stdout.readline())}"


def stop_model() -> None:
    """End the server, if one was started."""
    if model_server.cache_info().currsize:
        started = model_server()
        started.communicate(timeout=_SECONDS)


@dataclass(slots=True)
class Reader:
    """Somebody who follows a page, in a home of their own."""

    home: Path
    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.env = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "TMPDIR": str(self.home),
            "LANG": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENAI_BASE_URL": f"{model_address()}/v1",
            "OPENAI_API_KEY": "the-key-of-a-reader-of-openai",
            "ANTHROPIC_BASE_URL": model_address(),
            "ANTHROPIC_API_KEY": "the-key-of-a-reader-of-anthropic",
            **{
                f"GIT_{who}_{what}": "reader@x"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }

    def follow(self, page: str) -> None:
        """Do all that a page shows. Raises `AssertionError` naming the line of what is not so."""
        before = ""
        for block in blocks(page):
            try:
                before = self._do(block, before)
            except AssertionError as error:
                raise AssertionError(f"line {block.line}: {error}") from None

    def _do(self, block: Block, before: str) -> str:
        if block.title is not None:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body, encoding="utf-8")
        elif block.language == "console" and block.note and block.note.startswith("interrupt when "):
            self._interrupt(block)
        elif block.language == "console":
            self._console(block.body)
        elif block.language == "python":
            return self._python(block.body)
        elif block.language == "text" and block.follows and before:
            assert matches(block.body, before), f"the page shows\n{block.body}\nbut this came:\n{before}"
        elif block.language == "yaml":
            yaml.safe_load(block.body)
        elif block.language == "toml":
            tomllib.loads(block.body)
        else:
            assert block.language in {"text", "json"}, f"nobody runs blocks of `{block.language}`"
        return ""

    def _console(self, body: str) -> None:
        commands = commands_of(body)
        # `make` would set a machine up, or run this very suite: that its target is there is what counts.
        script = "".join(
            f"{re.sub(r'^make ', f'make -n -C {REPOSITORY} >/dev/null ', command)}\n"
            f"code=$?; echo; echo {_MARK} $code; pwd > {self.home}/cwd; (exit $code)\n"
            for command, _ in commands
        )
        done = self._run(["bash", "-c", script])
        printed = re.split(rf"\n?{_MARK} (\d+)\n", done)
        assert len(printed) == 2 * len(commands) + 1, f"a command ended the shell:\n{done}"
        self.folder = Path((self.home / "cwd").read_text().strip())
        for number, (command, shown) in enumerate(commands):
            output, code = printed[2 * number], printed[2 * number + 1]
            is_asked = number + 1 < len(commands) and commands[number + 1][0] == "echo $?"
            assert code == "0" or is_asked, f"`{command}` ended with {code}:\n{output}"
            assert matches(shown, output), (
                f"after `{command}` the page shows\n{shown}\nbut this came:\n{output}"
            )

    def _interrupt(self, block: Block) -> None:
        """Start a command, send it Ctrl-C when a task of its run has started, and compare what it printed."""
        ((command, shown),) = commands_of(block.body)
        assert block.note is not None
        task = block.note.split()[2]
        with subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as started:
            try:
                end = time.monotonic() + _SECONDS
                while not self._has_started(task):
                    assert started.poll() is None, f"`{command}` ended by itself"
                    assert time.monotonic() < end, f"task `{task}` never started"
                    time.sleep(0.1)
                started.send_signal(signal.SIGINT)
                printed, _ = started.communicate(timeout=_SECONDS)
            finally:
                started.kill()  # a page that is wrong leaves nothing behind; its warden ends the rest
        shown = shown.replace("^C\n", "")
        assert started.returncode == 130, f"`{command}` ended with {started.returncode}:\n{printed}"
        assert matches(shown, printed), (
            f"after `{command}` the page shows\n{shown}\nbut this came:\n{printed}"
        )

    def _has_started(self, task: str) -> bool:
        logs = subprocess.run(
            ["parallelai", "runs", "export"],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        ).stdout
        return any('"attempt.started"' in line and f'"task":"{task}"' in line for line in logs.splitlines())

    def _python(self, program: str) -> str:
        printed = self._run([sys.executable, "-c", f"{program}\nprint('{_MARK}')"])
        assert printed.rstrip().endswith(_MARK), f"the program failed:\n{printed}"
        return printed.rstrip().removesuffix(_MARK)

    def _run(self, argv: list[str]) -> str:
        return subprocess.run(
            argv,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
        ).stdout
