"""One dollar for a review of a thousand files, each call of a server for a cent: how far it goes, and on."""

from __future__ import annotations

import asyncio
import json
import re
from asyncio.subprocess import PIPE
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from loopback import USAGE, Loopback

from running import PROGRAM, environment

FILES = 1000
PARALLEL = 20
CENT = 0.01
PRICE = 1e6 * CENT / USAGE["input"]  # of a million tokens; those of the answer cost nothing
CONFIG = """\
[engines.model]
use = "{use}"
base_url = "{url}"
model = "m"
price = {{input = {price}, output = 0.0}}
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    for number in range(FILES):
        (tmp_path / "src" / f"part{number}.py").write_text(f"PART = {number}\n")
    return tmp_path


async def run(root: Path, *words: str) -> tuple[int | None, dict[str, Any]]:
    program = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *words,
        "--trust",
        "--json",
        cwd=root,
        env=environment(),
        stdout=PIPE,
        stderr=PIPE,
        limit=2**24,
    )
    told, said = await program.communicate()
    assert told, said
    return program.returncode, json.loads(told)


def asked(server: Loopback) -> Counter[str]:
    """How often each file was sent."""
    return Counter(re.findall(r"src/part\d+\.py", seen.prompt)[0] for seen in server.seen)


@pytest.mark.parametrize("use", ["openai", "anthropic"])
async def test_a_dollar_lasts_for_a_hundred_calls_and_another_for_a_hundred_more(
    use: str, here: Path
) -> None:
    async with Loopback() as server:
        (here / "parallelai.toml").write_text(CONFIG.format(use=use, url=server.url, price=PRICE))
        words = ("review", "src", "--engine", "model", "--parallel", str(PARALLEL))
        code, first = await run(here, *words, "--budget", "1usd")
        calls = server.count
        assert (code, first["exit"], first["outcome"]) == (5, 5, "over_budget")
        assert first["counts"]["ok"] == calls
        assert first["counts"]["over_budget"] == FILES - calls
        assert first["usage"]["usd"] == pytest.approx(calls * CENT)
        assert first["usage"]["basis"] == "prices"
        assert 1 - CENT < first["usage"]["usd"] < 1 + PARALLEL * CENT

        code, second = await run(here, "runs", "resume", "--budget", "2usd")
        assert (code, second["run"]) == (5, first["run"])
        assert second["counts"]["ok"] == server.count
        assert second["usage"]["usd"] == pytest.approx(server.count * CENT)
        assert 2 - CENT < second["usage"]["usd"] < 2 + PARALLEL * CENT
        assert asked(server).most_common(1)[0][1] == 1  # no file was sent twice
        assert second["files"]["covered"] == server.count
