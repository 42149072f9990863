"""What is done to a worktree, as a pure decision: in every standing that can be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.errors import UsageError
from parallelai.work.streams.record import Rules, Stream
from parallelai.work.streams.repairing import Standing, Step, steps

STREAM = Stream(
    "gui", "p", "r", "parallelai/gui", "/trees/gui", "b" * 40, "b" * 40, "main", Rules(("src/**",))
)

STANDINGS = st.builds(
    Standing,
    tip=st.sampled_from([None, "b" * 40, "c" * 40]),
    folder=st.sampled_from(["absent", "empty", "pointer", "files"]),
    is_known=st.booleans(),
    is_linked=st.booleans(),
    branch=st.sampled_from([None, "parallelai/gui", "main"]),
    locked=st.sampled_from([None, "initializing", "on a stick"]),
    has_index=st.booleans(),
    is_ours=st.booleans(),
).map(
    lambda made: (
        made if made.is_known else replace(made, is_linked=False, branch=None, locked=None, has_index=False)
    )
)


def after(step: Step, now: Standing) -> Standing:
    """What a step makes of it."""
    linked = replace(now, is_known=True, is_linked=True, branch=STREAM.branch)
    match step:
        case "branch":
            return replace(now, tip=STREAM.head)
        case "clear":
            return replace(now, folder="empty")
        case "add" | "add-new" | "add-again":
            assert now.folder in ("absent", "empty"), "git would refuse"
            assert (now.tip is None) == (step == "add-new")
            assert now.is_known == (step == "add-again")
            return replace(linked, tip=now.tip or STREAM.base, folder="files", locked=None, has_index=True)
        case "adopt":
            assert now.tip is not None
            assert not now.is_known
            return replace(linked, locked=None)
        case "link":
            return replace(now, is_linked=True)
        case "unlock":
            return replace(now, locked=None)
        case "index":
            return replace(now, has_index=True)
        case "files":
            assert now.has_index
            return now


@given(STANDINGS, st.booleans(), st.booleans())
def test_every_standing_ends_whole_or_is_a_person_s(now: Standing, is_ready: bool, has_work: bool) -> None:
    stream = replace(STREAM, is_ready=is_ready, head="c" * 40 if has_work else "b" * 40)
    try:
        todo = steps(stream, now)
    except UsageError:
        return
    had = now.folder == "files"
    for step in todo:
        now = after(step, now)
    assert now.tip is not None
    assert now.folder in ("files", "pointer")
    assert (now.is_known, now.is_linked, now.has_index, now.branch) == (True, True, True, STREAM.branch)
    if had:
        assert not {"add", "add-new", "add-again", "clear"} & set(todo), (
            "a folder with files is taken as it lies"
        )
    if is_ready and had:
        assert "files" not in todo, "a file that is missing was removed by somebody"
    assert list(steps(replace(stream, is_ready=True), now)) == []


@pytest.mark.parametrize(
    "now",
    [
        Standing("b" * 40, "foreign"),
        Standing("b" * 40, "files", True, True, "main", None, True),
        Standing("b" * 40, "absent", True, False, "parallelai/gui", "on a stick"),
        Standing("d" * 40, "absent", is_ours=False),
    ],
)
def test_what_is_left_to_a_person(now: Standing) -> None:
    with pytest.raises(UsageError):
        steps(STREAM, now)
