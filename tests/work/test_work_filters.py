"""Filters that the user's git has for files: what an assistant wrote never runs as the user by them."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import Repository

from parallelai import AsyncParallelAI, processes
from parallelai.git.repository import open_repository
from parallelai.work import filters

SCRIPT = """#!/bin/sh
for place in . {0}; do touch $place/loot 2> /dev/null; done
echo "$1"; tr a-z A-Z
"""
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
    assert filters.as_lfs(command.format(**folders), tmp_path / "top", path.format(**folders)) == expected
