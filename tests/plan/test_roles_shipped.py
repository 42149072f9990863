"""The roles that come along."""

from __future__ import annotations

import pytest

from parallelai.plan import roles

NAMES = ("backend", "docs", "frontend", "refactoring", "security", "testing")


def test_these_roles_ship() -> None:
    assert tuple(roles.find()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_says_something_useful_and_binds_nobody(name: str) -> None:
    role = roles.find()[name]
    told = roles.instructions_of(role) or ""
    assert 100 <= len(told) / 4 <= 400, "told with every prompt: long enough to help, short enough to afford"
    assert role.expertise
    assert role.model in ("best", "standard", "fast")
    assert (role.owns, role.avoids, role.reads) == ((), (), ()), (
        "which files are whose is the project's to say"
    )
    assert role.engine is None
    assert role.limits is None
    assert role.temperature is None, "not every engine has one"
