"""What a person took back with `git revert`: it has not landed, and stays until somebody asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import git, shop_with

PLAN = """\
version: 1
engines: {sh: {use: command, command: ["true"]}}
workstreams:
  abe: {description: A., owns: src/abe.py, engine: sh}
gates: {landing: ["true"], canary: "off"}
"""


@pytest.fixture
def shop(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a workstream that is ready to land."""
    root = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    assert cli("work", "start", "plan.yaml").code == 0
    (tmp_path / "shop-worktrees" / "abe" / "src" / "abe.py").write_text("x = 1\n")
    assert cli("work", "done", "abe").code == 0
    return root


@pytest.mark.parametrize(
    ("by_hand", "side"), [("", ("-m", "1")), ("--no-ff", ("-m", "1")), ("--ff-only", ())]
)
def test_what_was_merged_and_reverted_is_told_and_stays_until_it_is_asked_for(
    cli: Any, shop: Path, by_hand: str, side: tuple[str, ...]
) -> None:
    if by_hand:
        git(shop, "merge", "-q", by_hand, "parallelai/abe")
    else:
        assert cli("work", "land", "abe").code == 0
    git(shop, "revert", "--no-edit", *side, "HEAD")
    reverted = f"was reverted on `main` by {git(shop, 'rev-parse', 'HEAD')[:10]}"
    again = "`parallelai work land abe` lands it again"

    (row,) = cli("work", "status", "--json").document["workstreams"]
    assert (row["stage"], row["is_ready"], row["landed"]) == ("undone", False, None)
    assert row["why"] == f"its landing {reverted}; {again}"
    assert "+x = 1" in cli("work", "diff", "abe").out
    assert f"abe: left out: it {reverted}: {again}" in cli("work", "land", "--all").out
    assert f"`abe` {reverted}; `work land abe`" in cli("work", "run", "plan.yaml").out
    assert not (shop / "src" / "abe.py").exists()
    kept = cli("work", "clean").out
    assert (f"kept: its landing {reverted}" in kept, "\n  parallelai work land abe\n" in kept) == (True, True)

    landed = cli("work", "land", "abe").out
    assert (f"  it {reverted} before\n" in landed, landed.endswith("1 of 1 landed\n")) == (True, True)
    assert (shop / "src" / "abe.py").read_text() == "x = 1\n"
    assert cli("work", "status", "--json").document["workstreams"] == []
    assert cli("work", "clean").out == "abe: removed\n"


def test_what_no_message_tells_of_is_not_removed_while_the_target_has_it_not(cli: Any, shop: Path) -> None:
    base = git(shop, "rev-parse", "HEAD")
    git(shop, "merge", "-q", "--ff-only", "parallelai/abe")
    git(shop, "rm", "-q", "src/abe.py")
    git(shop, "commit", "-qm", "Away with it")
    assert "is on main at" in cli("work", "land", "abe").out

    kept = cli("work", "clean").out

    picks = f"git cherry-pick {base}..parallelai/abe"
    assert ("its work was in `main`, and was taken back" in kept, f"\n  {picks}\n" in kept) == (True, True)
    git(shop, *picks.split()[1:])
    assert cli("work", "clean").out == "abe: removed\n"
