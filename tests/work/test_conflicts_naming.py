"""What a line says of where a name is from."""

from __future__ import annotations

import pytest

from parallelai.work.conflicts.imports import Imported, imported, reach, wanted_from
from parallelai.work.conflicts.naming import STAR, bound, imports_from, known_as, owner_in


@pytest.mark.parametrize(
    ("line", "user", "path", "expected"),
    [
        ("import {read} from './io'", "src/gui.ts", "src/io.ts", True),
        ("const {read} = require('../io.js')", "src/ui/gui.js", "src/io.js", True),
        ("import {read} from '../io'", "src/ui/gui.ts", "src/io/index.ts", True),
        ("import {read} from './io'", "src/ui/gui.ts", "src/io.ts", False),
        ("read('from the file')", "src/gui.py", "src/io.py", False),
    ],
)
def test_imports(line: str, user: str, path: str, expected: bool) -> None:
    assert imports_from(line, user, path) == expected


@pytest.mark.parametrize(
    ("text", "user", "path", "is_meant"),
    [
        ("from src.io import read", "src/gui.py", "src/io.py", True),
        ("from app.io import read", "src/app/gui.py", "src/app/io.py", True),
        ("from .io import read", "src/app/gui.py", "src/app/io.py", True),
        ("from ..io import read", "src/app/gui.py", "src/io.py", True),
        ("from . import read", "src/app/gui.py", "src/app/__init__.py", True),
        ("from app import read", "main.py", "src/app/__init__.py", True),
        ("from lib import read", "src/gui.py", "src/lib.py", True),
        ("from lib import read", "tests/test_gui.py", "src/lib.py", True),
        ("from app.io import read", "tests/test_gui.py", "src/app/io.py", True),
        ("from files import read", "server/tests/test_gui.py", "server/src/files.py", True),
        ("from files import read", "tools/gui.py", "tools/files.py", True),
        ("from files import (\n    load,  # or (\n    read as read_it,\n)", "gui.py", "files.py", True),
        ("from files import load, \\\n    read", "gui.py", "files.py", True),
        ("from files import *", "gui.py", "lib/files.py", True),
        ("from .io import read", "src/gui.py", "src/app/io.py", False),
        ("from lib.io import read", "src/gui.py", "src/io.py", False),
        ("from io import read", "src/gui.py", "src/app/io.py", False),  # Python's own
        ("from io import read", "src/app/gui.py", "src/app/io.py", False),
        ("from others.files import read", "src/gui.py", "src/files.py", False),
        ("from files import load", "src/gui.py", "src/files.py", False),
        ("from elsewhere import read\nimport files", "src/gui.py", "src/files.py", False),
    ],
)
def test_what_python_imports(text: str, user: str, path: str, is_meant: bool) -> None:
    module = wanted_from(imported(text.encode()), "read", "", user, path)
    assert bool(module and reach(module, user, path) is not None) == is_meant


@pytest.mark.parametrize(
    ("text", "owner", "is_meant"),
    [
        ("import app.io", "io", True),
        ("import app.io as disk; import sys", "disk", True),
        ("from app import io", "io", True),
        ("from app import io as disk", "disk", True),
        ("from app import io as disk", "io", False),
        ("import io", "io", False),
        ("from others import io", "io", False),
    ],
)
def test_the_module_before_a_name(text: str, owner: str, is_meant: bool) -> None:
    found = wanted_from(imported(text.encode()), "read", owner, "tests/test_gui.py", "src/app/io.py")
    assert (found == "app.io") == is_meant


def test_the_nearest_file_is_meant() -> None:
    user = "server/src/gui.py"
    own, other = (reach("files", user, path) for path in ("server/src/files.py", "src/files.py"))
    assert own is not None
    assert other is not None
    assert own > other
    assert reach("files", user, "client/src/files.py") is None


def test_hostile_imports_are_read() -> None:
    assert imported(b"from .. import (\nimport \xff, ., a..b\n" + b"from a import (\n" * 20_000) is not None
    assert imported(b"") == ()
    assert imported(b"import a # as b\n") == (Imported("a", None, "a"),)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x = io.read('a')", "io"),
        ("read('a')", ""),
        ("f(socket?.read, socket.read)", "socket"),
        ("f(io.read, read)", None),  # both
        ("open('a').read()", None),
        ("thread(1)", None),
    ],
)
def test_what_stands_before_a_name(line: str, expected: str | None) -> None:
    assert owner_in(line, "read") == expected


def test_names_of_modules() -> None:
    assert known_as("src/io.py") == "io"
    assert known_as("src/io/__init__.py") == "io"
    assert (known_as("src/lib.py"), known_as("src/main.ts"), known_as("io/lib.rs")) == ("lib", "main", "io")
    assert known_as("src/io/index.ts") == "io"
    text = b"import a.b as c\nconst d = require('e')\nimport f from './g'\nimport (\n\th \"x/y\"\n)\n"
    assert bound(text) == {b"as c", b"as d", b"as f", b"as h"}
    assert bound(b"from a import *\n") == {STAR}
    assert bound(b"import * as a from 'b'\n") == {b"as a"}
