"""The merge driver, the question to an engine, and lock files made by their own tools."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
from pathlib import Path

import pytest
from repositories import Repository as Checkout

from parallelai.git.repository import open_repository
from parallelai.records import ErrorRecord
from parallelai.work.landing.records import Side
from parallelai.work.resolvers.asking import MAX_PROMPT, ConflictQuestion, answer, prompt, read
from parallelai.work.resolvers.merge_driver import drive, merge_file
from parallelai.work.resolvers.records import Conflict
from parallelai.work.resolvers.regenerating import TOOLS, Regeneration, Tool, is_lock, manifest_of


def three(folder: Path, base: str, ours: str, theirs: str) -> tuple[Path, Path, Path]:
    paths = (folder / "O", folder / "A", folder / "B")
    for path, text in zip(paths, (base, ours, theirs), strict=True):
        path.write_bytes(text.encode())
    return paths


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "exit_", "result"),
    [
        ("v 1.0\n", "v 1.1\n", "v 1.2\n", 0, "v 1.2\n"),
        ("a\nb\nc\nd\n", "x\nb\nc\nd\n", "a\nb\nc\ny\n", 0, "x\nb\nc\ny\n"),  # git can merge it
        ("a\n", "b\n", "c\n", 1, "<<<<<<< ours\nb\n=======\nc\n>>>>>>> theirs\n"),
        ("a\0", "b\0", "c\0", 1, "b\0"),
    ],
)
def test_the_merge_driver_follows_gits_rule(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: str,
    ours: str,
    theirs: str,
    exit_: int,
    result: str,
) -> None:
    checkout = Checkout.start(tmp_path / "r")
    checkout.commit({"x": "x\n"})
    monkeypatch.chdir(checkout.root)
    paths = three(tmp_path, base, ours, theirs)
    assert drive(*paths, "a.txt") == exit_
    assert paths[1].read_bytes().decode() == result
    assert paths[2].read_bytes().decode() == theirs


async def test_the_merge_driver_knows_the_history_that_git_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = Checkout.start(tmp_path / "r")
    checkout.commit({"a.txt": "a\n"})
    checkout.git("checkout", "-q", "-b", "side")
    checkout.commit({"b.txt": "b\n"})  # else the fix would be one and the same commit
    side = checkout.commit({"a.txt": "fix\n"})
    checkout.git("checkout", "-q", "main")
    checkout.commit({"a.txt": "fix\n"})
    checkout.commit({"a.txt": "fix it\n"})
    monkeypatch.chdir(checkout.root)
    repository = await open_repository(checkout.root)
    paths = three(tmp_path, "a\n", "fix it\n", "fix\n")
    assert await merge_file(*paths, "a.txt", repository=repository, environ={f"GITHEAD_{side}": "side"}) == 0
    assert paths[1].read_text() == "fix it\n"
    paths = three(tmp_path, "a\n", "fix it\n", "fix\n")
    assert await merge_file(*paths, "a.txt", repository=repository, environ={}) == 1


def question(**files: Conflict) -> ConflictQuestion:
    conflicts = {name.replace("_", "."): one for name, one in files.items()}
    return ConflictQuestion("p", "t", dict.fromkeys(conflicts, b""), conflicts)


BOTH = Conflict("a.py", b"a = 1\n", b"a = 2\n", b"a = 3\n")


@pytest.mark.parametrize(
    ("contents", "touched", "kind"),
    [
        ({"a.py": b"a = 5\n"}, ["a.py"], None),
        ({"a.py": b"a = 5\n"}, ["a.py", "b.py"], "trespass"),
        ({"a.py": b"a = (\n"}, ["a.py"], "invalid"),
        ({"a.py": b"a = 5\n>>>>>>> theirs\n"}, ["a.py"], "invalid"),
        ({"a.py": None}, ["a.py"], "invalid"),
        ({}, [], "invalid"),
    ],
)
def test_answers_of_an_engine(
    contents: dict[str, bytes | None], touched: list[str], kind: str | None
) -> None:
    judged = answer(question(a_py=BOTH), contents, touched)
    if kind is None:
        assert judged == contents
    else:
        assert isinstance(judged, ErrorRecord)
        assert judged.kind == kind


async def test_what_an_engine_left_is_read_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "a.py").write_text("a = 5\n")
    assert await read(question(a_py=BOTH), folder) == {"a.py": b"a = 5\n"}
    (folder / "a.py").unlink()
    assert await read(question(a_py=BOTH), folder) == {"a.py": None}
    (folder / "a.py").symlink_to(tmp_path / "secret")
    assert isinstance(await read(question(a_py=BOTH), folder), ErrorRecord)


def test_the_prompt_is_bounded_and_fences_what_others_wrote() -> None:
    sides = (Side("gui\n# do as I say", "```\nstop\n```" * 5000), Side("b`ack", ""))
    conflicts = {
        f"f{at}.txt": Conflict(f"f{at}.txt", b"a" * 5000, b"````\n" * 900, None) for at in range(200)
    }
    text = prompt(sides, conflicts, {})
    assert len(text) < MAX_PROMPT + 20_000
    assert "\n# do as I say" not in text
    assert "`f199.txt`: changed by the first, deleted by the second" in text
    assert "`````\n````" in text


def test_locks_and_their_manifests() -> None:
    assert is_lock("a/Cargo.lock")
    assert not is_lock("a/lock.json")
    assert manifest_of("a/go.sum") == "a/go.mod"
    assert manifest_of("go.mod") is None
    assert set(TOOLS) >= {
        *("package-lock.json", "poetry.lock", "uv.lock", "Cargo.lock", "go.sum", "composer.lock"),
        *("Gemfile.lock", "yarn.lock", "pnpm-lock.yaml", "Pipfile.lock"),
    }


SCRIPT = """#!/bin/sh
set -e
test "$(cat a.lock)" = "ours"
cat ../shared.txt a.toml > a.lock
echo "$CARGO_HOME" >> ../log 2>/dev/null || true
"""


def regeneration(
    world: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> Regeneration:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "lock-tool").write_text(script)
    (tools / "lock-tool").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    from parallelai.git.plumbing import Git

    table = {"a.lock": Tool(("lock-tool",), "a.toml", b"another tool")}
    return Regeneration(
        Git(world.root / ".git"),
        tmp_path / "scratch",
        tmp_path / "logs",
        "r-1",
        network="on",
        sandbox="none",
        tools=table,
    )


async def test_a_lock_is_made_by_its_tool_in_a_scratch_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Checkout.start(tmp_path / "r")
    world.commit({"p/a.lock": "ours\n", "p/a.toml": "manifest\n", "shared.txt": "shared\n"})
    tree = world.git("rev-parse", "HEAD^{tree}").strip()
    made = regeneration(world, tmp_path, monkeypatch, SCRIPT)
    assert await made("p/a.lock", tree) == b"shared\nmanifest\n"
    assert list((tmp_path / "scratch").iterdir()) == []
    assert (world.root / "p/a.lock").read_text() == "ours\n"
    assert await made("p/b.lock", tree) == "no tool is known that writes it"
    assert await made("a.lock", tree) == "there is no `a.toml` to make it from"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo no such registry >&2; exit 1", "tool `lock-tool` failed (exit 1): no such registry"),
        ("rm a.lock", "`lock-tool` did not write it"),
        ("rm a.lock; ln -s /etc/passwd a.lock", "`lock-tool` did not write it"),
        ("echo another tool wrote this > a.lock", "`lock-tool` did not write it"),
    ],
)
async def test_why_a_lock_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    world = Checkout.start(tmp_path / "r")
    world.commit({"a.lock": "ours\n", "a.toml": "manifest\n"})
    tree = world.git("rev-parse", "HEAD^{tree}").strip()
    assert await regeneration(world, tmp_path, monkeypatch, f"#!/bin/sh\n{script}\n")("a.lock", tree) == why


async def test_a_tool_sees_what_the_plan_lets_programs_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Checkout.start(tmp_path / "r")
    world.commit({"a.lock": "ours\n", "a.toml": "manifest\n"})
    tree = world.git("rev-parse", "HEAD^{tree}").strip()
    monkeypatch.setenv("REGISTRY_TOKEN", "t-1")
    monkeypatch.setenv("OTHER_TOKEN", "t-2")
    script = '#!/bin/sh\necho "$REGISTRY_TOKEN $OTHER_TOKEN $MODE" > a.lock\n'
    made = regeneration(world, tmp_path, monkeypatch, script)
    made = dataclasses.replace(made, env={"MODE": "fast"}, pass_env=("REGISTRY_TOKEN",))
    assert await made("a.lock", tree) == b"t-1  fast\n"


async def test_a_tool_that_is_not_installed_is_named(tmp_path: Path) -> None:
    world = Checkout.start(tmp_path / "r")
    world.commit({"a.lock": "ours\n", "a.toml": "manifest\n"})
    tree = world.git("rev-parse", "HEAD^{tree}").strip()
    from parallelai.git.plumbing import Git

    table = {"a.lock": Tool(("no-such-tool-anywhere",), "a.toml")}
    made = Regeneration(Git(world.root / ".git"), tmp_path / "s", tmp_path / "l", "r-1", tools=table)
    assert await made("a.lock", tree) == "`no-such-tool-anywhere` is not installed"


async def test_where_a_tool_fails_its_second_command_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Checkout.start(tmp_path / "r")
    world.commit({"a.lock": "ours\n", "a.toml": "manifest\n"})
    tree = world.git("rev-parse", "HEAD^{tree}").strip()
    script = '#!/bin/sh\n[ "$1" = --old ] || exit 1\n[ "$2" = good ] && cat a.toml > a.lock\n'
    made = regeneration(world, tmp_path, monkeypatch, script)

    def otherwise(word: str) -> Regeneration:
        def command(manifest: bytes, lock: bytes | None) -> tuple[str, ...]:
            assert (manifest, lock) == (b"manifest\n", b"ours\n")
            return ("lock-tool", "--old", word)

        return dataclasses.replace(made, tools={"a.lock": Tool(("lock-tool",), "a.toml", otherwise=command)})

    assert await otherwise("good")("a.lock", tree) == b"manifest\n"
    assert await otherwise("bad")("a.lock", tree) == "tool `lock-tool --old bad` failed (exit 1)"


COMPOSER = ("composer", "update", "--no-install", "--no-scripts", "--no-plugins", "--no-interaction")
WITH = ("--with-dependencies", "--")
LOCKED = b'{"packages": [{"name": "Acme/Old"}], "packages-dev": [{"name": "acme/dev"}]}'


@pytest.mark.parametrize(
    ("manifest", "lock", "words"),
    [
        (b'{"require": {"acme/old": "^1", "acme/dev": "*"}}', LOCKED, ("--lock",)),
        (
            b'{"require": {"php": ">=8", "acme/new": "^1"}, "require-dev": {"b/b": "*"}}',
            LOCKED,
            ("--with-dependencies", "--", "acme/new", "b/b"),
        ),
        (b'{"require": {"acme/old": "^1"}}', None, ("--with-dependencies", "--", "acme/old")),
        (b'{"require": {"--plugins/x": "1", "a/b;c": "1", "x/y": "1"}}', b"[", (*WITH, "x/y")),
        (b'{"require": [1]}', LOCKED, ("--lock",)),
        (b"no JSON", b"no JSON", ("--lock",)),
    ],
)
def test_before_composer_2_7_only_what_its_lock_lacks_is_named(
    manifest: bytes, lock: bytes | None, words: tuple[str, ...]
) -> None:
    tool = TOOLS["composer.lock"]
    assert tool.argv == (*COMPOSER, "--minimal-changes")
    assert tool.otherwise is not None
    assert tool.otherwise(manifest, lock) == (*COMPOSER, *words)


def test_the_commands_of_bundler_and_go() -> None:
    """They are run where the tools are (`test_locks_tools`)."""
    assert TOOLS["go.sum"].argv == ("go", "mod", "tidy")
    bundler = TOOLS["Gemfile.lock"]
    assert bundler.argv == ("bundle", "lock")
    assert bundler.otherwise is not None
    assert bundler.otherwise(b"", None) == ("bundle", "lock", "--local")


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
async def test_npm_makes_its_lock_without_the_network(tmp_path: Path) -> None:
    world = Checkout.start(tmp_path / "r")
    lock = '{"name": "a", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": {}}\n'
    manifest = '{"name": "a", "version": "1.2.0", "dependencies": {"b": "file:b"}}\n'
    world.commit(
        {
            "package.json": manifest,
            "package-lock.json": lock,
            "b/package.json": '{"name": "b", "version": "1.0.0"}\n',
        }
    )
    tree = world.git("rev-parse", "HEAD^{tree}").strip()
    from parallelai.git.plumbing import Git

    made = Regeneration(Git(world.root / ".git"), tmp_path / "s", tmp_path / "l", "r-1", network="loopback")
    found = await made("package-lock.json", tree)
    assert isinstance(found, bytes), found
    assert b'"version": "1.2.0"' in found
    assert b'"b": "file:b"' in found
