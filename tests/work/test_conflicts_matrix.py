"""The conflict matrix on real repositories: git's own answer, classes, places, and what is looked at anew."""

from __future__ import annotations

import os
import tempfile
from itertools import combinations
from pathlib import Path

import pytest
from repositories import Repository

from parallelai.git.merging import merge_all
from parallelai.git.plumbing import GitError
from parallelai.git.repository import open_repository
from parallelai.records import ConflictDocument, ConflictPair, ConflictPlace
from parallelai.work.conflicts import Head, Matrix, advice, conflicting_pairs, matrix
from parallelai.work.conflicts.cache import NAME

APP = """\
class App:
    def start(self):
        return 1

    def stop(self):
        return 2


def load(path):
    return path


def save(path):
    return path
"""
MENU = "\n    def menu(self):\n        return 3\n"
EXPORT = "\n    def export(self):\n        return 4\n"
START = {
    "src/app.py": APP,
    "src/io.py": "def read(path):\n    return path\n\n\ndef other():\n    pass\n",
    "notes.txt": "a\nb\nc\n",
}


def started(folder: Path, files: dict[str, str | bytes] | None = None) -> Repository:
    made = Repository.start(folder)
    made.commit(files or dict(START))
    return made


def branch(made: Repository, name: str, files: dict[str, str | bytes | None], base: str = "main") -> Head:
    """A branch from `base` that writes files; None deletes one."""
    made.git("checkout", "-q", "-b", name, base)
    for path, content in files.items():
        if content is None:
            made.git("rm", "-q", "--", path)
    commit = made.commit({path: content for path, content in files.items() if content is not None})
    made.git("checkout", "-q", "main")
    return Head(name, commit)


def tip(made: Repository, name: str = "main") -> Head:
    return Head(name, made.git("rev-parse", name).strip())


def only(document: ConflictDocument, a: str, b: str) -> ConflictPair:
    (found,) = (pair for pair in document.pairs if (pair.a, pair.b) == (a, b))
    return found


def merges(made: Repository, a: Head, b: Head) -> bool:
    """Whether `git merge` itself would end well, in a checkout."""
    made.git("checkout", "-q", "--detach", a.commit)
    try:
        made.git("merge", "-q", "--no-edit", b.commit)
    except AssertionError:
        made.git("merge", "--abort")
        return False
    else:
        return True
    finally:
        made.git("checkout", "-q", "main")


async def test_two_new_methods_at_one_place(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    at = "        return 2\n"
    gui = branch(made, "gui", {"src/app.py": APP.replace(at, at + MENU)})
    backend = branch(made, "backend", {"src/app.py": APP.replace(at, at + EXPORT)})
    document = await matrix(await open_repository(made.root), [gui, backend], tip(made))
    (pair,) = document.pairs
    assert (pair.a, pair.b, pair.conflict, pair.class_, pair.risk) == (
        "gui",
        "backend",
        True,
        "function",
        1.0,
    )
    (file,) = pair.files
    assert (file.path, file.kind, file.symbols) == ("src/app.py", "content", ("App.menu", "App.export"))
    assert file.places == (ConflictPlace((8, 10), (8, 10)),)
    assert document.base == tip(made).commit
    assert document.target == "main"
    assert document.names == ("gui", "backend")
    assert "Keep both" in advice(pair)


async def test_the_same_lines(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    one = branch(made, "one", {"src/app.py": APP.replace("return 1", "return 10")})
    two = branch(made, "two", {"src/app.py": APP.replace("return 1", "return 11")})
    pair = only(await matrix(await open_repository(made.root), [one, two], tip(made)), "one", "two")
    assert (pair.conflict, pair.class_) == (True, "file")
    assert pair.files[0].places == (ConflictPlace((3, 3), (3, 3)),)
    assert pair.files[0].symbols == ("App.start",)
    assert "wait" in advice(pair)


async def test_different_definitions_merge(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    one = branch(made, "one", {"src/app.py": APP.replace("return 1", "return 10")})
    two = branch(made, "two", {"src/app.py": APP + "\n\ndef more():\n    pass\n"})
    looked = Matrix(await open_repository(made.root))
    await looked.look([one, two], tip(made))
    (pair,) = (pair for pair in looked.known if pair.b == "two")
    assert (pair.conflict, pair.class_) == (False, "function")
    assert set(pair.files[0].symbols) == {"App.start", "more"}
    assert 0 < pair.risk < 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("def other():\n    pass\n", "`gui` calls `read(path)`, which {} removed (src/io.py:1)"),
        (
            "def fetch(path):\n    return path\n\n\ndef other():\n    pass\n",
            "`gui` calls `read(path)`, which {} renamed to `fetch` (src/io.py:1)",
        ),
        (
            "def read(path, mode):\n    return path\n\n\ndef other():\n    pass\n",
            "`gui` calls `read(path)`, which {} changed to `read(path, mode)` (src/io.py:1)",
        ),
    ],
)
async def test_logic(tmp_path: Path, change: str, expected: str) -> None:
    made = started(tmp_path / "r")
    gui = branch(
        made,
        "gui",
        {"src/gui.py": "from src.io import read as load\n\n\ndef show():\n    return read('x')\n"},
    )
    cleanup = branch(made, "cleanup", {"src/io.py": change})
    repository = await open_repository(made.root)
    pair = only(await matrix(repository, [gui, cleanup], tip(made)), "gui", "cleanup")
    assert (pair.conflict, pair.class_, pair.files) == (False, "logic", ())
    assert pair.why == expected.format("`cleanup`")
    assert pair.risk >= 0.6
    assert "Who lands second" in advice(pair)
    made.git("merge", "-q", "--ff-only", "cleanup")
    pair = only(await matrix(repository, [gui], tip(made)), "gui", "main")
    assert pair.why == expected.format("the target")


@pytest.mark.parametrize(
    "files",
    [
        {
            "src/io.py": "def read(path, mode=None):\n    return path\n\n\ndef other():\n    pass\n"
        },  # still fits
        {"src/io.py": START["src/io.py"].replace("pass", "return 1")},  # another definition
    ],
)
async def test_no_logic_conflict(tmp_path: Path, files: dict[str, str | bytes | None]) -> None:
    made = started(tmp_path / "r")
    gui = branch(
        made, "gui", {"src/gui.py": "from src.io import read\n\n\ndef show():\n    return read('x')\n"}
    )
    other = branch(made, "other", files)
    document = await matrix(await open_repository(made.root), [gui, other], tip(made))
    assert not [pair for pair in document.pairs if pair.class_ == "logic"]


GONE = "def other():\n    pass\n"
MOVED: dict[str, str | bytes | None] = {
    "src/io.py": GONE,
    "src/files.py": "def read(path):\n    return path\n",
}


@pytest.mark.parametrize(
    ("user", "files", "is_broken"),
    [
        ("from src.io import read\n\nread('x')\n", MOVED, True),
        ("from src.files import read\n\nread('x')  # was in src.io\n", MOVED, False),
        (
            "from src.io import read\n\nread('x')\n",
            {**MOVED, "src/io.py": f"from src.files import read as read\n\n{GONE}"},
            False,
        ),
        (
            "from src.io import read\n\nread('x')\n",
            {**MOVED, "src/io.py": f"from src.files import *\n\n{GONE}"},
            False,
        ),
        ("from src import io\n\nio.read('x')\n", {"src/io.py": GONE}, True),
        ("import src.io as disk\n\ndisk.read('x')\n", {"src/io.py": GONE}, True),
        ("def load(socket):\n    return socket.read('x')  # not that of io\n", {"src/io.py": GONE}, False),
        (
            "def read():\n    return 'io'\n\n\nread()\n",
            {"src/io.py": START["src/io.py"].replace("(path)", "(path, mode)")},
            False,
        ),
    ],
)
async def test_whose_name_is_meant(
    tmp_path: Path, user: str, files: dict[str, str | bytes | None], is_broken: bool
) -> None:
    made = started(tmp_path / "r")
    gui, other = branch(made, "gui", {"src/gui.py": user}), branch(made, "other", files)
    document = await matrix(await open_repository(made.root), [gui, other], tip(made))
    assert any(pair.class_ == "logic" for pair in document.pairs) == is_broken


async def test_a_use_that_was_there_before_is_none(tmp_path: Path) -> None:
    user = "from src.io import read\n\n\ndef show():\n    return read('x')\n"
    made = started(tmp_path / "r", {**START, "src/gui.py": user})
    gui = branch(made, "gui", {"src/gui.py": user.replace("'x'", "'y'")})
    cleanup = branch(made, "cleanup", {"src/io.py": "def other():\n    pass\n"})
    document = await matrix(await open_repository(made.root), [gui, cleanup], tip(made))
    assert not [pair for pair in document.pairs if pair.class_ == "logic"]


SIDES: dict[str, dict[str, str | bytes | None]] = {
    "edits": {"src/app.py": APP.replace("return 1", "return 10")},
    "deletes": {"src/app.py": None},
    "moves": {"src/app.py": None, "lib/app.py": APP},
    "moves-elsewhere": {"src/app.py": None, "pkg/app.py": APP},
    "moves-folder": {
        "src/app.py": None,
        "src/io.py": None,
        "lib/app.py": APP,
        "lib/io.py": START["src/io.py"],
    },
    "adds-in-folder": {"src/new.py": "x = 1\n"},
    "adds-below-folder": {"src/deep/new.py": "x = 1\n"},
    "file-for-folder": {"src/app.py": None, "src/io.py": None, "src": "a file\n"},
    "folder-for-file": {"notes.txt": None, "notes.txt/a": "x\n"},
    "new-file": {"lib": "a file\n"},
    "new-binary": {"x.bin": b"\0\1"},
    "new-binary-2": {"x.bin": b"\0\2"},
    "notes": {"notes.txt": "a\nB\nc\n"},
    "notes-2": {"notes.txt": "a\nx\nc\n"},
    "same-notes": {"notes.txt": "a\nB\nc\n"},
}
KINDS = {
    ("edits", "deletes"): "modify/delete",
    ("moves", "moves-elsewhere"): "rename/rename",
    ("deletes", "moves"): "rename/delete",
    ("new-binary", "new-binary-2"): "binary",
    ("notes", "notes-2"): "content",
    ("moves", "new-file"): "file/directory",
}

FILES_AND_FOLDERS = {
    ("moves", "new-file"): "`lib` is a file in `new-file`, and a folder in `moves`",
    (
        "adds-in-folder",
        "file-for-folder",
    ): "`src` is a file in `file-for-folder`, and a folder in `adds-in-folder`",
    ("folder-for-file", "notes"): "`notes.txt` is a file in `notes`, and a folder in `folder-for-file`",
}


async def test_every_kind_as_git_itself(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    heads = [branch(made, name, files) for name, files in SIDES.items()]
    repository = await open_repository(made.root)
    looked = Matrix(repository)
    document = await looked.look(heads, tip(made))
    told = {(pair.a, pair.b): pair for pair in document.pairs if pair.conflict}
    assert looked.count.merges < looked.count.pairs
    plain = await merge_all(repository.git, [(a.commit, b.commit) for a, b in combinations(heads, 2)])
    for (a, b), one in zip(combinations(heads, 2), plain, strict=True):
        assert ((a.name, b.name) in told) == (not one.is_clean), (a.name, b.name)
        assert one.is_clean == merges(made, a, b), (a.name, b.name)
    for names, kind in KINDS.items():
        assert kind in {file.kind for file in told[names].files}, names
    for names, said in FILES_AND_FOLDERS.items():
        assert told[names].why == said, told[names]
        assert advice(told[names]).startswith(f"{said}: git cannot merge that.")
        assert said.split("`")[1] in {file.path for file in told[names].files}
    found = await conflicting_pairs(repository, heads)
    assert found == {frozenset(names) for names in told}


async def test_attributes_count_as_in_a_checkout(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        ".gitattributes": "CHANGES merge=union\n*.min binary\n*.x merge=mine\n",
        "deep/.gitattributes": "LOG merge=union\n",
        "CHANGES": "a\n",
        "deep/LOG": "a\n",
        "a.min": "a\nb\nc\nd\ne\nf\n",
        "a.x": "a\nb\nc\nd\ne\nf\n",
    }
    made = started(tmp_path / "r", files)
    made.git("config", "merge.mine.driver", f"touch {tmp_path / 'ran'} && false")
    one = branch(made, "one", {"CHANGES": "a\nb\n", "deep/LOG": "a\nb\n"})
    two = branch(made, "two", {"CHANGES": "a\nc\n", "deep/LOG": "a\nc\n"})
    three = branch(made, "three", {"a.min": "A\nb\nc\nd\ne\nf\n", "a.x": "A\nb\nc\nd\ne\nf\n"})
    four = branch(made, "four", {"a.min": "a\nb\nc\nd\ne\nF\n"})
    five = branch(made, "five", {"a.x": "a\nb\nc\nd\ne\nF\n"})
    plain = branch(made, "plain", {".gitattributes": "", "CHANGES": "a\nd\n"})
    repository = await open_repository(made.root)
    found = await conflicting_pairs(repository, [one, two, three, four, five, plain])
    assert frozenset(("one", "two")) not in found
    assert frozenset(("three", "four")) in found
    assert frozenset(("three", "five")) not in found  # and no program of the repository's ran
    assert not (tmp_path / "ran").exists()
    # What is merged into decides: `plain` has no rule for CHANGES.
    assert (await conflicting_pairs(repository, [plain, one])) == {frozenset(("plain", "one"))}
    assert (await conflicting_pairs(repository, [one, plain])) == frozenset()
    assert merges(made, one, plain)
    assert not merges(made, plain, one)


async def test_heads_of_different_ages(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    old = branch(made, "old", {"notes.txt": "a\nold\nc\n"})
    made.commit({"notes.txt": "a\nmain\nc\n", "src/new.py": "x = 1\n"})
    new = branch(made, "new", {"src/new.py": "x = 2\n"})
    on_old = branch(made, "on-old", {"src/late.py": "y = 1\n"}, "old")
    document = await matrix(await open_repository(made.root), [old, new, on_old], tip(made))
    told = {(pair.a, pair.b) for pair in document.pairs if pair.conflict}
    assert told == {("old", "main"), ("on-old", "main"), ("old", "new"), ("new", "on-old")}


async def test_crossing_merges_are_left_to_git(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    one = branch(made, "one", {"src/io.py": "x = 1\n"})
    two = branch(made, "two", {"notes.txt": "z\n"})
    made.git("checkout", "-q", "one")
    made.git("merge", "-q", "--no-edit", two.commit)
    made.git("checkout", "-q", "two")
    made.git("merge", "-q", "--no-edit", one.commit)
    made.git("checkout", "-q", "main")
    looked = Matrix(await open_repository(made.root))
    assert await looked.conflicting([tip(made, "one"), tip(made, "two")]) == frozenset()
    assert looked.count.merges == 1


async def test_no_common_history(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    made.git("checkout", "-q", "--orphan", "alone")
    alone = Head("alone", made.commit({"notes.txt": "other\n"}))
    made.git("checkout", "-q", "main")
    document = await matrix(await open_repository(made.root), [alone], tip(made))
    assert only(document, "alone", "main").conflict


async def test_only_what_moved_is_looked_at_again(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    heads = [branch(made, f"b{at}", {"notes.txt": f"a\n{at}\nc\n"}) for at in range(5)]
    looked = Matrix(await open_repository(made.root))
    first = await looked.look(heads, tip(made))
    assert (looked.count.pairs, looked.count.merges) == (15, 10)
    assert await looked.look(heads, tip(made)) == first
    assert (looked.count.pairs, looked.count.merges) == (0, 0)
    moved = branch(made, "moved", {"notes.txt": "a\nx\nc\n"}, "b0")
    again = await looked.look([Head("b0", moved.commit), *heads[1:]], tip(made))
    assert (looked.count.pairs, looked.count.merges) == (5, 4)
    assert again.pairs == first.pairs


async def test_another_process_finds_what_was_stored(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    heads = [
        branch(made, f"b{at}", {"src/app.py": APP.replace("return 1", f"return {at}9")}) for at in range(3)
    ]
    repository = await open_repository(made.root)
    first = await Matrix(repository, tmp_path / "cache").look(heads, tip(made))
    other = Matrix(repository, tmp_path / "cache")
    assert await other.look(heads, tip(made)) == first
    assert other.count.pairs == 0
    for broken in (b"", b"[]", b'{"formula": 1, "pairs": {"x": 1}}', b"[" * 5000):
        (tmp_path / "cache" / NAME).write_bytes(broken)
        assert await matrix(repository, heads, tip(made), cache=tmp_path / "cache") == first
    text = (tmp_path / "cache" / NAME).read_text().replace('"conflict": true', '"conflict": "?"')
    (tmp_path / "cache" / NAME).write_text(text)
    assert await matrix(repository, heads, tip(made), cache=tmp_path / "cache") == first


async def test_hostile_names_and_content(tmp_path: Path) -> None:
    odd = 'a "b"\n@@ -1 +1 @@\ndiff --git x x.py'
    before: dict[str, str | bytes] = {odd: "x = 1\ny = 2\n", "-x.py": "a\n", "ü\t.py": "x = 1\n"}
    made = started(tmp_path / "r", before)
    one = branch(made, "one", {odd: "x = 2\ny = 2\n", "-x.py": "b\n", "ü\t.py": "x = 2\n"})
    two = branch(made, "two", {odd: "x = 3\ny = 2\n", "-x.py": "\0", "ü\t.py": "x = 3\n"})
    pair = only(await matrix(await open_repository(made.root), [one, two], tip(made)), "one", "two")
    files = {file.path: file for file in pair.files}
    assert files[odd].places == files["ü\t.py"].places == (ConflictPlace((1, 1), (1, 1)),)
    assert files["-x.py"].kind == "binary"


async def test_what_is_no_commit(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    with pytest.raises(GitError):
        await matrix(await open_repository(made.root), [Head("x", "0" * 40)], tip(made))


async def test_the_repositorys_settings_change_nothing(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    gui = branch(
        made, "gui", {"src/gui.py": "from src.io import read\n\n\ndef show():\n    return read('x')\n"}
    )
    cleanup = branch(made, "cleanup", {"src/io.py": "def other():\n    pass\n"})
    ran = tmp_path / "ran"
    repository = await open_repository(made.root)
    expected = await matrix(repository, [gui, cleanup], tip(made))
    settings = {
        "log.showSignature": "true",
        "gpg.program": f"touch {ran}",
        "diff.external": f"touch {ran}",
        "grep.lineNumber": "true",
        "grep.column": "true",
        "grep.patternType": "fixed",
        "color.ui": "always",
        "diff.noprefix": "false",
        "diff.mnemonicPrefix": "true",
        "diff.renames": "copies",
        "core.quotePath": "true",
    }
    for key, value in settings.items():
        made.git("config", key, value)
    assert await matrix(repository, [gui, cleanup], tip(made)) == expected
    assert not ran.exists()


async def test_a_name_that_is_defined_elsewhere_too(tmp_path: Path) -> None:
    files = {**START, "lib/io.py": "def read(path):\n    return path\n"}
    made = started(tmp_path / "r", files)
    gui = branch(
        made, "gui", {"src/gui.py": "from lib.io import read\n\n\ndef show():\n    return read('x')\n"}
    )
    cleanup = branch(made, "cleanup", {"src/io.py": "def other():\n    pass\n"})
    document = await matrix(await open_repository(made.root), [gui, cleanup], tip(made))
    assert not [pair for pair in document.pairs if pair.class_ == "logic"]


@pytest.mark.parametrize(
    ("text", "is_broken"),
    [
        ("from src.io import read as o\n\n\ndef show():\n    return o('x')\n", True),
        ("from src.io import (\n    other,\n    read as o,\n)\n\no('x', *other())\n", True),
        ("def show():\n    from .io import read as o\n\n    return o('x')\n", True),
        ("import src.io as l\n\nl.read('x')\n", True),
        ("from src import io as l\n\nl.read('x')\n", True),
        ("from src.io import read as o\n\nshown = [o]\n", False),  # which is not called
        ("from elsewhere.io import read as o\n\no('x')\n", False),
        ("from src.io import other as o\n\no('read')\nread = o\n", False),
        ("from src.io import read as o\n\nimport disk\n\ndisk.o('x')\n", False),
        ("from src.io import read as o\n\n\ndef show(o):\n    return o('x')\n", False),
        ("from src.io import read as o\n\nfor o, _ in [(print, 1)]:\n    o('x')\n", False),
        ("from src.io import read as o\n\nwith open('x') as o:\n    o('x')\n", False),
        ("from src.io import read as o\nfrom src.os import write as o\n\no('x')\n", False),
        ("from src.io import read as o\n\n\ndef o(path):\n    return path\n\n\no('x')\n", False),
        ("from src.io import read as o\n\n_, o = 1, print\no('x')\n", False),
        ("from src.io import read as o\n\nshow = lambda o: o('x')\n", False),
    ],
)
async def test_what_is_imported_under_another_name_is_followed_where_nothing_else_has_that(
    tmp_path: Path, text: str, is_broken: bool
) -> None:
    made = started(tmp_path / "r")
    changed = f"def read(path, mode):\n    return path\n\n\n{GONE}"
    gui, other = branch(made, "gui", {"src/gui.py": text}), branch(made, "other", {"src/io.py": changed})
    document = await matrix(await open_repository(made.root), [gui, other], tip(made))
    assert any(pair.class_ == "logic" for pair in document.pairs) == is_broken


@pytest.mark.parametrize("change", [GONE, f"def read(path, mode):\n    return path\n\n\n{GONE}"])
@pytest.mark.parametrize(
    ("lib", "user", "text", "is_broken"),
    [
        ("src/lib.py", "src/gui.py", "from lib import read\n\nread('x')\n", True),
        ("src/lib.py", "tests/test_gui.py", "import lib\n\nlib.read('x')\n", True),
        ("src/lib.py", "src/gui.py", "from .lib import read\n\nread('x')\n", True),
        ("src/app/io.py", "tests/test_gui.py", "from app.io import read\n\nread('x')\n", True),
        ("src/app/io.py", "tests/test_gui.py", "import app.io\n\napp.io.read('x')\n", True),
        ("server/src/lib.py", "server/src/gui.py", "from lib import read\n\nread('x')\n", True),
        ("src/lib.ts", "src/gui.ts", "import {read} from './lib'\n\nread('x')\n", True),
        ("server/src/lib.py", "client/src/gui.py", "from lib import read\n\nread('x')\n", False),
        ("server/src/lib.py", "client/src/gui.py", "import lib\n\nlib.read('x')\n", False),
        ("src/lib.py", "client/src/gui.py", "from lib import read\n\nread('x')\n", False),
        ("src/lib.py", "src/gui.py", "from others.lib import read\n\nread('x')\n", False),
        ("src/lib.py", "src/gui.py", "def show(src):\n    return src.read('x')\n", False),
    ],
)
async def test_which_file_an_import_means(
    tmp_path: Path, lib: str, user: str, text: str, is_broken: bool, change: str
) -> None:
    """Beside another file of that name, which defines the same."""
    start, gone = START["src/io.py"], change
    if lib.endswith(".ts"):
        start = "export function read(path) {\n  return path\n}\n\nfunction other() {\n}\n"
        gone = start.replace("(path)", "(path, mode)") if "mode" in change else "function other() {\n}\n"
    beside: dict[str, str | bytes] = {} if lib.endswith(".ts") else {"client/src/lib.py": start}
    made = started(tmp_path / "r", {lib: start, **beside})
    gui, other = branch(made, "gui", {user: text}), branch(made, "other", {lib: gone})
    document = await matrix(await open_repository(made.root), [gui, other], tip(made))
    assert any(pair.class_ == "logic" for pair in document.pairs) == is_broken


async def test_to_look_leaves_no_object_in_the_repository_nor_a_folder_beside(tmp_path: Path) -> None:
    made = started(tmp_path / "r")
    names = [
        branch(made, f"b{n}", {"src/app.py": APP.replace("return 2", f"return {n + 5}")}) for n in range(4)
    ]
    before = made.git("count-objects", "-v")
    ours = {each for place in ("/dev/shm", tempfile.gettempdir()) for each in _of_ours(place)}
    document = await matrix(await open_repository(made.root), names, tip(made))
    assert len([pair for pair in document.pairs if pair.conflict]) == 6
    assert made.git("count-objects", "-v") == before
    assert {each for place in ("/dev/shm", tempfile.gettempdir()) for each in _of_ours(place)} <= ours


def _of_ours(place: str) -> list[str]:
    if not Path(place).is_dir():
        return []
    return [str(each) for each in Path(place).glob(f"parallelai-objects-*-{os.getpid()}-*")]


async def test_without_room_for_what_nobody_keeps_the_answer_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = started(tmp_path / "r")
    names = [
        branch(made, f"b{n}", {"src/app.py": APP.replace("return 2", f"return {n + 5}")}) for n in range(2)
    ]
    repository = await open_repository(made.root)
    (tmp_path / "file").write_text("")  # no folder can be made below a file, whoever asks

    def refused(*_: object, **__: object) -> Path:
        return tmp_path / "file"

    monkeypatch.setattr("parallelai.processes.temporary.make_folder", refused)
    monkeypatch.setattr("parallelai.processes.temporary.remove", lambda _: None)
    document = await matrix(repository, names, tip(made))
    assert only(document, "b0", "b1").conflict
