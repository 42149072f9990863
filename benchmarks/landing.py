"""12 tasks by real Codex, 4 at once, landed and gated, beside `xargs -P4` with `git merge`.

Both sides have the same client, the same scripted model server, whose answers take a second, and the same 12 files.
Both make a worktree for each task, run the client in it, commit, and merge. `xargs` merges one branch after the other,
and its gate runs once at its end. Ours also guards each change, and gates whatever it lands.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import sessions
from benchmarks.figures import Figure, Options, at_most, installed, left_out, table

NAME = "12 codex tasks landed over xargs -P4 and git merge"
BAR = 1.2
TASKS = 12
PARALLEL = 4
GATE = ["python3", "-m", "compileall", "-q", "."]


def run(options: Options) -> list[Figure]:
    try:
        clients = sessions._clients()
    except RuntimeError as error:
        return [left_out(NAME, str(error).splitlines()[0])]
    ratios: list[float] = []
    rows: list[tuple[str, ...]] = [("round", "xargs and git merge", "work run", "ratio")]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, sessions._server() as url:
        for number in range(min(3, options.rounds)):
            bench = _Bench(Path(name).resolve() / str(number), clients, url)
            bench.lay()
            theirs = bench.by_xargs_and_merge()
            bench.lay_again()
            ours = bench.by_work_run()
            ratios.append(ours / theirs)
            rows.append((str(number + 1), f"{theirs:.1f} s", f"{ours:.1f} s", f"{ours / theirs:.2f}×"))
    print(table(rows))
    return [at_most(NAME, sorted(ratios)[len(ratios) // 2], BAR, "×")]


class _Bench(sessions._Bench):
    def __init__(self, base: Path, clients: Path, url: str) -> None:
        super().__init__(base, clients, url, sessions.QUICK_SECONDS)
        self.sessions = [(f"task-{number}", "codex") for number in range(TASKS)]
        self.side = "xargs"

    def lay_again(self) -> None:
        """A fresh checkout, without what the other side merged."""
        self.side = "ours"
        subprocess.run(["git", "worktree", "prune"], cwd=self.checkout, check=True)
        subprocess.run(["git", "reset", "-q", "--hard", "first"], cwd=self.checkout, check=True)

    def lay(self) -> None:
        super().lay()
        subprocess.run(["git", "tag", "first"], cwd=self.checkout, check=True)
        (self.base / "home/.gitconfig").write_text("[user]\n\tname = u\n\temail = u@localhost\n")

    def by_xargs_and_merge(self) -> float:
        """Every session in a tree of its own; then all branches merged, and the gate."""
        names = []
        for name, _ in self.sessions:
            tree = self.base / "trees" / name
            # One at a time: `git worktree add` fails where another one is at it.
            add = ["flock", str(self.base / "lock"), "git", "-C", str(self.checkout), "worktree", "add"]
            add += ["-q", "-b", name, str(tree)]
            (self.base / f"{name}.prompt").write_text(self.prompt(name))
            words = shlex.join([str(self.clients / "codex"), *sessions._arguments("codex", self.url)])
            commit = "git add -A && git commit -qm done"
            script = f"cd {shlex.quote(str(tree))} && PWD=$(pwd) {words} < ../../{name}.prompt > ../../{name}.out 2>&1"
            (self.base / f"{name}.sh").write_text(f"{shlex.join(add)} && {script} && {commit}\n")
            names.append(f"{name}.sh")
        env = {**self.environment(), **sessions._variables(self.url)}
        began = time.perf_counter()
        xargs = ["xargs", "-n", "1", "-P", str(PARALLEL), "sh"]
        subprocess.run(xargs, cwd=self.base, env=env, input="\n".join(names), text=True, check=True)
        for name, _ in self.sessions:
            subprocess.run(["git", "merge", "-q", "--no-edit", name], cwd=self.checkout, env=env, check=True)
        subprocess.run(GATE, cwd=self.checkout, check=True)
        took = time.perf_counter() - began
        for name, _ in self.sessions:
            if not self.is_whole(self.checkout / f"{name}.txt"):
                raise RuntimeError(f"`{name}` is not merged")
        return took

    def by_work_run(self) -> float:
        """The same as workstreams of a plan."""
        engine = {**self.plan()["engines"]["codex"]}
        plan = {
            "engines": {"codex": engine},
            "defaults": {"engine": "codex"},
            "limits": {"parallel": PARALLEL},
            "gates": {"landing": [GATE]},
            "workstreams": {
                name: {"description": self.prompt(name), "owns": f"{name}.txt"} for name, _ in self.sessions
            },
        }
        (self.base / "plan.json").write_text(json.dumps(plan))
        argv = [installed("parallelai"), "work", "run", str(self.base / "plan.json"), "--json"]
        began = time.perf_counter()
        done = subprocess.run(
            argv, cwd=self.checkout, env=self.environment(), capture_output=True, check=False
        )
        took = time.perf_counter() - began
        document = json.loads(done.stdout)
        landed = [task for task in document["tasks"] if task["status"] == "ok"]
        if len(landed) != TASKS:
            wrong = [task["error"] for task in document["tasks"] if task["status"] != "ok"]
            raise RuntimeError(f"{len(landed)} landed: {wrong[:2]}")
        return took
