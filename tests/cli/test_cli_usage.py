"""`parallelai usage`: what all runs together used, and what of it nobody knows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from parallelai.client.usage import Fold
from parallelai.events import AttemptEnded, AttemptReserved, Event
from parallelai.records import LimitKey
from parallelai.store.journal import Journal

SCRIPT = """\
- {task: "review*", usage: {input: 1000, cached: 200, output: 100}}
- {task: broken, error: rejected, said: "401"}
- {task: "*", usage: {input: 500, cached: 0, output: 0}}
"""
PLAN = """\
version: 1
engines:
  priced: {use: mock, args: [script.yaml], price: {input: 1.0, output: 10.0}, model: small}
  dear: {use: mock, args: [script.yaml], price: {input: 100.0, output: 1000.0}, model: large}
tasks:
  - {id: review, description: look, engine: priced, files: [a.py, src/b.py], each: file}
  - {id: other, description: look, engine: dear}
  - {id: broken, description: look, engine: dear, retries: 0}
"""


@pytest.fixture
def used(cli: Any, here: Path) -> Path:
    """A project in which a plan was carried out: its review has an instance for each of two files."""
    (here / "script.yaml").write_text(SCRIPT)
    (here / "use.yaml").write_text(PLAN)
    assert cli("execute", "use.yaml", "--no-cache").code == 4
    return here


def rows(called: Any) -> dict[str, Any]:
    return {row["name"]: row for row in called.document["rows"]}


def test_nothing_was_used_yet(cli: Any, here: Path) -> None:
    called = cli("usage")
    assert (called.code, called.out) == (0, "nothing was used yet\n")
    assert not (here / ".parallelai" / "state").exists()  # looking makes nothing
    assert cli("usage", "--json").document["rows"] == []


def test_by_engine(cli: Any, used: Path) -> None:
    called = cli("usage", "--json")
    found = rows(called)
    assert list(found) == ["dear", "priced"]  # the dearest first
    assert (found["priced"]["attempts"], found["priced"]["failed"]) == (2, 0)
    assert (found["priced"]["input"], found["priced"]["cached"], found["priced"]["output"]) == (
        2000,
        400,
        200,
    )
    assert found["priced"]["usd"] == pytest.approx(2 * (1000 * 1.0 + 100 * 10.0) / 1e6)
    assert called.document["total"]["attempts"] == 4
    assert called.document["runs"] == 1


def test_a_command_has_no_model_and_costs_nothing_however_it_ended() -> None:
    at: tuple[Any, ...] = ("r-1", 1, "2026-11-20T00:00:00Z", "")
    fold = Fold("model", True)
    key = LimitKey("sh")
    events = [
        Event(*at, AttemptReserved("sh", key, "plan", 0, 0.0), "a", 1),
        Event(*at, AttemptEnded("sh", False, 3.0), "a", 1),  # cancelled before it could say anything
        Event(*at, AttemptReserved("api", key, "plan", 900, None), "b", 1),
        Event(*at, AttemptEnded("api", False, 3.0), "b", 1),
    ]
    fold.take(events)
    found = {name: (row.usd, row.unpriced, row.uncounted) for name, row in fold.rows.items()}
    assert found == {"-": (0.0, 0, 0), "unknown": (0.0, 1, 1)}


def test_what_is_unknown_is_unknown(cli: Any, used: Path) -> None:
    """The refused attempt counts, and nobody knows what it took."""
    called = cli("usage", "--json")
    dear = rows(called)["dear"]
    assert (dear["attempts"], dear["failed"]) == (2, 1)
    assert (dear["usd"], dear["input"], dear["unpriced"], dear["uncounted"]) == (None, None, 1, 1)
    assert dear["usd_known"] == pytest.approx(0.05)
    shown = cli("usage").out
    assert "≥ 0.0500" in shown
    assert "the cost of 1 attempt is unknown" in shown
    by_task = cli("usage", "--by", "task").out
    assert [line.split()[-1] for line in by_task.splitlines() if line.startswith("broken")] == ["unknown"]


def test_instances_count_for_their_task_and_models_by_name(cli: Any, used: Path) -> None:
    assert {name: row["attempts"] for name, row in rows(cli("usage", "--by", "task", "--json")).items()} == {
        "review": 2,
        "other": 1,
        "broken": 1,
    }
    assert set(rows(cli("usage", "--by", "model", "--json"))) == {"small", "large"}


def test_all_runs_count_and_replies_from_the_cache_are_no_attempts(cli: Any, used: Path) -> None:
    for _ in range(2):
        cli("execute", "use.yaml", "--only", "review")
    priced = rows(cli("usage", "--json"))["priced"]
    assert (priced["attempts"], priced["reused"], priced["input"]) == (4, 2, 4000)


@pytest.mark.parametrize(("zone", "day"), [("Etc/GMT+12", "2026-11-19"), ("Etc/GMT-14", "2026-11-21")])
def test_days_are_those_of_this_machine_unless_utc_is_asked(
    cli: Any, used: Path, monkeypatch: pytest.MonkeyPatch, zone: str, day: str
) -> None:
    plain = Journal.events

    def at_eleven(self: Journal, run: str, **more: Any) -> Any:
        for event in plain(self, run, **more):
            yield event._replace(at="2026-11-20T11:00:00.000000Z")

    monkeypatch.setattr(Journal, "events", at_eleven)
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        local, utc = cli("usage", "--by", "day", "--json"), cli("usage", "--by", "day", "--utc", "--json")
        shown = cli("usage", "--by", "month")
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert (list(rows(local)), local.document["dates"]) == ([day], "local")
    assert (list(rows(utc)), utc.document["dates"]) == (["2026-11-20"], "utc")
    assert "2026-11 " in shown.out
    assert "dates are of this machine's time zone" in shown.out


def test_another_word_is_refused(cli: Any, here: Path) -> None:
    assert cli("usage", "--by", "moon", "--json").code == 2


def test_an_attempt_that_found_nobody_to_ask_is_no_unknown_cost(cli: Any, used: Path) -> None:
    before = cli("usage", "--json").document["total"]
    (used / "gone.yaml").write_text(
        "engines: {gone: {use: mock, args: [gone-script.yaml]}}\n"
        "tasks: [{id: a, description: x, engine: gone, retries: 0}]\n"
    )
    (used / "gone-script.yaml").write_text("- {task: a, error: unavailable, said: no program}\n")
    assert cli("execute", "gone.yaml").code != 0
    after = cli("usage", "--json").document["total"]
    assert (after["attempts"], after["failed"]) == (before["attempts"] + 1, before["failed"] + 1)
    assert (after["uncounted"], after["unpriced"]) == (before["uncounted"], before["unpriced"])
