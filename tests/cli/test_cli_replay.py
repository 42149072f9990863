"""Recording an engine from a plan, and playing the recording back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCRIPT = """\
- {task: one, text: apple, usage: {input: 90, output: 4}}
- {task: two, text: %s}
"""
PLAN = """\
engines:
  assistant: {{use: mock, args: [script.yaml]}}
  taped: {{use: replay, args: {args}}}
tasks:
  - {{id: one, description: Say apple, engine: taped}}
  - {{id: two, description: Say {word}, engine: taped, depends_on: [one]}}
"""


def plan(here: Path, args: str, word: str = "pear") -> None:
    (here / "plan.yaml").write_text(PLAN.format(args=args, word=word))


def texts(document: Any) -> dict[str, str | None]:
    return {task["id"]: task["text"] and task["text"].strip() for task in document["tasks"]}


def test_a_plan_records_an_engine_and_plays_it_back(here: Path, cli: Any) -> None:
    (here / "script.yaml").write_text(SCRIPT % "pear")
    plan(here, "[tapes, record=assistant]")
    recorded = cli("execute", "plan.yaml", "--json").document
    assert len(list((here / "tapes").glob("*.json"))) == 2
    assert texts(recorded) == {"one": "apple", "two": "pear"}

    (here / "script.yaml").unlink()  # nobody could be asked
    plan(here, "[tapes]")
    played = cli("execute", "plan.yaml", "--json").document
    assert played["exit"] == 0
    assert texts(played) == texts(recorded)


def test_what_was_not_recorded_is_refused_with_the_difference(here: Path, cli: Any) -> None:
    (here / "script.yaml").write_text(SCRIPT % "pear")
    plan(here, "[tapes, record=assistant]")
    assert cli("execute", "plan.yaml").code == 0
    plan(here, "[tapes]", word="plum")
    ended = cli("execute", "plan.yaml", "--json")
    assert ended.code == 4
    one, two = ended.document["tasks"]
    assert one["status"] == "ok"
    assert two["error"]["kind"] == "rejected"
    assert "Say pear" in two["error"]["said"]
    assert "Say plum" in two["error"]["said"]


def test_who_records_is_always_asked(here: Path, cli: Any) -> None:
    """A reply from the cache would leave nothing on the tape."""
    plan(here, "[tapes, record=assistant]")
    for word in ("pear", "cherry"):
        (here / "script.yaml").write_text(SCRIPT % word)
        document = cli("execute", "plan.yaml", "--json").document
        assert texts(document)["two"] == word
    tapes = [json.loads(path.read_text()) for path in (here / "tapes").glob("*.json")]
    assert sorted(tape["answers"][0]["reply"]["text"] for tape in tapes) == ["apple", "cherry"]


def test_a_recording_of_a_recording_is_refused(here: Path, cli: Any) -> None:
    plan(here, "[tapes, record=taped]")
    ended = cli("execute", "plan.yaml")
    assert ended.code == 2
    assert "records `taped`" in ended.err
    plan(here, "[tapes, recrod=assistant]")
    ended = cli("execute", "plan.yaml")
    assert ended.code == 2
    assert "`recrod=assistant`" in ended.err
