"""The guard of one worktree: what a turn may not change is taken back, what a workstream may change is committed.

`before` looks at the repository before a turn; `check` puts right what the turn did to git, measures what it wrote,
judges it (`rules`), and keeps what may not stay as a patch; `commit` makes what is left the user's commit. Killed
at any point, the next `check` goes on: patches are on the disk before a file is touched, and what was kept out is
told again until the next turn begins.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parallelai.errors import Internal, Trespass
from parallelai.git.plumbing import Git
from parallelai.work.guard import (
    committing,
    detours,
    facts,
    inside,
    keeping,
    outside,
    righting,
    stashes,
    users,
    words,
)
from parallelai.work.guard.beside_gc import despite_gc
from parallelai.work.guard.measure import RULE_FILES, Found, changed_names, measure, prepare
from parallelai.work.guard.place import Place, Settings, git_dir_of
from parallelai.work.guard.rules import Out, Permits, Why
from parallelai.work.guard.state import REPOSITORY, State
from parallelai.work.guard.top import Top
from parallelai.work.guard.turn import Turn, load, store
from parallelai.work.guard.unseen import absent, unseen
from parallelai.work.guard.watch import Watch, watch_of
from parallelai.work.scratch.workspaces import as_text
from parallelai.work.streams.indexes import copy_plain
from parallelai.work.streams.record import KeptOut


@dataclass(frozen=True, slots=True)
class Guarded:
    """What a turn left behind, judged.

    Attributes:
        head: our last commit on the branch; it may be one that a killed process had just made.
        tree: what is to be committed.
        files: paths that differ from `head` and stay, sorted.
        kept_out: what does not stay, by reason; also what an earlier call kept out before this turn was told.
        undone: commits of the assistant's that are no more on the branch, newest first.
        restored: what was put back in the git folder: refs by name, files by their paths.
        seen: what else changed in the git folder, that nobody can say whose doing it was.
        touched: what was done to the user's repository where no sandbox keeps programs from it, in words.
        secrets: paths that hold what looks like a secret; `commit` refuses them.
        said: words for the assistant; empty if there is nothing to put right.
        out: each change that was kept out by this call.
    """

    head: str
    tree: str
    files: tuple[str, ...] = ()
    kept_out: tuple[KeptOut, ...] = ()
    undone: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    said: str = ""
    out: tuple[Out, ...] = ()


class Guard:
    """Looks after one worktree. `head` is our last commit on its branch; it follows what is committed."""

    def __init__(self, settings: Settings, head: str) -> None:
        self.settings = settings
        self.head = head
        self._guarded: Guarded | None = None
        self._unsaid: State | None = None
        self._has_looked = False
        self._top = Top(settings.worktree)

    def variables(self) -> dict[str, str]:
        """What programs in the worktree get into their environment, by which git tells what they do."""
        care = self.settings.aftercare
        return {} if care is None else care.variables(self.settings.name)

    # -- before a turn

    async def before(self) -> Watch:
        """Look at the repository before a turn begins, and remember it.

        Where an earlier turn was not judged (its process was killed), what was seen before that one counts.
        """
        settings = self.settings
        self._top.hold()
        turn = await asyncio.to_thread(load, settings.folder)
        git_dir = await asyncio.to_thread(self._git_dir, turn)
        await asyncio.to_thread(righting.clear_specials, git_dir, settings.repository.common)
        if turn.is_open and turn.watch is not None:
            watch = turn.watch
            if turn.is_seen_to:
                now = await watch_of(settings.repository.common)
                watch = replace(watch, files=now.files, hooks=now.hooks)
                turn = await self._looked(replace(turn, watch=watch, is_seen_to=False))
            skipped = await self._skipped(git_dir, turn)
            await asyncio.to_thread(store, settings.folder, replace(turn, skipped=skipped))
            await asyncio.to_thread(self._lay_shelter, git_dir)
            return watch
        watch = await watch_of(settings.repository.common)
        skipped = await asyncio.to_thread(absent, settings.worktree, await self._skipped(git_dir, Turn()))
        opened = await self._looked(
            Turn(watch, str(git_dir), skipped, True, (), turn.submodules, turn.committed, turn.onto)
        )
        # First: an open turn is judged by it, also where its process was killed here.
        await inside.remember(settings, self.head)
        await asyncio.to_thread(store, settings.folder, opened)
        await asyncio.to_thread(_begin_index, settings, git_dir)
        await asyncio.to_thread(self._lay_shelter, git_dir)
        return watch

    async def _looked(self, turn: Turn) -> Turn:
        """The turn with what has to be known of the user's repository where no sandbox keeps programs from it."""
        care, settings = self.settings.aftercare, self.settings
        if care is None:
            return turn
        self._has_looked = True
        await asyncio.to_thread(care.begin, settings.name)
        standing = await care.look()
        log = await asyncio.to_thread(stashes.saved, settings.repository)
        return replace(turn, standing=standing, stashes=log)

    def _lay_shelter(self, git_dir: Path) -> None:
        """Let the sandbox's git begin where the branch is; what was done in there and not judged yet stays."""
        shelter = self.settings.shelter
        if shelter is not None and self.settings.is_confined and not shelter.left().is_touched:
            shelter.lay(git_dir, self.head)

    async def _skipped(self, git_dir: Path, turn: Turn) -> tuple[str, ...]:
        """The paths that a sparse worktree has not checked out, now and when a turn began.

        The worktree's index says so. Whoever writes something else there hides nothing but that a file is gone.
        """
        common = str(self.settings.repository.common)
        index = await asyncio.to_thread(self._its_index, git_dir)
        git = Git(git_dir, index=index, env={"GIT_COMMON_DIR": common})
        listed = await git.attempt("ls-files", "-t", "-z")
        rows = listed.stdout.split(b"\0") if listed.exit == 0 else []
        now = {os.fsdecode(row[2:]) for row in rows if row.startswith(b"S ")}
        return tuple(sorted(now.union(turn.skipped)))

    def _its_index(self, git_dir: Path) -> Path:
        """A copy of the index that its sandbox's git has, or else of the worktree's own; there may be neither."""
        folder, shelter = self.settings.folder, self.settings.shelter
        copy = folder / "its-index"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        copy.unlink(missing_ok=True)
        if shelter is None or not (shelter.is_laid and copy_plain(shelter.admin / "index", copy)):
            copy_plain(git_dir / "index", copy)
        return copy

    # -- after a turn

    async def check(self, leases: Collection[str] = (), settling: Collection[str] = ()) -> Guarded:
        """Judge what a turn left behind, keep out what may not stay, and put the repository's state right.

        `leases` are the paths that were granted beside what is owned, `settling` those with a conflict to settle.

        Raises:
            Trespass: the worktree's folder was replaced by a link.
            Internal: the worktree or the branch's last commit is gone, or somebody works on the branch meanwhile.
            Unavailable: programs beside it throw away what git writes.
            GitError: git failed.
        """
        care = self.settings.aftercare
        return await despite_gc(care, lambda: self._check(leases, settling), self._forget_index)

    def _forget_index(self) -> None:
        """Let all be read, and written, anew."""
        self.settings.index.unlink(missing_ok=True)

    async def _check(self, leases: Collection[str], settling: Collection[str]) -> Guarded:
        settings = self.settings
        if settings.worktree.is_symlink():
            raise Trespass("the folder that it worked in was replaced by a link", next="look at what it did")
        if self._top.is_gone():
            raise await asyncio.to_thread(self._gone)
        state = await self._begin()
        if self._unsaid is not None:
            state.go_on_from(self._unsaid)
        self._unsaid = state
        place = state.place
        await asyncio.to_thread(place.make_folders)
        if settings.shelter is not None and settings.shelter.is_laid:
            await asyncio.to_thread(settings.shelter.give_back, place.git_dir)
        await self._put_git_right(state)
        kept = await self._judge(state, leases, settling)
        # Of what was judged, and nothing that came later.
        tree = await keeping.tree_of(place, self.head, kept)
        files = tuple(sorted({path for each in kept for path in each.change.paths}))
        secrets = await facts.secrets_in(place.plumbing(), self.head, tree, settings.secrets_in)
        await committing.reset_index(place, self.head)
        guarded = self._told(state, tree, files, secrets)
        await asyncio.to_thread(store, settings.folder, replace(state.turn, is_open=False))
        if settings.shelter is not None:
            await asyncio.to_thread(settings.shelter.settle)
        self._guarded, self._unsaid = guarded, None
        return guarded

    def _gone(self) -> Internal:
        """Make room for the next worktree, where somebody took this one away."""
        settings, moved = self.settings, self._top.moved_to()
        aside = self._top.put_aside(settings.patches / f"{settings.name}-replaced")
        where = "" if aside is None else f"; what came into its place is in `{self._shown(aside)}`"
        on = "go on with the run, which makes it again from its branch"
        if moved is None:
            said = f"the folder that it worked in was taken away meanwhile: `{settings.worktree}`{where}"
            return Internal(said, next=on)
        said = (
            f"the folder that it worked in was moved meanwhile: `{settings.worktree}` is now `{moved}`{where}"
        )
        back = shlex.join(["mv", str(moved), str(settings.worktree)])
        return Internal(said, next=f"`{back}` brings back what it did; then {on.partition(',')[0]}")

    async def see_to_repository(self) -> tuple[str, ...]:
        """Put right what a turn did to the user's repository, where nobody judges it any more; says what that was.

        Raises `GitError`, `OSError`.
        """
        return await users.see_to_all(await self._begin())

    async def _begin(self) -> State:
        """Take up the turn as it was remembered, where nothing lies that git would wait for."""
        settings = self.settings
        turn = await asyncio.to_thread(load, settings.folder)
        place = Place(settings, await asyncio.to_thread(self._git_dir, turn))
        await asyncio.to_thread(righting.clear_specials, place.git_dir, settings.repository.common)
        hidden = await asyncio.to_thread(unseen, place.git_dir, turn.skipped)
        return State(turn, place, hidden, is_late=not self._has_looked)

    async def _put_git_right(self, state: State) -> None:
        """Put right what the turn did to git: its worktree's, and the repository's."""
        place, turn = state.place, state.turn
        await users.restore_settings(state)
        first = await users.see_first(state)
        for repaired in (
            await asyncio.to_thread(righting.repair_head, place),
            await asyncio.to_thread(righting.repair_pointer, place, state.aside),
        ):
            state.notes.extend([repaired] if repaired is not None else [])
        state.turn = replace(state.turn, skipped=await self._skipped(place.git_dir, turn))
        await self._adopt(turn)
        await self._put_right(state)
        await users.see_last(state, first)

    def _git_dir(self, turn: Turn) -> Path:
        known = None if turn.git_dir is None else Path(turn.git_dir)
        if turn.is_open and known is not None and known.parent.name == "worktrees" and known.is_dir():
            return known
        return git_dir_of(self.settings.repository, self.settings.worktree)

    async def _adopt(self, turn: Turn) -> None:
        """Go on from a commit that a killed process made last, and nobody wrote down."""
        settings = self.settings
        if turn.committed is None or turn.onto != self.head:
            return
        if await settings.repository.commit(settings.ref) == turn.committed:
            self.head = turn.committed

    async def _put_right(self, state: State) -> None:
        """Put HEAD, the branch and foreign refs right; what is in no file any more is kept first."""
        place = state.place
        righted = await righting.put_right(place, self.head, state.turn.skipped)
        state.undone, lost = (*state.undone, *righted.undone), list(righted.lost)
        state.notes.extend(righted.notes)
        refs = await users.moved_refs(state)
        if refs.stashed is not None:
            lost.append(righting.Lost(refs.stashed, "what was stashed"))
        tips = [*righted.made, *(move.after for move in refs.made if move.after is not None)]
        held = (self.head, righted.files_at)
        lost.extend(await righting.not_in_files(place, tips, held))
        start = state.turn.watch.logs.get(place.git_dir.name, 0) if state.turn.watch is not None else 0
        kept = (*held, *(each.commit for each in lost))
        lost.extend(await detours.left_behind(place, self.head, start, kept))
        for each in dict.fromkeys(lost):
            await self._keep_lost(state, each)
        state.notes.extend(await righting.leave(place))
        await users.move_refs(state, refs)
        await righting.reset_branch(place, self.head)
        left = await outside.lay_out(place, self.head, righted)
        if left is not None:
            await self._keep_lost(state, left)

    async def _keep_lost(self, state: State, lost: righting.Lost) -> None:
        written = await keeping.write_patch(
            state.place, self.head, f"{lost.commit}^{{tree}}", self.settings.name
        )
        if written.patch is None:
            await asyncio.to_thread(_remove_empty, written.aside)
            return  # it is what the branch has
        kept = KeptOut((), f"{lost.what} (`{lost.commit[:10]}`)", self._shown(written.patch))
        await state.remember(kept)

    # -- judging

    async def _judge(self, state: State, leases: Collection[str], settling: Collection[str]) -> list[Found]:
        """Judge all that differs, and take out of the worktree what may not stay; gives what stays."""
        settings, place = self.settings, state.place
        await prepare(place, self.head, state.turn.skipped)
        permits = await facts.permits_of(
            settings.repository, settings.rules, leases, settings.plan_file, settling
        )
        names = await changed_names(place)
        rules = [name for name in names if name.rpartition("/")[2] in RULE_FILES]
        if rules:  # they decide what else there is to see
            await self._keep_out(state, permits, leases, rules)
            names = await changed_names(place)
        kept = await self._keep_out(state, permits, leases, names)
        await self._keep_out_inside(state, kept)
        return kept

    async def _keep_out(
        self, state: State, permits: Permits, leases: Collection[str], names: Collection[str]
    ) -> list[Found]:
        """Measure paths, judge them, take out of the worktree what may not stay; gives what stays."""
        place = state.place
        modules = await facts.new_modules(self.settings, leases)
        measured = await measure(place, self.head, names, modules=modules)
        judged = await facts.judged(place, permits, self.head, measured.found, state.unseen)
        refused = {each.change for each in judged.out}
        kept = [each for each in measured.found if each.change not in refused]
        if not (refused or measured.special):
            return kept
        told = [each for each in measured.found if each.change in refused and state.is_known(each)]
        found = [each for each in measured.found if each.change in refused and each not in told]
        special = await facts.special_entries(place, measured)
        written = keeping.Written(None, self.settings.patches / f"{self.settings.name}-git")
        if found or special:
            tree = await keeping.tree_of(place, self.head, found)
            written = await keeping.write_patch(place, self.head, tree, self.settings.name)
        known = {each.change for each in told}
        out = [each for each in judged.out if each.change not in known]
        out.extend(Out(change, change.path, measured.special[change.path]) for change in special)
        await self._remember(state, out, found, written)
        entries = {change.path: entry for change, entry in special.items()}
        left = await keeping.take_out(place, measured, [*found, *told], entries, written)
        state.notes.extend(f"{words.shown(path)} could not be taken out of its place" for path in left.stuck)
        state.out.extend(out)
        return kept

    async def _keep_out_inside(self, state: State, kept: Iterable[Found]) -> None:
        """Take edits of submodules' files back, which are of other repositories."""
        settings = self.settings
        changes = (*(each.change for each in kept), *(each.change for each in state.out))
        moved = {path for change in changes for path in change.paths}
        found = await inside.edited(settings, self.head, moved)
        if not found:
            return
        written = await inside.keep(settings, found)
        groups: dict[Why, list[str]] = {}
        for each in (each for one in found for each in one.out):
            groups.setdefault(each.why, []).append(as_text(each.change.path))
            state.out.append(each)
        for why, paths in groups.items():
            reason, patch = words.why(why), written.patch if why == "inside" else None
            if patch is None:
                reason += f"; it is kept in `{self._shown(written.aside)}`"
            kept_out = KeptOut(tuple(sorted(paths)), reason, None if patch is None else self._shown(patch))
            await state.remember(kept_out)
        for one in found:
            stuck = await inside.take_back(settings, one, written.aside)
            state.notes.extend(f"{words.shown(path)} could not be taken out of its place" for path in stuck)

    async def _remember(
        self, state: State, out: Sequence[Out], found: Iterable[Found], written: keeping.Written
    ) -> None:
        """Write down what is kept out, by reason, before anything is taken out of the worktree."""
        patch = None if written.patch is None else self._shown(written.patch)
        in_patch = {path for each in found for path in each.change.paths}
        groups: dict[tuple[str, str | None], list[str]] = {}
        for each in out:
            where = patch if each.change.path in in_patch else None
            reason = words.why(each.why)
            if where is None and each.why != "no_file":
                reason += f"; it is kept in `{self._shown(written.aside)}`"
            groups.setdefault((reason, where), []).extend(each.change.paths)
        left = {
            each.change.path: each.after[1]
            for each in found
            if each.after is not None and each.after[0] == REPOSITORY
        }
        state.turn = replace(state.turn, submodules={**state.turn.submodules, **left})
        for (reason, where), paths in groups.items():
            await state.remember(KeptOut(tuple(sorted(as_text(path) for path in paths)), reason, where))

    def _told(self, state: State, tree: str, files: tuple[str, ...], secrets: tuple[str, ...]) -> Guarded:
        patches = [kept.patch for kept in state.turn.kept if kept.patch is not None]
        notes = [*state.notes]
        if state.undone:
            what = "a commit was" if len(state.undone) == 1 else f"{len(state.undone)} commits were"
            notes.append(f"{what} undone, the content stays in the files")
        if state.restored:
            notes.append("put back: " + ", ".join(words.shown(each) for each in state.restored[:10]))
        if state.touched:
            paths = (words.shown(each.partition(" (")[0]) for each in state.touched[:10])
            notes.append("seen to in the user's repository: " + ", ".join(paths))
        said = words.for_assistant(state.out, list(dict.fromkeys(patches)), notes, secrets)
        touched = () if self.settings.aftercare is None else state.for_person()
        seen = (tuple(state.restored), tuple(state.seen), touched)
        lists = (state.undone, *seen, secrets, said, tuple(state.out))
        return Guarded(self.head, tree, files, state.turn.kept, *lists)

    def _shown(self, path: Path) -> str:
        return os.path.relpath(path, self.settings.repository.root)

    # -- what is left is committed

    async def commit(self, message: str, trailers: committing.Trailers | None = None) -> str:
        """Commit what the last `check` left, on the branch; gives the commit, or `head` where nothing changed.

        Raises:
            Trespass: a file holds what looks like a secret.
            Unavailable: git knows no identity, or cannot sign.
            Internal: there was no check before, or somebody moved the branch meanwhile.
        """
        guarded, settings = self._guarded, self.settings
        if guarded is None or guarded.head != self.head:
            raise Internal("nothing was checked that could be committed", next="run the same command again")
        if guarded.secrets:
            named = ", ".join(words.shown(path) for path in guarded.secrets[: words.MOST_PATHS])
            said = f"the change puts what looks like a secret into {named}"
            raise Trespass(said, next="look at it, and take the secret out or make the change yourself")
        if not guarded.files:
            return self.head
        turn = await asyncio.to_thread(load, settings.folder)
        place = Place(settings, await asyncio.to_thread(self._git_dir, turn))
        made = await despite_gc(
            settings.aftercare,
            lambda: self._made(place, guarded.tree, message, trailers or {}),
            lambda: None,
        )
        noted = replace(turn, committed=made, onto=self.head, is_open=False)
        await asyncio.to_thread(store, settings.folder, noted)
        await committing.move_branch(place, made, self.head)
        self.head = made
        self._guarded = replace(guarded, head=made, files=())
        await asyncio.to_thread(committing.refresh_index, place)
        await asyncio.to_thread(committing.forget_objects, place)
        return made

    async def _made(self, place: Place, tree: str, message: str, trailers: committing.Trailers) -> str:
        """Make the commit; where programs may throw away what nothing refers to, it is kept, and looked at, first."""
        await committing.bring_objects(place, tree, self.head)
        made = await committing.make_commit(place, tree, self.head, message, trailers)
        care = self.settings.aftercare
        if care is not None and await care.has_pruned():
            await care.hold()
            await committing.refuse_incomplete(place, made, self.head)
        return made


def _begin_index(settings: Settings, git_dir: Path) -> None:
    """Begin with the worktree's own index, as it was made with the worktree: its times save reading all files."""
    if settings.index.exists():
        return
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    copy_plain(git_dir / "index", settings.index)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
