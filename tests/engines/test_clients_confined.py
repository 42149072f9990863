"""Real clients in each sandbox, told by their model to do what they must not; and their login, which they keep."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from client_support import BOTH, KEY, Bench, again, left_behind

from clients.installing import programs
from parallelai.engines import confining
from parallelai.engines.conformance import CollectingPort
from parallelai.errors import Unavailable
from parallelai.processes import confinements
from scripted import ScriptedServer, block

FOLDERS = {"claude-code": ".claude", "codex": ".codex"}
SETTINGS = {"claude-code": "settings.json", "codex": "config.toml"}
TOKEN = "sk-ant-oat01-of-a-login"
LOGINS = {"claude-code": ".credentials.json", "codex": "auth.json"}


@pytest.fixture(scope="session", autouse=True)
def installed() -> Path:
    return programs()


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


@pytest.fixture(params=["bubblewrap", "landlock"])
def confined(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    assert request.param in confinements()
    monkeypatch.setattr(confining, "confinements", lambda: (request.param,))
    return str(request.param)


@pytest.fixture(params=BOTH)
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)
    return Bench(tmp_path, server, request.param, sandbox="required")


def shell(*commands: str) -> dict[str, str]:
    """Run commands whatever becomes of each."""
    return {"tool": "shell", "command": "; ".join(commands)}


async def test_it_works_and_stays_in_its_folder(bench: Bench, home: Path, confined: str) -> None:
    outside = bench.base / "outside"
    outside.mkdir()
    (outside / "theirs.txt").write_text("untouched")
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_test").write_text("the key of the user")
    reply = await bench.turn(
        {"tool": "write", "path": "a.txt", "text": "mine"},
        shell(
            f"echo gone > {outside}/theirs.txt",
            f"echo new > {outside}/new.txt",
            f"cp {home}/.ssh/id_test stolen.txt",
            'echo scratch > "$TMPDIR/ok" && cp "$TMPDIR/ok" scratch.txt',
        ),
        {"say": "done"},
    )
    assert (bench.work / "a.txt").read_text() == "mine"
    assert (bench.work / "scratch.txt").read_text() == "scratch\n"
    assert (outside / "theirs.txt").read_text() == "untouched"
    assert not (outside / "new.txt").exists()
    assert not (bench.work / "stolen.txt").exists() or (bench.work / "stolen.txt").read_text() == ""
    assert "it ran without a sandbox" not in reply.notes
    assert left_behind(bench.base) == []


async def test_a_reader_writes_nothing(bench: Bench, confined: str) -> None:
    await bench.turn(shell("echo x > made.txt"), {"say": "done"}, edits=False)
    assert not (bench.work / "made.txt").exists()


async def test_only_the_port_of_its_server_is_there(bench: Bench, confined: str) -> None:
    async with ScriptedServer() as other:
        ask = "import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=3); open(sys.argv[2], 'w')"
        reach = (shlex.join(["python3", "-c", ask, f"{each.url}/v1/models", name]) for each, name in
                 ((bench.server, "own"), (other, "other")))  # fmt: skip
        await bench.turn(shell(*reach), {"say": "done"})
        assert other.others == []
    assert (bench.work / "own").exists()
    assert not (bench.work / "other").exists()


async def test_a_session_goes_on(bench: Bench, confined: str) -> None:
    request = bench.request({"say": "first"})
    first = await bench.engine().perform(request, CollectingPort())
    second = await bench.engine().perform(again(request, first, block({"say": "second"})), CollectingPort())
    assert (second.session, second.text) == (first.session, "second")
    assert "first" in json.dumps(bench.server.requests[-1].body)


async def test_a_login_is_refreshed_by_rename_and_by_rewrite(bench: Bench, home: Path, confined: str) -> None:
    folder = home / FOLDERS[bench.use]
    folder.mkdir()
    login = folder / LOGINS[bench.use]
    login.write_text('{"old": 1}')
    await bench.turn(
        shell(
            f"echo '{{}}' > {login}.new && mv {login}.new {login} && cp {login} renamed.json",
            f"echo '{{\"new\": 2}}' > {login}",
        ),
        {"say": "done"},
        port=CollectingPort(answer="allow_once"),
    )
    assert (bench.work / "renamed.json").read_text() == "{}\n"
    assert json.loads(login.read_text()) == {"new": 2}


async def test_the_users_own_login_is_used_where_no_key_is_named(
    bench: Bench, home: Path, confined: str
) -> None:
    folder = home / FOLDERS[bench.use]
    folder.mkdir()
    hours = int((time.time() + 7_200) * 1000)
    oauth = {"accessToken": TOKEN, "refreshToken": "r", "expiresAt": hours, "scopes": ["user:inference"]}
    login = {"claude-code": {"claudeAiOauth": oauth}, "codex": {"OPENAI_API_KEY": TOKEN}}[bench.use]
    (folder / LOGINS[bench.use]).write_text(json.dumps(login))
    url = bench.server.url
    to_server = {
        "claude-code": {"env": {"ANTHROPIC_BASE_URL": url}},
        "codex": {"args": ["-c", f'openai_base_url="{url}/v1"']},
    }[bench.use]
    own = {"base_url": None, "api_key_env": None, **to_server}
    reply = await bench.turn({"say": "mine"}, settings=own)
    assert reply.text == "mine"
    assert bench.server.requests[-1].headers["Authorization"] == f"Bearer {TOKEN}"
    assert reply.usage.basis == ("subscription" if bench.use == "claude-code" else "unknown")
    assert reply.usage.usd is None


@pytest.mark.parametrize("by", ["bubblewrap", "landlock", "none"])
async def test_what_a_client_would_obey_later_is_taken_back(
    bench: Bench, home: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "none":
        bench.sandbox = "none"
    else:
        monkeypatch.setattr(confining, "confinements", lambda: (by,))
    folder = home / FOLDERS[bench.use]
    (folder / "commands").mkdir(parents=True)
    settings = folder / SETTINGS[bench.use]
    settings.write_text("{}" if bench.use == "claude-code" else "")
    before = settings.read_bytes()
    log = bench.base / "log.jsonl"
    reply = await bench.turn(
        shell(
            f"echo '[hooks]' > {settings}",
            f"mkdir -p {folder}/agents",
            f"echo evil > {folder}/agents/evil.md",
        ),
        {"say": "done"},
        log=str(log),
        port=CollectingPort(answer="allow_once"),
    )
    assert settings.read_bytes() == before
    assert not (folder / "agents" / "evil.md").exists()
    noted = [note for note in reply.notes if "took back" in note]
    assert noted
    assert "agents/evil.md" in noted[0]
    assert "evil\n" in [path.read_text() for path in (bench.base / "log.taken-back").iterdir()]


async def test_other_projects_are_not_claudes_to_write(
    tmp_path: Path, server: ScriptedServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)
    bench = Bench(tmp_path, server, "claude-code", sandbox="required")
    memory = home / ".claude" / "projects" / "-home-other" / "memory"
    memory.mkdir(parents=True)
    port = CollectingPort(answer="allow_once")
    await bench.turn(shell(f"echo obey > {memory}/MEMORY.md"), {"say": "done"}, port=port)
    assert list(memory.iterdir()) == []


async def test_where_no_sandbox_works_a_required_one_is_not_passed_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confining, "confinements", lambda: ())
    with pytest.raises(Unavailable, match="sandbox"):
        await bench.turn({"say": "x"})
    bench.sandbox = "auto"
    reply = await bench.turn({"say": "x"})
    assert "it ran without a sandbox" in reply.notes
