"""Random trees, random edits by an assistant, random edits by the user meanwhile: nothing is ever lost."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from repositories import Repository, everything, lying, run

from parallelai.work.checkout import changes
from parallelai.work.checkout.changes import writes_for
from parallelai.work.checkout.writing import Checkout, NotWritten
from parallelai.work.scratch import folders
from parallelai.work.scratch.folders import Folder
from parallelai.work.scratch.snapshot import Snapshot, take_snapshot

# Few names, of which some are folders of others, so that edits meet.
NAMES = ("a", "b", "d", "d/a", "d/e", "d/e/f", "g/h", "n\nl", "é ü", "-x", '"q"')
LINES = tuple(f"line {number}\n" for number in range(12))
Node = tuple[str, bytes]

texts = st.lists(st.sampled_from(LINES), max_size=12).map(lambda lines: "".join(lines).encode())
contents = st.one_of(texts, st.binary(max_size=40), texts.map(lambda text: text.replace(b"\n", b"\r\n")))
nodes: st.SearchStrategy[Node] = st.one_of(
    st.tuples(st.sampled_from(["file", "program"]), contents),
    st.tuples(st.just("link"), st.sampled_from([b"nowhere", b"no/where"])),
)
trees = st.dictionaries(st.sampled_from(NAMES), nodes, max_size=8)
edits = st.dictionaries(st.sampled_from(NAMES), st.none() | nodes, max_size=5)


def lay(root: Path, name: str, node: Node | None) -> None:
    """Put something at a path as a user would: what is in the way goes."""
    path = root / name
    for parent in [*reversed(path.relative_to(root).parents[:-1]), path.relative_to(root)]:
        each = root / parent
        if each.is_symlink() or each.is_file():
            each.unlink()
        elif each == path and each.is_dir():
            shutil.rmtree(each)
    if node is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, content = node
    if kind == "link":
        path.symlink_to(content.decode())
        return
    path.write_bytes(content)
    path.chmod(0o755 if kind == "program" else 0o644)


def change(root: Path, wanted: dict[str, Node | None]) -> None:
    for name, node in wanted.items():
        lay(root, name, node)


async def cut(snapshot: Snapshot, path: Path) -> Folder:
    folder = await folders.check_out(snapshot, snapshot.commit, path, path.parent / "index")
    await folders.make_repository(snapshot, folder)
    return folder


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="parallelai-test-") as folder:
        yield Path(folder)


def files_and_modes(root: Path) -> dict[str, tuple[int, bytes]]:
    """All below a folder with permission bits, but folders that hold nothing."""
    found = everything(root)
    kept = {path: (mode, data) for path, (mode, _, data) in found.items() if not path.startswith(".git")}
    return {
        path: entry
        for path, entry in kept.items()
        if not (root / path).is_dir() or (root / path).is_symlink()
    }


async def worked_on(
    top: Path, tree: dict[str, Node], edited: dict[str, Node | None]
) -> tuple[Snapshot, str, Path]:
    """A checkout with a tree, uncommitted, and what an assistant made of it: snapshot, commit, its folder."""
    repository = Repository.start(top / "r")
    change(repository.root, dict(tree))
    snapshot = await take_snapshot(repository.root, top / "base.git")
    folder = await cut(snapshot, top / "w")
    change(folder.path, edited)
    measure = await folders.measure(snapshot, folder)
    assert measure.kept_out == ()
    return snapshot, measure.commit, folder.path


@settings(max_examples=25)
@given(tree=trees, edited=edits)
def test_the_patch_gives_what_the_assistant_left_and_apply_does_too(
    tree: dict[str, Node], edited: dict[str, Node | None]
) -> None:
    async def check(top: Path) -> None:
        snapshot, commit, worked = await worked_on(top, tree, edited)
        differing = {path for path, _, _ in await changes.contents(snapshot.git, snapshot.commit, commit)}
        patch = await folders.patch_of(snapshot, snapshot.commit, commit, differing)
        by_git = top / "by-git"
        shutil.copytree(snapshot.root, by_git, symlinks=True)
        if patch:
            subprocess.run(["git", "apply", "-"], cwd=by_git, input=patch, check=True)
        assert lying(by_git) == lying(worked)
        before = files_and_modes(snapshot.root)
        checkout = Checkout(snapshot.root, top / "records")
        writes = await writes_for(snapshot.git, snapshot.root, snapshot.commit, commit)
        checkout.write("task", writes)
        assert lying(snapshot.root) == lying(worked)
        assert await writes_for(snapshot.git, snapshot.root, snapshot.commit, commit) == []
        checkout.undo("task")
        assert files_and_modes(snapshot.root) == before

    with place() as top:
        run(check(top))


@settings(max_examples=40)
@given(tree=trees, edited=edits, meanwhile=edits)
@example(tree={}, edited={"d/a": ("file", b"")}, meanwhile={"d": ("link", b"nowhere")})
def test_what_the_user_edits_meanwhile_is_never_lost(
    tree: dict[str, Node], edited: dict[str, Node | None], meanwhile: dict[str, Node | None]
) -> None:
    async def check(top: Path) -> None:
        snapshot, commit, worked = await worked_on(top, tree, edited)
        base, theirs = lying(snapshot.root), lying(worked)
        change(snapshot.root, meanwhile)
        ours, before = lying(snapshot.root), files_and_modes(snapshot.root)
        checkout = Checkout(snapshot.root, top / "records")
        try:
            checkout.write("task", await writes_for(snapshot.git, snapshot.root, snapshot.commit, commit))
        except NotWritten as error:
            assert error.paths  # noqa: PT017 -- either outcome is right, and each is checked
            assert files_and_modes(snapshot.root) == before
            return
        now = lying(snapshot.root)
        for name in {*base, *ours, *theirs}:
            old, mine, new = base.get(name), ours.get(name), theirs.get(name)
            if mine == old:
                assert now.get(name) == new
            elif new in (old, mine):
                assert now.get(name) == mine
            else:  # both edited it: git's merge of the two, which keeps every line that the user added
                assert mine is not None
                assert now[name][1] == merged(top, old, mine, new)
        checkout.undo("task")
        assert files_and_modes(snapshot.root) == before

    with place() as top:
        run(check(top))


def merged(top: Path, *versions: Node | None) -> bytes:
    base, ours, theirs = (b"" if version is None else version[1] for version in versions)
    names = []
    for name, data in (("ours", ours), ("base", base), ("theirs", theirs)):
        (top / name).write_bytes(data)
        names.append(str(top / name))
    return subprocess.run(["git", "merge-file", "-p", *names], capture_output=True, check=True).stdout


async def test_edits_in_other_places_of_a_file_are_merged(tmp_path: Path) -> None:
    text = "".join(LINES).encode()
    edited = text.replace(b"line 1\n", b"theirs\n")
    snapshot, commit, _ = await worked_on(tmp_path, {"a": ("file", text)}, {"a": ("file", edited)})
    mine = text.replace(b"line 10\n", b"mine\n")
    change(snapshot.root, {"a": ("program", mine)})
    checkout = Checkout(snapshot.root, tmp_path / "records")
    (snapshot.root / ".git" / "index.lock").write_text("")
    checkout.write("task", await writes_for(snapshot.git, snapshot.root, snapshot.commit, commit))
    assert lying(snapshot.root) == {"a": ("program", mine.replace(b"line 1\n", b"theirs\n"))}
    checkout.undo("task")
    assert lying(snapshot.root) == {"a": ("program", mine)}


async def test_edits_of_the_same_place_keep_the_whole_change_out(tmp_path: Path) -> None:
    tree: dict[str, Node] = {"a": ("file", b"1\n"), "b": ("file", b"1\n")}
    edited: dict[str, Node | None] = {"a": ("file", b"2\n"), "b": ("file", b"2\n"), "new": ("file", b"1\n")}
    snapshot, commit, _ = await worked_on(tmp_path, tree, edited)
    change(snapshot.root, {"b": ("file", b"mine\n")})
    with pytest.raises(NotWritten) as caught:
        await writes_for(snapshot.git, snapshot.root, snapshot.commit, commit)
    assert caught.value.paths == ("b",)
