"""Definitions, uses and syntax, by tree-sitter, in each language."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parallelai.work.symbols import definitions, language_of, parses, references, uses
from parallelai.work.symbols.grammars import MOST_BYTES, load
from parallelai.work.symbols.languages import LANGUAGES

PYTHON = '''\
LIMIT = 1

@cache
def load(path, *, strict=True):
    """Load a file.

    At once.
    """
    return open(path).read()


class App(Base):  # the main one
    def menu(self):
        return load("x", strict=LIMIT)

    async def _hidden(self):
        def inner():
            pass
'''
GO = """\
package shop

// Total adds up.
// Of all.
func Total(items []Item) int { return sum(items) }

func (c *Cart) clear() {}

type Cart struct{ items []Item }

const Most = 1
"""
JAVASCRIPT = """\
const fs = require('fs');
exports.use = function use(fn) { return fs.open(fn); };
// Says hello.
function hello() {}
class A { run() { this.go(); } #own() {} }
function hidden() {}
module.exports = { hello, A };
"""
TYPESCRIPT = """\
export const twice = (a: number) => a * 2;
export class Cart { private items() {} total(): number { return twice(1); } }
interface Local { size(): number }
export { Local as Other };
"""
RUST = """\
/// Adds.
pub fn add(a: u8) -> u8 { helper(a) }
impl<T> Show for Bar<T> { pub fn show(&self) {} fn own(&self) {} }
pub struct Bar<T> { x: T }
"""
JAVA = "public class Shop { private int left; public void sell(int n) { log(n); } private void own() {} }\n"
C = "static int own(int a) { return used(a); }\nchar *name(void);\n#define TWICE(x) x\nstruct item { int a; };\n"
RUBY = "module M\n  class A < B\n    def run(a); go(a); end\n    private\n    def own; end\n  end\nend\n"
PHP = "<?php\nfunction add($a) { return used($a); }\nclass A { private function own() {} static function run() {} }\n"


def found(path: str, text: str) -> dict[str, tuple[str, int, int, bool]]:
    return {one.name: (one.kind, one.first, one.last, one.is_public) for one in definitions(path, text)}


def test_python() -> None:
    assert found("a.py", PYTHON) == {
        "LIMIT": ("constant", 1, 1, True),
        "load": ("function", 3, 9, True),
        "App": ("class", 12, 18, True),
        "App.menu": ("method", 13, 14, True),
        "App._hidden": ("method", 16, 18, False),
        "App._hidden.inner": ("function", 17, 18, False),
    }
    by_name = {one.name: one for one in definitions("a.py", PYTHON)}
    assert by_name["load"].signature == "def load(path, *, strict=True)"
    assert by_name["load"].docline == "Load a file."
    assert by_name["App"].signature == "class App(Base)"
    assert by_name["App.menu"].bare == "menu"
    assert {"load", "open", "read", "Base", "LIMIT", "cache"} <= references("a.py", PYTHON)
    assert not {"App", "menu", "strict", "_hidden"} & references("a.py", PYTHON)
    assert [(use.line, use.is_call) for use in uses("a.py", PYTHON) if use.name == "load"] == [(14, True)]


@pytest.mark.parametrize(
    ("path", "text", "expected", "used"),
    [
        (
            "a.go",
            GO,
            {"Total": True, "Cart.clear": False, "Cart": True, "Most": True},
            {"sum", "Item", "items"},
        ),
        (
            "a.js",
            JAVASCRIPT,
            {
                "fs": False,
                "use": True,
                "hello": True,
                "A": True,
                "A.run": True,
                "A.#own": False,
                "hidden": False,
            },
            {"require", "open", "go"},
        ),
        (
            "a.ts",
            TYPESCRIPT,
            {
                "twice": True,
                "Cart": True,
                "Cart.items": False,
                "Cart.total": True,
                "Local": True,
                "Local.size": True,
            },
            {"twice"},
        ),
        ("a.rs", RUST, {"add": True, "Bar.show": True, "Bar.own": False, "Bar": True}, {"helper", "Show"}),
        ("a.java", JAVA, {"Shop": True, "Shop.left": True, "Shop.sell": True, "Shop.own": False}, {"log"}),
        ("a.c", C, {"own": False, "name": True, "TWICE": True, "item": True}, {"used"}),
        ("a.rb", RUBY, {"M": True, "M.A": True, "M.A.run": True, "M.A.own": False}, {"B", "go"}),
        ("a.php", PHP, {"add": True, "A": True, "A.own": False, "A.run": True}, {"used"}),
    ],
)
def test_other_languages(path: str, text: str, expected: dict[str, bool], used: set[str]) -> None:
    assert {one.name: one.is_public for one in definitions(path, text)} == expected
    assert used <= references(path, text)
    assert parses(path, text) is True
    assert parses(path, text + "\n}}} ((") is False


def test_documentation_above() -> None:
    docs = {one.name: one.docline for one in (*definitions("a.go", GO), *definitions("a.js", JAVASCRIPT))}
    assert docs["Total"] == "Total adds up."
    assert docs["hello"] == "Says hello."
    assert docs["hidden"] == ""


def test_a_group_is_not_one_definition() -> None:
    text = "package a\n\ntype (\n\tOne int\n\tTwo string\n)\n"
    assert found("a.go", text) == {"One": ("type", 4, 4, True), "Two": ("type", 5, 5, True)}


def test_unknown_language() -> None:
    assert language_of("notes.txt") is None
    assert language_of("A.PY") == "python"
    assert definitions("notes.txt", "def a(): pass") == ()
    assert references("notes.txt", "a()") == frozenset()
    assert parses("notes.txt", "a") is None


@pytest.mark.parametrize("language", [one.name for one in LANGUAGES])
def test_each_grammar_takes_its_queries(language: str) -> None:
    assert load(language) is not None


@pytest.mark.parametrize(
    "text",
    [b"\0def a(): pass", b"x = 1\n" * (MOST_BYTES // 6 + 1), b"(" * 100_000, b"[" * 3_000, b"{" * 2_500],
)
@pytest.mark.parametrize("path", ["a.py", "a.go", "a.c"])
def test_hostile_files_are_of_no_known_language(path: str, text: bytes) -> None:
    assert definitions(path, text) == ()
    assert uses(path, text) == ()
    assert parses(path, text) is None


def test_deep_nesting() -> None:
    classes = "".join(f"{' ' * depth}class C{depth}:\n" for depth in range(400)) + " " * 400 + "pass\n"
    names = definitions("a.py", classes)
    assert len(names) == 400
    assert all(len(one.name) <= 300 for one in names)
    assert parses("a.py", "x = " + "(" * 1_000 + ")" * 1_000 + "\n") is True
    assert definitions("a.js", "function f(){" * 900 + "}" * 900)


def test_not_utf8() -> None:
    (one,) = definitions("a.py", b"def caf\xe9(x): pass  # \xff\xfe\n")[:1] or (None,)
    assert one is None or one.name
    assert definitions("a.py", "def größe(): pass\n")[0].name == "größe"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([one.suffixes[0] for one in LANGUAGES]),
    st.lists(
        st.sampled_from([*PYTHON.split(), *GO.split(), *RUBY.split(), "\n", "\n  ", "{", "}", "("]),
        max_size=60,
    ),
    st.binary(max_size=20),
)
def test_never_raises(suffix: str, words: list[str], tail: bytes) -> None:
    text = " ".join(words).encode() + tail
    lines = text.count(b"\n") + 1
    for one in definitions("a" + suffix, text):
        assert 1 <= one.first <= one.last <= lines
        assert one.name
    for use in uses("a" + suffix, text):
        assert 1 <= use.line <= lines
    assert parses("a" + suffix, text) in (True, False, None)


def test_nothing_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, parallelai.work.symbols as s; print('tree_sitter' in sys.modules);"
        "s.definitions('a.py', 'x = 1'); print('tree_sitter_go' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["False", "False"]
