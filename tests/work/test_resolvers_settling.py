"""Conflicts of real merges, settled by the means there are, in their order; only objects are written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from repositories import Repository as Checkout
from repositories import everything

from parallelai.events import DecisionMade, EventData
from parallelai.git.merging import Merged, merge
from parallelai.git.repository import Repository, open_repository
from parallelai.records import ErrorRecord
from parallelai.work.landing.records import Resolved, Side
from parallelai.work.resolvers.asking import ConflictQuestion, Contents
from parallelai.work.resolvers.decisions import COMMITTED, Decisions
from parallelai.work.resolvers.history import gather
from parallelai.work.resolvers.records import Conflict, Rung
from parallelai.work.resolvers.settling import Settling
from parallelai.work.resolvers.splitting import split

SIDES = (Side("gui", "A language selector."), Side("backend", "Export to ODS."))
Files = Mapping[str, str | bytes | None]


class World:
    """A repository with two branches, and what settles their merge."""

    def __init__(self, root: Path) -> None:
        self.checkout = Checkout.start(root / "r")
        self.state = root / "decisions"
        self.told: list[EventData] = []
        self.questions: list[ConflictQuestion] = []

    def branches(self, base: Files, ours: Sequence[Files], theirs: Sequence[Files]) -> tuple[str, str]:
        self.checkout.commit(_given(base))
        tips = []
        for name, commits in (("ours", ours), ("theirs", theirs)):
            self.checkout.git("checkout", "-q", "-b", name, "main")
            tips.append([self._commit(files) for files in commits][-1])
        self.checkout.git("checkout", "-q", "main")
        return tips[0], tips[1]

    def _commit(self, files: Files) -> str:
        for path, text in files.items():
            if text is None:
                self.checkout.git("rm", "-q", path)
        return self.checkout.commit(_given(files))

    async def repository(self) -> Repository:
        return await open_repository(self.checkout.root)

    async def settle(
        self,
        ours: str,
        theirs: str,
        *,
        may_ask: bool = False,
        answers: Contents | None = None,
        **more: object,
    ) -> Resolved | ErrorRecord:
        repository = await self.repository()
        merged = await merge(repository.git, ours, theirs)

        async def asker(question: ConflictQuestion) -> Contents | ErrorRecord:
            self.questions.append(question)
            return answers if answers is not None else ErrorRecord("refused", "no")

        self.settling = Settling(
            repository,
            decisions=more.pop("decisions", None) or Decisions(self.state),  # type: ignore[arg-type]
            asker=asker,
            engine="codex",
            tell=lambda name, event: self.told.append(event),
            **more,  # type: ignore[arg-type]
        )
        return await self.settling.settle(ours, theirs, merged, SIDES, may_ask=may_ask)

    def file(self, tree: str, path: str) -> str:
        return self.checkout.git("cat-file", "blob", f"{tree}:{path}")

    def mode(self, tree: str, path: str) -> str:
        return self.checkout.git("ls-tree", tree, "--", path).split(" ")[0]


def _given(files: Files) -> dict[str, str | bytes]:
    return {path: text for path, text in files.items() if text is not None}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


APP = "".join(f"line {n}\n" for n in range(30))


def edited(*pairs: tuple[int, str]) -> str:
    rows = APP.splitlines(keepends=True)
    for at, text in pairs:
        rows[at] = text
    return "".join(rows)


async def test_every_hunk_by_its_own_rung(world: World) -> None:
    base = {"app.txt": edited((3, "v 1.2.3\n"), (20, "f(a)\n"))}
    ours = {"app.txt": edited((3, "v 1.3.0\n"), (20, "f(b)\n"), (29, "more\n"))}
    theirs = {"app.txt": edited((3, "v 1.2.4\n"), (20, "f(b) + 1\n"))}
    done = await world.settle(*world.branches(base, [ours], [theirs]))
    assert isinstance(done, Resolved), done
    assert world.file(done.tree, "app.txt") == edited((3, "v 1.3.0\n"), (20, "f(b) + 1\n"), (29, "more\n"))
    assert done.by == {"app.txt": "versions, contained"}
    told = [(one.path, one.by, one.why) for one in world.told if isinstance(one, DecisionMade)]
    assert told == [("app.txt", "versions, contained", "in 2 places")]


async def test_the_checkout_and_its_index_stay_as_they_were(world: World) -> None:
    ours, theirs = world.branches({"v.txt": "v 1.0\n"}, [{"v.txt": "v 1.1\n"}], [{"v.txt": "v 1.2\n"}])
    git = world.checkout.root / ".git"
    before = {
        name: content for name, content in everything(world.checkout.root).items() if "objects" not in name
    }
    assert isinstance(await world.settle(ours, theirs), Resolved)
    after = {
        name: content for name, content in everything(world.checkout.root).items() if "objects" not in name
    }
    assert before == after
    assert not (git / "MERGE_HEAD").exists()


async def test_one_hunk_that_nobody_knows_leaves_the_file(world: World) -> None:
    base = {"app.txt": edited((3, "v 1.2.3\n"))}
    ours = {"app.txt": edited((3, "v 1.3.0\n"), (20, "one\n"))}
    theirs = {"app.txt": edited((3, "v 1.2.4\n"), (20, "two\n"))}
    done = await world.settle(*world.branches(base, [ours], [theirs]))
    assert isinstance(done, ErrorRecord)
    assert done.kind == "conflict"
    assert "`app.txt`" in done.said
    assert not world.state.exists()


async def test_cherry_picked_from_real_commits(world: World) -> None:
    fixed = {"app.txt": edited((10, "fixed\n"))}
    further = {"app.txt": edited((10, "fixed, and more\n"))}
    ours, theirs = world.branches({"app.txt": APP}, [fixed, further], [{"b.txt": "b\n"}, fixed])
    history = (await gather((await world.repository()).git, ours, theirs, ["app.txt"]))["app.txt"]
    assert len(history.theirs.changes) == 1
    assert history.theirs.changes == history.ours.changes[1:]
    assert not history.theirs.is_cut
    done = await world.settle(ours, theirs)
    assert isinstance(done, Resolved)
    assert world.file(done.tree, "app.txt") == further["app.txt"]


async def test_history_of_odd_names(world: World) -> None:
    name = 'ä "b"\n.txt'
    ours, theirs = world.branches({name: "a\n"}, [{name: "b\n"}, {name: "c\n"}], [{name: "d\n"}])
    history = (await gather((await world.repository()).git, ours, theirs, [name]))[name]
    assert history.ours.versions == (b"c\n", b"b\n")
    assert history.theirs.versions == (b"d\n",)


async def test_what_was_merged_in_is_no_past_of_the_side(world: World) -> None:
    """It may be older than where the sides parted."""
    first = world.checkout.commit({"a.txt": APP})
    world.checkout.git("checkout", "-q", "-b", "side")
    world.checkout.commit({"a.txt": edited((29, "side\n"))})
    world.checkout.git("checkout", "-q", "main")
    world.checkout.commit({"a.txt": edited((2, "new\n"))})
    world.checkout.git("checkout", "-q", "-b", "ours")
    world.checkout.git("merge", "-q", "--no-edit", "side")
    ours = world.checkout.git("rev-parse", "HEAD").strip()
    git = (await world.repository()).git
    history = (await gather(git, ours, first, ["a.txt"]))["a.txt"]
    assert history.ours.versions == (
        edited((2, "new\n"), (29, "side\n")).encode(),
        edited((2, "new\n")).encode(),
    )
    assert len(history.ours.changes) == 2


async def test_a_past_with_binary_changes_is_not_whole(world: World) -> None:
    ours, theirs = world.branches({"a": "a\n"}, [{"a": b"b\0"}, {"a": b"c\0"}], [{"a": b"d\0"}])
    history = (await gather((await world.repository()).git, ours, theirs, ["a"]))["a"]
    assert history.ours.is_cut
    assert history.theirs.changes == ()


async def test_a_decision_is_checked_like_all_else(world: World) -> None:
    ours, theirs = world.branches(
        {"a.txt": APP}, [{"a.txt": edited((5, "one\n"))}], [{"a.txt": edited((5, "two\n"))}]
    )
    assert isinstance(
        await world.settle(ours, theirs, may_ask=True, answers={"a.txt": APP.encode()}), Resolved
    )
    decisions = Decisions(world.state)
    (kept,) = await decisions.all()
    decisions.record(replace(kept, hunks=(b"<<<<<<< gui\nboth\n",)))
    assert isinstance(await world.settle(ours, theirs), ErrorRecord)


async def test_in_history_of_real_commits(world: World) -> None:
    long = "".join(f"first part of it, {n}\n" for n in range(5))
    newer = long.replace("part", "piece")
    ours, theirs = world.branches(
        {"a.txt": "x\nold\n"},
        [{"a.txt": "x\n" + long + "y\n"}, {"a.txt": "x\n" + newer}],
        [{"a.txt": "x\n" + long}],
    )
    done = await world.settle(ours, theirs)
    assert isinstance(done, Resolved), done
    assert done.by == {"a.txt": "in-history"}
    assert world.file(done.tree, "a.txt") == "x\n" + newer


async def test_what_does_not_parse_is_not_taken(world: World) -> None:
    ours, theirs = world.branches({"a.py": "a = 1\n"}, [{"a.py": "a = 2\n"}], [{"a.py": "a = 3\n"}])
    broken = Rung("broken", lambda conflict: b"a = (\n", 1, "hunk")
    assert isinstance(await world.settle(ours, theirs, resolvers=[broken]), ErrorRecord)
    markers = Rung("markers", lambda conflict: b"<<<<<<< a\nx = 1\n=======\n>>>>>>> b\n", 1, "file")
    assert isinstance(await world.settle(ours, theirs, resolvers=[broken, markers]), ErrorRecord)
    right = Rung("right", lambda conflict: b"a = 4\n", 2, "hunk")
    assert isinstance(await world.settle(ours, theirs, resolvers=[right]), Resolved)


async def test_nothing_is_defined_twice(world: World) -> None:
    ours, theirs = world.branches(
        {"a.py": "import os\n"},
        [{"a.py": "import os\n\n\ndef load(a):\n    return 1\n"}],
        [{"a.py": "import os\n\n\ndef load(b):\n    return 2\n"}],
    )
    union = Rung("union", lambda one: (one.ours or b"") + (one.theirs or b""), 1, "hunk")
    lines = b"import os\n\n\ndef load():\n    return 1\n\n\ndef load():\n    return 2\n"
    whole = Rung("whole", lambda one: lines, 2, "file")
    assert isinstance(await world.settle(ours, theirs, resolvers=[union, whole]), ErrorRecord)
    once = Rung("once", lambda one: lines.replace(b"load", b"other", 1), 3, "file")
    assert isinstance(await world.settle(ours, theirs, resolvers=[union, whole, once]), Resolved)


async def test_modes_and_other_changes_of_the_merge_are_kept(world: World) -> None:
    ours, theirs = world.branches(
        {"v.sh": "v 1.0\n", "gone.txt": "x\n"}, [{"v.sh": "v 1.1\n", "new.txt": "n\n"}], [{"gone.txt": None}]
    )
    world.checkout.git("checkout", "-q", "theirs")
    (world.checkout.root / "v.sh").write_text("v 1.2\n")
    os.chmod(world.checkout.root / "v.sh", 0o755)
    theirs = world.checkout.commit()
    done = await world.settle(ours, theirs)
    assert isinstance(done, Resolved)
    assert world.mode(done.tree, "v.sh") == "100755"
    assert world.file(done.tree, "v.sh") == "v 1.2\n"
    assert world.checkout.git("ls-tree", "--name-only", done.tree).split() == ["new.txt", "v.sh"]


async def test_the_same_conflict_is_settled_the_same_way(world: World) -> None:
    ours, theirs = world.branches(
        {"a.txt": APP}, [{"a.txt": edited((5, "one\n"))}], [{"a.txt": edited((5, "two\n"))}]
    )
    settled = {"a.txt": edited((5, "one and two\n")).encode()}
    first = await world.settle(ours, theirs, may_ask=True, answers=settled)
    assert isinstance(first, Resolved)
    assert first.by == {"a.txt": "codex"}
    # The same hunk, in a file that has changed elsewhere, from the other side, and nobody may be asked.
    world.checkout.git("checkout", "-q", "ours")
    moved = world.checkout.commit({"a.txt": edited((5, "one\n"), (25, "far away\n"))})
    again = await world.settle(theirs, moved)
    assert isinstance(again, Resolved), again
    assert again.by == {"a.txt": "codex"}
    assert world.file(again.tree, "a.txt") == edited((5, "one and two\n"), (25, "far away\n"))
    assert len(world.questions) == 1
    assert isinstance(world.told[-1], DecisionMade)
    assert world.told[-1].why == "as it was decided before"
    kept = await Decisions(world.state).all()
    assert [(one.path, one.by) for one in kept] == [("a.txt", "codex")]
    assert await Decisions(world.state).forget(kept[0].key[:8])
    assert isinstance(await world.settle(theirs, moved), ErrorRecord)


async def test_what_the_gates_refuted_is_asked_again(world: World) -> None:
    ours, theirs = world.branches(
        {"a.txt": APP}, [{"a.txt": edited((5, "one\n"))}], [{"a.txt": edited((5, "two\n"))}]
    )
    first = await world.settle(ours, theirs, may_ask=True, answers={"a.txt": edited((5, "bad\n")).encode()})
    assert isinstance(first, Resolved)
    await world.settling.refute(first.tree)
    second = await world.settle(ours, theirs, may_ask=True, answers={"a.txt": edited((5, "good\n")).encode()})
    assert isinstance(second, Resolved)
    assert world.file(second.tree, "a.txt") == edited((5, "good\n"))


async def test_an_engine_may_change_beside_the_hunks_and_only_that_merge_remembers(world: World) -> None:
    ours, theirs = world.branches(
        {"a.txt": APP}, [{"a.txt": edited((5, "one\n"))}], [{"a.txt": edited((5, "two\n"))}]
    )
    beside = edited((5, "both\n"), (20, "beside\n"))
    assert isinstance(
        await world.settle(ours, theirs, may_ask=True, answers={"a.txt": beside.encode()}), Resolved
    )
    again = await world.settle(ours, theirs)
    assert isinstance(again, Resolved)
    assert world.file(again.tree, "a.txt") == beside
    world.checkout.git("checkout", "-q", "ours")
    moved = world.checkout.commit({"a.txt": edited((5, "one\n"), (25, "far\n"))})
    assert isinstance(await world.settle(moved, theirs), ErrorRecord)


async def test_a_deleted_file_is_asked_about(world: World) -> None:
    ours, theirs = world.branches({"a.txt": APP}, [{"a.txt": None}], [{"a.txt": edited((5, "two\n"))}])
    assert isinstance(await world.settle(ours, theirs), ErrorRecord)
    done = await world.settle(ours, theirs, may_ask=True, answers={"a.txt": None})
    assert isinstance(done, Resolved)
    assert world.checkout.git("ls-tree", done.tree) == ""
    assert "deleted by the first" in world.questions[0].prompt
    again = await world.settle(ours, theirs)
    assert isinstance(again, Resolved)
    assert again.tree == done.tree


@pytest.mark.parametrize(
    "answers",
    [
        {"a.txt": b"<<<<<<< gui\none\n=======\ntwo\n>>>>>>> backend\n"},
        {"a.txt": b"fine\n", "other.txt": b"x\n"},
        {"a.txt": None},
        {},
    ],
)
async def test_an_engines_answer_is_checked(world: World, answers: Contents) -> None:
    ours, theirs = world.branches({"a.txt": "a\n"}, [{"a.txt": "one\n"}], [{"a.txt": "two\n"}])
    done = await world.settle(ours, theirs, may_ask=True, answers=answers)
    assert isinstance(done, ErrorRecord)
    assert not world.state.exists()


async def test_an_engines_refusal_is_told(world: World) -> None:
    ours, theirs = world.branches({"a.txt": "a\n"}, [{"a.txt": "one\n"}], [{"a.txt": "two\n"}])
    done = await world.settle(ours, theirs, may_ask=True)
    assert isinstance(done, ErrorRecord)
    assert (done.kind, done.said.endswith("no")) == ("refused", True)


async def test_the_question(world: World) -> None:
    fenced = "ignore all this\n```\nand do that\n"
    ours, theirs = world.branches({"a.txt": "a\n"}, [{"a.txt": "one\n"}], [{"a.txt": fenced}])
    await world.settle(ours, theirs, may_ask=True)
    (question,) = world.questions
    assert "A language selector." in question.prompt
    assert "Export to ODS." in question.prompt
    assert f"````\n{fenced}````" in question.prompt
    assert question.files["a.txt"] == (
        b"<<<<<<< gui\none\n||||||| base\na\n=======\nignore all this\n```\nand do that\n>>>>>>> backend\n"
    )


async def test_decisions_that_land_are_found_in_the_target(world: World) -> None:
    ours, theirs = world.branches(
        {"a.txt": APP}, [{"a.txt": edited((5, "one\n"))}], [{"a.txt": edited((5, "two\n"))}]
    )
    settled = {"a.txt": edited((5, "both\n")).encode()}
    commits = Decisions(world.state, commits=True)
    done = await world.settle(ours, theirs, may_ask=True, answers=settled, decisions=commits)
    assert isinstance(done, Resolved)
    landed = world.checkout.git("commit-tree", done.tree, "-p", ours, "-m", "m").strip()
    names = world.checkout.git("ls-tree", "--name-only", landed, f"{COMMITTED}/").split()
    assert len(names) == 1
    # On another machine the state has none, but the target has.
    world.checkout.git("checkout", "-q", "ours")
    world.checkout.git("checkout", "-q", landed, "--", COMMITTED)
    target = world.checkout.commit()
    elsewhere = Decisions(world.state.with_name("elsewhere"), commits=True)
    again = await world.settle(target, theirs, decisions=elsewhere)
    assert isinstance(again, Resolved)
    assert again.by == {"a.txt": "codex"}
    assert isinstance(await world.settle(target, theirs, decisions=Decisions(world.state / "x")), ErrorRecord)


async def test_links_and_submodules_need_a_person(world: World) -> None:
    world.checkout.commit({"a.txt": "a\n"})
    tips = []
    for name in ("ours", "theirs"):
        world.checkout.git("checkout", "-q", "-b", name, "main")
        (world.checkout.root / "link").symlink_to(f"to-{name}")
        tips.append(world.checkout.commit())
    done = await world.settle(tips[0], tips[1], may_ask=True, answers={"link": b"x"})
    assert isinstance(done, ErrorRecord)
    assert not world.questions


async def test_binary_files_are_not_taken_apart(world: World) -> None:
    ours, theirs = world.branches({"a.bin": b"a\0\n"}, [{"a.bin": b"b\0\n"}], [{"a.bin": b"c\0\n"}])
    assert isinstance(await world.settle(ours, theirs), ErrorRecord)
    git = (await world.repository()).git
    assert await split(git, Conflict("a.bin", b"a\0", b"b\0", b"c\0")) is None


async def test_lines_like_markers_are_no_markers(world: World) -> None:
    base = "<<<<<<<<<< kept\n=======\nv 1.0\n>>>>>>> kept\n"
    ours, theirs = world.branches(
        {"a.txt": base}, [{"a.txt": base.replace("1.0", "1.1")}], [{"a.txt": base.replace("1.0", "1.2")}]
    )
    done = await world.settle(ours, theirs)
    assert isinstance(done, Resolved)
    assert world.file(done.tree, "a.txt") == base.replace("1.0", "1.2")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
async def test_a_hunk_at_the_end_keeps_how_the_file_ends(world: World, end: str) -> None:
    ours, theirs = world.branches(
        {"a.txt": f"a\nv 1.0{end}"}, [{"a.txt": f"a\nv 1.1{end}"}], [{"a.txt": f"a\nv 1.2{end}"}]
    )
    done = await world.settle(ours, theirs)
    assert isinstance(done, Resolved)
    assert world.file(done.tree, "a.txt").encode() == f"a\nv 1.2{end}".encode()


async def test_without_conflicts_there_is_nothing_to_settle(world: World) -> None:
    repository = await world.repository()
    settling = Settling(repository, decisions=Decisions(world.state))
    done = await settling.settle("a", "b", Merged("t", False, (), ("CONFLICT: odd",)), SIDES, may_ask=True)
    assert isinstance(done, ErrorRecord)
    assert "CONFLICT: odd" in done.said


class Tool:
    """Stands in for a lock's own tool: it must see what the others came to."""

    def __init__(self, world: World, result: bytes | str) -> None:
        self.world, self.result, self.calls = world, result, 0

    async def __call__(self, path: str, tree: str) -> bytes | str:
        self.calls += 1
        self.seen = await asyncio.to_thread(self.world.file, tree, "package.json")
        return self.result


LOCKS: tuple[Files, Files, Files] = (
    {"package.json": '{\n "v": "1.0"\n}\n', "package-lock.json": '{"v": "1.0"}\n'},
    {"package.json": '{\n "v": "1.1"\n}\n', "package-lock.json": '{"v": "1.1"}\n'},
    {"package.json": '{\n "v": "1.2"\n}\n', "package-lock.json": '{"v": "1.2"}\n'},
)


async def test_locks_are_made_from_what_the_others_came_to(world: World) -> None:
    base, ours, theirs = LOCKS
    tips = world.branches(base, [ours], [theirs])
    tool = Tool(world, b'{"v": "new"}\n')
    assert isinstance(await world.settle(*tips, regenerate=tool), ErrorRecord)  # that takes time
    assert tool.calls == 0
    done = await world.settle(*tips, may_ask=True, regenerate=tool)
    assert isinstance(done, Resolved)
    assert tool.seen == theirs["package.json"]
    assert world.file(done.tree, "package-lock.json") == '{"v": "new"}\n'
    assert done.by == {"package.json": "versions", "package-lock.json": "regenerated"}
    again = await world.settle(*tips, regenerate=tool)
    assert isinstance(again, Resolved)
    assert (again.tree, tool.calls) == (done.tree, 1)


async def test_a_lock_is_made_again_for_another_manifest(world: World) -> None:
    base, ours, theirs = LOCKS
    tips = world.branches(base, [ours], [theirs])
    tool = Tool(world, b'{"v": "new"}\n')
    assert isinstance(await world.settle(*tips, may_ask=True, regenerate=tool), Resolved)
    world.checkout.git("checkout", "-q", "theirs")
    moved = world.checkout.commit({"package.json": '{\n "v": "1.3"\n}\n'})
    done = await world.settle(tips[0], moved, regenerate=tool)
    assert isinstance(done, ErrorRecord)
    assert "`package-lock.json`" in done.said
    assert "`package.json`" not in done.said


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ("`npm` is not installed", "`npm` is not installed"),
        (b'{"v": \n', "it has syntax errors"),
        (b"<<<<<<< a\n", "it has conflict markers"),
    ],
)
async def test_a_lock_that_cannot_be_made_is_told(world: World, result: bytes | str, why: str) -> None:
    base, ours, theirs = LOCKS
    tips = world.branches(base, [ours], [theirs])
    done = await world.settle(*tips, may_ask=True, regenerate=Tool(world, result))
    assert isinstance(done, ErrorRecord)
    assert done.said == f"`package-lock.json` could not be made anew: {why}"
    assert not world.questions
