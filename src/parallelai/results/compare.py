"""What changed between two runs, finding by finding."""

from __future__ import annotations

from dataclasses import dataclass

from parallelai.records import Finding, FindingState, RunDocument

_PRESENT: frozenset[FindingState] = frozenset({"open", "baseline"})


@dataclass(frozen=True, slots=True)
class Comparison:
    """The findings of two runs, by id, each ranked as its run had them.

    `fixed` are the earlier run's that the later one no longer has, `new` the later one's that the earlier one
    had not, `stayed` those of both, as the later run has them. `unseen` are the earlier run's in files that
    the later one skipped or failed on: nobody knows whether they are fixed.
    """

    fixed: tuple[Finding, ...]
    new: tuple[Finding, ...]
    stayed: tuple[Finding, ...]
    unseen: tuple[Finding, ...] = ()


def compare(a: RunDocument, b: RunDocument) -> Comparison:
    """Compare an earlier run with a later one.

    Suppressed and refuted findings are neither fixed nor new: they were not there to be fixed, and are not
    there now.
    """
    ids_a = {finding.id for finding in a.findings}
    ids_b = {finding.id for finding in b.findings}
    unread = {note.file for note in (*b.files.skipped, *b.files.failed)}
    gone = [finding for finding in a.findings if finding.state in _PRESENT and finding.id not in ids_b]
    present = [finding for finding in b.findings if finding.state in _PRESENT]
    return Comparison(
        fixed=tuple(finding for finding in gone if finding.file not in unread),
        new=tuple(finding for finding in present if finding.id not in ids_a),
        stayed=tuple(finding for finding in present if finding.id in ids_a),
        unseen=tuple(finding for finding in gone if finding.file in unread),
    )
