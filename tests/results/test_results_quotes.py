"""A model's finding holds only where its quote stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_documents import finding

from parallelai.records import Severity
from parallelai.results.quotes import Source, place

SOURCE = """\
import os

password = "x"
def load(path,
         mode):
    with open(path) as file:
        # read all of it
        return file.read( )

def save(path):
    with open(path) as file:
        return None
total = 10
total = 1
"""


def placed(quote, line=1, *, source=SOURCE, **fields):
    return place([finding(line=line, quote=quote, **fields)], lambda _file: source)


def only(quote, line=1, **given):
    (one,) = placed(quote, line, **given).findings
    return one


@pytest.mark.parametrize(
    ("quote", "line", "column"),
    [
        ('password = "x"', (3, 3), (1, 15)),
        ("  return file.read( )  ", (8, 8), (9, 28)),
        ("file.read( )\n", (8, 8), (16, 28)),
        ("def load(path,\r\n         mode):", (4, 5), (1, 16)),
        ("```python\ndef save(path):\n```", (10, 10), (1, 16)),
        ("`def save(path):`", (10, 10), (1, 16)),
        ("def load(path, mode):", (4, 5), None),
        ("return  file.read()  ".replace("()", "( )"), (8, 8), None),
        ("password = “x”", (3, 3), None),
        ("6:     with open(path) as file:\n7:         # read all of it", (6, 7), None),
        ("- def save(path):\n-     with open(path) as file:", (10, 11), None),
        ("with open(path) as file:\n    ...\n    return file.read( )", (6, 8), None),
        ("with open(path) as file:\n    return file.read( )", (6, 8), None),
        ("password = ••••", (3, 3), None),
        ("def load(path, …", (4, 4), None),
    ],
)
def test_a_quote_gives_the_place(quote, line, column):
    one = only(quote, 1, column=(70, 71))
    assert (one.line, one.column) == (line, column)


@pytest.mark.parametrize(("near", "line"), [(1, 6), (7, 6), (9, 11), (14, 11)])
def test_of_several_places_the_nearest_is_taken(near, line):
    assert only("with open(path) as file:", near).line == (line, line)


def test_whole_words_go_before_parts_of_words():
    assert only("total = 1", 13).line == (14, 14)
    assert only("total = 10", 14).line == (13, 13)
    assert only("otal = 10", 14).line == (13, 13)


@pytest.mark.parametrize(
    "quote",
    [
        None,
        "",
        "   ",
        "```\n```",
        "eval(input())",
        "}",
        "...",
        "def load(path, mode):\n    eval(path)\n    os.system(mode)\n    shutil.rmtree(path)",
        "with open(path) as file:\n    eval(path)\n    os.system(mode)\n    rmtree(path)",
        "••••",
    ],
)
def test_without_a_quote_that_stands_there_a_finding_is_dropped_and_counted(quote):
    result = placed(quote)
    assert result.findings == ()
    assert result.dropped == {"quote_not_found": 1}


@pytest.mark.parametrize("source", [None, ""])
def test_what_a_model_says_of_a_file_that_cannot_be_read_does_not_hold(source):
    assert placed("import os", source=source).dropped == {"quote_not_found": 1}


def test_invisible_characters_do_not_hide_code_from_a_review():
    one = only("if user == 'admin': grant()", source="a = 1\nif user == '\u202eadmin\u2066': grant()\n")
    assert one.line == (2, 2)


def test_findings_of_an_analyser_pass_as_they_are():
    given_ = [finding(line=3), finding(line=99, severity=Severity.LOW)]
    result = place(given_, lambda _file: SOURCE, must_quote=False)
    assert list(result.findings) == given_
    assert result.dropped == {"quote_not_found": 0}


@pytest.mark.parametrize(
    ("quote", "line", "where"),
    [
        ("password = ••••", 3, (3, 3)),
        ("password = ••••", 9, (3, 3)),
        ("with open(path) as file:\n    return ••••", 6, (6, 8)),
        ("••••", 3, (3, 3)),
        ("KEY = ••••", 99, (99, 99)),
    ],
)
def test_a_secret_that_was_masked_costs_no_analyser_its_finding(quote, line, where):
    given_ = [finding(line=line, quote=quote)]
    (one,) = place(given_, lambda _file: SOURCE, must_quote=False).findings
    assert one.line == where


def test_each_file_is_read_once():
    seen = []

    def read(file):
        seen.append(file)
        return SOURCE

    place([finding(file=name, quote="import os") for name in ("a", "b", "a")], read)
    assert seen == ["a", "b"]


_line = st.text(st.sampled_from("abc(_) =\t\u00e9値"), max_size=12)


@given(st.lists(_line, min_size=1, max_size=12), st.data())
def test_every_copied_piece_of_a_file_is_found_where_it_stands(lines, data):
    text = "\n".join(lines)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    piece = text[start:end]
    stripped = piece.strip()
    near = text.count("\n", 0, start + len(piece) - len(piece.lstrip())) + 1
    found = Source(text).locate(piece, (near, near))
    if not any(character.isalnum() or character == "_" for character in stripped):
        assert found is None
        return
    assert found is not None
    if found.column is not None:
        first, last = found.line
        there = text.split("\n")[first - 1 : last]
        there[-1] = there[-1][: found.column[1] - 1]
        there[0] = there[0][found.column[0] - 1 :]
        assert "\n".join(there) == stripped


@given(st.text(max_size=80), st.text(max_size=80), st.integers(-5, 50))
def test_nothing_that_is_quoted_breaks_the_search(text, quote, line):
    found = Source(text).locate(quote, (line, line))
    if found is not None:
        assert 1 <= found.line[0] <= found.line[1] <= len(Source(text).lines)


def test_hostile_quotes_end_soon():
    source = Source("a" * 20_000 + "\n" + "ab " * 5_000)
    for quote in ("a" * 10_000, "a", "a…" * 2_000 + "!", "\n".join(["aaaaaaaa b"] * 500)):
        found = source.locate(quote, (1, 1))
        assert found is None or 1 <= found.line[0] <= found.line[1] <= 2
