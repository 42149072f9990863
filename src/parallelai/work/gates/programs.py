"""Which program a gate calls and the machine lacks, from what was printed: no tree would pass it. Pure."""

from __future__ import annotations

import re

from parallelai.work.gates.commands import Result

_NOT_FOUND = 127
"""What shells, `env` and runners of scripts end with where a program is not found."""
_BY_MAKE = re.compile(rf"^make(?:\[\d+\])?: .* Error {_NOT_FOUND}$", re.MULTILINE)
_NAME = r"['‘`]?(?P<name>[^\s:'’`\"]{1,200})['’`]?"
_SAID = (
    re.compile(rf"command not found: {_NAME}$", re.MULTILINE),  # zsh
    re.compile(rf"(?:^|: ){_NAME}: (?:command )?not found$", re.MULTILINE),  # sh, bash, ksh
    re.compile(rf"(?:^|: )(?:can't execute )?{_NAME}: No such file or directory$", re.MULTILINE),  # env, make
)
_MODULE = re.compile(r"^\S*python[\d.]*(?:\.exe)?: No module named (?P<name>[\w.]+)$")


def missing_program(result: Result) -> str | None:
    """Name the program that a gate called in vain, as it was called; None where it came to tests, or to no end.

    Empty where the exit alone says that one is missing.
    """
    if result.exit in (None, 0) or result.report is not None:
        return None
    said = result.said.strip()
    if result.exit == _NOT_FOUND or _BY_MAKE.search(said):
        found = (sign.search(said) for sign in _SAID)
        return next((match["name"] for match in found if match is not None), "")
    module = _MODULE.match(said.rpartition("\n")[2])  # `python -m NAME`, which ends with 1
    return module["name"] if module is not None else None
