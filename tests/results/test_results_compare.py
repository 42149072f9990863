"""What was fixed, what is new, what stayed: also where lines moved, code was edited, or other words were found."""

from __future__ import annotations

from hypothesis import given
from results_documents import document, documents, reported

from parallelai.records import Coverage, Finding, Severity
from parallelai.results.collect import Collector
from parallelai.results.compare import compare

SOURCE = """\
import os


def total(items):
    return sum(items) / len(items)


def check(user):
    assert user
    return user.name
"""


def found(line, message="Use of `assert` detected", rule=None, file="src/a.py"):
    return Finding(file=file, line=(line, line), severity=Severity.LOW, message=message, rule=rule)


def run(source, *findings, covered=("src/a.py",)):
    collected = Collector(lambda _file: source).collect([reported(*findings)])
    return document(collected.findings, files=Coverage(covered=covered))


def counts(a, b):
    result = compare(a, b)
    return len(result.fixed), len(result.new), len(result.stayed), len(result.unseen)


def test_lines_that_move_change_nothing():
    a = run(SOURCE, found(9, rule="S101"), found(1, rule="F401"))
    b = run("# new\n" * 70 + SOURCE, found(79, rule="S101"), found(71, rule="F401"))
    assert counts(a, b) == (0, 0, 2, 0)
    assert [one.line[0] for one in compare(a, b).stayed] == [one.line[0] for one in b.findings]


def test_code_that_was_edited_a_little_still_has_its_finding():
    a = run(SOURCE, found(9, rule="S101"), found(1, "`os` imported but unused", "F401"))
    edited = "# new\n" * 90 + SOURCE.replace("assert user", "assert user, 'nobody'").replace(
        "import os", "import os, re"
    )
    b = run(edited, found(99, rule="S101"), found(91, "`os` imported but unused", "F401"))
    assert counts(a, b) == (2, 2, 0, 0), "90 lines away nothing tells that it is the same code"
    near = edited.removeprefix("# new\n" * 90)
    b = run(near, found(9, rule="S101"), found(1, "`os` imported but unused", "F401"))
    assert counts(a, b) == (0, 0, 2, 0)


def test_lines_around_tell_where_edited_code_went():
    a = run(SOURCE, found(9, rule="S101"), found(5, "odd", "X1"))
    b = run(
        "# new\n" * 90 + SOURCE.replace("assert user", "assert user, 'nobody'"),
        found(99, rule="S101"),
        found(95, "odd", "X1"),
    )
    assert counts(a, b) == (0, 0, 2, 0)


def test_the_same_rule_elsewhere_is_another_finding():
    a = run(SOURCE, found(9, rule="S101"))
    b = run(SOURCE.replace("    assert user\n", "") + "\n" * 60 + "assert used\n", found(70, rule="S101"))
    assert counts(a, b) == (1, 1, 0, 0)


def test_a_reviewer_who_finds_other_words_means_the_same_matter():
    a = run(SOURCE, found(5, "An empty list divides by zero: `len(items)` is 0 (ZeroDivisionError)"))
    b = run(
        SOURCE.replace("sum(items)", "float(sum(items))"),
        found(5, "ZeroDivisionError when `items` is empty: division by zero"),
    )
    assert counts(a, b) == (0, 0, 1, 0)
    other = run(
        SOURCE.replace("sum(items)", "math.fsum(items)"), found(5, "The module `math` is not imported here")
    )
    assert counts(a, other) == (1, 1, 0, 0)


def test_findings_move_with_a_file_that_was_renamed():
    a = run(SOURCE, found(9, rule="S101"))
    b = run(SOURCE, found(9, rule="S101", file="src/b.py"), covered=("src/b.py",))
    assert counts(a, b) == (0, 0, 1, 0)
    copied = run(SOURCE, found(9, rule="S101", file="src/b.py"), covered=("src/a.py", "src/b.py"))
    assert counts(a, copied) == (1, 1, 0, 0), "the old file is there, and clean"


def test_one_of_two_equal_ones_that_was_fixed_is_one_fixed():
    twice = "x\nassert a\ny\nassert a\n"
    a = run(twice, found(2, rule="S101"), found(4, rule="S101"))
    assert counts(a, run("x\ny\nassert a\n", found(3, rule="S101"))) == (1, 0, 1, 0)


@given(documents(), documents())
def test_every_finding_that_was_or_is_there_is_told_once(a, b):
    result = compare(a, b)
    is_present = [one for one in b.findings if one.state in ("open", "baseline")]
    assert len(result.new) + len(result.stayed) == len(is_present)
    was_present = [one for one in a.findings if one.state in ("open", "baseline")]
    assert len(result.fixed) + len(result.unseen) <= len(was_present)


@given(documents())
def test_a_run_compared_with_itself_has_changed_nothing(a):
    result = compare(a, a)
    assert (result.fixed, result.new, result.unseen) == ((), (), ())
