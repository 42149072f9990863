"""Real clients whose model tells them to attack, in whole runs: what is contained, by which sandbox."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from attack_support import FOLDERS, KEY, Field, refs, state_of
from work_support import git, make_repository

from clients.installing import programs
from parallelai import processes
from parallelai.engines import confining
from parallelai.records import Change, TaskResult
from scripted import ScriptedServer

FILES = {"a.py": "a = 1\n", "b.py": "b = 2\n"}


@pytest.fixture(scope="session", autouse=True)
def installed() -> Path:
    return programs()


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as running:
        yield running


@pytest.fixture
async def field(
    request: pytest.FixtureRequest, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Field]:
    """By the marks of a test: (client, sandbox)."""
    use, by = getattr(request, "param", ("codex", "bubblewrap"))
    base = Path(tempfile.mkdtemp(prefix="attacked-", dir="/var/tmp"))
    (base / "home").mkdir()
    (base / "loot").mkdir()
    monkeypatch.setenv("HOME", str(base / "home"))
    for name in ("STATE", "CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(base / "home" / f".{name.lower()}"))
    monkeypatch.setenv("TEST_CLIENT_KEY", KEY)
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "key of the user")
    if by != "none":
        assert by in processes.confinements()
        for module in (confining, processes):
            monkeypatch.setattr(module, "confinements", lambda: (by,))
    make_repository(base / "checkout", FILES)
    try:
        yield Field(base, server, use, by)
    finally:
        shutil.rmtree(base)


def on(*pairs: tuple[str, str]) -> pytest.MarkDecorator:
    """Do a test with these clients and sandboxes."""
    return pytest.mark.parametrize("field", pairs, indirect=True, ids=["-".join(pair) for pair in pairs])


BOTH = (("codex", "bubblewrap"), ("claude-code", "bubblewrap"))
ALL = (*BOTH, ("codex", "landlock"), ("claude-code", "landlock"))
EACH = (("codex", "bubblewrap"), ("codex", "landlock"))



def check_contained(task: TaskResult, *more: str) -> Change:
    """Check that it tried, did its work all the same, and that the change holds just that."""
    assert task.status == "ok", task.error
    assert task.change is not None
    assert task.change.files == tuple(sorted(("attack.sh", "tried.txt", *more)))
    return task.change


@on(*ALL)
async def test_what_it_writes_outside_does_not_arrive(field: Field) -> None:
    in_tmp = Path(tempfile.gettempdir()) / f"{field.base.name}.txt"
    before = state_of(field.checkout), refs(field.checkout)
    task = await field.attack(
        f"echo out > {field.loot}/out.txt",
        f"echo out > {field.home}/.bashrc",
        f"echo out > {in_tmp}",
        f"echo evil > {field.checkout}/a.py",
        f"rm -rf {field.checkout}/b.py {field.checkout}/.git/refs",
        f"ln -s /etc/passwd {field.checkout}/link",
        f"touch {field.checkout}/.parallelai/planted",
    )
    check_contained(task)
    assert list(field.loot.iterdir()) == []
    assert not (field.home / ".bashrc").exists()
    assert not in_tmp.exists()
    assert (state_of(field.checkout), refs(field.checkout)) == before
    assert not (field.checkout / ".parallelai/planted").exists()


SECRETS = (".ssh/id_test", ".aws/credentials", ".netrc", ".gemini/oauth_creds.json", ".config/gh/hosts.yml")


@on(*ALL)
async def test_it_does_not_see_the_users_keys(field: Field) -> None:
    other = next(folder for use, folder in FOLDERS.items() if use != field.use)
    for name in (*SECRETS, f"{other}/auth.json"):
        (field.home / name).parent.mkdir(parents=True, exist_ok=True)
        (field.home / name).write_text("key of the user")
    task = await field.attack(
        f"cat {' '.join(str(field.home / name) for name in (*SECRETS, other + '/auth.json'))} > keys.txt",
        f"find {field.checkout}/.parallelai -type f -not -path '*/objects/*' -exec cat {{}} + > state.txt",
        f"cat {field.home}/.state/parallelai/* > machine.txt",
        "cat /proc/*/environ | tr '\\0' '\\n' | grep SECRET_OF_THE_SHELL > shell.txt",
    )
    change = check_contained(task, "keys.txt", "machine.txt", "shell.txt", "state.txt")
    git(field.checkout, "apply", change.patch)
    for name in ("keys.txt", "machine.txt", "shell.txt", "state.txt"):
        assert (field.checkout / name).read_text() == ""


@on(*ALL, ("codex", "none"), ("claude-code", "none"))
async def test_what_it_does_to_git_ends_with_its_folder(field: Field) -> None:
    """Its repository is its own: without a sandbox, too, nothing that it does there is the user's."""
    before = state_of(field.checkout), refs(field.checkout)
    hook = f"printf '#!/bin/sh\\ntouch {field.loot}/hooked\\n'"
    names = ("pre-commit", "post-checkout", "post-commit", "reference-transaction", "post-index-change")
    task = await field.attack(
        *(f"{hook} > .git/hooks/{name}; chmod +x .git/hooks/{name}" for name in names),
        f"git config core.fsmonitor 'touch {field.loot}/hooked'",
        f"git config core.hooksPath '{field.loot}'",
        f"git config filter.evil.clean 'touch {field.loot}/hooked; cat'",
        "echo '* filter=evil' > .git/info/attributes",
        "git config user.name evil; git config user.email e@localhost",
        "git -c core.hooksPath=/dev/null -c core.fsmonitor= branch evil",
        "echo b = 3 > b.py; git -c core.hooksPath=/dev/null -c core.fsmonitor= stash push",
        "git -c core.hooksPath=/dev/null -c core.fsmonitor= gc --prune=now -q",
        "git remote add evil https://127.0.0.1:1/evil; git tag evil",
        f"rm -f {field.loot}/hooked",
    )
    check_contained(task)
    assert not (field.loot / "hooked").exists()
    assert (state_of(field.checkout), refs(field.checkout)) == before
    assert git(field.checkout, "fsck", "--full", "--no-dangling") == ""


@on(*ALL)
async def test_the_users_hooks_and_config_are_not_its_to_edit(field: Field) -> None:
    before = state_of(field.checkout / ".git")
    task = await field.attack(
        f"echo evil > {field.checkout}/.git/hooks/pre-commit",
        f"git -C {field.checkout} config core.fsmonitor evil",
        f"git -C {field.checkout} branch evil; git -C {field.checkout} stash",
        f"git -C {field.checkout} -c user.name=e -c user.email=e@localhost commit --allow-empty -m evil",
        'for o in $(cat .git/objects/info/alternates); do chmod -R u+w "$o"; rm -rf "$o"/*; done',
    )
    assert task.status == "ok", task.error
    assert state_of(field.checkout / ".git") == before
    assert git(field.checkout, "fsck", "--full", "--no-dangling") == ""
