"""`engines add` and `engines conform`."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from parallelai.client.adding import add_engine
from parallelai.engines.clients.codex import CLIENT
from parallelai.engines.own_folders import pinned_version
from parallelai.errors import ConfigError, UsageError
from parallelai.store.machine import Machine


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
    with pytest.raises(UsageError, match="`auto` stands for"):
        add("auto", "x")
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


def installed_codex(folder: Path, version: str) -> Path:
    """A stand-in for Codex of some version, as npm would install it; gives the folder for the PATH."""
    package = folder / "node_modules/@openai/codex"
    (package / "bin").mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"name": "@openai/codex", "version": version}))
    program = package / "bin/codex.js"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    (folder / "bin").mkdir()
    (folder / "bin/codex").symlink_to(program)
    return folder / "bin"


def test_conform_asks_nothing_of_what_is_not_installed(cli: Any, here: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", str(here))

    called = cli("engines", "conform", "codex")

    assert (called.code, called.out) == (2, "")
    assert "engine `codex` is not installed here: `codex` not found" in called.err
    assert "npm install -g @openai/codex@" in called.err


@pytest.mark.parametrize(("name", "said"), [("acp", "needs an entry"), ("lmstudio", "nothing listens")])
def test_conform_says_what_else_is_missing(cli: Any, here: Path, name: str, said: str) -> None:
    (here / "parallelai.toml").write_text(
        '[engines.lmstudio]\nuse = "lmstudio"\nbase_url = "http://127.0.0.1:1/v1"\n'
    )
    cli("trust")

    error = cli("engines", "conform", name, "--json")

    assert error.code == 2
    assert f"engine `{name}` cannot be used here: " in error.error["said"]
    assert said in error.error["said"]


def test_doctor_says_that_a_version_is_untested_until_it_is_proven(
    cli: Any, here: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    path = os.environ["PATH"]
    versions = {"other": "99.0.0", "tested": pinned_version(CLIENT.how) or ""}
    folders = {name: installed_codex(tmp_path / name, version) for name, version in versions.items()}

    def told() -> Any:
        checks = {check["what"]: check for check in cli("doctor", "--json").document["checks"]}
        return checks.get("engine codex")

    monkeypatch.setenv("PATH", f"{folders['tested']}:{path}")
    assert told() is None, "nobody configured it, and it is the tested one"
    monkeypatch.setenv("PATH", f"{folders['other']}:{path}")
    untested = told()
    assert untested["state"] == "note"
    assert (
        f"version 99.0.0, which is untested: ParallelAI was tested with {versions['tested']}"
        in (untested["said"])
    )
    assert "`parallelai engines conform codex`" in untested["next"]
    assert cli("doctor").code == 0

    with Machine.open() as machine:
        machine.keep_conformance("codex", "99.0.0", ())
    assert told() is None, "it was proven here"
    with Machine.open() as machine:
        machine.keep_conformance("codex", "99.0.0", ("streams",))
    assert (told()["state"], "does not conform" in told()["said"]) == ("wrong", True)
