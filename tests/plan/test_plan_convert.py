"""Canonical YAML: what is written is read back as the same plan."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from parallelai.errors import PlanError
from parallelai.plan.check import is_branch
from parallelai.plan.convert import to_data, to_yaml
from parallelai.plan.load import Names, from_mapping, loads
from parallelai.plan.model import Plan, Task, Workstream
from parallelai.plan.source import core_value, parse
from parallelai.plan.values import Wrong, command

UNCHECKED = Names(strategies=None, tiers=frozenset())
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), max_size=40)
TRICKY = st.sampled_from(
    [
        "on",
        "1e5",
        "0x1F",
        "~",
        "null",
        "- a",
        "a: b",
        "#x",
        "*a",
        "&b",
        "{x}",
        "",
        " a ",
        "012",
        "1_000",
        "|",
        "line\n  two\n",
        "\n\nx",
        "tab\t",
        "é",
        "\u2028",
        "<<",
        "=",
        "yes",
        "12:30",
    ]
)
ANY_TEXT = TEXT | TRICKY
ID = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=8).filter(
    lambda text: text[0].isalnum() and text != "landing" and is_branch(text)
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
NAME = st.sampled_from(["mock", "claude", "on", "1e5"])
CHOICE = (
    NAME
    | st.builds(
        lambda rule, members: {rule: members},
        st.sampled_from(["fallback", "race", "vote", "spread"]),
        st.lists(NAME, min_size=1, max_size=3, unique=True),
    )
    | st.builds(
        lambda routes, rest: {"route": {**routes, "else": rest}}, st.dictionaries(ID, NAME, max_size=2), NAME
    )
)
SECONDS = st.floats(0.001, 1e7) | st.integers(1, 10**7) | st.sampled_from(["90s", "30m", "4h", "2d"])
ARGV = st.lists(ANY_TEXT, min_size=1, max_size=3).filter(
    lambda words: words[0].strip() and words[0][0] != "-"
)
PATTERN = st.sampled_from(["src/**", "*.py", "!x", "a b.txt", "1e5", "[ab]*"])
WORKSPACE = st.fixed_dictionaries(
    {},
    optional={
        "copy": st.lists(PATTERN, max_size=2),
        "setup": st.lists(ARGV, max_size=2),
        "network": st.sampled_from(["on", "off"]),
        "env": st.dictionaries(st.sampled_from(["A", "B_1"]), ANY_TEXT),
        "needs": st.just({"ports": 2, "memory": "2G"}),
    },
)
WORK: dict[str, Any] = {
    "description": ANY_TEXT.filter(lambda text: "{" not in text and text.strip()),
    "kind": ANY_TEXT,
    "tags": st.lists(ANY_TEXT, max_size=2),
    "engine": CHOICE,
    "model": ANY_TEXT,
    "files": st.lists(PATTERN, max_size=2),
    "each": st.just("file") | st.just({"chunk": 4000}),
    "params": st.dictionaries(ANY_TEXT, JSON, max_size=2),
    "checklist": st.lists(ANY_TEXT, max_size=2),
    "output": st.sampled_from(["text", "findings", {"schema": {"type": "object", "required": ["on"]}}]),
    "on_failure": st.sampled_from(["skip-dependents", "continue", "stop"]),
    "edits": st.booleans(),
    "checks": st.lists(ARGV, max_size=2),
    "todo": st.lists(ANY_TEXT, max_size=2),
    "priority": st.sampled_from(["urgent", "critical", "high", "normal", "medium", "low"])
    | st.floats(0.01, 100),
    "estimate": SECONDS,
    "timeout": SECONDS,
    "retries": st.integers(0, 9),
    "retry_on": st.just(["timeout", "invalid"]),
    "verify": st.booleans() | CHOICE,
    "workspace": WORKSPACE,
    "budget": st.just("10usd,5Mtok,4h")
    | st.fixed_dictionaries({}, optional={"usd": st.floats(0, 1e6), "time": SECONDS}),
}


@st.composite
def plans(draw: Any) -> dict[str, Any]:
    ids = draw(st.lists(ID, min_size=1, max_size=5, unique=True))
    works = []
    for index, name in enumerate(ids):
        optional = {key: value for key, value in WORK.items() if key != "description"}
        work = draw(st.fixed_dictionaries({"description": WORK["description"]}, optional=optional))
        depends_on = draw(st.lists(st.sampled_from(ids[:index]), unique=True, max_size=2)) if index else []
        works.append({"id": name, **work, **({"depends_on": depends_on} if depends_on else {})})
    split = draw(st.integers(0, len(works)))
    streams = [{**work, "owns": [f"own/{n}/**"]} for n, work in enumerate(works[split:])]
    plan: dict[str, Any] = {
        "tasks": works[:split],
        "workstreams": streams,
        "vars": draw(st.dictionaries(ANY_TEXT, JSON)),
    }
    plan |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "name": ANY_TEXT,
                "strategy": st.sampled_from(["dag", "batch:4"]),
                "limits": st.fixed_dictionaries(
                    {}, optional={"parallel": st.just("auto") | st.integers(1, 99), "grace": SECONDS}
                ),
                "gates": st.just({"landing": ["pytest -q {report}", {"review": "r", "fail_on": "low"}]}),
                "engines": st.just(
                    {"1e5": {"use": "openai", "command": ["a b", "c"], "price": {"input": 1, "output": 2.5}}}
                ),
                "landing": st.just({"batch": "auto", "target": "main"}),
                "team": st.just({"ana": {"accounts": ["a"]}}),
            },
        )
    )
    return plan


def _set(model: Any) -> Any:
    """What was set, at every level: it decides what defaults fill in."""
    if isinstance(model, BaseModel):
        return {name: _set(getattr(model, name)) for name in model.model_fields_set}
    return [_set(item) for item in model] if isinstance(model, tuple) else model


@given(plans())
@settings(max_examples=150, deadline=None)
def test_canonical_yaml_is_read_back_as_the_same_plan(data: dict[str, Any]) -> None:
    plan = from_mapping(data, names=UNCHECKED)
    text = to_yaml(plan)
    again = loads(text, names=UNCHECKED)
    assert again == plan
    assert _set(again) == {**_set(plan), "version": 1}
    assert to_yaml(again) == text
    assert from_mapping(to_data(plan), names=UNCHECKED) == plan


@given(ANY_TEXT)
@example("0\x850")  # a line end to some who read and write YAML
def test_any_text_survives_as_text(text: str) -> None:
    plan = Plan(tasks=[Task(id="a", description="x")], vars={"k": text, text or "-": 1})
    assert loads(to_yaml(plan)) == plan


@given(st.text(max_size=12))
def test_a_command_that_is_split_never_has_an_operator_outside_of_quotes(text: str) -> None:
    try:
        argv = command(text)
    except Wrong:
        return
    assert argv
    assert argv[0].strip()
    assert not set("|&;<>`$") & set(text) or "'" in text or '"' in text or "\\" in text or "$" in text


@given(st.text("tasks:id-{}[]&*!|>'\"#%@ \n,?<x1", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_either_a_plan_or_refused_in_words(text: str) -> None:
    try:
        problems = loads(text, file="p") and ()
    except PlanError as error:
        problems = error.problems
    assert all(problem.said and problem.line and problem.column for problem in problems)


@pytest.mark.parametrize("text", ["12", "-3", "0.5", "1e3", "true", "null", "~", ""])
def test_core_values_are_no_texts(text: str) -> None:
    assert not isinstance(core_value(text), str)


def test_aliases_become_canonical_and_order_is_fixed() -> None:
    text = """\
strategy: batch:2
tasks:
  - {GOAL: do it, AGENT: a, ESTIMATED TIME: 2-3, provider: {race: [x, y]}, priority: critical,
     checks: [[sh, -c, a && b]]}
"""
    assert (
        to_yaml(loads(text, names=UNCHECKED))
        == """\
version: 1
strategy: batch:2
tasks:
  - id: a
    description: do it
    engine:
      race:
        - x
        - y
    checks:
      - - sh
        - -c
        - a && b
    priority: urgent
    estimate: 3h
"""
    )


def test_workstreams_are_written_by_name() -> None:
    plan = Plan(workstreams=[Workstream(id="a", description="x", owns="src/**, docs")])
    assert parse(to_yaml(plan), "x").data == {
        "version": 1,
        "workstreams": {"a": {"description": "x", "owns": ["src/**", "docs"]}},
    }
