"""Two plans with a workstream of one name: neither gives leave for, or lands, or forgets, what is the other's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

AGENT = (
    "name=$(git branch --show-current)\nname=${name##*/}\nmkdir -p src/$name\ncat plan > src/$name/made.py\n"
)
FIRST = """\
engines: {sh: {use: command, command: [sh, agent.sh]}}
defaults: {engine: sh}
workstreams:
  one: {description: One., owns: "src/one/**"}
  two: {description: Two., owns: "src/two/**", approve: true}
  three: {description: Three., owns: "src/three/**", depends_on: [one, two]}
"""
SECOND = """\
engines: {sh: {use: command, command: [sh, agent.sh]}}
defaults: {engine: sh}
workstreams:
  one: {description: One more., owns: "src/one/**", approve: true}
gates: {landing: [["false"]]}
"""


@pytest.fixture
def shop(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`one` of the first plan has landed, `two` waits for leave; and so does `one` of the second plan."""
    files = {"first.yaml": FIRST, "second.yaml": SECOND, "agent.sh": AGENT, "plan": "by = 1\n"}
    shop = shop_with(tmp_path, monkeypatch, files)
    assert cli("work", "run", "first.yaml").code == 4
    (shop / "plan").write_text("by = 2\n")
    commit(shop, "the second")
    assert cli("work", "run", "second.yaml").code == 4
    assert git(shop, "show", "parallelai/one:src/one/made.py") == "by = 2"
    return shop


def rows(called: Any) -> dict[str, Any]:
    return {row["id"]: row for row in called.document["tasks"]}


def test_a_plan_does_not_land_what_waits_for_leave_in_another(cli: Any, shop: Path) -> None:
    before = git(shop, "rev-parse", "main")

    called = cli("work", "run", "first.yaml", "--json")

    assert git(shop, "rev-parse", "main") == before
    one = rows(called)["one"]
    assert (called.code, one["status"]) == (4, "skipped")
    landed = git(shop, "log", "--format=%h", "--abbrev=10", "--grep=Task: one", "--max-count=1", "--merges")
    assert one["because"] == f"it landed as {landed}, and `second.yaml` has a workstream `one` by now"
    assert cli("work", "approve", "one").code == 0  # it waits still


def test_a_plan_goes_on_from_what_it_landed_once_the_name_is_free(cli: Any, shop: Path) -> None:
    assert cli("work", "approve", "two").code == 0
    assert cli("work", "drop", "one", "--yes").code == 0

    called = cli("work", "run", "first.yaml", "--json")

    assert (called.code, {row["status"] for row in called.document["tasks"]}) == (0, {"ok"})
    assert (shop / "src/one/made.py").read_text() == "by = 1\n"
    merges = git(shop, "log", "--format=%h", "--grep=Task: one", "--merges").splitlines()
    assert len(merges) == 1  # it was not done again
    assert git(shop, "show", "HEAD:src/three/made.py") == "by = 2"
