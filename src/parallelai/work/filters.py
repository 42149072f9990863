"""The filters that the user's git has for files, in folders that assistants filled.

git runs them at the top of the folder, and what they are made of may lie there: a script of the project, a module
that Python finds beside it, a plugin. So git is told to run each of them confined: it reads, has no network, and
writes nothing but what it prints. Only git-lfs runs as it is, where it cannot be one of an assistant's: it runs
nothing of the folder (see `lfs`), and keeps files in the repository. git-annex does not run: it would start programs
that attributes of the folder name, and has to write where the only copy of the user's files may be.
(What a filter is: gitattributes(5).)
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import shlex
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from parallelai import processes
from parallelai.engines.confining import confinement
from parallelai.engines.own_folders import installation
from parallelai.engines.protocol import Request, Workspace
from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import ParallelAIError, Unavailable
from parallelai.git.plumbing import GitError, is_full
from parallelai.git.repository import SECONDS, Repository
from parallelai.processes import Completed
from parallelai.processes.removing import remove
from parallelai.processes.temporary import make_folder
from parallelai.work import lfs, lfs_config

PATTERN = r"^(filter\..*\.(clean|smudge|process|required)|lfs\..*)$"
"""The settings of filters, and those of git-lfs."""
_PROGRAM = re.compile(r"filter\..*\.(?:clean|smudge|process)", re.DOTALL)
_ANNEX = re.compile(r"(?:/[\w./+-]*/)?git-annex (?:smudge(?: --clean)?|filter-process)(?: (?:-- )?%f)?")
_FAILED = re.compile(r"fatal: (.*): (clean|smudge) filter '?(.*?)'? failed")
_MOST_SAID = 500
_WHAT_IT_MAY = (
    "it may read files, and write what it prints: have it do no more, or take it out of git's settings"
)
_QUOTE_OR_NAME = re.compile(r"""\\.|'|"|%f|%%""", re.DOTALL)
_WRITE_NO_FILE = frozenset(
    {"check-attr", "diff-files", "diff-index", "hash-object", "ls-files", "update-index"}
)
"""Commands of git for which git-lfs asks no server; most calls are one of them."""
_LOGINS = ("SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO", "GIT_ASKPASS", "SSH_ASKPASS")


class Folder(Struct, frozen=True):
    """Where filters run. Paths are absolute; `path` is the top, `temporary` theirs alone.

    `users` is the top of the user's own checkout; `readable` is seen wherever it lies, `hidden` is not.
    """

    path: Path
    temporary: Path
    users: Path
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
    is_confined: bool = True,
) -> Completed:
    """`Repository.as_user` on files of assistants: where a sandbox works here, filters run in it.

    `top` is where they run, if not `at`: a worktree that git is to make, of the last argument. For `readable` and
    `hidden` see `Folder`. Where the assistant was not confined, nor need they be.
    Raises `Unavailable` where they cannot be confined, or where one that git cannot do without fails, `GitError`
    where git cannot read its settings.
    """
    given = dict(env or {})
    settings = await repository.settings(PATTERN, at, given)
    if not settings:
        return await repository.as_user(*arguments, at=at, stdin=stdin, env=given, seconds=seconds)
    # Not in a thread: who is cancelled there would never hear of the folder.
    temporary = make_folder("filters")
    try:
        folder = Folder(top or at, temporary, repository.root, (str(repository.common), *readable), hidden)
        if is_confined:
            changed = await _confined_for(repository, settings, folder)
            if _may_write(arguments):
                read = functools.partial(_read, repository, at, dict(given))
                revisions = ("", "HEAD") if top is None else (arguments[-1],)
                changed |= await lfs_config.overriding(
                    repository,
                    settings,
                    read,
                    folder=folder.path,
                    revisions=revisions,
                    written=_trees(arguments),
                )
        else:
            changed = without_annex(settings)
        given |= as_environment(changed)
        done = await repository.as_user(*arguments, at=at, stdin=stdin, env=given, seconds=seconds)
    finally:
        await asyncio.to_thread(remove, temporary)
    if error := failed(done, settings, changed):
        raise error
    return done


async def _confined_for(
    repository: Repository, settings: Mapping[str, str], folder: Folder
) -> dict[str, str]:
    """As `confined`; a worktree may have settings of its own, which git-lfs does not get unconfined."""
    for_lfs = _of_lfs(settings)
    is_users = not for_lfs or for_lfs == _of_lfs(await repository.settings(PATTERN, repository.root, {}))
    return await asyncio.to_thread(confined, settings, folder, is_users=is_users)


def _command(arguments: Sequence[str]) -> str:
    """The command that git is called with, after its own options."""
    words = iter(arguments)
    for word in words:
        if word == "-c":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def _may_write(arguments: Sequence[str]) -> bool:
    """Whether git may write files of a folder."""
    command = _command(arguments)
    return command not in _WRITE_NO_FILE and (command != "read-tree" or "-u" in arguments)


def _trees(arguments: Sequence[str]) -> tuple[str, ...]:
    """The commits and trees whose files `git read-tree` is to write."""
    if _command(arguments) != "read-tree":
        return ()
    return tuple(word for word in arguments[arguments.index("read-tree") + 1 :] if not word.startswith("-"))


def _read(
    repository: Repository, at: Path, env: Mapping[str, str], stdin: bytes
) -> Coroutine[None, None, Completed]:
    return repository.as_user("cat-file", "--batch", at=at, env=env, stdin=stdin)


async def of_user(repository: Repository) -> dict[str, str]:
    """The settings of filters of the user's git, which run in a checkout of theirs, too; git-lfs's among them.

    What git-lfs has fetched lies in the user's repository.
    """
    found = await repository.git.configured(PATTERN)
    if any(key.startswith("filter.lfs.") for key in found):
        storage = Path(found.get("lfs.storage", "lfs"))
        found["lfs.storage"] = str(repository.common / storage)
    return found


def confined(settings: Mapping[str, str], folder: Folder, *, is_users: bool = True) -> dict[str, str]:
    """Settings of filters such that git runs those confined that could run what lies in a folder.

    Without a sandbox on this machine there are none but git-annex's. `is_users` says that git-lfs is told what it
    is told in the user's own checkout; else it is confined, too. Raises `Unavailable` where that cannot be.
    """
    left_out = without_annex(settings)
    if not processes.confinements():
        return left_out
    path = os.environ.get("PATH", os.defpath)
    found = {}
    has_lfs = False
    for key, command in settings.items():
        if command and key not in left_out and _PROGRAM.fullmatch(key):
            as_it_is = lfs.as_it_is(command, folder.path, path) if is_users else None
            has_lfs = has_lfs or as_it_is is not None
            found[key] = as_it_is or _confined(command, folder, is_one_file=not key.endswith(".process"))
    if has_lfs:
        found |= lfs.programs(settings, folder.users, lambda argv, words: _within(argv, folder, words))
    return left_out | {key: value for key, value in found.items() if value != settings.get(key)}


def without_annex(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings of filters such that git runs no git-annex, which is called as it installs itself.

    Files are then what git keeps of them: those that git-annex has are its pointers, as where it was never begun.
    """
    keys = [key for key, value in settings.items() if _PROGRAM.fullmatch(key) and _ANNEX.fullmatch(value)]
    needed = {f"{key.rpartition('.')[0]}.required" for key in keys} & settings.keys()
    return dict.fromkeys(keys, "") | dict.fromkeys(needed, "false")


def of_annex(settings: Mapping[str, str]) -> frozenset[str]:
    """The names of the filters that are git-annex."""
    keys = without_annex(settings)
    return frozenset(key.removeprefix("filter.").rpartition(".")[0] for key in keys)


def own(settings: Mapping[str, str]) -> dict[str, str]:
    """The filters that are neither git-lfs nor git-annex, by name: the command that reads a file."""
    found = {}
    for kind in (".clean", ".process"):  # the latter counts, where there are both
        for key, command in settings.items():
            is_known = lfs.FILTER.fullmatch(command) or _ANNEX.fullmatch(command)
            if command and key.startswith("filter.") and key.endswith(kind) and not is_known:
                found[key.removeprefix("filter.").removesuffix(kind)] = command
    return found


def failed(done: Completed, settings: Mapping[str, str], changed: Mapping[str, str]) -> Unavailable | None:
    """The error of a call of git that a filter ended, in the filter's own words; None for any other outcome.

    `changed` are those of the filters' settings that git was given in the place of the user's.
    """
    lines = done.stderr.decode("utf-8", "replace").splitlines() if done.exit == 128 else []
    match = next((match for match in map(_FAILED.fullmatch, lines) if match), None)
    if match is None or is_full(done):
        return None
    path, direction, name = match.groups()
    keys = [f"filter.{name}.{kind}" for kind in ("process", direction)]
    key = next((key for key in keys if settings.get(key)), "")
    command = settings.get(key, "")
    runs = changed.get(key, command)
    is_lfs = any(Path(word).name == "git-lfs" for word in _words(runs)[:1])
    if runs != command and not is_lfs:
        how = "confined, as an assistant filled the folder"
        advice = _WHAT_IT_MAY
    else:
        how = "as you"
        advice = "try it in your checkout: `git add --renormalize .` runs it on every file"
        if is_lfs:
            advice = (
                "`git lfs fetch` in your checkout brings files that are not here; extensions run confined"
            )
    its = [line for line in lines if line and not line.startswith(("fatal: ", "error: external filter "))]
    words = shorten("; ".join(its[:3]), _MOST_SAID) or "it said nothing"
    said = f"git's filter `{name}` (`{command}`) failed on `{path}`; it runs {how}: {words}"
    return Unavailable(clean(said), next=advice)


def explained(error: GitError, settings: Mapping[str, str], changed: Mapping[str, str]) -> ParallelAIError:
    """The error of git's plumbing with the user's words for filters in the place of ours; any other as it is.

    `changed` are those of the filters' settings that git was given in the place of the user's.
    """
    said = error.said
    for key, command in changed.items():
        said = said.replace(command, settings[key]) if command and key in settings else said
    if said == error.said:
        return error
    return Unavailable(f"{clean(said)}; filters run confined in the folder of a gate", next=_WHAT_IT_MAY)


def _of_lfs(settings: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in settings.items() if key.startswith("lfs.")}


def _confined(command: str, folder: Folder, *, is_one_file: bool) -> str:
    """The command that has git run one of the user's confined; of one file git fills the name in, after ours."""
    script = named(command) if is_one_file else command
    text = shlex.join(_within(["sh", "-c", script, "sh"], folder, _words(command)))
    return f"{text.replace('%', '%%')} %f" if is_one_file else text


def _within(argv: Sequence[str], folder: Folder, words: Sequence[str]) -> list[str]:
    """The words that run a command confined; `words` are the user's, a program and its arguments."""
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
    unset = [word for name in _LOGINS for word in ("-u", name)]
    try:
        if asked is None:
            raise ValueError("no sandbox works here")
        return processes.confined_words(["env", *unset, *argv], asked, folder.path)
    except ValueError as error:
        raise Unavailable(
            f"git's filter `{shlex.join(words)}` cannot be confined: {error}",
            next="take the filter out of git's settings, or install bubblewrap",
        ) from None


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


def as_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Give git settings by its environment.

    `-c` would cut at the first `=`, also of a filter's name, and show everybody on the machine what may be secret.
    """
    env = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        env |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return env
