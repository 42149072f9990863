"""How reviewers did in earlier runs of this project: their track record (`results.rank`)."""

from __future__ import annotations

from collections.abc import Iterable

from parallelai.client.project import OpenProject
from parallelai.events import FindingRecorded
from parallelai.records import Finding
from parallelai.results.rank import Standing, add_up

RUNS = 10
"""How many of the latest runs count: models change."""


def track_record(project: OpenProject) -> dict[str, Standing]:
    """Add up what became of reviewers' findings in the latest runs."""
    if not project.has_store:
        return {}
    journal = project.store.journal
    records = []
    for row in journal.runs()[:RUNS]:
        events = [event.data for event in journal.events(row.id, types={FindingRecorded.type})]
        recorded = [data for data in events if isinstance(data, FindingRecorded)]
        if recorded:
            records.append(standings(recorded[-1].findings))
    return add_up(*records)


def standings(findings: Iterable[Finding]) -> dict[str, Standing]:
    """Judge the reviewers of one run: what another one saw too held; what was refuted or suppressed did not."""
    record: dict[str, Standing] = {}
    for finding in findings:
        if finding.state in ("refuted", "suppressed"):
            one = Standing(0, 1)
        elif finding.votes > 1:
            one = Standing(1, 0)
        else:
            continue
        for name in finding.by:
            record[name] = record.get(name, Standing()) + one
    return record
