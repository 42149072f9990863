"""A plan that was moved or renamed: its workstreams are known as its own, and nothing is done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import git, shop_with

PLAN = """\
version: 1
engines: {sh: {use: command, command: [python3, agent.py]}}
defaults: {engine: sh}
workstreams:
  a: {description: A., owns: src/a.txt}
gates: {landing: ["true"], canary: "off"}
"""
AGENT = "import sys\nsys.stdin.read()\nopen('src/a.txt', 'a').write('a')\n"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a plan of one workstream."""
    return shop_with(tmp_path, monkeypatch, {"old.yaml": PLAN, "agent.py": AGENT})


def test_what_was_begun_under_the_plans_old_name_is_neither_begun_nor_done_again(
    cli: Any, shop: Path
) -> None:
    assert cli("work", "start", "old.yaml").code == 0
    (shop / "plans").mkdir()
    (shop / "old.yaml").rename(shop / "plans" / "new.yaml")

    for words in (("work", "start"), ("work", "run"), ("execute",)):
        called = cli(*words, "plans/new.yaml", "--json")

        assert called.code == 2, words
        assert called.error["said"].startswith("`a` of `plans/new.yaml` belongs to `old.yaml`, which is not")
        assert "`mv plans/new.yaml old.yaml && parallelai work run old.yaml`" in called.error["next"]
        assert "`parallelai work drop a`" in called.error["next"]
    assert len(cli("runs", "list", "--json").document["runs"]) == 1  # nothing was written down

    (shop / "plans" / "new.yaml").rename(shop / "old.yaml")
    assert cli("work", "run", "old.yaml").code == 0
    assert (shop / "src" / "a.txt").read_text() == "a"


def test_what_landed_under_the_plans_old_name_is_not_done_again_unless_that_is_asked_for(
    cli: Any, shop: Path
) -> None:
    assert cli("work", "run", "old.yaml").code == 0
    landed = git(shop, "rev-parse", "main")
    (shop / "old.yaml").rename(shop / "new.yaml")

    called = cli("work", "run", "new.yaml")

    assert (called.code, git(shop, "rev-parse", "main")) == (2, landed)
    assert "`a` of `new.yaml` belongs to `old.yaml`" in called.err
    anew = cli("work", "run", "new.yaml", "--new")
    assert (anew.code, (shop / "src" / "a.txt").read_text()) == (0, "aa")
    assert cli("work", "run", "new.yaml").code == 0  # it is the plan's own now


def test_another_plan_may_use_the_names_of_what_has_landed(cli: Any, shop: Path) -> None:
    assert cli("work", "run", "old.yaml").code == 0
    (shop / "old.yaml").unlink()
    (shop / "next.yaml").write_text(PLAN.replace("A.", "Something else."))

    assert cli("work", "run", "next.yaml").code == 0
    assert (shop / "src" / "a.txt").read_text() == "aa"
