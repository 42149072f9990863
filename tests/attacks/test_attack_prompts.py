"""Texts that are rendered (descriptions, `when`, templates) may come from anybody: they stay small and quick."""

from __future__ import annotations

import pytest

from parallelai.errors import UsageError
from parallelai.plan.sandbox import evaluate_expression, render_text

NESTED = "{% for a in [1] %}" * 25 + "x" + "{% endfor %}" * 25


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1|round(-1000000000) }}",  # Python would write 10 to the power of it first
        "{{ 1|round(1000000000, 'ceil') }}",
        "{{ 2.5|round(1, '__dict__') }}",
        "{{ ('a' * 2000000)|replace('a', 'b' * 2000000, -1)|length }}",  # 4 TB
        "{{ '%09000000000d' is divisibleby(5) }}",  # formatting, in disguise
        "{{ '%09000000000d' is odd }}",
        "{{ '%09000000000d' is even }}",
        "{{ range(200000)|sort|list|length }}" * 5000,  # each is allowed, all together take minutes
        "{% if range(200000)|list|length %}{% endif %}" * 5000,
        NESTED,
        "{% if 1 %}" * 150 + "{% endif %}" * 150,
        "{{ range(a=1, a=2) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ [range]|map(attribute='__globals__')|list }}",
        "{{ '{0.__class__}'.format(1) }}",
    ],
)
def test_a_text_that_would_take_too_much_or_reach_out_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="the text"):
        render_text(source, {}, "the text")


@pytest.mark.parametrize("source", ["1|round(-1000000000)", "'%09000000000d' is odd", "range(a=1, a=2)"])
def test_a_condition_is_held_to_the_same(source: str) -> None:
    with pytest.raises(UsageError, match="`when`"):
        evaluate_expression(source, {}, "`when`")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{ 2.567|round(1) }} {{ 1.1|round(0, 'ceil') }}", "2.6 2.0"),
        ("{{ 'aaa'|replace('a', 'b') }} {{ 'aaa'|replace('a', 'b', 1) }}", "bbb baa"),
        ("{{ 'aaa'|replace('a', 'b', -1) }} {{ 'aaa'|replace('a', 'b', 0) }}", "bbb aaa"),
        ("{{ 4 is divisibleby(2) }} {{ 3 is odd }} {{ 3 is even }}", "True True False"),
        ("{{ [3, 1, 2]|sort|first }}", "1"),
    ],
)
def test_what_is_refused_to_attackers_still_works(source: str, shown: str) -> None:
    assert render_text(source, {}, "the text") == shown
