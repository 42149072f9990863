"""What is behind git's answer for each pair: places, definitions, class, logic, and the forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from parallelai.git.merging import Conflicted, Merged
from parallelai.git.plumbing import Git, GitError
from parallelai.plan.ownership import overlap
from parallelai.records import ConflictClass, ConflictFile, ConflictPair
from parallelai.work.conflicts import reasoning
from parallelai.work.conflicts.cache import Subject
from parallelai.work.conflicts.changes import Patch, patches
from parallelai.work.conflicts.decide import Meeting, Version, meet
from parallelai.work.conflicts.elsewhere import Elsewhere
from parallelai.work.conflicts.heads import Head
from parallelai.work.conflicts.logic import RISKS, Broken
from parallelai.work.conflicts.merges import Key, Merges
from parallelai.work.conflicts.past import Past
from parallelai.work.conflicts.reasoning import Finding, Side
from parallelai.work.conflicts.risk import expected, features_of, latent, risk
from parallelai.work.conflicts.texts import Texts
from parallelai.work.streams.beside import files_and_folders, named

FAR = 400
"""Changed files from which on a side's lines are not looked at: it is far behind, or a bulk change."""
MOST_FILES = 100
"""Common files of a pair that are looked into."""
MOST_SAID = 3
"""Names of files and folders that are said of one pair."""


class Judging:
    """Looks into pairs; keeps patches and symbols between looks."""

    def __init__(self, git: Git, merges: Merges) -> None:
        self._git = git
        self._merges = merges
        self._texts = Texts(git)
        self._past = Past(git)
        self._elsewhere = Elsewhere(git)
        self._patches: dict[Key, Patch] = {}
        self._owned: dict[tuple[tuple[str, ...], tuple[str, ...]], bool] = {}

    async def judge(
        self, subjects: Sequence[Subject], merged: Mapping[Key, Merged | None], target: Head
    ) -> list[ConflictPair]:
        """Give what is known of each pair, in order. All were asked of `Merges` before."""
        answers = [merged[one.a.commit, one.b.commit] for one in subjects]
        frames = [self._frame(*row, target) for row in zip(subjects, answers, strict=True)]
        keys = list(dict.fromkeys(key for frame in frames for key in frame))
        await self._merges.compare(keys)
        await self._read_patches(keys)
        sides = {key: self._side(key) for key in keys}
        pairs = [
            _Pair(one, sides[a], sides[b], answer if answer is not None and not answer.is_clean else None)
            for one, (a, b), answer in zip(subjects, frames, answers, strict=True)
        ]
        await self._texts.read_definitions(_to_compare(pairs))
        logic = await self._logic([pair for pair in pairs if pair.answer is None])
        past = await self._past.of(target.commit)
        likely = {id(side): expected(past, side.changes.rows) for side in sides.values()}
        found = []
        for pair in pairs:
            if pair.answer is not None:
                found.append(self._conflicting(pair, pair.answer))
                continue
            meetings = {path: self._meeting(path, pair.a, pair.b) for path in _common(pair)}
            sizes = (pair.a.size, pair.b.size)
            both = latent(likely[id(pair.a)], likely[id(pair.b)])
            features = features_of(meetings, sizes, both, self._overlap(pair.subject.a, pair.subject.b))
            found.append(_clean(pair.subject, meetings, risk(features), logic.get(id(pair))))
        return found

    async def _logic(self, pairs: Sequence[_Pair]) -> dict[int, Finding]:
        """Give the gravest logic conflict of pairs, by identity; names that are defined elsewhere are none."""
        others: dict[int, tuple[Side, list[Side]]] = {}
        for pair in pairs:
            for one, other in ((pair.a, pair.b), (pair.b, pair.a)):
                others.setdefault(id(one), (one, []))[1].append(other)
        doubtful = [(one, reasoning.suspicious(one, rest)) for one, rest in others.values()]
        rows = [
            one.changes.rows[path] for one, paths in doubtful for path in paths if path in one.changes.rows
        ]
        await self._texts.read_definitions([(row.path, blob) for row in rows for blob in (row.old, row.new)])
        for one, paths in doubtful:
            reasoning.find_gone(one, paths, self._texts)
        users = [
            (one, other, other.changes.rows[path])
            for pair in pairs
            for one, other in ((pair.a, pair.b), (pair.b, pair.a))
            for path in reasoning.users(one, other)
        ]
        await self._texts.read_words([(row.path, blob) for *_, row in users for blob in (row.old, row.new)])
        broken = [row for one, other, _ in users for row in reasoning.places(one, other)]
        await self._texts.read_words([(row.path, row.new) for row in broken])
        await self._texts.read_uses(
            [
                (row.path, row.new)
                for one, other, row in users
                if reasoning.meant(one, other, row.path, self._texts)
            ]
        )
        found = [(pair, reasoning.findings(pair.a, pair.b, self._texts)) for pair in pairs]
        return await self._not_elsewhere([row for row in found if row[1]])

    async def _not_elsewhere(self, rows: Sequence[tuple[_Pair, list[Finding]]]) -> dict[int, Finding]:
        gone: dict[str, list[Broken]] = {}
        for pair, findings in rows:
            for each in findings:
                gone.setdefault(self._tree(pair, each), []).append(each.clash.broken)
        for tree, broken in gone.items():
            await self._elsewhere.look(tree, broken)
        found = {}
        for pair, findings in rows:
            for each in findings:
                if not self._elsewhere.has(self._tree(pair, each), each.clash):
                    found[id(pair)] = each
                    break
        return found

    def _tree(self, pair: _Pair, finding: Finding) -> str:
        """The tree of the side that broke something."""
        side = pair.subject.a if finding.breaker == 0 else pair.subject.b
        return self._merges.tree(side.commit)

    def _frame(self, one: Subject, answer: Merged | None, target: Head) -> tuple[Key, Key]:
        """From where to where each side is compared: from what a pair shares; its fork from the target at best.

        Two branches that left the target at different places share only the older one; what the target did
        in between is not theirs.
        """
        shared = self._merges.bases(one.a.commit, one.b.commit)
        frame = []
        for side in (one.a.commit, one.b.commit):
            is_shared = one.is_target or (answer is not None and not answer.is_clean)
            forks = shared if is_shared else self._merges.bases(side, target.commit)
            base = next(iter(forks or shared), side)  # unrelated histories: nothing to compare with
            frame.append((base, side))
        return frame[0], frame[1]

    async def _read_patches(self, keys: Sequence[Key]) -> None:
        trees = {key: (self._merges.tree(key[0]), self._merges.tree(key[1])) for key in keys}
        near = {pair for key, pair in trees.items() if 0 < len(self._merges.changes(*key).rows) <= FAR}
        fresh = sorted(near - self._patches.keys())
        try:
            found = await patches(self._git, fresh)
        except GitError:
            found = {}  # too much to print: only files are known then
        self._patches = {key: each for key, each in self._patches.items() if key in near} | found

    def _side(self, key: Key) -> Side:
        trees = (self._merges.tree(key[0]), self._merges.tree(key[1]))
        return reasoning.side(self._merges.changes(*key), self._patches.get(trees, {}))

    def _meeting(self, path: str, a: Side, b: Side, *, is_conflict: bool = False) -> Meeting:
        versions = [self._version(path, side, is_conflict=is_conflict) for side in (a, b)]
        return meet(versions[0], versions[1], is_conflict=is_conflict)

    def _version(self, path: str, side: Side, *, is_conflict: bool) -> Version:
        row = side.changes.rows.get(path)
        hunks = side.patch.get(path, ())
        if row is None:
            return Version(hunks)
        before = self._texts.definitions(path, row.old)
        after = self._texts.definitions(path, row.new) if is_conflict or not row.old.strip("0") else ()
        return Version(hunks, before, after, bool(before or after))

    def _conflicting(self, pair: _Pair, answer: Merged) -> ConflictPair:
        found = [self._conflict(conflict, pair.a, pair.b) for conflict in answer.conflicts]
        worst: ConflictClass = (
            "function" if found and all(class_ == "function" for _, class_ in found) else "file"
        )
        names = (pair.subject.a.name, pair.subject.b.name)
        said = files_and_folders(answer.conflicts, *(f"`{name}`" for name in names))
        why = "; ".join(said[:MOST_SAID]) or None
        return ConflictPair(*names, True, worst, 1.0, tuple(file for file, _ in found), why)

    def _conflict(self, conflict: Conflicted, a: Side, b: Side) -> tuple[ConflictFile, ConflictClass]:
        """One file that git cannot merge; only where both sides wrote lines there are places to show."""
        if conflict.kind not in ("content", "add/add"):
            return ConflictFile(named(conflict), conflict.kind), "file"
        meeting = self._meeting(conflict.path, a, b, is_conflict=True)
        file = ConflictFile(conflict.path, conflict.kind, meeting.places, meeting.symbols)
        return file, "function" if meeting.class_ == "function" else "file"

    def _overlap(self, a: Head, b: Head) -> bool:
        if not a.owns or not b.owns:
            return False
        key = (a.owns, b.owns)
        if key not in self._owned:
            self._owned[key] = bool(overlap(*key))
        return self._owned[key]


class _Pair(Struct, frozen=True):
    """One pair with what each side changed; `answer` is git's where it cannot merge them."""

    subject: Subject
    a: Side
    b: Side
    answer: Merged | None


def _to_compare(pairs: Sequence[_Pair]) -> list[tuple[str, str]]:
    """The contents whose definitions tell what class a pair is: old ones, and new ones where they conflict."""
    wanted: dict[tuple[str, str], None] = {}
    for pair in pairs:
        for path in _common(pair):
            for row in (pair.a.changes.rows[path], pair.b.changes.rows[path]):
                wanted[path, row.old] = None
                if pair.answer is not None or not row.old.strip("0"):
                    wanted[path, row.new] = None
    return list(wanted)


def _common(pair: _Pair) -> list[str]:
    return sorted(pair.a.changes.rows.keys() & pair.b.changes.rows.keys())[:MOST_FILES]


def _clean(
    one: Subject, meetings: Mapping[str, Meeting], forecast: float, finding: Finding | None
) -> ConflictPair:
    names = (one.a.name, one.b.name)
    if finding is not None:
        likelihood = max(forecast, RISKS[finding.clash.broken.what])
        return ConflictPair(
            *names, False, "logic", likelihood, (), reasoning.why(finding, names, one.is_target)
        )
    classes = {meeting.class_ for meeting in meetings.values()}
    class_: ConflictClass | None = (
        "file" if "file" in classes else "function" if "function" in classes else None
    )
    files = [ConflictFile(path, "content", each.places, each.symbols) for path, each in meetings.items()]
    return ConflictPair(*names, False, class_, forecast, tuple(files))
