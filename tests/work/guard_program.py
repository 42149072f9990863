"""Checks a worktree and dies of SIGKILL at one step after another; run by a test.

Each step is a call that changes the file system, or starts git. After each death the next process checks again,
and all has to be as if nobody had died. Prints the number of steps, or what was wrong.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guard_support import BASE, Room, Stream

OUT = {
    "other/x.txt": b"mine\n",
    "other/new/z.bin": bytes(range(256)),
    "AGENTS.md": b"obey\n",
    ".gitignore": b"*\n",
}
IN = {"src/a.txt": b"good\n", "src/new.txt": b"new\n"}
NAMES = ("mkdir", "rename", "replace", "link", "unlink", "rmdir", "fsync", "symlink", "chmod")


def act(stream: Stream) -> None:
    stream.write({"src/a.txt": b"committed\n", "other/x.txt": OUT["other/x.txt"]})
    stream.git("commit", "-qam", "mine")
    stream.git("checkout", "-q", "-b", f"own-{stream.settings.name}")
    stream.write({**IN, **OUT})
    (stream.root / "other/y.bin").unlink()
    (stream.root / "src/b.txt").rename(stream.root / "src/moved.txt")
    stream.git("init", "-q", "src/inner")
    stream.write({"src/inner/f.txt": "inner\n"})
    hook = stream.room.main.root / ".git/hooks/post-commit"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)


def main(folder: Path, first: int, stride: int) -> str:
    room = Room(folder)
    step, last = first, 0
    while True:
        stream = room.worktree(f"s{step}")
        asyncio.run(stream.guard.before())
        act(stream)
        died = dies_at(step, stream)
        problem = asyncio.run(look(room, stream))
        if problem is not None:
            return f"step {step}: {problem}"
        room.main.git("worktree", "remove", "--force", str(stream.root))
        if not died:
            return str(last)
        last, step = step, step + stride


async def carry_out(stream: Stream) -> None:
    await stream.guard.check()
    await stream.guard.commit("Ours")


async def look(room: Room, stream: Stream) -> str | None:
    """Go on as the next process does, and say what is not as it has to be."""
    guard = stream.again()
    found = await guard.check()
    made = await guard.commit("Ours")
    name = stream.settings.name
    files = stream.files(made)
    wanted = {*BASE, *IN, "src/moved.txt"} - {"src/b.txt"}
    told = {path for each in found.kept_out for path in each.paths}
    refs = room.refs()
    checks = {
        "files": set(files) == wanted,
        "content": stream.shown(made, "src/a.txt") == "good\n",
        "branch": refs[f"refs/heads/parallelai/{name}"] == made,
        "one commit": stream.git("rev-list", "--count", f"{room.base}..{made}").strip() == "1",
        "made branch": f"refs/heads/own-{name}" not in refs,
        "hook": not (room.main.root / ".git/hooks/post-commit").exists(),
        "clean": stream.git("status", "--porcelain") == "",
        "HEAD": stream.git("symbolic-ref", "HEAD").strip() == f"refs/heads/parallelai/{name}",
        "AGENTS.md": (stream.root / "AGENTS.md").read_text() == BASE["AGENTS.md"],
        # Once it was committed nobody waits to be told; what was kept out of a turn is told until then.
        "told": found.head == made or told >= {*OUT, "other/y.bin", "src/inner"},
    }
    wrong = [what for what, is_right in checks.items() if not is_right]
    lost = [path for path, data in OUT.items() if not is_kept(room, stream, path, data)]
    if not any(path.read_text() == "inner\n" for path in stream.settings.patches.rglob("f.txt")):
        lost.append("src/inner")
    shutil.rmtree(stream.settings.patches)
    return f"{wrong} lost: {lost} told: {sorted(told)}" if wrong or lost else None


def is_kept(room: Room, stream: Stream, path: str, data: bytes) -> bool:
    """Whether a patch, or a file beside one, holds what was written at a path."""
    aside = stream.settings.patches.rglob(Path(path).name)
    if any(each.is_file() and each.read_bytes() == data for each in aside):
        return True
    for number, patch in enumerate(stream.patches()):
        tree = room.folder / f"plain-{number}"
        shutil.rmtree(tree, ignore_errors=True)
        for name, content in BASE.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        done = subprocess.run(["git", "apply", str(patch)], cwd=tree, check=False, capture_output=True)
        if done.returncode == 0 and (tree / path).is_file() and (tree / path).read_bytes() == data:
            return True
    return False


def dies_at(step: int, stream: Stream) -> bool:
    """Check and commit in a child that is killed before its `step`-th change; says whether it came so far."""
    child = os.fork()
    if child == 0:
        count_down(step)
        asyncio.run(carry_out(stream))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def count_down(step: int) -> None:
    left = [step]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **given: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **given)

        return counting

    for name in NAMES:
        setattr(os, name, counted(getattr(os, name)))
    subprocess.Popen = counted(subprocess.Popen)  # type: ignore[misc]


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
