"""Gates' results by tree: each command runs once on a tree, and what it said is remembered."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from parallelai.errors import ParallelAIError
from parallelai.events import EventData, GateStarted
from parallelai.git.repository import Repository
from parallelai.work.gates.again import MOST, alone
from parallelai.work.gates.commands import Result, asks_for_report, run_gate, shown
from parallelai.work.gates.memory import Memory, as_json, from_json, key_of
from parallelai.work.gates.programs import missing_program
from parallelai.work.gates.trees import SetupFailed, Tree, Trees
from parallelai.work.landing.records import Tell

Argv = tuple[str, ...]


class Setting(Struct, frozen=True):
    """What a gate's run needs: `logs` is the run's folder for gates' logs, `seconds` the time-out."""

    repository: Repository
    trees: Trees
    tell: Tell
    logs: Path
    seconds: float
    memory: Memory


class Outcome(Struct, frozen=True):
    """A result, and whether it took a run now; what was known was told before."""

    result: Result
    is_new: bool


class Runs:
    """Runs gates' commands on trees, each once."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._known: dict[str, Result] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def key(self, tree: str, argv: Argv) -> str:
        """What a gate says depends on the tree, the command, and how the folder is prepared."""
        workspace = self._setting.trees.workspace.model_dump_json(by_alias=True)
        return key_of("results", tree, *argv, workspace)

    async def known(self, commit: str, argv: Argv) -> Result | None:
        """What a gate said of a commit's tree, if it ran there."""
        key = self.key(await self._setting.repository.tree(commit), argv)
        return self._known.get(key) or self._kept(key)

    def _kept(self, key: str) -> Result | None:
        found = self._setting.memory.get(key)
        return from_json(found) if found is not None else None

    async def result(
        self, commit: str, argv: Argv, names: tuple[str, ...] = (), *, is_base: bool = False
    ) -> Outcome:
        """What a gate says of a commit's tree.

        What an earlier process found is taken for a base, and where it is green. A failure that blocked then is
        looked at again: whoever calls again may have installed what was missing.
        Raises `EngineError` where no folder can be made or nothing can be confined.
        """
        key = self.key(await self._setting.repository.tree(commit), argv)
        async with self._locks[key]:
            if key in self._known:
                return Outcome(self._known[key], False)
            kept = await asyncio.to_thread(self._kept, key)
            if kept is not None and (is_base or kept.passed):
                log = await asyncio.to_thread(self.take_log, kept.log, commit, argv)
                if log is not None:
                    self._known[key] = replace(kept, log=log)
                    return Outcome(self._known[key], False)
            self.told(GateStarted(shown(argv), commit, names), names)
            result = await self.run(commit, argv)
            if is_base and result.failing:
                result = await self.flaky_among(commit, argv, result, result.failing)
            await self._keep(key, result)
            return Outcome(result, True)

    async def again(self, commit: str, argv: Argv, result: Result, tests: tuple[str, ...]) -> Result:
        """Run failing tests again, and remember which were flaky."""
        key = self.key(await self._setting.repository.tree(commit), argv)
        async with self._locks[key]:
            known = self._known.get(key, result)
            left = tuple(test for test in tests if test in known.failing)
            if left and known.trouble is None:
                known = await self.flaky_among(commit, argv, known, left, may_run_all=True)
                await self._keep(key, known)
            return known

    async def _keep(self, key: str, result: Result) -> None:
        self._known[key] = result
        if result.trouble is None and (result.passed or result.failing):
            await asyncio.to_thread(self._setting.memory.put, key, as_json(result))

    async def run(self, commit: str, argv: Argv, part: str = "") -> Result:
        """Run a gate's command in a folder at a commit, whatever is known of it. `part` goes into the log's name."""
        log = await asyncio.to_thread(self._log, commit, argv, part)
        name = self.shown_path(log)
        try:
            async with self._setting.trees.at(commit) as tree:
                result = await run_gate(tree, argv, self._setting.seconds, log, name=name)
                if result.report is not None:  # each tree is elsewhere; a test has one name in all
                    result = replace(result, report=result.report.without(tree.path))
                if result.exit is None and result.trouble is not None:
                    return await self._without_program(tree, argv[0], result)
                program = missing_program(result)
                if program is None:
                    return result
                return await self._without_program(tree, program, _lacking(result, program))
        except SetupFailed as error:
            asked = asks_for_report(argv)
            return Result(shown(argv), None, 0.0, name, None, error.said, "", asked)

    async def _without_program(self, tree: Tree, program: str, result: Result) -> Result:
        """Say where that is so that a tree does not hold the program, and what would bring it there."""
        name, repository = os.path.normpath(program), self._setting.repository
        if "/" not in program:  # one of the machine, which was found: it took too long, say
            return result
        if name.startswith("/") and not os.path.lexists(name):
            return replace(result, advice="correct the command's path")
        if name.startswith(("/", "..")) or os.path.lexists(tree.path / name):
            return result
        trouble = f"it could not be run: its program `{program}` is not in the tree that is tested"
        is_gits = (await repository.git.attempt("cat-file", "-e", f"HEAD:{name}")).exit == 0
        if is_gits or not os.path.lexists(repository.root / name):
            return replace(
                result, trouble=trouble, advice="correct the command's path, or commit the program"
            )
        top = json.dumps(name.split("/")[0], ensure_ascii=False)
        advice = (
            f"`[workspace] link = [{top}]` in `parallelai.toml`, and then `parallelai trust`, brings it there"
            f" (for workstreams: `workspace: {{link: [{top}]}}` in their plan)"
        )
        return replace(result, trouble=trouble, advice=advice)

    async def flaky_among(
        self, commit: str, argv: Argv, result: Result, tests: tuple[str, ...], *, may_run_all: bool = False
    ) -> Result:
        """Run tests alone where the runner is known, else (`may_run_all`) all of the gate once more."""
        if result.report is None or len(tests) > MOST:
            return result
        cases = [result.report.cases[test] for test in tests]
        files = await self._setting.trees.files(commit)
        folders = {parent for path in files for parent in _above(path)}

        def is_there(word: str) -> bool:
            clean = os.path.normpath(word) if word else ""
            return clean == "." or clean in files or clean in folders

        # What is run alone may be one of several with that name, and says nothing of the others.
        is_one_each = all(case.failures == 1 for case in cases)
        narrowed = alone(argv, cases, files, is_there) if is_one_each else None
        second: Result | None = None
        if narrowed is not None:
            second = await self.run(commit, narrowed, "again")
        if may_run_all and (second is None or not _tells_of(second, tests)):
            second = await self.run(commit, argv, "again")
        if second is None or second.report is None:
            return result
        passed = {case.id for case in second.report.cases.values() if case.status == "passed"}
        return replace(result, flaky=(*result.flaky, *(test for test in tests if test in passed)))

    # -- logs and events

    def take_log(self, shown: str, commit: str, argv: Argv) -> str | None:
        """Copy the log of what is believed to this run's, as it goes with the run that wrote it; gives its place.

        None where it is gone.
        """
        log = Path(os.path.normpath(self._setting.repository.root / shown))
        if not log.is_file() or log.parent == Path(os.path.normpath(self._setting.logs)):
            return shown if log.is_file() else None
        own = self._log(commit, argv, "")
        try:
            shutil.copyfile(log, own)
        except OSError:  # it went just now, or there is no room: the gate is run again, which tells
            own.unlink(missing_ok=True)
            return None
        return self.shown_path(own)

    def told(self, event: EventData, names: tuple[str, ...] = ()) -> None:
        """Write an event down, of the one workstream that it is about, or of the landing."""
        self._setting.tell(names[0] if len(names) == 1 else None, event)

    def shown_path(self, log: Path) -> str:
        """A log's place below the root."""
        return os.path.relpath(log, self._setting.repository.root)

    def log(self, commit: str, word: str) -> Path:
        return self._log(commit, (word,), "")

    def _log(self, commit: str, argv: Argv, part: str) -> Path:
        """A log of its own, which no other run of a gate has."""
        words = re.sub(r"[^A-Za-z0-9._-]+", "-", " ".join(argv)).strip("-.")[:40] or "gate"
        stem = "-".join(filter(None, (commit[:12], words, part)))
        folder = self._setting.logs
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1_000_000):
            path = folder / f"{stem}-{number}.log"
            try:
                path.touch(mode=0o600, exist_ok=False)
            except FileExistsError:
                continue
            return path
        raise ParallelAIError(f"no name is left for a log in `{folder}`")


def _lacking(result: Result, program: str) -> Result:
    """The result of a gate that calls what is not there: no tree would pass it, and nothing can be compared."""
    which = f"`{program}`, which" if program else "a program that"
    advice = f"install {f'`{program}`' if program else 'that'}, or correct the command"
    return replace(result, trouble=f"it calls {which} was not found", advice=advice)


def _above(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _tells_of(result: Result, tests: tuple[str, ...]) -> bool:
    """Whether a run reported all of some tests."""
    return result.report is not None and all(test in result.report.cases for test in tests)


__all__ = ["Argv", "Outcome", "Runs", "Setting", "Tree"]
