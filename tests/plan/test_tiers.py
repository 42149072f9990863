"""The tier of a task that names no model."""

import pytest

from parallelai.plan.tiers import tier_for


@pytest.mark.parametrize(
    ("kind", "text", "tier"),
    [
        ("architecture", "", "best"),
        ("refactor", "", "best"),
        ("review", "Refactor it", "standard"),
        ("Docs", "", "fast"),
        ("something-else", "", "standard"),
        (None, "Refactor the parser", "best"),
        (None, "Add unit tests for src/a.py", "fast"),
        (None, "Fix the test that fails", "standard"),
        (None, "Write docstrings", "fast"),
        (None, "Build the login page", "standard"),
    ],
)
def test_tiers(kind: str | None, text: str, tier: str) -> None:
    assert tier_for(kind, text) == tier
