"""`parallelai review`: which files, what it says, where it writes, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from running import run_program

Git = Callable[..., str]


def places(called: Any) -> list[str]:
    """The findings of a review as `file:rule`."""
    return sorted(f"{finding['file']}:{finding['rule']}" for finding in called.document["findings"])


@pytest.fixture
def git(here: Path) -> Git:
    """The project as a git repository with everything committed."""

    def call(*arguments: str) -> str:
        who = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        ended = subprocess.run(
            ["git", *who, *arguments], cwd=here, check=True, capture_output=True, text=True
        )
        return ended.stdout.strip()

    (here / ".gitignore").write_text(".parallelai/state/\nignored.py\n")
    call("init", "--quiet", "--initial-branch=main")
    call("add", "--all")
    call("commit", "--quiet", "--message=first")
    return call


# -- which files


def test_everything_is_reviewed_and_told(cli: Any, here: Path) -> None:
    called = cli("review")

    assert called.code == 0
    assert "a.py\n    2:1  low       S101 Use of `assert` detected\n" in called.out
    assert "src/deep/c.py\n" in called.out
    assert "1 file skipped: 1 no analyser for this kind of file\n" in called.out
    *_, findings, closing = called.out.splitlines()
    assert findings == "2 findings in 2 files: 2 low; 3 files looked at"
    assert closing.startswith("1 task: 1 ok · ")
    assert " s · by analyzers (auto) · run r-" in closing
    assert called.err.splitlines()[1].startswith("engine: `analyzers` (auto")


def test_who_has_only_files_that_nobody_reads_is_told_of_other_engines(cli: Any, here: Path) -> None:
    called = cli("review", "notes.txt")

    assert (called.code, "Nothing was looked at\n" in called.out) == (0, True)
    assert "name an engine: `--engine NAME`; `parallelai engines list` shows all\n" in called.err

    (here / "out.py").symlink_to("/etc/passwd")  # which no engine is given
    called = cli("review", "out.py")
    assert ("Nothing was looked at\n" in called.out, "name an engine" in called.err) == (True, False)


def test_a_file_that_failed_is_looked_at_by_the_same_command_once_it_is_right(cli: Any, here: Path) -> None:
    (here / "a.py").write_bytes(b'x = "\xff"\n')
    failed = cli("review", "a.py")
    assert failed.code == 4
    assert "once the failed files are put right, the same command looks at them" in failed.err
    assert "runs resume" not in failed.err
    (here / "a.py").write_text("x = 1\n")
    assert cli("review", "a.py").code == 0


@pytest.mark.parametrize(
    ("folder", "patterns", "found"),
    [
        (".", ["a.py"], ["a.py:S101"]),
        (".", ["*.py"], ["a.py:S101", "src/deep/c.py:S101"]),
        (".", ["/*.py"], ["a.py:S101"]),
        (".", ["src"], ["src/deep/c.py:S101"]),
        (".", ["./src/"], ["src/deep/c.py:S101"]),
        (".", ["src/**", "!deep/"], []),
        (".", ["**/*.py", "!src/deep/**"], ["a.py:S101"]),
        (".", ["!a.py"], ["src/deep/c.py:S101"]),
        ("src", ["deep/c.py"], ["src/deep/c.py:S101"]),
        ("src", ["."], ["src/deep/c.py:S101"]),
        ("src", ["*.py"], ["src/deep/c.py:S101"]),
        ("src", ["../a.py"], ["a.py:S101"]),
        ("src", [], ["a.py:S101", "src/deep/c.py:S101"]),
    ],
)
def test_patterns_count_from_the_current_folder(
    cli: Any, here: Path, monkeypatch: Any, folder: str, patterns: list[str], found: list[str]
) -> None:
    monkeypatch.chdir(here / folder)

    called = cli("review", *patterns, "--json")

    assert called.code == 0, called.out
    assert places(called) == found


def test_a_file_by_its_whole_path_and_one_with_a_strange_name(cli: Any, here: Path) -> None:
    (here / "[x] y*.py").write_text("assert 1\n")

    assert places(cli("review", here / "a.py", "--json")) == ["a.py:S101"]
    assert places(cli("review", "[x] y*.py", "--json")) == ["[x] y*.py:S101"]


def test_an_argument_that_is_not_utf8_is_named_beside_the_others(cli: Any, here: Path) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    (here / name).write_text("x = 1\n")
    for command in (["review", name, "src/b.py"], ["runs", "resume"]):
        called = cli(*command, "--json")
        assert called.code == 0
        assert called.document["files"]["covered"] == 1
        assert called.document["files"]["skipped"] == [
            {"file": "caf\\udce9.py", "why": "its name is not UTF-8"}
        ]


@pytest.mark.parametrize("patterns", [["*.nope"], ["a.py", "missing.py"], ["../outside.py"]])
def test_no_match_is_a_mistake(cli: Any, here: Path, patterns: list[str]) -> None:
    called = cli("review", "--json", *patterns)

    assert called.code == 2
    assert called.error["kind"] == "usage"
    assert set(called.error) == {"kind", "said", "where", "next", "retry_helps"}
    assert not (here / ".parallelai/state").exists()


def test_files_that_are_not_looked_at_are_named(cli: Any, here: Path) -> None:
    (here / "blob.py").write_bytes(b"\x00\x01" * 500)
    (here / "x_pb2.py").write_text("# Generated by the protocol buffer compiler.  DO NOT EDIT!\nassert 1\n")

    skipped = cli("review", "--json").document["files"]["skipped"]

    assert {one["file"]: one["why"] for one in skipped} == {
        "blob.py": "binary",
        "notes.txt": "no analyser for this kind of file",
        "x_pb2.py": "generated",
    }
    assert "3 files skipped: " in cli("review").out


# -- git


def test_what_git_ignores_is_not_reviewed(cli: Any, here: Path, git: Git) -> None:
    (here / "ignored.py").write_text("assert 1\n")

    assert places(cli("review", "--json")) == ["a.py:S101", "src/deep/c.py:S101"]


def test_since_a_revision(cli: Any, here: Path, git: Git) -> None:
    (here / "src/b.py").write_text("assert 2\n")
    git("commit", "--all", "--quiet", "--message=second")
    (here / "new.py").write_text("assert 3\n")

    assert places(cli("review", "--since", "HEAD", "--json")) == ["new.py:S101"]
    assert places(cli("review", "--since", "HEAD~1", "--json")) == ["new.py:S101", "src/b.py:S101"]
    assert places(cli("review", "--since", "main~1", "src", "--json")) == ["src/b.py:S101"]


def test_what_is_staged(cli: Any, here: Path, git: Git) -> None:
    (here / "src/b.py").write_text("assert 2\n")
    (here / "new.py").write_text("assert 3\n")
    git("add", "new.py")

    assert places(cli("review", "--staged", "--json")) == ["new.py:S101"]


@pytest.mark.parametrize("flags", [["--since", "HEAD"], ["--staged"], ["--staged", "a.py"]])
def test_nothing_changed_is_nothing_to_do(cli: Any, here: Path, git: Git, flags: list[str]) -> None:
    called, document = cli("review", *flags), cli("review", *flags, "--json")

    assert called.code == document.code == 0
    assert called.out == "nothing to review: of the files that you asked for, none has changed\n"
    assert document.document["tasks"] == document.document["findings"] == []
    assert document.document["outcome"] == "ok"


@pytest.mark.parametrize(
    "flags", [["--since", "nonesuch"], ["--since", "--upload-pack=x"], ["--since", "HEAD", "--staged"]]
)
def test_a_revision_that_is_none(cli: Any, here: Path, git: Git, flags: list[str]) -> None:
    called = cli("review", *flags, "--json")

    assert called.code == 2
    assert called.error["kind"] == "usage"


@pytest.mark.parametrize("flags", [["--since", "HEAD"], ["--staged"]])
def test_without_a_repository_git_is_asked_in_vain(cli: Any, here: Path, flags: list[str]) -> None:
    called = cli("review", *flags, "--json")

    assert called.code == 2
    assert "git" in called.error["said"]


# -- how it ends


@pytest.mark.parametrize(
    ("severity", "code"), [("never", 0), ("critical", 0), ("high", 0), ("medium", 0), ("low", 1), ("info", 1)]
)
def test_fail_on_a_severity(cli: Any, here: Path, severity: str, code: int) -> None:
    called = cli("review", "a.py", "--fail-on", severity, "--json")

    assert called.code == code == called.document["exit"]


def test_a_baseline_holds_what_was_accepted(cli: Any, here: Path) -> None:
    written = cli("review", "--baseline", "accepted.json", "--update-baseline", "--fail-on", "low")
    assert written.code == 0
    assert f"baseline written to {here / 'accepted.json'}" in written.err

    (here / "new.py").write_text("assert 1\n")
    called = cli("review", "--baseline", "accepted.json", "--fail-on", "low", "--json")

    states = {finding["file"]: finding["state"] for finding in called.document["findings"]}
    assert states == {"a.py": "baseline", "src/deep/c.py": "baseline", "new.py": "open"}
    assert called.code == 1
    shown = cli("review", "--baseline", "accepted.json", "--fail-on", "low").out
    assert "new.py\n" in shown
    assert "a.py\n" not in shown
    assert cli("review", "!new.py", "--baseline", "accepted.json", "--fail-on", "low").code == 0


def test_a_baseline_is_updated_as_a_whole(cli: Any, here: Path) -> None:
    cli("review", "--baseline", "b.json", "--update-baseline")
    (here / "a.py").write_text("x = 1\n")
    cli("review", "--baseline", "b.json", "--update-baseline")
    (here / "a.py").write_text("x = 1\nassert x\n")

    called = cli("review", "--baseline", "b.json", "--fail-on", "low", "--json")

    assert called.code == 1
    assert {f["file"]: f["state"] for f in called.document["findings"]}["a.py"] == "open"


@pytest.mark.parametrize(
    "flags",
    [
        ["--update-baseline"],
        ["--baseline", "missing.json"],
        ["--baseline", "notes.txt"],
        ["--baseline", "b.json", "--update-baseline", "--staged"],
        ["--template", "nonesuch"],
        ["--format", "pdf"],
        ["--output", "no/folder/here.json"],
        ["--output", "src"],
        ["--events", "no/folder/here.jsonl"],
        ["--budget", "3bananas"],
        ["--timeout", "soon"],
        ["--timeout", "0"],
        ["--fail-on", "horrible"],
        ["--engine", "nobody"],
        ["--strategy", "magic"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_refused_before_anything_is_done(
    cli: Any, here: Path, flags: list[str]
) -> None:
    called = cli("review", *flags, "--json")

    assert called.code == 2, called
    assert set(called.error) == {"kind", "said", "where", "next", "retry_helps"}
    assert called.error["retry_helps"] is False
    assert cli("runs", "list").out == "no run yet\n"


def test_a_checklist_is_for_models(cli: Any, here: Path) -> None:
    called = cli("review", "--checklist", "security, performance")

    assert called.code == 0
    assert "note: `analyzers` has rules of its own: the checklist is for models" in called.err
    assert "checklist is for models" not in cli("review", "--checklist", "security", "--engine", "mock").err


def test_a_misspelt_checklist_is_refused(cli: Any, here: Path) -> None:
    called = cli("review", "--engine", "mock", "--checklist", "securty")

    assert called.code == 2
    assert "did you mean `security`?" in called.err
    assert cli("review", "--engine", "mock", "--checklist", "weak hashes").code == 0


def test_a_checklist_reaches_the_engine(cli: Any, here: Path) -> None:
    (here / "parallelai.toml").write_text(
        '[engines.keep]\nuse = "command"\ncommand = ["sh", "-c", "cat > asked.txt; echo []"]\n'
    )
    assert cli("trust").code == 0

    called = cli("review", "a.py", "--engine", "keep", "--checklist", "no-surprises,tidy-names")

    assert called.code == 0, called
    asked = (here / "asked.txt").read_text()
    assert "no-surprises" in asked
    assert "tidy-names" in asked


def test_an_engine_twice_is_a_vote(cli: Any, here: Path) -> None:
    called = cli("review", "a.py", "--engine", "analyzers", "--engine", "mock", "--json")

    assert called.code == 0
    assert called.document["tasks"][0]["attempts"] == 2
    assert "engine: `analyzers`, `mock` (argument)" in called.err


# -- formats and places


def test_sarif_and_json_by_format(cli: Any, here: Path) -> None:
    sarif = json.loads(cli("review", "--format", "sarif").out)
    document = json.loads(cli("review", "--format", "json").out)

    assert sarif["version"] == "2.1.0"
    assert len(sarif["runs"][0]["results"]) == 2
    assert document["schema"] == "parallelai/run/1"
    assert cli("review", "--format", "terminal").out.startswith("a.py\n")


@pytest.mark.parametrize(
    ("name", "flags", "begins"),
    [
        ("out.json", [], "{"),
        ("out.sarif", [], "{"),
        ("out.txt", [], "a.py"),
        ("out.txt", ["--format", "sarif"], "{"),
    ],
)
def test_output_goes_to_a_file_and_not_to_stdout(
    cli: Any, here: Path, tmp_path: Path, name: str, flags: list[str], begins: str
) -> None:
    out = tmp_path / name
    called = cli("review", "--output", out, *flags, "--color", "always")

    assert (called.code, called.out) == (0, "")
    assert called.err.endswith(f"written to {out}\n")
    assert out.read_text().startswith(begins)
    assert "\x1b" not in out.read_text()
    if "sarif" in [name.partition(".")[2], *flags]:
        assert json.loads(out.read_text())["version"] == "2.1.0"


def test_json_on_stdout_also_where_the_result_goes_to_a_file(cli: Any, here: Path, tmp_path: Path) -> None:
    called = cli("review", "--output", tmp_path / "out.sarif", "--json")

    assert called.document["schema"] == "parallelai/run/1"
    assert json.loads((tmp_path / "out.sarif").read_text())["version"] == "2.1.0"


def test_events_into_a_file_and_to_stdout(cli: Any, here: Path, tmp_path: Path) -> None:
    to_file = cli("review", "--events", tmp_path / "events.jsonl")
    to_stdout = cli("review", "--events", "-")

    written = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    printed = [json.loads(line) for line in to_stdout.out.splitlines()]
    assert to_file.out.startswith("a.py\n")
    for events in (written, printed):
        assert [event["type"] for event in events][:2] == ["run.created", "run.started"]
        assert events[-1]["type"] == "run.ended"
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_events_and_json_on_stdout_are_lines_of_json(cli: Any, here: Path) -> None:
    *events, document = map(json.loads, cli("review", "--events", "-", "--json").out.splitlines())

    assert {event["v"] for event in events} == {1}
    assert document["schema"] == "parallelai/run/1"


def test_a_dry_run_says_what_and_who_and_does_nothing(cli: Any, here: Path) -> None:
    called, document = cli("review", "--dry-run"), cli("review", "src", "--dry-run", "--json").document

    assert called.code == 0
    *files, closing = called.out.splitlines()
    assert files == ["a.py", "notes.txt", "src/b.py", "src/deep/c.py"]
    assert closing.startswith("4 files would be reviewed by `analyzers` (auto")
    assert document["files"] == ["src/b.py", "src/deep/c.py"]
    assert document["engines"] == ["analyzers"]
    assert cli("runs", "list").out == "no run yet\n"


def test_quiet_is_results_only(cli: Any, here: Path) -> None:
    called = cli("review", "--quiet")

    assert called.err == ""
    assert called.out.startswith("a.py\n")


def test_results_on_stdout_all_else_on_stderr_of_a_program(here: Path) -> None:
    ended = run_program(here, "review", "--json")

    assert ended.returncode == 0
    assert json.loads(ended.stdout)["exit"] == 0
    assert ended.stderr.startswith("run r-")
    assert "\x1b" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("color", ["always", "never", "auto"])
def test_colours(cli: Any, here: Path, color: str) -> None:
    assert ("\x1b[" in cli("review", "--color", color).out) is (color == "always")


def test_colours_that_were_asked_for_win_over_no_color(cli: Any, here: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    assert "\x1b[" in cli("review", "--color", "always").out


def test_a_folder_that_went_away(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"rmdir {gone}; exec {' '.join(map(_quoted, _program()))} review --json"

    ended = subprocess.run(["sh", "-c", script], cwd=gone, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert json.loads(ended.stdout)["error"]["said"] == "the folder that you are in is gone"


def _program() -> tuple[str, ...]:
    from running import PROGRAM, environment

    return ("env", f"PYTHONPATH={environment()['PYTHONPATH']}", *PROGRAM)


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def test_whoever_reads_may_leave(here: Path) -> None:
    for number in range(300):
        (here / f"m{number}.py").write_text("assert 1\n")
    script = f"{' '.join(map(_quoted, _program()))} review | head -1; echo ${{PIPESTATUS[0]}}"

    ended = subprocess.run(
        ["bash", "-c", script], cwd=here, env=os.environ.copy(), capture_output=True, text=True, check=True
    )

    assert ended.stdout.splitlines()[-1] in ("0", "141")
    assert "Traceback" not in ended.stderr
    assert "Error" not in ended.stderr


def test_whose_project_is_all_of_the_home_folder_is_told(
    cli: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".parallelai").mkdir()
    (home / "work").mkdir()
    (home / "work/a.py").write_text("x = 1\n")
    monkeypatch.chdir(home / "work")
    note = (
        f"the project is `{home}`, for there is `{home / '.parallelai'}`; `--project .` makes it this folder"
    )

    assert note in cli("review").err
    assert "the project is" not in cli("review", "--project", ".").err


@pytest.mark.parametrize(
    "argv", [("review",), ("execute", "plan.yaml"), ("work", "run", "plan.yaml"), ("runs", "resume")]
)
def test_ctrl_c_ends_what_waits_for_the_list_of_files(
    cli: Any, here: Path, tmp_path: Path, argv: tuple[str, ...]
) -> None:
    (here / "plan.yaml").write_text("tasks: [{id: a, description: Do it., engine: mock}]\n")
    assert cli("execute", "plan.yaml").code == 0
    slow, begun, until = tmp_path / "programs" / "git", tmp_path / "begun", tmp_path / "enough"
    slow.parent.mkdir()
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *ls-files*) touch {begun}; until [ -e {until} ]; do sleep 0.05; done;; esac\n'
    )
    slow.chmod(0o755)
    env = {**os.environ, "PATH": f"{slow.parent}:{os.environ['PATH']}"}

    with subprocess.Popen([*_program(), *argv], cwd=here, env=env, stderr=subprocess.PIPE) as waiting:
        while not begun.exists() and waiting.poll() is None:
            time.sleep(0.01)
        waiting.send_signal(signal.SIGINT)
        try:
            _, err = waiting.communicate(timeout=60)
        finally:
            until.touch()

    assert waiting.returncode == 130
    assert b"interrupted" in err


def test_files_are_listed_also_where_no_thread_is_to_be_had(
    cli: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "listing":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    (here / "plan.yaml").write_text("tasks: [{id: a, description: Do it., engine: mock}]\n")

    assert cli("execute", "plan.yaml").code == 0
    assert cli("review", "--dry-run").code == 0
