"""What `runs` prints: its rows, events as lines, what attempts printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from parallelai.cli.shared import Shared
from parallelai.results.printable import visible
from parallelai.results.summary import seconds as lasting

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.runs import AttemptLog, RunState
    from parallelai.engines.protocol import Question
    from parallelai.results.compare import Comparison, TaskPair

_LEAST_WIDTH = 40
BOOKKEEPING = ("usage", "limits", "session")
"""Events of a stream that are about the turn, and nothing that it printed; `--json` has them."""


def run_rows(states: Sequence[RunState]) -> list[str]:
    """A line for each run: id, local time, state, plan, tasks by outcome."""
    names = [visible(state.row.plan or state.row.kind) for state in states]
    width = min(max(map(len, names), default=0), _LEAST_WIDTH)
    rows = []
    for state, name in zip(states, names, strict=True):
        tasks = ", ".join(f"{count} {outcome}" for outcome, count in state.row.tasks.items() if count)
        when = _local(state.row.created_at).strftime("%Y-%m-%d %H:%M")
        rows.append(f"{state.row.id}  {when}  {state.state:<11}  {name:<{width}}  {tasks}".rstrip())
    return rows


def _local(at: str) -> datetime:
    return datetime.fromisoformat(at).astimezone()


def comparison(found: Comparison, *, is_ascii: bool = False) -> list[str]:
    """What was fixed and what is new, a line each, after the numbers; then tasks that ended otherwise.

    Without findings on either side: what became of each task, its time and its cost.
    """
    arrow = " -> " if is_ascii else " → "
    has_findings = any((found.fixed, found.new, found.stayed, found.unseen))
    told = [pair for pair in found.tasks if not has_findings or pair.status[0] is not pair.status[1]]
    rows = [visible(_task_pair(pair, arrow)) for pair in told]
    return [*(_findings(found) if has_findings or not rows else ()), *rows]


def _task_pair(pair: TaskPair, arrow: str) -> str:
    was, now = (str(status) if status is not None else "not there" for status in pair.status)
    parts = [f"{pair.id}: {was if was == now else f'{was}{arrow}{now}'}"]
    if None not in pair.status:
        parts.append(arrow.join(lasting(seconds) for seconds in pair.seconds if seconds is not None))
    if any(pair.usd):
        parts.append(arrow.join("cost unknown" if usd is None else f"{usd:.2f} USD" for usd in pair.usd))
    return ", ".join(parts)


def _findings(found: Comparison) -> list[str]:
    unseen = f", {len(found.unseen)} in files that were not looked at again" if found.unseen else ""
    lines = [f"{len(found.fixed)} fixed, {len(found.new)} new, {len(found.stayed)} stayed{unseen}"]
    for sign, findings in (("-", found.fixed), ("+", found.new), ("?", found.unseen)):
        lines += [
            visible(f"{sign} {f.file}:{f.line[0]} {f.severity} {f.rule or f.category}: {f.message}")
            for f in findings
        ]
    return lines


def questions(found: Sequence[Question]) -> list[str]:
    """What assistants ask, and how to answer."""
    lines = []
    for question in found:
        detail = f": {question.detail}" if question.detail else ""
        lines.append(visible(f"{question.id}  {question.what}{detail}"))
        lines.append(f"    `parallelai runs answer {question.id} {'|'.join(question.options)}`")
    return lines


def print_events(shared: Shared, run: str | None) -> int:
    """Print a run's events as lines of JSON; with `--json` as one document."""

    def work(ai: AsyncParallelAI) -> None:
        if shared.is_json:
            events = [json.loads(line) for line in ai.runs.export(run)]
            shared.result({"run": ai.runs.find(run).id, "events": events}, "")
            return
        for line in ai.runs.export(run):
            click.echo(line)

    shared.read(work)
    return 0


def print_streams(shared: Shared, run: str | None, task: str) -> int:
    """Print what the attempts of a task printed while they worked, and what they came to."""
    found = shared.read(lambda ai: ai.runs.logs(run, task))
    if shared.is_json:
        attempts = [
            {
                "task": log.task,
                "attempt": log.attempt,
                "engine": log.engine,
                "stream": _stream(log),
                "text": log.reply.text if log.reply is not None else None,
                "error": log.error,
            }
            for log in found
        ]
        shared.result({"attempts": attempts}, "")
        return 0
    for log in found:
        for text in attempt_lines(log):
            click.echo(visible(text))
    return 0


def attempt_lines(log: AttemptLog) -> list[str]:
    """What an attempt printed and came to, below a heading."""
    events = _stream(log)
    lines = [*_texts(events), *_came_to(log, events)]
    heading = f"{log.task}, attempt {log.attempt}, `{log.engine}`"
    return [heading, *(lines or ["  (it printed nothing)"])]


def _came_to(log: AttemptLog, events: Sequence[dict[str, Any]]) -> list[str]:
    """An attempt's answer, unless it was streamed, and its error."""
    has_text = any(event.get("type") in ("text", "reply") for event in events)
    lines = (log.reply.text or "").splitlines() if log.reply is not None and not has_text else []
    if log.reply is not None and log.reply.findings:
        lines.append(f"[findings] {len(log.reply.findings)}: `parallelai runs show` has those that hold")
    if log.error is not None:
        lines.append(f"[error] {log.error.kind}: {log.error.said}")
    return lines


def _stream(log: AttemptLog) -> list[dict[str, Any]]:
    """The events of an attempt's stream; the last line may be half written."""
    if not log.path.exists():
        return []
    events = []
    for line in log.path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            event = line
        events.append(event if isinstance(event, dict) else {"type": "unreadable", "line": line})
    return events


def _texts(events: Sequence[dict[str, Any]]) -> list[str]:
    """Text as lines, however it was cut; other events by themselves."""
    text, lines = "", []
    for event in events:
        if event.get("type") == "text":
            text += str(event.get("delta", ""))
            continue
        if event.get("type") == "final":  # what the next turn says begins a line of its own
            lines += text.splitlines()
            text = ""
            continue
        if event.get("type") == "reply":
            lines += ["[reply that could not be used]", *str(event.get("text", "")).splitlines()]
            continue
        if event.get("type") in BOOKKEEPING:
            continue
        lines += text.splitlines()
        text = ""
        if event.get("type") == "stderr":
            lines += str(event.get("delta", "")).splitlines()
            continue
        lines.append(told_of_stream(event))
    return [*lines, *text.splitlines()]


_SHOWN_OF_A_TOOL = ("command", "file_path", "path", "pattern", "query", "url")


def told_of_stream(event: dict[str, Any]) -> str:
    """An event of a stream as a line for people; `--json` has all of it."""
    match event.get("type"):
        case "tool" if event.get("state") == "ended":
            exit = event.get("exit")
            return f"[{event.get('name')}] ended" + (f", exit {exit}" if exit is not None else "")
        case "tool":
            given = event.get("args")
            args: dict[str, Any] = given if isinstance(given, dict) else {}
            known = (str(args[key]) for key in _SHOWN_OF_A_TOOL if args.get(key))
            return f"[{event.get('name')}] {next(known, json.dumps(args, ensure_ascii=False)[:200])}"
        case "files":
            return f"[files] {', '.join(map(str, event.get('paths') or ()))}"
        case "waiting":
            until = f" until {event['until']}" if event.get("until") else ""
            return f"[waiting] {event.get('why')}{until}"
        case "plan":
            return "[plan] " + "; ".join(map(str, event.get("items") or ()))
        case kind:
            return f"[{kind}] {json.dumps(event, ensure_ascii=False)}"
