"""What an attempt or a check left in a worktree: taken out of it, and kept however much it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from streams_support import project

from parallelai.work import leftovers
from parallelai.work.streams import taking_back
from parallelai.work.streams.clean import removable
from parallelai.work.streams.taking_back import small_enough


@pytest.mark.parametrize("most", [10, 10_000_000])
async def test_what_is_too_much_for_a_patch_is_kept_as_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(taking_back, "MOST_PATCH_BYTES", most)
    shop = await project(tmp_path, {"src/a.py": "a\n", "src/gone.py": "gone\n"})
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    (there.root / "src/gone.py").unlink()
    there.write({"src/a.py": "half\n", "src/big.bin": b"\0" * 4000})

    for _ in range(2):  # a process that was killed in between does the same again
        left = await leftovers.take_out(
            shop.repository, stream, "attempt", tmp_path / "patches", is_whole=True
        )

        assert left is not None
        assert there.git("status", "--porcelain") == ""
        assert (there.root / "src/a.py").read_text() == "a\n"
        if left.patch is not None:
            there.git("apply", str(shop.user.root / left.patch))
        else:
            ref = left.why.partition("--source=")[2].partition(" ")[0]
            there.git("restore", f"--source={ref}", "--", ".")
        assert (there.root / "src/big.bin").read_bytes() == b"\0" * 4000
        assert (there.root / "src/a.py").read_text() == "half\n"
        assert not (there.root / "src/gone.py").exists()
    assert (left.patch is None) == (most == 10)
    kept = (await removable(shop.repository, shop.streams)).kept
    listed = [each.command for each in kept if each.command.startswith("git branch gui-left ")]
    assert len(listed) == (most == 10)
    for command in listed:  # `work clean` tells of it, and the command brings it back
        there.git(*command.split()[1:])
        assert there.git("cat-file", "-s", "gui-left:src/big.bin").strip() == "4000"


def test_of_what_a_check_left_small_files_are_kept_and_not_too_many_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(taking_back, "MOST_PATCH_BYTES", 2_500_000)
    sizes = {"a": 900_000, "build": 5_000_000, "b": 900_000, "c": 900_000, "d": 1}
    assert small_enough(sizes) == ("a", "b", "d")
    assert len(small_enough({str(number): 1 for number in range(5000)})) == taking_back.MOST_KEPT
