"""Carries a plan of workstreams out, whose disk becomes full at one point after another; run by a test, with a
mount table of its own: `full_disk_program.py ROOT WHAT STEP SEED`.

A point is a call of git, or a name that is put in place. WHAT is `all`, or `repository`: then the state of the
project and of the machine lie on another disk. After each failure there is room again, and the same command is
called: it has to come to what it comes to undisturbed. Prints how many points there were, or what was wrong.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from repositories import Repository, lying

from parallelai.cli import main as call
from parallelai.client import carrying
from parallelai.client.workstreams import landings
from parallelai.git import plumbing, repository
from parallelai.work.streams.registry import Streams

AGENT = """\
import pathlib, sys
sys.stdin.read()
name = pathlib.Path.cwd().name
pathlib.Path("src", name + ".py").write_text("x = 1\\n" * 3000)
"""
PLAN = """\
version: 1
engines: {{sh: {{use: command, command: [{python}, {agent}], sandbox: none}}}}
defaults: {{engine: sh}}
workstreams:
  one: {{description: One., owns: src/one.py}}
  two: {{description: Two., owns: src/two.py, depends_on: [one]}}
workspace: {{copy: [.env], setup: [[sh, -c, "echo made > made.txt"]]}}
gates: {{landing: [[sh, -c, "test ! -e src/broken.py && echo x > gate.out"]], canary: "off"}}
"""
SIZE = "200m"
LOADED = (carrying, landings)
"""What a run loads, loaded once here and not by each child."""
CODES = (0, 3, 4)
"""Done in time; the journal could not be written; a workstream could not go on."""
WORDS = ("full", "No space", "Out of diskspace")


class Filling:
    """Counts points, and fills the disk at one of them."""

    def __init__(self, disk: Path, at: int) -> None:
        self.disk, self.at, self.count = disk, at, 0

    def install(self) -> None:
        plumbing.run_quick = self.wrap(plumbing.run_quick)  # type: ignore[attr-defined]
        repository.run_quick = self.wrap(repository.run_quick)  # type: ignore[attr-defined]
        os.replace, os.rename = self.wrap(os.replace), self.wrap(os.rename)  # type: ignore[assignment]

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*words: Any, **more: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                fill(self.disk)
            return real(*words, **more)

        return called


def fill(disk: Path) -> None:
    """Leave no byte."""
    with (disk / "blocker").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def lay(root: Path, what: str) -> Repository:
    """A small disk with a checkout that is not clean."""
    disk = root / "disk"
    for each in (disk / "shop" / ".parallelai" / "state", disk):
        subprocess.run(["umount", "--lazy", each], capture_output=True, check=False)
    disk.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk)
    aside = disk if what == "all" else root / f"aside-{len(list(root.iterdir()))}"
    (aside / "state").mkdir(parents=True)
    (disk / "agent.py").write_text(AGENT)
    user = Repository.start(disk / "shop")
    (user.root / ".parallelai" / "state").mkdir(parents=True)
    if what != "all":
        mount("--bind", aside / "state", user.root / ".parallelai" / "state")
    user.git("config", "user.name", "Ana")
    user.git("config", "user.email", "ana@example.invalid")
    plan = PLAN.format(python=sys.executable, agent=disk / "agent.py")
    user.commit(
        {"plan.yaml": plan, ".gitignore": ".env\nmade.txt\ngate.out\n", "src/app.py": "x = 1\n" * 4000}
    )
    user.write({"own.txt": "own\n", ".env": "K=1\n" * 500})
    os.environ["HOME"] = str(aside / "home")
    for name in ("STATE", "CACHE", "CONFIG", "DATA"):
        os.environ[f"XDG_{name}_HOME"] = str(aside / "home" / name.lower())
    (disk / "tmp").mkdir()
    os.environ["TMPDIR"] = str(disk / "tmp")
    return user


def carry_out(root: Path, at: int = 0) -> tuple[int, str, int]:
    """Call the command in a process of its own; gives its exit code, what it said, and how many points it had."""
    said, count = root / "said", root / "count"
    pid = os.fork()
    if pid == 0:
        with said.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(root / "disk" / "shop")
        filling = Filling(root / "disk", at)
        filling.install()
        code: object = 99
        try:
            call(["work", "run", "plan.yaml"])
        except SystemExit as ended:
            code = ended.code
        finally:
            count.write_text(str(filling.count))
            os._exit(code if isinstance(code, int) else 98)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, said.read_text(), int(count.read_text())


def checkout(user: Repository) -> tuple[object, ...]:
    """What the user has beside what lands."""
    files = {
        name: data for name, data in lying(user.root).items() if not name.startswith((".parallelai", "src/"))
    }
    return files, (user.root / ".git" / "config").read_text(), (user.root / ".git" / "HEAD").read_text()


def whole(user: Repository) -> None:
    """What a landing left: the files of the target's commit, none of them half."""
    assert user.git("status", "--porcelain", "--untracked-files=no") == ""


def outcome(user: Repository) -> object:
    streams = Streams(user.root / ".parallelai" / "state")
    trees = user.root.parent / "shop-worktrees"
    return (
        user.git("ls-tree", "-r", "HEAD"),
        user.git("status", "--porcelain"),
        user.git("for-each-ref", "--format=%(refname)"),
        user.git("worktree", "list").count("\n"),
        sorted(trees.iterdir()) if trees.exists() else [],
        [(each.name, each.state) for each in streams.all()],
        sorted(path.name for path in (user.root.parent / "tmp").iterdir()),
    )


def tried(root: Path, what: str, at: int, wanted: object) -> str | None:
    """Gives what was wrong; None where nothing was, empty where there is no such point."""
    user = lay(root, what)
    before = checkout(user)
    code, said, count = carry_out(root, at)
    if count < at:
        return ""
    if code not in CODES or "ParallelAI failed" in said:
        return f"it ended with {code}: {said}"
    if code and not any(word in said for word in WORDS):
        return f"it does not say why: {said}"
    (root / "disk" / "blocker").unlink()
    if checkout(user) != before:
        return "the checkout was touched"
    whole(user)
    code, said, _ = carry_out(root)
    if code != 0:
        return f"it cannot be done again: {code}: {said}"
    now = outcome(user)
    return None if now == wanted else f"{now} is not {wanted}"


def main(root: Path, what: str, step: int, seed: int) -> str:
    chance = random.Random(seed)
    user = lay(root, what)
    code, said, count = carry_out(root)
    assert code == 0, said
    wanted = outcome(user)
    at, points = chance.randrange(1, step + 1), 0
    while at <= count:
        wrong = tried(root, what, at, wanted)
        if wrong:
            return f"{what}, full at {at}: {wrong}"
        points += wrong is None
        at += chance.randrange(step // 2, step + step // 2)
    return f"{points} of {count}"


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
