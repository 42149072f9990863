"""What bars the user's git after programs ran that nothing holds back: locks, and a history that is cut short."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import psutil
import pytest
from repositories import Repository
from test_users_git import unconfined

from parallelai.store.files import replace_whole
from parallelai.work.guard.barring import Barring, barring, clear, is_git_at_work, may_be_at_work


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository of three commits; no git runs on the machine but those of the test."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setattr("parallelai.work.guard.barring.is_git_at_work", lambda _: False)
    made = Repository.start(tmp_path / "main")
    for number in range(3):
        made.commit({"a.txt": f"{number}\n"})
    return made


def subjects(repository: Repository) -> int:
    return len(repository.git("log", "--format=%h").splitlines())


async def test_locks_that_came_since_are_put_aside_and_others_are_nobody_s_business(
    main: Repository, tmp_path: Path
) -> None:
    common = main.root / ".git"
    (common / "config.lock").write_text("theirs")
    before = Barring.from_json(barring(common).to_json())
    (common / "index.lock").write_text("")
    (common / "refs/heads/main.lock").mkdir()
    told = await clear(common, before, tmp_path / "aside")
    assert [each.partition(" (")[0] for each in told] == ["index.lock", "refs/heads/main.lock"]
    assert all("it is in `" in each for each in told)
    assert {path.name for path in (tmp_path / "aside/git").iterdir()} == {"index.lock", "main.lock"}
    assert barring(common) == before
    main.commit({"a.txt": "more\n"})


async def test_a_lock_that_may_be_somebody_s_is_told_and_stays(
    main: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = main.root / ".git"
    before, lock = barring(common), common / "index.lock"
    with lock.open("w"):
        assert await clear(common, before, tmp_path / "aside") == []
    monkeypatch.setattr("parallelai.work.guard.barring.is_git_at_work", lambda _: True)
    (told,) = await clear(common, before, tmp_path / "aside")
    assert told == f"index.lock (came since, and bars your git: `rm {lock}` once none is at work there)"
    assert lock.exists()


@pytest.mark.parametrize("planted", ["{head}\n", "{head}\nnonsense\n", "nonsense", f"{'0' * 40}\n"])
async def test_a_history_that_is_cut_where_it_does_not_end_is_whole_again(
    main: Repository, tmp_path: Path, planted: str
) -> None:
    common, head = main.root / ".git", main.git("rev-parse", "HEAD").strip()
    before = barring(common)
    (common / "shallow").write_text(planted.format(head=head))
    (told,) = await clear(common, before, tmp_path / "aside")
    assert told.startswith("shallow (said that history ends where it does not")
    assert subjects(main) == 3
    assert not (common / "shallow").exists()
    assert (tmp_path / "aside/git/shallow").read_text() == planted.format(head=head)


async def test_a_history_that_does_end_there_keeps_its_end(main: Repository, tmp_path: Path) -> None:
    main.git("clone", "-q", "--depth", "2", main.root.as_uri(), str(tmp_path / "short"))
    short = Repository(tmp_path / "short")
    common = short.root / ".git"
    before = barring(common)
    (common / "shallow").unlink()
    (told,) = await clear(common, before, tmp_path / "aside")
    assert told == "shallow (was gone, and is right again)"
    assert subjects(short) == 2
    head = short.git("rev-parse", "HEAD").strip()
    (common / "shallow").write_text(f"{head}\n")
    assert len(await clear(common, before, tmp_path / "aside")) == 1
    assert subjects(short) == 2
    short.git("fetch", "-q", "--unshallow")
    assert await clear(common, before, tmp_path / "aside") == []
    assert subjects(short) == 3


async def test_what_was_not_read_to_its_end_is_not_written_anew(
    main: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common, head = main.root / ".git", main.git("rev-parse", "HEAD").strip()
    before, many = barring(common), f"{head}\n" * 2
    (common / "shallow").write_text(many)
    monkeypatch.setattr("parallelai.work.guard.barring._MOST_BYTES", len(many) - 1)
    (told,) = await clear(common, before, tmp_path / "aside")
    assert told == "shallow (is not as it was, and too large to be looked at: see where `git log` ends)"
    assert (common / "shallow").read_text() == many
    (common / "shallow").write_text("nonsense\n" * len(many))
    await clear(common, before, tmp_path / "aside")
    assert subjects(main) == 3


async def test_where_the_user_s_own_fetch_ends_history_it_ends(main: Repository, tmp_path: Path) -> None:
    main.git("clone", "-q", "--depth", "1", main.root.as_uri(), str(tmp_path / "short"))
    short = Repository(tmp_path / "short")
    common, head = short.root / ".git", short.git("rev-parse", "HEAD").strip()

    async def had() -> str | None:
        return head

    before = barring(common)
    new = main.commit({"a.txt": "more\n"})
    short.git("fetch", "-q", "--depth", "1")
    short.git("reset", "-q", "--hard", "origin/main")
    fetched = (common / "shallow").read_text()
    assert fetched.split() == sorted([head, new])  # although the one before `new` is here
    assert await clear(common, before, tmp_path / "aside", had) == []
    assert (common / "shallow").read_text() == fetched

    before, old = barring(common), short.commit({"b.txt": "mine\n"})
    short.git("checkout", "-q", "-b", "other")
    (common / "shallow").write_text(f"{fetched}{old}\n")
    assert len(await clear(common, before, tmp_path / "aside", had)) == 1
    assert (common / "shallow").read_text() == fetched


async def test_killed_before_it_is_written_anew_nothing_that_a_fetch_brought_is_gone(
    main: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main.git("clone", "-q", "--depth", "1", main.root.as_uri(), str(tmp_path / "short"))
    short = Repository(tmp_path / "short")
    common, head = short.root / ".git", short.git("rev-parse", "HEAD").strip()

    async def had() -> str | None:
        return head

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    before = barring(common)
    main.commit({"a.txt": "more\n"})
    short.git("fetch", "-q", "--depth", "1")
    fetched = (common / "shallow").read_text()
    old = short.commit({"b.txt": "mine\n"})
    short.git("checkout", "-q", "-b", "other")
    (common / "shallow").write_text(f"{fetched}{old}\n")
    whole = "parallelai.work.guard.barring.replace_whole"
    monkeypatch.setattr(whole, killed)
    with pytest.raises(KeyboardInterrupt):
        await clear(common, before, tmp_path / "aside", had)
    monkeypatch.setattr(whole, replace_whole)
    await clear(common, before, tmp_path / "aside", had)
    assert (common / "shallow").read_text() == fetched


async def test_what_lies_in_the_place_of_the_folder_aside_is_in_nobody_s_way(
    main: Repository, tmp_path: Path
) -> None:
    common, head = main.root / ".git", main.git("rev-parse", "HEAD").strip()
    before = barring(common)
    (tmp_path / "aside").write_text("in the way")
    (common / "shallow").write_text(f"{head}\n")
    (common / "index.lock").write_text("")
    told = await clear(common, before, tmp_path / "aside")
    assert all(f"it is in `{tmp_path}/aside-1/git/" in each for each in told)
    assert len(told) == 2
    assert subjects(main) == 3


async def test_of_many_locks_it_is_said_how_many_there_are(main: Repository, tmp_path: Path) -> None:
    common = main.root / ".git"
    before = barring(common)
    for number in range(25):
        (common / f"{number}.lock").write_text("")
    told = await clear(common, before, tmp_path / "aside")
    assert len(told) == 21
    assert told[-1] == "5 more files like them (`*.lock`)"


def test_a_git_counts_where_it_is(main: Repository, tmp_path: Path) -> None:
    roots = frozenset({main.root})
    other = Repository.start(tmp_path / "other")

    def counts(*options: str, at: Path, **env: str) -> bool:
        words = ["git", *options, "cat-file", "--batch"]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        with subprocess.Popen(
            words, cwd=at, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**clean, **env}
        ) as git:
            assert git.stdin is not None
            assert git.stdout is not None
            git.stdin.write(b"none\n")
            git.stdin.flush()
            git.stdout.readline()  # it has gone where it works
            found = may_be_at_work(psutil.Process(git.pid), roots)
            git.stdin.close()
        return found

    (main.root / "below").mkdir()
    assert counts(at=main.root)
    assert counts(at=main.root / "below")
    assert not counts(at=other.root)
    assert counts(f"--git-dir={main.root}/.git", at=other.root)
    assert counts(at=other.root, GIT_DIR=f"{main.root}/.git")
    assert not may_be_at_work(psutil.Process(), roots)


def test_a_git_that_ends_within_a_moment_does_not_count(
    main: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([True, True, False])
    monkeypatch.setattr("psutil.process_iter", lambda: [psutil.Process()])
    monkeypatch.setattr("parallelai.work.guard.barring.may_be_at_work", lambda *_: next(looks))
    assert not is_git_at_work(main.root / ".git")
    monkeypatch.setattr("parallelai.work.guard.barring.may_be_at_work", lambda *_: True)
    assert is_git_at_work(main.root / ".git")


async def test_a_task_s_program_leaves_nothing_that_bars_the_user_s_git(main: Repository) -> None:
    common = shlex.quote(str(main.root / ".git"))
    cut = f"rev-parse HEAD > {common}/shallow; touch {common}/index.lock {common}/refs/heads/main.lock"
    task = await unconfined(main.root, cut)
    assert task.status == "ok", task.error
    assert task.change is not None
    assert {each.partition(" (")[0] for each in task.change.kept_out} == {
        ".git/shallow",
        ".git/index.lock",
        ".git/refs/heads/main.lock",
    }
    assert subjects(main) == 3
    main.commit({"a.txt": "more\n"})
