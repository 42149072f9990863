"""Which symbols matter for a workstream, and the map of them within its budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.work.context.index import Indexed, names_in, words_in
from parallelai.work.context.mapping import Symbol, draw, files_of
from parallelai.work.context.ranking import About, Ranked, rank


def _indexed(path: str, text: str) -> Indexed:
    return Indexed(path, names_in(path, text), words_in(text))


FILES = (
    _indexed(
        "src/ui/menu.py",
        "from src.core.items import Item, load_items\nclass Menu:\n  def show(self): load_items()",
    ),
    _indexed(
        "src/core/items.py",
        "class Item: ...\ndef load_items(): ...\ndef _secret(): ...\ndef save_items(): ...",
    ),
    _indexed("src/core/other.py", "from items import Item\ndef unrelated(): ..."),
    _indexed("src/core/more.py", "from items import Item\ndef export_ods(): ..."),
    _indexed("tests/test_items.py", "def load_items(): ..."),
)
ABOUT = About(owned=frozenset({"src/ui/menu.py"}))


def _names(ranked: tuple[Ranked, ...]) -> list[str]:
    return [one.name for one in ranked if not one.is_owned]


@pytest.mark.parametrize(
    ("path", "text", "names"),
    [
        ("a.py", "class App:\n    async def run(self): ...\nLIMIT = 3\n", ("App", "run", "LIMIT")),
        ("a.ts", "export interface Item {}\nfunction load() {}\nconst MAX = 1", ("Item", "load", "MAX")),
        ("a.go", "func (s *Store) Save() {}\ntype Store struct {}", ("Save", "Store")),
        ("a.rs", "pub fn parse() {}\nimpl X {}\ntrait Shape {}", ("parse", "Shape")),
        ("A.java", "class A { public int size(String x) { if (x) {} return 0; } }", ("size",)),
        ("a.c", "static int add(int a, int b) {\n  return a;\n}\n", ("add",)),
        ("a.rb", "module Shop\n  def self.sell; end\nend", ("Shop", "sell")),
        ("a.php", "<?php function pay() {}", ("pay",)),
    ],
)
def test_definitions_of_each_language_are_found(path: str, text: str, names: tuple[str, ...]) -> None:
    assert set(names) <= set(names_in(path, text))


@given(st.text(max_size=500))
def test_any_text_has_names_and_words(text: str) -> None:
    names = names_in("a.ts", text)
    assert len(names) == len(set(names))
    assert all(name in text for name in words_in(text))


def test_what_an_owned_file_uses_comes_before_what_it_does_not() -> None:
    names = _names(rank(FILES, ABOUT))
    assert set(names[:2]) == {"Item", "load_items"}
    assert "unrelated" not in names
    assert "_secret" not in names


def test_what_more_files_use_comes_first() -> None:
    owned = _indexed("own.py", "aardvark_case() or zebra_case()")
    lib = _indexed("kit.py", "def aardvark_case(): ...\ndef zebra_case(): ...")
    others = tuple(_indexed(f"u{number}.py", "zebra_case()") for number in range(3))
    assert _names(rank((owned, lib, *others), About(frozenset({"own.py"})))) == [
        "zebra_case",
        "aardvark_case",
    ]


def test_of_two_files_that_define_a_name_the_one_that_is_imported_comes_first() -> None:
    owned = _indexed("own.py", "from shop.zoo import feed_all")
    files = tuple(_indexed(f"shop/{name}.py", "def feed_all(): ...") for name in ("farm", "zoo"))
    package = _indexed("shop/zoo_two/__init__.py", "def feed_all(): ...")
    ranked = rank((owned, *files, package), About(frozenset({"own.py"})))
    assert ranked[0].path == "shop/zoo.py"
    named = rank(
        (_indexed("own.py", "from zoo_two import feed_all"), package, *files), About(frozenset({"own.py"}))
    )
    assert named[0].path == "shop/zoo_two/__init__.py"


def test_what_is_owned_is_there_whether_used_or_not() -> None:
    owned = [one.name for one in rank(FILES, ABOUT) if one.is_owned]
    assert set(owned) == {"Menu", "show"}


def test_what_the_task_names_is_found_wherever_it_is() -> None:
    about = About(ABOUT.owned, words=frozenset({"export_ods"}))
    assert "export_ods" in _names(rank(FILES, about))
    assert "export_ods" not in _names(rank(FILES, ABOUT))


def test_an_interface_is_shown_whole() -> None:
    about = About(ABOUT.owned, interfaces=frozenset({"src/core/other.py"}))
    assert "unrelated" in _names(rank(FILES, about))


def test_tests_are_far_from_what_is_none() -> None:
    ranked = rank(FILES, ABOUT)
    places = [one.path for one in ranked if one.name == "load_items"]
    assert places[0] == "src/core/items.py"


def test_where_nothing_is_there_yet_the_most_used_is_shown() -> None:
    assert _names(rank(FILES, About()))[0] == "Item"


@given(st.permutations(FILES))
def test_the_order_of_the_files_does_not_matter(files: list[Indexed]) -> None:
    assert rank(files, ABOUT) == rank(FILES, ABOUT)


def test_a_name_that_everybody_defines_is_no_news() -> None:
    many = tuple(_indexed(f"p{number}/x.py", "def run_all(): ...") for number in range(20))
    owned = _indexed("own.py", "run_all()")
    assert "run_all" not in _names(rank((*many, owned), About(owned=frozenset({"own.py"}))))


# The map


OUTLINES = {
    "src/ui/menu.py": (Symbol("Menu", 2, "class Menu"), Symbol("Menu.show", 3, "def show(self)")),
    "src/core/items.py": (Symbol("Item", 1, "class Item"), Symbol("load_items", 2, "def load_items()")),
}


def test_a_map_has_paths_lines_and_signatures() -> None:
    assert draw(rank(FILES, ABOUT), OUTLINES, 1000) == (
        "In the files that you own:\n"
        "src/ui/menu.py\n"
        "     2  class Menu\n"
        "     3  def show(self)\n"
        "Used by them, or by your task:\n"
        "src/core/items.py\n"
        "     1  class Item\n"
        "     2  def load_items()"
    )


RANKED = st.lists(
    st.builds(
        Ranked,
        st.sampled_from(["a.py", "b.py", "c.py"]),
        st.sampled_from("fgh"),
        st.floats(0, 9),
        st.booleans(),
    ),
    max_size=30,
)


@given(RANKED, st.integers(0, 400), st.text(max_size=300))
def test_a_map_stays_within_its_budget(ranked: list[Ranked], tokens: int, signature: str) -> None:
    outlines = {
        path: tuple(Symbol(f"X.{name}", n, signature) for n, name in enumerate("fghf", 1))
        for path in files_of(ranked)
    }
    text = draw(ranked, outlines, tokens)
    assert len(text) <= tokens * 4
    assert all(line.isprintable() for line in text.split("\n"))


def test_what_is_owned_leaves_room_for_what_it_uses() -> None:
    own = [Ranked("own.py", f"f{number}", 9.0, True) for number in range(300)]
    other = [Ranked("other.py", f"g{number}", 1.0, False) for number in range(300)]
    outlines = {
        "own.py": tuple(Symbol(f"f{number}", number, f"def f{number}()") for number in range(300)),
        "other.py": tuple(Symbol(f"g{number}", number, f"def g{number}()") for number in range(300)),
    }
    text = draw([*own, *other], outlines, 500)
    assert text.count("def f") > 20
    assert text.count("def g") > 20
    alone = draw(own, outlines, 500)
    assert alone.count("def f") > 1.7 * text.count("def f")
    few = draw([*own, *other[:2]], outlines, 500)
    assert few.count("def f") > 1.5 * text.count("def f"), "room that is left goes to what is owned"


def test_a_file_that_is_not_there_any_more_is_left_out() -> None:
    assert draw([Ranked("gone.py", "f", 1.0, False)], {}, 1000) == ""
    assert draw([], OUTLINES, 1000) == ""
