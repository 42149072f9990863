"""Completion as a shell asks for it: commands, flags, files, this project's runs and engines."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from running import environment, run_program

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder for PATH with `parallelai` in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    file = folder / "parallelai"
    file.write_text(f"#!{sys.executable}\nfrom parallelai.cli import main\nmain()\n")
    file.chmod(0o755)
    return folder


def offered(program: Path, folder: Path, line: str) -> list[str]:
    """What bash, with the script that `completion bash` prints, offers at the end of a line."""
    words = line.split(" ")
    given = " ".join(f"'{word}'" for word in words)
    script = f"""
        eval "$(parallelai completion bash)" || exit 9
        COMP_WORDS=({given}); COMP_CWORD={len(words) - 1}
        compopt() {{ :; }}
        _parallelai_completion parallelai
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = environment()
    env["PATH"] = f"{program}:{env['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("parallelai re", ["review"]),
        ("parallelai plan es", ["estimate"]),
        ("parallelai run comp", ["compare"]),
        ("parallelai review --up", ["--update-baseline"]),
        ("parallelai execute --strat", ["--strategy"]),
        ("parallelai review --color al", ["always"]),
        ("parallelai --json runs li", ["list"]),
        ("parallelai completion f", ["fish"]),
    ],
)
def test_words(program: Path, here: Path, line: str, words: list[str]) -> None:
    assert offered(program, here, line) == words


def test_runs_and_engines_of_this_project(program: Path, here: Path, cli: Any, plan: Path) -> None:
    assert cli("execute", plan).code == 0
    run = cli("runs", "list", "--json").document["runs"][0]["id"]
    assert offered(program, here, "parallelai runs show r-") == [run]
    assert offered(program, here, "parallelai review --engine moc") == ["mock"]


def test_a_project_named_before(program: Path, here: Path, tmp_path: Path, cli: Any, plan: Path) -> None:
    assert cli("execute", plan).code == 0
    run = cli("runs", "list", "--json").document["runs"][0]["id"]
    assert offered(program, tmp_path, f"parallelai --project {here} runs show ") == [run]


def test_what_is_wrong_offers_nothing_and_makes_nothing(program: Path, here: Path) -> None:
    assert offered(program, here, "parallelai runs show ") == []
    assert not (here / ".parallelai/state").exists()
    (here / "parallelai.toml").write_text("[limits\n")
    assert offered(program, here, "parallelai runs show ") == []


def test_a_plan_is_a_file(here: Path) -> None:
    """The script asks the shell for file names where the program says that a file is meant."""
    env = environment(_PARALLELAI_COMPLETE="bash_complete", COMP_WORDS="parallelai execute ", COMP_CWORD="2")
    ended = subprocess.run(
        [sys.executable, "-c", "from parallelai.cli import main; main()"],
        cwd=here, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout == "file,\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_as_json(here: Path, cli: Any, shell: str) -> None:
    document = cli("completion", shell, "--json").document
    assert document["shell"] == shell
    assert document["script"].strip() == cli("completion", shell).out.strip()


def test_help_of_a_command_loads_nothing_heavy(here: Path) -> None:
    look = (
        "import sys, parallelai.cli as c\n"
        "try: c.main(sys.argv[1].split())\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'rich', 'yaml', 'sqlite3', 'jinja2', 'asyncio', 'parallelai.client'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    for command in ("review", "execute", "plan check", "runs resume", "engines list", "init", "doctor"):
        ended = subprocess.run(
            [sys.executable, "-c", look, f"{command} --help"],
            cwd=here, env=environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert ended.stderr == "[]\n", command


def test_completion_as_a_program(here: Path) -> None:
    ended = run_program(here, "completion", "bash")
    assert ended.returncode == 0
    assert "_parallelai_completion" in ended.stdout
