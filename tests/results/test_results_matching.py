"""One finding of what several reviewers say of the same matter in their own words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_documents import finding, reported

from parallelai.records import Severity
from parallelai.results.collect import Collector
from parallelai.results.matching import Statement, Vocabulary, group
from parallelai.results.rank import Standing, add_up, rank, tier, weight

SOURCE = "\n".join(
    [
        "def total(items):",
        "    return sum(items) / len(items)",
        "",
        *[f"# line {number}" for number in range(4, 100)],
        "def close(handle):",
        "    handle.flush()",
    ]
)
EMPTY = "An empty list divides by zero: `len(items)` is 0, so ZeroDivisionError is raised"
EMPTY_TOO = "Division by zero when `items` is an empty list (ZeroDivisionError)"
EMPTY_AGAIN = (
    "total() raises ZeroDivisionError if called with empty items, because it divides by their length"
)
UNTYPED = "The function has no type annotations, so callers cannot tell what it accepts"
UNCLOSED = "The handle is flushed but never closed, which leaks the file descriptor"
DIVISION = "    return sum(items) / len(items)"


def said(*findings, engine, task="review", files=("src/a.py",)):
    return replace(reported(*findings, engine=engine, task=task), is_quoted=True, files=files)


def of_total(message, **fields):
    return finding(line=2, message=message, quote=DIVISION, **fields)


def collected(*reports, **given_):
    return Collector(lambda _file: SOURCE).collect(reports, **given_).findings


# --- joining


def test_the_same_matter_in_three_wordings_is_one_finding_with_three_votes():
    found = collected(
        said(of_total(EMPTY, severity=Severity.HIGH), engine="a"),
        said(of_total(EMPTY_TOO, severity=Severity.CRITICAL), of_total(UNTYPED), engine="b"),
        said(of_total(EMPTY_AGAIN, severity=Severity.MEDIUM, suggestion="guard it"), engine="c"),
    )
    assert sorted((one.votes, one.by) for one in found) == [(1, ("b",)), (3, ("a", "b", "c"))]
    one = next(one for one in found if one.votes == 3)
    assert one.severity is Severity.HIGH, "the middle one, so that one voice is not all"
    assert one.suggestion == "guard it"
    assert (one.line, one.tier) == ((2, 2), "must")


def test_different_matters_on_the_same_line_stay_apart():
    found = collected(said(of_total(EMPTY), engine="a"), said(of_total(UNTYPED), engine="b"))
    assert [one.votes for one in found] == [1, 1]


def test_two_findings_of_one_reply_stay_two_however_alike():
    found = collected(said(of_total(EMPTY), of_total(EMPTY_TOO), engine="a"))
    assert [one.votes for one in found] == [1, 1]
    found = collected(
        said(of_total(EMPTY), of_total(EMPTY_TOO), engine="a"), said(of_total(EMPTY_AGAIN), engine="b")
    )
    assert sorted(one.votes for one in found) == [1, 2]


def test_two_passes_of_one_engine_are_two_votes_and_two_tasks_of_it_one_voice():
    twice = collected(said(of_total(EMPTY), engine="a"), said(of_total(EMPTY_TOO), engine="a"))
    assert [(one.votes, one.by) for one in twice] == [(2, ("a",))]
    tasks = collected(said(of_total(EMPTY), engine="a"), said(of_total(EMPTY_TOO), engine="a", task="audit"))
    assert [(one.votes, one.by, one.task) for one in tasks] == [(1, ("a",), "review")]


def test_a_model_that_says_what_an_analyser_says_is_its_second_vote():
    rule = finding(
        line=2,
        message="Possible division by zero in `total`",
        rule="W1",
        severity=Severity.LOW,
        column=(12, 35),
    )
    (one,) = collected(reported(rule, engine="analyzers"), said(of_total(EMPTY_TOO), engine="m"))
    assert (one.rule, one.votes, one.by) == ("W1", 2, ("analyzers", "m"))
    assert (one.message, one.column, one.severity) == (rule.message, (12, 35), Severity.LOW)
    alone = collected(reported(rule, engine="analyzers"))[0]
    assert one.id == alone.id, "a model's vote does not make it another finding"


def test_rules_of_analysers_are_never_joined_by_their_words():
    rules = [
        reported(finding(line=2, message="division by zero in total", rule=rule), engine=engine)
        for rule, engine in (("W1", "x"), ("B7", "y"))
    ]
    found = collected(*rules, said(of_total(EMPTY_TOO), engine="m"))
    assert sorted(one.rule for one in found) == ["B7", "W1"]
    assert sorted(one.votes for one in found) == [1, 2]


def test_far_apart_the_same_words_are_about_another_place():
    far = finding(line=101, message=EMPTY, quote="    handle.flush()")
    found = collected(said(of_total(EMPTY), engine="a"), said(far, engine="b"))
    assert [one.votes for one in found] == [1, 1]


def test_findings_of_different_files_are_never_joined():
    other = replace(of_total(EMPTY), file="src/b.py")
    found = collected(said(of_total(EMPTY), engine="a"), said(other, engine="b"))
    assert [one.votes for one in found] == [1, 1]


_messages = st.sampled_from([EMPTY, EMPTY_TOO, EMPTY_AGAIN, UNTYPED, UNCLOSED, "値がない", ""])
_found = st.builds(
    lambda message, line: finding(line=line, message=message, quote="def" if line < 50 else "handle"),
    _messages,
    st.sampled_from([1, 2, 101]),
)
_replies = st.lists(
    st.builds(
        lambda found, engine: said(*found, engine=engine),
        st.lists(_found, max_size=4, unique_by=lambda one: (one.message, one.line)),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=5,
)


@given(_replies, st.randoms(use_true_random=False))
def test_no_vote_is_lost_and_the_order_of_replies_does_not_matter(replies, random):
    found = collected(*replies)
    assert len({one.id for one in found}) == len(found)
    assert sum(one.votes for one in found) == sum(len(one.reply.findings) for one in replies)
    most = max((len(one.reply.findings) for one in replies), default=0)
    assert len(found) >= most
    shuffled = collected(*random.sample(replies, len(replies)))
    assert len(shuffled) == len(found)


@given(
    st.lists(
        st.builds(
            Statement,
            st.frozensets(st.integers(0, 4), min_size=1, max_size=2),
            _messages,
            st.none() | st.sampled_from([(1, 1), (2, 9), (200, 200)]),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.floats(0.01, 1),
)
def test_groups_hold_every_statement_once_and_no_reporter_twice(statements, threshold):
    vocabulary = Vocabulary(one.text for one in statements)
    groups = group(statements, vocabulary, threshold=threshold)
    assert sorted(at for members in groups for at in members) == list(range(len(statements)))
    for members in groups:
        names = [name for at in members for name in statements[at].reporters]
        assert len(names) == len(set(names))
        assert sum(statements[at].is_fixed for at in members) <= 1


def test_words_that_everybody_uses_make_nothing_alike():
    texts = [f"The value of {name} should be checked before use" for name in ("timeout", "user", "index")]
    statements = [Statement(frozenset([number]), text) for number, text in enumerate(texts)]
    background = [f"The value of {word} should be checked before use" for word in map(str, range(60))]
    assert group(statements, Vocabulary([*texts, *background])) == [[0], [1], [2]]


# --- tiers and ranks


@pytest.mark.parametrize(
    ("votes", "lookers", "expected"),
    [(1, 1, "must"), (1, 2, "maybe"), (2, 2, "must"), (2, 3, "must"), (2, 8, "maybe"), (4, 12, "must")],
)
def test_what_few_of_many_saw_is_a_maybe(votes, lookers, expected):
    assert tier(["a"], votes, lookers=lookers, confidence=None, record={}) == expected


def test_who_is_alone_has_to_be_sure():
    assert tier(["a"], 1, lookers=1, confidence=0.9, record={}) == "must"
    assert tier(["a"], 1, lookers=1, confidence=0.3, record={}) == "maybe"
    record = {"a": Standing(5, 95), "b": Standing(95, 5)}
    assert tier(["a"], 1, lookers=1, confidence=0.6, record=record) == "maybe"
    assert tier(["b"], 1, lookers=1, confidence=0.4, record=record) == "must"


def test_silence_of_a_reviewer_who_looked_counts():
    alone = collected(said(of_total(EMPTY), engine="a"))
    with_others = collected(
        said(of_total(EMPTY), engine="a"), said(engine="b"), said(engine="c", files=("src/other.py",))
    )
    assert [one.tier for one in alone] == ["must"]
    assert [one.tier for one in with_others] == ["maybe"]


def test_a_track_record_moves_a_voice_by_what_held_compared_with_others():
    record = {"good": Standing(90, 10), "bad": Standing(10, 90), "new": Standing(1, 0)}
    assert weight("good", record) > weight("new", record) > weight("bad", record)
    assert weight("unknown", record) == 0.0
    assert weight("only", {"only": Standing(3, 50)}) == pytest.approx(0, abs=0.2)
    total = add_up(record, {"good": Standing(0, 1), "other": Standing(2, 0)})
    assert (total["good"], total["other"]) == (Standing(90, 11), Standing(2, 0))


def test_the_ranking_is_by_severity_tier_agreement_record_and_confidence():
    record = {"good": Standing(90, 10), "bad": Standing(10, 90)}
    ordered = [
        finding(severity=Severity.CRITICAL, tier="maybe", line=9),
        finding(votes=2, by=("good", "bad"), line=8),
        finding(by=("good",), line=7),
        finding(by=("other",), confidence=0.9, line=6),
        finding(by=("other",), line=5),
        finding(by=("bad",), confidence=1.0, line=4),
        finding(tier="maybe", votes=5, line=1),
    ]
    assert list(rank(reversed(ordered), record)) == ordered
