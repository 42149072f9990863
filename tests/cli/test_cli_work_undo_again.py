"""`work undo` given again, because the first call could not move the checkout, or was cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

PLAN = """\
version: 1
workstreams:
  one: {description: A., owns: one.txt}
  two: {description: B., owns: two.txt}
gates: {landing: ["true"], canary: "off"}
"""


@pytest.fixture(params=["branches", "workstreams"])
def shop(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A repository on which `one`, and then `two`, has landed."""
    root = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})
    for name in ("one", "two"):
        if request.param == "branches":
            git(root, "switch", "-qc", name)
            (root / f"{name}.txt").write_text("x\n")
            commit(root, name)
            git(root, "switch", "-q", "main")
            assert cli("work", "land", "--branches", name).code == 0
        else:
            assert cli("work", "start", "plan.yaml", name).code == 0
            (tmp_path / "shop-worktrees" / name / f"{name}.txt").write_text("x\n")
            assert cli("work", "done", name).code == 0
            assert cli("work", "land", name).code == 0
    return root


def there(shop: Path) -> set[str]:
    return set(git(shop, "ls-tree", "--name-only", "main").split()) & {"one.txt", "two.txt"}


@pytest.mark.parametrize("names", [(), ("two",)])
def test_what_waits_is_taken_over_and_nothing_else_is_taken_back(
    cli: Any, shop: Path, names: tuple[str, ...]
) -> None:
    (shop / "two.txt").write_text("mine\n")
    for _ in range(2):
        waits = cli("work", "undo", *names)
        assert (waits.code, "two: taken back on parallelai/landing/main" in waits.out) == (4, True)
        assert "one:" not in waits.out
        assert "your checkout waits: what you changed in `two.txt` is in the way" in waits.err
    git(shop, "checkout", "two.txt")

    again = cli("work", "undo", *names)

    assert (again.code, again.out.startswith("two: taken back from main;")) == (0, True)
    assert (there(shop), (shop / "two.txt").exists()) == ({"one.txt"}, False)
    assert cli("work", "undo", "two").code == 2
    assert cli("work", "undo").out.startswith("one: taken back from main;")


def test_who_names_several_has_the_rest_taken_back_by_the_same_call(cli: Any, shop: Path) -> None:
    assert cli("work", "undo", "two").code == 0  # and there the call for both was killed

    again = cli("work", "undo", "one", "two")

    assert again.code == 0
    assert {line.split(":")[0] for line in again.out.splitlines()} == {"one", "two"}
    assert there(shop) == set()
    assert "`one` was taken back already" in cli("work", "undo", "one", "two").err
