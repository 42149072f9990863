"""How a runner that is known is told to run some tests alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import PurePosixPath

from parallelai.work.gates.reports import Case

MOST = 100
"""So many new failures are no accident: they are not run again."""
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish"})
_PYTEST = frozenset({"pytest", "py.test"})
_FLAGS = re.compile(
    r"-[qvxslh]+|--(?:verbose|quiet|exitfirst|lf|ff|nf|sw|last-failed|failed-first|new-first|stepwise)"
)
_STOPS_EARLY = re.compile(r"-x|--exitfirst|--maxfail(=.*)?|--stepwise|--sw")


def pytest_at(argv: tuple[str, ...]) -> int | None:
    """Where in a command pytest is called; None where it is not, or a shell calls it."""
    if PurePosixPath(argv[0]).name in _SHELLS:
        return None
    return next((at for at, word in enumerate(argv) if PurePosixPath(word).name in _PYTEST), None)


def alone(
    argv: tuple[str, ...], tests: Iterable[Case], files: Collection[str], is_there: Callable[[str], bool]
) -> tuple[str, ...] | None:
    """Give the command that runs just these tests; None where the runner is not known, or the tests are not found.

    Args:
        argv: the gate's command.
        tests: tests as pytest's JUnit report names them.
        files: the files of the tree, from its top.
        is_there: whether a word of the command names something in the tree: a folder or file to be tested.
    """
    at = pytest_at(argv)
    if at is None:
        return None
    ids = [node_id(test, files) for test in tests]
    known = [each for each in ids if each is not None]
    if len(known) != len(ids) or not known:
        return None
    return (*argv[: at + 1], *_options(argv[at + 1 :], is_there), *dict.fromkeys(known))


def _options(words: tuple[str, ...], is_there: Callable[[str], bool]) -> list[str]:
    """The words that do not say which tests: a path counts as such unless it can be an option's value."""
    kept: list[str] = []
    before = ""
    skips_value = False
    for word in words:
        is_value = before.startswith("-") and "=" not in before and not _FLAGS.fullmatch(before)
        before = word if word != "--" else ""
        if skips_value or word == "--":
            skips_value = False
        elif _STOPS_EARLY.fullmatch(word):  # one that fails again would hide the others
            skips_value = word == "--maxfail"
        elif word.startswith("-") or is_value or not is_there(word.partition("::")[0]):
            kept.append(word)
    return kept


def node_id(test: Case, files: Collection[str]) -> str | None:
    """What pytest calls a test that its report names by module, classes and name; None where no file fits.

    A file that could not be collected is reported without a class name.
    """
    parts = test.group.split(".") if test.group else test.name.split(".")
    for end in range(len(parts), 0, -1):
        path = _file("/".join(parts[:end]) + ".py", files)
        if path is not None:
            return "::".join([path, *parts[end:], test.name]) if test.group else path
    return None


def _file(path: str, files: Collection[str]) -> str | None:
    """A path below pytest's root folder, which may lie below the tree's top, if one file fits."""
    if path in files:
        return path
    below = [each for each in files if each.endswith(f"/{path}")]
    return below[0] if len(below) == 1 else None
