"""A graph run in a process of its own that is killed, resumed, and held against one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from parallelai.client import AsyncParallelAI
from parallelai.events import AttemptEnded, TaskEnded
from parallelai.records import Outcome, RunDocument
from running import came_to, environment, project

MARK = "PARALLELAI_MARK="
_PATIENCE_SECONDS = 30.0


def graph_plan(seed: int, count: int, commands: int) -> dict[str, Any]:
    """A plan of `count` tasks in a random graph; `commands` of them are programs that leave a line in `ran`.

    The others are done by a mock that takes a few milliseconds, and gives findings for every seventh.
    """
    chance = random.Random(seed)
    ids = [f"t{number:03}" for number in range(count)]
    by_command = set(chance.sample(ids, commands))
    tasks: list[dict[str, Any]] = []
    for number, name in enumerate(ids):
        before = ids[max(0, number - 40) : number]
        task: dict[str, Any] = {"id": name, "description": name}
        depends_on = sorted(chance.sample(before, min(len(before), chance.choice((0, 1, 1, 2, 3)))))
        if depends_on:
            task["depends_on"] = depends_on
        task["engine"] = "sh" if name in by_command else "mock"
        if number % 7 == 0 and name not in by_command:
            task |= {"output": "findings", "files": "a.py"}
        if number % 11 == 0:
            task["checks"] = [["test", "-e", "a.py"]]
        tasks.append(task)
    program = 'read -r name; echo "$name" >> ran; echo "did $name"'
    return {
        "engines": {
            "sh": {"use": "command", "command": ["sh", "-c", program]},
            "mock": {"use": "mock", "args": ["script.yaml"]},
        },
        "limits": {"parallel": 16, "grace": 0.2},
        "tasks": tasks,
    }


def graph_project(folder: Path, plan: dict[str, Any]) -> Path:
    """Lay the plan out with what it needs; runs are slow enough to be hit, and fast enough to wait for."""
    finding = {"file": "a.py", "line": 1, "severity": "low", "message": "see here"}
    found = [task["id"] for task in plan["tasks"] if task.get("output") == "findings"]
    script = [{"task": name, "latency": 0.003, "findings": [{**finding}]} for name in found]
    script.append({"task": "*", "latency": 0.003, "text": "mocked"})
    return project(
        folder,
        {
            "plan.yaml": yaml.safe_dump(plan, sort_keys=False),
            "script.yaml": yaml.safe_dump(script),
            "a.py": "x = 1\n",
            "ran": "",
        },
    )


@dataclass(frozen=True)
class Standing:
    """What the journal says after a process ended, however it did."""

    run: str | None
    ok: frozenset[str]
    answered: frozenset[str]
    """Tasks whose reply is on disk, whether they have ended or not."""
    attempts: Counter[str]
    events: int


def standing(root: Path) -> Standing:
    """Read the journal of the project's only run."""
    ai = AsyncParallelAI(root)
    try:
        if not ai.project.has_store or not ai.runs.list():
            return Standing(None, frozenset(), frozenset(), Counter(), 0)
        ok: set[str] = set()
        answered: set[str] = set()
        attempts: Counter[str] = Counter()
        row = ai.runs.find()
        events = list(ai.runs.events())
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        for event in events:
            match event.data:
                case TaskEnded() as ended if event.task is not None and ended.result.status is Outcome.OK:
                    ok.add(event.task)
                case AttemptEnded() as ended if event.task is not None and ended.ok:
                    answered.add(event.task)
            if event.type == "attempt.reserved" and event.task is not None:
                attempts[event.task] += 1
        return Standing(row.id, frozenset(ok), frozenset(answered), attempts, len(events))
    finally:
        ai.project.close()


def document(root: Path) -> RunDocument:
    """The document of the project's latest run."""
    ai = AsyncParallelAI(root)
    try:
        return ai.runs.show()
    finally:
        ai.project.close()


def programs(root: Path) -> Counter[str]:
    """How often each program really ran."""
    return Counter((root / "ran").read_text().split())


def marked(run: str) -> list[int]:
    """The living processes that a run started, found by their mark."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            mark = next((v.decode(errors="replace") for v in variables if v.startswith(MARK.encode())), "")
            if mark.endswith(f":{run}"):
                found.append(int(folder.name))
    return found


def await_none(run: str) -> None:
    """Wait until no process of a run is left; fail if one stays."""
    limit = time.monotonic() + _PATIENCE_SECONDS
    while left := marked(run):
        assert time.monotonic() < limit, f"processes {left} outlived the run"
        time.sleep(0.02)


CHILD = """
import asyncio, resource, sys
from parallelai import AsyncParallelAI
from parallelai.events import event_to_json

async def main():
    with open(sys.argv[1], "w") as said:
        def watch(events):
            said.write("".join(event_to_json(event) + chr(10) for event in events))
            said.flush()
        async with AsyncParallelAI() as ai:
            document = await ai.execute("plan.yaml", resume=True, cache=False, on_events=watch)
    return document.exit

if __name__ == "__main__":
    if sys.argv[2]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    sys.exit(asyncio.run(main()))
"""


class Child:
    """A process of its own that goes on with the plan's run and tells of events as they come.

    `most_bytes` is how large any file may become that it writes.
    """

    def __init__(self, root: Path, events: Path, *, most_bytes: int | None = None) -> None:
        self.events = events
        events.write_text("")
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(events), str(most_bytes or "")],
            cwd=root,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, count: int) -> None:
        """Wait until it has told of so many events, or has ended."""
        while self.process.poll() is None and self.events.read_bytes().count(b"\n") < count:
            time.sleep(0.001)

    def kill(self) -> None:
        """Kill it, as the kernel would, and take what it said."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def finish(self) -> str:
        """Wait for its end; gives what it complained of."""
        _, complaint = self.process.communicate(timeout=110)
        return str(complaint)


def hold_to_what_was_finished(root: Path, before: Standing, ran: Counter[str]) -> None:
    """Fail if anything that the journal had finished was done again afterwards."""
    after, ran_after = standing(root), programs(root)
    assert after.run == before.run
    assert before.ok <= after.ok
    again = {name for name in before.ok if after.attempts[name] != before.attempts[name]}
    assert not again, f"finished, and yet attempted again: {sorted(again)}"
    again = {name for name in before.answered if ran_after[name] != ran[name]}
    assert not again, f"answered, and yet carried out again: {sorted(again)}"


def killed_and_resumed(root: Path, points: int, chance: random.Random, total: int) -> RunDocument:
    """Kill a run at random points, resuming each time, then let it end.

    `total` is about how many events the whole takes. Each time it is checked that nothing finished is done
    again, and that no process is left.
    """
    said = root.parent / f"{root.name}.jsonl"
    for _ in range(points):
        before, ran = standing(root), programs(root)
        child = Child(root, said)
        child.wait_for(chance.randrange(0, 2 * total // (points + 1)))
        child.kill()
        now = standing(root)
        if now.run is not None:
            await_none(now.run)
            if before.run is not None:
                hold_to_what_was_finished(root, before, ran)
    before, ran = standing(root), programs(root)
    child = Child(root, said)
    complaint = child.finish()
    assert child.process.returncode == 0, complaint
    if before.run is not None:
        hold_to_what_was_finished(root, before, ran)
    return document(root)


def left_alone(root: Path) -> tuple[Any, int]:
    """Carry the plan out without a fault; gives what it came to, and how many events that took."""
    child = Child(root, root.parent / f"{root.name}.jsonl")
    complaint = child.finish()
    assert child.process.returncode == 0, complaint
    return came_to(document(root)), standing(root).events


def points_asked() -> int:
    """How many points to kill at: few by default, more by `PARALLELAI_KILL_POINTS`."""
    return int(os.environ.get("PARALLELAI_KILL_POINTS", "4"))
