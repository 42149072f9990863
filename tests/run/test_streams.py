"""What engines report while they work is kept in files, in order, without secrets, and whole at the end."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from parallelai.engines.protocol import FinalEvent, TextEvent
from parallelai.run.streams import StreamLogs


def _logs(folder: Path) -> StreamLogs:
    return StreamLogs(folder, lambda text: text.replace("secret", "***"))


def _said(folder: Path, number: int) -> list[str]:
    lines = (folder / "attempts" / f"{number}.jsonl").read_text().splitlines()
    return [json.loads(line)["delta"] for line in lines]


def test_all_that_was_said_stands_there_in_order_once_it_is_closed(tmp_path: Path) -> None:
    logs = _logs(tmp_path)
    for part in range(200):
        for number in (1, 2, 3):
            logs.write(number, TextEvent(f"{number}: part {part}, secret"))
    logs.close()
    for number in (1, 2, 3):
        assert _said(tmp_path, number) == [f"{number}: part {part}, ***" for part in range(200)]


def test_an_end_alone_makes_no_file_and_ends_a_stream(tmp_path: Path) -> None:
    logs = _logs(tmp_path)
    logs.write(1, FinalEvent(ok=True))
    logs.write(2, TextEvent("done"))
    logs.write(2, FinalEvent(ok=True))
    logs.close()
    (path,) = (tmp_path / "attempts").iterdir()
    last = json.loads(path.read_text().splitlines()[-1])
    assert (path.name, last["type"]) == ("2.jsonl", "final")


def test_a_reply_that_could_not_be_used_is_kept_unless_it_was_streamed(tmp_path: Path) -> None:
    logs = _logs(tmp_path)
    logs.keep_reply(1, "no JSON, a secret")
    logs.write(2, TextEvent("no JSON"))
    logs.keep_reply(2, "no JSON")
    logs.close()
    (kept,) = (tmp_path / "attempts" / "1.jsonl").read_text().splitlines()
    assert json.loads(kept)["text"] == "no JSON, a ***"
    assert _said(tmp_path, 2) == ["no JSON"]


def test_a_file_that_cannot_be_written_is_cut_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "attempts" / "1.jsonl").mkdir(parents=True)
    logs = _logs(tmp_path)
    logs.write(1, TextEvent("lost"))
    logs.write(2, TextEvent("kept"))
    logs.close()
    assert _said(tmp_path, 2) == ["kept"]


def test_where_no_thread_is_to_be_had_they_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    logs = _logs(tmp_path)
    logs.write(1, TextEvent("one"))
    logs.write(1, TextEvent("two"))
    logs.close()
    assert _said(tmp_path, 1) == ["one", "two"]
