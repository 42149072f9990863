"""Writes to a checkout and dies of SIGKILL at every step, one after another; run by a test.

Each step is a call that changes the file system. After each death the record is recovered, and the checkout
has to be as it was, or wholly as it was to be. Prints the number of steps, or what was wrong.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parallelai.work.checkout.writing import Checkout, Content, Write, read

FILES = {"a.txt": b"a before\n", "sub/b.txt": b"b before\n", "gone.txt": b"to go\n"}
WRITES = {
    "a.txt": Content(b"a after\n", 0o644),
    "sub/b.txt": Content(b"b after\n", 0o755),
    "gone.txt": None,
    "new/deep/c.txt": Content(b"c\n", 0o644),
    "link": Content(b"a.txt", 0o777, True),
}


def main(root: Path, folder: Path) -> str:
    step = 0
    while True:
        step += 1
        lay(root)
        before = state(root)
        if not dies_at(step, lambda: Checkout(root, folder).write("t", plan(root))):
            after = state(root)
            break
        Checkout(root, folder).recover("t")
        if state(root) not in (before, wanted(before)):
            return f"step {step}: {sorted(state(root))}"
        if state(root) != before:
            Checkout(root, folder).undo("t")
            if state(root) != before:
                return f"step {step}: not undone: {sorted(state(root))}"
    undone = 0
    while True:
        undone += 1
        if not dies_at(undone, lambda: Checkout(root, folder).undo("t")):
            break
        Checkout(root, folder).recover("t")
        if state(root) not in (before, after):
            return f"undo, step {undone}: {sorted(state(root))}"
        if state(root) == before:
            lay(root)
            Checkout(root, folder).write("t", plan(root))
    return f"{step} {undone}"


def lay(root: Path) -> None:
    for path, data in FILES.items():
        (root / path).parent.mkdir(exist_ok=True, parents=True)
        (root / path).write_bytes(data)
        (root / path).chmod(0o640)


def plan(root: Path) -> list[Write]:
    return [Write(path, read(root, path), after) for path, after in WRITES.items()]


def wanted(before: dict[str, Any]) -> dict[str, Any]:
    after = {path: content for path, content in WRITES.items() if content is not None}
    return {path: (c.data, c.mode, c.is_link) for path, c in after.items()}


def state(root: Path) -> dict[str, Any]:
    found = {}
    for path in root.rglob("*"):
        if path.is_symlink() or path.is_file():
            content = read(root, str(path.relative_to(root)))
            assert content is not None
            found[str(path.relative_to(root))] = (content.data, content.mode, content.is_link)
    return found


def dies_at(step: int, act: Callable[[], Any]) -> bool:
    """Do something in a child that is killed before its `step`-th change; says whether it came so far."""
    child = os.fork()
    if child == 0:
        count_down(step)
        act()
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

    for name in ("mkdir", "rename", "link", "unlink", "rmdir", "fsync", "symlink", "chmod"):
        setattr(os, name, counted(getattr(os, name)))


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
