"""From replies to one list: votes, ids, quotes, suppressions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_documents import finding, reported

from parallelai.records import Severity
from parallelai.results.collect import Collector
from parallelai.results.rank import rank, rank_key

SOURCE = "import os\n\npassword = 'x'\nif a:\n    pass\n    pass\n"


def collected(*reports, text=SOURCE):
    return Collector(lambda _file: text).collect(reports)


def only(*reports, text=SOURCE):
    (one,) = collected(*reports, text=text).findings
    return one


# --- votes


def test_equal_findings_of_two_engines_are_one_with_two_votes():
    a = reported(finding(line=3, rule="S105", message="Hardcoded `password`"), engine="ruff")
    b = reported(
        finding(
            line=3, rule="S105", message='hardcoded  "password".', severity=Severity.CRITICAL, column=(1, 9)
        ),
        engine="claude",
        task="other",
    )
    joined = only(a, b)
    assert (joined.by, joined.votes, joined.task) == (("ruff", "claude"), 2, "review")
    assert joined.severity is Severity.CRITICAL
    assert joined.column == (1, 9)


@pytest.mark.parametrize(
    "other",
    [{"line": 4}, {"file": "src/b.py"}, {"rule": "S106"}, {"message": "Something else"}],
)
def test_findings_that_differ_are_not_joined(other):
    a = reported(finding(line=3, rule="S105"), engine="a")
    b = reported(finding(**{"line": 3, "rule": "S105", **other}), engine="b")
    assert [one.votes for one in collected(a, b).findings] == [1, 1]


def test_two_findings_of_one_reply_are_never_joined():
    twice = reported(finding(line=3, column=(1, 2)), finding(line=3, column=(5, 6)), engine="a")
    once = reported(finding(line=3, column=(5, 6)), engine="b")
    found = collected(twice, once).findings
    assert sorted((one.column, one.votes) for one in found) == [((1, 2), 1), ((5, 6), 2)]
    assert len({one.id for one in found}) == 2


def test_exactly_equal_findings_of_one_reply_stay_two():
    found = collected(reported(finding(line=3), finding(line=3))).findings
    assert [one.votes for one in found] == [1, 1]
    assert found[0].id != found[1].id


def test_the_same_engine_in_two_tasks_is_one_voice():
    one = only(reported(finding(line=3), task="all"), reported(finding(line=3), task="auth"))
    assert (one.votes, one.by, one.task) == (1, ("analyzers",), "all")


def test_an_engine_asked_twice_by_one_task_has_two_votes():
    one = only(reported(finding(line=3), engine="claude"), reported(finding(line=3), engine="claude"))
    assert (one.votes, one.by) == (2, ("claude",))


def test_what_engines_say_of_votes_and_names_is_not_believed():
    one = only(reported(finding(line=3, votes=9, by=("nobody",), id="f-mine", task="else")))
    assert (one.votes, one.by, one.task) == (1, ("analyzers",), "review")
    assert one.id != "f-mine"


_small = st.builds(
    finding,
    file=st.sampled_from(["a.py", "b.py"]),
    line=st.integers(1, 4),
    column=st.none() | st.sampled_from([(1, 2), (3, 4)]),
    rule=st.none() | st.just("S1"),
    message=st.sampled_from(["Wrong", "wrong.", "Other"]),
)
_replies = st.lists(
    st.builds(
        lambda found, engine, task: reported(*found, engine=engine, task=task),
        st.lists(_small, max_size=4),
        st.sampled_from(["x", "y", "z"]),
        st.sampled_from(["t1", "t2"]),
    ),
    max_size=5,
)


@given(_replies, st.randoms(use_true_random=False))
def test_the_order_of_replies_does_not_matter(replies, random):
    shuffled = random.sample(replies, len(replies))

    def facts(reports):
        found = collected(*reports, text="a\nb\n").findings
        return Counter((one.id, one.file, one.line, one.votes, frozenset(one.by)) for one in found)

    assert facts(replies) == facts(shuffled)


@given(_replies)
def test_every_finding_is_in_the_result_and_ids_are_unique(replies):
    found = collected(*replies, text="a\nb\n").findings
    assert len({one.id for one in found}) == len(found)
    assert list(found) == sorted(found, key=rank_key)
    for reply in replies:
        mine = Counter((one.file, one.line, one.rule) for one in reply.reply.findings)
        assert not mine - Counter((one.file, one.line, one.rule) for one in found), (
            "one was lost or merged away"
        )


# --- places and quotes


def test_the_code_is_quoted_as_it_stands():
    assert only(reported(finding(line=(4, 5)))).quote == "if a:\n    pass"


def test_long_places_are_quoted_in_part():
    text = "\n".join(f"{number} " + "x" * 1000 for number in range(100))
    quote = only(reported(finding(line=(1, 100))), text=text).quote
    assert quote is not None
    assert len(quote) < 5000


def test_a_quote_that_is_nowhere_drops_the_finding_and_is_counted():
    result = collected(reported(finding(line=3, quote="eval(input())"), finding(line=3)))
    assert len(result.findings) == 1
    assert result.dropped == {"quote_not_found": 1}


def test_a_quote_elsewhere_moves_the_finding_to_the_nearest_place():
    one = only(reported(finding(line=1, column=(3, 5), quote="  if a: ")))
    assert (one.line, one.column, one.quote) == ((4, 4), None, "if a:")
    assert only(reported(finding(line=6, quote="pass"))).line == (6, 6)
    assert only(reported(finding(line=5, quote="pass"))).line == (5, 5)
    assert only(reported(finding(line=1, quote="if a:\n  pass"))).line == (4, 5)
    assert only(reported(finding(line=900, quote="password = 'x'"))).line == (3, 3)


def test_where_the_file_cannot_be_read_the_finding_is_kept_as_given():
    one = only(reported(finding(line=3, quote="anything")), text=None)
    assert (one.line, one.quote, one.state) == ((3, 3), "anything", "open")


@pytest.mark.parametrize("text", ["", "one line"])
def test_a_place_beyond_the_end_is_kept_without_a_quote(text):
    one = only(reported(finding(line=7)), text=text)
    assert (one.line, one.quote) == ((7, 7), None)


def test_lines_are_counted_as_analysers_do():
    text = "\ufeffa\x0cb\x85c\u2028d\r\nsecond\rthird\n"
    found = collected(reported(*(finding(line=n, message=str(n)) for n in (1, 2, 3))), text=text).findings
    assert [one.quote for one in found] == ["a\x0cb\x85c\u2028d", "second", "third"]


def test_impossible_places_and_confidences_are_put_right():
    one = only(reported(finding(line=(0, -3), column=(0, 4), confidence=float("nan"))))
    assert (one.line, one.column, one.confidence) == ((1, 1), None, None)
    assert only(reported(finding(line=(3, 1), column=(9, 2), confidence=7.0))).line == (3, 3)
    assert only(reported(finding(confidence=7.0))).confidence == 1.0


def test_each_file_is_read_once():
    seen = []

    def read(file):
        seen.append(file)
        return SOURCE

    replies = [reported(finding(line=1), finding(line=2)), reported(finding(line=3), engine="b")]
    Collector(read).collect(replies)
    assert seen == ["src/a.py"]


# --- replies that come in while others are worked at

ENGINES = st.sampled_from(["ruff", "eslint", "claude"])
FINDINGS = st.builds(
    lambda file, line, rule, quote: finding(file=file, line=line, rule=rule, quote=quote),
    file=st.sampled_from(["a.py", "b.py", "c.py"]),
    line=st.integers(1, 6),
    rule=st.sampled_from(["S1", "S2", None]),
    quote=st.sampled_from([None, None, "pass", "nowhere in it"]),
)


@st.composite
def replies(draw):
    found = draw(st.lists(FINDINGS, max_size=6))
    engine = draw(ENGINES)
    return replace(reported(*found, engine=engine), is_quoted=engine == "claude")


@given(st.lists(st.tuples(replies(), st.booleans()), max_size=5), st.data())
def test_what_is_taken_early_comes_to_the_same(reports, data):
    every = [report for report, _ in reports]
    collector = Collector(lambda _file: SOURCE)
    for report in data.draw(st.permutations([report for report, is_early in reports if is_early])):
        collector.take(report)
    assert collector.collect(every) == collected(*every)


def test_a_reply_that_was_taken_but_does_not_count_is_not_there():
    collector = Collector(lambda _file: SOURCE)
    collector.take(reported(finding(line=3, rule="S105")))
    (one,) = collector.collect([reported(finding(line=4, rule="S106"))]).findings
    assert one.rule == "S106"


# --- ids


def ids(text, *lines, **fields):
    found = collected(
        reported(*(finding(line=line, rule="S1", **fields) for line in lines)), text=text
    ).findings
    return [one.id for one in sorted(found, key=lambda one: one.line)]


def test_ids_survive_moved_and_reindented_code():
    assert ids("x = 1\n", 1) == ids("\n# new\n\n\tx  =  1\n", 4)
    assert ids("x\nx\n", 1, 2) == ids("y\nx\ny\nx\n", 2, 4)


def test_ids_differ_by_rule_path_code_and_ordinal():
    base = ids("x\nx\n", 1)[0]
    assert base.startswith("f-")
    others = [
        *ids("y\n", 1),
        *ids("x\n", 1, file="src/b.py"),
        ids("x\nx\n", 1, 2)[1],
        only(reported(finding(line=1, rule="S2")), text="x\n").id,
    ]
    assert base not in others
    assert len(set(others)) == 4


def test_an_id_does_not_depend_on_what_a_model_happens_to_say():
    def said(message):
        return only(reported(finding(line=3, category="security", message=message))).id

    assert said("A password in code") == said("Do not write passwords here")


# --- suppressions


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("x = 1  # parallelai: ignore\n", "suppressed"),
        ("x = 1  # parallelai: ignore[S105]\n", "suppressed"),
        ("x = 1  # parallelai:ignore[E501, s105 ]\n", "suppressed"),
        ("x = 1  # noqa; parallelai: ignore[S105] - a test key\n", "suppressed"),
        ("x = 1  # parallelai: ignore[E501]\n", "open"),
        ("x = 1  # parallelai: ignore[]\n", "open"),
        ("x = 1  # parallelai: ignore[S105\n", "open"),
        ("x = 1  # parallelai: ignored\n", "open"),
        ("x = 1  # parallelai: ignore-me\n", "open"),
        ("x = 1\n", "open"),
    ],
)
def test_a_comment_on_the_line(text, state):
    assert only(reported(finding(line=1, rule="S105")), text=text).state == state


@pytest.mark.parametrize("comment", ["#", "//", "/*", "<!--", "--", "  ;", "%"])
def test_a_comment_alone_on_the_line_above(comment):
    text = f"{comment} parallelai: ignore[S105]\nx = 1\ny = 2\n"
    assert only(reported(finding(line=2, rule="S105")), text=text).state == "suppressed"
    assert only(reported(finding(line=3, rule="S105")), text=text).state == "open"


def test_a_comment_behind_code_is_about_its_own_line_only():
    text = "x = 1  # parallelai: ignore\npassword = 'y'\n"
    assert only(reported(finding(line=2, rule="S105")), text=text).state == "open"


def test_a_finding_without_a_rule_is_meant_by_its_category():
    text = "x = 1  # parallelai: ignore[security]\n"
    assert only(reported(finding(line=1, category="security")), text=text).state == "suppressed"
    assert only(reported(finding(line=1, category="security", rule="S105")), text=text).state == "open"


def test_refuted_stays_refuted():
    one = only(reported(finding(line=1, state="refuted")), text="x  # parallelai: ignore\n")
    assert one.state == "refuted"


# --- rank


def test_the_worst_most_agreed_and_surest_come_first():
    first = finding(severity=Severity.CRITICAL, line=9)
    second = finding(votes=2, line=8)
    third = finding(confidence=0.9, line=7)
    fourth = finding(line=6)
    fifth = finding(confidence=0.1, line=1)
    sixth = finding(file="src/b.py", confidence=0.1, line=1)
    seventh = replace(first, severity=Severity.INFO)
    ordered = [first, second, third, fourth, fifth, sixth, seventh]
    assert list(rank(reversed(ordered))) == ordered
