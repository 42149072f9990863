"""`parallelai usage`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared
from parallelai.results.printable import visible

if TYPE_CHECKING:
    from parallelai.client.usage import UsageReport, UsageRow

BY = ("engine", "model", "task", "day", "month")
_HEADS = ("attempts", "failed", "reused", "input", "cached", "output", "USD")


@command()
@click.option("--by", type=click.Choice(BY), default="engine", show_default=True, help="What a row is for.")
@click.option("--utc", "is_utc", is_flag=True, help="Days and months of UTC, not of your time zone.")
def usage(shared: Shared, by: str, is_utc: bool) -> int:
    """Sum up what all runs of the project used, failed attempts too."""
    from parallelai.client.usage import read_usage

    found = shared.read(lambda ai: read_usage(ai.project, by, is_utc=is_utc))
    shared.result(_document(found), lambda: "\n".join(_lines(found)))
    return 0


def _document(found: UsageReport) -> dict[str, Any]:
    """Sums that are not known in full are null; what is known of them is beside it."""
    return {
        "schema": found.schema,
        "by": found.by,
        "dates": found.dates,
        "runs": found.runs,
        "rows": [_row(row) for row in found.rows],
        "total": _row(found.total),
    }


def _row(row: UsageRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "attempts": row.attempts,
        "failed": row.failed,
        "reused": row.reused,
        "usd": None if row.unpriced else row.usd,
        "usd_known": row.usd,
        "unpriced": row.unpriced,
        "subscription": row.subscription,
        **{
            name: None if row.uncounted else getattr(row, name)
            for name in ("input", "cached", "output", "reasoning")
        },
        "uncounted": row.uncounted,
    }


def _lines(found: UsageReport) -> list[str]:
    if not found.rows:
        return ["nothing was used yet"]
    table = [(found.by, *_HEADS), *(_cells(row) for row in found.rows)]
    if len(found.rows) > 1:
        table.append(_cells(found.total))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return [*lines, *_notes(found)]


def _cells(row: UsageRow) -> tuple[str, ...]:
    counted = [
        _at_least(f"{value:,}", row.uncounted, row.attempts) for value in (row.input, row.cached, row.output)
    ]
    money = _at_least(f"{row.usd:,.4f}", row.unpriced, row.attempts - row.subscription)
    name = visible(row.name) or "-"
    return name, f"{row.attempts:,}", f"{row.failed:,}", f"{row.reused:,}", *counted, money


def _at_least(known: str, unknown: int, of: int) -> str:
    """A sum, as far as it is known."""
    if not unknown:
        return known
    return "unknown" if unknown >= of else f"≥ {known}"


def _notes(found: UsageReport) -> list[str]:
    total, notes = found.total, []
    if total.unpriced:
        notes.append(f"the cost of {_attempts(total.unpriced)} is unknown")
    if total.uncounted:
        notes.append(f"{_attempts(total.uncounted)} did not say their tokens")
    if total.subscription:
        notes.append(f"{_attempts(total.subscription)} went by a subscription, and have no price")
    if found.by in ("day", "month"):
        notes.append("dates are UTC" if found.dates == "utc" else "dates are of this machine's time zone")
    return ["", *notes] if notes else []


def _attempts(count: int) -> str:
    return f"{count:,} attempt{'s' if count != 1 else ''}"
