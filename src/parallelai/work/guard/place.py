"""One worktree, as git sees it, and the guard's own things beside it.

Files are read and written as the user's git does it (line ends, filters such as large files), but with an index of
ours: the worktree's own is the assistant's. New objects go to a folder of ours first, so that what is kept out
never gets into the user's repository. Objects and trees are compared by plumbing that knows no setting but ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from parallelai.errors import Internal
from parallelai.git.paths import as_named
from parallelai.git.plumbing import EXACT, Git, failure
from parallelai.git.repository import Repository
from parallelai.processes import Completed
from parallelai.work import filters
from parallelai.work.guard.aftercare import Aftercare
from parallelai.work.sheltering import Shelter
from parallelai.work.streams.places import first_line, leads_to
from parallelai.work.streams.record import Rules

_CALM = (
    "--literal-pathspecs",
    *EXACT,
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.untrackedCache=false"),
    *("-c", "core.splitIndex=false"),
    *("-c", "core.safecrlf=false"),
    *("-c", "core.quotePath=false"),
    *("-c", "index.sparse=false"),
    *("-c", "submodule.recurse=false"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
)


def no_secrets(text: str) -> frozenset[str]:
    """Find no secret in any text."""
    return frozenset()


class Settings(Struct, frozen=True):
    """What a guard looks after. Paths are absolute and resolved.

    Attributes:
        name: the workstream's.
        worktree: the top of its linked worktree.
        branch: its branch, without `refs/heads/`.
        folder: where the guard keeps its own things; nobody else's, and out of the assistant's reach.
        patches: the folder for what is kept out.
        plan_file: the plan's path below the root, if it lies there.
        brought: paths that came along from the user's checkout (copied, linked): no part of any change.
        secrets_in: the secrets of a text.
        is_confined: the assistant's own sandbox keeps it from writing the repository's configuration, hooks and
            refs: what changed there was somebody else, and is left as it is.
        shelter: what its sandbox may have of git for itself alone.
        aftercare: sees to what is the user's and no ref, where no sandbox does; None where one does.
    """

    repository: Repository
    name: str
    worktree: Path
    branch: str
    rules: Rules
    folder: Path
    patches: Path
    plan_file: str | None = None
    brought: frozenset[str] = frozenset()
    secrets_in: Callable[[str], frozenset[str]] = no_secrets
    is_confined: bool = False
    shelter: Shelter | None = None
    aftercare: Aftercare | None = None

    @property
    def ref(self) -> str:
        """The whole name of the branch."""
        return f"refs/heads/{self.branch}"

    @property
    def index(self) -> Path:
        """The guard's index: what the worktree was measured to hold last."""
        return self.folder / "index"

    @property
    def objects(self) -> Path:
        """Where objects go until it is known that they stay."""
        return self.folder / "objects"


class Place(Struct, frozen=True):
    """A worktree and its git folder (`<common>/worktrees/<id>`), which was found without asking the worktree."""

    settings: Settings
    git_dir: Path

    @property
    def worktree(self) -> Path:
        return self.settings.worktree

    def make_folders(self) -> None:
        """Make the folders of the guard, and remove the lock that a killed process left on its index."""
        for folder in (self.settings.folder, self.settings.objects):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for lock in self.settings.folder.glob("*.lock"):
            lock.unlink()

    def plumbing(self, index: Path | None = None) -> Git:
        """Plumbing that sees the objects of ours and of the repository, and writes new ones to ours."""
        settings = self.settings
        alternates = (settings.repository.common / "objects",)
        return Git(settings.repository.common, index=index, objects=settings.objects, alternates=alternates)

    async def attempt(self, *arguments: str, stdin: bytes = b"", index: Path | None = None) -> Completed:
        """Call the user's git in the worktree, on an index of ours; runs no hook and no monitor. It may fail."""
        settings = self.settings
        return await filters.as_user(
            settings.repository,
            *_CALM,
            *as_named(self.worktree),
            *arguments,
            at=self.worktree,
            stdin=stdin,
            env=self._environment(index),
            hidden=(str(self.worktree.parent), str(settings.patches.parent)),
            is_confined=settings.is_confined,
        )

    async def run(self, *arguments: str, stdin: bytes = b"", index: Path | None = None) -> bytes:
        """As `attempt`, but it must not fail. Raises `GitError`."""
        done = await self.attempt(*arguments, stdin=stdin, index=index)
        if done.exit != 0 or done.is_truncated:
            raise failure(arguments, done)
        return done.stdout

    async def own_filters(self) -> dict[str, str]:
        """The filters of the user's git that are nobody else's, by name: the command that reads a file."""
        return filters.own(await self._filter_settings())

    async def annex_filters(self) -> frozenset[str]:
        """The names of the filters that are git-annex, which does not run here."""
        return filters.of_annex(await self._filter_settings())

    async def _filter_settings(self) -> dict[str, str]:
        return await self.settings.repository.settings(filters.PATTERN, self.worktree, self._environment())

    def _environment(self, index: Path | None = None) -> dict[str, str]:
        settings = self.settings
        common = settings.repository.common
        return {
            "GIT_DIR": str(self.git_dir),
            "GIT_COMMON_DIR": str(common),
            "GIT_WORK_TREE": str(self.worktree),
            "GIT_INDEX_FILE": str(index or settings.index),
            "GIT_OBJECT_DIRECTORY": str(settings.objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(common / "objects"),
        }


def git_dir_of(repository: Repository, worktree: Path) -> Path:
    """Find a worktree's git folder from the repository's side; what lies in the worktree is not believed.

    It only decides where several claim to be it: without bubblewrap an assistant can lead its own folder there.
    Raises `Internal` where the repository knows no such worktree.
    """
    wanted = os.path.realpath(worktree)
    try:
        found = sorted((repository.common / "worktrees").iterdir())
    except OSError:
        found = []
    claims = []
    for folder in found:
        # The path is absolute, but for `worktree.useRelativePaths`.
        named = folder / (first_line(folder / "gitdir") or "")
        if os.path.realpath(named.parent) == wanted:
            claims.append(folder)
    if claims:
        return next((each for each in claims if leads_to(worktree, each)), claims[0])
    said = f"the repository knows no worktree at `{worktree}` any more"
    raise Internal(said, next="`parallelai work start` makes it again from its branch")


def listing(names: Iterable[str]) -> bytes:
    """Names as git reads them with `-z`."""
    return b"".join(os.fsencode(name) + b"\0" for name in sorted(names))


def names_of(listed: bytes) -> list[str]:
    """Names as git prints them with `-z`."""
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _quoted(path: Path) -> str:
    """A path in git's list of folders: what could be taken for a separator is quoted as C does."""
    text = str(path)
    if os.pathsep not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
