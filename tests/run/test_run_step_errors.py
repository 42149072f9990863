"""What is told of a step that failed: the error that counts, also where several were at it at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from parallelai.errors import Conflict, UsageError
from parallelai.run.steps import attempted


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (Conflict("both changed it"), "conflict", "both changed it"),
        (UsageError("`git rev-list` failed"), "internal", "`git rev-list` failed"),
        (ValueError("odd"), "internal", "step `land` failed: ValueError: odd"),
    ],
)
@pytest.mark.parametrize("is_grouped", [False, True])
async def test_a_failed_step_tells_the_error_that_counts(
    tmp_path: Path, raised: Exception, kind: str, said: str, *, is_grouped: bool
) -> None:
    async def carry_out(*_: object) -> None:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [raised]) if is_grouped else raised

    step = cast("Any", SimpleNamespace(kind="land", carry_out=carry_out))
    context = cast("Any", SimpleNamespace(log=tmp_path / "logs" / "step.log"))

    error = await attempted(step, cast("Any", None), context)

    assert error is not None
    assert (error.kind, error.said) == (kind, said)
