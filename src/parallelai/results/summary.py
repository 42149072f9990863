"""What a run came to, in sentences that every format for people says alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from parallelai.records import Outcome, RunDocument, Severity, TaskResult, Usage

UNREAD = "Nothing was looked at"


def reviewed(document: RunDocument) -> list[str]:
    """The findings in numbers: nothing for a run that was about no findings."""
    found = [finding for finding in document.findings if finding.state == "open"]
    covered = len(document.files.covered)
    if not (document.findings or covered or document.files.failed or document.files.skipped):
        return []
    if not (document.findings or document.is_review):
        return []
    severities = Counter(finding.severity for finding in found)
    said = ", ".join(
        f"{severities[severity]:,} {severity.value}" for severity in Severity if severities[severity]
    )
    places = f" in {number(len({finding.file for finding in found}), 'file')}: {said}" if found else ""
    if not covered and not (found if document.files.failed else document.findings):
        return [UNREAD]
    first = f"{number(len(found), 'finding') if found else 'No findings'}{places}"
    sentences = [f"{first}; {number(covered, 'file')} looked at" if covered else first]
    states = Counter(finding.state for finding in document.findings)
    hidden = [
        f"{states['suppressed']:,} suppressed by comments" if states["suppressed"] else "",
        f"{states['baseline']:,} in the baseline" if states["baseline"] else "",
        f"{states['refuted']:,} refuted" if states["refuted"] else "",
        *(
            f"{count:,} dropped ({reason.replace('_', ' ')})"
            for reason, count in document.dropped.items()
            if count
        ),
    ]
    if any(hidden):
        sentences.append("Not shown: " + ", ".join(part for part in hidden if part))
    return sentences


def task_counts(document: RunDocument) -> str:
    """The tasks by outcome: every outcome that occurred."""
    said = [
        f"{document.counts[outcome]:,} {outcome.value}" for outcome in Outcome if document.counts.get(outcome)
    ]
    total = sum(document.counts.values())
    if not said:  # what is shown while a run goes on, or of one that was killed, has no outcome
        return "no tasks" if document.outcome is Outcome.OK else "no task has ended yet"
    return f"{number(total, 'task')}: {', '.join(said)}"


def kept_out(tasks: Sequence[TaskResult]) -> str:
    """How many changed what they may not, whatever became of the rest; nothing where none did."""
    count = sum(bool((task.workstream or {}).get("kept_out")) for task in tasks)
    return f"something was kept out of {count:,}" if count else ""


def time(document: RunDocument) -> str:
    took, alone = document.seconds, document.seconds_one_by_one
    if took > 0 and alone >= 1.1 * took and alone >= 0.1:
        return f"{seconds(took)}, one by one {seconds(alone)} ({alone / took:.1f}x faster)"
    return seconds(took)


def cost(document: RunDocument) -> str:
    return spent(document.usage)


def spent(usage: Usage) -> str:
    """Tokens and money; nothing of what is free."""
    if usage.basis == "free":
        return ""
    return f"{_tokens(usage)}, {_money(usage)}"


def _tokens(usage: Usage) -> str:
    if usage.tokens is None:
        return "tokens unknown"
    cached = f" ({usage.cached:,} cached)" if usage.cached else ""
    return f"{usage.input or 0:,} tokens in{cached}, {usage.output or 0:,} out"


def _money(usage: Usage) -> str:
    if usage.basis == "subscription":
        return "by subscription"
    return "cost unknown" if usage.usd is None else f"{usage.usd:.2f} USD"


def reused(tasks: Sequence[TaskResult]) -> str:
    """How many replies came from an earlier run; nothing where none did."""
    count = sum(task.reused for task in tasks)
    return f"{count:,} reused" if count else ""


def engines(tasks: Sequence[TaskResult]) -> str:
    """Who did it and why they were taken, the commonest first."""
    # Why `auto` took an engine is said in full when the run starts.
    whys = (
        (engine, (task.why or "").partition(":")[0])
        for task in tasks
        if task.engine
        for engine in (task.voters or (task.engine,))
    )
    taken = Counter(whys).most_common(4)
    said = [f"{engine} ({why})" if why else f"{engine}" for (engine, why), _ in taken[:3]]
    return "by " + ", ".join([*said, "others"] if len(taken) > 3 else said) if said else ""


def more_needed(document: RunDocument) -> str:
    """What the tasks that a budget kept from being done would take, by what the others took; empty if unknown."""
    left = sum(task.status is Outcome.OVER_BUDGET for task in document.tasks)
    taken = [task.usage for task in document.tasks if task.status is Outcome.OK and task.usage is not None]
    if not left or not taken:
        return ""
    money = [usage.usd for usage in taken if usage.usd is not None and usage.basis != "subscription"]
    tokens = [usage.tokens for usage in taken if usage.tokens is not None]
    if sum(money) > 0:
        usd = sum(money) / len(money) * left
        needed = f"{usd:.2f} USD" if usd >= 0.01 else "0.01 USD"
    elif sum(tokens) > 0:
        needed = f"{round(sum(tokens) / len(tokens) * left):,} tokens"
    else:
        return ""
    return f"about {needed} more for {number(left, 'task')}, by what the others took"


def number(count: int, noun: str) -> str:
    """A count with its noun: 1 file, 2,000 files."""
    return f"{count:,} {plural(count, noun)}"


def plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def seconds(seconds: float) -> str:
    """A duration as people say it: 0.42 s, 71.4 s, 12 min 5 s, 3 h 20 min."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
