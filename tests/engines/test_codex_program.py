"""Codex's own program, found beside npm's launcher; and what a turn of it starts, names and leaves behind."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cancelling import cancelled_in

from parallelai.engines.clients.codex import CodexEngine
from parallelai.engines.clients.codex_program import own_program
from parallelai.engines.conformance import CollectingPort
from parallelai.engines.context import EngineContext
from parallelai.engines.protocol import Request
from parallelai.errors import Invalid
from parallelai.plan.model import EngineEntry

HOISTED, NESTED, INSIDE = (
    "@openai/codex-linux-x64",
    "@openai/codex/node_modules/@openai/codex-linux-x64",
    "@openai/codex",
)
VENDOR = "vendor/x86_64-unknown-linux-musl/bin/codex"
ANSWERS = """\
#!/bin/sh
echo "$0|$CODEX_MANAGED_PACKAGE_ROOT|$CODEX_MANAGED_BY_NPM" > "{told}"
cat > /dev/null
echo '{{"type":"thread.started","thread_id":"01a1fc76-6cd8-7a22-bde1-e8e2af653898"}}'
{then}
echo '{{"type":"item.completed","item":{{"id":"i","type":"agent_message","text":"ok"}}}}'
echo '{{"type":"turn.completed","usage":{{"input_tokens":5,"output_tokens":1}}}}'
"""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of a known kind, whatever the tests run on."""
    on(monkeypatch, "linux", "x86_64")


def on(monkeypatch: pytest.MonkeyPatch, system: str, machine: str) -> None:
    monkeypatch.setattr("parallelai.engines.clients.codex_program.sys", SimpleNamespace(platform=system))
    monkeypatch.setattr(
        "parallelai.engines.clients.codex_program.platform", SimpleNamespace(machine=lambda: machine)
    )


def program(path: Path, text: str = "#!/bin/sh\nexit 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def install(folder: Path, *places: str, text: str = "#!/bin/sh\nexit 1\n") -> Path:
    """Lay the launcher out as npm does, with own programs in these places; gives the link on the PATH."""
    modules = folder / "lib/node_modules"
    launcher = program(modules / "@openai/codex/bin/codex.js", "#!/bin/sh\necho launched >&2\nexit 1\n")
    for place in places:
        program(modules / place / VENDOR, text)
        (modules / place / "package.json").touch()
    (folder / "bin").mkdir()
    link = folder / "bin/codex"
    link.symlink_to(launcher)
    return link


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ((HOISTED,), HOISTED),
        ((NESTED,), NESTED),
        ((INSIDE,), INSIDE),
        ((INSIDE, NESTED, HOISTED), NESTED),
        ((INSIDE, NESTED), NESTED),
    ],
    ids=["hoisted", "nested", "vendor inside the package", "all three, as Node does", "nested before inside"],
)
def test_it_is_found_where_npm_puts_it(tmp_path: Path, places: tuple[str, ...], found: str) -> None:
    own = own_program(install(tmp_path, *places))

    assert own is not None
    path, variables = own
    modules = tmp_path.resolve() / "lib/node_modules"
    assert path == modules / found / VENDOR
    assert variables == {
        "CODEX_MANAGED_PACKAGE_ROOT": str(modules / "@openai/codex"),
        "CODEX_MANAGED_BY_NPM": "1",
    }


@pytest.mark.parametrize(
    ("system", "machine", "name", "triple"),
    [
        ("linux", "aarch64", "codex-linux-arm64", "aarch64-unknown-linux-musl"),
        ("linux", "AMD64", "codex-linux-x64", "x86_64-unknown-linux-musl"),
        ("darwin", "arm64", "codex-darwin-arm64", "aarch64-apple-darwin"),
        ("darwin", "x86_64", "codex-darwin-x64", "x86_64-apple-darwin"),
    ],
)
def test_each_machine_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, name: str, triple: str
) -> None:
    link = install(tmp_path, HOISTED)
    package = tmp_path / "lib/node_modules/@openai" / name
    own = program(package / "vendor" / triple / "bin/codex")
    (package / "package.json").touch()
    on(monkeypatch, system, machine)
    assert (own_program(link) or (None,))[0] == own.resolve()


@pytest.mark.parametrize(("system", "machine"), [("linux", "riscv64"), ("win32", "AMD64"), ("linux", "")])
def test_on_an_unknown_machine_the_launcher_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    on(monkeypatch, system, machine)
    assert own_program(install(tmp_path, HOISTED)) is None


def test_without_it_the_launcher_is_started(tmp_path: Path) -> None:
    assert own_program(install(tmp_path / "none")) is None
    broken = install(tmp_path / "broken", HOISTED)
    (tmp_path / "broken/lib/node_modules" / HOISTED / VENDOR).chmod(0o644)
    assert own_program(broken) is None


def test_what_the_launcher_would_not_start_is_not_started(tmp_path: Path) -> None:
    """A half-removed package is no package, one without its program is not passed over, a folder is no program."""
    link = install(tmp_path, INSIDE, NESTED, HOISTED)
    modules = tmp_path.resolve() / "lib/node_modules"
    (modules / NESTED / "package.json").unlink()
    assert (own_program(link) or (None,))[0] == modules / HOISTED / VENDOR
    (modules / HOISTED / VENDOR).unlink()
    assert own_program(link) is None
    (modules / HOISTED / VENDOR).mkdir()
    assert own_program(link) is None


@pytest.mark.parametrize(
    "wrapper", ['#!/bin/sh\nexec "{launcher}" "$@"\n', "#!/usr/bin/env node\n"], ids=["shell", "node"]
)
def test_a_wrapper_of_the_user_s_is_started_as_it_is(tmp_path: Path, wrapper: str) -> None:
    link = install(tmp_path, HOISTED)
    mine = program(tmp_path / "mine/codex", wrapper.format(launcher=link))
    (tmp_path / "also").symlink_to(mine)
    assert (own_program(mine), own_program(tmp_path / "also")) == (None, None)


async def test_a_codex_in_the_project_never_takes_the_place_of_the_user_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    project, told = tmp_path / "project", tmp_path / "told"
    planted = install(project, HOISTED, text=f"#!/bin/sh\ntouch {tmp_path}/owned\n")
    (project / "lib/node_modules").rename(project / "node_modules")
    program(project / "node_modules/.bin/codex", f"#!/bin/sh\ntouch {tmp_path}/owned\n")
    planted.unlink()
    link = install(tmp_path / "user", HOISTED, text=ANSWERS.format(told=told, then=""))
    monkeypatch.setenv("PATH", f"node_modules/.bin:.:{link.parent}:/usr/bin:/bin")
    monkeypatch.chdir(project)
    entry = EngineEntry(use="codex", base_url="http://models.example/v1", model="m")
    engine = CodexEngine("mine", entry, EngineContext(root=project))

    await engine.perform(request(project), CollectingPort())

    assert told.read_text().startswith(str(tmp_path / "user"))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_link_that_leads_out_is_not_followed(tmp_path: Path, is_folder: bool) -> None:
    link = install(tmp_path)
    outside, place = program(tmp_path / "store" / VENDOR), tmp_path / "lib/node_modules" / HOISTED
    if is_folder:  # as pnpm does
        place.symlink_to(tmp_path / "store")
    else:
        (place / VENDOR).parent.mkdir(parents=True)
        (place / VENDOR).symlink_to(outside)
    assert own_program(link) is None


@pytest.mark.parametrize(
    "name", ["bin/codex", "node_modules/@openai/codex/bin/other.js", "node_modules/codex/bin/codex.js"]
)
def test_what_is_no_launcher_of_npm_is_started_as_it_is(tmp_path: Path, name: str) -> None:
    install(tmp_path, HOISTED)
    assert own_program(program(tmp_path / "lib" / name)) is None
    assert own_program(tmp_path / "nowhere") is None


# -- a turn


def engine_of(link: Path) -> CodexEngine:
    entry = EngineEntry(use="codex", base_url="http://models.example/v1", model="m")
    assert link.name == "codex"
    return CodexEngine("mine", entry, EngineContext(root=link.parent))


def request(root: Path, output: Any = "text") -> Request:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    given = schema if output == "schema" else None
    return Request("r", "t", 1, str(root), "Answer.", output=output, schema=given, timeout_seconds=30.0)


async def test_a_turn_starts_its_own_program_and_users_are_told_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    told = tmp_path / "told"
    link = install(tmp_path, HOISTED, text=ANSWERS.format(told=told, then=""))
    monkeypatch.setenv("PATH", f"{link.parent}:/usr/bin:/bin")
    engine = engine_of(link)

    reply = await engine.perform(request(tmp_path), CollectingPort())

    modules = tmp_path.resolve() / "lib/node_modules"
    assert reply.text == "ok"
    assert told.read_text() == f"{modules / HOISTED / VENDOR}|{modules / '@openai/codex'}|1\n"
    found = await engine.detect()
    assert (found.said, found.path) == ("runs `codex`", str(link))
    assert (engine.attach(reply.session or "") or [""])[0] == "codex"


async def test_the_schema_is_there_for_the_turn_and_gone_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    then = 'while [ "$1" != --output-schema ]; do shift; done; cp "$2" "{copy}"'.format(
        copy=tmp_path / "copy"
    )
    link = install(tmp_path, HOISTED, text=ANSWERS.format(told=tmp_path / "told", then=then))
    monkeypatch.setenv("PATH", f"{link.parent}:/usr/bin:/bin")

    with pytest.raises(Invalid, match="not JSON"):  # "ok" is no answer of that form
        await engine_of(link).perform(request(tmp_path, "schema"), CollectingPort())

    assert json.loads((tmp_path / "copy").read_text())["required"] == ["a"]
    assert list(temporary.iterdir()) == []


async def test_a_turn_that_is_cancelled_leaves_no_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    link = install(tmp_path, HOISTED, text=ANSWERS.format(told=tmp_path / "told", then="exec sleep 60"))
    monkeypatch.setenv("PATH", f"{link.parent}:/usr/bin:/bin")
    port = CollectingPort()
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(engine_of(link).perform(request(tmp_path, "schema"), port))
        await port.started.wait()
        assert [path.name.split("-")[1] for path in temporary.iterdir()] == ["schema"]
        turn.cancel()
    assert list(temporary.iterdir()) == []


async def test_a_turn_that_is_cancelled_as_it_begins_leaves_no_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    link = install(tmp_path, HOISTED)
    monkeypatch.setenv("PATH", f"{link.parent}:/usr/bin:/bin")
    turn = engine_of(link).perform(request(tmp_path, "schema"), CollectingPort())
    await cancelled_in("parallelai.engines.clients.codex.own_program", turn, monkeypatch)
    assert list(temporary.iterdir()) == []


async def test_a_schema_that_cannot_be_written_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    link = install(tmp_path, HOISTED)
    monkeypatch.setenv("PATH", f"{link.parent}:/usr/bin:/bin")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        await engine_of(link).perform(request(tmp_path, "schema"), CollectingPort())
    assert list(temporary.iterdir()) == []
