"""Starts, syncs, removes and drops a workstream, and dies of SIGKILL at one point after another; run by a test.

A point is a call of git, or a name that is put in place. It dies before it, after it, or with git in the middle
of it. After each death the same call is made again: it has to come to what it comes to undisturbed, with the
user's checkout as it was and all work where it belongs. Prints how many points there were, or what was wrong.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from repositories import Repository, lying
from streams_support import Project

from parallelai.errors import EngineError, ParallelAIError
from parallelai.git import plumbing, repository
from parallelai.git.repository import open_repository
from parallelai.work.streams.clean import Removed, drop, remove
from parallelai.work.streams.now import measure
from parallelai.work.streams.registry import Streams
from parallelai.work.streams.syncing import sync

MODES = ("before", "after", "during", "orphan")


class Deadly:
    """Counts points, and kills this process at one of them."""

    def __init__(self, at: int, mode: str, chance: random.Random) -> None:
        self.at, self.mode, self.chance, self.count = at, mode, chance, 0

    def install(self) -> None:
        plumbing.run_quick = self.wrap(plumbing.run_quick, is_git=True)  # type: ignore[attr-defined]
        repository.run_quick = self.wrap(repository.run_quick, is_git=True)  # type: ignore[attr-defined]
        os.replace, os.rename = self.wrap(os.replace), self.wrap(os.rename)  # type: ignore[assignment]

    def wrap(self, real: Callable[..., Any], *, is_git: bool = False) -> Callable[..., Any]:
        def call(*words: Any, **more: Any) -> Any:
            self.count += 1
            if self.count != self.at:
                return real(*words, **more)
            if self.mode == "during" and is_git:
                interrupt(words[0], words[1], more, self.chance.uniform(0, 0.02))
            elif self.mode == "orphan" and is_git:  # git goes on without us
                threading.Thread(target=real, args=words, kwargs=more, daemon=True).start()
                time.sleep(self.chance.uniform(0, 0.02))
            elif self.mode == "after":
                real(*words, **more)
            return os.kill(os.getpid(), signal.SIGKILL)

        return call


def interrupt(argv: tuple[str, ...], cwd: Path, more: dict[str, Any], seconds: float) -> None:
    """Kill git in the middle of its work."""
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=more["env"],
        stdin=subprocess.PIPE,
        stdout=nowhere,
        stderr=nowhere,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(more.get("stdin", b""))
        process.stdin.close()
    except BrokenPipeError:
        pass
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def in_child(work: Callable[[], None]) -> int:
    """Do something in a process of its own; gives its status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


async def shop_at(root: Path) -> Project:
    return Project(Repository(root / "shop"), await open_repository(root / "shop"), Streams(root / "state"))


async def set_up(folder: Path, argv: tuple[str, ...]) -> EngineError | None:
    (folder / "made").write_text("by setup\n")
    return None


async def do(root: Path, what: str) -> None:
    shop = await shop_at(root)
    if what in ("start", "sparse"):
        sparse = ("src/**", "docs/**") if what == "sparse" else ()
        await shop.start("gui", copy=(".env", "big"), setup=(("x",),), set_up=set_up, sparse=sparse)
        return
    stream = shop.streams.find("gui")
    if what in ("merge", "rebase"):
        target = shop.user.git("rev-parse", "main").strip()
        done = await sync(shop.repository, shop.streams, stream, target, what)  # type: ignore[arg-type]
        assert done.ok, done
    if what == "remove":
        removed = await remove(shop.repository, shop.streams, stream)
        assert isinstance(removed, Removed), removed
    if what == "drop":
        await drop(shop.repository, shop.streams, stream, root / "patches")


def lay(root: Path, what: str) -> None:
    """What there is before: a dirty checkout, and for all but `start` a workstream with work of every kind."""
    user = Repository.start(root / "shop")
    files: dict[str, str | bytes] = {f"src/f{number}.py": f"{number}\n" * 2000 for number in range(40)}
    user.commit({**files, "docs/x.md": "x\n", "src/gone.py": "g\n"})
    user.write({"src/f0.py": "the user's\n", "own.txt": "own\n", ".env": "K=1\n", "big/data": "d" * 400_000})
    if what in ("start", "sparse"):
        return
    asyncio.run(_work(root, what))


async def _work(root: Path, what: str) -> None:
    shop = await shop_at(root)
    stream = (await shop.start("gui")).stream
    there = shop.in_tree(stream)
    tip = there.commit({"src/f1.py": "committed\n"})
    shop.streams.update("gui", lambda known: replace(known, head=tip))
    if what == "remove":
        shop.user.git("stash", "-q", "-u")
        shop.user.git("merge", "-q", "--squash", "parallelai/gui")
        shop.user.commit()
        shop.user.git("stash", "pop", "-q")
        return
    there.write({"src/f2.py": "not committed\n", "src/n.py": "new\n"})
    (there.root / "src/gone.py").unlink()
    shop.user.git("stash", "-q", "-u")
    (shop.user.root / "docs/x.md").unlink()
    shop.user.commit(
        {f"src/f{number}.py": f"the target's {number}\n" * 3000 for number in range(10, 20)}
        | {"a/b.c": "c\n"}
    )
    shop.user.git("stash", "pop", "-q")


def state(root: Path, what: str) -> object:
    """What is there at the end: of the worktree, the branch, the registry and the patches."""
    return asyncio.run(_state(root, what))


async def _state(root: Path, what: str) -> object:
    shop = await shop_at(root)
    stream = shop.streams.find("gui")
    trees = root / "shop-worktrees"
    files = {key: value for key, value in lying(trees).items() if not key.endswith("/.git")}
    patches = {
        path.name: path.read_bytes().partition(b"\n\n")[2] for path in (root / "patches").glob("*.patch")
    }
    refs = shop.user.git("for-each-ref", "--format=%(refname) %(tree)")
    known = (stream.state, stream.brought, stream.is_ready, stream.patch is None)
    if not trees.joinpath("gui").exists():
        return files, patches, refs, known, None
    now = await measure(shop.repository, stream)
    status = Repository(trees / "gui").git("status", "--porcelain")
    return files, patches, refs, known, (now.changed, now.tip == stream.head, status)


def main(root: Path, what: str, step: int, seed: int) -> str:
    chance = random.Random(seed)
    lay(root / "whole", what)
    assert in_child(lambda: asyncio.run(do(root / "whole", what))) == 0
    wanted = state(root / "whole", what)
    at, deaths = chance.randrange(1, step + 1), 0
    while True:
        mode = chance.choice(MODES)
        said = killed_and_done_again(root / "again", what, (at, mode, chance), wanted)
        if said is not None:
            return f"{deaths} of {at}" if not said else f"{what}, killed at {at} {mode}: {said}"
        deaths += 1
        at += chance.randrange(1, 2 * step)


def killed_and_done_again(
    here: Path, what: str, death: tuple[int, str, random.Random], wanted: object
) -> str | None:
    """Gives what was wrong; None where nothing was, empty where there is no such point."""
    if here.exists():
        shutil.rmtree(here)
    lay(here, what)
    shop = asyncio.run(shop_at(here))
    before = shop.checkout()
    status = in_child(lambda: die(here, what, *death))
    if not os.WIFSIGNALED(status):
        return "" if status == 0 else "it failed"
    if in_child(lambda: asyncio.run(do(here, what))) != 0:
        return "it cannot be done again"
    after = shop.checkout()
    moved = {key for key in {*before, *after} if before.get(key, _NONE)[2] != after.get(key, _NONE)[2]}
    if moved - ({".git/config"} if what == "sparse" else set()):
        return f"the checkout was touched: {sorted(moved)[:5]}"
    now = state(here, what)
    return None if now == wanted else differing(now, wanted)


_NONE = (0, 0, None)


def die(root: Path, what: str, at: int, mode: str, chance: random.Random) -> None:
    Deadly(at, mode, chance).install()
    asyncio.run(do(root, what))


def differing(now: Any, wanted: Any) -> str:
    lines = []
    for one, other in zip(now, wanted, strict=True):
        if one != other and isinstance(one, dict):
            lines.append(str(sorted(key for key in {*one, *other} if one.get(key) != other.get(key))[:9]))
        elif one != other:
            lines.append(f"{one!r} is not {other!r}")
    return "; ".join(lines)


if __name__ == "__main__":
    try:
        print(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    except (ParallelAIError, AssertionError) as error:
        print(f"failed: {error!r}")
