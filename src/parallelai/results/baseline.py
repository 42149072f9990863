"""The findings that a team has accepted for now: a committed file of ids, so that only new ones are shown.

The file is JSON, sorted, one finding a line, so that a change of it reads well in a review and two branches
that change it seldom conflict.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from parallelai.errors import NotFoundError, UsageError
from parallelai.records import Finding
from parallelai.results.write import write_atomically

SCHEMA = "parallelai/baseline/1"
_MAX_BYTES = 256 * 1024 * 1024
_MESSAGE_LENGTH = 200


def load(path: Path) -> frozenset[str]:
    """Read the ids of a baseline.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it cannot be read, or is no baseline.
    """
    where = str(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError("too large for a baseline", where=where, next="is it the right file?")
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(
            "no such baseline", where=where, next="make it with `--update-baseline`"
        ) from error
    except OSError as error:
        raise UsageError(f"the baseline cannot be read: {error.strerror}", where=where) from error
    except (ValueError, RecursionError) as error:
        raise UsageError("not a baseline: it is not JSON", where=where, next=_REMAKE) from error
    return _ids(data, where)


_REMAKE = "make it again with `--update-baseline`"


def _ids(data: object, where: str) -> frozenset[str]:
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise UsageError(f"not a baseline: its `schema` is not `{SCHEMA}`", where=where, next=_REMAKE)
    entries = data.get("findings")
    ids = (
        [entry.get("id") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    )
    known = frozenset(id_ for id_ in ids if isinstance(id_, str))
    if not isinstance(entries, list) or len(entries) != sum(isinstance(id_, str) for id_ in ids):
        raise UsageError(
            "not a baseline: `findings` is not a list with an `id` each", where=where, next=_REMAKE
        )
    return known


def save(path: Path, findings: Iterable[Finding]) -> None:
    """Write the findings that are to be accepted: all but suppressed and refuted ones.

    Raises `UsageError` if the file cannot be written.
    """
    kept = [finding for finding in findings if finding.state in ("open", "baseline")]
    kept.sort(key=lambda finding: (finding.file, finding.rule or finding.category, finding.id))
    rows = ",\n".join("  " + json.dumps(_row(finding)) for finding in kept)
    write_atomically(path, f'{{"schema": "{SCHEMA}", "findings": [\n{rows}\n]}}\n')


def _row(finding: Finding) -> dict[str, str]:
    """What a reviewer of the file sees; only the id is read back. Lines are left out: they move."""
    message = finding.message[:_MESSAGE_LENGTH]
    return {
        "id": finding.id,
        "file": finding.file,
        "rule": finding.rule or finding.category,
        "message": message,
    }


def apply(findings: Iterable[Finding], accepted: Collection[str]) -> tuple[Finding, ...]:
    """Give the findings, with the state `baseline` where an open one is accepted."""
    return tuple(
        replace(finding, state="baseline") if finding.state == "open" and finding.id in accepted else finding
        for finding in findings
    )
