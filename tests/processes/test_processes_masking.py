"""Logs that are masked while they are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parallelai.processes.output import MASKING, Log

KEY = "-----BEGIN RSA PRIVATE KEY-----\nabc\ndef\n-----END RSA PRIVATE KEY-----"


def masked(text: str) -> str:
    return text.replace("hunter22", "****").replace(KEY, "****")


@pytest.fixture(autouse=True)
def masking() -> Iterator[None]:
    token = MASKING.set(masked)
    yield
    MASKING.reset(token)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_secret_in_pieces(tmp_path: Path, size: int) -> None:
    text = f"one hunter22\n{KEY}\ntwo hunter22 three\nfour hunter22"
    log = Log(tmp_path / "log")
    for start in range(0, len(text), size):
        log.write(text[start : start + size].encode())
        assert b"hunter22" not in (tmp_path / "log").read_bytes()
        assert b"abc" not in (tmp_path / "log").read_bytes()
    log.close()
    assert (tmp_path / "log").read_text() == masked(text)


def test_whole_lines_are_there_at_once(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.write(b"a\nb hunter")
    assert (tmp_path / "log").read_text() == "a\n"
    log.write(b"22\n")
    assert (tmp_path / "log").read_text() == "a\nb ****\n"
    log.close()


def test_a_line_without_end_is_not_held_for_ever(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    for _ in range(200):
        log.write(b"\xff" * 1000)
    assert (tmp_path / "log").stat().st_size > 100_000
    log.close()
    assert (tmp_path / "log").read_bytes() == b"\xff" * 200_000


def test_a_full_log_says_so(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", limit=10)
    log.write(b"hunter22\nhunter22\nhunter22\n")
    log.write(b"more\n")
    log.close()
    text = (tmp_path / "log").read_text()
    assert text.startswith("****\n****\n")
    assert "the log is full" in text
