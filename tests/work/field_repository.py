"""A small program with real git, on which all plans of `examples/field` make sense, and the work of each workstream.

`build` makes it: `src/bookshelf`, tests that pytest runs, docs. `with_scripts` gives a plan's workstreams the work
that a scripted model, or `scripted_hands.py`, does for each: real code, with real tests.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from repositories import Repository

from scripted import block

EXAMPLES = Path(__file__).parents[2] / "examples" / "field"
PLANS = ("book-cataloger", "seven-streams", "four-tracks", "five-days")
HANDS = (sys.executable, "tools/hands.py")
"""The command that does what a script in its prompt says."""

Step = dict[str, Any]

FILES = {
    ".gitignore": "__pycache__/\n.pytest_cache/\n",
    "README.md": "# Bookshelf\n\nA catalogue of books.\n",
    "pyproject.toml": (
        '[project]\nname = "bookshelf"\nversion = "0.1.0"\n\n'
        '[tool.pytest.ini_options]\npythonpath = ["src"]\ntestpaths = ["tests"]\n'
        # What these tests' own pytest has installed is not the program's, and takes most of its start.
        'addopts = "--disable-plugin-autoload -p no:cacheprovider"\n'
    ),
    "docs/index.md": "# Bookshelf\n\nStart with the catalogue.\n",
    "docs/coordination/integration-points.md": "# Where parts meet\n\n- `bookshelf.main.COMMANDS`\n",
    "src/bookshelf/__init__.py": '"""A catalogue of books."""\n',
    "src/bookshelf/catalog.py": '''\
"""Books, and the catalogue that they are in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Book:
    """One book."""

    title: str
    author: str = ""


@dataclass
class Catalog:
    """Books, in the order in which they came."""

    books: list[Book] = field(default_factory=list)

    def add(self, book: Book) -> None:
        """Take a book in."""
        self.books.append(book)

    def titles(self) -> list[str]:
        """Give all titles, sorted."""
        return sorted(book.title for book in self.books)
''',
    "src/bookshelf/main.py": '''\
"""The command line: each command is a function of its arguments that gives what is printed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

COMMANDS: dict[str, Callable[[Sequence[str]], str]] = {"version": lambda arguments: "0.1.0"}


def main(argv: Sequence[str]) -> int:
    """Run a command; 2 for one that there is not."""
    if not argv or argv[0] not in COMMANDS:
        print(f"commands: {', '.join(sorted(COMMANDS))}", file=sys.stderr)
        return 2
    print(COMMANDS[argv[0]](argv[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
''',
    **{
        f"src/bookshelf/{name}/__init__.py": f'"""{text}"""\n'
        for name, text in {
            "gui": "What users see.",
            "storage": "Where books are kept.",
            "models": "What a book is.",
            "search": "Finding books.",
            "export": "Writing books out.",
        }.items()
    },
    "tests/test_catalog.py": """\
from bookshelf.catalog import Book, Catalog


def test_titles_are_sorted():
    catalog = Catalog()
    catalog.add(Book("Ulysses"))
    catalog.add(Book("Emma"))
    assert catalog.titles() == ["Emma", "Ulysses"]
""",
    "tests/test_main.py": """\
from bookshelf.main import COMMANDS, main


def test_a_command_is_run(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out == "0.1.0\\n"
    assert main(["nonesuch"]) == 2


def test_commands_have_names():
    assert "version" in COMMANDS
""",
}


def write(path: str, text: str) -> Step:
    """A new file."""
    return {"tool": "write", "path": path, "text": text}


def edit(path: str, old: str, new: str) -> tuple[Step, Step]:
    """A change of a file, which real assistants make only after they have read it."""
    return {"tool": "read", "path": path}, {"tool": "edit", "path": path, "old": old, "new": new}


_SQLITE = '''\
"""Books in an SQLite file."""

import sqlite3

from bookshelf.catalog import Book, Catalog


def load(path):
    catalog = Catalog()
    with sqlite3.connect(path) as connection:
        connection.execute("create table if not exists books (title text, author text)")
        for title, author in connection.execute("select title, author from books order by rowid"):
            catalog.add(Book(title, author))
    connection.close()
    return catalog


def add(path, book):
    load(path)
    with sqlite3.connect(path) as connection:
        connection.execute("insert into books values (?, ?)", (book.title, book.author))
    connection.close()
'''
_WINDOW = '''\
"""The catalogue as lines."""


def lines(catalog, part=""):
    return [title for title in catalog.titles() if part.lower() in title.lower()]
'''
_JSON_FILE = '''\
"""Books in a JSON file."""

import json
from dataclasses import asdict
from pathlib import Path

from bookshelf.catalog import Book, Catalog


def save(catalog, path):
    new = Path(path).with_suffix(".new")
    new.write_text(json.dumps([asdict(book) for book in catalog.books]), encoding="utf-8")
    new.replace(path)


def load(path):
    return Catalog([Book(**entry) for entry in json.loads(Path(path).read_text(encoding="utf-8"))])
'''
_WORDS = '''\
"""Finding books by words."""


def find(catalog, words):
    wanted = words.lower().split()
    return [b for b in catalog.books if all(w in f"{b.title} {b.author}".lower() for w in wanted)]
'''
_CSV = '''\
"""The catalogue as CSV."""

import csv
import io


def to_csv(catalog):
    text = io.StringIO()
    csv.writer(text, lineterminator="\\n").writerows((book.title, book.author) for book in catalog.books)
    return text.getvalue()
'''
_TEST_STORED = """\
from bookshelf.catalog import Book, Catalog
from bookshelf.storage.json_file import load, save


def test_what_is_saved_is_loaded(tmp_path):
    catalog = Catalog([Book("Émile", "Rousseau")])
    save(catalog, tmp_path / "books.json")
    assert load(tmp_path / "books.json") == catalog
"""
_TEST_FOUND = """\
from bookshelf.catalog import Book, Catalog
from bookshelf.search.words import find


def test_words_are_found_in_any_case():
    catalog = Catalog([Book("Emma", "Jane Austen"), Book("Ulysses", "James Joyce")])
    assert [book.title for book in find(catalog, "JANE emma")] == ["Emma"]
"""
_TEST_WRITTEN = """\
from bookshelf.catalog import Book, Catalog
from bookshelf.export.csv_file import to_csv


def test_a_comma_is_quoted():
    assert to_csv(Catalog([Book("Eats, Shoots", "Truss")])) == '"Eats, Shoots",Truss\\n'
"""
_COMMANDS = 'COMMANDS: dict[str, Callable[[Sequence[str]], str]] = {"version": lambda arguments: "0.1.0"}\n'

_CATALOGER: dict[str, tuple[Step, ...]] = {
    "gui": (write("src/bookshelf/gui/window.py", _WINDOW),),
    "backend": (write("src/bookshelf/storage/sqlite_file.py", _SQLITE),),
    "testing": (
        write(
            "tests/test_sqlite_file.py",
            "from bookshelf.catalog import Book\nfrom bookshelf.storage.sqlite_file import add, load\n\n\n"
            "def test_a_book_is_kept(tmp_path):\n    assert load(tmp_path / 'b.db').books == []\n"
            "    add(tmp_path / 'b.db', Book('Émile', 'Rousseau'))\n"
            "    assert load(tmp_path / 'b.db').titles() == ['Émile']\n",
        ),
        write(
            "tests/test_window.py",
            "from bookshelf.catalog import Book, Catalog\nfrom bookshelf.gui.window import lines\n\n\n"
            "def test_a_part_is_found():\n    assert lines(Catalog()) == []\n"
            "    assert lines(Catalog([Book('Emma'), Book('Émile')]), 'EMM') == ['Emma']\n",
        ),
    ),
    "integration": edit(
        "src/bookshelf/main.py",
        _COMMANDS,
        _COMMANDS
        + "\n\ndef _add(arguments: Sequence[str]) -> str:\n    from bookshelf.catalog import Book\n"
        + "    from bookshelf.storage.sqlite_file import add\n\n"
        + '    add("books.db", Book(*arguments))\n    return f"added {arguments[0]}"\n\n\nCOMMANDS["add"] = _add\n',
    ),
}


def _page(name: str, text: str) -> Step:
    return write(f"docs/coordination/{name}.md", f"# {name}\n\n{text}\n")


_SEVEN: dict[str, tuple[Step, ...]] = {
    "models": (
        write(
            "src/bookshelf/models/isbn.py",
            '"""Numbers of books."""\n\n\ndef is_isbn(text):\n'
            "    digits = [10 if char == 'X' else int(char) for char in text if char.isdigit() or char == 'X']\n"
            "    return len(digits) == 10 and sum(n * d for n, d in zip(range(10, 0, -1), digits)) % 11 == 0\n",
        ),
        _page("models", "`bookshelf.models.isbn.is_isbn(text)`"),
    ),
    "storage": (
        write("src/bookshelf/storage/json_file.py", _JSON_FILE),
        _page("storage", "`bookshelf.storage.json_file`: `save(catalog, path)`, `load(path)`"),
    ),
    "search": (
        write("src/bookshelf/search/words.py", _WORDS),
        _page("search", "`bookshelf.search.words.find(catalog, words)`"),
    ),
    "export": (
        write("src/bookshelf/export/csv_file.py", _CSV),
        _page("export", "`bookshelf.export.csv_file.to_csv(catalog)`"),
    ),
    "gui": (
        write(
            "src/bookshelf/gui/table.py",
            '"""Books as a table."""\n\n\ndef row(book, width=40):\n    return f"'
            '{book.title}  {book.author}"[:width]\n',
        ),
        _page("gui", "`bookshelf.gui.table.row(book, width)`"),
    ),
    "tests": (
        write("tests/test_stored.py", _TEST_STORED),
        write("tests/test_found.py", _TEST_FOUND),
        write("tests/test_written.py", _TEST_WRITTEN),
        write(
            "tests/test_parts.py",
            "from bookshelf.catalog import Book\nfrom bookshelf.gui.table import row\n"
            "from bookshelf.models.isbn import is_isbn\n\n\n"
            "def test_rows_and_numbers():\n    assert row(Book('Emma', 'Austen'), 6) == 'Emma  '\n"
            "    assert is_isbn('0-306-40615-2')\n    assert not is_isbn('0-306-40615-3')\n",
        ),
        _page("tests", "One file for each part."),
    ),
    "manual": (
        write("docs/manual/search.md", "# Search\n\nWords, in any case.\n"),
        write("docs/manual/export.md", "# Export\n\nA CSV file.\n"),
        _page("manual", "Two pages."),
    ),
}
_VERSIONED = (
    '"""Where books are kept."""\n\nfrom bookshelf.storage.json_file import load, save\n\n'
    '__all__ = ["load", "save"]\n'
)
_TRACKS: dict[str, tuple[Step, ...]] = {
    "core-1": edit(
        "src/bookshelf/catalog.py",
        "    def titles(self) -> list[str]:\n",
        "    def get(self, title: str) -> Book | None:\n"
        '        """Give the first book with a title."""\n'
        "        return next((book for book in self.books if book.title == title), None)\n\n"
        "    def __len__(self) -> int:\n        return len(self.books)\n\n"
        "    def titles(self) -> list[str]:\n",
    ),
    "storage-1": (
        write("src/bookshelf/storage/json_file.py", _JSON_FILE),
        *edit("src/bookshelf/storage/__init__.py", '"""Where books are kept."""\n', _VERSIONED),
    ),
    "search-1": (
        write("src/bookshelf/search/words.py", _WORDS),
        *edit(
            "src/bookshelf/search/__init__.py",
            '"""Finding books."""\n',
            '"""Finding books."""\n\nfrom bookshelf.search.words import find\n\n__all__ = ["find"]\n',
        ),
    ),
    "quality-1": (
        write(
            "tests/test_books.py",
            "from bookshelf.catalog import Book\n\n\ndef test_an_author_may_be_unknown():\n"
            "    assert Book('Beowulf').author == ''\n",
        ),
        write("docs/testing.md", "# Tests\n\n`pytest`, from the root.\n"),
    ),
    "core-2": edit(
        "src/bookshelf/catalog.py",
        "    def add(self, book: Book) -> None:\n",
        "    def remove(self, title: str) -> None:\n"
        '        """Take all books with a title out."""\n'
        "        self.books = [book for book in self.books if book.title != title]\n\n"
        "    def add(self, book: Book) -> None:\n",
    ),
    "storage-2": (
        write(
            "src/bookshelf/storage/versions.py",
            '"""The versions of a file."""\n\nfrom pathlib import Path\n\n\ndef keep(path, most=3):\n'
            "    names = [Path(f'{path}.{number}') for number in range(1, most + 1)]\n"
            "    for old, new in reversed(list(zip([Path(path), *names], names))):\n"
            "        if old.exists():\n            new.write_bytes(old.read_bytes())\n",
        ),
    ),
    "search-2": (
        write(
            "src/bookshelf/search/ranked.py",
            '"""The best first."""\n\n\ndef ranked(catalog, words):\n    wanted = words.lower().split()\n'
            "    def fits(book):\n        text = f'{book.title} {book.author}'.lower()\n"
            "        return sum(word in text for word in wanted)\n"
            "    return sorted((b for b in catalog.books if fits(b)), key=fits, reverse=True)\n",
        ),
    ),
    "quality-2": (
        write("tests/test_stored.py", _TEST_STORED),
        write("tests/test_found.py", _TEST_FOUND),
        write(
            "tests/test_second_week.py",
            "from bookshelf.catalog import Book, Catalog\nfrom bookshelf.search.ranked import ranked\n"
            "from bookshelf.storage.versions import keep\n\n\n"
            "def test_the_best_is_first():\n    books = [Book('Emma', 'Austen'), Book('Emma', 'Other')]\n"
            "    assert ranked(Catalog(books), 'emma other')[0] == books[1]\n\n\n"
            "def test_versions_are_kept(tmp_path):\n    path = tmp_path / 'b'\n    for text in 'abcde':\n"
            "        path.write_text(text)\n        keep(path)\n"
            "    assert [(tmp_path / f'b.{n}').read_text() for n in (1, 2, 3)] == ['e', 'd', 'c']\n",
        ),
    ),
}
_DAYS: dict[str, tuple[Step, ...]] = {
    "architecture": (
        write("docs/architecture.md", "# Parts\n\nA storage, a search and an export, each behind a function.\n"),
        write(
            "src/bookshelf/interfaces.py",
            '"""What the parts promise."""\n\nfrom typing import Protocol\n\n'
            "from bookshelf.catalog import Book, Catalog\n\n\nclass Search(Protocol):\n"
            "    def __call__(self, catalog: Catalog, words: str) -> list[Book]: ...\n",
        ),
    ),
    "storage": (write("src/bookshelf/storage/json_file.py", _JSON_FILE),),
    "search": (write("src/bookshelf/search/words.py", _WORDS),),
    "export": (write("src/bookshelf/export/csv_file.py", _CSV),),
    "command-line": edit(
        "src/bookshelf/main.py",
        _COMMANDS,
        _COMMANDS
        + "\n\ndef _find(arguments: Sequence[str]) -> str:\n    from bookshelf.search.words import find\n"
        + "    from bookshelf.storage.json_file import load\n\n"
        + '    return "\\n".join(book.title for book in find(load("books.json"), " ".join(arguments)))\n\n\n'
        + 'COMMANDS["find"] = _find\n',
    ),
    "tests": (
        write("tests/test_stored.py", _TEST_STORED),
        write("tests/test_found.py", _TEST_FOUND),
        write("tests/test_written.py", _TEST_WRITTEN),
    ),
    "docs": (write("docs/users.md", "# For users\n\nFind by words, export as CSV.\n"),),
    "review": ({"json": {"findings": []}},),
}  # fmt: skip
WORK: Mapping[str, Mapping[str, Sequence[Step]]] = {
    "book-cataloger": _CATALOGER,
    "seven-streams": _SEVEN,
    "four-tracks": _TRACKS,
    "five-days": _DAYS,
}
"""What each workstream of each plan does, step by step."""


def build(root: Path) -> Repository:
    """Make the program's repository, with one commit on `main`."""
    made = Repository.start(root)
    made.git("config", "user.name", "Ana")
    made.git("config", "user.email", "ana@example.invalid")
    # The program lies in the repository: an assistant's sandbox may not show where these tests are.
    hands = Path(__file__).with_name("scripted_hands.py").read_text(encoding="utf-8")
    made.commit({**FILES, "tools/hands.py": hands})
    return made


def shipped(name: str) -> dict[str, Any]:
    """Read a plan of `examples/field`."""
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


def with_scripts(plan: Mapping[str, Any], more: Mapping[str, Sequence[Step]] | None = None) -> dict[str, Any]:
    """Give each workstream and task of a shipped plan its script; `more` adds steps to some of them."""
    made = copy.deepcopy(dict(plan))
    works = {**made["workstreams"], **{task["id"]: task for task in made.get("tasks", ())}}
    for name, work in works.items():
        steps = [*WORK[made["name"]][name], *(more or {}).get(name, ())]
        if not any("json" in step for step in steps):
            steps.append({"say": f"{name} is done"})
        work["description"] = f"{work['description'].rstrip()}\n\n{block(*steps, id=name)}"
    return made


def written_by(plan: str, stream: str) -> set[str]:
    """The files that a workstream's script changes."""
    return {step["path"] for step in WORK[plan][stream] if step.get("tool") in {"write", "edit"}}


def by_hands(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Have a plan done by a command that follows scripts, instead of by assistants."""
    return by_engines(plan, {"hands": {"use": "command", "command": list(HANDS)}}, "hands")


def by_engines(plan: Mapping[str, Any], engines: Mapping[str, Any], choice: Any) -> dict[str, Any]:
    """Have a plan done by other engines than its own."""
    return {**plan, "engines": dict(engines), "defaults": {**plan.get("defaults", {}), "engine": choice}}


def save(repository: Repository, plan: Mapping[str, Any], name: str = "plan.yaml") -> str:
    """Write a plan into the repository, committed."""
    repository.commit({name: yaml.safe_dump(dict(plan), sort_keys=False, allow_unicode=True)})
    return name
