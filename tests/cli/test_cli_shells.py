"""Completion in the shells themselves: what zsh and fish make of the scripts that `completion` prints."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from running import environment

zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed (`.ci/packages`)")
fish = pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed (`.ci/packages`)")

ZSH = r"""
autoload -Uz compinit && compinit -u -D
eval "$(parallelai completion zsh)"
show() { print -r -- "<${BUFFER}>"; BUFFER="" }
zle -N show && bindkey '^P' show
unsetopt beep
PS1='> '
print ready
"""
LINES = [
    ("parallelai re", "review"),
    ("parallelai plan es", "estimate"),
    ("parallelai run comp", "compare"),
    ("parallelai review --up", "--update-baseline"),
    ("parallelai review --color al", "always"),
    ("parallelai --json runs li", "list"),
    ("parallelai review --engine moc", "mock"),
]


@pytest.fixture
def shell(tmp_path: Path, home: Path) -> dict[str, str]:
    """The environment of a shell that finds `parallelai`, with nobody's own set-up."""
    folder = tmp_path / "bin"
    folder.mkdir()
    file = folder / "parallelai"
    file.write_text(f"#!{sys.executable}\nfrom parallelai.cli import main\nmain()\n")
    file.chmod(0o755)
    env = environment(HOME=str(home), ZDOTDIR=str(home), TERM="dumb", LANG="C.UTF-8")
    env["PATH"] = f"{folder}:{env['PATH']}"
    return env


class Zsh:
    """A zsh on a terminal of its own."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._leader, follower = pty.openpty()
        (folder.parent / "set-up.zsh").write_text(ZSH)
        self._program = subprocess.Popen(
            ["zsh", "-f", "-i"],
            cwd=folder,
            env=env,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        self._text = ""
        self._write(f"source {folder.parent}/set-up.zsh\n")
        self._until("ready\r")

    def complete(self, line: str) -> str:
        """Give the line as it is after a press of the tabulator key."""
        self._text = ""
        self._write(f"{line}\t")
        self._write("\x10")
        self._until(">\r")
        return self._text.rpartition("<")[2].partition(">")[0]

    def end(self) -> None:
        os.close(self._leader)
        self._program.wait(30)

    def _write(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def _until(self, text: str) -> None:
        while text not in self._text:
            read = os.read(self._leader, 4096).decode("utf-8", "replace")
            assert read, self._text
            self._text += read


@zsh
def test_zsh_completes(here: Path, shell: dict[str, str], cli: Any, plan: Path) -> None:
    assert cli("execute", plan).code == 0
    run = cli("runs", "list", "--json").document["runs"][0]["id"]
    terminal = Zsh(here, shell)
    try:
        for line, word in LINES:
            assert terminal.complete(line).split()[-1] == word, line
        assert terminal.complete("parallelai runs show r-").split()[-1] == run
        assert terminal.complete("parallelai execute pla").split()[-1] == plan.name
    finally:
        terminal.end()


@fish
@pytest.mark.parametrize(("line", "word"), LINES)
def test_fish_completes(here: Path, shell: dict[str, str], line: str, word: str) -> None:
    assert offered_by_fish(here, shell, line) == [word]


@fish
def test_fish_completes_runs_and_files(here: Path, shell: dict[str, str], cli: Any, plan: Path) -> None:
    assert cli("execute", plan).code == 0
    run = cli("runs", "list", "--json").document["runs"][0]["id"]
    assert offered_by_fish(here, shell, "parallelai runs show r-") == [run]
    assert offered_by_fish(here, shell, "parallelai execute pla") == [plan.name]


def offered_by_fish(folder: Path, env: dict[str, str], line: str) -> list[str]:
    script = "parallelai completion fish | source; complete --do-complete $argv[1]"
    ended = subprocess.run(
        ["fish", "--no-config", "-c", script, "--", line],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.stderr == ""
    return [offer.split("\t")[0] for offer in ended.stdout.splitlines()]
