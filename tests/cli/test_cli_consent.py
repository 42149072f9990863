"""Nothing leaves the machine without a yes: shown with keys in the environment, and a server that would notice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from test_cli_terminal import Terminal, terminal

from parallelai.store import Machine
from running import run_program

SERVER = Path(__file__).parents[1] / "engines" / "loopback.py"
KEY = "sk-nobody-0123456789abcdefghij"
QUESTION = "May reviews be sent to it from now on?"
ENTRY = "[engines.openai]\nuse = 'openai'\nmodel = 'm'\nprice = {input = 100.0, output = 100.0}\n"


class Server:
    """A model server in a process of its own."""

    def __init__(self) -> None:
        self._program = subprocess.Popen(
            [sys.executable, str(SERVER), "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{self._line()}/v1"

    def visits(self) -> int:
        """How many requests of any kind came since this was last asked."""
        assert self._program.stdin is not None
        self._program.stdin.write("\n")
        self._program.stdin.flush()
        return int(json.loads(self._line())["visits"])

    def _line(self) -> str:
        assert self._program.stdout is not None
        return self._program.stdout.readline().strip()

    def close(self) -> None:
        if self._program.returncode is None:
            self._program.communicate("")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server that the environment names, with keys for it; there is no other engine."""
    made = Server()
    for name in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_BASE_URL", made.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")  # nobody listens there
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def priced(home: Path) -> None:
    """The user's own settings give the server's model a price."""
    folder = home / "config" / "parallelai"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(ENTRY)


def engines(document: Mapping[str, Any]) -> set[str]:
    return {task["engine"] for task in document["tasks"]}


def review(root: Path, *words: str) -> dict[str, Any]:
    ended = run_program(root, "review", "--json", *words)
    document: dict[str, Any] = json.loads(ended.stdout)
    assert "tasks" in document, ended.stdout
    return document


def on_a_terminal(root: Path, answer: str | None, *words: str) -> Terminal:
    """Review where somebody sits, who says `answer` if he is asked."""
    with terminal(root, "review", *words, columns=400) as screen:
        if answer is not None:
            screen.until("[y/N]: ")
            screen.write(answer)
        screen.end()
    return screen


def test_keys_are_no_yes(server: Server, here: Path) -> None:
    for words in ([], ["--yes"], ["--engine", "auto"], ["--yes", "--quiet"]):
        assert engines(review(here, *words)) == {"analyzers"}
    assert server.visits() == 0


def test_an_engine_that_is_named_is_a_yes_for_this_time(server: Server, here: Path) -> None:
    assert engines(review(here, "--engine", "openai")) == {"openai"}
    assert server.visits() == 4
    assert engines(review(here)) == {"analyzers"}
    assert server.visits() == 0


def test_a_yes_on_a_terminal_holds_from_then_on(server: Server, here: Path, priced: None) -> None:
    (here / "large.py").write_text("x = 1\n" * 20_000)
    first = on_a_terminal(here, "y\r")
    assert first.program.returncode == 0
    assert first.text.count(QUESTION) == 1
    said = re.search(
        r"`openai` is ready .* This one: 5 files, about ([\d,]+) tokens, about ([\d.]+) USD", first.text
    )
    assert said is not None, first.text
    tokens, usd = int(said[1].replace(",", "")), float(said[2])
    assert tokens > 20_000 * 6 // 4  # what is in the files is counted
    assert usd == pytest.approx(tokens * 100 / 1e6, abs=0.01)
    assert server.visits() == 5
    (here / "a.py").write_text("x = 2\n")
    again = on_a_terminal(here, None)
    assert QUESTION not in again.text
    assert server.visits() == 1  # the others are in the cache
    assert engines(review(here, "--no-cache")) == {"openai"}
    assert server.visits() == 5


def test_a_yes_is_to_an_address(
    cli: Any, server: Server, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Machine.open() as machine:
        machine.consent("openai", server.url)
    assert engines(cli("review", "a.py", "--json").document) == {"openai"}
    assert server.visits() == 1
    monkeypatch.setenv("OPENAI_BASE_URL", NOBODY)
    assert engines(cli("review", "a.py", "--json").document) == {"analyzers"}
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert engines(cli("review", "a.py", "--json").document) == {"analyzers"}


def test_a_no_is_remembered_too(server: Server, here: Path) -> None:
    first = on_a_terminal(here, "n\r")
    assert first.text.count(QUESTION) == 1
    assert QUESTION not in on_a_terminal(here, None).text
    assert engines(review(here)) == {"analyzers"}
    assert server.visits() == 0


@pytest.mark.parametrize("words", [["--yes"], []])
def test_enter_is_no_yes_and_neither_is_a_flag(server: Server, here: Path, words: list[str]) -> None:
    screen = on_a_terminal(here, "\r", *words)
    assert QUESTION in screen.text
    assert server.visits() == 0


def test_who_names_an_engine_is_not_asked(server: Server, here: Path) -> None:
    for words in (["--engine", "mock"], ["--quiet"], ["--json"], ["--dry-run"]):
        assert QUESTION not in on_a_terminal(here, None, *words).text
    assert server.visits() == 0


def test_only_a_server_that_listens_is_taken(
    server: Server, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = here.parent / "programs"
    programs.mkdir()
    (programs / "ollama").write_text("#!/bin/sh\nexit 1\n")
    (programs / "ollama").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    assert engines(review(here)) == {"ollama"}
    assert server.visits() > 4  # what it serves, and four files
    server.close()
    assert engines(review(here, "--no-cache")) == {"analyzers"}


PLAN = "version: 1\ntasks: [{id: ask, description: Say it., engine: openai, model: m, retries: 0}]\n"
NOBODY = "http://127.0.0.1:9/v1"
"""Nobody listens there."""


@pytest.fixture
def moved(server: Server, here: Path, monkeypatch: pytest.MonkeyPatch, cli: Any) -> Path:
    """A project with a run that asked another server, in vain; the environment names `server` now."""
    (here / "plan.yaml").write_text(PLAN)
    with monkeypatch.context() as before:
        before.setenv("OPENAI_BASE_URL", NOBODY)
        assert cli("execute", "plan.yaml").code == 3
    return here


def test_a_resumed_run_sends_nothing_to_another_server_without_a_yes(
    cli: Any, server: Server, moved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["execute", "plan.yaml", "--resume"], ["runs", "resume"], ["runs", "resume", "--yes"]):
        called = cli(*words, "--json")
        assert (called.code, called.error["kind"]) == (2, "consent")
        assert server.url in called.error["said"]
        assert NOBODY in called.error["said"]
        assert re.search(r"`parallelai runs resume r-\S+ --engine openai`", called.error["next"])
    assert server.visits() == 0

    agreed = cli("runs", "resume", "--engine", "openai", "--json")
    assert (agreed.code, engines(agreed.document)) == (0, {"openai"})
    assert f"note: `openai` sends its requests to {server.url} now; so far to {NOBODY}" in agreed.err
    assert server.visits() == 1
    (moved / "plan.yaml").write_text(PLAN.replace("Say it.", "Say that."))
    assert cli("runs", "resume").code == 0  # that was a yes to the address
    assert server.visits() == 1
    monkeypatch.setenv("OPENAI_BASE_URL", NOBODY)
    for words in (["execute", "plan.yaml", "--resume"], ["runs", "resume"]):
        shown = cli(*words, "--json")  # nothing is left: nothing goes anywhere
        assert (shown.code, engines(shown.document)) == (0, {"openai"})
        assert "sends its requests to" not in shown.err
    (moved / "plan.yaml").write_text(PLAN.replace("Say it.", "Say more."))
    called = cli("runs", "resume", "--json")
    assert called.code == 2
    assert f"so far to {server.url}" in called.error["said"]


def test_what_others_did_is_not_advised_to_be_taken_from_them(
    cli: Any, server: Server, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [
        "{id: first, description: Say one.}",
        "{id: left, description: Say two., when: 'false', engine: openai, model: m}",
        "{id: after, description: Say three., depends_on: left, engine: openai, model: m}",
    ]
    plan = f"version: 1\ndefaults: {{engine: mock}}\ntasks: [{', '.join(parts)}]\n"
    (here / "plan.yaml").write_text(plan)
    assert cli("execute", "plan.yaml").code == 0
    monkeypatch.setenv("OPENAI_BASE_URL", NOBODY)
    assert cli("runs", "resume").code == 0  # what is skipped is not asked for
    (here / "plan.yaml").write_text(plan.replace(", when: 'false'", ""))
    called = cli("runs", "resume", "--json")
    assert (called.code, called.error["kind"]) == (2, "consent")
    assert "base_url" in called.error["next"]
    assert "--engine" not in called.error["next"]
    assert server.visits() == 0


def test_on_a_terminal_it_is_asked(server: Server, moved: Path) -> None:
    with terminal(moved, "runs", "resume", columns=400) as screen:
        assert f"sends its requests to {server.url} now" in screen.until("May they go there? [y/N]: ")
        screen.write("y\r")
        assert screen.end() == 0
    assert server.visits() == 1


def test_an_address_that_the_plan_gives_is_meant(cli: Any, server: Server, moved: Path) -> None:
    entry = f"engines: {{openai: {{use: openai, base_url: '{server.url}', api_key_env: OPENAI_API_KEY}}}}\n"
    (moved / "plan.yaml").write_text(PLAN + entry)
    called = cli("execute", "plan.yaml", "--resume")
    assert called.code == 0
    assert f"note: `openai` sends its requests to {server.url} now" in called.err
