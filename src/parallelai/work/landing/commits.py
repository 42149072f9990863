"""The commits of a landing, made as the user's git would make them: identity, signature, hooks of the message.

What is tried in gates are commits of plumbing (`merging`); only what lands is made here, with the tree that was
tried. Of the hooks `prepare-commit-msg` and `commit-msg` are run (https://git-scm.com/docs/githooks): they need
nothing but the message. Those that look at the files have done so by then, on the tree that was tried (`hooks`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field

from parallelai.errors import ParallelAIError
from parallelai.git.plumbing import failure, in_one_line, is_full
from parallelai.git.repository import Repository
from parallelai.processes import Completed
from parallelai.processes.temporary import temporary_folder
from parallelai.work.landing.records import Method

_NOBODY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "ParallelAI"), ("EMAIL", "parallelai@localhost"))
}

_HOOKS = ("prepare-commit-msg", "commit-msg")
PRE_COMMIT, PRE_MERGE = "pre-commit", "pre-merge-commit"


def hooks_of(method: Method, is_settled: bool, is_replayed: bool) -> str | None:
    """The hook by which git looks at the files of a commit that lands a branch; it has none for what it replays.

    A merge whose conflicts somebody settled is a commit to git as any other. A revert is one that it replays.
    """
    if method == "merge":
        return PRE_COMMIT if is_settled else PRE_MERGE
    return None if is_replayed else PRE_COMMIT


class CommitRefusedError(ParallelAIError):
    """The user's git would not make a commit: its hook refused the message, or it could not be signed."""

    kind = "check_failed"
    exit_code = 4


class Committing(Struct):
    """Makes commits in a repository. What the user configured is looked up once."""

    repository: Repository
    _identity: Mapping[str, str] | None = None
    _signing: tuple[str, ...] = ()
    _hooks: tuple[str, ...] = ()
    _looked_up: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def commit(
        self, tree: str, parents: Sequence[str], message: str, author: Mapping[str, str] | None = None
    ) -> str:
        """Make a commit, and give its hash. `author` are git's own variables, where it is not the user.

        Raises `CommitRefusedError`, `StoreFullError`.
        """
        identity = await self._look_up()
        if self._hooks:
            message = await self._hooked(message, "merge" if len(parents) > 1 else "message")
        above = [word for parent in parents for word in ("-p", parent)]
        done = await self.repository.as_user(
            *("commit-tree", *self._signing, *above, "-F", "-", tree),
            stdin=message.encode("utf-8", "replace"),
            env={**identity, **(author or {})},
        )
        if is_full(done):
            raise failure(("commit-tree",), done)
        if done.exit != 0:
            raise CommitRefusedError(f"git did not make the commit: {words(done)}")
        return os.fsdecode(done.stdout).strip()

    async def _look_up(self) -> Mapping[str, str]:
        """Who the user is to git (nobody: ParallelAI), whether they sign, which hooks they have."""
        async with self._looked_up:  # several commits may be the first
            if self._identity is None:
                ask = self.repository.as_user
                known = await ask("var", "GIT_COMMITTER_IDENT")
                signs = await ask("config", "--type=bool", "--get", "commit.gpgSign")
                hooks = await ask("rev-parse", "--git-path", "hooks")
                folder = self.repository.root / os.fsdecode(hooks.stdout).rstrip("\n")
                self._hooks = tuple(name for name in _HOOKS if hooks.exit == 0 and _is_hook(folder / name))
                self._signing = ("-S",) if signs.stdout.strip() == b"true" else ()
                self._identity = {} if known.exit == 0 else _NOBODY
            return self._identity

    async def _hooked(self, message: str, source: str) -> str:
        """Have the hooks of the message run, as git runs them; `source` is where it is from, for the first of them."""
        with temporary_folder("message") as folder:
            path = folder / "COMMIT_EDITMSG"
            path.write_text(message, encoding="utf-8", errors="replace")
            for name in self._hooks:
                told = (str(path), *([source] if name == "prepare-commit-msg" else ()))
                done = await self.repository.as_user("hook", "run", "--ignore-missing", name, "--", *told)
                if done.exit != 0:
                    raise CommitRefusedError(
                        f"the repository's `{name}` hook refused `{message.splitlines()[0]}`: {words(done)}",
                        next="change the hook, or land without it",
                    )
            try:
                hooked = path.read_text(encoding="utf-8", errors="replace")
            except OSError:  # git cannot read it either
                hooked = ""
            if not hooked.strip():  # git makes no commit without a message
                names = " and ".join(f"`{name}`" for name in self._hooks)
                raise CommitRefusedError(
                    f"nothing is left of the message `{message.splitlines()[0]}` after the repository's {names}",
                    next="change the hook, or land without it",
                )
            return hooked


def _is_hook(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def words(done: Completed) -> str:
    """What git said, in one line of bounded length."""
    said = in_one_line((done.stderr or done.stdout).decode("utf-8", "replace"), 6)
    clean = "".join(character for character in said if character.isprintable())
    return clean[:500] or f"exit {done.exit}"
