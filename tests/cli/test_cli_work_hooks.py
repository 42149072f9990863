"""The user's hooks at landings, as `work land` and what belongs to it show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

HOOK = """\
#!/bin/sh
git diff --cached --name-only | grep -q bad || exit 0
echo "not this one" >&2
exit 1
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with branches `good` and `bad`, and a hook for merges that refuses the latter."""
    root = shop_with(tmp_path, monkeypatch, {"a.txt": "a\n"})
    for name in ("good", "bad"):
        git(root, "checkout", "-qb", name, "main")
        (root / f"{name}.txt").write_text(name)
        commit(root, name)
    git(root, "checkout", "-q", "main")
    for name in ("pre-merge-commit", "pre-commit"):
        hook = root / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(HOOK)
        hook.chmod(0o755)
    return root


def test_a_dry_run_names_the_hooks_that_will_run_and_why_others_will_not(cli: Any, shop: Path) -> None:
    before = git(shop, "status", "--porcelain")
    called = cli("work", "land", "--branches", "good", "bad", "--dry-run")
    assert called.out.splitlines()[2:4] == [
        "note: the `pre-merge-commit` hook (`.git/hooks/pre-merge-commit`) runs on what lands, before the gates",
        "note: the `pre-commit` hook (`.git/hooks/pre-commit`) is not run:"
        " git has none of this name for a merge",
    ]
    assert git(shop, "status", "--porcelain") == before


def test_a_branch_that_a_hook_refuses_is_blocked_with_its_words_and_its_log(cli: Any, shop: Path) -> None:
    before = git(shop, "status", "--porcelain")
    shadow = cli("work", "conflicts", "--branches", "good", "bad", "--shadow")
    said = "`bad` is refused: the `pre-merge-commit` hook failed (exit 1): not this one\n  at "
    assert f"breaks alone: bad (gate failed)\n  {said}" in shadow.out
    assert git(shop, "status", "--porcelain") == before

    called = cli("work", "land", "--branches", "good", "bad")
    assert called.code == 4
    assert f"bad: not landed: {said}" in called.out
    assert "1 of 2 landed" in called.out
    log = called.out.partition("\n  at ")[2].partition("\n")[0]
    assert "not this one" in (shop / log).read_text()


def test_a_landing_is_taken_back_without_a_hook_as_git_reverts(cli: Any, shop: Path) -> None:
    assert cli("work", "land", "--branches", "good").code == 0
    (shop / ".git" / "hooks" / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    assert cli("work", "undo", "good").code == 0
    assert not (shop / "good.txt").exists()
