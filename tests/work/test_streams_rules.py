"""What a workstream may change: its plan's word within its role's."""

from __future__ import annotations

import pytest

from parallelai.plan import load
from parallelai.plan.files import Matcher
from parallelai.work.streams.record import Rules
from parallelai.work.streams.rules import rules_in, rules_of

PLAN = """
roles:
  r: {owns: ["src/**"], avoids: [src/gen/**], reads: [docs/api.md, docs/ui.md]}
defaults: {role: r}
shared: [package.json]
protected: [.github/**]
workstreams:
  gui:
    {description: x, owns: ["src/ui/**", "web/**"], avoids: [src/ui/old/**],
     reads: [docs/ui.md], contracts: [src/ui/api.py]}
  free: {description: y, owns: ["tests/**"], role: none}
"""


def test_a_role_narrows_what_a_workstream_may_change() -> None:
    rules = rules_in(load.loads(PLAN), "gui")
    assert rules.owns == ("src/ui/**", "web/**")
    avoided = Matcher(rules.avoids)
    out = {
        path: avoided.selects(path)
        for path in ("src/ui/a", "web/a", "src/ui/old/a", "src/gen/a", "package.json")
    }
    assert out == {
        "src/ui/a": False,
        "web/a": True,
        "src/ui/old/a": True,
        "src/gen/a": True,
        "package.json": False,
    }


def test_all_else_is_taken_together() -> None:
    rules = rules_in(load.loads(PLAN), "gui")
    assert set(rules.reads) == {"docs/ui.md", "docs/api.md"}
    assert len(rules.reads) == 2
    assert (rules.contracts, rules.shared, rules.protected) == (
        ("src/ui/api.py",),
        ("package.json",),
        (".github/**",),
    )


def test_without_a_role_the_plan_s_word_is_all() -> None:
    plan = load.loads(PLAN)
    free = plan.workstreams[1]
    expected = Rules(("tests/**",), shared=("package.json",), protected=(".github/**",))
    assert rules_of(free, None, plan) == expected
    assert rules_in(plan, "free") == expected  # a role that nobody defined


def test_who_is_no_workstream_has_no_rules() -> None:
    with pytest.raises(KeyError):
        rules_in(load.loads(PLAN), "nobody")
