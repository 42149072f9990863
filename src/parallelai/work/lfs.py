"""git-lfs in folders that assistants filled: it runs as it is, but not what the user's settings have it start.

It takes programs from git's settings alone, never from a file `.lfsconfig`, and starts them at the top of the folder:
what they are made of may lie there. So an extension (`lfs.extension.NAME`) is called confined, as filters are. The
program of a custom transfer (`lfs.customtransfer.NAME`) needs the network and the user's keys: it is called in the
user's own checkout, and finds there what it finds when they call git themselves.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from parallelai import processes

Confine = Callable[[Sequence[str], Sequence[str]], list[str]]
"""Takes the words of a command, and those that the user wrote; gives the words that run it confined."""
FILTER = re.compile(r"((?:/[\w./+-]*/)?git-lfs) (?:clean|smudge|filter-process)(?: --skip)?(?: (?:-- )?%f)?")
"""The command of a filter that is git-lfs, as it installs itself."""
_EXTENSION = re.compile(r"lfs\.extension\.[^.]+\.(?:clean|smudge)")
_TRANSFER = re.compile(r"(lfs\.customtransfer\.[^.]+)\.path")
# git-lfs cuts an extension's command at spaces, knows no quotes, and puts the name of a file, which is anybody's, for
# each `%f`; git lists settings line by line. So the script that it is given has none of all that.
_VARIABLES = "S=$(printf\t%b\t'\\0040');P=$(printf\t%b\t'\\0045');N=$(printf\t%b\t'\\0012.');N=${N%.};"
_CALLED_BY_VARIABLE = {" ": '"$S"', "%": '"$P"', "\n": '"$N"'}


def as_it_is(command: str, top: Path, path: str) -> str | None:
    """The command of a filter that is git-lfs, called as it installs itself; None for any other.

    It starts no program in the folder `top`, wherever a relative part of PATH leads.
    """
    match = FILTER.fullmatch(command)
    program = None if match is None else processes.find(match[1], path)
    if match is None or program is None or Path(program).resolve().is_relative_to(top.resolve()):
        return None
    if "/" in match[1] or all(folder.startswith("/") for folder in path.split(os.pathsep)):
        return command
    return f"{shlex.quote(program)}{command.removeprefix(match[1])}" if "%" not in program else None


def programs(settings: Mapping[str, str], users: Path, confine: Confine) -> dict[str, str]:
    """Settings that lie over those given, such that git-lfs starts what they name in no folder of an assistant.

    `users` is the top of the user's own checkout. Raises what `confine` does.
    """
    known = {key.lower(): value for key, value in settings.items()}  # so git-lfs reads them
    found = {}
    for key, value in known.items():
        if not value:
            continue
        if _EXTENSION.fullmatch(key):
            found[key] = _extension(value, confine)
        elif match := _TRANSFER.fullmatch(key):
            arguments = f"{match[1]}.args"
            found[key] = "sh"
            found[arguments] = _transfer(value, known.get(arguments, ""), users)
    return found


def _extension(command: str, confine: Confine) -> str:
    """The command of an extension, confined. `%f` in one of its words is the name of the file."""
    # Not as a shell would: git-lfs does so.
    name, *words = command.split(" ")
    slots = [f"\0{number}" for number in range(len(words))]
    given = dict(zip(slots, words, strict=True))
    made = confine([name, *slots], [name, *words])
    script = "\t".join(_word(given[word]) if word in given else _quoted(word) for word in made)
    return f"sh -c {_VARIABLES}exec\t{script} sh %f"


def _word(text: str) -> str:
    return '"$1"'.join(_quoted(part) if part else "" for part in text.split("%f")) or "''"


def _quoted(text: str) -> str:
    """A word of a shell's script without spaces, line ends and `%`."""
    parts = (part for part in re.split(r"([ %\n])", text) if part)
    return "".join(_CALLED_BY_VARIABLE.get(part) or shlex.quote(part) for part in parts) or "''"


def _transfer(path: str, arguments: str, users: Path) -> str:
    """The arguments of `sh` that start the program of a transfer; git-lfs, too, has a shell read its arguments."""
    script = (
        f"cd {shlex.quote(str(users))} && unset $(git rev-parse --local-env-vars) && "
        f"exec {shlex.quote(path)} {arguments}"
    )
    return f"-c {shlex.quote(script)}"
