"""Bounded output and lines, for any way of cutting a stream into pieces."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from parallelai.processes.output import Capture, Log

PIECES = st.lists(
    st.one_of(st.binary(max_size=20), st.sampled_from([b"\n", b"a\n", b"\n\n", b"\r\n"])), max_size=30
)


@given(PIECES)
def test_lines_do_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    lines: list[bytes] = []
    capture = Capture(10_000, lines.append, None)
    for piece in pieces:
        capture.feed(piece)
    capture.finish()
    whole = b"".join(pieces)
    expected = whole.split(b"\n")
    assert lines == (expected[:-1] if expected[-1] == b"" else expected)
    assert capture.value == whole
    assert capture.left_out == 0


@given(PIECES, st.integers(0, 50))
def test_at_most_the_limit_is_kept_first_and_last(pieces: list[bytes], limit: int) -> None:
    lines: list[bytes] = []
    capture = Capture(limit, lines.append, None)
    for piece in pieces:
        capture.feed(piece)
    capture.finish()
    whole = b"".join(pieces)
    assert capture.left_out == max(0, len(whole) - limit)
    assert all(len(line) <= limit for line in lines)
    if capture.left_out:
        first, last = limit // 2, limit - limit // 2
        gap = b"\n[%d bytes left out]\n" % capture.left_out
        assert capture.value == whole[:first] + gap + whole[len(whole) - last :]
    else:
        assert capture.value == whole


def test_a_log_ends_at_its_limit_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(2):
        log = Log(path, limit=10)
        for _ in range(3):
            log.write(b"1234567")
        log.close()
        log.close()
        assert log.problem is None
    assert path.read_bytes().startswith(b"1234567123\n[the log is full")
    assert path.read_bytes().count(b"7") == 1
