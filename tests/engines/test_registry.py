"""Which engines there are, which can be used, and what a user is told about the others."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import psutil
import pytest

from parallelai.engines import detection, registry
from parallelai.engines.acp.presets import PRESETS
from parallelai.engines.commands.command import CommandEngine
from parallelai.engines.context import EngineContext
from parallelai.engines.detection import PROBE_SECONDS, probe
from parallelai.engines.mock import MockEngine, Rule
from parallelai.engines.protocol import Availability
from parallelai.engines.registry import EMBEDDED, EngineRow, Registry
from parallelai.errors import ConfigError, Internal, NotFoundError, TimedOut, Unavailable
from parallelai.plan.model import EngineEntry

ROOT = Path(__file__).parents[2]
CONTRACT = (
    "analyzers command replay mock openai anthropic ollama vllm llamacpp lmstudio perplexity openrouter "
    "azure claude-code codex gemini opencode qwen cursor aider pi mini-swe-agent acp"
)


def make(tmp_path: Path, /, **entries: EngineEntry) -> Registry:
    return Registry(entries, EngineContext(tmp_path))


async def rows(engines: Registry) -> dict[str, EngineRow]:
    return {row.name: row for row in await engines.listing()}


def program(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\ntouch was-started\n")
    (folder / name).chmod(0o755)


def test_every_registered_name_is_known(tmp_path: Path) -> None:
    assert make(tmp_path).names == frozenset(CONTRACT.split())


def test_the_embedded_engines_are_registered_as_other_people_s_are() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert dict(EMBEDDED) == project["project"]["entry-points"][registry.GROUP]


def test_makes_an_engine_once(tmp_path: Path) -> None:
    engines = make(tmp_path, sh=EngineEntry(use="command", command=("true",)))
    assert isinstance(engines.get("sh"), CommandEngine)
    assert engines.get("sh") is engines.get("sh")
    assert engines.get("sh").name == "sh"
    assert engines.get("mock") is not engines.get("sh")
    assert "sh" in engines.names


def test_a_given_instance_goes_before_all(tmp_path: Path) -> None:
    mine = MockEngine("mock")
    engines = Registry({"mock": EngineEntry(use="command")}, EngineContext(tmp_path), given={"mock": mine})
    assert engines.get("mock") is mine
    assert engines.entry("mock") is None


def test_an_entry_of_the_plan_goes_before_a_registered_name(tmp_path: Path) -> None:
    engines = make(tmp_path, codex=EngineEntry(use="command", command=("codex",)))
    assert isinstance(engines.get("codex"), CommandEngine)


def test_an_unknown_name_is_met_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        make(tmp_path).get("comand")
    assert "`command`" in (caught.value.next or "")
    with pytest.raises(NotFoundError, match="`mok`") as caught:
        make(tmp_path, m=EngineEntry(use="mok")).get("m")
    assert "mock" in (caught.value.next or "")


def test_a_wrong_entry_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_turns"):
        make(tmp_path, m=EngineEntry(use="mock", max_turns=3)).get("m")


# --- The listing


async def test_lists_all_with_what_can_be_used_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    listing = await make(tmp_path, sh=EngineEntry(use="command", command=("nothing-here",))).listing()
    by_name = {row.name: row for row in listing}
    assert set(by_name) == {*CONTRACT.split(), "sh"}
    assert by_name["mock"].state == "ready"
    assert by_name["codex"].state == "missing"
    assert "@openai/codex" in (by_name["codex"].availability.how or "")
    assert by_name["sh"].origin == "configured"
    assert "nothing-here" in by_name["sh"].availability.said
    assert [row.name for row in listing if row.is_default] == ["analyzers"]
    for name in ("acp", "azure", "command", "replay"):
        assert (by_name[name].state, by_name[name].availability.said) == ("found", "needs an entry")
    ollama = by_name["ollama"].availability
    assert f"{ollama.said} {ollama.how}".count("11434") == 1
    states = [row.state for row in listing]
    assert states == sorted(states, key=["ready", "found", "missing"].index)


async def test_says_which_assistants_are_here_without_starting_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("claude", "ollama", "mini"):
        program(tmp_path / "bin", name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    children = psutil.Process().children()
    found = await rows(make(tmp_path))
    assert psutil.Process().children() == children
    assert {name for name, row in found.items() if row.state == "found" and row.availability.path} == {
        "ollama",
    }
    assert found["mini-swe-agent"].state == "ready"
    assert found["claude-code"].availability.path == str(tmp_path / "bin" / "claude")
    assert found["claude-code"].state == "ready"
    assert not (tmp_path / "was-started").exists()


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("openai", "OPENAI_BASE_URL"),
        ("anthropic", "ANTHROPIC_BASE_URL"),
        ("azure", "AZURE_OPENAI_ENDPOINT"),
        ("claude-code", "ANTHROPIC_BASE_URL"),
        ("qwen", "OPENAI_BASE_URL"),
        ("aider", "OPENAI_API_BASE"),
    ],
)
def test_says_where_it_asks_if_its_surroundings_decide_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    monkeypatch.delenv(variable, raising=False)
    assert make(tmp_path).get(name).capabilities.asks_at == ""
    monkeypatch.setenv(variable, "http://127.0.0.1:9/v1")
    assert make(tmp_path).get(name).capabilities.asks_at.startswith("http://127.0.0.1:9")
    written = EngineEntry(use=name, base_url="http://127.0.0.1:8/v1", model="m")
    assert make(tmp_path, it=written).get("it").capabilities.asks_at == ""


def test_names_no_package_that_nobody_checked() -> None:
    assert "npm" not in PRESETS["cursor"].how


# --- Other people's engines


class Plugin:
    """Entry points of a package that is not there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.points: list[EntryPoint] = []
        monkeypatch.setattr("parallelai.extensions.of_group", lambda group: self.points)

    def add(self, name: str, value: str) -> None:
        self.points.append(EntryPoint(name, value, registry.GROUP))


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Plugin:
    return Plugin(monkeypatch)


class Slow(MockEngine):
    async def detect(self) -> Availability:
        import asyncio

        await asyncio.Event().wait()
        raise AssertionError


class Broken(MockEngine):
    async def detect(self) -> Availability:
        raise OSError("boom")


def unmakeable(*_: object) -> None:
    raise ZeroDivisionError("oh")


async def test_an_installed_engine_is_one_entry_point(tmp_path: Path, plugin: Plugin) -> None:
    plugin.add("theirs", "parallelai.engines.mock:MockEngine")
    engines = make(tmp_path)
    assert isinstance(engines.get("theirs"), MockEngine)
    found = await rows(engines)
    assert (found["theirs"].state, found["theirs"].origin) == ("ready", "installed")


async def test_no_package_takes_the_place_of_an_embedded_engine(tmp_path: Path, plugin: Plugin) -> None:
    plugin.add("command", "parallelai.engines.mock:MockEngine")
    assert isinstance(make(tmp_path).get("command"), CommandEngine)


async def test_a_broken_engine_is_listed_and_harms_no_other(
    tmp_path: Path, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "DETECT_SECONDS", 0.01)
    plugin.add("gone", "no.such.module:Engine")
    plugin.add("unmakeable", f"{__name__}:unmakeable")
    plugin.add("slow", f"{__name__}:Slow")
    plugin.add("broken", f"{__name__}:Broken")
    engines = make(tmp_path)
    found = await rows(engines)
    for name, said in {"gone": "no", "unmakeable": "oh", "slow": "in time", "broken": "boom"}.items():
        assert found[name].state == "missing"
        assert said in found[name].availability.said
        assert found[name].availability.how
    assert found["mock"].state == "ready"
    for name in ("gone", "unmakeable"):
        with pytest.raises(Unavailable):
            engines.get(name)


async def test_closes_all_that_it_made_and_nothing_else(tmp_path: Path) -> None:
    closed: list[str] = []

    class Closing(MockEngine):
        async def aclose(self) -> None:
            closed.append(self.name)
            raise OSError(self.name)

    engines = Registry({}, EngineContext(tmp_path), given={"given": Closing("given")})
    engines._made |= {"a": Closing("a"), "b": Closing("b")}
    with pytest.raises(OSError, match="a"):
        await engines.aclose()
    assert closed == ["a", "b"]
    await engines.aclose()


# --- engines test NAME


async def test_probe_asks_one_small_question(tmp_path: Path) -> None:
    assert (await probe(MockEngine(), tmp_path)).text == "ok"
    cat = CommandEngine("sh", EngineEntry(use="command", command=("cat",)), EngineContext(tmp_path))
    assert "ok" in ((await probe(cat, tmp_path)).text or "")
    assert list(tmp_path.iterdir()) == []


async def test_probe_gives_an_engine_of_findings_a_file_to_look_at(tmp_path: Path) -> None:
    engine = make(tmp_path).get("analyzers")
    reply = await probe(engine, tmp_path)
    assert [(finding.file, finding.rule) for finding in reply.findings] == [("sample.py", "F401")]
    assert list(tmp_path.iterdir()) == []


async def test_probe_fails_as_the_engine_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable):
        await probe(MockEngine(script=[Rule(error="unavailable")]), tmp_path)

    class Crashing(MockEngine):
        async def perform(self, *_: object) -> object:
            raise KeyError("oops")

    with pytest.raises(Internal, match="oops"):
        await probe(Crashing(), tmp_path)
    assert PROBE_SECONDS > 0
    monkeypatch.setattr(detection, "PROBE_SECONDS", 0.01)
    with pytest.raises(TimedOut):
        await probe(MockEngine(script=[Rule(hang=True)]), tmp_path)
