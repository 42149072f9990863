"""Plans that are small on the disk and large in memory are refused before they are large."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from parallelai.errors import PlanError
from parallelai.plan import load


@pytest.mark.parametrize(
    "make",
    [
        lambda: "tasks: [" + "a," * 2_000_000 + "]",
        lambda: "tasks:\n" + "- a\n" * 1_000_000,
        lambda: "".join(f"k{number}: 1\n" for number in range(500_000)),
        lambda: "[" * 1_000_000,
        lambda: (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
                for old, new in zip("abcdefgh", "bcdefghi", strict=True)
            )
        ),
    ],
    ids=["items", "lines", "keys", "depth", "anchors"],
)
def test_a_plan_of_very_many_values_is_refused(make: Callable[[], str]) -> None:
    text = make()  # not where all is collected
    with pytest.raises(PlanError) as told:
        load.loads(text, file="plan.yaml")
    (problem,) = told.value.problems
    assert "more than" in problem.said
    assert problem.line is not None
