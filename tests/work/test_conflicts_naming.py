"""What a line says of where a name is from."""

from __future__ import annotations

import pytest

from parallelai.work.conflicts.naming import STAR, bound, imports_from, known_as, owner_in


@pytest.mark.parametrize(
    ("line", "user", "path", "expected"),
    [
        ("from src.io import read", "src/gui.py", "src/io.py", True),
        ("from app.io import read", "src/app/gui.py", "src/app/io.py", True),
        ("from .io import read", "src/app/gui.py", "src/app/io.py", True),
        ("from ..io import read", "src/app/gui.py", "src/io.py", True),
        ("from app import read", "main.py", "src/app/__init__.py", True),
        ("from .io import read", "src/gui.py", "src/app/io.py", False),
        ("from lib.io import read", "src/gui.py", "src/io.py", False),
        ("from io import read", "src/gui.py", "src/app/io.py", False),
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
    text = b"import a.b as c\nconst d = require('e')\nimport f from './g'\nimport (\n\th \"x/y\"\n)\n"
    assert bound(text) == {b"as c", b"as d", b"as f", b"as h"}
    assert bound(b"from a import *\n") == {STAR}
    assert bound(b"import * as a from 'b'\n") == {b"as a"}
