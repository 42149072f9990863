"""What `parallelai work …` prints."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parallelai.cli import status_file
from parallelai.cli.shared import Shared
from parallelai.errors import UsageError
from parallelai.results.printable import visible

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.workstreams.syncs import Synced
    from parallelai.client.workstreams.work import Cleaned
    from parallelai.records import ConflictDocument
    from parallelai.work.context.pack import Context
    from parallelai.work.landing.records import Shadow
    from parallelai.work.landing.waiting import Waiting
    from parallelai.work.status.folding import StreamStatus
    from parallelai.work.streams.record import Stream
    from parallelai.work.streams.registry import Streams
    from parallelai.work.streams.worktrees import Started

WATCH_SECONDS = 2.0
_MOST_NAMED = 10
INCOMPLETE = 4
DELETION = "changed by one, deleted by the other"
NOBODY = "no workstream is worked on"


def print_started(shared: Shared, started: Sequence[Started]) -> int:
    """Say where each workstream's worktree is."""
    lines, told = [], set[str]()
    for one in started:
        word = "made" if one.is_new else "is there"
        lines.append(f"{one.stream.name}: {word}: {one.stream.worktree} on {one.stream.branch}")
        lines += [f"  put right: {what}" for what in one.repaired]
        lines += [f"  {note}" for note in one.notes if note not in told]  # many are about the base of all
        told.update(one.notes)
    rows = [
        {**stream_row(one.stream), "is_new": one.is_new, "repaired": one.repaired, "notes": one.notes}
        for one in started
    ]
    shared.result({"workstreams": rows}, "\n".join(map(visible, lines)) or "nothing to start")
    if started:
        first = started[0].stream.name
        shared.say(f"work in a worktree, then say so: `parallelai work done {first}`")
    return 0


def stream_row(stream: Stream) -> dict[str, Any]:
    """What a workstream, or a branch that landed without a plan, is as JSON."""
    return {
        "name": stream.name,
        "branch": stream.branch,
        "worktree": stream.worktree or None,  # of a branch that no plan made
        "base": stream.base,
        "target": stream.target,
        "state": stream.state,
    }


# -- status


def print_status(
    shared: Shared, names: Sequence[str], *, write: str | None, is_watching: bool, is_all: bool
) -> int:
    """Print how far workstreams are, or write it as Markdown; once, or until Ctrl-C."""

    async def look(ai: AsyncParallelAI) -> int:
        while True:
            found = await ai.work.status(names, is_all=is_all or write is not None)
            waiting = () if names else await ai.work.waiting()
            if write is None:
                _show_status(shared, ai, found, waiting, has_names=bool(names), is_clearing=is_watching)
            else:
                found = found if is_all or names else _current(ai, found)
                landed = await ai.work.landed()
                await asyncio.to_thread(status_file.write, shared, ai, Path(write), found, landed, waiting)
                if shared.is_json:
                    shared.result(_status_document(found, waiting), "")
            if not is_watching:
                return 0
            await asyncio.sleep(WATCH_SECONDS)

    return shared.call(look)


def _current(ai: AsyncParallelAI, found: Sequence[StreamStatus]) -> list[StreamStatus]:
    """What a page counts: also what has landed, of the runs that have something left; of all where none has."""
    streams = ai.work.all(is_all=True)
    live = {stream.run for stream in ai.work.all()} or {stream.run for stream in streams}
    names = {stream.name for stream in streams if stream.run in live and stream.state != "dropped"}
    return [status for status in found if status.worktree is None or status.name in names]


def _show_status(
    shared: Shared,
    ai: AsyncParallelAI,
    found: Sequence[StreamStatus],
    waiting: Sequence[Waiting],
    *,
    has_names: bool,
    is_clearing: bool,
) -> None:
    from parallelai.work.status.page import table

    if is_clearing and sys.stdout.isatty() and not shared.is_json:
        sys.stdout.write("\x1b[H\x1b[J")
    streams = ai.work.streams
    rows = [_row(each, streams.get(each.name), has_names=has_names) for each in found]
    lines = table(rows, shared.width, is_ascii=shared.is_ascii) if rows else []
    more = _below(found, streams, ai.work.killed(), has_names=has_names)
    more += _helping(found, lines) if not has_names else ()
    more += dict.fromkeys(each.why for each in found if each.pending and each.why)
    told = {each.target for each in found if each.pending}  # of branches that no plan made, nobody else tells
    more += (each.told for each in waiting if each.target not in told)
    shared.result(
        _status_document(found, waiting),
        "\n".join([*(lines or [NOBODY]), *map(visible, more)]),
    )
    if not found and ai.work.all(is_all=True):
        shared.say("`--all` lists what has landed or was dropped")


def _status_document(found: Sequence[StreamStatus], waiting: Sequence[Waiting]) -> Any:
    from parallelai.work.status.folding import to_document

    return to_document(found, run=None, plan=None, at=datetime.now(UTC), waiting=waiting)


def _row(status: StreamStatus, stream: Stream | None, *, has_names: bool) -> StreamStatus:
    """What the table says of one: without what stands below it, and there with what helps."""
    is_below = _is_in_full(status) if has_names else _is_cut_off(status)
    told = {path for kept in (stream.kept_out if stream is not None else ()) for path in kept.paths}
    left = tuple(path for path in status.kept_out if path not in told)
    return dataclasses.replace(status, why="" if is_below else status.why, kept_out=left)


def _below(
    found: Sequence[StreamStatus], streams: Streams, killed: Sequence[str], *, has_names: bool
) -> list[str]:
    """What stands below the table: of those that were named all, of others what was kept out."""
    if has_names:
        more = [line for each in found for line in _in_full(each, streams.get(each.name))]
        return more if any(map(_is_cut_off, found)) else [*more, *killed]
    more = [f"{each.name}: {line}" for each in found for line in _kept_out(streams.get(each.name))]
    return [*more, *killed]


def _helping(found: Sequence[StreamStatus], lines: Sequence[str]) -> list[str]:
    """Where it stands what helps those that ended with an error, unless the table's lines have said that."""
    table = "\n".join(lines)
    names = (each.name for each in found if each.next)
    stuck = [name for name in names if f"`parallelai work status {name}`" not in table]
    name = stuck[0] if len(stuck) == 1 else "NAME"
    return [f"`parallelai work status {name}` says what helps"] * bool(stuck)


def _is_cut_off(status: StreamStatus) -> bool:
    """Whether a run that was killed left it in the middle of something."""
    from parallelai.work.status.folding import INTERRUPTED

    return status.stage == INTERRUPTED


def _is_in_full(status: StreamStatus) -> bool:
    """Whether more is to be said of why it has not landed."""
    return status.landed is None and bool(status.why) and not status.pending


def _in_full(status: StreamStatus, stream: Stream | None) -> list[str]:
    """Of one that was named: why it cannot land and what helps, where it is, and what was kept out of it."""
    where = f"in {status.worktree}" if status.worktree is not None else "has no worktree yet"
    if status.worktree is not None and not Path(status.worktree).is_dir():
        where = "has no worktree any more"
    elif stream is not None and status.worktree != stream.worktree:
        where += f", moved from {stream.worktree}"
    lines = ["", f"{status.name}: {status.branch} {where}"]
    if _is_in_full(status):
        lines += [f"  {line}" for line in (status.why or "").splitlines()]
        lines += [f"  next: {status.next}"] * bool(status.next)
    return [*lines, *(f"  {line}" for line in _kept_out(stream))]


def _kept_out(stream: Stream | None) -> list[str]:
    """What the guard kept out of a workstream, why, and the patch that holds it."""
    from parallelai.client.workstreams.arrivals import told

    return [told(kept) for kept in dict.fromkeys(stream.kept_out)] if stream is not None else []


def print_diff(shared: Shared, name: str) -> int:
    """Print what a workstream changed; on stderr what was kept out of it, and where that is."""
    found = shared.call(lambda ai: ai.work.difference(name))
    nothing = (
        f"`{name}` is merged: its target has all of it"
        if found.is_merged
        else f"`{name}` has changed nothing"
    )
    shared.result({"name": name, "patch": found.patch, "merged": found.is_merged}, found.patch or nothing)
    for line in _kept_out(shared.read(lambda ai: ai.work.find(name))):
        shared.say(visible(line))
    return 0


def print_context(shared: Shared, found: Context) -> int:
    """Print what an assistant is told, and what it takes."""
    parts = [{"name": part.name, "tokens": part.tokens} for part in found.parts]
    document = {"text": found.text, "tokens": found.tokens, "shared": found.shared, "parts": parts}
    shared.result(document, found.text)
    sizes = ", ".join(f"{part.name} {part.tokens}" for part in found.parts)
    shared.say(f"about {found.tokens} tokens ({sizes})")
    return 0


def attach(shared: Shared, name: str, *, is_printed: bool) -> int:
    """Open a workstream's session; this process becomes it."""
    found = shared.call(lambda ai: ai.work.attach(name))
    given = [f"{name}={value}" for name, value in found.environment.items()]
    words = shlex.join([*(["env", *given] if given else []), *found.command])
    command = f"cd {shlex.quote(found.folder)} && {words}"
    if found.is_at_work:
        send = f"`parallelai work send {shlex.quote(name)} TEXT`"
        shared.say(
            f"note: the assistant is at work there now, and you would be two; {send} tells it something"
        )
    if is_printed:
        document = {
            "command": list(found.command),
            "folder": found.folder,
            "environment": dict(found.environment),
        }
        shared.result(document, command)
        return 0
    if not found.is_session:
        shared.say(f"there is no session of an assistant: a shell in {found.folder}")
    elif not sys.stdin.isatty():  # each assistant would fail in a way of its own
        shown = f"`parallelai work attach {shlex.quote(name)} --print` prints the command"
        raise UsageError("an assistant's session needs a terminal", next=shown)
    os.chdir(found.folder)
    try:
        os.execvpe(found.command[0], found.command, {**os.environ, **found.environment})  # noqa: S606 -- what the user asked for, without a shell
    except OSError as error:
        raise UsageError(f"`{found.command[0]}` cannot be started: {error.strerror}", next=command) from None


# -- conflicts


def print_conflicts(shared: Shared, **given: Any) -> int:
    """Print which do not fit together; 1 with `--fail` where some do not."""
    patterns, more, is_failing = given.pop("branches"), given.pop("more"), given.pop("is_failing")
    if more and not patterns:
        raise UsageError(f"`{more[0]}` is no option", next="names of branches follow `--branches`")
    patterns = (*patterns, *more)
    plan, base, target = given["plan"], given["base"], given["target"]
    if patterns and plan is not None:
        raise UsageError("`--plan` is for workstreams", next="leave it or `--branches` out")
    if given["is_shadow"]:
        return _print_shadow(shared, patterns, given, is_failing=is_failing)
    _refuse_shadows(given)
    if base is not None and not patterns:
        raise UsageError("`--base` is for `--branches`", next="leave it out: workstreams know theirs")

    async def look(ai: AsyncParallelAI) -> int:
        looking = await ai.work.landings.watching(plan, patterns, base, target)
        before: ConflictDocument | None = None
        while True:
            found = await looking()
            if found != before:
                _show_conflicts(shared, found)
                before = found
            if not given["is_watching"]:
                return int(is_failing and any(pair.is_broken for pair in found.pairs))
            await asyncio.sleep(WATCH_SECONDS)

    return shared.call(look, is_noted=True)


def _show_conflicts(shared: Shared, found: ConflictDocument) -> None:
    from parallelai.records import to_json

    rows = to_json(found)
    for pair in rows["pairs"]:
        pair["class"] = pair.pop("class_")
    rows = {"schema": rows.pop("schema"), **rows}
    shared.result(rows, lambda: "\n".join(_matrix_lines(found)))


def _matrix_lines(found: ConflictDocument) -> list[str]:
    from parallelai.cli.grid import grid

    if not found.names:
        return [NOBODY]
    lines = grid(found)
    for pair in sorted(found.pairs, key=lambda one: (not one.conflict, -one.risk)):
        word = f"{pair.class_ or 'git'} conflict" if pair.is_broken else f"risk {pair.risk:.2f}"
        lines.append(f"{pair.a} × {pair.b}: {word}")
        for file in pair.files[:10]:
            symbols = f": {', '.join(file.symbols[:4])}" if file.symbols else ""
            places = f" lines {file.places[0].a[0]}-{file.places[0].a[1]}" if file.places else ""
            kind = DELETION if file.kind == "modify/delete" else file.kind
            lines.append(f"  {file.path} ({kind}){places}{symbols}")
        if pair.why:
            lines.append(f"  {pair.why}")
    count = sum(pair.is_broken for pair in found.pairs)
    noun = "pair does" if count == 1 else "pairs do"
    lines.append(
        f"{len(found.names)} compared with each other and with {found.target}: {count} {noun} not fit"
    )
    return [visible(line) for line in lines]


def _refuse_shadows(given: dict[str, Any]) -> None:
    """Refuse what only a landing that is tried has a use for. Raises `UsageError`."""
    for flag, is_given in (("--gate", given["gates"]), ("--allow-red-base", given["is_red_allowed"])):
        if is_given:
            raise UsageError(f"`{flag}` is for `--shadow`", next="add `--shadow`")


def _print_shadow(shared: Shared, patterns: Sequence[str], given: dict[str, Any], *, is_failing: bool) -> int:
    from parallelai.client.workstreams.asked import Asked

    for flag, is_given in (("--base", given["base"] is not None), ("--watch", given["is_watching"])):
        if is_given:
            raise UsageError(f"`{flag}` does not go with `--shadow`", next="leave one of them out")
    asked = Asked(target=given["target"], gates=tuple(given["gates"]), is_red_allowed=given["is_red_allowed"])

    async def look(ai: AsyncParallelAI) -> Shadow | None:
        landings = ai.work.landings
        if not patterns and given["plan"] is None and not ai.work.all():
            return None
        return await landings.shadow(() if patterns else landings.live(given["plan"]), patterns, asked)

    found = shared.call(look, is_noted=True)
    if found is None:
        nothing: dict[str, Any] = {"fits": [], "breaking": [], "runs": 0, "logic": []}
        shared.result({"target": given["target"], **nothing}, NOBODY)
        return 0
    lines = [f"{len(found.fits)} fit together on {found.target}: {', '.join(found.fits) or 'none'}"]
    if not (found.fits or found.breaking or found.logic):
        lines = [f"nothing to try: {found.target} has all that there is"]
    for one in found.breaking:
        word = "break together" if len(one.names) > 1 else "breaks alone"
        lines.append(f"{word}: {', '.join(one.names)} ({one.kind.replace('_', ' ')})")
        lines += [f"  {line}" for line in one.said.splitlines()]
        lines += [f"  at {one.where}"] * bool(one.where)
    lines += [f"{' × '.join(one.names)}: {one.said}" for one in found.logic]
    lines.append(f"{gate_runs(found.runs)}; nothing was moved")
    shared.result(dataclasses.asdict(found), "\n".join(map(visible, lines)))
    return int(is_failing and bool(found.breaking or found.logic))


def gate_runs(count: int) -> str:
    """A number of gate runs, in words."""
    return f"{count} gate run{'s' * (count != 1)}" if count else "no gate runs"


# -- bringing it home


def print_synced(shared: Shared, done: Sequence[Synced]) -> int:
    """Print what became of each; 4 where one was not synced."""
    rows = [{"name": one.name, "done": one.is_done, "said": one.said} for one in done]
    lines = [visible(f"{one.name}: {one.said}") for one in done]
    shared.result({"synced": rows}, "\n".join(lines) or "nothing to sync")
    return 0 if all(one.is_done for one in done) else INCOMPLETE


def print_cleaned(shared: Shared, done: Cleaned, *, is_dry: bool) -> int:
    """Print what was removed, or would be, and what is kept, with the command that would rescue it."""
    lines = [f"{name}: {'would be removed' if is_dry else 'removed'}" for name in done.removed]
    lines += [f"{one.name}: kept: {one.why}\n  {one.command}" for one in done.kept]
    kept = [{"name": one.name, "why": one.why, "command": one.command} for one in done.kept]
    text = "\n".join(visible(line) for each in lines for line in each.split("\n"))
    shared.result({"removed": list(done.removed), "kept": kept}, text or "nothing to clean")
    return 0


def let_go(shared: Shared, patterns: Sequence[str], *, is_dry: bool) -> int:
    """Let go of what was taken out of worktrees and is kept in git, after a question."""
    names = shared.call(lambda ai: ai.work.left(patterns))
    shown = ", ".join(f"`{name}`" for name in names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    if not is_dry:
        meant = shared.confirm(f"Let go of {shown}{more}? No other copy is kept.")
        names = shared.call(lambda ai: ai.work.let_go(names)) if meant else ()
    lines = [visible(f"{name}: {'would be let go' if is_dry else 'let go'}") for name in names]
    shared.result({"removed": list(names), "kept": []}, "\n".join(lines) or "nothing was let go")
    return 0


# -- the ledger, decisions, hooks


def print_ledger(shared: Shared) -> int:
    """Print who holds what on this machine."""
    held = shared.call(lambda ai: ai.work.ledger())
    rows = [
        {
            "name": one.name,
            "project": one.project,
            "run": one.run,
            "ports": list(one.ports),
            "database": one.database,
            "compose": one.compose,
            "temporary": str(one.temporary),
            "cache": str(one.cache),
            "heavy": one.heavy,
            "memory": one.memory,
            "is_alive": one.is_alive,
            "is_kept": one.is_kept,
        }
        for one in held
    ]

    def line(row: dict[str, Any]) -> str:
        ports = f"ports {', '.join(map(str, row['ports']))}" if row["ports"] else "no port"
        parts = [ports, f"compose {row['compose']}"]
        parts[1:1] = [f"database {row['database']}"] if row["database"] else []
        parts += [f"{row['heavy']} heavy slot{'s' * (row['heavy'] != 1)}"] if row["heavy"] else []
        parts += [f"memory {row['memory'] / 2**30:.1f} GiB"] if row["memory"] else []
        gone = "; kept until it has landed or is dropped" if row["is_kept"] else "; its process is gone"
        folders = f"\n  temporary {visible(row['temporary'])}, cache {visible(row['cache'])}"
        said = visible(
            f"{row['name']}: {', '.join(parts)} ({row['project']}, {row['run']}){'' if row['is_alive'] else gone}"
        )
        return said + folders if shared.is_verbose else said

    shared.result({"held": rows}, "\n".join(map(line, rows)) or "nothing is held")
    return 0


def print_decisions(shared: Shared, forget: str | None) -> int:
    """Print how conflicts were settled, or forget one."""
    if forget is not None:
        key: str = forget
        if not shared.call(lambda ai: ai.work.landings.forget(key)):
            raise UsageError(f"there is no decision `{key}`", next="`parallelai work decisions` lists them")
        shared.result({"forgotten": key}, "forgotten")
        return 0
    from parallelai.work.landing.messages import how

    found = shared.call(lambda ai: ai.work.landings.decisions())
    rows = [{"key": one.key, "path": one.path, "by": one.by, "why": one.why, "at": one.at} for one in found]
    lines = [visible(f"{one.key[:12]} {one.path}: {how(one.by)}: {one.why}") for one in found]
    shared.result({"decisions": rows}, "\n".join(lines) or "no conflict was settled yet")
    return 0


def guard_check(shared: Shared, *, is_staged: bool) -> int:
    """Make the check of the git hooks; 1 where something may not be committed or pushed."""
    pushed = None if is_staged else sys.stdin.read(1_000_000)
    named = os.environ.get("GIT_INDEX_FILE")
    index = Path(named).absolute() if named and is_staged else None
    found = shared.call(lambda ai: ai.work.guard_check(Path.cwd(), pushed=pushed, index_file=index))
    for warning in found.warnings:
        shared.say(f"parallelai: {warning}")
    document = {"refused": found.refused, "warnings": list(found.warnings)}
    shared.result(document, "")
    if found.refused:
        shared.say(found.refused)
    return 1 if found.refused else 0
