"""Which conflict markers a branch has brought itself, whatever the files are called by now."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
from streams_support import project

from parallelai.git.plumbing import Git, in_parts
from parallelai.work.streams.markers import Marker, brought, places
from parallelai.work.streams.syncing import sync
from parallelai.work.streams.taking_over import labelled, take_over, unsettled

BLOCK = b"<<<<<<< HEAD\na\n=======\nb\n>>>>>>> main\n"
OURS = b"<<<<<<< " + b"0" * 40 + b"\n"


CASES: list[tuple[bytes, bytes, int | None, bool]] = [
    (b"", b"x\n" + BLOCK, 2, False),
    (b"", b"x\r\n" + BLOCK.replace(b"\n", b"\r\n"), 2, False),
    (b"", b"half settled\n>>>>>>> main", 2, False),
    (b"", b"not in \xff UTF-8\n>>>>>>> \xff\xfe:\0\n", 2, False),
    (BLOCK, b"x\n" + BLOCK, None, False),
    (BLOCK, BLOCK.replace(b"\n", b"\r\n"), None, False),
    (BLOCK, BLOCK + BLOCK, 6, False),
    (BLOCK, b"settled\n", None, False),
    (b"", OURS, 1, True),
    (b"", b"x\n" + labelled(OURS, {"0" * 40: "n" * 120}), 2, True),
    (OURS, b"x\n" + OURS + BLOCK, 3, False),
    (b"", b"Title\n=======\n\n <<<<<<< a\n<<<<<<<<<< b\n>>> doctest\n", None, False),
]


async def test_only_new_lines_that_are_markers_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await project(tmp_path, {f"{number:02}": case[0] for number, case in enumerate(CASES)})
    base = shop.user.git("rev-parse", "HEAD").strip()
    tip = shop.user.commit({f"{number:02}": case[1] for number, case in enumerate(CASES)})
    found = await brought(shop.repository, base, tip)
    assert found == tuple(
        Marker(f"{number:02}", line, is_ours)
        for number, (_, _, line, is_ours) in enumerate(CASES)
        if line is not None
    )
    large = shop.user.commit({"large/1": b"x\n" * 2000 + BLOCK, "large/2": b"y\n" * 2000 + BLOCK})
    holds_little = functools.partialmethod(Git.attempt, most_bytes=4000)  # less than these files
    monkeypatch.setattr(Git, "attempt", holds_little)
    assert await brought(shop.repository, tip, large) == (Marker("large/1", 2001), Marker("large/2", 2001))


def test_markers_name_the_sides_beside_their_commits() -> None:
    ours, theirs = "1" * 40, "2" * 40
    text = f"<<<<<<< {ours}:old name.txt\r\na\n=======\n<<<<<<<<< {ours}\n{ours}\n>>>>>>> {theirs}"
    marked = labelled(text.encode(), {ours: "one", theirs: "release/\\1"}).decode()
    assert marked == text.replace(f"<<<<<<< {ours}:", f"<<<<<<< one {ours}:").replace(
        f">>>>>>> {theirs}", f">>>>>>> release/\\1 {theirs}"
    )
    assert labelled(text.encode(), {ours: "o" * 121}) == text.encode()


async def test_a_branch_answers_for_what_it_brought(tmp_path: Path) -> None:
    shop = await project(tmp_path, {"docs/git.md": BLOCK * 3, "src/a.py": "a\n"})
    base = shop.user.git("rev-parse", "HEAD").strip()
    shop.user.git("mv", "docs/git.md", "docs/merging.md")
    shop.user.git("mv", "src/a.py", "src/new.py")
    tip = shop.user.commit(
        {".gitattributes": "* -diff\n", "src/new.py": b"a\n\0\n" + BLOCK, "b\n\x1b.txt": BLOCK}
    )

    found = await brought(shop.repository, base, tip)

    assert found == (Marker("b\n\x1b.txt", 1), Marker("src/new.py", 3))
    assert places(found) == "`b \\x1b.txt:1`, `src/new.py:3`"


async def test_a_new_name_hides_nothing_that_is_to_be_settled(tmp_path: Path) -> None:
    shop = await project(tmp_path, {"src/a.py": "a = 1\n" * 9, "src/logo": b"\0base"})
    stream = (await shop.start("gui")).stream
    shop.in_tree(stream).commit({"src/a.py": "a = 1\n" * 8 + "a = 2\n", "src/logo": b"\0ours"})
    theirs = shop.user.commit({"src/a.py": "a = 1\n" * 8 + "a = 3\n", "src/logo": b"\0theirs"})
    stream = (await take_over(shop.repository, shop.streams, stream, theirs)).stream
    shop.user.git("mv", "src/a.py", "src/b.py")
    renamed = shop.user.commit({})
    stream = (await sync(shop.repository, shop.streams, stream, renamed, "merge")).stream
    assert not (Path(stream.worktree) / "src/a.py").exists()
    shop.in_tree(stream).git("mv", f"src/logo~{theirs}", f"src/kept~{theirs}")
    head = shop.in_tree(stream).commit({})

    left = await unsettled(shop.repository, stream.base, head, stream.unsettled)

    assert left == ("src/b.py", f"src/kept~{theirs}")


def test_paths_are_parted_to_fit_on_command_lines() -> None:
    paths = [f"folder/{number}/{'é' * 100}" for number in range(5_000)]
    parts = list(in_parts([*paths, "x" * 200_000, "last"]))
    assert [path for part in parts for path in part] == [*paths, "x" * 200_000, "last"]
    assert all(len(part) == 1 or sum(len(os.fsencode(path)) + 1 for path in part) <= 65_536 for part in parts)
    assert len(parts) < 25
    assert list(in_parts([])) == []
