"""git's own merges in one process agree with `git merge`."""

import subprocess
from pathlib import Path

from parallelai.git import attributes
from parallelai.git.merging import merge, merge_all, with_base
from parallelai.git.plumbing import Git


def _git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    done = subprocess.run(["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _branches(root: Path) -> dict[str, str]:
    root.mkdir()
    _git(root, "init", "-q", "-b", "main")
    (root / "f").write_text("a\nb\nc\n")
    (root / "gone").write_text("x\n")
    _git(root, "add", "-A")
    _git(root, "commit", "-qm", "0")
    changes = {
        "A": {"f": "a\nB\nc\n", "gone": "y\n", "new": "of A\n"},
        "B": {"f": "a\nX\nc\n", "gone": None, "new": "of B\n"},
        "C": {"g\n\thard": "z\n"},
    }
    for name, files in changes.items():
        _git(root, "checkout", "-qb", name, "main")
        for path, text in files.items():
            (root / path).write_text(text) if text is not None else (root / path).unlink()
        _git(root, "add", "-A")
        _git(root, "commit", "-qm", name)
    return {name: _git(root, "rev-parse", name) for name in ("main", "A", "B", "C")}


async def test_conflicts_have_their_kinds_and_both_sides(tmp_path: Path) -> None:
    heads = _branches(tmp_path / "r")
    git = Git(tmp_path / "r" / ".git")
    clean, not_clean, again = await merge_all(
        git, [(heads["A"], heads["C"]), (heads["A"], heads["B"]), (heads["B"], heads["C"])]
    )
    assert (clean.is_clean, again.is_clean, not_clean.is_clean) == (True, True, False)
    assert {one.path: one.kind for one in not_clean.conflicts} == {
        "f": "content",
        "gone": "modify/delete",
        "new": "add/add",
    }
    stages = {one.path: set(one.stages) for one in not_clean.conflicts}
    assert stages == {"f": {1, 2, 3}, "gone": {1, 2}, "new": {2, 3}}
    assert b"<<<<<<<" in await git.run("cat-file", "blob", f"{not_clean.tree}:f")
    _git(tmp_path / "r", "checkout", "-q", "A")
    _git(tmp_path / "r", "merge", "-q", "C", "-m", "m")
    assert clean.tree == _git(tmp_path / "r", "rev-parse", "HEAD^{tree}")


async def test_a_base_of_our_choosing_is_taken(tmp_path: Path) -> None:
    heads = _branches(tmp_path / "r")
    git = Git(tmp_path / "r" / ".git")
    # With A as the base of both, B undoes what A did: no conflict is left.
    a, b = [await with_base(git, heads[name], heads["A"]) for name in "AB"]
    merged = await merge(git, a, b)
    assert merged.is_clean
    assert merged.tree == _git(tmp_path / "r", "rev-parse", "B^{tree}")


async def test_attributes_of_the_checkout_count(tmp_path: Path) -> None:
    root = tmp_path / "r"
    root.mkdir()
    _git(root, "init", "-q", "-b", "main")
    (root / ".gitattributes").write_text("LOG merge=union\n")
    (root / "LOG").write_text("old\n")
    _git(root, "add", "-A")
    _git(root, "commit", "-qm", "0")
    heads = []
    for name in ("A", "B"):
        _git(root, "checkout", "-qb", name, "main")
        (root / "LOG").write_text(f"old\nof {name}\n")
        _git(root, "commit", "-qam", name)
        heads.append(_git(root, "rev-parse", name))
    git = Git(root / ".git")
    (merged,) = await attributes.merge_all(attributes.Attributes(git), [(heads[0], heads[1])])
    assert merged.is_clean
    assert await git.run("cat-file", "blob", f"{merged.tree}:LOG") == b"old\nof A\nof B\n"
    assert not (await merge(git, heads[0], heads[1])).is_clean  # without a checkout git sees no attributes


async def test_commits_that_only_carry_a_tree_are_not_older_than_their_parents(tmp_path: Path) -> None:
    heads = _branches(tmp_path / "r")
    git = Git(tmp_path / "r" / ".git")
    made = await with_base(git, heads["A"], heads["main"])
    dates = (await git.line("log", "--format=%ct", "-2", made)).split()
    assert dates[0] == dates[1]
