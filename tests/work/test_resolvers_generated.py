"""Generated files that two changes meet in: the plan's command makes them anew, or says why not."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from repositories import Repository as Checkout

from parallelai.errors import Unavailable, UsageError
from parallelai.events import DecisionMade, EventData
from parallelai.git.merging import merge
from parallelai.git.repository import open_repository
from parallelai.plan.generators import Generator, Generators, MadeFiles
from parallelai.plan.model import Landing, Plan, Workspace
from parallelai.processes import confinements
from parallelai.records import ConflictDocument, ConflictFile, ConflictPair, ErrorRecord
from parallelai.work.conflicts.advice import made_anew
from parallelai.work.gates.trees import Settings, open_trees
from parallelai.work.landing.records import Resolved, Side
from parallelai.work.resolvers import settling
from parallelai.work.resolvers.asking import ConflictQuestion, Contents
from parallelai.work.resolvers.decisions import Decisions
from parallelai.work.resolvers.generating import Generation, Made
from parallelai.work.resolvers.settling import Settling
from running import run_program

SIDES = (Side("gui", "A language selector."), Side("backend", "Export to ODS."))
TOKEN = "s3cr3t" * 4
MAKE = Generator(files="gen/**", command=[sys.executable, "make.py"])
MAKER = """\
import pathlib
names = sorted(path.stem for path in pathlib.Path("src").iterdir())
pathlib.Path("gen").mkdir(exist_ok=True)
pathlib.Path("gen/all.py").write_text(f"ALL = {names}\\n")
pathlib.Path("gen/count.txt").write_text(f"{len(names)}\\n")
pathlib.Path("cache").write_text("what git does not have is left alone")
"""
BASE = {"make.py": MAKER, "src/m.txt": "", "gen/all.py": "ALL = ['m']\n", "gen/count.txt": "1\n"}


class Making:
    """Stands in for a command: gives what it is told to, and remembers what it saw."""

    def __init__(self, checkout: Checkout, made: Made | str, rules: Sequence[Generator] = (MAKE,)) -> None:
        self.checkout, self.made, self.rules = checkout, made, Generators(rules)
        self.seen: list[tuple[list[str], list[str]]] = []

    def of(self, path: str) -> Generator | None:
        return self.rules.of(path)

    def made_of(self, paths: Sequence[str]) -> Sequence[MadeFiles]:
        return self.rules.made_of(paths)

    async def __call__(self, generator: Generator, commit: str, paths: Collection[str]) -> Made | str:
        listed = await asyncio.to_thread(self.checkout.git, "ls-tree", "-r", "--name-only", commit)
        self.seen.append((list(paths), listed.split()))
        if isinstance(self.made, str):
            return self.made
        return {path: text for path, text in self.made.items() if self.of(path) is generator}


class World:
    """Two branches that each add a source, and so change the same generated files."""

    def __init__(self, root: Path) -> None:
        self.checkout = Checkout.start(root / "r")
        for key, value in (("user.name", "Ana"), ("user.email", "ana@example.invalid")):
            self.checkout.git("config", key, value)
        self.state = root / "decisions"
        self.checkout.commit(BASE)
        self.ours, self.theirs = self._branch("x"), self._branch("y")
        self.told: list[EventData] = []
        self.questions: list[ConflictQuestion] = []

    def _branch(self, name: str) -> str:
        self.checkout.git("checkout", "-q", "-b", name, "main")
        made = {"gen/all.py": f"ALL = {sorted(['m', name])}\n", "gen/count.txt": "2\n"}
        commit = self.checkout.commit({f"src/{name}.txt": "", **made})
        self.checkout.git("checkout", "-q", "main")
        return commit

    async def settle(
        self,
        generate: Making | Generation,
        answers: Contents | ErrorRecord | None = None,
        may_ask: bool = True,
        commits: bool = False,
    ) -> Resolved | ErrorRecord:
        repository = await open_repository(self.checkout.root)

        async def asker(question: ConflictQuestion) -> Contents | ErrorRecord:
            self.questions.append(question)
            assert answers is not None
            return answers

        means = Settling(
            repository,
            decisions=Decisions(self.state, commits=commits),
            asker=asker if answers is not None else None,
            engine="codex",
            generate=generate,
            tell=lambda name, event: self.told.append(event),
        )
        merged = await merge(repository.git, self.ours, self.theirs)
        return await means.settle(self.ours, self.theirs, merged, SIDES, may_ask=may_ask)

    def file(self, tree: str, path: str) -> str:
        return self.checkout.git("cat-file", "blob", f"{tree}:{path}")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_what_a_command_made_is_taken_with_what_it_made_beside(world: World) -> None:
    made = Making(world.checkout, {"gen/all.py": b"ALL = 3\n", "gen/count.txt": b"3\n"})
    assert isinstance(await world.settle(made, may_ask=False), ErrorRecord)  # that takes time
    assert made.seen == []
    done = await world.settle(made)
    assert isinstance(done, Resolved)
    (paths, listed) = made.seen[0]
    assert paths == ["gen/all.py"]
    assert "gen/all.py" not in listed  # what it does not write is not there
    assert {"gen/count.txt", "src/x.txt", "src/y.txt"} <= set(listed)
    assert (world.file(done.tree, "gen/all.py"), world.file(done.tree, "gen/count.txt")) == (
        "ALL = 3\n",
        "3\n",
    )
    assert (done.by, done.beside) == ({"gen/all.py": "regenerated"}, ("gen/count.txt",))
    (told,) = [one for one in world.told if isinstance(one, DecisionMade)]
    assert told.why == f"made anew by `{sys.executable} make.py`"
    (decision,) = await Decisions(world.state).all()
    assert (decision.path, decision.by, decision.why) == ("gen/all.py", "regenerated", told.why)
    assert isinstance(await world.settle(made), Resolved)
    assert len(made.seen) == 2  # its sources may be others: it is never remembered
    assert await world.settle(made, commits=True) == done  # and does not land: nobody would find it


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ("`make` failed (exit 2): no rule", "`make` failed (exit 2): no rule"),
        ({}, f"`{sys.executable} make.py` did not write it"),
        ({"gen/all.py": b"ALL = [\n"}, "it has syntax errors"),
        ({"gen/all.py": b"<<<<<<< a\n"}, "it has conflict markers"),
    ],
)
async def test_what_a_command_does_not_make_is_told_and_left_to_an_engine(
    world: World, made: Made | str, why: str
) -> None:
    said = f"`gen/all.py` could not be made anew: {why}"
    assert await world.settle(Making(world.checkout, made)) == ErrorRecord("conflict", said)
    refused = await world.settle(Making(world.checkout, made), ErrorRecord("refused", "it would not"))
    assert refused == ErrorRecord("refused", f"{said}; it would not")
    assert said in world.questions[0].prompt
    assert "<<<<<<< gui" in str(world.questions[0].files["gen/all.py"])
    done = await world.settle(Making(world.checkout, made), {"gen/all.py": b"ALL = 4\n"})
    assert isinstance(done, Resolved)
    assert (world.file(done.tree, "gen/all.py"), done.by) == ("ALL = 4\n", {"gen/all.py": "codex"})
    decisions = await Decisions(world.state).all()
    assert decisions[-1].why == f"by the engine that was asked: {said}"


async def test_a_command_runs_as_a_gate_does_and_may_change_what_it_makes_only(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = await open_repository(world.checkout.root)
    logs = tmp_path / "logs"
    spoil = Generator(files="other/**", command=["sh", "-c", "echo >> make.py; rm src/m.txt; touch new"])
    absent = Generator(files="absent/**", command=["no-such-generator", "--all"])
    rules = Generators([spoil, absent, MAKE])
    monkeypatch.setenv("API_TOKEN", TOKEN)
    settings = Settings("r-generated", logs, Workspace(pass_env=("API_TOKEN",)))
    async with open_trees(repository, settings) as trees:
        generation = Generation(rules, trees, logs)
        done = await world.settle(generation)
        assert isinstance(done, Resolved), done
        assert world.file(done.tree, "gen/all.py") == "ALL = ['m', 'x', 'y']\n"
        assert world.file(done.tree, "gen/count.txt") == "3\n"  # git had merged two equal lines
        changed = set(world.checkout.git("diff", "--name-only", world.ours, done.tree).split())
        assert changed == {"gen/all.py", "gen/count.txt", "src/y.txt"}
        stray = await generation(spoil, world.ours, ["other/a"])
        assert isinstance(stray, str)
        assert stray.endswith("also changed `make.py` and 1 more, which its `files` do not name")
        made = {
            "ln -sf ../make.py gen/count.txt": "a link at `gen/count.txt`",
            "rm gen/count.txt; mkdir gen/count.txt": "a folder at `gen/count.txt`",
            "rm -r gen; ln -s src gen": "a link at `gen`",
        }
        for does, what in made.items():
            put = Generator(files="gen/**", command=["sh", "-c", does])
            said = await Generation(Generators([put]), trees, logs)(put, world.ours, ["gen/all.py"])
            assert str(said).endswith(f"left {what}")
        leaky = Generator(files="gen/**", command=["sh", "-c", "env | grep TOKEN >&2; exit 3"])
        told = str(await generation(leaky, world.ours, ["gen/all.py"]))
        assert "API_TOKEN=••••" in told
        assert TOKEN not in told
        missing = await generation(absent, world.ours, ["absent/a"])
        assert isinstance(missing, str)
        assert "`no-such-generator --all` could not be run: " in missing
        assert "was not found on PATH" in missing


async def test_commands_run_in_the_order_of_the_plan_for_one_may_read_what_another_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "MAX_FILES", 0)  # of generated files there may be any number
    for name in ("x", "y"):
        world.checkout.git("checkout", "-q", name)
        world.checkout.commit({"a/client.txt": f"{name}\n", "z/schema.txt": f"{name}\n"})
    world.ours, world.theirs = (world.checkout.git("rev-parse", name).strip() for name in ("x", "y"))
    rules = [Generator(files=files, command="make it") for files in ("z/**", "a/**", "gen/**")]
    files = dict.fromkeys(("a/client.txt", "z/schema.txt", "gen/all.py"), b"")
    made = Making(world.checkout, files, rules)

    assert isinstance(await world.settle(made), Resolved)

    assert [paths for paths, _ in made.seen] == [["z/schema.txt"], ["a/client.txt"], ["gen/all.py"]]
    there = [{"a/client.txt", "z/schema.txt", "gen/all.py"}.intersection(listed) for _, listed in made.seen]
    assert there == [set(), {"z/schema.txt"}, {"a/client.txt", "z/schema.txt"}]


@pytest.mark.skipif(not confinements(), reason="nothing can take the network away here")
async def test_a_command_has_no_network(world: World, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        call = f"import socket; socket.create_connection({server.getsockname()!r})"
        asks = Generator(files="gen/**", command=[sys.executable, "-c", call])
        settings = Settings("r-network", tmp_path / "logs", network="on")
        async with open_trees(await open_repository(world.checkout.root), settings) as trees:
            made = await Generation(Generators([asks]), trees, tmp_path / "logs")(asks, world.ours, [])
    assert isinstance(made, str)
    assert "refused" in made or "unreachable" in made or "not permitted" in made or "denied" in made


async def test_a_folder_that_cannot_be_made_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_trees(
        await open_repository(world.checkout.root), Settings("r-none", world.state)
    ) as trees:

        def at(commit: str) -> object:
            raise Unavailable("only 1 MB are free")

        monkeypatch.setattr(trees, "at", at)
        made = await Generation(Generators([MAKE]), trees, world.state)(MAKE, world.ours, ["gen/all.py"])
        assert isinstance(made, str)
        assert made.endswith("could not be run: only 1 MB are free")


def test_branches_land_with_what_the_config_says_is_generated(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config" / "parallelai" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[[landing.generated]]\nfiles = "gen/**"\ncommand = ["{sys.executable}", "make.py"]\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    seen = run_program(world.checkout.root, "work", "conflicts", "--branches", "x", "y")
    assert "a landing makes `gen/all.py` anew, by the command that the plan names" in seen.stdout
    landed = run_program(world.checkout.root, "work", "land", "--branches", "x", "y")
    assert landed.returncode == 0, landed.stdout + landed.stderr
    assert (world.checkout.root / "gen/all.py").read_text() == "ALL = ['m', 'x', 'y']\n"
    assert (world.checkout.root / "gen/count.txt").read_text() == "3\n"
    settled = "settled by the program that makes it"
    assert f"`gen/all.py` was {settled}" in landed.stdout
    assert f"Conflict in gen/all.py {settled}." in world.checkout.git("log", "-1", "--format=%B")
    assert (
        "gen/all.py: by the program that makes it: made"
        in run_program(world.checkout.root, "work", "decisions").stdout
    )
    assert world.checkout.git("status", "--porcelain") == ""


def test_the_first_command_that_names_a_file_makes_it() -> None:
    one = Generator(files=["gen/**", "!gen/b/**"], command="make a")
    two = Generator(files="gen/**", command="make b")
    both = Generators([one, two])
    assert both.of("gen/a.py") is one
    assert both.of("gen/b/c.py") is two
    assert both.of("a.py") is None
    assert (both.claims("gen/a.py"), both.claims("gen/b/c.py")) == ((0, 1), (1,))
    (first, second) = both.made_of(["gen/a.py", "gen/b/c.py", "x"])
    assert first.said == "`gen/**`, `!gen/b/**` (1 file): made anew by `make a` where two changes meet"
    assert second.paths == ("gen/b/c.py",)


def test_of_conflicts_it_is_said_what_a_landing_makes_anew() -> None:
    files = tuple(ConflictFile(path, "content") for path in ("a.py", "gen/b.py"))
    pairs = tuple(ConflictPair("x", "y", conflict, None, 0.5, files) for conflict in (True, False))
    found = ConflictDocument("main", "main", ("x", "y"), pairs)
    plan = Plan(landing=Landing(generated=(MAKE,)))
    told, silent = made_anew(found, lambda: plan).pairs
    assert told.why == "a landing makes `gen/b.py` anew, by the command that the plan names"
    assert silent == pairs[1]

    def unread() -> Plan:
        raise UsageError("the plan is broken")

    assert made_anew(found, unread) == found
