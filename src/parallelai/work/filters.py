"""The filters that the user's git has for files, in folders that assistants filled.

git runs them at the top of the folder, and what they are made of may lie there: a script of the project, a module
that Python finds beside it, a plugin. So git is told to run each of them confined: it reads, has no network, and
writes nothing but what it prints. Only git-lfs runs as it is, where it cannot be one of an assistant's: it runs
nothing of the folder, and keeps files in the repository. (What a filter is: gitattributes(5).)
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parallelai import processes
from parallelai.engines.confining import confinement
from parallelai.engines.own_folders import installation
from parallelai.engines.protocol import Request, Workspace
from parallelai.errors import Unavailable
from parallelai.git.repository import SECONDS, Repository
from parallelai.processes import Completed
from parallelai.work.scratch.removing import remove

PATTERN = r"^(filter\..*\.(clean|smudge|process)|lfs\.(extension|customtransfer)\..*)$"
"""The settings that name programs of filters, and those that have git-lfs run others."""
_PROGRAM = re.compile(r"filter\..*\.(?:clean|smudge|process)", re.DOTALL)
_LFS = re.compile(r"((?:/[\w./+-]*/)?git-lfs) (?:clean|smudge|filter-process)(?: --skip)?(?: (?:-- )?%f)?")
_QUOTE_OR_NAME = re.compile(r"""\\.|'|"|%f|%%""", re.DOTALL)
_LOGINS = ("SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO", "GIT_ASKPASS", "SSH_ASKPASS")


@dataclass(frozen=True, slots=True)
class Folder:
    """Where filters run. Paths are absolute; `path` is the top, `temporary` theirs alone.

    `readable` is seen wherever it lies, `hidden` is not.
    """

    path: Path
    temporary: Path
    readable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


async def as_user(
    repository: Repository,
    *arguments: str,
    at: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    seconds: float = SECONDS,
    top: Path | None = None,
    readable: tuple[str, ...] = (),
    hidden: tuple[str, ...] = (),
) -> Completed:
    """`Repository.as_user` on files of assistants: where a sandbox works here, filters run in it.

    `top` is where they run, if not `at`; for `readable` and `hidden` see `Folder`.
    Raises `Unavailable` where they cannot be confined, `GitError` where git cannot read its settings.
    """
    given = dict(env or {})
    commands = await repository.settings(PATTERN, at, given)
    if not commands or not processes.confinements():
        return await repository.as_user(*arguments, at=at, stdin=stdin, env=given, seconds=seconds)
    temporary = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="parallelai-filters-"))
    try:
        folder = Folder(top or at, temporary, (str(repository.common), *readable), hidden)
        given |= _as_environment(await asyncio.to_thread(confined, commands, folder))
        return await repository.as_user(*arguments, at=at, stdin=stdin, env=given, seconds=seconds)
    finally:
        await asyncio.to_thread(remove, temporary)


async def of_user(repository: Repository) -> dict[str, str]:
    """The filters of the user's git (git-lfs is one), which run in a checkout of theirs, too.

    What git-lfs has fetched lies in the user's repository.
    """
    found = await repository.git.configured(r"^(filter\..*\.(clean|smudge|process|required)|lfs\.storage)$")
    if any(key.startswith("filter.lfs.") for key in found):
        storage = Path(found.get("lfs.storage", "lfs"))
        found["lfs.storage"] = str(repository.common / storage)
    return found


def confined(settings: Mapping[str, str], folder: Folder) -> dict[str, str]:
    """Settings of filters such that git runs those confined that could run what lies in a folder.

    Without a sandbox on this machine there are none. Raises `Unavailable` where that cannot be.
    """
    if not processes.confinements():
        return {}
    has_others = any(key.startswith(("lfs.extension.", "lfs.customtransfer.")) for key in settings)
    path = os.environ.get("PATH", os.defpath)
    found = {}
    for key, command in settings.items():
        if command and _PROGRAM.fullmatch(key):
            own = None if has_others else as_lfs(command, folder.path, path)
            found[key] = own or _confined(command, folder, is_one_file=not key.endswith(".process"))
    return {key: command for key, command in found.items() if command != settings[key]}


def as_lfs(command: str, top: Path, path: str) -> str | None:
    """The command of a filter that is git-lfs, called as it installs itself; None for any other.

    It starts no program in the folder `top`, wherever a relative part of PATH leads.
    """
    match = _LFS.fullmatch(command)
    program = None if match is None else processes.find(match[1], path)
    if match is None or program is None or Path(program).resolve().is_relative_to(top.resolve()):
        return None
    if "/" in match[1] or all(folder.startswith("/") for folder in path.split(os.pathsep)):
        return command
    return f"{shlex.quote(program)}{command.removeprefix(match[1])}" if "%" not in program else None


def _confined(command: str, folder: Folder, *, is_one_file: bool) -> str:
    """The command that has git run one of the user's confined; of one file git fills the name in, after ours."""
    words = _words(command)
    is_outside = bool(words) and (words[0].startswith("/") or "/" not in words[0])
    shown = installation(words[0]) if is_outside else []
    workspace = Workspace(
        edits=False,
        temporary=str(folder.temporary),
        network="off",
        readable=(*folder.readable, *shown, *(word for word in words[1:] if word.startswith("/"))),
        hidden=folder.hidden,
    )
    asked = confinement(Request("", "filter", 0, str(folder.path), "", workspace=workspace))
    script = named(command) if is_one_file else command
    unset = [word for name in _LOGINS for word in ("-u", name)]
    try:
        if asked is None:
            raise ValueError("no sandbox works here")
        made = processes.confined_words(["env", *unset, "sh", "-c", script, "sh"], asked, folder.path)
    except ValueError as error:
        raise Unavailable(
            f"git's filter `{command}` cannot be confined: {error}",
            next="take the filter out of git's settings, or install bubblewrap",
        ) from None
    text = shlex.join(made)
    return f"{text.replace('%', '%%')} %f" if is_one_file else text


def named(command: str) -> str:
    """A filter's command as a script of the shell that gets the file's name, which git writes as `%f`, as `$1`.

    In quotes too: the name is never read as a part of the script.
    """
    quote = ""

    def put(match: re.Match[str]) -> str:
        nonlocal quote
        found = match[0]
        if found == "%%":
            return "%"
        if found == "%f":
            return {"": '"$1"', "'": "'\"$1\"'", '"': "$1"}[quote]
        if found in ("'", '"') and quote in ("", found):
            quote = "" if quote else found
        elif found.startswith("\\") and quote == "'" and found[1:] == "'":
            quote = ""  # a backslash means nothing there
        return found

    return _QUOTE_OR_NAME.sub(put, command)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an open quote: the shell will say so
        return []


def _as_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """`-c` would cut at the first `=`, also of a filter's name."""
    env = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        env |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return env
