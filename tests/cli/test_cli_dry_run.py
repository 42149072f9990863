"""What `--dry-run`, `plan check` and `plan show` foretell: engines that are not here, and what is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

GONE = "engine `gone` cannot be used here: `no-such-agent` not found"
KEYLESS = "engine `far` cannot be used here: `NO_SUCH_KEY` is not set, so `keyless` would be blocked; set NO_SUCH_KEY"


@pytest.fixture
def absent(here: Path) -> str:
    """A plan with an engine whose program is not installed, and one that has no key."""
    (here / "plan.yaml").write_text(
        "engines:\n"
        "  gone: {use: command, command: [no-such-agent]}\n"
        "  far: {use: openai, base_url: 'https://model.example/v1', model: m, api_key_env: NO_SUCH_KEY}\n"
        "defaults: {engine: gone}\n"
        "tasks:\n"
        + "".join(f"  - {{id: t{number}, description: x}}\n" for number in range(5))
        + "  - {id: keyless, description: x, engine: far}\n"
        "  - {id: either, description: x, engine: {fallback: [gone, mock]}}\n"
    )
    return "plan.yaml"


@pytest.mark.parametrize("words", ["execute --dry-run", "plan check", "plan show"])
def test_engines_that_cannot_start_are_told_before_a_run(cli: Any, absent: str, words: str) -> None:
    called = cli(*words.split(), absent)

    assert called.code == 0
    stuck = "so `t0`, `t1`, `t2` and 2 more would be blocked; install `no-such-agent`, or correct `command`"
    assert called.err.splitlines() == [f"note: {KEYLESS}", f"note: {GONE}, {stuck}"]


def test_what_a_dry_run_notes_is_in_its_json(cli: Any, absent: str) -> None:
    assert KEYLESS in cli("execute", absent, "--dry-run", "--json").document["notes"]
    assert KEYLESS in cli("plan", "check", absent, "--json").document["notes"]


def test_what_others_of_a_choice_can_do_is_not_blocked(cli: Any, absent: str) -> None:
    called = cli("execute", absent, "--only", "either", "--dry-run")

    assert called.err == f"note: {GONE}; install `no-such-agent`, or correct `command`\n"


def test_a_review_says_that_its_engine_is_not_here(cli: Any, absent: str, here: Path) -> None:
    (here / "parallelai.toml").write_text('[engines.gone]\nuse = "command"\ncommand = ["no-such-agent"]\n')

    called = cli("review", "--engine", "gone", "--trust", "--dry-run")

    assert (called.code, f"note: {GONE}; install" in called.err) == (0, True)
    assert cli("review", "--dry-run").err.count("cannot be used") == 0
