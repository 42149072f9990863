"""git's plumbing with a repository, index and work tree of our choosing; nothing here decides.

The repositories that it is used on may be hostile: nothing that a repository configures (hooks, monitors,
filters, aliases) is run, nothing is fetched, and no configuration but ours is read.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from parallelai.errors import ParallelAIError, StoreFullError
from parallelai.processes import Completed, environment, run_quick
from parallelai.processes.temporary import temporary_folder
from parallelai.store import faults

BATCH = 200
"""How many contents are asked for at a time: their bytes are held in memory together."""
MOST_BYTES = 256 * 1024 * 1024
"""How much one call may print: it is held in memory."""
MOST_OF_A_LINE = 64 * 1024
"""How many bytes of paths one command line gets: systems allow 128 KiB for a word, and some 256 KiB for all."""
SECONDS = 600.0
"""How long one call may take; a first snapshot of a large repository takes some seconds."""

_SEVERITY = re.compile(r"^(?:fatal|error): ", re.MULTILINE)

EXACT = (
    *("-c", "core.trustctime=true"),
    *("-c", "core.checkStat=default"),
    *("-c", "core.ignoreStat=false"),
)
"""Settings by which git sees each file that was written, also where its size and time were put back."""

_MORE = 1024 * 1024
"""A full disk has no room for so many bytes more."""
_SAFE = (
    "git",
    "--no-pager",
    "--literal-pathspecs",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.attributesFile=/dev/null"),
    *("-c", "core.excludesFile=/dev/null"),
    *("-c", "core.autocrlf=false"),
    *("-c", "core.safecrlf=false"),
    *("-c", "core.untrackedCache=false"),
    *("-c", "core.splitIndex=false"),
    *("-c", "core.sparseCheckout=false"),
    *EXACT,
    *("-c", "gc.auto=0"),
    *("-c", "protocol.allow=never"),
    *("-c", "commit.gpgSign=false"),
)
_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C.UTF-8",
    # Commits of ours are the same for the same content, whenever they are made.
    "GIT_AUTHOR_NAME": "ParallelAI",
    "GIT_AUTHOR_EMAIL": "parallelai@localhost",
    "GIT_AUTHOR_DATE": "2000-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "ParallelAI",
    "GIT_COMMITTER_EMAIL": "parallelai@localhost",
    "GIT_COMMITTER_DATE": "2000-01-01T00:00:00Z",
}

_SHA256 = "[core]\n\trepositoryFormatVersion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = sha256\n"
_SHA1 = "[core]\n\trepositoryFormatVersion = 0\n\tbare = true\n"
_PROMISED = re.compile(rb"promisor remote|unable to read sha1 file")
"""What git says where a partial clone lacks an object."""
_BRINGS_ALL = "`git fetch --refetch --no-filter` brings what a partial clone has not"
_DENIED = re.compile(r"Permission denied(?! \()|Operation not permitted|Read-only file system")
"""What the system says where one may not write; ssh says it, too, and then why."""
_GIVE_RIGHTS = "see to it that you may write there, then run the same command again"


class GitError(ParallelAIError):
    """git did not do what was asked; `said` holds its own words."""

    kind = "internal"


@dataclass(frozen=True, slots=True)
class Git:
    """Where git works: absolute paths. Without a work tree only objects and refs are touched.

    `objects` is where new objects go, `alternates` where objects are read from beside it. `settings` are laid
    over the safe ones, as `key=value` each.
    """

    git_dir: Path
    work_tree: Path | None = None
    index: Path | None = None
    objects: Path | None = None
    alternates: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()

    async def dated(self, like: str) -> Git:
        """The same git, whose commits have the date of another one.

        git looks for merge bases by dates: a commit that is older than its parents has it walk all of history.
        """
        date = await self.line("log", "-1", "--format=@%ct +0000", "--end-of-options", like)
        return replace(self, env={**self.env, "GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date})

    async def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run git and give what it printed. Raises `GitError` where it fails, `StoreFullError` for want of room."""
        done = await self.attempt(*arguments, stdin=stdin)
        if done.exit != 0 or done.is_truncated:
            raise failure(arguments, done)
        return done.stdout

    async def line(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run git and give the line that it printed."""
        return os.fsdecode(await self.run(*arguments, stdin=stdin)).removesuffix("\n")

    async def attempt(self, *arguments: str, stdin: bytes = b"", most_bytes: int = MOST_BYTES) -> Completed:
        """Run git, which may fail. It is ended where it prints more than so many bytes: `is_truncated` says so."""
        call = self._call(arguments)
        return await _to_its_end(functools.partial(call, stdin=stdin, max_output_bytes=most_bytes))

    async def write(self, path: Path, *arguments: str) -> None:
        """Have git print into a new file, however much: it is whole and down on the disk, or not there.

        Raises `StoreError` where a file is there already or none can be made, `StoreFullError` for want of room,
        `GitError` where git fails.
        """
        done = await _to_its_end(functools.partial(_write, self._call(arguments), path))
        if done.exit != 0:
            raise failure(arguments, done)

    def _call(self, arguments: tuple[str, ...]) -> functools.partial[Completed]:
        cwd = self.work_tree or self.git_dir
        laid_over = [word for setting in self.settings for word in ("-c", setting)]
        argv = (*_SAFE, *laid_over, *arguments)
        return functools.partial(run_quick, argv, cwd, SECONDS, env=self._environment())

    async def blobs(self, names: Collection[str]) -> dict[str, bytes]:
        """Give contents by their hashes, of those that are there; in one process for many of them."""
        found: dict[str, bytes] = {}
        wanted = sorted(names)
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            data = await self._contents(batch)
            at = 0
            for name in batch:
                end = data.index(b"\n", at)
                header = data[at:end].split(b" ")
                at = end + 1
                if len(header) == 3:  # else it is missing
                    size = int(header[2])
                    found[name] = data[at : at + size]
                    at += size + 1
        return found

    async def _contents(self, names: Sequence[str]) -> bytes:
        """What git prints of objects.

        In a partial clone it ends at the first that is not there: then a git is asked that knows of no remote.
        """
        words, stdin = ("cat-file", "--batch"), "".join(f"{name}\n" for name in names).encode()
        done = await self.attempt(*words, stdin=stdin)
        if done.exit != 0 and _PROMISED.search(done.stderr):
            more = (self.objects,) if self.objects is not None else ()
            async with objects_of(self.git_dir, names[0]) as apart:
                everywhere = (*apart.alternates, *self.alternates, *more)
                done = await replace(apart, alternates=everywhere).attempt(*words, stdin=stdin)
        if done.exit != 0 or done.is_truncated:
            raise failure(words, done)
        return done.stdout

    async def configured(self, pattern: str) -> dict[str, str]:
        """Read the settings whose keys match, as the user's git sees them: system, user, repository.

        Keys are in lower case; of several values the last counts. Only reads, and runs nothing.
        """
        argv = ("git", "--git-dir", str(self.git_dir), "config", "--null", "--get-regexp", pattern)
        env = environment(env={"LC_ALL": "C.UTF-8"}, pass_env=("XDG_CONFIG_HOME",))
        done = await _to_its_end(functools.partial(run_quick, argv, self.git_dir, SECONDS, env=env))
        rows = (os.fsdecode(row).partition("\n") for row in done.stdout.split(b"\0") if row)
        return {key: value for key, _, value in rows}

    def _environment(self) -> dict[str, str]:
        env = {**_ENVIRONMENT, "GIT_DIR": str(self.git_dir), **self.env}
        if self.work_tree is not None:
            env["GIT_WORK_TREE"] = str(self.work_tree)
        if self.index is not None:
            env["GIT_INDEX_FILE"] = str(self.index)
        if self.objects is not None:
            env["GIT_OBJECT_DIRECTORY"] = str(self.objects)
        if self.alternates:
            env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = os.pathsep.join(
                _quoted(each) for each in self.alternates
            )
        return environment(env=env)


@asynccontextmanager
async def objects_of(folder: Path, commit: str) -> AsyncIterator[Git]:
    """git in a bare repository of ours which is empty, but reads the objects of a git folder; gone at the end.

    `commit` is any whole name of an object there: it tells the form of names. Raises `OSError`.
    """
    with temporary_folder("submodule") as ours:
        for name in ("objects", "refs"):
            (ours / name).mkdir()
        (ours / "HEAD").write_text("ref: refs/heads/none\n", encoding="utf-8")
        (ours / "config").write_text(_SHA256 if len(commit) == 64 else _SHA1, encoding="utf-8")
        yield Git(ours, alternates=(folder / "objects",))


def in_parts(paths: Iterable[str]) -> Iterator[list[str]]:
    """Part paths so that each part fits on a command line: for what git takes no list of on its input."""
    part, size = list[str](), 0
    for path in paths:
        size += len(os.fsencode(path)) + 1
        if part and size > MOST_OF_A_LINE:
            yield part
            part, size = [], len(os.fsencode(path)) + 1
        part.append(path)
    if part:
        yield part


async def _to_its_end(call: Callable[[], Completed]) -> Completed:
    """Run a call in a thread. Who is cancelled waits for its end: what it writes must not come later."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _write(call: functools.partial[Completed], path: Path) -> Completed:
    with faults.told(path), path.open("xb") as file:
        is_whole = False
        try:
            done = call(stdout=file)
            if done.exit != 0 and not is_full(done):
                file.write(bytes(_MORE))  # git does not always say why it could not write; the system does
                file.flush()
            os.fsync(file.fileno())
            is_whole = done.exit == 0
        finally:
            if not is_whole:
                path.unlink(missing_ok=True)
    return done


def _quoted(path: Path) -> str:
    """A path in git's list of folders: what could be taken for a separator is quoted as C does."""
    text = str(path)
    if os.pathsep not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def is_full(done: Completed) -> bool:
    """Whether git failed because the disk has no room, or a quota or a limit on the size of files was reached."""
    return done.exit != 0 and (faults.tells_full(done.stderr) or done.signal == signal.SIGXFSZ)


def in_one_line(said: str, most: int) -> str:
    """Put the first lines of what git said, at most so many, into one: what has no word in it is none of them."""
    lines = (line.strip().removeprefix("remote:").strip(" ;") for line in said.splitlines())
    told = [line for line in lines if line][:most]
    joined = "; ".join([*(line.rstrip(".;") for line in told[:-1]), *told[-1:]])
    return joined.replace(":; ", ": ")  # what follows a heading belongs to it


def failure(arguments: tuple[str, ...], done: Completed) -> GitError | StoreFullError:
    """The error of a call that failed, with git's own words."""
    said = in_one_line(_SEVERITY.sub("", done.stderr.decode("utf-8", "replace")), 3)
    if is_full(done):
        return faults.no_room(f"`git {arguments[0]}` failed: {said or 'a file would have become too large'}")
    if done.ended_by is not None:
        said = f"it was not done after {SECONDS:g} s"
    advice = _BRINGS_ALL if _PROMISED.search(done.stderr) else _GIVE_RIGHTS if _DENIED.search(said) else None
    return GitError(
        f"`git {arguments[0]}` failed: {said or f'exit {done.exit}'}", next=advice, retry_helps=False
    )
