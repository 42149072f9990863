"""Copies of records with other values."""

from __future__ import annotations

import dataclasses

import pytest

from parallelai.engines.protocol import Request
from parallelai.records import FREE, Outcome, TaskResult, changed


def test_a_changed_record_is_what_replace_makes() -> None:
    request = Request(run="r", task="t", attempt=0, root="/x", prompt="p", env={"A": "b"})
    assert changed(request) == request
    assert changed(request, attempt=2, model="m") == dataclasses.replace(request, attempt=2, model="m")
    assert (request.attempt, request.model) == (0, None)
    result = TaskResult("t", Outcome.OK, "e", None, None, "plan", 1, 1, 0.5, 0, FREE)
    assert changed(result, text="x") == dataclasses.replace(result, text="x")


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(AttributeError):
        changed(FREE, imput=1)
