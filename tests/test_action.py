"""The GitHub Action and the pre-commit hooks: well formed, and their command lines do what they say."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from parallelai.cli import app
from running import environment, project

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
HOOKS = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
BAD = {"a.py": "password = 'hunter2hunter2'\n", "b c.py": "x = 1\n"}


def step(name: str) -> dict[str, Any]:
    (found,) = (one for one in ACTION["runs"]["steps"] if one["name"] == name)
    return found


def on_path() -> dict[str, str]:
    """The environment with this installation first on the PATH, as after the action's own installation."""
    return {**environment(), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return project(tmp_path / "project", BAD)


def review(here: Path, **inputs: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str], str]:
    """Run the action's review with its defaults and these inputs, as a runner would."""
    output, summary = here.parent / "output", here.parent / "summary"
    output.write_text("")
    summary.write_text("")
    one = step("Review")
    given = {name: str(one_input["default"]) for name, one_input in ACTION["inputs"].items()} | inputs
    env = {
        key: given[value.removeprefix("${{ inputs.").removesuffix(" }}")] for key, value in one["env"].items()
    }
    files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
    argv = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", one["run"]]
    ended = subprocess.run(
        argv, cwd=here, env={**on_path(), **env, **files}, capture_output=True, text=True, timeout=100
    )
    outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
    return ended, outputs, summary.read_text()


# --- the action


def test_the_action_is_a_composite_one_whose_inputs_are_all_used() -> None:
    assert ACTION["runs"]["using"] == "composite"
    text = (ROOT / "action.yml").read_text()
    for name, one in ACTION["inputs"].items():
        assert f"inputs.{name}" in text
        assert one["description"]
    for one in ACTION["runs"]["steps"]:
        assert ("run" in one) == (one.get("shell") == "bash")
        assert "${{" not in one.get("run", ""), "an input in a script would be part of the script"
    assert "security-events: write" in ACTION["inputs"]["upload-sarif"]["description"]


def test_the_action_installs_itself_unless_told_otherwise() -> None:
    script = step("Install")["run"].replace("python -m pip", "echo")
    for package, last in (("", "/the/action"), ("parallelai==9", "parallelai==9")):
        env = {"PACKAGE": package, "GITHUB_ACTION_PATH": "/the/action", "PATH": os.environ["PATH"]}
        said = subprocess.run(
            ["bash", "-c", script], env=env, capture_output=True, text=True, check=True
        ).stdout
        assert said.split()[-1] == last


def test_the_action_reviews_annotates_sums_up_and_fails(here: Path) -> None:
    ended, outputs, summary = review(here)
    assert ended.returncode == 1, ended.stderr
    assert (outputs["exit-code"], outputs["findings"]) == ("1", "1")
    assert outputs["run"].startswith("r-")
    assert "::error file=a.py,line=1," in ended.stdout
    assert summary.startswith("<!-- parallelai -->")
    assert '"ruleId":"S105"' in (here / "parallelai.sarif").read_text()


def test_the_action_takes_patterns_with_spaces_and_a_threshold(here: Path) -> None:
    ended, outputs, summary = review(here, patterns="b c.py\n\n", **{"fail-on": "low"})
    assert (ended.returncode, outputs["findings"]) == (0, "0"), ended.stderr
    assert "1 file looked at" in summary
    ended, outputs, _ = review(here, **{"fail-on": "never"})
    assert (ended.returncode, outputs["findings"]) == (0, "1")


def test_the_action_never_runs_what_an_input_says(here: Path) -> None:
    attack = 'x"; touch hacked; $(touch hacked) `touch hacked`'
    for names in (("patterns", "checklist"), ("since", "baseline"), ("engine", "template")):
        ended, outputs, _ = review(here, **dict.fromkeys(names, attack))
        assert outputs["exit-code"] == str(ended.returncode)
        assert not (here / "hacked").exists()


def test_the_action_says_why_nothing_could_be_done(here: Path) -> None:
    ended, outputs, summary = review(here, engine="nobody")
    assert (ended.returncode, outputs["run"], outputs["findings"], summary) == (2, "", "0", "")
    assert "`nobody`" in ended.stderr


# --- the hooks


def test_the_hooks_name_commands_and_flags_that_there_are() -> None:
    assert set(HOOKS) == {"parallelai-review", "parallelai-templates", "parallelai-plan"}
    for hook in HOOKS.values():
        assert {"id", "name", "description", "entry", "language"} <= set(hook)
        program, *words = shlex.split(hook["entry"])
        assert (program, hook["language"]) == ("parallelai", "python")
        command: Any = app
        context: Any = app.make_context("parallelai", [], resilient_parsing=True)
        while words and hasattr(command, "get_command") and command.get_command(context, words[0]):
            command = command.get_command(context, words.pop(0))
        assert command is not app
        flags = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in hook.get("args", ()) if word.startswith("--")} <= flags


def hooked(here: Path, name: str, *files: str) -> subprocess.CompletedProcess[str]:
    """Run a hook as pre-commit does: the entry, its arguments, the files."""
    hook = HOOKS[name]
    argv = [*shlex.split(hook["entry"]), *hook.get("args", ()), *files]
    return subprocess.run(argv, cwd=here, env=on_path(), capture_output=True, text=True, timeout=100)


def test_the_review_hook_stops_a_commit_with_a_severe_finding(here: Path) -> None:
    ended = hooked(here, "parallelai-review", "a.py", "b c.py")
    assert (ended.returncode, "S105" in ended.stdout) == (1, True)
    assert hooked(here, "parallelai-review", "b c.py").returncode == 0


def test_the_other_hooks_check_what_they_say(here: Path) -> None:
    folder = here / ".parallelai/templates"
    folder.mkdir(parents=True)
    (folder / "x.yaml").write_text("prompt: ok\n")
    assert hooked(here, "parallelai-templates", ".parallelai/templates/x.yaml").returncode == 0
    (folder / "x.yaml").write_text("prompt: ok\nmodle: 1\n")
    assert hooked(here, "parallelai-templates", ".parallelai/templates/x.yaml").returncode == 2
    (folder / "x.yaml").unlink()
    (here / "parallelai.yaml").write_text("tasks: [{id: a, description: b, engine: mock}]\n")
    assert hooked(here, "parallelai-plan").returncode == 0
    (here / "parallelai.yaml").write_text("tasks: [{id: a}]\n")
    assert hooked(here, "parallelai-plan").returncode == 2
