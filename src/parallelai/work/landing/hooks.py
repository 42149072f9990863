"""The hooks by which the user's git looks at the files of a commit, run before the gates of a landing.

git runs them in the checkout in which it commits (githooks(5)). What lands is in none, and was written by
assistants; so a hook runs where the gates do, confined as they are, in a folder that looks as git would show it:
the files and the index are what lands, HEAD is the target. A hook that belongs to the project is that of what lands, as
a merge would have put it into the checkout before.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from parallelai.errors import Internal, ParallelAIError
from parallelai.events import GateEnded, GateStarted
from parallelai.git.plumbing import in_one_line
from parallelai.git.repository import Repository
from parallelai.records import ErrorRecord
from parallelai.work.gates.commands import Result, run_gate, shown
from parallelai.work.gates.deciding import listed
from parallelai.work.gates.ran import Ran
from parallelai.work.gates.running import Runs
from parallelai.work.gates.trees import SetupFailed, Tree, Trees
from parallelai.work.guard.hooks import LANDING, is_for_people
from parallelai.work.landing.commits import PRE_COMMIT, PRE_MERGE
from parallelai.work.landing.explaining import of_error
from parallelai.work.landing.records import Coming, Verdict
from parallelai.work.scratch.folders import BRANCH

_LAST_LINES, _LAST_CHARS = 4, 500
_SETTINGS = r"^(hooks\.|core\.whitespace$)"
"""What hooks read of the user's settings, and a folder of ours does not have."""
_IDENTITY = re.compile(r"(?P<name>.*) <(?P<email>.*)> \d+ [-+]\d+")


# -- whether a hook is run


class Seen(Struct, frozen=True):
    """What lies at a hook's path: whether it is executable, None where nothing is there.

    In the tree that lands, on its parent, and on the user's HEAD, for a path in the checkout; and on the disk.
    """

    lands: bool | None = None
    parent: bool | None = None
    head: bool | None = None
    disk: bool | None = None
    is_for_people: bool = False


class Choice(Struct, frozen=True):
    """Whether a hook is run, or why not. `is_of_disk`: it is the user's own, and not of the tree.

    Where `is_plain` nobody has to be told at each landing why it is not.
    """

    is_run: bool = False
    is_of_disk: bool = False
    why: str | None = None
    is_plain: bool = False


def choose(seen: Seen) -> Choice:
    """Say which hook git would run, by what lies at its path. Pure."""
    if seen.lands is None and seen.parent is not None:
        return Choice(why="what lands deletes it")
    is_of_disk = seen.lands is None and seen.head is None
    lying = seen.disk if is_of_disk else seen.lands
    if lying is None:
        return Choice()
    if not lying:
        return Choice(why="it is not executable, and git ignores it")
    if is_of_disk and seen.is_for_people:
        return Choice(why="it checks what people commit", is_plain=True)
    return Choice(True, is_of_disk)


class _Place(Struct, frozen=True):
    """Where git looks for hooks: a folder, and that below the checkout's root, if it belongs to the checkout.

    `shown` is how it is called, `setting` what `core.hooksPath` says where a hook runs.
    """

    folder: Path
    below: str | None
    shown: str
    setting: str


class _Hooked(Struct):
    """A folder in which a hook runs (`gates.commands.Folder`)."""

    tree: Tree
    temporary: Path
    readable: tuple[str, ...]

    async def run(self, argv: tuple[str, ...], seconds: float, log: Path) -> Ran:
        """Run it with the variables that git sets."""
        env = {"GIT_INDEX_FILE": ".git/index", "GIT_EDITOR": ":", LANDING: "1"}
        return await self.tree.run(argv, seconds, log, env, self.readable)


# -- running them


class CommitHooks:
    """Runs the user's hooks on trees that are to land (`records.Hooks`), each once on what it can tell apart.

    Args:
        repository: the user's.
        trees: the gates' prepared folders.
        runs: gives logs, and tells events.
        target: the branch that commits are made on.
        seconds: how long a hook may take: as a gate.
    """

    def __init__(self, repository: Repository, trees: Trees, runs: Runs, target: str, seconds: float) -> None:
        self._repository = repository
        self._trees = trees
        self._runs = runs
        self._target = target
        self._seconds = seconds
        self._looked_up: tuple[_Place, Mapping[str, str]] | None = None
        self._locks: defaultdict[tuple[str, ...], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._said: dict[tuple[str, ...], Verdict] = {}

    async def judge(self, commit: str, coming: Coming, names: tuple[str, ...]) -> Verdict:
        """See `records.Hooks`: a hook that refuses ends it; what one changed is not taken, and said."""
        notes: list[str] = []
        for name in coming.hooks:
            choice = await self._choose(name, commit, coming.parent)
            if choice.is_run:
                verdict = await self._once(name, choice, commit, coming, names)
                if not verdict.ok:
                    return verdict
                notes += verdict.notes
            elif choice.why is not None and not choice.is_plain:
                notes.append(await self._left_out(name, choice.why))
        return Verdict(True, notes=tuple(notes))

    async def foresee(self, commit: str, wanted: tuple[str, ...], method: str) -> tuple[str, ...]:
        """See `records.Hooks`."""
        place, _ = await self._look_up()
        notes = []
        for name in (PRE_MERGE, PRE_COMMIT):
            choice = await self._choose(name, commit, commit)
            if choice.is_run and name in wanted:
                notes.append(
                    f"the `{name}` hook (`{place.shown}/{name}`) runs on what lands, before the gates"
                )
            elif choice.is_run:
                notes.append(await self._left_out(name, f"git has none of this name for a {method}"))
            elif choice.why is not None and name in wanted:
                notes.append(await self._left_out(name, choice.why))
        return tuple(notes)

    async def _left_out(self, name: str, why: str) -> str:
        place, _ = await self._look_up()
        return f"the `{name}` hook (`{place.shown}/{name}`) is not run: {why}"

    async def _once(
        self, name: str, choice: Choice, commit: str, coming: Coming, names: tuple[str, ...]
    ) -> Verdict:
        place, _ = await self._look_up()
        trees = [await self._repository.tree(each) for each in (coming.parent, commit)]
        content = await asyncio.to_thread(_digest, place.folder / name) if choice.is_of_disk else ""
        key = (name, content, *trees)
        async with self._locks[key]:
            if key not in self._said:
                try:
                    self._said[key] = await self._run(name, choice, commit, coming, names)
                except (ParallelAIError, OSError) as error:
                    known = error if isinstance(error, ParallelAIError) else Internal(str(error))
                    record = of_error(known)
                    said = f"the `{name}` hook could not be run: {record.said}"
                    return Verdict(False, error=replace(record, said=said), hook=name)
            return self._said[key]

    async def _run(
        self, name: str, choice: Choice, commit: str, coming: Coming, names: tuple[str, ...]
    ) -> Verdict:
        command = shown(_call(name))
        log = await asyncio.to_thread(self._runs.log, commit, command)
        self._runs.told(GateStarted(command, commit, names), names)
        try:
            async with self._trees.at(commit) as tree:
                await self._prepare(tree, name, choice, coming)
                result = await self._in_tree(tree, name, log)
                changed = await tree.changed() if result.passed else ()
        except SetupFailed as error:
            result = Result(command, None, 0.0, self._runs.shown_path(log), trouble=error.said)
            changed = ()
        verdict = judged(name, result, changed)
        why = verdict.error.said if verdict.error is not None else None
        ended = GateEnded(
            result.command, commit, verdict.ok, result.exit, result.seconds, result.log, names, why=why
        )
        self._runs.told(ended, names)
        return verdict

    async def _in_tree(self, tree: Tree, name: str, log: Path) -> Result:
        place, _ = await self._look_up()
        needed = await asyncio.to_thread(_needed, place.folder, name) if place.below is None else ()
        folder = _Hooked(tree, tree.temporary, needed)
        return await run_gate(folder, _call(name), self._seconds, log, name=self._runs.shown_path(log))

    async def _prepare(self, tree: Tree, name: str, choice: Choice, coming: Coming) -> None:
        """Let a folder look as git would show it to a hook."""
        place, settings = await self._look_up()
        if choice.is_of_disk and place.below is not None:  # git ignores it, and the tree lacks it
            await tree.bring(place.below)
        git_dir = await tree.renew()
        theirs = coming.theirs if name == PRE_COMMIT else None
        await asyncio.to_thread(
            _dress, git_dir, self._target, replace(coming, theirs=theirs), place, settings
        )

    # -- what the user configured

    async def _choose(self, name: str, commit: str, parent: str) -> Choice:
        place, _ = await self._look_up()
        disk = place.folder / name
        there = os.access(disk, os.X_OK) if disk.is_file() else None
        lands = before = head = None
        if place.below is not None:
            path = f"{place.below}/{name}"
            lands, before = await self._in(commit, path), await self._in(parent, path)
            if lands is None and there is not None and not self._repository.is_bare:
                users = await self._repository.commit("HEAD")
                head = await self._in(users, path) if users is not None else None
        return choose(Seen(lands, before, head, there, there is not None and is_for_people(disk)))

    async def _in(self, commit: str, path: str) -> bool | None:
        """Whether a file of a commit is executable; None where it has none there."""
        listed = await self._repository.git.line("ls-tree", "--full-tree", commit, "--", path)
        return {"100755": True, "120000": True, "100644": False}.get(listed[:6])

    async def _look_up(self) -> tuple[_Place, Mapping[str, str]]:
        """Where git looks for hooks, and the settings that hooks read; asked once."""
        if self._looked_up is None:
            repository = self._repository
            asked = await repository.as_user("rev-parse", "--git-path", "hooks")
            ident = await repository.as_user("var", "GIT_AUTHOR_IDENT")
            settings = await repository.settings(_SETTINGS, repository.root, {})
            place = _place(repository, os.fsdecode(asked.stdout).removesuffix("\n") or os.devnull)
            user = _IDENTITY.fullmatch(ident.stdout.decode("utf-8", "replace").strip())
            named = {f"user.{key}": value for key, value in user.groupdict().items()} if user else {}
            self._looked_up = place, {**settings, **named, "core.hookspath": place.setting}
        return self._looked_up


def _call(name: str) -> tuple[str, ...]:
    return ("git", "hook", "run", name)


def judged(name: str, result: Result, changed: tuple[str, ...]) -> Verdict:
    """Say what a hook came to, by its run and by the files that it changed. Pure."""
    if result.passed:
        said = f"the `{name}` hook changed {listed(changed)}; what was tried lands, without that"
        return Verdict(True, notes=(said,) if changed else ())
    end = result.trouble or (f"exit {result.exit}" if result.exit is not None else "it did not end")
    words = in_one_line("\n".join(result.said.splitlines()[-_LAST_LINES:]), _LAST_LINES)
    words = "".join(character for character in words if character.isprintable())[-_LAST_CHARS:]
    said = f"the `{name}` hook failed ({end})" + (f": {words}" if words else "")
    return Verdict(False, error=ErrorRecord("gate_failed", said, result.log), hook=name)


def _place(repository: Repository, path: str) -> _Place:
    folder = repository.root / path
    real, git_dir = Path(os.path.realpath(folder)), Path(os.path.realpath(repository.common))
    is_gits = real == git_dir / "hooks"
    is_inside = real.is_relative_to(repository.root) and not real.is_relative_to(git_dir)
    if is_inside and not repository.is_bare:
        below = str(real.relative_to(repository.root))
        return _Place(folder, below, below, below)
    # By this name, too: git's own sample of one hook looks there for another.
    # Else where it lies itself: a link to it may be where a sandbox shows nothing.
    return _Place(folder, None, path, ".git/hooks" if is_gits else str(real))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _needed(folder: Path, name: str) -> tuple[str, ...]:
    """What a hook beside the checkout has to see: its folder, and where it lies itself if it is a link."""
    return tuple(dict.fromkeys((str(folder), os.path.realpath(folder), os.path.realpath(folder / name))))


def _dress(git_dir: Path, branch: str, coming: Coming, place: _Place, settings: Mapping[str, str]) -> None:
    """Put the target's branch, on the parent, into a folder's own new repository, and what hooks ask git for."""
    shutil.rmtree((git_dir / BRANCH).parent)
    ref = git_dir / "refs" / "heads" / branch
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(f"{coming.parent}\n", encoding="utf-8")
    (git_dir / "HEAD").write_text(f"ref: refs/heads/{branch}\n", encoding="utf-8")
    if coming.theirs is not None:
        (git_dir / "MERGE_HEAD").write_text(f"{coming.theirs}\n", encoding="utf-8")
        (git_dir / "MERGE_MSG").write_text(f"Merge commit '{coming.theirs}'\n", encoding="utf-8")
    with (git_dir / "config").open("a", encoding="utf-8") as file:
        file.writelines(_line(key, value) for key, value in settings.items())
    if place.setting == ".git/hooks":
        (git_dir / "hooks").symlink_to(place.folder.absolute())


def _line(key: str, value: str) -> str:
    """A setting as a file of git's has it (git-config(1), Syntax)."""
    section, _, rest = key.partition(".")
    sub, _, name = rest.rpartition(".")
    head = f'{section} "{_quoted(sub)}"' if sub else section
    quoted = _quoted(value).replace("\n", "\\n")
    return f'[{head}]\n\t{name} = "{quoted}"\n'


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
