"""Filters that the user's git has for files: what an assistant wrote never runs as the user by them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from gates_support import trees_of
from repositories import Repository

from parallelai import AsyncParallelAI, processes
from parallelai.errors import ParallelAIError, Unavailable
from parallelai.git.plumbing import GitError
from parallelai.git.repository import open_repository
from parallelai.processes import Completed, run_quick
from parallelai.work import filters, lfs

SCRIPT = """#!/bin/sh
for place in . {0}; do touch $place/loot 2> /dev/null; done
echo "$1"; tr a-z A-Z
"""
AGENT = """#!/usr/bin/env python3
import json, os, shutil, sys, tempfile
for line in sys.stdin:
    asked = json.loads(line)
    told = {{}}
    if asked["event"] == "download":
        copy = tempfile.mkstemp(dir=sys.argv[1])[1]
        shutil.copy(sys.argv[1] + "/" + asked["oid"], copy)
        told = {{"event": "complete", "oid": asked["oid"], "path": copy}}
    if asked["event"] != "terminate":
        print(json.dumps(told), flush=True)
open({0!r}, "a").write(os.getcwd())
"""
needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs (`.ci/packages`)")
needs_sandbox = pytest.mark.skipif(not processes.confinements(), reason="needs a sandbox")


@pytest.fixture
def user(tmp_path: Path) -> Repository:
    repository = Repository.start(tmp_path / "project")
    repository.git("config", "user.name", "Ana")
    repository.git("config", "user.email", "ana@example.invalid")
    attributes, script = "*.txt filter=loud\n", "#!/bin/sh\ncat\n"
    repository.commit({".gitattributes": attributes, "Aloud.sh": script, "b.txt": "b\n"})
    (repository.root / "Aloud.sh").chmod(0o755)
    repository.git("commit", "-qam", "It can be run")
    return repository


@pytest.mark.parametrize("by", processes.confinements())
async def test_a_filter_gives_its_output_and_writes_nothing(
    user: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr("parallelai.engines.confining.confinements", lambda: (by,))
    (user.root / "Aloud.sh").write_text(SCRIPT.format(tmp_path))
    user.git("config", "filter.loud.clean", "./Aloud.sh 100%% '%f'")
    user.git("config", "filter.loud.smudge", "./Aloud.sh %f")
    name = "it's $(touch loot) %d.txt"
    repository = await open_repository(user.root)
    words = ("hash-object", "-w", "--stdin", "--path", name)
    made = await filters.as_user(repository, *words, at=user.root, stdin=b"abc\n")
    blob = made.stdout.decode().strip()
    assert user.git("cat-file", "blob", blob) == "100%\nABC\n"
    done = await filters.as_user(repository, "cat-file", "--filters", f"--path={name}", blob, at=user.root)
    assert done.stdout.decode() == f"{name}\n100%\nABC\n"
    assert not list(tmp_path.rglob("loot"))


async def test_a_filter_that_comes_later_is_seen(user: Repository) -> None:
    repository = await open_repository(user.root)
    before = await repository.settings(filters.PATTERN, user.root, {})
    user.git("config", "filter.loud.clean", "cat")
    after = await repository.settings(filters.PATTERN, user.root, {})
    assert set(after) - set(before) == {"filter.loud.clean"}


async def test_a_filter_of_an_included_file_that_changes_is_seen(user: Repository, tmp_path: Path) -> None:
    included = tmp_path / "more.gitconfig"
    user.git("config", "include.path", str(included))
    repository = await open_repository(user.root)
    assert await repository.settings(filters.PATTERN, user.root, {}) == {}
    included.write_text('[filter "loud"]\n\tclean = cat\n')
    assert await repository.settings(filters.PATTERN, user.root, {}) == {"filter.loud.clean": "cat"}


@needs_sandbox
async def test_a_filter_that_fails_confined_says_what_it_may_do(user: Repository) -> None:
    user.git("config", "filter.loud.clean", "touch loot && cat")
    user.git("config", "filter.loud.required", "true")
    repository = await open_repository(user.root)
    words = ("hash-object", "--stdin", "--path", "new.txt")
    with pytest.raises(
        Unavailable, match=r"`loud` \(`touch loot .* on `new\.txt`; it runs confined"
    ) as raised:
        await filters.as_user(repository, *words, at=user.root, stdin=b"abc\n")
    assert "loot" in raised.value.said.partition("it runs confined")[2]  # its own words
    assert "bwrap" not in raised.value.said
    assert raised.value.next is not None
    assert "write what it prints" in raised.value.next


def test_where_git_names_what_it_was_told_to_run_the_users_words_are_shown() -> None:
    settings = {"filter.loud.smudge": "./loud.sh"}
    error = GitError("`git checkout-index` failed: external filter 'bwrap -- ./loud.sh %f' failed 1")
    told = filters.explained(error, settings, {"filter.loud.smudge": "bwrap -- ./loud.sh %f"})
    assert told.said.startswith("`git checkout-index` failed: external filter './loud.sh' failed 1; ")
    assert "confined" in told.said
    assert told.next
    assert filters.explained(error, settings, {}) is error


def use_lfs(user: Repository, **settings: str) -> None:
    user.commit({".gitattributes": "*.bin filter=lfs\n"})
    filter_ = {"process": "git-lfs filter-process", "clean": "git-lfs clean -- %f", "required": "true"}
    for key, value in filter_.items():
        user.git("config", f"filter.lfs.{key}", value)
    for key, value in settings.items():
        user.git("config", f"lfs.{key.replace('__', '.')}", value)


@needs_lfs
@pytest.mark.parametrize("by", processes.confinements())
async def test_an_extension_of_git_lfs_runs_confined(
    user: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr("parallelai.engines.confining.confinements", lambda: (by,))
    (user.root / "Aloud.sh").write_text(SCRIPT.format(tmp_path).replace("tr a-z A-Z", "cat"))
    use_lfs(
        user,
        extension__x__clean="./Aloud.sh of=%f",
        extension__x__smudge="tail -n +2",
        extension__x__priority="0",
    )
    repository = await open_repository(user.root)
    name = "it's $(touch loot) %f.bin"
    made = await filters.as_user(
        repository, "hash-object", "-w", "--stdin", "--path", name, at=user.root, stdin=b"abc\n"
    )
    blob = made.stdout.decode().strip()
    assert "ext-0-x sha256:" in user.git("cat-file", "blob", blob)
    done = await filters.as_user(repository, "cat-file", "--filters", f"--path={name}", blob, at=user.root)
    assert done.stdout == b"abc\n"
    (kept,) = [file for file in (user.root / ".git/lfs/objects").rglob("*") if file.is_file()]
    assert kept.read_text() == f"of={name}\nabc\n"
    assert not list(tmp_path.rglob("loot"))


@needs_lfs
@needs_sandbox
async def test_a_transfer_of_git_lfs_runs_in_the_users_checkout(user: Repository, tmp_path: Path) -> None:
    ran, loot, store = tmp_path / "ran", tmp_path / "loot", tmp_path / "the store"
    store.mkdir()
    user.commit({"agent.py": AGENT.format(str(ran))})
    (user.root / "agent.py").chmod(0o755)
    transfer = {"path": "./agent.py", "args": f"'{store}'"}
    use_lfs(
        user,
        url="https://example.invalid",
        standalonetransferagent="x",
        **{f"customtransfer__x__{key}": value for key, value in transfer.items()},
    )
    user.commit({"a.bin": "content\n"})
    (kept,) = [file for file in (user.root / ".git/lfs/objects").rglob("*") if file.is_file()]
    kept.rename(store / kept.name)
    tree = tmp_path / "tree"
    user.git("worktree", "add", "-q", "--no-checkout", str(tree))
    (tree / "agent.py").write_text(f"#!/bin/sh\ntouch {loot}\n")
    (tree / "agent.py").chmod(0o755)
    (tree / ".gitattributes").write_text("*.bin filter=lfs\n")
    (tree / ".lfsconfig").write_text(f'[lfs "customtransfer.x"]\n\tpath = {tree}/agent.py\n')
    repository = await open_repository(user.root)
    words = ("cat-file", "--filters", "HEAD:a.bin")
    assert (await filters.as_user(repository, *words, at=tree)).stdout == b"content\n"
    assert set(ran.read_text().split("/project")) == {str(user.root).removesuffix("/project"), ""}

    shutil.rmtree(user.root / ".git/lfs/objects")
    user.git("config", "extensions.worktreeConfig", "true")
    user.git("-C", str(tree), "config", "--worktree", "lfs.customtransfer.x.path", f"{tree}/agent.py")
    with pytest.raises(Unavailable, match="`lfs`"):
        await filters.as_user(repository, *words, at=tree)
    assert not loot.exists()


def use_server(user: Repository) -> str:
    """Have git-lfs keep a file, and ask a server for it that answers nobody; gives its `.lfsconfig`."""
    use_lfs(user)
    config = "[lfs]\n\turl = http://127.0.0.1:0/the-users\n"
    user.commit({"a.bin": "content\n", ".lfsconfig": config})
    return config


@needs_lfs
async def test_git_lfs_goes_by_the_lfsconfig_of_the_user_alone(user: Repository, tmp_path: Path) -> None:
    config = use_server(user)
    tree = Repository(tmp_path / "tree")
    user.git("worktree", "add", "-q", "--no-checkout", str(tree.root))
    tree.write({".gitattributes": "*.bin filter=lfs\n"})
    repository = await open_repository(user.root)

    async def asked(*words: str, at: Path = tree.root, top: Path | None = None) -> str:
        shutil.rmtree(user.root / ".git/lfs", ignore_errors=True)
        with pytest.raises(Unavailable, match="`lfs`") as raised:
            await filters.as_user(repository, *words, at=at, top=top)
        return raised.value.said.partition("127.0.0.1:0/")[2].partition("/")[0]

    look = ("cat-file", "--filters", "main:a.bin")
    assert await asked(*look) == "the-users"  # by the one of HEAD
    tree.write({".lfsconfig": config})
    assert await asked(*look) == "the-users"
    tree.write({".lfsconfig": config.replace("users", "assistants")})
    foreign = "the-.lfsconfig-here-is-not-that-of-your-checkout"
    assert await asked(*look) == foreign
    words = ("hash-object", "-w", "--stdin", "--path", "new.bin")
    await filters.as_user(repository, *words, at=tree.root, stdin=b"new\n")
    assert list((user.root / ".git/lfs/objects").rglob("*")), "new files are kept all the same"
    tree.git("read-tree", "main")
    tree.git("add", ".lfsconfig")
    tree.git("commit", "-qm", "c")
    (tree.root / ".lfsconfig").unlink()
    assert await asked(*look) == foreign  # git-lfs takes it from HEAD
    for branch, server in (("main", "the-users"), ("tree", foreign)):
        other = tmp_path / f"of-{branch}"
        add = ("worktree", "add", "-q", "--detach", str(other), branch)
        assert await asked(*add, at=user.root, top=other) == server


@needs_lfs
async def test_a_gate_goes_by_the_lfsconfig_of_the_user_and_shows_no_settings(
    user: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = use_server(user)
    user.git("config", "lfs.token", "s3cr3t-t0k3n")
    good = user.git("rev-parse", "HEAD").strip()
    bad = user.commit({".lfsconfig": config.replace("users", "assistants")})
    user.git("reset", "-q", "--soft", good)
    user.write({".lfsconfig": config})
    shutil.rmtree(user.root / ".git/lfs", ignore_errors=True)
    argvs: list[str] = []

    def seen(argv: Sequence[str], *args: Any, **kwargs: Any) -> Completed:
        argvs.extend(argv)
        return run_quick(argv, *args, **kwargs)

    monkeypatch.setattr("parallelai.git.plumbing.run_quick", seen)
    for commit, server in ((good, "the-users"), (bad, "the-.lfsconfig-here-is-not-that-of-your-checkout")):
        with pytest.raises(ParallelAIError, match=f"127.0.0.1:0/{server}/"):
            async with trees_of(user.root, tmp_path / "state") as trees, trees.at(commit):
                pass
    assert not [word for word in argvs if "s3cr3t" in word]  # everybody on the machine sees these


async def test_git_annex_does_not_run(
    user: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "git-annex"
    program.parent.mkdir()
    program.write_text(SCRIPT.format(tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    for key, value in (("clean", "git-annex smudge --clean -- %f"), ("required", "true")):
        user.git("config", f"filter.loud.{key}", value)
    repository = await open_repository(user.root)
    words = ("hash-object", "-w", "--stdin", "--path", "a.txt")
    made = await filters.as_user(repository, *words, at=user.root, stdin=b"abc\n")
    assert user.git("cat-file", "blob", made.stdout.decode().strip()) == "abc\n"
    assert not list(tmp_path.rglob("loot"))


async def test_a_filter_that_gives_other_bytes_each_time_is_named(user: Repository) -> None:
    user.git("config", "filter.loud.clean", "cat; date +%%N")
    plan = {
        "engines": {"sh": {"use": "command", "command": ["sh", "-c", "echo more >> b.txt"]}},
        "workstreams": {"one": {"description": "d", "engine": "sh", "owns": ["b.txt"]}},
    }
    async with AsyncParallelAI(user.root) as ai:
        (row,) = (await ai.execute(plan)).tasks
    assert row.error is not None
    assert "`loud`" in row.error.said
    assert "`b.txt`" in row.error.said
    assert ".gitattributes" in (row.error.next or "")


@needs_sandbox
async def test_neither_the_guard_nor_a_gate_runs_a_filter_of_an_assistant(
    user: Repository, tmp_path: Path
) -> None:
    loot = tmp_path / "loot"
    user.git("config", "filter.loud.clean", "./Aloud.sh")
    user.git("config", "filter.loud.smudge", "./Aloud.sh")
    evil = f"printf '#!/bin/sh\\npwd >> {loot}; cat\\n' > Aloud.sh; echo BROKEN > b.txt"
    plan = {
        "engines": {"sh": {"use": "command", "command": ["sh", "-c", evil], "sandbox": "required"}},
        "workstreams": {"one": {"description": "d", "engine": "sh", "owns": ["b.txt", "Aloud.sh"]}},
        "gates": {"landing": [["sh", "-c", "! grep -q BROKEN b.txt"]], "canary": "off"},
    }
    async with AsyncParallelAI(user.root) as ai:
        (row,) = (await ai.execute(plan)).tasks
    assert row.error is not None
    assert "BROKEN" in row.error.said  # the gate saw it
    assert not loot.exists(), f"ran in {loot.read_text()}"


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("a.sh %f", 'a.sh "$1"'),
        ("a.sh '%f' 5%%", "a.sh ''\"$1\"'' 5%"),
        ('a.sh "x=%f"', 'a.sh "x=$1"'),
        ("a.sh 'x=%f'", "a.sh 'x='\"$1\"''"),
        (r"a.sh \" %f", r'a.sh \" "$1"'),
        ("a.sh %d", "a.sh %d"),
    ],
)
def test_a_files_name_is_an_argument_and_no_part_of_the_script(command: str, script: str) -> None:
    assert filters.named(command) == script


@pytest.mark.parametrize(
    ("command", "path", "runs"),
    [
        ("git-lfs clean -- %f", "{bin}", "git-lfs clean -- %f"),
        ("git-lfs clean %f", "{bin}", "git-lfs clean %f"),
        ("git-lfs filter-process --skip", "{bin}", "git-lfs filter-process --skip"),
        ("{bin}/git-lfs smudge -- %f", "{bin}", "{bin}/git-lfs smudge -- %f"),
        ("git-lfs clean -- %f", ".:{bin}", "{bin}/git-lfs clean -- %f"),
        ("git-lfs clean -- %f", "{top}:{bin}", None),
        ("{top}/git-lfs clean -- %f", "{bin}", None),
        ("./git-lfs clean -- %f", "{bin}", None),
        ("git-lfs clean; ./x", "{bin}", None),
        ("python3 git-lfs clean", "{bin}", None),
    ],
)
def test_git_lfs_alone_runs_as_it_is(tmp_path: Path, command: str, path: str, runs: str | None) -> None:
    folders = {name: tmp_path / name for name in ("bin", "top")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "git-lfs").write_text("#!/bin/sh\n")
        (folder / "git-lfs").chmod(0o755)
    expected = None if runs is None else runs.format(**folders)
    assert lfs.as_it_is(command.format(**folders), tmp_path / "top", path.format(**folders)) == expected
