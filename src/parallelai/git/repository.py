"""The user's repository: its plumbing, and git as the user has configured it.

Two ways to git, told apart on purpose. `git` reads and writes objects and refs, runs no hook and knows no
setting but ours: what decides what lands must not depend on who runs it. `as_user` is git as the user would
call it, with their identity, signing, hooks and credentials: for worktrees, commits, fetch and push.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from parallelai.errors import UsageError
from parallelai.git.plumbing import Git, failure, is_full
from parallelai.processes import Completed, environment, run_quick

SECONDS = 600.0
"""How long one call may take: a fetch or a checkout of a large repository takes a while."""
_INCLUDES = r"^include(if)?\."
"""The settings by which a file of settings takes in another one."""
_BRANCHES = "refs/heads/"
_OURS = f"{_BRANCHES}parallelai/"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_OF_A_HASH = 66
"""Characters: one more than the longest and the end of its line."""
_PASSED = (
    *("XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "SSH_AGENT_PID", "GNUPGHOME", "GPG_TTY", "GPG_AGENT_INFO"),
    *("GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "SSH_ASKPASS"),
    *("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"),
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "http_proxy", "https_proxy", "no_proxy"),
    *("HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY"),
    *("GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is true of commits for ever, or of settings until their files change, and was asked already.

    A process of git takes milliseconds.
    """

    commits: set[str] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)  # commits without submodules
    trees: dict[str, str] = field(default_factory=dict)
    ancestors: set[tuple[str, str]] = field(default_factory=set)
    settings: dict[tuple[object, ...], dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository with its main checkout. All paths are absolute and resolved.

    `root` is the top of the main worktree (of a bare repository its own folder); `common` is the git folder
    that all worktrees share; `git` is plumbing on it, without a work tree.
    """

    root: Path
    common: Path
    is_bare: bool = False
    _facts: _Facts = field(default_factory=_Facts, compare=False, repr=False)

    @property
    def git(self) -> Git:
        """Plumbing on objects and refs: no hooks, none of the user's settings."""
        return Git(self.common)

    async def as_user(
        self,
        *arguments: str,
        at: Path | None = None,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> Completed:
        """Call git as the user would, in a checkout (`at`, by default the main one). It may fail."""
        given = environment(
            env={"GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "LC_ALL": "C.UTF-8", **(env or {})},
            pass_env=_PASSED,
        )
        call = functools.partial(
            run_quick, ("git", "--no-pager", *arguments), at or self.root, seconds, env=given, stdin=stdin
        )
        running = asyncio.ensure_future(asyncio.to_thread(call))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:  # what it writes must not come later
            await asyncio.wait([running])
            raise

    async def settings(self, pattern: str, at: Path, env: Mapping[str, str]) -> dict[str, str]:
        """The settings whose keys match, as the git that `as_user` calls sees them; the last of several counts.

        Raises `GitError` where git cannot read them.
        """
        git_dir = env.get("GIT_DIR", str(self.common))
        marks = await asyncio.to_thread(_marks, self.common, Path(git_dir))
        asked = (pattern, None if "GIT_DIR" in env else at, marks)
        known = self._facts.settings.get(asked)
        if known is None:
            words = ("config", "--null", "--get-regexp", f"{pattern}|{_INCLUDES}")
            done = await self.as_user(*words, at=at, env=env)
            if done.exit not in (0, 1):  # 1: there are none
                raise failure(words, done)
            rows = [os.fsdecode(row).partition("\n") for row in done.stdout.split(b"\0") if row]
            has_others = any(re.match(_INCLUDES, key) for key, _, _ in rows)
            known = {key: value for key, _, value in rows if not re.match(_INCLUDES, key)}
            if not has_others:  # else they change, and the marks do not
                self._facts.settings[asked] = known
        return known

    async def commit(self, revision: str) -> str | None:
        """The commit that a revision means; None where there is none."""
        known = _loose(self.common, revision) or revision
        if known in self._facts.commits:
            return known
        asked = f"{revision}^{{commit}}"
        done = await self.git.attempt("rev-parse", "--verify", "--quiet", "--end-of-options", asked)
        if done.exit != 0:
            return None
        found = os.fsdecode(done.stdout).strip()
        self._facts.commits.add(found)
        return found

    async def has_modules(self, commit: str) -> bool:
        """Whether a commit says that it has submodules."""
        if commit in self._facts.plain:
            return False
        done = await self.git.attempt("cat-file", "-e", f"{commit}:.gitmodules")
        if done.exit != 0 and done.ended_by is None and commit in self._facts.commits:
            self._facts.plain.add(commit)
        return done.exit == 0

    async def tree(self, commit: str) -> str:
        """The tree of a commit. Raises `GitError`."""
        known = self._facts.trees.get(commit)
        if known is None:
            known = await self.git.line("rev-parse", "--verify", f"{commit}^{{tree}}")
            if _is_hash(commit):
                self._facts.trees[commit] = known
        return known

    async def branch(self, at: Path | None = None) -> str | None:
        """The branch that is checked out in a worktree, without `refs/heads/`; None where HEAD is detached."""
        done = await self.as_user("symbolic-ref", "--quiet", "--short", "HEAD", at=at)
        return os.fsdecode(done.stdout).strip() if done.exit == 0 else None

    async def ancestor(self, a: str, b: str) -> bool:
        """Whether commit `a` is an ancestor of `b`, or the same."""
        if a == b or (a, b) in self._facts.ancestors:
            return True
        found = (await self.git.attempt("merge-base", "--is-ancestor", a, b)).exit == 0
        if found and _is_hash(a) and _is_hash(b):
            self._facts.ancestors.add((a, b))
        return found

    async def move(
        self, ref: str, to: str, expected: str | None, why: str, *, is_followed: bool = False
    ) -> bool:
        """Move a whole ref name by compare-and-swap; False if it was not at `expected`.

        `expected` None means that the ref must not exist yet. Where the ref is another name of a branch, that
        branch is moved only if it `is_followed`. Raises `StoreFullError`.
        """
        await asyncio.to_thread(clear_links, self.common, ref)
        old = expected if expected is not None else "0" * len(to)
        through = () if is_followed else ("--no-deref",)
        done = await self.git.attempt("update-ref", *through, "-m", why, "--create-reflog", ref, to, old)
        if is_full(done):
            raise failure(("update-ref",), done)
        if done.exit == 0 and ref.startswith(_BRANCHES):  # git puts a branch at nothing but a commit
            self._facts.commits.add(to)
        return done.exit == 0

    async def delete(self, ref: str, expected: str) -> bool:
        """Delete a ref by compare-and-swap, never what it is another name of; False if it was not at `expected`."""
        await asyncio.to_thread(clear_links, self.common, ref)
        return (await self.git.attempt("update-ref", "--no-deref", "-d", ref, expected)).exit == 0


def _marks(common: Path, git_dir: Path) -> tuple[object, ...]:
    """By which the files of settings are known again, but for those that one of them includes."""
    home = os.path.expanduser("~")  # noqa: PTH111 - a home that is not known is no error
    users = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    named = (
        os.environ.get("GIT_CONFIG_GLOBAL") or f"{home}/.gitconfig",
        f"{users}/git/config",
        "/etc/gitconfig",
    )
    marks: list[object] = []
    for path in (
        common / "config",
        common / "config.worktree",
        git_dir / "config.worktree",
        *map(Path, named),
    ):
        try:
            found = path.stat()
        except OSError:
            marks.append(None)
        else:
            marks.append((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    return tuple(marks)


def _loose(common: Path, ref: str) -> str | None:
    """The hash in the file of a branch, which git reads first; None where it is not that, or no plain file."""
    if not ref.startswith(_BRANCHES) or not {"", ".", ".."}.isdisjoint(ref.split("/")):
        return None
    try:
        opened = os.open(common / ref, _READ)
        with os.fdopen(opened, "rb") as file:  # a pipe by that name gives nothing
            found = (file.read(_MOST_OF_A_HASH) or b"").decode("ascii").removesuffix("\n")
    except (OSError, ValueError):
        return None
    return found if _is_hash(found) else None


def _is_hash(name: str) -> bool:
    return len(name) in (40, 64) and not name.strip("0123456789abcdef")


def clear_links(common: Path, ref: str) -> None:
    """Remove links that lie where git writes a branch of ours, or its log: assistants may write there.

    git would follow them, to any file of the user's.
    """
    if not ref.startswith(_OURS):
        return
    for place in (common, common / "logs"):
        for part in ref.split("/"):
            place /= part
            if place.is_symlink():
                place.unlink(missing_ok=True)


async def open_repository(root: Path) -> Repository:
    """Find the repository that a folder is in, and its main checkout. Raises `UsageError` where there is none."""
    done = await _ask(root, "rev-parse", "--path-format=absolute", "--git-common-dir", "--is-bare-repository")
    if done.exit != 0:
        if b"dubious ownership" in done.stderr:
            trust = shlex.join(["git", "config", "--global", "--add", "safe.directory", str(root)])
            said = f"git does not look into `{root}`: it is another user's"
            raise UsageError(said, next=f"if you trust them, `{trust}`")
        advice = "`git init` and a first commit make it one"
        raise UsageError(f"`{root}` is in no git repository", next=advice)
    common_text, bare = os.fsdecode(done.stdout).rstrip("\n").rsplit("\n", 1)
    common = Path(common_text).resolve()
    listed = await _ask(root, "worktree", "list", "--porcelain", "-z")
    if listed.exit != 0:
        raise failure(("worktree",), listed)
    first = listed.stdout.split(b"\0\0", 1)[0].split(b"\0")
    main = Path(os.fsdecode(first[0].removeprefix(b"worktree "))).resolve()
    is_bare = b"bare" in first[1:] or bare == "true"
    return Repository(common if is_bare else main, common, is_bare)


async def _ask(root: Path, *arguments: str) -> Completed:
    env = environment(env={"LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0"}, pass_env=_PASSED)
    return await asyncio.to_thread(
        functools.partial(run_quick, ("git", "--no-pager", *arguments), root, SECONDS, env=env)
    )
