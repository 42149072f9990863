"""What a run wrote down is read back as it was asked for."""

from __future__ import annotations

from parallelai.client.recorded import plan_of
from parallelai.events import RunCreated


def test_a_plan_with_variables_that_were_set_beside_it_is_read_back() -> None:
    task = {"id": "a", "description": "for {{ vars.target }}, by {{ vars.who }}"}
    created = RunCreated("execute", None, "/x", "1", {"tasks": [task]}, {"variables": {"target": "3.12"}})
    assert plan_of(created, {"who": "us"}).tasks[0].description == task["description"]
