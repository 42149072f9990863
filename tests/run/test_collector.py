"""The garbage collector during a run: it looks less often, and is afterwards as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from parallelai.run.collector import OLD, SELDOM, collecting_seldom


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_it_looks_less_often_inside_and_as_before_afterwards() -> None:
    gc.set_threshold(700, 10, 5)
    with collecting_seldom():
        assert gc.get_threshold() == (SELDOM, OLD, 5)
        with collecting_seldom():  # two runs at once
            assert gc.get_threshold() == (SELDOM, OLD, 5)
        assert gc.get_threshold() == (SELDOM, OLD, 5)
    assert gc.get_threshold() == (700, 10, 5)
    with pytest.raises(ZeroDivisionError), collecting_seldom():
        raise ZeroDivisionError
    assert gc.get_threshold() == (700, 10, 5)


@pytest.mark.parametrize("chosen", [(0, 10, 10), (SELDOM, 3, 3), (10 * SELDOM, 10, 10)])
def test_what_somebody_chose_stays(chosen: tuple[int, int, int]) -> None:
    gc.set_threshold(*chosen)
    with collecting_seldom():
        assert gc.get_threshold() == chosen
    assert gc.get_threshold() == chosen
