"""What `work land --dry-run` and `work conflicts --shadow` foresee of a landing, as it then is."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from shops import commit, git, shop_with

MAKER = """\
import pathlib
names = sorted(path.name for path in pathlib.Path("src").iterdir())
pathlib.Path("gen.txt").write_text("\\n".join(names))
"""
ASKED = "`parallelai work land --branches text --engine NAME`, or `landing: {resolver: NAME}`, has an engine settle it"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose versions, generated file, and text change on both sides."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    own = tmp_path / "config" / "parallelai" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text(
        '[gates]\nlanding = ["true"]\ncanary = "off"\n[engines.idle]\nuse = "command"\ncommand = "true"\n'
        f'[[landing.generated]]\nfiles = "gen.txt"\ncommand = ["{sys.executable}", "make.py"]\n'
    )
    files = {"v.txt": "version = 1.0.0\n", "gen.txt": "app.py", "make.py": MAKER, "a.txt": "a\n"}
    root = shop_with(tmp_path, monkeypatch, files)
    branch(root, "rule", {"v.txt": "version = 1.2.0\n"})
    branch(root, "made", {"gen.txt": "app.py\nb.py", "src/b.py": "b = 1\n"})
    branch(root, "text", {"a.txt": "branch\n"})
    branch(root, "plain", {"plain.txt": "plain\n"})
    for path, text in {"v.txt": "version = 1.1.0\n", "gen.txt": "app.py\nc.py", "a.txt": "main\n"}.items():
        (root / path).write_text(text)
    (root / "src" / "c.py").write_text("c = 1\n")
    commit(root, "main moves")
    return root


def branch(shop: Path, name: str, files: dict[str, str | None]) -> None:
    git(shop, "checkout", "-qb", name, "main")
    for path, text in files.items():
        if text is None:
            (shop / path).unlink()
        else:
            (shop / path).write_text(text)
    commit(shop, name)
    git(shop, "checkout", "-q", "main")


def test_a_dry_run_says_who_would_settle_what(cli: Any, shop: Path) -> None:
    land = ("work", "land", "--branches", "rule", "made", "text", "plain")
    shown = cli(*land, "--dry-run").out
    assert "rule: `v.txt` would be settled by versions\n" in shown
    assert f"made: `gen.txt` would be made anew by `{sys.executable} make.py`\n" in shown
    assert f"text would not land: no resolver knows how to settle `a.txt` ({ASKED})" in shown
    assert "2 gate runs if all pass" in shown  # what fits, and what is made anew when that has landed
    assert cli("work", "decisions", "--json").document["decisions"] == []  # nothing of it was decided

    asked = cli(*land, "--dry-run", "--engine", "idle").out
    assert "text: `a.txt` would be asked of `idle`\n" in asked
    assert "would not land" not in asked

    before = git(shop, "rev-parse", "HEAD")
    landed = cli(*land)
    assert "3 of 4 landed" in landed.out, landed.out
    assert f"{ASKED}; or merge `main` into `text`" in landed.out
    git(shop, "reset", "-q", "--hard", before)
    again = cli("work", "land", "--branches", "rule", "--dry-run").out
    assert "rule: `v.txt` would be settled by versions, as it was decided before" in again


def test_an_engine_that_did_nothing_is_named(cli: Any, shop: Path) -> None:
    (row,) = cli("work", "land", "--branches", "text", "--engine", "idle", "--json").document["tasks"]
    assert row["error"]["said"].endswith("; `idle` was asked, and changed nothing")
    assert row["error"]["next"] == (
        "another one may: `parallelai work land --branches text --engine NAME`;"
        " or merge `main` into `text`, settle it there, then land it again"
    )


@pytest.mark.parametrize(("entry", "turns"), [("", 20), ("max_turns = 40\n", 40)])
def test_who_settles_a_conflict_has_a_limit_on_its_turns(
    cli: Any, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, turns: int
) -> None:
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" > a.txt\nexit 1\n')  # what it changed is kept, though it failed
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    with (tmp_path / "config" / "parallelai" / "config.toml").open("a") as own:
        own.write(f'[engines.settler]\nuse = "claude-code"\n{entry}')
    (row,) = cli("work", "land", "--branches", "text", "--engine", "settler", "--json").document["tasks"]
    kept = re.search(r"kept in `([^`]+)`", row["error"]["next"])
    assert kept is not None
    assert f"--max-turns {turns}\n" in (shop / kept[1]).read_text()


def test_an_engine_that_touches_another_file_is_refused_and_named(
    cli: Any, shop: Path, tmp_path: Path
) -> None:
    with (tmp_path / "config" / "parallelai" / "config.toml").open("a") as own:
        own.write(
            '[engines.stray]\nuse = "command"\ncommand = ["sh", "-c", "echo both | tee a.txt other.txt"]\n'
        )
    (row,) = cli("work", "land", "--branches", "text", "--engine", "stray", "--json").document["tasks"]
    assert row["error"]["said"].endswith("; the engine changed `other.txt`, which is not in conflict")


def test_a_use_of_what_is_gone_is_told_before_and_after(cli: Any, shop: Path) -> None:
    branch(
        shop,
        "base",
        {"src/calc.py": "def subtract(a, b):\n    return a - b\n\n\ndef add(a):\n    return a\n"},
    )
    git(shop, "merge", "-q", "base")
    branch(shop, "gone", {"src/calc.py": "def add(a):\n    return a\n"})
    branch(shop, "use", {"src/use.py": "from src.calc import subtract\n\n\nX = subtract(2, 1)\n"})
    land = ("work", "land", "--branches", "gone", "use")
    said = "logic conflict, which git merges: `use` calls `subtract(a, b)`, which `gone` removed"
    assert f"note: {said}" in cli(*land, "--dry-run").out
    shadow = ("work", "conflicts", "--branches", "gone", "use", "--shadow")
    tried = cli(*shadow, "--fail")
    assert (tried.code, tried.out[:23]) == (1, "2 fit together on main:")
    assert f" × use: {said} (src/calc.py:1)\n" in tried.out
    (logic,) = cli(*shadow, "--json").document["logic"]
    assert sorted(logic["names"]) == ["gone", "use"]
    landed = cli(*land)
    assert (landed.code, landed.out.count(f"gone, use: {said}")) == (0, 1)


def test_a_shadow_landing_keeps_out_what_brings_markers(cli: Any, shop: Path) -> None:
    branch(shop, "marks", {"m.txt": "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> other\n"})
    shadow = ("work", "conflicts", "--branches", "marks", "plain", "--shadow")
    called = cli(*shadow, "--fail")
    assert (called.code, "1 fit together on main: plain" in called.out) == (1, True)
    assert "breaks alone: marks (conflict)\n  it brings conflict markers in `m.txt:1`\n" in called.out
    assert json.loads(cli("--json", *shadow).out)["breaking"][0]["names"] == ["marks"]


def test_a_shadow_landing_on_a_red_base_blames_no_branch(cli: Any, shop: Path) -> None:
    gate = ("--gate", "sh -c 'test -e good.txt'")
    branch(shop, "good", {"good.txt": "x\n"})
    shadow = ("work", "conflicts", "--branches", "plain", "--shadow", *gate)

    called = cli(*shadow)

    said = "nothing can be told of what would land: gate `sh -c 'test -e good.txt'` fails on the base already"
    assert (called.code, said in called.err, "alone" in called.out) == (4, True, False)
    assert "`--allow-red-base`" in called.err
    assert "1 fit together on main: plain" in cli(*shadow, "--allow-red-base").out
    assert "1 fit together on main: good" in cli("work", "conflicts", "--branches", "good", *shadow[4:]).out
    assert cli("work", "conflicts", "--branches", "plain", "--allow-red-base").code == 2


def test_the_logs_of_a_shadow_are_named_where_a_gate_fails_and_go_once_they_are_old(
    cli: Any, shop: Path
) -> None:
    branch(shop, "bad", {"bad.txt": "x\n"})
    gate = ("--gate", "sh -c 'test ! -e bad.txt || { echo it is bad; exit 1; }'")
    shadow = ("work", "conflicts", "--branches", "bad", "plain", "--shadow", *gate)
    called = cli(*shadow)
    assert "breaks alone: bad (gate failed)\n" in called.out
    assert "ended with exit 1: it is bad\n" in called.out
    log = shop / re.findall(r"^  at (.+)$", called.out, re.M)[0]
    assert "it is bad" in log.read_text()
    folder = log.parent.parent
    os.utime(folder, (0, 0))
    cli(*shadow)
    assert not folder.exists()
    assert not (shop / ".parallelai" / "state" / "runs").exists()


@pytest.mark.parametrize("gate", ["no-such-check", "sh -c no-such-check"])
def test_a_shadow_whose_gate_calls_what_is_not_there_blames_no_branch_for_it(
    cli: Any, shop: Path, gate: str
) -> None:
    called = cli("work", "conflicts", "--branches", "made", "plain", "--shadow", "--gate", gate)
    assert (called.code, called.out) == (3, "")
    assert "could not be run: " in called.err
    assert "  next: install `no-such-check`, or " in called.err


def test_a_shadow_of_what_the_target_has_says_so(cli: Any, shop: Path) -> None:
    git(shop, "branch", "-q", "old", "main~1")
    called = cli("work", "conflicts", "--branches", "old", "--shadow")
    assert called.out == "nothing to try: main has all that there is\nno gate runs; nothing was moved\n"


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_landing_has_the_log_of_a_gate_that_it_takes_over_from_a_shadow(
    cli: Any, shop: Path, is_gone: bool
) -> None:
    tried = shop / ".parallelai" / "state" / "work" / "tried"
    asked = ("--branches", "plain", "--gate", "sh -c 'date +%s-%N'")
    assert "1 gate run; nothing was moved" in cli("work", "conflicts", *asked, "--shadow").out
    said = {log.read_text() for log in tried.rglob("*.log")}
    if is_gone:  # the gate is run again: nobody can say any more what it had said
        shutil.rmtree(tried)

    document = cli("work", "land", *asked, "--json").document

    (gate,) = document["tasks"][0]["workstream"]["landed"]["gates"]
    shutil.rmtree(tried, ignore_errors=True)  # as it goes after a day
    assert document["run"] in gate["log"]
    assert ((shop / gate["log"]).read_text() in said) is not is_gone


def test_of_what_one_deleted_it_is_not_said_that_both_changed_the_same_lines(cli: Any, shop: Path) -> None:
    branch(shop, "edits", {"plan.txt": "x\n", "a.txt": "edited\n"})
    branch(shop, "removes", {"a.txt": None})
    drawn = cli("work", "conflicts", "--branches", "edits", "removes", "text").out
    assert "1 edits    - D F  ." in drawn, drawn
    assert "\nD changed by one, deleted by the other\n" in drawn
    assert "  a.txt (changed by one, deleted by the other)\n" in drawn
