"""A budget holds for reviews that a landing asks for, too: together with all that its run has used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

PLAN = """\
version: 1
engines:
  hands: {use: command, command: ["true"]}
  eyes: {use: mock, args: [script.yaml], price: {input: 1.0, output: 0.0}}
limits: {budget: {usd: 1.5}}
workstreams:
  one: {description: One., owns: "src/one/**", engine: hands}
  two: {description: Two., owns: "src/two/**", engine: hands}
landing: {method: squash}
gates: {landing: [{review: code-review, engine: eyes, fail_on: high}]}
"""
ONE_DOLLAR = "- {findings: [], usage: {input: 1000000, output: 0}}\n"


@pytest.fixture
def shop(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two workstreams that are done; each review of one costs a dollar."""
    shop = shop_with(tmp_path, monkeypatch, {"plan.yaml": PLAN, "script.yaml": ONE_DOLLAR})
    assert cli("work", "start", "plan.yaml").code == 0
    for name in ("one", "two"):
        made = shop.parent / "shop-worktrees" / name / "src" / name / "made.py"
        made.parent.mkdir(parents=True)
        made.write_text("made = 1\n")
    assert cli("work", "done", "one", "two").code == 0
    return shop


def landed(called: Any) -> dict[str, bool]:
    return {row["id"]: row["status"] == "ok" for row in called.document["tasks"]}


def test_reviews_together_stay_within_the_budget_of_their_run(cli: Any, shop: Path) -> None:
    first = cli("work", "land", "one", "--json")
    second = cli("work", "land", "two", "--json")

    assert (first.code, landed(first)) == (0, {"one": True})
    assert (second.code, landed(second)) == (4, {"two": False})
    error = second.document["tasks"][0]["error"]
    assert "does not allow to ask an engine" in error["said"]
    assert f"`parallelai runs resume {second.document['run']} --budget 20usd`" in error["next"]
    assert [row["name"] for row in cli("usage", "--json").document["rows"]] == [
        "eyes"
    ]  # nobody else was asked


def test_what_waits_for_money_lands_with_a_larger_budget(cli: Any, shop: Path) -> None:
    assert cli("work", "land", "one").code == 0
    assert cli("work", "land", "two").code == 4
    plan = shop / "plan.yaml"
    plan.write_text(plan.read_text().replace("usd: 1.5", "usd: 2"))
    commit(shop, "more")

    assert cli("work", "land", "two").code == 0
    assert "src/two/made.py" in git(shop, "ls-files")


def test_the_landing_of_branches_names_the_setting_that_gives_more(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = """\
limits = {budget = "0.5usd"}
gates = {landing = [{review = "code-review", engine = "eyes", fail_on = "high"}]}
[engines.eyes]
use = "mock"
args = ["script.yaml"]
price = {input = 1.0, output = 0.0}
"""
    shop = shop_with(tmp_path, monkeypatch, {"parallelai.toml": config, "script.yaml": ONE_DOLLAR})
    assert cli("trust").code == 0
    git(shop, "switch", "-qc", "more")
    (shop / "src" / "more.py").write_text("more = 1\n")
    commit(shop, "more")
    git(shop, "switch", "-q", "main")

    called = cli("work", "land", "--branches", "more", "--json")

    error = called.document["tasks"][0]["error"]
    assert (called.code, "does not allow to ask an engine" in error["said"]) == (4, True)
    assert error["next"].startswith("`budget` below `[limits]` in `parallelai.toml`")


def test_what_a_reviewer_replied_is_found_by_the_command_that_is_named(
    cli: Any, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = shop / "plan.yaml"
    plan.write_text(
        re.sub(r"eyes: {.*}}", "eyes: {use: command, command: [echo, nonsense]}", plan.read_text())
    )
    assert "command: [echo" in plan.read_text()

    error = cli("work", "land", "one", "--json").document["tasks"][0]["error"]

    named = re.search(r"`PARALLELAI_STATE__PATH=(\S+) parallelai runs logs (\S+) (\S+)` shows", error["next"])
    assert named is not None, error
    monkeypatch.setenv("PARALLELAI_STATE__PATH", named[1])
    assert "nonsense" in cli("runs", "logs", named[2], named[3].strip("'")).out


def test_what_reviews_cost_is_told(cli: Any, shop: Path) -> None:
    first = cli("work", "land", "one", "--json").document

    by_task = cli("usage", "--by", "task", "--json").document
    shown = cli("runs", "show", first["run"], "--json").document

    assert {row["name"]: row["usd"] for row in by_task["rows"]} == {"landing": 1.0}
    assert shown["usage"]["usd"] == 1.0
    assert "`eyes` was asked for a review of what lands: " in cli("runs", "logs", first["run"]).out
    by_engine = cli("usage", "--json").document["rows"]
    assert [(row["name"], row["usd"], row["attempts"]) for row in by_engine] == [("eyes", 1.0, 1)]


def test_who_has_no_price_is_not_asked_within_a_budget(cli: Any, shop: Path) -> None:
    plan = shop / "plan.yaml"
    unknown = 'eyes: {use: openai, base_url: "https://api.example.org/v1", model: m, api_key_env: NO_KEY}'
    plan.write_text(re.sub(r"eyes: {.*}}", unknown, plan.read_text()))

    checked = cli("plan", "check", "plan.yaml")
    error = cli("work", "land", "one", "--json").document["tasks"][0]["error"]

    assert "plan.yaml:5:18: a money budget cannot hold: what engine `eyes` costs is unknown" in checked.err
    assert "a money budget cannot hold: what engine `eyes` costs is unknown" in error["said"]
    assert (error["kind"], "give the engine a `price`" in error["next"]) == ("unavailable", True)
    plan.write_text(plan.read_text().replace("usd: 1.5}", "usd: 1.5}, unpriced: allow"))
    assert cli("plan", "check", "plan.yaml").code == 0


def test_what_a_review_used_is_missing_for_tasks_of_the_same_run(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = """\
version: 1
engines:
  hands: {use: command, command: [sh, -c, "echo 'x = 1' > src/made.py"]}
  eyes: {use: mock, args: [script.yaml], price: {input: 1.0, output: 0.0}}
limits: {budget: {usd: 2.5}, parallel: 1}
workstreams:
  one: {description: One., owns: "src/**", engine: hands}
tasks:
  - {id: first, description: Say it., engine: eyes, depends_on: one, estimate: 1}
  - {id: second, description: Say it again., engine: eyes, depends_on: first, estimate: 1}
gates: {landing: [{review: code-review, engine: eyes, fail_on: high}]}
"""
    answers = ONE_DOLLAR.replace("findings: []", "text: 'yes'") * 3
    shop_with(tmp_path, monkeypatch, {"plan.yaml": plan, "script.yaml": answers})

    called = cli("work", "run", "plan.yaml", "--json")

    statuses = {row["id"]: row["status"] for row in called.document["tasks"]}
    assert statuses == {"one": "ok", "first": "ok", "second": "over_budget"}
    assert called.document["usage"]["usd"] == 2.0
