"""Settles the conflicts of one merge: as it was decided before, else by resolvers, else by an engine.

All that is written are objects: blobs, and the tree with them. The files of a merge are settled together or not at
all; lock files, and then what a command of the plan makes, come last, because they are made from the others.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from parallelai.events import DecisionMade
from parallelai.git.merging import Conflicted, Entry, Merged
from parallelai.git.plumbing import Git, in_parts
from parallelai.git.repository import Repository
from parallelai.plan.generators import Generator
from parallelai.processes.temporary import temporary_folder
from parallelai.records import ErrorRecord
from parallelai.work.landing.messages import how
from parallelai.work.landing.records import LAND_WITH, REGENERATED, Resolved, Side, Tell
from parallelai.work.resolvers import asking, decisions, generating, regenerating
from parallelai.work.resolvers.checking import MAX_BYTES, objection
from parallelai.work.resolvers.decisions import Decision, Decisions, Key
from parallelai.work.resolvers.history import gather
from parallelai.work.resolvers.ladder import climb, rungs
from parallelai.work.resolvers.records import Conflict, History, Rung
from parallelai.work.resolvers.splitting import Split, merged_text, split

ASK = f"{LAND_WITH}, or `landing: {{resolver: NAME}}`, has an engine settle it"
"""What helps where no resolver knows."""
MAX_FILES = 1000
"""Merges with more conflicting files are left to a person."""
_TEXT_KINDS = ("content", "add/add")
_ASKABLE = (*_TEXT_KINDS, "modify/delete")
_FILES = ("100644", "100755")


@dataclass(frozen=True, slots=True)
class _File:
    """A conflicting file, as far as it could be read."""

    conflicted: Conflicted
    conflict: Conflict
    split: Split | None
    key: Key
    mode: str

    @property
    def path(self) -> str:
        return self.conflicted.path


@dataclass(frozen=True, slots=True)
class _Merge:
    """The merge that is settled: its two commits, what git made of them, and who the sides are."""

    ours: str
    theirs: str
    merged: Merged
    sides: tuple[Side, Side]


@dataclass(frozen=True, slots=True)
class _Done:
    """What a file was settled as: its content, or None for no file."""

    text: bytes | None
    by: str
    why: str
    is_new: bool = True
    is_symmetric: bool = True


class Settling:
    """Implements `landing.records.Resolving` on a repository's objects."""

    def __init__(
        self,
        repository: Repository,
        *,
        decisions: Decisions,
        resolvers: Sequence[Rung] | None = None,
        asker: asking.Asker | None = None,
        engine: str = "engine",
        regenerate: regenerating.Regenerate | None = None,
        generate: generating.Generate | None = None,
        tell: Tell = lambda name, event: None,
    ) -> None:
        """Settle by these means.

        Args:
            repository: where the merges are.
            decisions: what was decided before, and where new decisions are kept.
            resolvers: the ladder, in its order; None takes all that are registered.
            asker: has an engine settle what is left; None leaves it.
            engine: what decisions call that engine.
            regenerate: makes lock files anew; None leaves them.
            generate: makes anew what commands of the plan make; None where it names none.
            tell: writes `DecisionMade` down.
        """
        self._repository = repository
        self._git: Git = repository.git
        self._decisions = decisions
        self._ladder = tuple(resolvers) if resolvers is not None else rungs()
        self._asker = asker
        self._engine = engine
        self._regenerate = regenerate
        self._generate = generate
        self._tell = tell
        self._asked: dict[str, tuple[str, ...]] = {}
        self._settled: dict[str, list[str]] = {}  # the trees that were settled for each candidate

    async def settle(
        self, ours: str, theirs: str, merged: Merged, sides: tuple[Side, Side], *, may_ask: bool
    ) -> Resolved | ErrorRecord:
        """See `Resolving.settle`. Raises `GitError` where git fails."""
        generated = [one.path for one in merged.conflicts if self._is_generated(one.path)]
        if generated and not may_ask:
            return _left(generated)
        files = await self._read(ours, theirs, merged, generated)
        if isinstance(files, ErrorRecord):
            return files
        merge = _Merge(ours, theirs, merged, sides)
        done: dict[str, _Done] = {}
        for file in files:
            if self._is_generated(file.path):
                continue  # whatever was decided before: its sources may be others now
            found = await self._remembered(ours, file) or await asyncio.to_thread(self._climbed, file)
            if found is not None:
                done[file.path] = found
        left = [file for file in files if file.path not in done]
        if left and not may_ask:
            return _left([file.path for file in left])
        asked = [file for file in left if not self._is_made(file.path) and not self._is_generated(file.path)]
        if asked:
            answers = await self._ask(merge, asked)
            if isinstance(answers, ErrorRecord):
                return answers
            done.update(answers)
        failed = await self._make(merged, [file for file in left if self._is_made(file.path)], files, done)
        failed = failed or await self._made_by_commands(merge, files, done)
        if failed is not None:
            return failed
        resolved = await self._resolved(merged, files, done)
        self._settled.setdefault(sides[1].name, []).append(resolved.tree)
        return resolved

    async def foresee(self, ours: str, theirs: str, merged: Merged) -> Mapping[str, str] | ErrorRecord:
        """See `Resolving.foresee`. Raises `GitError` where git fails."""
        generated = [one.path for one in merged.conflicts if self._is_generated(one.path)]
        files = await self._read(ours, theirs, merged, generated)
        if isinstance(files, ErrorRecord):
            return files
        found = {file.path: await self._foreseen(ours, file) for file in files}
        left = [path for path, how in found.items() if not how]
        return _left(left) if left else {path: f"`{path}` would be {how}" for path, how in found.items()}

    async def _foreseen(self, ours: str, file: _File) -> str:
        """What a landing would do with one file, in words; empty where nobody would settle it."""
        if self._generate is not None and (generator := self._generate.of(file.path)) is not None:
            return f"made anew by `{generating.shown_command(generator)}`"
        done = await self._remembered(ours, file) or await asyncio.to_thread(self._climbed, file)
        if done is not None:
            return f"settled {how(done.by)}{'' if done.is_new else ', as it was decided before'}"
        if self._is_made(file.path):
            return "made anew by its own tool"
        return f"asked of `{self._engine}`" if self._asker is not None else ""

    async def failed(self, name: str) -> None:
        """See `Resolving.failed`."""
        for tree in self._settled.pop(name, ()):
            await self.refute(tree)

    async def refute(self, tree: str) -> None:
        """Forget what an engine decided for a tree that did not pass its gates, so that it is asked again."""
        for key in self._asked.pop(tree, ()):
            await self._decisions.forget(key)

    # -- reading

    async def _read(
        self, ours: str, theirs: str, merged: Merged, generated: Sequence[str]
    ) -> list[_File] | ErrorRecord:
        conflicts = merged.conflicts
        if not conflicts or len(conflicts) - len(generated) > MAX_FILES:
            said = (
                merged.said[0] if merged.said and not conflicts else f"{len(conflicts)} files are in conflict"
            )
            return ErrorRecord("conflict", said)
        for one in conflicts:
            is_made = regenerating.is_lock(one.path) or self._is_generated(one.path)
            why = _unfit(one, is_made=is_made)
            if why is not None:
                return ErrorRecord("conflict", f"`{one.path}`: {why}")
        made = frozenset(generated)  # for these nobody looks at lines, unless their command fails
        paths = [one.path for one in conflicts if one.path not in made]
        histories = await gather(self._git, ours, theirs, paths)
        files = []
        for one in conflicts:
            texts = await self._texts(one)
            if texts is None:
                return ErrorRecord("conflict", f"`{one.path}` is larger than {MAX_BYTES} bytes")
            conflict = Conflict(one.path, *texts, one.kind, histories.get(one.path, History()))
            is_text = one.kind in _TEXT_KINDS and one.path not in made
            parts = await split(self._git, conflict) if is_text else None
            files.append(_File(one, conflict, parts, await self._key(merged, conflict, parts), _mode(one)))
        return files

    async def _texts(self, one: Conflicted) -> tuple[bytes | None, bytes | None, bytes | None] | None:
        """The base's, our and their content; None where one of them is too large."""
        names = sorted({side.blob for side in one.stages.values()})
        stdin = "".join(f"{name}\n" for name in names).encode()
        rows = (await self._git.run("cat-file", "--batch-check=%(objectsize)", stdin=stdin)).split(b"\n")
        if any(not row.isdigit() or int(row) > MAX_BYTES for row in rows if row):
            return None
        blobs = await self._git.blobs(names)
        base, ours, theirs = (
            blobs.get(side.blob) if (side := one.stages.get(stage)) is not None else None
            for stage in (1, 2, 3)
        )
        return base, ours, theirs

    async def _key(self, merged: Merged, conflict: Conflict, parts: Split | None) -> Key:
        """The key of a file's conflict; a lock's counts for the manifest as it was merged only, a generated file's
        for this merge."""
        key = decisions.key_of(conflict, parts)
        manifest = regenerating.manifest_of(conflict.path)
        if self._is_generated(conflict.path):
            return _narrowed(key, conflict.path, merged.tree.encode())
        if manifest is None:
            return key
        beside = next((one for one in merged.conflicts if one.path == manifest), None)
        if beside is not None:  # its text in the tree names commits
            row = repr(sorted((stage, side.blob) for stage, side in beside.stages.items())).encode()
        else:
            row = await self._git.run("ls-tree", "-z", "--full-tree", merged.tree, "--", manifest)
        return _narrowed(key, conflict.path, row)

    # -- settling

    async def _remembered(self, ours: str, file: _File) -> _Done | None:
        found = await self._decisions.committed(self._git, ours, file.key.key)
        found = found or await asyncio.to_thread(self._decisions.find, file.key.key)
        made = decisions.applied(found, file.key, file.split) if found is not None else None
        if found is None or made is None or asking.refused(file.conflict, made[0]) is not None:
            return None
        return _Done(made[0], found.by, "as it was decided before", False)

    def _climbed(self, file: _File) -> _Done | None:
        if file.conflict.ours is None or file.conflict.theirs is None:
            return None
        found = climb(file.conflict, file.split, self._ladder)
        if found is None:
            return None
        count = len(found.by)
        why = f"in {count} place{'s' * (count != 1)}"
        return _Done(found.text, found.name, why, True, found.is_symmetric)

    def _is_made(self, path: str) -> bool:
        """Whether a file is a lock that its tool makes, as far as the plan names no other command for it."""
        return self._regenerate is not None and regenerating.is_lock(path) and not self._is_generated(path)

    def _is_generated(self, path: str) -> bool:
        return self._generate is not None and self._generate.of(path) is not None

    async def _make(
        self, merged: Merged, locks: list[_File], files: Sequence[_File], done: dict[str, _Done]
    ) -> ErrorRecord | None:
        """Have lock files made from what all the others came to; gives why one could not be made."""
        if self._regenerate is None:
            return _left([file.path for file in locks]) if locks else None
        for file in locks:
            now = _entries(files, done)
            start = file.conflict.ours if file.conflict.ours is not None else file.conflict.theirs
            tree = await self._tree(merged.tree, {**now, file.path: (file.mode, start)})
            text = await self._regenerate(file.path, tree)
            why = text if isinstance(text, str) else objection(file.conflict, text)
            if why is not None:
                return ErrorRecord("conflict", f"`{file.path}` could not be made anew: {why}")
            if isinstance(text, bytes):
                done[file.path] = _Done(text, REGENERATED, "made anew by its own tool")
        return None

    async def _made_by_commands(
        self, merge: _Merge, files: Sequence[_File], done: dict[str, _Done]
    ) -> ErrorRecord | None:
        """Have the plan's commands make what they are for; an engine is asked for what they do not, and told why."""
        if self._generate is None:
            return None
        left = {file.path: file for file in files if file.path not in done}
        for one in self._generate.made_of(list(left)):
            if not one.paths:
                continue
            generator, group = one.generator, [left[path] for path in one.paths]
            made = await self._made_by(self._generate, generator, merge, files, group, done)
            if isinstance(made, str):
                answers = await self._ask_instead(merge, files, group, done, made)
                if isinstance(answers, ErrorRecord):
                    return answers
                done.update(answers)
            else:
                why = f"made anew by `{generating.shown_command(generator)}`"
                done.update({path: _Done(text, REGENERATED, why) for path, text in made.items()})
        return None

    async def _made_by(
        self,
        generate: generating.Generate,
        generator: Generator,
        merge: _Merge,
        files: Sequence[_File],
        group: Sequence[_File],
        done: Mapping[str, _Done],
    ) -> generating.Made | str:
        """Run one command on what all the others came to; gives what it made, or in words why that is no good."""
        open_ = {file.path: (file.mode, None) for file in files if file.path not in done}
        tree = await self._tree(merge.merged.tree, {**_entries(files, done), **open_})
        words = ("-p", merge.ours, "-m", "Without the generated files that are in conflict")
        commit = await self._git.line("commit-tree", tree, *words)
        made = await generate(generator, commit, [file.path for file in group])
        if isinstance(made, str):
            return f"{_named([file.path for file in group])} could not be made anew: {made}"
        for file in group:
            if made.get(file.path) is None and asking.refused(file.conflict, None) is not None:
                shown = generating.shown_command(generator)
                return f"`{file.path}` could not be made anew: `{shown}` did not write it"
            why = asking.refused(file.conflict, made.get(file.path))
            if why is not None:
                return f"`{file.path}` could not be made anew: {why}"
        return made

    async def _ask_instead(
        self,
        merge: _Merge,
        files: Sequence[_File],
        group: Sequence[_File],
        done: Mapping[str, _Done],
        why: str,
    ) -> dict[str, _Done] | ErrorRecord:
        """Ask an engine for what a command did not make."""
        if self._asker is None or any(file.conflicted.kind not in _ASKABLE for file in group):
            return ErrorRecord("conflict", why)
        tree = await self._tree(merge.merged.tree, _entries(files, done))
        parted = [replace(file, split=await self._parts(file)) for file in group]
        answers = await self._ask(replace(merge, merged=replace(merge.merged, tree=tree)), parted, why)
        if isinstance(answers, ErrorRecord):
            return replace(answers, said=f"{why}; {answers.said}")
        return {path: replace(one, why=f"{one.why}: {why}") for path, one in answers.items()}

    async def _parts(self, file: _File) -> Split | None:
        return await split(self._git, file.conflict) if file.conflicted.kind in _TEXT_KINDS else None

    async def _ask(
        self, merge: _Merge, files: Sequence[_File], why: str = ""
    ) -> dict[str, _Done] | ErrorRecord:
        if self._asker is None:
            return _left([file.path for file in files])
        conflicts = {file.path: file.conflict for file in files}
        counts = {file.path: len(file.split.hunks) for file in files if file.split is not None}
        question = asking.ConflictQuestion(
            asking.prompt(merge.sides, conflicts, counts, why),
            merge.merged.tree,
            {file.path: await self._with_markers(file, merge.sides) for file in files},
            conflicts,
            merge.ours,
            merge.theirs,
            merge.sides,
        )
        answers = await self._asker(question)
        if isinstance(answers, ErrorRecord):
            return answers
        checked = asking.answer(question, answers, answers)
        if isinstance(checked, ErrorRecord):
            return checked
        return {
            path: _Done(text, self._engine, "by the engine that was asked") for path, text in checked.items()
        }

    async def _with_markers(self, file: _File, sides: tuple[Side, Side]) -> bytes | None:
        conflict = file.conflict
        if conflict.ours is None or conflict.theirs is None or file.split is None:
            return conflict.ours if conflict.ours is not None else conflict.theirs
        labels = (sides[0].name, "base", sides[1].name)
        return await merged_text(
            self._git, conflict.ours, conflict.base or b"", conflict.theirs, "--diff3", labels=labels
        )

    # -- writing

    async def _resolved(self, merged: Merged, files: Sequence[_File], done: Mapping[str, _Done]) -> Resolved:
        entries = _entries(files, done)
        beside = sorted(done.keys() - entries.keys())  # what a command made with them
        entries |= await self._as_they_lie(merged.tree, {path: done[path].text for path in beside})
        asked = []
        for file in files:
            decision = self._decision(file, done[file.path])
            if done[file.path].is_new:
                await asyncio.to_thread(self._decisions.record, decision)
            if done[file.path].by == self._engine:
                asked.append(decision.key)
            if self._decisions.commits and not self._is_generated(file.path):  # that is never found again
                path = f"{decisions.COMMITTED}/{decision.key}.json"
                entries[path] = ("100644", decisions.encode(decision))
        tree = await self._tree(merged.tree, entries)
        self._asked[tree] = tuple(asked)
        for file in files:
            one = done[file.path]
            self._tell(None, DecisionMade(file.path, one.by, one.why, file.key.key))
        return Resolved(tree, {file.path: done[file.path].by for file in files}, tuple(beside))

    def _decision(self, file: _File, one: _Done) -> Decision:
        made = decisions.decided(
            file.conflict, file.split, one.text, one.by, why=one.why, is_symmetric=one.is_symmetric
        )
        if not (regenerating.is_lock(file.path) or self._is_generated(file.path)):
            return made
        return Decision(
            file.key.key, file.path, (one.text,), one.by, one.why, exact=file.key.exact, at=made.at
        )

    async def _as_they_lie(
        self, tree: str, texts: Mapping[str, bytes | None]
    ) -> dict[str, tuple[str, bytes | None]]:
        """Give texts with the modes that their files have in a tree."""
        if not texts:
            return {}
        modes: dict[str, str] = {}
        for part in in_parts(texts):
            listed = await self._git.run("ls-tree", "-z", "--full-tree", tree, "--", *part)
            rows = (row.split(b"\t", 1) for row in listed.split(b"\0") if row)
            modes |= {os.fsdecode(path): meta[:6].decode() for meta, path in rows}
        return {path: (modes.get(path, _FILES[0]), text) for path, text in texts.items()}

    async def _tree(self, tree: str, entries: Mapping[str, tuple[str, bytes | None]]) -> str:
        """Write a tree with other files: mode and content of each, None for no file."""
        rows = []
        for path, (mode, text) in entries.items():
            blob = "0" * len(tree) if text is None else await self._blob(text)
            name = path.encode("utf-8", "surrogateescape")
            rows.append(f"{'0' if text is None else mode} {blob}\t".encode() + name + b"\0")
        with temporary_folder("tree") as folder:
            git = Git(self._git.git_dir, index=folder / "index")
            await git.run("read-tree", tree)
            await git.run("update-index", "-z", "--replace", "--index-info", stdin=b"".join(rows))
            return await git.line("write-tree")

    async def _blob(self, text: bytes) -> str:
        return await self._git.line("hash-object", "-w", "--stdin", stdin=text)


def _unfit(one: Conflicted, *, is_made: bool) -> str | None:
    """Say why nobody here can settle a path, which a program makes or not; None where somebody may."""
    modes = {side.mode for side in one.stages.values()}
    if one.kind not in _ASKABLE and not is_made:
        return f"a {one.kind} conflict needs a person"
    if not modes <= set(_FILES):
        return "it is not a plain file on all sides"
    if 2 not in one.stages and 3 not in one.stages:
        return "it is on no side"
    return None


def _mode(one: Conflicted) -> str:
    """The mode of a settled file: who changed it counts; between two new ones, what may be run stays so."""
    base, ours, theirs = (one.stages.get(stage) for stage in (1, 2, 3))
    if ours is None or theirs is None:
        return (ours or theirs or Entry(_FILES[0], "")).mode
    if base is None:
        return max(ours.mode, theirs.mode)
    return theirs.mode if ours.mode == base.mode else ours.mode


def _narrowed(key: Key, path: str, row: bytes) -> Key:
    """A key of a conflict that counts only beside something else."""
    found = decisions.key_of(Conflict(path, key.exact.encode(), key.key.encode(), row), None)
    return Key(found.key, False, key.exact)


def _entries(files: Sequence[_File], done: Mapping[str, _Done]) -> dict[str, tuple[str, bytes | None]]:
    """What is settled so far: mode and content by path."""
    return {file.path: (file.mode, done[file.path].text) for file in files if file.path in done}


def _named(paths: Sequence[str]) -> str:
    return ", ".join(f"`{path}`" for path in paths[:5]) + (
        f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    )


def _left(paths: Sequence[str]) -> ErrorRecord:
    return ErrorRecord("conflict", f"no resolver knows how to settle {_named(paths)}", next=ASK)
