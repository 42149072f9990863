"""What was taken out of worktrees and is kept in git: it goes by its name, and with its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import git, shop_with

PLAN = "version: 1\nworkstreams: {one: {description: One., owns: one/**}}\n"


def test_what_is_kept_in_git_goes_by_name_and_with_its_run(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    assert cli("work", "start", "plan.yaml").code == 0
    run = cli("runs", "list", "--json").document["runs"][0]["id"]
    for name in ("other-000000000000", f"{run}/one-000000000000", f"{run}/two-000000000000"):
        git(shop, "update-ref", f"refs/parallelai/left/{name}", "HEAD")

    listed = cli("work", "clean").out
    assert "`parallelai work clean --left one-000000000000` lets it go" in listed, listed
    assert "--yes" in cli("work", "clean", "--left", "one").err
    assert cli("work", "clean", "--left", "one", "--dry-run").out == "one-000000000000: would be let go\n"
    assert cli("work", "clean", "--left", "one", "--yes").out == "one-000000000000: let go\n"
    assert cli("work", "clean", "--left", "one", "--yes").code == 2
    assert cli("runs", "delete", run, "--yes").code == 0
    assert git(shop, "for-each-ref", "--format=%(refname:lstrip=3)", "refs/parallelai/left/") == (
        "other-000000000000"
    )
