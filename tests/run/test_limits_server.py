"""A whole run against a server on 127.0.0.1 with real buckets: everything is answered, next to nothing refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from bucket_server import BucketServer, Tank

from parallelai import AsyncParallelAI, Event, OpenAI
from parallelai.records import LimitKey
from parallelai.store import Machine

CALLS = 120
PARALLEL = 60


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number in range(CALLS):
        (tmp_path / f"part{number}.py").write_text(f"# part {number}\n")
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".parallelai").mkdir()
    return tmp_path


@pytest.mark.parametrize(("has_headers", "has_retry_after"), [(True, True), (False, True), (False, False)])
async def test_a_servers_buckets_are_met_and_kept_to(
    here: Path, has_headers: bool, has_retry_after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty at once on loopback are too many for it; after that it is paced, and no call is lost or sent twice."""
    events: list[Event] = []
    server = BucketServer(
        Tank(80.0, 15.0), Tank(1e6, 1e6), has_headers=has_headers, has_retry_after=has_retry_after
    )
    async with server, AsyncParallelAI(here) as ai:
        document = await ai.review(
            "*.py",
            engine=OpenAI(base_url=server.url, model="m"),
            parallel=PARALLEL,
            on_events=events.extend,
        )
    assert (document.exit, document.counts["ok"], server.answered) == (0, CALLS, CALLS)
    assert server.most <= PARALLEL
    ended = [event.data for event in events if event.data.type == "attempt.ended"]
    assert len(ended) == server.answered + server.refused  # the journal has all that the server counted
    assert Counter(one.ok for one in ended) == {True: CALLS, False: server.refused}
    assert server.refused < PARALLEL + CALLS // 3
    changes = [event.data for event in events if event.data.type == "limit.changed"]
    assert 1 <= len(changes) < 20
    assert changes[0].why.startswith("the server's headers" if has_headers else "429: paced at")


async def test_the_next_run_begins_with_what_worked(here: Path) -> None:
    async with BucketServer(Tank(80.0, 15.0), Tank(1e6, 1e6)) as server:
        engine = OpenAI(base_url=server.url, model="m")
        async with AsyncParallelAI(here) as ai:
            await ai.review("*.py", engine=engine, parallel=PARALLEL)
        with Machine.open() as machine:
            learned = machine.last_good_limit(LimitKey("openai-m", server.url, "m"))
        assert learned is not None
        assert 1 <= learned < PARALLEL
        server.requests, server.seconds, server.at_first = Tank(1e6, 1e6), 0.5, 0
        async with AsyncParallelAI(here) as ai:
            await ai.review("*.py", engine=engine, parallel=PARALLEL, cache=False)
        assert server.at_first <= learned  # from what worked, not all at once
