"""Standard input that stays open: what is written while the program runs, in order and whole."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest
from processes_support import open_files, python, shell

from parallelai.errors import ProgramError
from parallelai.processes import Feed, Program, environment, run
from parallelai.processes.zygote import is_supported


async def test_a_conversation_by_lines() -> None:
    feed = Feed()
    heard: list[bytes] = []

    def answer(stream: str, line: bytes) -> None:
        heard.append(line)
        if len(heard) == 4:
            feed.close()
        else:
            feed.write(b"%d\n" % len(heard))

    done = await run(
        shell("while read -r line; do echo got $line; done", stdin=b"0\n", feed=feed), on_line=answer
    )
    assert heard == [b"got 0", b"got 1", b"got 2", b"got 3"]
    assert done.exit == 0


async def test_what_is_written_before_the_start_comes_after_stdin() -> None:
    feed = Feed()
    feed.write(b"second ")
    feed.write(b"")
    feed.write(b"third")
    feed.close()
    feed.write(b" never")
    assert (await run(shell("cat", stdin=b"first ", feed=feed))).stdout == b"first second third"


async def test_an_open_feed_keeps_stdin_open_and_the_end_of_the_program_ends_it() -> None:
    before = open_files()
    feed = Feed()
    done = await run(shell("read -r line; echo $line; exit 3", stdin=b"one\n", feed=feed))
    feed.write(b"nobody reads this")
    feed.close()
    assert (done.exit, done.stdout) == (3, b"one\n")
    assert open_files() <= before + 1  # the zygote's socket, where this is the first program


async def test_large_pieces_arrive_whole_through_a_slow_reader() -> None:
    pieces = [os.urandom(size) for size in (1, 70_000, 3_000_000, 65_536, 12)]
    code = (
        "import hashlib, sys, time\nfound = hashlib.sha256()\n"
        "while part := sys.stdin.buffer.read(50_000): found.update(part)\nprint(found.hexdigest())"
    )
    feed = Feed()
    task = asyncio.create_task(run(python(code, feed=feed)))
    for piece in pieces:
        feed.write(piece)
        await asyncio.sleep(0)
    feed.close()
    done = await task
    assert done.stdout.decode().strip() == hashlib.sha256(b"".join(pieces)).hexdigest()


async def test_a_program_that_closes_its_stdin_does_no_harm() -> None:
    feed = Feed()

    def flood(stream: str, line: bytes) -> None:
        for _ in range(50):
            feed.write(bytes(100_000))

    done = await run(shell("exec 0<&-; echo closed; sleep 0.1; exit 7", feed=feed), on_line=flood)
    assert done.exit == 7


async def test_the_feed_of_a_program_that_cannot_start_drops_all() -> None:
    feed = Feed()
    feed.write(b"x")
    with pytest.raises(ProgramError):
        await run(Program(("no-such-program-anywhere",), cwd=shell("").cwd, env=environment(), feed=feed))
    feed.write(b"y")
    assert feed._waiting == []


async def test_it_works_without_wardens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_supported()
    monkeypatch.setattr("parallelai.processes.zygote.is_supported", lambda: False)
    feed = Feed()
    feed.write(b"2\n")
    done = await run(
        shell("read -r a; read -r b; echo $b $a; read -r end", stdin=b"1\n", feed=feed),
        on_line=lambda stream, line: feed.close(),
    )
    assert done.stdout == b"2 1\n"
