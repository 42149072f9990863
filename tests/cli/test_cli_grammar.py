"""What is a command line: global flags anywhere, nouns in both numbers, mistakes that are told in a line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parallelai.cli import COMMANDS, LATER, SAME
from parallelai.cli.work import work
from running import environment, run_program

VERBS = {
    "plan": ("check", "show", "graph", "estimate", "convert", "schema"),
    "runs": (
        "list",
        "show",
        "logs",
        "resume",
        "cancel",
        "pause",
        "add",
        "retry",
        "compare",
        "export",
        "prune",
        "delete",
    ),
    "engines": ("list", "test"),
    "cache": ("info", "clear"),
    "config": ("show",),
}
COMMAND_LINES = [[name] for name in COMMANDS] + [
    [noun, verb] for noun, verbs in VERBS.items() for verb in verbs
]


@pytest.mark.parametrize("command", [[], *COMMAND_LINES], ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_fits_a_terminal_and_goes_to_stdout(cli: Any, command: list[str], flag: str) -> None:
    called = cli(*command, flag)

    assert (called.code, called.err) == (0, "")
    assert f"Usage: {' '.join(['parallelai', *command])}" in called.out
    assert max(map(len, called.out.splitlines())) <= 80


@pytest.mark.parametrize("noun", [*VERBS, "work", "templates"])
def test_help_of_a_noun_cuts_no_verbs_line(cli: Any, noun: str) -> None:
    assert "..." not in cli(noun, "--help").out.partition("\nCommands")[2]


def test_help_lists_each_verb_once_and_leaves_out_what_only_git_calls(cli: Any) -> None:
    shown = cli("work", "--help").out
    assert all(shown.count(f"\n  {name} ") == 1 for name in work.commands if name != "guard-check")
    assert "guard-check" not in shown
    assert cli("work", "guard-check", "--help").code == 0


def test_help_has_one_place_for_what_every_command_takes(cli: Any) -> None:
    said = cli("runs", "cancel", "--help").out
    assert "\nOptions:" not in said
    assert said.rstrip().endswith("-h, --help                   Show this message and exit.")


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    look = (
        "import sys, parallelai.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'rich', 'yaml', 'sqlite3', 'jinja2', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", look],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stderr == "[]\n"
    for name in COMMANDS:
        assert f"\n  {name} " in ended.stdout


def test_no_command_shows_help_on_stderr(cli: Any) -> None:
    for command in ([], ["runs"], ["plan"]):
        called = cli(*command)
        assert (called.code, called.out) == (2, "")
        assert called.err.startswith("Usage: ")


@pytest.mark.parametrize(
    "written", ["work", "work hooks", "runs", "run", "plan", "engines", "templates", "config"]
)
def test_no_command_with_json_is_one_document_wherever_the_flag_stands(cli: Any, written: str) -> None:
    before, after = cli("--json", *written.split()), cli(*written.split(), "--json")

    assert (before.code, before.document) == (after.code, after.document)
    assert (before.code, before.error["kind"], before.error["said"]) == (2, "usage", "missing command")
    noun = "runs" if written == "run" else written
    assert before.error["next"] == f"see `parallelai {noun} --help`"
    assert "Usage: " not in before.err


def test_version_is_a_result(cli: Any) -> None:
    called = cli("--version")

    assert (called.code, called.err) == (0, "")
    assert called.out.startswith("parallelai ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json", "runs", "list"),
        ("runs", "--json", "list"),
        ("runs", "list", "--json"),
        ("--quiet", "run", "list", "--json", "-v"),
    ],
)
def test_global_flags_hold_wherever_they_are(cli: Any, here: Path, arguments: tuple[str, ...]) -> None:
    called = cli(*arguments)

    assert (called.code, called.document) == (0, {"runs": []})


def test_the_project_may_be_named_before_and_after(
    cli: Any, here: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)

    before = cli("--project", here, "review", "--dry-run", "--json")
    after = cli("review", "--dry-run", "--json", "--project", here)

    assert before.code == after.code == 0
    assert before.document == after.document
    assert "a.py" in before.document["files"]


def test_what_is_after_the_command_counts_more(cli: Any, here: Path) -> None:
    called = cli("--project", here / "not-there", "runs", "list", "--project", here)

    assert (called.code, called.out) == (0, "no run yet\n")


@pytest.mark.parametrize(("other", "noun"), sorted(SAME.items()))
def test_nouns_have_two_numbers(cli: Any, other: str, noun: str) -> None:
    if noun in LATER:
        assert cli(other, "x").err == cli(noun, "x").err.replace(f"`{noun}`", f"`{other}`", 1)
        return
    called, same = cli(other, "--help"), cli(noun, "--help")

    assert called.code == same.code == 0
    assert called.out == same.out


@pytest.mark.parametrize(
    ("arguments", "said", "next_"),
    [
        (["reviw"], "there is no command `reviw`", "did you mean `review`?"),
        (["runs", "lst"], "there is no command `runs lst`", "did you mean `list`?"),
        (["zzzz"], "there is no command `zzzz`", "`parallelai --help` lists them"),
        (["land"], "there is no command `land`", "did you mean `work land`?"),
        (["diff"], "there is no command `diff`", "did you mean `work diff` or `runs diff`?"),
        (["work", "path"], "there is no command `work path`", "`parallelai work --help` lists them"),
        (
            ["review", "--sincee", "x"],
            "no such option '--sincee'. (Did you mean",
            "see `parallelai review --help`",
        ),
        (["execute"], "missing argument 'PLAN'", "see `parallelai execute --help`"),
        (
            ["work", "land", "--branches"],
            "option '--branches' requires an argument",
            "see `parallelai work land --help`",
        ),
        (
            ["execute", "p", "--parallel", "0"],
            "invalid value for '--parallel'",
            "see `parallelai execute --help`",
        ),
        (
            ["execute", "p", "--parallel", "x"],
            "invalid value for '--parallel'",
            "see `parallelai execute --help`",
        ),
        (
            ["runs", "list", "extra"],
            "got unexpected extra argument (extra)",
            "see `parallelai runs list --help`",
        ),
        (["--color", "blue", "doctor"], "invalid value for '--color'", "see `parallelai --help`"),
    ],
)
def test_mistakes_are_told_in_a_line(
    cli: Any, here: Path, arguments: list[str], said: str, next_: str
) -> None:
    called = cli(*arguments)

    assert (called.code, called.out) == (2, "")
    first, second = called.err.splitlines()
    assert first.startswith(f"error: {said}")
    assert second == f"  next: {next_}"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("plan validate", "`check`"),
        ("work hooks remove", "`uninstall`"),
        ("runs rm", "`delete` or `prune`"),
        ("runs stop", "`cancel`"),
        ("config list", "`show`"),
        ("templates create", "`new`"),
        ("work stat", "`start` or `status`"),
        ("validate", "`plan check` or `templates check`"),
        ("kill", "`runs cancel` or `work stop`"),
        ("runs plan.yaml", "`parallelai execute plan.yaml` or `parallelai work run plan.yaml`"),
        ("my.yaml", "`parallelai execute my.yaml` or `parallelai work run my.yaml`"),
    ],
)
def test_another_word_for_a_command_is_understood(cli: Any, here: Path, written: str, meant: str) -> None:
    error = cli(*written.split(), "--json").error

    assert error["said"] == f"there is no command `{written}`"
    assert error["next"] == f"did you mean {meant}?"


def test_who_runs_a_plan_is_told_what_does(cli: Any, here: Path) -> None:
    assert "`parallelai execute 'a plan.yaml'` or" in cli("run", "a plan.yaml").err


@pytest.mark.parametrize("command", sorted(LATER))
def test_commands_of_later_versions_are_refused_by_name(cli: Any, command: str) -> None:
    called = cli(command, "anything", "--json")

    assert called.code == 2
    assert called.error["said"] == f"`{command}` is not built yet in this version of ParallelAI"
    assert called.error["next"] == LATER[command]


@pytest.mark.parametrize("flag", ["--monitor"])
@pytest.mark.parametrize("command", [["review"], ["execute", "plan.yaml"], ["runs", "resume"]], ids=" ".join)
def test_flags_of_later_versions_are_refused_by_name(
    cli: Any, plan: Path, command: list[str], flag: str
) -> None:
    called = cli(*command, flag, "--json")

    assert called.code == 2
    assert called.error["said"] == f"`{flag}` is not built yet in this version of ParallelAI"
    assert called.error["next"]


@pytest.mark.parametrize("flag", ["--since=x", "--staged", "--checklist=a"])
def test_flags_of_review_are_not_those_of_execute(cli: Any, plan: Path, flag: str) -> None:
    assert cli("execute", plan, flag).code == 2


def test_a_failure_with_json_is_one_document(tmp_path: Path) -> None:
    ended = run_program(tmp_path, "execute", "nothing.yaml", "--json")

    assert ended.returncode == 2
    assert set(json.loads(ended.stdout)) == {"error"}
    assert set(json.loads(ended.stdout)["error"]) >= {"kind", "said", "where", "next", "retry_helps"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(cli: Any, shell: str) -> None:
    called = cli("completion", shell)

    assert (called.code, called.err) == (0, "")
    assert "_PARALLELAI_COMPLETE" in called.out


def test_completion_of_another_shell_is_refused(cli: Any) -> None:
    assert cli("completion", "csh").code == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("parallelai re", ["review"]),
        ("parallelai runs re", ["resume", "retry"]),
        ("parallelai run co", ["compare"]),
        ("parallelai review --fail", ["--fail-on"]),
        ("parallelai completion z", ["zsh"]),
        ("parallelai --col", ["--color"]),
    ],
)
def test_completion_completes(tmp_path: Path, words: str, expected: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "parallelai"],
        env=environment(
            _PARALLELAI_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)
        ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert [line.partition(",")[2] for line in ended.stdout.splitlines()] == expected
    assert ended.stderr == ""
