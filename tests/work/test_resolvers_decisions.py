"""Decisions: found by what the conflict holds, kept in files that are not trusted."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from parallelai.errors import UsageError
from parallelai.work.resolvers.decisions import (
    MAX_BYTES,
    Decision,
    Decisions,
    applied,
    decided,
    decode,
    encode,
    is_committed,
    key_of,
)
from parallelai.work.resolvers.lines import lines
from parallelai.work.resolvers.records import Conflict
from parallelai.work.resolvers.splitting import Split

TEXTS = st.lists(st.sampled_from([b"a\n", b"b\n", b"\xff\n", b"\n"]), max_size=4).map(b"".join)
KEY = "0123456789abcdef" * 4


def parts(*hunks: tuple[bytes, bytes, bytes], around: bytes = b"-- %d\n") -> tuple[Conflict, Split]:
    """A file with these hunks (base, ours, theirs), and text around each."""
    texts = tuple(around % at for at in range(len(hunks) + 1))
    sides = [
        b"".join(text + hunk for text, hunk in zip(texts, (*column, b""), strict=True))
        for column in zip(*hunks, strict=True)
    ]
    whole = Conflict("a.txt", *sides)
    return whole, Split(texts, tuple(Conflict("a.txt", *hunk, whole=whole) for hunk in hunks))


def swapped(conflict: Conflict, split: Split) -> tuple[Conflict, Split]:
    return conflict.swapped(), Split(split.texts, tuple(hunk.swapped() for hunk in split.hunks))


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_a_decision_is_applied_whichever_side_is_ours(
    base: bytes, ours: bytes, theirs: bytes, text: bytes
) -> None:
    conflict, split = parts((base, ours, theirs))
    whole = split.joined((text,))
    decision = decided(conflict, split, whole, "me", why="", is_symmetric=True)
    assert applied(decision, key_of(conflict, split), split) == (whole,)
    assert applied(decision, key_of(*swapped(conflict, split)), split) == (whole,)
    assert decode(encode(decision), decision.key) == decision


@given(TEXTS, TEXTS)
def test_what_depends_on_the_side_counts_for_that_side_only(ours: bytes, theirs: bytes) -> None:
    conflict, split = parts((b"", ours, theirs))
    decision = decided(conflict, split, split.joined((ours + theirs,)), "me", why="", is_symmetric=False)
    other = key_of(*swapped(conflict, split))
    is_same = [line.rstrip() for line in lines(ours)] == [line.rstrip() for line in lines(theirs)]
    assert (applied(decision, other, split) is None) != is_same


def test_what_is_around_the_hunks_does_not_count() -> None:
    conflict, split = parts((b"a\n", b"b\n", b"c\n"), (b"x\n", b"y\n", b"z\n"))
    decision = decided(conflict, split, split.joined((b"1\n", b"2\n")), "me", why="", is_symmetric=True)
    other, elsewhere = parts((b"a\n", b"b  \n", b"c\r\n"), (b"x\n", b"y\n", b"z\n"), around=b"other %d\n")
    found = applied(decision, key_of(other, elsewhere), elsewhere)
    assert found == (b"other 0\n1\nother 1\n2\nother 2\n",)


def test_another_conflict_has_another_key() -> None:
    keys = set()
    for hunk in (
        (b"a\n", b"b\n", b"c\n"),
        (b"", b"b\n", b"c\n"),
        (b"a\n", b"b\n", b"d\n"),
        (b"a\nb\n", b"", b"c\n"),
    ):
        conflict, split = parts(hunk)
        keys.add(key_of(conflict, split).key)
    gone = Conflict("a.txt", b"a\n", None, b"c\n")
    empty = Conflict("a.txt", b"a\n", b"", b"c\n")
    keys |= {key_of(one, None).key for one in (gone, empty, dataclasses.replace(gone, path="b.txt"))}
    assert len(keys) == 7


def test_a_text_that_differs_beside_the_hunks_counts_for_the_same_texts_only() -> None:
    conflict, split = parts((b"a\n", b"b\n", b"c\n"))
    decision = decided(conflict, split, b"all is new\n", "me", why="", is_symmetric=True)
    assert applied(decision, key_of(conflict, split), split) == (b"all is new\n",)
    other, elsewhere = parts((b"a\n", b"b\n", b"c\n"), around=b"other %d\n")
    assert applied(decision, key_of(other, elsewhere), elsewhere) is None


def test_a_deleted_file_is_a_decision() -> None:
    conflict = Conflict("a.txt", b"a\n", None, b"c\n")
    decision = decided(conflict, None, None, "me", why="", is_symmetric=True)
    assert applied(decision, key_of(conflict, None), None) == (None,)


def one(key: str = KEY, **more: object) -> Decision:
    return Decision(key, "a.txt", (b"x\n",), "contained", at="2026-01-01", **more)  # type: ignore[arg-type]


async def test_recorded_listed_and_forgotten(tmp_path: Path) -> None:
    kept = Decisions(tmp_path / "d")
    assert await kept.all() == ()
    other = replace(one("f" * 64), at="2026-01-02")
    kept.record(one())
    kept.record(other)
    kept.record(one(why="again"))
    assert await kept.all() == (other, one(why="again"))
    assert kept.find(KEY) == one(why="again")
    assert not await kept.forget("01234")  # too short
    assert not await kept.forget("../../etc")
    assert await kept.forget(KEY[:6])
    assert not await kept.forget(KEY)
    assert await kept.all() == (other,)
    assert [path.name for path in (tmp_path / "d").iterdir()] == [f"{'f' * 64}.json"]


async def test_what_landed_is_listed_and_not_forgotten(tmp_path: Path) -> None:
    Decisions(tmp_path / "landed").record(one())
    kept = Decisions(tmp_path / "d", commits=True, checkout=tmp_path / "landed")
    assert await kept.all() == (one(),)
    assert kept.find(KEY) is None
    with pytest.raises(UsageError) as error:
        await kept.forget(KEY)
    assert error.value.next is not None
    assert f"git rm .parallelai/decisions/{KEY}.json" in error.value.next


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{" * 100_000,
        b"\xff",
        b'{"v": 2}',
        json.dumps({"v": 1, "key": "f" * 64}).encode(),
        encode(one()).replace(b'"x\\n"', b"7"),
        encode(one()).replace(b'"x\\n"', b'{"base64": "@@"}'),
        encode(one()).replace(b'"x\\n"', b'"\\ud800"'),
        encode(one()).replace(b'"contained"', b"null"),
        encode(one()) + b" " * MAX_BYTES,
    ],
)
async def test_hostile_files_are_no_decisions(tmp_path: Path, data: bytes) -> None:
    (tmp_path / f"{KEY}.json").write_bytes(data)
    kept = Decisions(tmp_path)
    assert kept.find(KEY) is None
    assert await kept.all() == ()


async def test_links_pipes_and_other_names_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(encode(one()))
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / f"{KEY}.json").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / f"{'f' * 64}.json")
    (folder / "notes.json").write_text("{}")
    (folder / f"{'e' * 64}.json").write_bytes(encode(one()))  # another conflict's
    kept = Decisions(folder)
    assert await kept.all() == ()
    outside = json.loads(encode(one())) | {"key": "../elsewhere"}
    (tmp_path / "elsewhere.json").write_text(json.dumps(outside))
    assert kept.find("../elsewhere") is None


def test_paths_of_decisions_that_land() -> None:
    assert is_committed(f".parallelai/decisions/{KEY}.json")
    for path in (
        f".parallelai/{KEY}.json",
        ".parallelai/decisions/x.json",
        f".parallelai/decisions/{KEY}",
        f"{KEY}.json",
    ):
        assert not is_committed(path)


@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_a_joined_text_is_taken_apart_or_told_to_be_unclear(settled: list[bytes]) -> None:
    split = parts(*((b"", b"o\n", b"t\n") for _ in settled))[1]
    assert split.taken_apart(split.joined(tuple(settled))) == tuple(settled)
    assert split.taken_apart(b"changed " + split.joined(tuple(settled))) is None


def test_a_text_that_can_be_taken_apart_in_two_ways_is_unclear() -> None:
    split = Split((b"a\n", b"x\n", b"b\n"), ())
    assert split.taken_apart(b"a\n1\nx\n2\nb\n") == (b"1\n", b"2\n")
    assert split.taken_apart(b"a\n1\nx\nx\n2\nb\n") is None
