"""Reviews of up to 1,000 files by model engines whose server fails in every way at random: nothing is lost,
nothing is made up, and what the server counted is what the journal has."""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from loopback import LIMITS, Fault, Loopback, Seen

from parallelai import AsyncParallelAI, Claude, OpenAI, RunDocument
from parallelai.events import AttemptEnded, Event

LINE = 3
SLOW_DOWN = {"error": {"message": "slow down"}}
REFUSED = Fault(400, {"error": {"message": "this one never"}})
NO_JSON = Fault(text="I would say that it is fine.")
NO_SCHEMAS = Fault(400, {"error": {"message": "response_format, output_config: not supported"}})

LIMITED = (
    Fault(429, SLOW_DOWN, {"Retry-After": "0"}),
    Fault(429, SLOW_DOWN, {"retry-after-ms": "15"}),
    Fault(429, SLOW_DOWN),
    Fault(529, SLOW_DOWN),
)
BROKEN = (
    Fault(500, {"error": {"message": "oops"}}),
    Fault(502, b"<html><body>bad gateway</body></html>"),
    Fault(cut_after=0),
    Fault(cut_after=40),
    Fault(cut_after=120),
    Fault(raw=b'{"id": '),
)
PASSING = (Fault(seconds=0.05), Fault(is_whole=True))


class Script:
    """What the server does about each file, decided beforehand: `faults` in turn, then the answer."""

    def __init__(self, seed: int, files: int, *, knows_schemas: bool) -> None:
        chance = random.Random(seed)
        self.names = names = [f"src/part{number}.py" for number in range(files)]
        picked = chance.sample(names, files)
        some = files // 30
        self.refused = set(picked[:some])
        self.silly = set(picked[some : 2 * some])  # they answer in prose, also when asked again
        self.misquoted = set(picked[2 * some : 4 * some])
        self.is_repaired = set(picked[4 * some : 6 * some])
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        for name in names:
            kinds = chance.choices((LIMITED, BROKEN), k=chance.choice((0, 0, 0, 1, 2)))
            self.faults[name] = [chance.choice(kind) for kind in kinds]
            if name in self.is_repaired:
                self.faults[name].append(NO_JSON)
            elif name not in self.refused | self.silly and chance.random() < 0.2:
                self.faults[name].append(chance.choice(PASSING))
        self._knows_schemas = knows_schemas
        self.without = 0  # how often it said that it takes no schemas

    def fault(self, seen: Seen) -> Fault | None:
        name = about(seen)
        if not self._knows_schemas and {"response_format", "output_config"} & seen.body.keys():
            self.without += 1
            return NO_SCHEMAS
        if self.faults[name]:
            return self.faults[name].pop(0)
        if name in self.refused:
            return REFUSED
        return NO_JSON if name in self.silly else None

    def answer(self, seen: Seen) -> str:
        name = about(seen)
        said = [finding(name, "return 1 / 0")]
        if name in self.misquoted:
            said.append(finding(name, "os.system(command)"))
        return json.dumps({"findings": said})


def about(seen: Seen) -> str:
    found = re.search(r"src/part\d+\.py", seen.prompt)
    assert found is not None
    return found[0]


def finding(name: str, quote: str) -> dict[str, Any]:
    return {
        "file": name,
        "line": 1,  # wrong; the quote tells
        "severity": "high",
        "category": "bug",
        "message": f"`{quote}` fails.",
        "quote": quote,
        "suggestion": None,
        "confidence": 0.9,
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "src").mkdir()
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    # What is waited after an error is the scheduler's, whose own tests have it; here it only takes time.
    monkeypatch.setattr("parallelai.run.scheduling.attempts.backoff_seconds", lambda *_: 0.01)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def review(here: Path, engine: Any) -> tuple[RunDocument, list[AttemptEnded]]:
    events: list[Event] = []
    async with AsyncParallelAI(here) as ai:
        document = await ai.review("src", engine=engine, on_events=events.extend)
        stored = list(ai.project.store.journal.events(document.run))
    assert [event.data for event in stored] == [event.data for event in events]
    return document, [event.data for event in stored if isinstance(event.data, AttemptEnded)]


@dataclass(frozen=True)
class Case:
    """An engine, and the server that it meets."""

    kind: Callable[..., Any]
    args: tuple[str, ...] = ()
    files: int = 150
    knows_schemas: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


CASES = {
    "chat": Case(OpenAI),
    "chat in streams, no schemas": Case(OpenAI, ("stream",), knows_schemas=False),
    "responses in streams, limits told": Case(OpenAI, ("responses", "stream"), headers=LIMITS["openai"]),
    "messages, no schemas": Case(Claude, knows_schemas=False),
    "messages in streams, limits told": Case(Claude, ("stream",), files=1000, headers=LIMITS["openai"]),
}


@pytest.mark.timeout(300)  # which calls are refused is chance, and so is how long that slows all others
@pytest.mark.parametrize("seed", range(len(CASES)), ids=CASES)
async def test_every_file_is_accounted_for(seed: int, here: Path) -> None:
    case = list(CASES.values())[seed]
    script = Script(seed, case.files, knows_schemas=case.knows_schemas)
    for name in script.names:
        (here / name).write_text("# a part\ndef part():\n    return 1 / 0\n")
    async with Loopback(script.answer, faults=script.fault, headers=case.headers) as server:
        engine = case.kind(base_url=server.url, args=list(case.args))
        document, ended = await review(here, engine)

    failed = {task.id.partition("@")[2]: task.error for task in document.tasks if task.status != "ok"}
    assert {
        name for name, error in failed.items() if error and "this one never" in error.said
    } == script.refused
    assert {name for name, error in failed.items() if error and error.kind == "invalid"} == script.silly
    assert failed.keys() == script.refused | script.silly
    good = set(script.names) - failed.keys()
    assert document.exit == 4
    assert set(document.files.covered) == good
    assert {note.file for note in document.files.failed} == failed.keys()
    assert document.files.skipped == ()

    assert Counter((found.file, found.line) for found in document.findings) == Counter(
        (name, (LINE, LINE)) for name in good
    )
    assert document.dropped == {"quote_not_found": len(script.misquoted)}

    repaired = [one for one in ended if one.reply is not None and "repaired once" in str(one.reply.notes)]
    assert len(repaired) == len(script.is_repaired)
    assert server.count == sum(attempt.calls for attempt in ended)
    assert server.count == len(ended) + len(repaired) + len(script.silly) + script.without
    assert (script.without > 0) is not case.knows_schemas
