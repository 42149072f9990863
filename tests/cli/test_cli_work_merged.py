"""A pull request that its host squashed: the landing knows it again, and no commit of ours takes it back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

PLAN = """\
engines: {hands: {use: command, command: ["true"]}}
workstreams:
  one: {description: One., owns: "src/one/**", engine: hands}
landing: {via: pr}
"""
GH = '#!/bin/sh\n[ "$2" = list ] && echo "[]" || echo https://github.com/uma/shop/pull/1\n'


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a remote, and a `gh` that opens one pull request again and again."""
    shop = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    program = tmp_path / "bin" / "gh"
    program.parent.mkdir()
    program.write_text(GH)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    git(shop, "clone", "-q", "--bare", ".", str(tmp_path / "remote.git"))
    git(shop, "remote", "add", "origin", str(tmp_path / "remote.git"))
    return shop


def test_what_was_squashed_elsewhere_is_taken_back_there(cli: Any, shop: Path) -> None:
    assert cli("work", "start", "plan.yaml").code == 0
    made = shop.parent / "shop-worktrees" / "one" / "src" / "one" / "made.py"
    made.parent.mkdir(parents=True)
    made.write_text("made = 1\n")
    assert cli("work", "done", "one").code == 0
    assert "pull, then go on" in cli("work", "land", "one").out

    git(shop, "merge", "-q", "--squash", "parallelai/one")
    commit(shop, "One. (#1)")
    git(shop, "push", "-q", "origin", "main")
    git(shop, "reset", "-q", "--hard", "HEAD~1")
    called = cli("work", "land", "one")
    assert (called.code, "`origin/main` has it by now" in called.out) == (4, True)
    git(shop, "pull", "-q", "--ff-only", "origin", "main")
    assert cli("work", "land", "one").code == 0

    undone = cli("work", "undo", "one")
    assert (undone.code, "was squashed or rebased into `main`" in undone.err) == (2, True)
    assert "`git revert COMMIT` takes one back" in undone.err
    assert "nothing has landed yet" in cli("work", "undo").err
