"""What gates said, kept on disk: a base is not gated again by the next process, a canary not put out twice.

A file for each, written whole or not at all. What cannot be read counts as not there. What a machine has
installed changes: nothing is believed for longer than a day.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from parallelai.work.gates.commands import Result
from parallelai.work.gates.reports import Case, Report

KEPT_SECONDS = 86_400.0
MAX_BYTES = 256 * 1024 * 1024
_VERSION = 1


def key_of(*parts: str) -> str:
    """A name for what depends on these words."""
    return hashlib.sha256(json.dumps([_VERSION, *parts]).encode()).hexdigest()[:40]


class Memory:
    """JSON objects by key in a folder; None keeps nothing."""

    def __init__(self, folder: Path | None, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now

    def get(self, key: str, *, seconds: float = KEPT_SECONDS) -> Mapping[str, Any] | None:
        """What was kept under a key, if that is not older than `seconds`."""
        if self._folder is None:
            return None
        path = self._folder / f"{key}.json"
        try:
            if path.stat().st_size > MAX_BYTES:
                return None
            found = json.loads(path.read_bytes())
            age = self._now() - float(found["at"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return found if 0 <= age <= seconds else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep something. A disk that is full or cannot be written is no reason to fail."""
        if self._folder is None:
            return
        new = self._folder / f".{key}-{secrets.token_hex(4)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            new.write_text(json.dumps({**value, "at": self._now()}), encoding="utf-8")
            new.replace(self._folder / f"{key}.json")
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)

    def prune(self) -> None:
        """Remove results too old to be believed, and what a killed process did not finish writing."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):
                with contextlib.suppress(OSError):
                    is_old = self._now() - path.stat().st_mtime > KEPT_SECONDS
                    if is_old and not path.name.startswith("canary-"):
                        path.unlink()


def as_json(result: Result) -> dict[str, Any]:
    report = result.report
    cases = [list(astuple(each)) for each in report.cases.values()] if report else None
    return {
        "command": result.command,
        "exit": result.exit,
        "seconds": result.seconds,
        "log": result.log,
        "cases": cases,
        "said": result.said,
        "asked": result.asked,
        "is_pytest": result.is_pytest,
        "flaky": list(result.flaky),
    }


def from_json(found: Mapping[str, Any]) -> Result | None:
    """A result that was kept; None where the file holds something else."""
    try:
        cases = found["cases"]
        report = Report({case[0]: Case(*case) for case in cases}) if cases is not None else None
        return Result(
            str(found["command"]),
            found["exit"],
            float(found["seconds"]),
            str(found["log"]),
            report,
            None,
            str(found["said"]),
            asked=bool(found["asked"]),
            is_pytest=bool(found["is_pytest"]),
            flaky=tuple(found["flaky"]),
        )
    except (KeyError, TypeError, ValueError, IndexError):
        return None
