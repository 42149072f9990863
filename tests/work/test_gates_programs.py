"""Which program a gate lacks is named, however it was called; what tests say of a module is no such thing."""

from __future__ import annotations

import pytest

from parallelai.work.gates.commands import Result
from parallelai.work.gates.programs import missing_program
from parallelai.work.gates.reports import Report


@pytest.mark.parametrize(
    ("exit_", "said", "program"),
    [
        (127, "sh: 1: chek: not found", "chek"),
        (127, "/usr/bin/bash: line 1: chek: command not found", "chek"),
        (127, "bash: line 1: .venv/bin/chek: No such file or directory", ".venv/bin/chek"),
        (127, "zsh:1: command not found: chek", "chek"),
        (127, "/usr/bin/env: ‘chek’: No such file or directory", "chek"),
        (127, "env: can't execute 'chek': No such file or directory", "chek"),
        (127, "> shop@1.0.0 test\n> chek\n\nsh: 1: chek: not found", "chek"),
        (127, "", ""),
        (2, "make: chek: No such file or directory\nmake: *** [Makefile:2: test] Error 127", "chek"),
        (2, "/bin/sh: 1: chek: not found\nmake[1]: *** [Makefile:2: test] Error 127", "chek"),
        (1, "/usr/bin/python3.11: No module named chek", "chek"),
        (1, "ModuleNotFoundError: No module named 'chek'", None),
        (1, "/usr/bin/python3: No module named chek\n1 failed", None),
        (2, "cat: data.txt: No such file or directory", None),
        (None, "sh: 1: chek: not found", None),
        (0, "sh: 1: chek: not found", None),
    ],
)
def test_what_was_called_in_vain_is_named(exit_: int | None, said: str, program: str | None) -> None:
    assert missing_program(Result("gate", exit_, 0.0, "log", said=said)) == program


def test_a_gate_that_reported_tests_lacks_nothing() -> None:
    assert missing_program(Result("gate", 127, 0.0, "log", Report({}), said="sh: 1: x: not found")) is None
