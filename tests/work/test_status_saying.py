"""What an assistant says just now is read from the end of its stream, whatever state that is in."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from parallelai.work.status.progress import last_words
from parallelai.work.status.saying import said_lately


def _lines(*events: object) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_text_is_joined_and_other_events_separate_it(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    tool = {"type": "tool", "name": "shell"}
    path.write_bytes(_lines({"type": "text", "delta": "I re"}, {"type": "text", "delta": "ad."}, tool))
    assert last_words(said_lately(path) or "") == "I read."
    with path.open("ab") as file:
        file.write(_lines({"type": "text", "delta": "Now I write"}) + b'{"type":"text","del')
    assert last_words(said_lately(path) or "") == "Now I write"


def test_only_the_end_of_a_long_stream_is_read(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    path.write_bytes(_lines({"type": "text", "delta": "x" * 200_000}, {"type": "text", "delta": "done"}))
    assert said_lately(path) == "done"
    path.write_bytes(_lines({"type": "tool"}))
    assert said_lately(path) is None
    assert said_lately(tmp_path / "none") is None


@given(st.binary(max_size=200) | st.just(b"[" * 60_000))
def test_any_bytes_are_borne(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        said = said_lately(Path(file.name))
    assert said is None or said.strip()
