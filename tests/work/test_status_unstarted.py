"""What is said of workstreams of a plan that have no worktree yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from parallelai import events
from parallelai.events import Event, EventData
from parallelai.plan.load import from_mapping
from parallelai.records import Outcome, TaskResult
from parallelai.work.status.progress import Watched
from parallelai.work.status.unstarted import unstarted

SKIPPED = events.TaskEnded(TaskResult("gui", Outcome.SKIPPED, None, None, None, "plan", 0, 0, 0.0, None, 0))
PREPARING = events.TaskStep("prepare", "preparing")


def said(given: Iterable[EventData], limits: Mapping[str, int] | None, *done: str) -> tuple[str, str | None]:
    """The stage of `gui`, which comes after `core`, and why it is not started."""
    works = {
        "core": {"description": "c", "owns": "core/**"},
        "gui": {"description": "g", "owns": "gui/**", "depends_on": "core"},
    }
    watched = Watched(["gui"])
    for seq, data in enumerate(given, 1):
        watched.take(Event("r-1", seq, f"2026-11-20T11:{seq:02}:00Z", data.type, data, "gui"))
    plan = from_mapping({"version": 1, "workstreams": works})
    (found,) = unstarted(plan, watched, started=["core"], done=done, target="main", limits=limits)
    return found.stage, found.why


@pytest.mark.parametrize(
    ("given", "limits", "done", "stage", "why"),
    [
        ([], {}, [], "waiting", "not started: waits for `core`"),
        ([], {}, ["core"], "waiting", "it is not started yet"),
        ([PREPARING], {}, ["core"], "preparing", "its worktree is being made"),
        ([PREPARING], None, ["core"], "waiting", "it is not started yet"),
        ([SKIPPED], None, [], "skipped", "not started: waits for `core`"),
        ([SKIPPED], None, ["core"], "skipped", "it was skipped when its run was carried out last"),
    ],
)
def test_the_reason_fits_the_stage(
    given: list[EventData], limits: dict[str, int] | None, done: list[str], stage: str, why: str
) -> None:
    assert said(given, limits, *done) == (stage, why)


@pytest.mark.parametrize(
    ("limits", "done", "helps"), [(None, ["core"], True), (None, [], False), ({}, ["core"], False)]
)
def test_the_command_that_begins_it_is_named_where_that_is_all_it_takes(
    limits: dict[str, int] | None, done: list[str], helps: bool
) -> None:
    works = {
        "core": {"description": "c", "owns": "core/**"},
        "gui": {"description": "g", "owns": "gui/**", "depends_on": "core"},
    }
    plan = from_mapping({"version": 1, "workstreams": works})
    means = {"started": ["core"], "done": done, "target": "main", "limits": limits}
    (found,) = unstarted(plan, Watched([]), **means, path="my plan.yaml")
    assert found.next == ("`parallelai work run 'my plan.yaml'` begins it" if helps else None)
