"""The run document: counts, coverage, outcome, exit code."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_documents import coverages, finding

from parallelai.records import FREE, Coverage, ErrorRecord, FileNote, Outcome, Severity, TaskResult
from parallelai.results.document import counts, exit_code, join_coverage, run_outcome

OK = TaskResult("ok", Outcome.OK, attempts=1, usage=FREE)
FAILED = TaskResult("failed", Outcome.FAILED, attempts=1, error=ErrorRecord("rejected", "401"))
BLOCKED = TaskResult("blocked", Outcome.BLOCKED, error=ErrorRecord("rate_limited", "until noon"))
UNAVAILABLE = TaskResult("none", Outcome.BLOCKED, error=ErrorRecord("unavailable", "no engine can serve"))
SKIPPED = TaskResult("skipped", Outcome.SKIPPED)
CANCELLED = TaskResult("cancelled", Outcome.CANCELLED)
OVER = TaskResult("over", Outcome.OVER_BUDGET)
HIGH = finding(severity=Severity.HIGH)


@pytest.mark.parametrize(
    ("tasks", "facts", "code"),
    [
        ([], {}, 0),
        ([OK], {}, 0),
        ([SKIPPED], {}, 0),
        ([OK], {"findings": [HIGH]}, 0),
        ([OK], {"findings": [HIGH], "fail_on": Severity.HIGH}, 1),
        ([OK], {"findings": [HIGH], "fail_on": Severity.INFO}, 1),
        ([OK], {"findings": [HIGH], "fail_on": Severity.CRITICAL}, 0),
        ([OK], {"findings": [finding(state="baseline")], "fail_on": Severity.INFO}, 0),
        ([OK], {"findings": [finding(state="suppressed")], "fail_on": Severity.INFO}, 0),
        ([OK], {"findings": [finding(state="refuted")], "fail_on": Severity.INFO}, 0),
        ([UNAVAILABLE], {}, 3),
        ([UNAVAILABLE, SKIPPED], {}, 3),
        ([UNAVAILABLE, OK], {}, 4),
        ([FAILED], {}, 4),
        ([OK, FAILED], {"findings": [HIGH], "fail_on": Severity.HIGH}, 4),
        ([OK, BLOCKED], {}, 4),
        ([OK, CANCELLED], {}, 4),
        ([OK], {"files": Coverage(failed=(FileNote("a.py", "unreadable"),))}, 4),
        ([OK], {"files": Coverage(covered=("a.py",), skipped=(FileNote("b.js", "generated"),))}, 0),
        ([OK, OVER, FAILED], {}, 5),
        ([OK], {"is_budget_reached": True}, 5),
        ([FAILED, OVER], {"signal": signal.SIGINT}, 130),
        ([UNAVAILABLE], {"signal": signal.SIGTERM}, 143),
    ],
)
def test_exit_codes(tasks, facts, code):
    assert exit_code(tasks, **facts) == code


@pytest.mark.parametrize(
    ("tasks", "facts", "outcome"),
    [
        ([OK, SKIPPED], {}, "ok"),
        ([], {}, "ok"),
        ([OK, FAILED, CANCELLED], {}, "failed"),
        ([OK, BLOCKED], {}, "failed"),
        ([OK, CANCELLED], {}, "cancelled"),
        ([OK, FAILED], {"is_cancelled": True}, "cancelled"),
        ([FAILED, OVER], {}, "over_budget"),
        ([OK], {"is_budget_reached": True}, "over_budget"),
    ],
)
def test_run_outcomes(tasks, facts, outcome):
    assert run_outcome(counts(tasks), **facts) == outcome


_tasks = st.lists(st.sampled_from([OK, FAILED, BLOCKED, UNAVAILABLE, SKIPPED, CANCELLED, OVER]))


@given(_tasks)
def test_only_a_run_that_is_ok_ends_with_zero(tasks):
    assert (exit_code(tasks) == 0) == (run_outcome(counts(tasks)) == "ok")
    assert sum(counts(tasks).values()) == len(tasks)
    assert set(counts(tasks)) == set(Outcome)


@given(st.lists(coverages, max_size=4))
def test_every_file_is_accounted_for_exactly_once(parts):
    joined = join_coverage(parts)
    asked = [
        file for part in parts for file in (*part.covered, *(n.file for n in (*part.skipped, *part.failed)))
    ]
    told = [*joined.covered, *(note.file for note in (*joined.skipped, *joined.failed))]
    assert sorted(told) == sorted(set(asked))
    assert set(joined.covered) == {file for part in parts for file in part.covered}


def test_failed_weighs_more_than_skipped():
    parts = [Coverage(skipped=(FileNote("a", "no analyser"),)), Coverage(failed=(FileNote("a", "crashed"),))]
    assert join_coverage(parts) == Coverage(failed=(FileNote("a", "crashed"),))
