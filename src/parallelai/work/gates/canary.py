"""Whether a gate looks at the tree that would land: once for each gate and repository it must notice an error.

A gate that imports an installed package, or runs in a linked folder, passes whatever lands. So the gate is run on
the base with a syntax error in a source file. A gate that is about other files is given up to three chances.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from typing import Literal

from parallelai.events import GateEnded, GateStarted
from parallelai.records import ErrorRecord
from parallelai.work.gates.commands import Result, shown
from parallelai.work.gates.deciding import listed, state, suspects, vanished
from parallelai.work.gates.memory import Memory, key_of
from parallelai.work.gates.running import Argv, Runs
from parallelai.work.gates.sources import broken, choose, language
from parallelai.work.gates.trees import Trees

MAX_FILES = 5000
MAX_FILE_BYTES = 256 * 1024
_FOR_EVER = math.inf
_ADVICE = "let the gate test the files of the folder that it runs in; `canary: off` leaves this out"

Looked = tuple[str | None, ErrorRecord | None]
"""A note, an error, or neither."""


class Canary:
    """Puts canaries out, and remembers what became of them."""

    def __init__(
        self, runs: Runs, trees: Trees, memory: Memory, mode: Literal["warn", "require", "off"]
    ) -> None:
        self._runs = runs
        self._trees = trees
        self._memory = memory
        self._mode = mode
        self._locks: dict[str, asyncio.Lock] = {}

    async def look(self, base: str, argv: Argv, result: Result) -> Looked:
        """Say whether a gate notices an error in the base, of which it said `result`.

        A gate that noticed one is believed from then on; of one that did not the note is repeated for a day,
        and with `require` it is tried again each time.
        """
        if self._mode == "off" or state(result) == "blind":
            return None, None
        key = "canary-" + key_of(*argv, self._trees.workspace.model_dump_json(by_alias=True))
        async with self._locks.setdefault(key, asyncio.Lock()):
            kept = await asyncio.to_thread(self._memory.get, key, seconds=_FOR_EVER)
            if kept is not None and kept.get("seen") is True:
                return None, None
            lately = await asyncio.to_thread(self._memory.get, key)
            if lately is not None and self._mode == "warn" and isinstance(lately.get("tried"), list):
                return self._unseen(argv, [str(each) for each in lately["tried"]])
            tried, seen = await self._put_out(base, argv, result)
            if tried:
                value = {"seen": seen, "tried": tried}
                await asyncio.to_thread(self._memory.put, key, value)
            return (None, None) if seen else self._unseen(argv, tried)

    def _unseen(self, argv: Argv, tried: list[str]) -> Looked:
        if not tried:
            said = f"gate `{shown(argv)}` has no source file to prove itself on"
            required = self._mode == "require"
            return None, ErrorRecord("gate_failed", said, None, "write `canary: warn`") if required else None
        said = (
            f"gate `{shown(argv)}` stays green with a syntax error in {listed(tried)}: it tests something else than "
            "what would land (an editable install, a linked folder)"
        )
        if self._mode == "require":
            return None, ErrorRecord("gate_failed", said, None, _ADVICE)
        return f"{said}; {_ADVICE}", None

    async def _put_out(self, base: str, argv: Argv, result: Result) -> tuple[list[str], bool]:
        files = await self._trees.files(base)
        tried: list[str] = []
        for path in choose(await self._contents(files), argv):
            mode, blob = files[path]
            data = (await self._trees.git.blobs([blob]))[blob]
            commit = await self._trees.with_file(base, path, mode, broken(path, data))
            name = f"canary: {shown(argv)}"  # told apart from the runs that decide
            self._runs.told(GateStarted(name, commit))
            ran = await self._runs.run(commit, argv, f"canary-{_short(path)}")
            seen = noticed(result, ran)
            why = "a canary: it has to fail" if seen else f"it did not notice a syntax error in `{path}`"
            ended = GateEnded(name, commit, seen, ran.exit, ran.seconds, ran.log, why=why)
            self._runs.told(ended)
            tried.append(path)
            if seen:
                return tried, True
        return tried, False

    async def _contents(self, files: dict[str, tuple[str, str]]) -> dict[str, bytes]:
        """What source files hold; of many, those that lie highest."""
        paths = sorted((path for path in files if language(path)), key=lambda path: (path.count("/"), path))
        wanted = {path: files[path][1] for path in paths[:MAX_FILES]}
        blobs = await self._trees.git.blobs(set(wanted.values()))
        found = {path: blobs[blob] for path, blob in wanted.items() if blob in blobs}
        return {path: data for path, data in found.items() if len(data) <= MAX_FILE_BYTES}


def noticed(base: Result, ran: Result) -> bool:
    """Whether a gate said something else than of the base: it failed, or a test failed or was not run."""
    if base.passed:
        return not ran.passed
    return ran.trouble is not None or bool(suspects(ran, base)) or bool(vanished(ran, base))


def _short(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
