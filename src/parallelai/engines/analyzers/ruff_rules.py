"""How bad what Ruff finds is: a severity and a category for each rule.

Ruff calls everything an error; a ranked list needs more. The table goes by the longest prefix of the rule's
code that it holds, so that rules which are added later rank with their family. The order of weight: what lets
somebody in (high), what fails or does the wrong thing when it runs (high, medium), what may (medium), what
costs the next reader (low).
"""

from __future__ import annotations

import functools
import re
from typing import Literal

from parallelai.records import Severity

Category = Literal[
    "security", "bug", "performance", "complexity", "maintainability", "documentation", "style"
]

_HIGH, _MEDIUM, _LOW, _INFO = Severity.HIGH, Severity.MEDIUM, Severity.LOW, Severity.INFO

# (severity, category, codes or prefixes of codes)
_TABLE: tuple[tuple[Severity, Category, str], ...] = (
    # The file cannot be read or run at all.
    (_HIGH, "bug", "invalid-syntax syntax-error io-error E9"),
    # Security (flake8-bandit). High: code, commands, SQL or trust in the hands of others; keys in the source.
    (_MEDIUM, "security", "S"),
    (
        _HIGH,
        "security",
        "S102 S105 S106 S107 S201 S202 S301 S302 S304 S305 S307 S323 S501 S502 S505 S506 S507",
    ),
    (_HIGH, "security", "S601 S602 S604 S605 S608 S609 S612 S701 PGH001 RUF035 DJ007 PLE2502"),
    (_LOW, "security", "S101 S311 S4 S603 S606 S607 RUF001 RUF002 RUF003"),
    (_LOW, "bug", "S110 S112"),
    (_MEDIUM, "security", "PLE2510 PLE2512 PLE2513 PLE2514 PLE2515 tarfile-"),
    # Pyflakes: most fail when the line runs.
    (
        _HIGH,
        "bug",
        "F404 F407 F501 F502 F503 F505 F506 F507 F508 F509 F521 F524 F525 F62 F63 F70 F72 F821 F822 F823",
    ),
    (_MEDIUM, "bug", "F F632"),
    (_LOW, "maintainability", "F401 F403 F405 F504 F522 F523 F541 F84"),
    # pycodestyle
    (_LOW, "style", "E W"),
    (_MEDIUM, "bug", "E722 W605"),
    (_LOW, "maintainability", "E402 E711 E712 E721 E731 E741 E742 E743"),
    # flake8-bugbear and its kin: likely to do the wrong thing.
    (_MEDIUM, "bug", "B ASYNC YTT INT LOG ISC004 FA102 FAST003 NPY201 T10 DJ AIR3"),
    (_HIGH, "bug", "B002 B012 B909"),
    (_MEDIUM, "performance", "B019 ASYNC2"),
    (
        _LOW,
        "maintainability",
        "B007 B009 B010 B011 B013 B014 B017 B018 B024 B026 B027 B028 B033 B043 B9 DJ001 LOG004",
    ),
    (_LOW, "bug", "BLE DTZ B905 B911 B912"),
    # Pylint, by its own letters: E errors, W warnings, R refactoring, C convention.
    (_HIGH, "bug", "PLE"),
    (_MEDIUM, "bug", "PLE0604 PLE0605 PLE1141 PLE1507 PLE1519 PLE1520 PLE4703 PLW PLR0124 PLR1708 PLR1704"),
    (
        _LOW,
        "maintainability",
        "PLC PLR PLW0108 PLW0120 PLW0131 PLW0602 PLW0603 PLW0604 PLW0717 PLW1510 PLW1514",
    ),
    (_LOW, "maintainability", "PLW1641 PLW2901 PLW32 PLW33"),
    (_LOW, "complexity", "PLR09 PLR17 PLR1702 C901"),
    (_LOW, "performance", "PLC0207 PLC0208"),
    # Ruff's own
    (_LOW, "maintainability", "RUF"),
    (
        _MEDIUM,
        "bug",
        "RUF006 RUF008 RUF009 RUF016 RUF018 RUF024 RUF026 RUF027 RUF033 RUF034 RUF040 RUF048 RUF049",
    ),
    (_MEDIUM, "bug", "RUF053 RUF060 RUF066 RUF068 RUF074 RUF075 RUF077 RUF2"),
    (_LOW, "bug", "RUF012 RUF032 RUF064 RUF069 RUF071 RUF073"),
    (_LOW, "performance", "RUF015 RUF017 RUF065 PERF SLOT"),
    (_LOW, "maintainability", "RUF201"),
    # Taste, form, words
    (_LOW, "documentation", "D DOC CPY"),
    (_LOW, "style", "C4 COM EM FLY I ICN ISC N PT Q RET RSE SIM UP FURB Q TID TRY"),
    (
        _LOW,
        "maintainability",
        "A AIR ANN ARG ERA EXE FA FAST FBT G INP NPY PD PGH PIE PTH PYI SLF SIM115 T20 TC",
    ),
    (_INFO, "maintainability", "FIX TD"),
)
_BY_PREFIX: dict[str, tuple[Severity, Category]] = {
    prefix: (severity, category) for severity, category, prefixes in _TABLE for prefix in prefixes.split()
}
_UNKNOWN: tuple[Severity, Category] = (_LOW, "maintainability")
_FAMILY = re.compile(r"[A-Z]+")

_TEST_FILE = re.compile(r"(?:^|/)(?:tests?|testing|conftest\.py|test_[^/]*|[^/]*_tests?\.pyi?)(?:/|$)")


@functools.lru_cache(maxsize=4096)
def weigh(rule: str) -> tuple[Severity, Category]:
    """Give a rule's severity and category, by its code or, where it has none, its name."""
    letters = _FAMILY.match(rule)
    # A prefix of letters only is a family: `S` says nothing about `SIM101`.
    for end in range(len(rule), 0, -1):
        prefix = rule[:end]
        if letters is not None and end < letters.end():
            break
        if prefix in _BY_PREFIX:
            return _BY_PREFIX[prefix]
    return _UNKNOWN


def weigh_at(rule: str, path: str) -> tuple[Severity, Category]:
    """Weigh a rule where it was found: tests assert, and hold passwords that open nothing."""
    severity, category = weigh(rule)
    if category == "security" and is_test(path):
        return (_INFO if rule == "S101" else _LOW), category
    return severity, category


@functools.lru_cache(maxsize=65536)
def is_test(path: str) -> bool:
    """Say whether a path looks like that of a test."""
    return _TEST_FILE.search(path) is not None
