"""A journal that came with the project is not carried out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

PLAN = """\
engines: {m: {use: mock, args: [script.yaml]}}
defaults: {engine: m, retries: 0}
tasks: [{id: one, description: one}]
"""


@pytest.fixture
def failed(here: Path, cli: Any) -> Path:
    """A project with a run that has something left to do."""
    (here / "plan.yaml").write_text(PLAN)
    (here / "script.yaml").write_text("- {task: one, error: refused}\n")
    assert cli("execute", "plan.yaml").code == 4
    (here / "script.yaml").write_text("- {task: one, text: done}\n")
    return here


@pytest.mark.parametrize("words", [("runs", "resume"), ("execute", "plan.yaml", "--resume")])
def test_a_copied_state_is_not_resumed(
    failed: Path, tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(failed, copy)
    state = copy / ".parallelai/state"
    os.chmod(state, 0o700)
    monkeypatch.chdir(copy)
    ended = cli(*words)
    assert ended.code == 2
    assert "not recorded here" in ended.err
    assert "--trust" in ended.err
    assert cli("runs", "list").code == 0, "it can be looked at"

    assert cli(*words, "--trust").code == 0
    assert cli(*words).code == 0, "it was said once"


def test_one_s_own_state_is_resumed(failed: Path, cli: Any) -> None:
    assert cli("runs", "resume").code == 0


def test_a_state_without_its_word_is_foreign(failed: Path, cli: Any) -> None:
    (failed / ".parallelai/state/identity").write_text("0" * 32)
    assert cli("runs", "resume").code == 2
