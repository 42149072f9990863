"""Which commands run a Python project's tests, by what its files say. Pure but for `read`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Final

from parallelai.plan.shared_files import kind_of

Read = Callable[[str], str]
"""Gives the text of a file; an empty one where it cannot be read."""

PYTEST: Final = "pytest -q --junitxml={report}"
UNITTEST: Final = "python3 -m unittest"
_TEST = re.compile(r"(?:^|/)(?:test_[^/]*|[^/]*_test)\.py\Z")
_FOUND_BY_UNITTEST = re.compile(r"(?:^|/)test[^/]*\.py\Z")
_OF_PYTEST = frozenset({"pytest.ini", ".pytest.ini", "conftest.py"})
_SETTINGS = frozenset({"tox.ini", "noxfile.py"})
_NAMES_PYTEST = re.compile(r"^[^#\n]*\bpytest\b", re.MULTILINE)
_IMPORTS = {
    name: re.compile(rf"^[ \t]*(?:import|from)[ \t]+{name}\b", re.MULTILINE)
    for name in ("pytest", "unittest")
}
_PLAIN = re.compile(r"[\w./-]*\Z")
_MOST_READ = 50
"""Files of each kind that are looked into."""


def commands(paths: Collection[str], read: Read) -> tuple[str, ...]:
    """Give the commands; none where there are no Python tests.

    It is pytest where the project's settings, dependencies or tests name that, or no test imports `unittest`.
    """
    tests = sorted(path for path in paths if _TEST.search(path))
    if not tests:
        return ()
    if any(path.rpartition("/")[2] in _OF_PYTEST for path in paths):
        return (PYTEST,)
    settings = (path for path in sorted(paths) if _is_settings(path))
    if any(_NAMES_PYTEST.search(text) for text in _texts(settings, read)):
        return (PYTEST,)
    texts = tuple(_texts(tests, read))
    if _is_any("pytest", texts) or not _is_any("unittest", texts):
        return (PYTEST,)
    return _unittest(tests, paths)


def own_code(paths: Iterable[str]) -> str:
    """Give a `PYTHONPATH` by which a tree's tests find its own code.

    An editable install, which most environments of projects have, leads to the user's checkout instead: nobody sees
    that where gates run.
    """
    has_src = any(path.startswith("src/") and path.endswith(".py") for path in paths)
    return "src:." if has_src else "."


def _unittest(tests: Sequence[str], paths: Collection[str]) -> tuple[str, ...]:
    """It goes from a folder into packages only, and where it finds no test it may end well: each start is named."""
    found = [path for path in tests if _FOUND_BY_UNITTEST.search(path)]
    pattern = "" if found else " -p '*_test.py'"
    starts = {_start(path.rpartition("/")[0], paths) for path in found or tests}
    return tuple(
        f"{UNITTEST} discover {start}{pattern}" if start or pattern else UNITTEST
        for start in sorted(starts)
        if _PLAIN.match(start)
    )


def _start(folder: str, paths: Collection[str]) -> str:
    """The folder from which one is found: the nearest that is no package; empty for the project's."""
    while folder and f"{folder}/__init__.py" in paths:
        folder = folder.rpartition("/")[0]
    return folder


def _is_settings(path: str) -> bool:
    return path in _SETTINGS or kind_of(path) == "dependencies"


def _texts(paths: Iterable[str], read: Read) -> Iterable[str]:
    return map(read, islice(paths, _MOST_READ))


def _is_any(name: str, texts: Iterable[str]) -> bool:
    return any(_IMPORTS[name].search(text) for text in texts)
