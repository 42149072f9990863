"""git's answer always: random histories, with renamed folders and clashes, against git without any filter."""

from __future__ import annotations

import asyncio
import random
import subprocess
import tempfile
from itertools import combinations
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from repositories import Repository, run

from parallelai.git.ancestry import best_common, merge_bases
from parallelai.git.merging import Merged, merge_all
from parallelai.git.plumbing import Git, GitError
from parallelai.work.conflicts.merges import Merges

FOLDERS = ("a", "a/b", "c", "c/d")
LINES = [f"line {at}" for at in range(12)]


def content(folder: str, name: str) -> str:
    return "\n".join([f"{folder} {name}", *LINES]) + "\n"


def start() -> dict[str, str]:
    return {f"{folder}/{name}": content(folder, name) for folder in FOLDERS for name in ("x", "y")} | {
        "top": "t\n"
    }


def changed(files: dict[str, str], random_: random.Random) -> dict[str, str]:
    """What a side did: edits, deletes, renames of files and folders, files for folders and back, new files."""
    files = dict(files)
    for _ in range(random_.randint(1, 3)):
        paths = sorted(files)
        path = random_.choice(paths)
        match random_.choice(
            ("edit", "delete", "move", "folder", "add", "file-for-folder", "folder-for-file")
        ):
            case "edit":
                lines = files[path].split("\n")
                lines[random_.randrange(len(lines))] = f"changed {random_.randrange(3)}"
                files[path] = "\n".join(lines)
            case "delete" if len(paths) > 1:
                del files[path]
            case "move":
                files = put(
                    files,
                    f"{random_.choice((*FOLDERS, 'e', 'e/f'))}/m{random_.randrange(2)}",
                    files.pop(path),
                )
            case "folder":
                old, new = random_.choice(FOLDERS), random_.choice(("e", "f", "a/z", "top2"))
                moved = {each: text for each, text in files.items() if each.startswith(f"{old}/")}
                for each, text in moved.items():
                    del files[each]
                    files = put(files, new + each[len(old) :], text)
            case "add":
                folder = random_.choice((*FOLDERS, "a/b/q", "e", "f", "c/d/q"))
                files = put(files, f"{folder}/n{random_.randrange(3)}", f"new {random_.randrange(3)}\n")
            case "file-for-folder":
                files = put(files, random_.choice((*FOLDERS, "e")), "a file\n")
            case "folder-for-file":
                files = put(files, f"{path}/inner", "inner\n")
    return files or {"top": "t\n"}


def put(files: dict[str, str], path: str, text: str) -> dict[str, str]:
    """Put a file where it is; what is in its way goes, as it would in a work tree."""
    parts = path.split("/")
    above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    kept = {each: old for each, old in files.items() if each not in above and not each.startswith(f"{path}/")}
    return {**kept, path: text}


def history(folder: Path, seed: int, sides: int, *, is_chained: bool) -> list[str]:
    """Write commits of random sides by `git fast-import`, in one process; gives their hashes."""
    random_ = random.Random(seed)
    base = start()
    trees: list[tuple[dict[str, str], int | None]] = [(base, None)]
    for _ in range(sides):
        parent = random_.randrange(len(trees)) if is_chained else 0
        trees.append((changed(trees[parent][0], random_), parent))
    stream = []
    for at, (files, parent) in enumerate(trees):
        stream.append(
            f"commit refs/heads/b{at}\nmark :{at + 1}\ncommitter t <t@t> {1_000_000_000 + at} +0000\n"
        )
        stream.append("data 1\nc\n" + (f"from :{parent + 1}\n" if parent is not None else "") + "deleteall\n")
        for path, text in files.items():
            stream.append(f"M 100644 inline {path}\ndata {len(text.encode())}\n{text}\n")
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)
    argv = ["git", "-C", str(folder), "fast-import", "--quiet"]
    subprocess.run(argv, input="".join(stream).encode(), check=True)
    refs = [f"refs/heads/b{at}" for at in range(len(trees))]
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", *refs], capture_output=True, check=True)
    return done.stdout.decode().split()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9), st.booleans())
def test_the_filter_never_differs_from_git(seed: int, is_chained: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        commits = history(Path(folder) / "r", seed, 9, is_chained=is_chained)
        git = Git(Path(folder) / "r")
        pairs = list(combinations(commits, 2))
        merges = Merges(git)
        found = run(merges.ask(pairs))
        plain = run(merged(git, pairs))
        for pair, one in zip(pairs, plain, strict=True):
            ours = found[pair]
            assert (ours is None or ours.is_clean) == (one is not None and one.is_clean), (seed, pair)
            if ours is not None and one is not None:
                assert ours.tree == one.tree


async def merged(git: Git, pairs: list[tuple[str, str]]) -> list[Merged | None]:
    """Merge each pair without any filter; None where git itself gives up, which 2.39 does on some renames."""
    try:
        return [*await merge_all(git, pairs)]
    except GitError:
        if len(pairs) == 1:
            return [None]
    half = len(pairs) // 2
    return [*await merged(git, pairs[:half]), *await merged(git, pairs[half:])]


def test_a_merge_on_which_git_itself_fails() -> None:
    with tempfile.TemporaryDirectory() as folder:
        commits = history(Path(folder) / "r", 460, 9, is_chained=True)
        git = Git(Path(folder) / "r")
        pairs = list(combinations(commits, 2))
        found, plain = run(Merges(git).ask(pairs)), run(merged(git, pairs))
        for pair, one in zip(pairs, plain, strict=True):
            ours = found[pair]
            assert (ours is None or ours.is_clean) == (one is not None and one.is_clean)


def test_the_filter_spares_merges(tmp_path: Path) -> None:
    made = Repository.start(tmp_path / "r")
    made.commit({f"src/{at}.py": "x\n" for at in range(6)})
    commits = []
    for at in range(6):
        made.git("checkout", "-q", "-b", f"b{at}", "main")
        commits.append(made.commit({f"src/{at}.py": "y\n", f"src/new{at}.py": "z\n"}))
    merges = Merges(Git(made.root / ".git"))
    found = run(merges.ask(list(combinations(commits, 2))))
    assert merges.count.merges == 0
    assert set(found.values()) == {None}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_merge_bases_are_the_best_common_ancestors(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 12))
    parents = {
        str(at): [str(each) for each in sorted(data.draw(st.sets(st.integers(0, at - 1), max_size=2)))]
        if at
        else []
        for at in range(count)
    }
    tips = [
        str(each)
        for each in data.draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=5, unique=True))
    ]
    above: dict[str, set[str]] = {}
    for commit, ups in parents.items():
        above[commit] = {commit}.union(*(above[up] for up in ups))
    shared = set.intersection(*(above[tip] for tip in tips))
    common = sorted(each for each in shared if not any(each in above[other] for other in shared - {each}))
    outside = {each for each in above if not any(each in above[one] for one in common)}
    rows = [
        (each, parents[each])
        for each in parents
        if each in outside and any(each in above[tip] for tip in tips)
    ]
    found = best_common(tips, rows, common)
    for a, b in combinations(tips, 2):
        both = above[a] & above[b]
        best = {each for each in both if not any(each in above[other] for other in both - {each})}
        assert set(found.get(frozenset((a, b)), ())) == best


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**9))
def test_merge_bases_as_git_gives_them(seed: int) -> None:
    random_ = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        commits = history(Path(folder) / "r", seed, 7, is_chained=True)
        git = Git(Path(folder) / "r")

        async def look() -> None:
            tips = list(commits)
            for _ in range(4):  # merges, crossing ones too, some dated long before their parents
                a, b = random_.sample(tips, 2)
                tree = await git.line("rev-parse", f"{a}^{{tree}}")
                tips.append(await git.line("commit-tree", tree, "-p", a, "-p", b, "-m", "m"))
            found = await merge_bases(git, tips)
            for a, b in combinations(dict.fromkeys(tips), 2):
                done = await git.attempt("merge-base", "--all", a, b)
                assert set(found.get(frozenset((a, b)), ())) == set(done.stdout.decode().split())

        asyncio.run(look())
