"""Run the Ruff that is installed with ParallelAI over files of a project.

Ruff gets absolute paths, in calls of bounded length, and finds the project's own settings by itself. What it
cannot do in one call is tried in smaller ones: settings that it cannot load hold up only the files that they
are for, and a file on which it crashes (a hostile one can overflow its stack) only itself.
"""

# ruff: noqa: PTH100, PTH110, PTH111, PTH113, PTH116, PTH117, PTH118, PTH119, PTH120
# Paths are texts here: there are thousands, and a `Path` costs ten times as much.

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from parallelai.engines.analyzers.ruff_output import (
    Located,
    read_checked,
    read_failure,
    read_findings,
    read_unread,
)
from parallelai.engines.analyzers.ruff_settings import (
    SecurityRule,
    Settings,
    SettingsReader,
    ignored_security,
    security_rules,
)
from parallelai.engines.analyzers.side_by_side import carry_out, cut
from parallelai.errors import Internal, ProgramError, TimedOut, Unavailable, UsageError
from parallelai.plan.files import read_text
from parallelai.processes import Completed, Program, environment, run
from parallelai.records import Finding

CALL_FILES = 512
"""Files of one call: not fewer than the engine has in one request, for to start Ruff costs as much as ten."""
CALLS_AT_ONCE = 2
"""Of one request; Ruff itself uses every core."""
MAX_OUTPUT_BYTES = 32 * 1024 * 1024
LARGE_OUTPUT_BYTES = 1024 * 1024
"""From here on output is read beside the event loop."""

SUFFIXES = (".py", ".pyi", ".ipynb")
SETTINGS_FILE = "pyproject.toml"
"""Ruff looks at it where the project selects its rule RUF200."""

# `--no-fix-only` too: with `fix-only = true` in the project's settings Ruff writes files despite `--no-fix`.
_CHECK = ("check", "--no-fix", "--no-fix-only", "--no-cache", "--force-exclude")
_FORM = ("--output-format", "json-lines", "--extend-select", "S")
_SHOW = ("check", "--show-files", "--force-exclude")
_DONE = (0, 1)
"""Exit codes without and with findings."""
_REFUSED = 2

# Folders that Ruff's built-in settings exclude, beside those whose name begins with a dot.
_USUALLY_EXCLUDED = frozenset(
    ("__pypackages__", "_build", "buck-out", "build", "dist", "node_modules", "site-packages", "venv")
)

Telling = Literal["nothing", "list", "log"]
"""How to know which files of a call Ruff passes over: there is no reason for any, or it must be asked for a
list, or only the log tells, which is long and slow to read."""

EXCLUDED = "excluded by the project's Ruff settings"
NOT_PYTHON = "no analyser for this kind of file"
GONE = "it no longer exists"


def find_ruff() -> str | None:
    """Find the Ruff of this very installation: beside the interpreter, or where its package put it."""
    folders = (os.path.dirname(sys.executable), sysconfig.get_path("scripts"))
    beside = (os.path.join(folder, "ruff") for folder in folders)
    for path in itertools.chain(beside, _installed()):
        # Never a relative path: what lies in the current folder may be anybody's.
        if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _installed() -> Iterator[str]:
    """Ask the package's own record, for installations with other folders (`--user`, `--target`)."""
    try:
        files = metadata.files("ruff") or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name == "ruff":
            yield os.path.normpath(os.path.abspath(str(file.locate())))


def find_version() -> str | None:
    """Give the version of the installed package, without starting it."""
    try:
        return metadata.version("ruff")
    except metadata.PackageNotFoundError:
        return None


class Bounds(Struct, frozen=True):
    """The limits of one turn: when it must be over (the loop's time), and what processes are marked with."""

    deadline: float
    grace_seconds: float = 5.0
    run: str = ""

    @property
    def left_seconds(self) -> float:
        return self.deadline - asyncio.get_running_loop().time()


class Checked(Struct):
    """What came of files: each absolute path ends in exactly one of `covered`, `skipped` and `failed`."""

    findings: list[Finding] = field(default_factory=list)
    covered: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, said: str) -> None:
        """Keep a note, once."""
        if said not in self.notes:
            self.notes.append(said)


@dataclass(frozen=True, slots=True)
class _Call:
    """Files (absolute) that are looked at together, and the options that are right for all of them."""

    files: tuple[str, ...]
    ignored: tuple[str, ...]
    cwd: str
    telling: Telling = "nothing"
    is_isolated: bool = False


class Ruff:
    """One Ruff on one project. What it knows of the project's settings is kept between requests."""

    def __init__(self, program: str, root: str) -> None:
        self.program = program
        self.root = root
        self.reader = SettingsReader(_user_folder())
        self.rules: tuple[SecurityRule, ...] | None = None
        self.usually_excluded: dict[tuple[str, str | None], bool] = {}
        self.included: dict[str, tuple[int, frozenset[str] | None]] = {}
        self.requests = 0
        """How many are under way; they share the cores."""

    async def check(self, names: Mapping[str, str], bounds: Bounds) -> Checked:
        """Look at files: absolute paths (normal ones), with the names that findings shall have.

        Raises `Unavailable`, `TimedOut`, or `Internal` if Ruff does not work at all.
        """
        self.requests += 1
        try:
            return await _Work(self, names, bounds).check()
        finally:
            self.requests -= 1

    def threads(self) -> dict[str, str]:
        """The variable that keeps each Ruff to its share of the cores, where several share them.

        Several that take all of them only get into each other's way: it costs a tenth of the time. All together
        have two threads for each core, so that none is idle when some have little to do.
        """
        if self.requests <= 1:
            return {}
        return {"RAYON_NUM_THREADS": str(max(1, 2 * (os.cpu_count() or 1) // self.requests))}


def _user_folder() -> str:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "ruff")


class _Work:
    """One request: which calls are made, and what came of them."""

    def __init__(self, ruff: Ruff, names: Mapping[str, str], bounds: Bounds) -> None:
        self._ruff = ruff
        self._names = names
        self._bounds = bounds
        self._settings: dict[str, Settings] = {}
        self._has_safe_root = True
        self._result = Checked()

    async def check(self) -> Checked:
        self._settings, self._has_safe_root = self._read_settings()
        prototypes: dict[str | None, _Call] = {}
        groups: dict[_Call, list[str]] = {}
        for path, settings in self._settings.items():
            if why := await self._why_not(path, settings):
                self._result.skipped[path] = why
                continue
            if settings.path not in prototypes:
                prototypes[settings.path] = await self._prototype(settings)
            call = prototypes[settings.path]
            if call.telling == "nothing" and self._is_usually_excluded(path):
                call = replace(call, telling="list")
            groups.setdefault(call, []).append(path)
        calls = [
            replace(call, files=files)
            for call, paths in groups.items()
            for files in cut(paths, files=CALL_FILES)
        ]
        await carry_out(self._carry_out, calls, at_once=CALLS_AT_ONCE)
        return self._result

    def _read_settings(self) -> tuple[dict[str, Settings], bool]:
        in_root = os.path.join(self._ruff.root, "any")
        of_root = self._ruff.reader.of_files([in_root])[in_root]
        return self._ruff.reader.of_files(self._names), of_root.problem is None

    # Which files, with which options

    async def _prototype(self, settings: Settings) -> _Call:
        """The call, without files, that is right for files with these settings."""
        if settings.problem:
            self._result.note(f"Ruff's built-in settings were used: {self._shown(settings.problem)}")
        telling: Telling = "list" if settings.has_exclude else "nothing"
        # Ruff also loads the settings of the folder that it runs in.
        own = os.path.dirname(settings.path) if settings.path and not self._has_safe_root else None
        return _Call(
            (),
            await self._ignored(settings),
            own or self._ruff.root,
            telling="log" if settings.has_lint_exclude else telling,
            is_isolated=settings.problem is not None,
        )

    def _is_usually_excluded(self, path: str) -> bool:
        folder, settings = path.rpartition("/")[0] or "/", self._settings[path].path
        known = self._ruff.usually_excluded
        if (folder, settings) not in known:
            above = os.path.dirname(settings) if settings else ""
            base = min(filter(None, (above if path.startswith(above) else "", self._ruff.root)), key=len)
            names = folder[len(base) :].split("/")
            is_excluded = any(name.startswith(".") or name in _USUALLY_EXCLUDED for name in names)
            known[folder, settings] = is_excluded
        return known[folder, settings]

    async def _why_not(self, path: str, settings: Settings) -> str | None:
        """Say why a file is not for Ruff, None if it is."""
        if settings.has_include and settings.path is not None and settings.problem is None:
            included = await self._all_included(settings.path)
            if included is not None:
                return None if path in included else EXCLUDED
        is_python = path.endswith(SUFFIXES) or os.path.basename(path) == SETTINGS_FILE
        return None if is_python else NOT_PYTHON

    async def _all_included(self, settings: str) -> frozenset[str] | None:
        """List what settings with `include` select; None if Ruff cannot say, which its next call explains.

        Files that are given by name pass by `include`; only a folder is held to it.
        """
        try:
            stamp = os.stat(settings).st_mtime_ns
        except OSError:
            return None
        kept = self._ruff.included.get(settings)
        if kept is None or kept[0] != stamp:
            folder = os.path.dirname(settings)
            listed = _listed(await self._start((*_SHOW, "--", folder), folder), ())
            kept = self._ruff.included[settings] = (stamp, listed)
        return kept[1]

    async def _ignored(self, settings: Settings) -> tuple[str, ...]:
        if not settings.may_ignore_security:
            return ()
        if self._ruff.rules is None:
            completed = await self._start(("rule", "--all", "--output-format", "json"), self._ruff.root)
            try:
                self._ruff.rules = security_rules(json.loads(completed.stdout))
            except (ValueError, AttributeError, TypeError):
                raise Internal(
                    f"Ruff does not list its rules: {read_failure(_decoded(completed.stderr))}",
                    next="install another version of `ruff`",
                ) from None
        return ignored_security(settings.layers, self._ruff.rules)

    # Calls

    async def _carry_out(self, call: _Call) -> None:
        if call.telling == "list":
            call = await self._without_excluded(call)
            if not call.files:
                return
        completed = await self._start(self._arguments(call), call.cwd)
        is_done = completed.exit in _DONE
        if is_done and not (completed.is_truncated and len(call.files) > 1):
            await self._take(call, completed)
            return
        for smaller in _halves(call) if is_done else self._smaller(call, completed):
            await self._carry_out(smaller)

    async def _without_excluded(self, call: _Call) -> _Call:
        isolated = ("--isolated",) if call.is_isolated else ()
        listed = _listed(await self._start((*_SHOW, *isolated, "--", *call.files), call.cwd), call.files)
        if listed is None:
            return call  # the check itself will fail in the same way, and find out
        for path in call.files:
            if path not in listed:
                self._pass_over(path)
        return replace(call, files=tuple(path for path in call.files if path in listed), telling="nothing")

    def _pass_over(self, path: str) -> None:
        if os.path.exists(path):
            self._result.skipped[path] = EXCLUDED
        else:
            self._result.failed[path] = GONE

    def _arguments(self, call: _Call) -> tuple[str, ...]:
        ignore = ("--ignore", ",".join(call.ignored)) if call.ignored else ()
        isolated = ("--isolated",) if call.is_isolated else ()
        log = ("--verbose",) if call.telling == "log" else ()
        return (*_CHECK, *_FORM, *log, *ignore, *isolated, "--", *call.files)

    async def _start(self, arguments: tuple[str, ...], cwd: str) -> Completed:
        program = Program(
            argv=(self._ruff.program, *arguments),
            cwd=Path(cwd),
            # The user's own settings hold here as they do for Ruff itself; no `RUFF_…` variable does.
            env=environment(env=self._ruff.threads(), pass_env=("XDG_CONFIG_HOME",)),
            timeout_seconds=max(self._bounds.left_seconds, 0.001),
            grace_seconds=self._bounds.grace_seconds,
            max_output_bytes=MAX_OUTPUT_BYTES,
            run=self._bounds.run,
            label="ruff",
        )
        try:
            completed = await run(program)
        except ProgramError as error:
            raise Unavailable(error.said, next=error.next, retry_helps=error.retry_helps) from error
        if completed.ended_by is not None:
            raise TimedOut("Ruff did not end within the task's `timeout`", next="raise `timeout`")
        return completed

    def _smaller(self, call: _Call, completed: Completed) -> list[_Call]:
        """Say what to try after a call that failed as a whole."""
        if completed.exit == _REFUSED:
            return self._without_bad_settings(call, _decoded(completed.stderr))
        if len(call.files) > 1:
            return _halves(call)
        how = f"signal {completed.signal}" if completed.signal else f"exit code {completed.exit}"
        self._result.failed[call.files[0]] = f"Ruff crashed on it ({how})"
        return []

    def _without_bad_settings(self, call: _Call, log: str) -> list[_Call]:
        """Ruff refuses a whole call for one bad settings file: part the files by theirs, then go without."""
        if call.is_isolated:
            raise Internal(f"Ruff failed: {read_failure(log)}", next="install another version of `ruff`")
        by_settings: dict[str | None, list[str]] = {}
        for path in call.files:
            by_settings.setdefault(self._settings[path].path, []).append(path)
        # From its own folder: Ruff also loads those of the current one, whatever the files.
        parted = [
            replace(call, files=tuple(files), cwd=os.path.dirname(settings) if settings else call.cwd)
            for settings, files in by_settings.items()
        ]
        if parted != [call]:
            return parted
        why = self._shown(read_failure(log))
        self._result.note(f"Ruff cannot load the project's settings, its built-in ones were used: {why}")
        return [replace(call, is_isolated=True, telling="list")]

    async def _take(self, call: _Call, completed: Completed) -> None:
        reading = functools.partial(
            read_findings, completed.stdout, relative=self._names.get, read=self._read_text
        )
        is_large = len(completed.stdout) > LARGE_OUTPUT_BYTES
        located = await asyncio.to_thread(reading) if is_large else reading()
        self._account(call, located, _decoded(completed.stderr))
        if completed.is_truncated:
            path = call.files[0]
            self._result.covered.discard(path)
            self._result.failed[path] = "too many findings: only some of them are kept"

    def _account(self, call: _Call, located: list[Located], log: str) -> None:
        """Keep the findings, and say of every file what became of it."""
        unread = read_unread(log, call.cwd)
        unread |= {item.path: item.finding.message for item in located if item.is_unread}
        checked = read_checked(log, call.files, unread) if call.telling == "log" else None
        gone: set[str] = set()
        for path in call.files:
            if path in unread:
                is_gone = not os.path.exists(path)
                self._result.failed[path] = GONE if is_gone else unread[path]
                gone |= {path} if is_gone else set()
            elif checked is None or path in checked:
                self._result.covered.add(path)
            else:
                self._pass_over(path)
        self._result.findings.extend(item.finding for item in located if item.path not in gone)

    def _read_text(self, path: str) -> str | None:
        try:
            return read_text(Path(self._ruff.root), os.path.relpath(path, self._ruff.root))
        except (OSError, UsageError):
            return None

    def _shown(self, text: str) -> str:
        """Name files as the project does."""
        return text.replace(f"{self._ruff.root.rstrip('/')}/", "")


def _halves(call: _Call) -> list[_Call]:
    middle = len(call.files) // 2
    return [replace(call, files=call.files[:middle]), replace(call, files=call.files[middle:])]


def _listed(completed: Completed, files: Collection[str]) -> frozenset[str] | None:
    """Read a list of files, one a line; None if there is none. `files` helps with newlines in names."""
    if completed.exit != 0 or completed.is_truncated:
        return None
    text = _decoded(completed.stdout)
    odd = {path for path in files if "\n" in path and f"{path}\n" in text}
    return frozenset(text.split("\n")).union(odd)


def _decoded(log: bytes) -> str:
    return log.decode("utf-8", "replace")
