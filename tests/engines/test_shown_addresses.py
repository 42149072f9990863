"""Addresses as they are kept in journals and shown: no user, no password, no query, whatever was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.client.addresses import shown
from parallelai.engines.models.http import shown_url


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("https://u:PASS@h.example/v1?key=PASS#x", "https://h.example/v1"),
        ("//u:PASS@h.example/v1", "http://h.example/v1"),
        ("u:PASS@h.example", "http://h.example"),
        ("https://h.example/~u@x/v1", "https://h.example/~u@x/v1"),
        ("http://[::1", "(what is no address)"),
    ],
)
def test_what_is_shown(written: str, expected: str) -> None:
    assert shown(written) == expected


@given(
    st.sampled_from(["https://", "http://", "//", ""]),
    st.text(alphabet="ab:@.%"),
    st.text(alphabet="xy/?#:@"),
)
def test_no_password_is_shown_whatever_stands_around_it(scheme: str, user: str, path: str) -> None:
    assert "SECRET" not in shown(f"{scheme}{user}:SECRET@h.example{path}")


@given(st.text())
def test_what_anybody_may_have_written_ends_nothing(written: str) -> None:
    assert isinstance(shown_url(written), str)
    assert isinstance(shown(written), str)
