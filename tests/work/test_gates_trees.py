"""Prepared folders: what lies in them, what is left in them, and what becomes of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gates_support import python, trees_of, workspace
from repositories import Repository, everything, lying, run

from parallelai.errors import UsageError
from parallelai.git.repository import open_repository
from parallelai.work.gates import manifest
from parallelai.work.gates.trees import Settings, SetupFailed, Tree, open_trees
from parallelai.work.scratch.home import home


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def user(tmp_path: Path) -> Repository:
    return Repository.start(tmp_path / "user")


async def said(tree: Tree, state: Path, *argv: str, seconds: float = 60.0) -> str:
    ran = await tree.run(argv, seconds, state / "log")
    assert ran.exit == 0, ran.said
    return ran.stdout.decode()


def test_a_tree_is_a_clean_checkout_with_branches_and_tags(user: Repository, state: Path) -> None:
    user.write(
        {
            "run.sh": "#!/bin/sh\n",
            "a/b c.txt": "1\n",
            ".gitattributes": "*.bat text eol=crlf\n",
            "x.bat": "1\n",
        }
    )
    (user.root / "run.sh").chmod(0o755)
    (user.root / "link").symlink_to("a")
    first = user.commit()
    user.git("tag", "v1.2")
    second = user.commit({"a/b c.txt": "2\n"})

    async def scenario() -> None:
        async with trees_of(user.root, state) as trees, trees.at(first) as tree:
            found = lying(tree.path)
            assert found["a/b c.txt"] == ("file", b"1\n")
            assert found["run.sh"][0] == "program"
            assert found["link"] == ("link", b"a")
            assert found["x.bat"] == ("file", b"1\r\n")
            assert await said(tree, state, "git", "status", "--porcelain") == ""
            assert (await said(tree, state, "git", "rev-parse", "HEAD")).strip() == first
            assert (await said(tree, state, "git", "rev-parse", "main")).strip() == second
            assert (await said(tree, state, "git", "describe", "--tags")).strip() == "v1.2"

    run(scenario())
    assert not home("r-gates").exists()


def test_copies_links_included_files_and_setup_make_the_tree(user: Repository, state: Path) -> None:
    commit = user.commit(
        {".gitignore": ".env\nmodules\nlocal.cfg\nbuilt\n", ".worktreeinclude": "local.cfg\n", "a": "1"}
    )
    user.write({".env": "KEY=1", "modules/dep.txt": "dep", "local.cfg": "here"})
    setup = [list(python("open('built', 'w').write(open('.env').read() + open('modules/dep.txt').read())"))]

    async def scenario() -> None:
        opened = trees_of(user.root, state, copy=[".env"], link=["modules"], setup=setup)
        async with opened as trees, trees.at(commit) as tree:
            assert (tree.path / "built").read_text() == "KEY=1dep"
            assert (tree.path / "modules").is_symlink()
            assert (tree.path / "local.cfg").read_text() == "here"
            assert await said(tree, state, "git", "status", "--porcelain") == ""

    run(scenario())


def test_what_a_run_leaves_is_gone_in_the_next(user: Repository, state: Path) -> None:
    commit = user.commit({"a.txt": "1", "src/b.txt": "2", ".gitignore": "*.cache\n"})
    litter = python(
        "import os, pathlib, subprocess as s\n"
        "open('a.txt', 'a').write('x'); os.remove('src/b.txt'); os.makedirs('new/deep'); open('new/deep/f', 'w')\n"
        "open('y.cache', 'w'); os.symlink('/', 'out'); os.mkdir('empty')\n"
        "s.run(['git', 'tag', 'mine'], check=True); s.run(['git', 'config', 'core.hooksPath', 'x'], check=True)"
    )

    async def scenario() -> None:
        async with trees_of(user.root, state, parallel=1) as trees:
            async with trees.at(commit) as tree:
                before = lying(tree.path)
                await said(tree, state, *litter)
                path = tree.path
            async with trees.at(commit) as tree:
                assert tree.path == path
                assert lying(tree.path) == before
                assert {each.name for each in path.iterdir()} == {".git", ".gitignore", "a.txt", "src"}
                assert await said(tree, state, "git", "status", "--porcelain", "--ignored") == ""
                assert await said(tree, state, "git", "tag") == ""
            assert trees.made == 1

    run(scenario())


def test_a_changed_copy_or_product_of_setup_makes_the_tree_anew(user: Repository, state: Path) -> None:
    commit = user.commit({".gitignore": "built\n.env\n", "a": "1"})
    user.write({".env": "K"})
    for keys in ({"setup": [list(python("open('built', 'w').write('1')"))]}, {"copy": [".env"]}):
        name = "built" if "setup" in keys else ".env"

        async def scenario(keys: dict[str, object] = keys, name: str = name) -> None:
            async with trees_of(user.root, state, parallel=1, **keys) as trees:
                async with trees.at(commit) as tree:
                    content = (tree.path / name).read_bytes()
                    await said(tree, state, *python(f"open({name!r}, 'a').write('more')"))
                async with trees.at(commit) as tree:
                    assert (tree.path / name).read_bytes() == content
                assert trees.made == 2

        run(scenario())


def test_setup_counts_for_the_commit_that_it_ran_on(user: Repository, state: Path) -> None:
    first = user.commit({"in.txt": "one", "version.txt": "unknown", ".gitignore": "out.txt\n"})
    second = user.commit({"in.txt": "two"})
    code = "import pathlib as p; t = p.Path('in.txt').read_text(); p.Path('out.txt').write_text(t)"
    setup = [list(python(f"{code}; p.Path('version.txt').write_text(t)"))]

    async def scenario() -> None:
        async with trees_of(user.root, state, parallel=1, setup=setup) as trees:
            for commit, wanted in ((first, "one"), (second, "two"), (second, "two"), (second, "two")):
                async with trees.at(commit) as tree:
                    assert (tree.path / "out.txt").read_text() == wanted
                    assert (tree.path / "version.txt").read_text() == wanted
                    (tree.path / "new.txt").write_text("x")
                    if trees.made == 2:  # git would give it back without what setup made of it
                        (tree.path / "version.txt").write_text("changed")
            assert trees.made == 3

    run(scenario())


def test_a_tree_moves_to_the_next_commit_as_if_it_were_laid_out_there(user: Repository, state: Path) -> None:
    user.write(
        {"gone.txt": "1", "same.txt": "1", "swap/file": "1", ".gitignore": "local\nswap2\n", "a b": "1"}
    )
    first = user.commit()
    user.write({"local": "mine", "swap2": "mine"})
    user.git("rm", "-q", "-r", "gone.txt", "swap")
    user.write({"swap": "a file now", "new/deep.txt": "2", "a b": "2"})
    user.git("add", "-f", "swap2")
    second = user.commit()

    async def laid(commit: str, *, after: str | None) -> tuple[dict[str, tuple[str, bytes]], int]:
        async with trees_of(user.root, state, parallel=1, copy=["local", "swap2"]) as trees:
            if after is not None:
                async with trees.at(after) as tree:
                    await said(tree, state, *python("open('left', 'w'); open('a b', 'w')"))
            async with trees.at(commit) as tree:
                assert await said(tree, state, "git", "status", "--porcelain") == ""
                return lying(tree.path), trees.made

    for commit, before in ((second, first), (first, second)):
        moved, made = run(laid(commit, after=before))
        fresh, _ = run(laid(commit, after=None))
        assert moved == fresh
        assert made <= 2


def test_a_tree_without_anything_brought_is_made_once_for_many_commits(user: Repository, state: Path) -> None:
    commits = [user.commit({f"f{number}": str(number), "shared": str(number)}) for number in range(4)]

    async def scenario() -> None:
        async with trees_of(user.root, state, parallel=1) as trees:
            for commit in commits:
                async with trees.at(commit) as tree:
                    assert await said(tree, state, "git", "status", "--porcelain") == ""
                    assert (await said(tree, state, "git", "rev-parse", "HEAD")).strip() == commit
            assert trees.made == 1

    run(scenario())


def test_a_setup_that_fails_is_said_with_its_words(user: Repository, state: Path) -> None:
    commit = user.commit({"a": "1"})

    async def scenario() -> None:
        async with trees_of(
            user.root, state, setup=[list(python("raise SystemExit('no such package')"))]
        ) as trees:
            with pytest.raises(SetupFailed, match="no such package") as caught:
                async with trees.at(commit):
                    pass
            assert caught.value.kind == "gate_failed"
            assert not list(home("r-gates").glob("gates-*/tree-*"))

    run(scenario())


def test_what_runs_there_is_confined_and_the_users_checkout_untouched(user: Repository, state: Path) -> None:
    commit = user.commit({"a": "1"})
    state.mkdir()
    (state / "secret").write_text("s")
    before = everything(user.root)
    attack = python(
        f"import os\nfor place in [{str(user.root / 'a')!r}, {str(user.root / '.git/config')!r}]:\n"
        "    try:\n        open(place, 'a').write('x')\n    except OSError: pass\n"
        f"print('seen', os.path.exists({str(state / 'secret')!r}), 'TOKEN' in os.environ, os.environ.get('OWN'))"
    )

    async def scenario(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TOKEN", "t")
        wanted = workspace(env={"OWN": "1"})
        settings = Settings("r-gates", state / "gates", wanted, hidden=(str(state),))
        async with open_trees(await open_repository(user.root), settings) as trees, trees.at(commit) as tree:
            ran = await tree.run(attack, 60, state / "gates" / "log")
            assert ran.stdout.decode().split() == ["seen", "False", "False", "1"]

    with pytest.MonkeyPatch.context() as monkeypatch:
        run(scenario(monkeypatch))
    assert everything(user.root) == before


def test_what_a_command_lays_in_its_temporary_folder_leads_nobody_out(user: Repository, state: Path) -> None:
    commit = user.commit({"a": "1"})
    state.mkdir()
    precious = state / "precious"
    precious.write_text("mine")
    plant = python(
        "import os\nfor name in ('index', 'ours', 'own'):\n"
        f"    os.symlink({str(precious)!r}, os.path.join(os.environ['TMPDIR'], name))\n"
        "open('a', 'w').write('2')"
    )

    async def scenario() -> None:
        async with trees_of(user.root, state) as trees, trees.at(commit) as tree:
            ran = await tree.generate(plant, 60, state / "log")
            assert ran.exit == 0, ran.said
            assert await tree.written(()) == {"a": b"2"}

    run(scenario())
    assert precious.read_text() == "mine"


def test_tools_that_need_a_cache_have_one_that_goes_with_the_use(user: Repository, state: Path) -> None:
    commit = user.commit({"a": "1"})
    keep = python(
        "import os, pathlib\nplace = pathlib.Path(os.environ['XDG_CACHE_HOME'], 'go-build')\n"
        "print(place.exists())\nplace.mkdir(parents=True)\nprint(place.is_dir())"
    )

    async def scenario() -> None:
        async with trees_of(user.root, state) as trees:
            for _ in range(2):
                async with trees.at(commit) as tree:
                    assert (await said(tree, state, *keep)).split() == ["False", "True"]

    run(scenario())


def test_a_command_that_takes_too_long_is_ended(user: Repository, state: Path) -> None:
    commit = user.commit({"a": "1"})

    async def scenario() -> None:
        async with trees_of(user.root, state) as trees, trees.at(commit) as tree:
            ran = await tree.run(
                python("import time; print('on', flush=True); time.sleep(600)"), 1.0, state / "log"
            )
            assert (ran.exit, ran.ended_by) == (None, "timeout")

    run(scenario())


def test_no_more_trees_are_used_at_once_than_allowed_and_each_is_its_users_alone(
    user: Repository, state: Path
) -> None:
    commits = [user.commit({"a": str(number)}) for number in range(6)]
    inside: set[Path] = set()
    most = 0
    two = asyncio.Event()

    async def use(trees: object, commit: str) -> None:
        nonlocal most
        async with trees.at(commit) as tree:  # type: ignore[attr-defined]
            assert tree.path not in inside
            inside.add(tree.path)
            most = max(most, len(inside))
            if len(inside) == 2:
                two.set()
            async with asyncio.timeout(30):  # the first is not done before a second has come
                await two.wait()
            assert (await said(tree, state, "git", "rev-parse", "HEAD")).strip() == commit
            inside.discard(tree.path)

    async def scenario() -> None:
        async with trees_of(user.root, state, parallel=2) as trees, asyncio.TaskGroup() as group:
            for commit in commits:
                group.create_task(use(trees, commit))

    run(scenario())
    assert most == 2


def test_what_the_ledger_lends_is_in_the_environment_and_given_back(user: Repository, state: Path) -> None:
    commit = user.commit({"a": "1"})
    lent: list[str] = []

    @asynccontextmanager
    async def lend(name: str) -> AsyncIterator[Mapping[str, str]]:
        lent.append(f"+{name}")
        yield {"PORT": "4711"}
        lent.append(f"-{name}")

    async def scenario() -> None:
        settings = Settings("r-gates", state / "gates", lend=lend)
        async with open_trees(await open_repository(user.root), settings) as trees:
            for _ in range(2):
                async with trees.at(commit) as tree:
                    assert (
                        await said(tree, state, *python("import os; print(os.environ['PORT'], end='')"))
                        == "4711"
                    )
        assert [each[0] for each in lent] == ["+", "-"]

    run(scenario())


def test_a_cancelled_use_leaves_a_tree_that_can_be_used(user: Repository, state: Path) -> None:
    commit = user.commit({"a": "1"})

    async def scenario() -> None:
        async with trees_of(user.root, state, parallel=1) as trees:
            began = asyncio.Event()

            async def use() -> None:
                async with trees.at(commit) as tree:
                    (tree.path / "left").write_text("x")
                    began.set()
                    await tree.run((sys.executable, "-c", "import time; time.sleep(600)"), 600, state / "log")

            task = asyncio.create_task(use())
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with trees.at(commit) as tree:
                assert not (tree.path / "left").exists()

    run(scenario())
    assert not home("r-gates").exists()


TAKES = """\
import sys
from parallelai.work.gates.owned import take
taken = take("r-of-another")
(taken.path / "tree-1").mkdir()
print(taken.path, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_landing_left_goes_with_the_next_of_any_run(user: Repository, state: Path) -> None:
    commit = user.commit({"a": "1"})

    async def scenario() -> None:
        async with trees_of(user.root, state) as trees, trees.at(commit):
            pass

    with subprocess.Popen(
        [sys.executable, "-c", TAKES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        run(scenario())
        assert (left / "tree-1").is_dir()  # it is at work still
        other.kill()

    run(scenario())

    assert not left.parent.exists()


def test_the_users_filters_run_as_in_their_checkout(user: Repository, state: Path) -> None:
    user.git("config", "filter.shout.smudge", "tr a-z A-Z")
    user.git("config", "filter.shout.clean", "tr A-Z a-z")
    first = user.commit({".gitattributes": "*.loud filter=shout\n", "a.loud": "HELLO\n", "b.txt": "hello\n"})
    second = user.commit({"c.loud": "MORE\n"})

    async def scenario() -> None:
        async with trees_of(user.root, state, parallel=1) as trees:
            for commit in (first, second):
                async with trees.at(commit) as tree:
                    assert (tree.path / "a.loud").read_text() == "HELLO\n"
                    (tree.path / "a.loud").write_text("x")
            assert (tree.path / "c.loud").read_text() == "MORE\n"
            assert trees.made == 1

    run(scenario())


def test_a_bare_repository_has_trees_too(tmp_path: Path, user: Repository, state: Path) -> None:
    commit = user.commit({"a": "1"})
    user.git("clone", "-q", "--bare", str(user.root), str(tmp_path / "bare.git"))

    async def scenario() -> None:
        async with trees_of(tmp_path / "bare.git", state, copy=["config"]) as trees, trees.at(commit) as tree:
            assert set(lying(tree.path)) == {"a"}

    run(scenario())


def test_a_link_that_leads_out_is_refused(user: Repository, state: Path) -> None:
    commit = user.commit({".gitignore": "out\n"})
    (user.root / "out").symlink_to("/etc/passwd")

    async def scenario() -> None:
        async with trees_of(user.root, state, copy=["out"]) as trees, trees.at(commit):
            pass

    with pytest.raises(UsageError, match="leads out"):
        run(scenario())
    assert not home("r-gates").exists()


def test_a_manifest_sees_what_time_and_size_do_not_show(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("abc")
    times = (1_000_000_000, 1_000_000_000)
    os.utime(tmp_path / "f", ns=times)
    before = manifest.take(tmp_path)
    (tmp_path / "f").write_text("xyz")
    os.utime(tmp_path / "f", ns=times)
    assert manifest.compare(before, manifest.take(tmp_path)) == manifest.Difference((), ("f",))
