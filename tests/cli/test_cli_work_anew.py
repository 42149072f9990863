"""`work status` of what was put right by hand, or begun anew: it is what it is now, not what became of it before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shops import shop_with

PLAN = """\
version: 1
engines: {sh: {use: command, command: [sh, -c, "echo bad > src/a.txt"]}}
defaults: {engine: sh}
workstreams:
  a: {description: A., owns: src/a.txt}
gates: {landing: ["sh -c '! grep -q bad src/a.txt'"], canary: "off"}
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a plan of one workstream, whose assistant writes what does not pass the gate."""
    return shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN})


@pytest.fixture
def place(shop: Path) -> Path:
    """The file of the workstream."""
    return shop.parent / "shop-worktrees" / "a" / "src" / "a.txt"


def row(cli: Any) -> dict[str, Any]:
    (found,) = cli("work", "status", "a", "--json").document["workstreams"]
    assert isinstance(found, dict)
    return found


def told(cli: Any) -> tuple[Any, ...]:
    found = row(cli)
    return found["stage"], found["is_ready"], found["why"], found["landed"]


def work(cli: Any, *words: str) -> int:
    code = cli("work", *words).code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize("is_by_hand", [True, False])
def test_what_the_gate_refused_and_a_person_put_right_is_ready(
    cli: Any, shop: Path, place: Path, is_by_hand: bool
) -> None:
    if is_by_hand:
        assert work(cli, "start", "plan.yaml") == 0
        place.write_text("bad\n")
        assert work(cli, "done", "a") == 0
        assert work(cli, "land", "a") == 4
    else:
        assert work(cli, "run", "plan.yaml") == 4
    before = row(cli)
    assert (before["stage"] == "blocked" or is_by_hand, before["is_ready"]) == (True, False)
    assert "sh -c" in before["why"]

    place.write_text("fine\n")
    assert work(cli, "done", "a") == 0

    assert told(cli) == ("queued", True, None, None)
    assert work(cli, "land", "a") == 0
    assert told(cli)[:2] == ("landed", False)


def test_what_is_begun_anew_after_it_landed_has_not_landed(cli: Any, shop: Path, place: Path) -> None:
    assert work(cli, "run", "plan.yaml") == 4
    place.write_text("fine\n")
    assert work(cli, "done", "a") == 0
    assert work(cli, "land", "a") == 0

    assert work(cli, "start", "plan.yaml", "a") == 0
    place.write_text("better\n")

    assert told(cli)[::3] == ("waiting", None)
    assert "`parallelai work done a`" in row(cli)["why"]
    assert work(cli, "done", "a") == 0
    assert told(cli) == ("queued", True, None, None)


def test_what_is_begun_anew_after_it_was_given_up_is_not_blocked(cli: Any, shop: Path) -> None:
    assert work(cli, "run", "plan.yaml") == 4
    assert work(cli, "drop", "a", "--yes") == 0

    assert work(cli, "start", "plan.yaml", "a") == 0

    stage, is_ready, why, landed = told(cli)
    assert (stage, is_ready, landed) == ("waiting", False, None)
    assert why.startswith("it was not begun: `parallelai work run plan.yaml` begins it")
