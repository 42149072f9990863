"""`engines add` and `engines conform`."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from parallelai.client.adding import add_engine
from parallelai.errors import ConfigError, UsageError


def config() -> Path:
    return Path(os.environ["XDG_CONFIG_HOME"]) / "parallelai" / "config.toml"


def add(name: str, *command: str, names: tuple[str, ...] = ()) -> str:
    return add_engine(name, command, names, os.environ).text


def test_an_entry_is_added_to_what_is_there_and_nothing_else_changed() -> None:
    config().parent.mkdir(parents=True)
    before = '# mine\n[limits]\nparallel = 3 # as I want it\n\n[engines.old]\nuse = "mock"'
    config().write_text(before)
    config().chmod(0o640)
    text = add("new", "my agent", "--acp", "é\"'\\\n")
    assert config().read_text() == f"{before}\n\n{text}"
    assert tomllib.loads(text)["engines"]["new"] == {
        "use": "acp",
        "command": ["my agent", "--acp", "é\"'\\\n"],
    }
    assert stat.S_IMODE(config().stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["", "a b", "a.b", "-a", "a]", "é"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be an engine's name"):
        add(name, "x")
    assert not config().exists()


def test_a_name_that_is_taken_is_refused_and_a_broken_file_left_alone() -> None:
    with pytest.raises(UsageError, match="already"):
        add("gemini", "x", names=("gemini",))
    add("mine", "x")
    with pytest.raises(UsageError, match="already"):
        add("mine", "y")
    config().write_text("engines = {a = {use = 'mock'}}\n")
    with pytest.raises(ConfigError, match="no TOML that an entry can be added to"):
        add("b", "x")
    config().write_text("not toml")
    with pytest.raises(ConfigError):
        add("b", "x")
    assert config().read_text() == "not toml"
    for command in ((), ("a\0b",), ("\ud800",)):
        with pytest.raises(UsageError):
            add("c", *command)


def test_add_shows_what_it_wrote_and_list_shows_it(cli: Any) -> None:
    added = cli("engines", "add", "mine", "--", "no-such-agent", "--acp")
    assert added.code == 0
    assert 'command = ["no-such-agent", "--acp"]' in added.out
    row = next(r for r in cli("engines", "list", "--json").document["engines"] if r["name"] == "mine")
    assert (row["use"], row["state"], row["said"]) == ("acp", "missing", "`no-such-agent` not found")
    again = cli("engines", "add", "mine", "--json", "--", "x")
    assert (again.code, again.error["kind"]) == (2, "usage")


def test_conform_says_of_each_check_whether_it_was_passed(cli: Any) -> None:
    document = cli("engines", "conform", "mock", "--json").document
    assert document["ok"]
    assert {"leaves no process", "reports usage"} <= {check["check"] for check in document["checks"]}
    shown = cli("engines", "conform", "mock")
    assert (shown.code, shown.out.splitlines()[-1]) == (0, "`mock` conforms")
    cli("engines", "add", "broken", "--", "false")
    failed = cli("engines", "conform", "broken")
    assert failed.code == 4
    assert "FAILED answers with one final event" in failed.out
    assert cli("engines", "conform", "nobody").code == 2
    checks = {check["what"]: check for check in cli("doctor", "--json").document["checks"]}
    assert checks["engine broken"]["state"] == "wrong"
    assert "does not conform" in checks["engine broken"]["said"]
    assert "engines conform broken" in checks["engine broken"]["next"]
    assert "engine mock" not in checks
