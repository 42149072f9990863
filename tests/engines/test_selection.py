"""Who does a task: what was named, else what may be taken without asking."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parallelai
from parallelai.engines.mock import MockEngine
from parallelai.engines.protocol import OutputKind
from parallelai.engines.selection import About, money_limit, select
from parallelai.errors import NotFoundError, Unavailable, UsageError
from parallelai.plan.model import Choice


class Facts:
    """A registry of engines that only have capabilities; `unavailable` ones are known and not driven."""

    def __init__(self) -> None:
        self.engines = {
            "mock": self.engine("text", "findings", "schema"),
            "command": self.engine("text", "findings", "schema"),
            "analyzers": self.engine("findings"),
        }
        self.unavailable = {"claude-code", "codex"}
        self.configured: frozenset[str] = frozenset()
        self.asked_for: list[str] = []

    @staticmethod
    def engine(*answers: OutputKind, is_remote: bool = False) -> MockEngine:
        made = MockEngine()
        made.capabilities = replace(made.capabilities, answers=frozenset(answers), is_remote=is_remote)
        return made

    @property
    def driven(self) -> frozenset[str]:
        return frozenset(self.engines)

    @property
    def names(self) -> frozenset[str]:
        return self.driven | self.unavailable

    def get(self, name: str) -> MockEngine:
        self.asked_for.append(name)
        if name in self.unavailable:
            raise Unavailable(f"engine `{name}` is not built yet")
        if name not in self.engines:
            raise NotFoundError(f"there is no engine `{name}`")
        return self.engines[name]


@pytest.fixture
def facts() -> Facts:
    return Facts()


def pick(
    facts: Facts,
    wanted: object = None,
    output: OutputKind = "text",
    consent: Callable[[str], bool] = lambda name: False,
    **keys: object,
) -> tuple[tuple[str, ...], str]:
    choice = None if wanted is None else Choice.model_validate(wanted)
    selection = select(choice, output=output, registry=facts, consent=consent, **keys)
    return selection.choice.members, selection.why


# --- What was named


@pytest.mark.parametrize("source", ["plan", "argument", "config"])
def test_what_was_named_is_taken_and_says_where(facts: Facts, source: str) -> None:
    assert pick(facts, "mock", source=source) == (("mock",), source)


def test_a_named_remote_engine_needs_no_consent(facts: Facts) -> None:
    facts.engines["theirs"] = facts.engine("text", is_remote=True)
    assert pick(facts, "theirs") == (("theirs",), "plan")


def test_an_unknown_engine_is_an_error(facts: Facts) -> None:
    with pytest.raises(NotFoundError):
        pick(facts, {"fallback": ["mock", "nobody"]})


def test_an_engine_that_cannot_give_the_output_is_refused(facts: Facts) -> None:
    with pytest.raises(UsageError, match="`analyzers` gives findings, and the task's output is text"):
        pick(facts, "analyzers")
    with pytest.raises(UsageError):
        pick(facts, {"vote": ["mock", "analyzers"]})


def test_one_that_is_not_built_is_unavailable_but_a_fallback_may_name_it(facts: Facts) -> None:
    with pytest.raises(Unavailable, match="claude-code"):
        pick(facts, "claude-code")
    with pytest.raises(Unavailable, match="codex"):
        pick(facts, {"fallback": ["codex", "claude-code"]})
    assert pick(facts, {"fallback": ["claude-code", "mock"]})[0] == ("claude-code", "mock")


def test_the_rule_and_its_order_are_kept(facts: Facts) -> None:
    wanted = Choice(rule="race", members=("mock", "command"))
    assert select(wanted, output="text", registry=facts, consent=lambda _: False).choice == wanted


# --- Auto


@pytest.mark.parametrize("wanted", [None, "auto"])
def test_auto_without_consent_is_the_embedded_analyser_for_findings_only(
    facts: Facts, wanted: object
) -> None:
    members, why = pick(facts, wanted, "findings")
    assert members == ("analyzers",)
    assert why.startswith("auto: ")
    for output in ("text", "schema", "change"):
        with pytest.raises(Unavailable, match="findings only") as caught:
            pick(facts, wanted, output)
        assert "--engine" in (caught.value.next or "")


def test_auto_takes_a_remote_engine_only_after_a_yes(facts: Facts) -> None:
    facts.engines["theirs"] = facts.engine("text", "findings", is_remote=True)
    assert pick(facts, "auto", "findings")[0] == ("analyzers",)
    assert "theirs" not in facts.asked_for  # not even its code is loaded
    members, why = pick(facts, "auto", "findings", lambda name: name == "theirs")
    assert members == ("theirs",)
    assert "yes" in why


def test_consent_goes_no_further_than_what_the_engine_can_give(facts: Facts) -> None:
    facts.engines["theirs"] = facts.engine("text", is_remote=True)
    assert pick(facts, "auto", "findings", lambda name: name == "theirs")[0] == ("analyzers",)
    assert pick(facts, "auto", "findings", lambda name: name == "codex")[0] == ("analyzers",)


def test_auto_never_takes_commands_or_mocks(facts: Facts) -> None:
    with pytest.raises(Unavailable):
        pick(facts, "auto", "text", lambda name: True)


def test_auto_takes_a_model_server_of_this_machine_but_no_remote_one_in_its_place(facts: Facts) -> None:
    facts.engines["vllm"] = facts.engine("text", "findings")
    assert pick(facts, "auto", "text")[0] == ("vllm",)
    facts.engines["vllm"] = facts.engine("text", "findings", is_remote=True)
    assert pick(facts, "auto", "findings")[0] == ("analyzers",)


def test_auto_may_be_a_member(facts: Facts) -> None:
    wanted = {"fallback": ["mock", "auto"]}
    assert pick(facts, wanted, "findings") == (("mock", "analyzers"), "plan")
    assert pick(facts, {"fallback": ["analyzers", "auto"]}, "findings")[0] == ("analyzers",)


@given(st.sets(st.sampled_from(["a", "b", "mock", "analyzers"])), st.sets(st.sampled_from(["a", "b"])))
def test_nothing_remote_is_ever_taken_without_consent(consented: set[str], remote: set[str]) -> None:
    facts = Facts()
    for name in ("a", "b"):
        facts.engines[name] = Facts.engine("text", "findings", is_remote=name in remote)
    (name,), _ = pick(facts, "auto", "findings", consented.__contains__)
    assert name in consented & remote or name == "analyzers"


# --- Routes

ROUTES = {"route": {"docs": "mock", "urgent": "command", "src/**/*.py": "analyzers", "else": "auto"}}


@pytest.mark.parametrize(
    ("about", "name"),
    [
        (About(kind="docs", tags=("urgent",)), "mock"),
        (About(kind="review", tags=("x", "urgent")), "command"),
        (About(files=("src/a.py", "src/b/c.py")), "analyzers"),
    ],
)
def test_a_route_goes_by_kind_tag_and_files_in_its_order(facts: Facts, about: About, name: str) -> None:
    assert pick(facts, ROUTES, "findings", about=about) == ((name,), "plan")


@pytest.mark.parametrize(
    "about", [None, About(), About(files=("src/a.py", "README.md")), About(kind="src/a.py")]
)
def test_what_no_route_fits_goes_to_else(facts: Facts, about: About | None) -> None:
    members, why = pick(facts, ROUTES, "findings", about=about)
    assert members == ("analyzers",)
    assert why.startswith("auto")


# --- Money, and what an import costs


def test_five_dollars_hold_where_no_limit_was_written() -> None:
    assert money_limit(None) == 5.0
    assert money_limit(0.0) == 0.0
    assert money_limit(20.0) == 20.0


def test_nothing_heavy_is_imported_to_choose() -> None:
    code = (
        "import sys, parallelai.engines.selection\n"
        "print('pydantic' in sys.modules, 'jsonschema' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(parallelai.__file__).parents[1])},
    )
    assert done.stdout.split() == ["False", "False"]
