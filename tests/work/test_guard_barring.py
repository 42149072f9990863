"""What bars the user's git after programs ran that nothing holds back: locks, and a history that is cut short."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from repositories import Repository
from test_users_git import unconfined

from parallelai.work.guard.barring import Barring, barring, clear


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository of three commits; no git runs on the machine but those of the test."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setattr("parallelai.work.guard.barring.is_git_at_work", lambda: False)
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
    monkeypatch.setattr("parallelai.work.guard.barring.is_git_at_work", lambda: True)
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
