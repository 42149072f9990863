"""The engine that is always there: static analysers, no model, no key.

Ruff looks at Python, with the project's own settings and the security rules; beside it run the tools that
the user configured and that print SARIF. Every file of a request is accounted for: covered, skipped (why),
failed.
"""

# ruff: noqa: PTH100, PTH110, PTH114, PTH116, PTH120
# Paths are texts here: there are thousands, and a `Path` costs ten times as much.

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct, field

from parallelai.engines.analyzers.ruff import GONE, NOT_PYTHON, Bounds, Checked, Ruff, find_ruff, find_version
from parallelai.engines.analyzers.sarif_tools import run_tools
from parallelai.engines.context import EngineContext, refuse_unused
from parallelai.engines.protocol import Availability, Capabilities, Estimate, FinalEvent, Port, Request
from parallelai.errors import Rejected, Unavailable, first_error
from parallelai.records import FREE, Coverage, FileNote, FilePart, Finding, LimitKey, Reply

if TYPE_CHECKING:
    from parallelai.plan.model import EngineEntry

BATCH = 400
"""Files of one request: little enough that a progress bar moves, enough that starting Ruff costs little."""
MEMORY_BYTES = 150 * 1024 * 1024

_HOW = "install Ruff beside ParallelAI: `python -m pip install ruff` with the same Python"
_OUTSIDE = "outside the project"
_LINK_OUT = "link out of the project"
_NOT_UTF8 = "its name is not UTF-8"
_ROOT_NOT_UTF8 = "the name of the project's folder is not UTF-8"


class _Files(Struct):
    """A request's files: the names of those to look at, by absolute path, and notes on the others."""

    names: dict[str, str] = field(default_factory=dict)
    skipped: list[FileNote] = field(default_factory=list)
    failed: list[FileNote] = field(default_factory=list)


class AnalyzersEngine:
    """Answers with findings, from Ruff and from the configured analysers. Free, and quick."""

    def __init__(self, name: str, entry: EngineEntry, context: EngineContext) -> None:
        """Raises `ConfigError` for keys of the entry that would have no effect."""
        refuse_unused(name, entry)
        self.name = name
        # Not repeatable: the findings depend on settings files, too, which no request names; and to ask Ruff
        # again costs no more than a look into the cache.
        self.capabilities = Capabilities(answers=frozenset({"findings"}), batch=BATCH, is_repeatable=False)
        self._context = context
        self._ruffs: dict[str, Ruff] = {}

    async def detect(self) -> Availability:
        """Look for Ruff beside the interpreter; it is not started."""
        path = find_ruff()
        if path is None:
            return Availability(False, "Ruff is not installed beside ParallelAI", how=_HOW)
        version = find_version()
        return Availability(
            True, f"Ruff {version or 'of unknown version'}{self._said_of_tools()}", version, path
        )

    def _said_of_tools(self) -> str:
        tools = ", ".join(sorted(self._context.analyzers))
        if not tools:
            return ""
        return f", with {tools}" if self._context.trusted else f" (not trusted, so not run: {tools})"

    def limit_key(self, request: Request) -> LimitKey:
        """All requests count for one limit."""
        return LimitKey(self.name)

    def estimate(self, request: Request) -> Estimate:
        """No tokens, no money."""
        return Estimate(tokens=0, usd=0.0, memory_bytes=MEMORY_BYTES)

    async def perform(self, request: Request, port: Port) -> Reply:
        """Look at the request's files.

        Raises `Rejected` for an output other than findings, `Unavailable` without Ruff, `TimedOut`, and
        `Internal` if Ruff does not work.
        """
        if request.output != "findings":
            raise Rejected(
                f"engine `{self.name}` gives findings only, not {request.output}",
                next="give the task another `engine`, or `output: findings`",
            )
        program = find_ruff()
        if program is None:
            raise Unavailable("Ruff is not installed beside ParallelAI", next=_HOW)
        ruff = self._ruff_on(request.root, program)
        files = _accept(ruff.root, request.files)
        checks = await self._check(ruff, files, request)
        reply = _to_reply(request, files, *checks, notes=self._notes())
        await port.emit(FinalEvent(ok=True))
        return reply

    def _ruff_on(self, root: str, program: str) -> Ruff:
        root = os.path.abspath(root)
        return self._ruffs.setdefault(root, Ruff(program, root))

    async def _check(self, ruff: Ruff, files: _Files, request: Request) -> tuple[Checked, Checked]:
        deadline = asyncio.get_running_loop().time() + request.timeout_seconds
        bounds = Bounds(deadline, request.grace_seconds, request.run)
        tools = self._context.analyzers if self._context.trusted else {}
        try:
            async with asyncio.TaskGroup() as group:
                by_ruff = group.create_task(ruff.check(files.names, bounds))
                by_tools = group.create_task(run_tools(tools, list(files.names.values()), request, bounds))
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        return by_ruff.result(), by_tools.result()

    def _notes(self) -> list[str]:
        if self._context.trusted or not self._context.analyzers:
            return []
        tools = ", ".join(f"`{name}`" for name in sorted(self._context.analyzers))
        return [
            f"{tools}: not run, because such tools run a project's own code (`parallelai trust` allows it)"
        ]

    def attach(self, session: str) -> list[str] | None:
        """There are no sessions."""
        return None

    async def aclose(self) -> None:
        """Forget the projects' settings; no process is left."""
        self._ruffs.clear()


def _accept(root: str, parts: Iterable[FilePart]) -> _Files:
    """Part what may be read from what may not: paths that lead out, what is no plain file."""
    files = _Files()
    inside = {root: True}
    top = f"{root.rstrip('/')}/"
    real_root = os.path.realpath(root)
    names = dict.fromkeys(part.path for part in parts)
    has_usable_root = _is_text(root)
    for name in names:
        if not has_usable_root:
            # What Ruff finds would name other paths, and would be lost without a word.
            shown = name.encode("utf-8", "backslashreplace").decode()
            files.failed.append(FileNote(shown, _ROOT_NOT_UTF8))
            continue
        if not _is_text(name):
            shown = name.encode("utf-8", "backslashreplace").decode()
            files.skipped.append(FileNote(shown, _NOT_UTF8))
            continue
        path = top + name
        if "/." in path or "//" in path or path.endswith("/"):  # seldom, and it takes its time
            path = os.path.normpath(path)
        if name.startswith("/") or "\0" in name or not path.startswith(top):
            files.failed.append(FileNote(name, _OUTSIDE))
            continue
        why = _why_unreadable(path, real_root, inside)
        if why == GONE:
            files.failed.append(FileNote(name, why))
        elif why is not None:
            files.skipped.append(FileNote(name, why))
        else:
            files.names.setdefault(path, name)
    return files


def _is_text(name: str) -> bool:
    """File names are bytes; those that are not UTF-8 cannot be told in JSON."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder.rstrip('/')}/")


def _why_unreadable(path: str, real_root: str, inside: dict[str, bool]) -> str | None:
    """Say why a file is not looked at. Each folder is looked at once, for speed."""
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return GONE
    is_inside = _is_inside(path.rpartition("/")[0] or "/", real_root, inside)
    if stat.S_ISLNK(mode):
        real = os.path.realpath(path)
        if not _is_below(real, real_root):
            return _LINK_OUT
        if not os.path.exists(real):
            return GONE
        mode = os.stat(real).st_mode
    if not is_inside:
        return _LINK_OUT
    return None if stat.S_ISREG(mode) else "not a file"


def _is_inside(folder: str, real_root: str, known: dict[str, bool]) -> bool:
    """Say whether a folder really lies in the root; one that is no link does where the one above it does."""
    passed: list[str] = []
    while folder not in known:  # no recursion: a stranger's folders may lie in each other a thousand deep
        passed.append(folder)
        folder = os.path.dirname(folder)
    is_inside = known[folder]
    for each in reversed(passed):
        if not is_inside or os.path.islink(each):
            real = os.path.realpath(each)
            is_inside = real == real_root or _is_below(real, real_root)
        known[each] = is_inside
    return is_inside


def _to_reply(request: Request, files: _Files, ruff: Checked, tools: Checked, *, notes: list[str]) -> Reply:
    wanted = _spans(request.files)
    found = [
        finding for finding in (*ruff.findings, *tools.findings) if _is_wanted(finding, wanted[finding.file])
    ]
    found.sort(key=lambda finding: (finding.file, finding.line, finding.column or (0, 0), finding.rule or ""))
    return Reply(
        findings=tuple(found),
        usage=FREE,
        coverage=_coverage(files, ruff, tools),
        notes=(*notes, *ruff.notes, *tools.notes),
    )


def _spans(parts: Iterable[FilePart]) -> dict[str, list[tuple[int, float]] | None]:
    """For each file the lines that were asked about; None is all of it."""
    spans: dict[str, list[tuple[int, float]] | None] = {}
    for part in parts:
        known = spans.setdefault(part.path, [])
        if part.first is None and part.last is None:
            spans[part.path] = None
        elif known is not None:
            known.append((part.first or 1, part.last if part.last is not None else float("inf")))
    return spans


def _is_wanted(finding: Finding, spans: list[tuple[int, float]] | None) -> bool:
    return spans is None or any(low <= finding.line[0] <= high for low, high in spans)


def _coverage(files: _Files, ruff: Checked, tools: Checked) -> Coverage:
    """Put each file into one of the three: failed if any analyser failed on it, covered if any looked."""
    covered: list[str] = []
    skipped, failed = list(files.skipped), list(files.failed)
    for path, name in files.names.items():
        why_failed = ruff.failed.get(path) or tools.failed.get(name)
        if why_failed:
            failed.append(FileNote(name, why_failed))
        elif path in ruff.covered or name in tools.covered:
            covered.append(name)
        else:
            skipped.append(FileNote(name, ruff.skipped.get(path, NOT_PYTHON)))
    return Coverage(tuple(covered), tuple(skipped), tuple(failed))
