"""Of the errors of several tasks at once, the one that counts is told."""

import pytest

from parallelai.errors import ParallelAIError, TimedOut, Unavailable, UsageError, first_error, leaves

KNOWN, LATER, OTHER = UsageError("no"), Unavailable("gone"), ValueError("odd")


def test_an_error_that_we_know_counts_before_what_it_brought_along() -> None:
    group = BaseExceptionGroup("", [OTHER, ExceptionGroup("", [KNOWN, LATER]), KeyboardInterrupt()])
    assert first_error(group) is KNOWN
    assert first_error(group, Unavailable) is LATER
    assert first_error(group, TimedOut) is OTHER, "none of the wanted: the first"
    assert [type(one) for one in leaves(group)] == [ValueError, UsageError, Unavailable, KeyboardInterrupt]


@pytest.mark.parametrize("error", [KNOWN, OTHER])
def test_an_error_in_no_group_is_itself(error: Exception) -> None:
    assert first_error(error, ParallelAIError) is error
