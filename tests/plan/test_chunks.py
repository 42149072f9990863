"""Cutting files into parts: every line once, in order, no definition cut that fits."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parallelai
from parallelai.plan.chunks import CHARACTERS_PER_TOKEN, chunk

_FRAGMENTS = [
    "def f(a):", "    return 1", "class A:", "    def m(self):", "        pass", "", "", "@decorator", "# about it",
    "x = [", "    1,", "]", 'text = """', "not code", '"""', "if x:", "else:", "function g() {", "}", "\tgo();",
    "// said", "end", " ", "try:", "except E:", "#include <a>", "*", "\x0c", "é値", "a" * 90,
]  # fmt: skip
_texts = st.lists(st.sampled_from(_FRAGMENTS), max_size=60).map("\n".join)
_names = st.sampled_from(["a.py", "a.js", "a.rb", "a", ""])


@given(_texts | st.text(), st.integers(1, 60), _names, st.booleans())
def test_every_line_is_in_one_part_in_order_and_parts_keep_to_their_size(
    text: str, tokens: int, path: str, ends_with_a_line_end: bool
) -> None:
    text += "\n" * ends_with_a_line_end
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    parts = chunk(text, tokens, path=path)
    assert [number for first, last in parts for number in range(first, last + 1)] == list(
        range(1, len(lines) + 1)
    )
    for first, last in parts:
        assert first <= last
        size = sum(len(line) + 1 for line in lines[first - 1 : last])
        assert size <= tokens * CHARACTERS_PER_TOKEN or first == last, "only one long line may be larger"


def _definitions(text: str) -> list[tuple[int, int]]:
    """The lines of each function that holds no other, with its decorators."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            found.append((first, node.end_lineno or first))
    return found


@pytest.mark.parametrize("tokens", [300, 500, 1200])
def test_no_function_of_real_python_is_cut_that_fits(tokens: int) -> None:
    cut = whole = 0
    for path in sorted(Path(parallelai.__file__).parent.glob("plan/*.py")):
        text = path.read_text()
        lines = text.split("\n")
        parts = chunk(text, tokens, path=path.name)
        for first, last in _definitions(text):
            if sum(len(line) + 1 for line in lines[first - 1 : last]) > tokens * CHARACTERS_PER_TOKEN * 0.9:
                continue
            if any(a <= first and last <= b for a, b in parts):
                whole += 1
            else:
                cut += 1
    assert (cut, whole > 100) == (0, True)


JAVA = """\
package a;

import b.C;

/** Does things. */
@Service
public class Things {
    private final C c;

    /** Makes them. */
    @Inject
    public Things(C c) {
        this.c = c;
    }

    // finds one
    public C find(String name) {
        if (name == null) {
            return null;

        }
        return c.get(name);
    }

    public void go() {
        c.go();
    }
}
"""


@pytest.mark.parametrize(("tokens", "starts"), [(45, [1, 10, 16, 25]), (75, [1, 16]), (200, [1])])
def test_other_languages_are_cut_where_definitions_begin(tokens: int, starts: list[int]) -> None:
    assert [first for first, _ in chunk(JAVA, tokens, path="Things.java")] == starts


def test_comments_and_decorators_stay_with_their_definition() -> None:
    text = "a = 1\n\n\n# about f\n@one\n@two(3)\ndef f():\n    return 1\n"
    assert chunk(text, 12, path="a.py") == [(1, 3), (4, 8)]
    assert chunk(text, 12, path="a.rb") == [(1, 3), (4, 8)]


def test_a_string_is_not_cut_where_another_cut_is_left() -> None:
    text = 'x = """\n\nlooks = 1\n\ndef like_code(): pass\n\n"""\ny = 2\nz = 3\n'
    assert chunk(text, 13, path="a.py") == [(1, 7), (8, 9)]


@pytest.mark.parametrize("text", ["def f(:\n" * 40, "(" * 3000, "x = 1\x00\n" * 40, "'\\d'\n" * 90])
def test_python_that_is_none_is_cut_all_the_same(text: str) -> None:
    parts = chunk(text, 20, path="a.py")
    assert parts[0][0] == 1


def test_an_empty_text_has_no_part() -> None:
    assert chunk("", 10) == []
    assert chunk("\n", 10) == [(1, 1)]
