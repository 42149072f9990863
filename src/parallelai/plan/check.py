"""What a plan must keep beyond its types: names that exist, order without cycles, files with one owner."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from parallelai.errors import Problem
from parallelai.plan.files import Matcher, Tree, triage_safety
from parallelai.plan.generators import Generators
from parallelai.plan.graph import find_cycle
from parallelai.plan.model import Choice, Plan, ReviewGate, Shared, Task, Workstream, positions
from parallelai.plan.pairs import pairs
from parallelai.plan.positions import Step
from parallelai.plan.problems import meant, nearest
from parallelai.plan.values import has_secret, joined, shown

_MOST_CYCLES = 20
UNREAD = "unread-"
"""How the stand-in ids begin that a loader gives to what it could not read."""


class Names(Struct, frozen=True):
    """What a plan may refer to besides itself; None is not checked."""

    engines: frozenset[str] | None = None
    templates: frozenset[str] | None = None
    tiers: frozenset[str] = frozenset({"best", "standard", "fast"})
    strategies: frozenset[str] | None = frozenset({"dag", "parallel", "batch", "pipeline"})
    roles: frozenset[str] | None = None
    models: frozenset[str] = frozenset()
    vars: frozenset[str] = frozenset()  # set beside the plan, such as by `--set`


def check(
    plan: Plan,
    *,
    tree: Tree | None = None,
    names: Names | None = None,
    unread: frozenset[str] = frozenset(),
    allow_overlaps: bool = False,
) -> list[Problem]:
    """Find all that is wrong with a plan whose types are right, in no particular order.

    With a `tree`, file patterns that match nothing are problems too. `unread` names tasks, engines and keys
    that could not be read and were reported already: nothing is said about what depends on them.
    `allow_overlaps` leaves out whether two workstreams own the same files.
    """
    checker = _Checker(plan, tree, names or Names(), unread)
    parts: tuple[Callable[[], Iterator[Problem]], ...] = (
        checker.emptiness,
        checker.ids,
        checker.dependencies,
        checker.cycles,
        checker.descriptions,
        checker.engines,
        checker.templates,
        checker.models,
        checker.roles,
        checker.phases,
        checker.strategy,
        checker.owners,
        *(() if allow_overlaps else (checker.ownership,)),
        checker.branches,
        checker.generated,
        checker.team,
        checker.files,
        checker.secrets,
        checker.prompts,
    )
    return [problem for part in parts for problem in part()]


class _Checker:
    def __init__(self, plan: Plan, tree: Tree | None, names: Names, unread: frozenset[str]) -> None:
        self.plan, self.tree, self.names, self.unread = plan, tree, names, unread
        self.positions = positions(plan)
        self.works: list[tuple[tuple[Step, ...], Task]] = [
            *((("tasks", index), task) for index, task in enumerate(plan.tasks)),
            *((("workstreams", index), work) for index, work in enumerate(plan.workstreams)),
        ]
        self.by_id = {work.id: work for _, work in reversed(self.works)}
        self.known = {**self.by_id, **dict.fromkeys(name for name in unread if name not in self.by_id)}

    def _at(self, path: Iterable[Step], said: str, advice: str | None, *, is_key: bool = False) -> Problem:
        at = (self.positions.key if is_key else self.positions.of)(*path) or (None, None)
        return Problem(said, self.positions.file, at[0], at[1], advice)

    def emptiness(self) -> Iterator[Problem]:
        if not self.works and not self.unread and not self.positions.finished:
            yield self._at(
                (), "the plan is empty: it has no task and no workstream", "add a task under `tasks:`"
            )

    def ids(self) -> Iterator[Problem]:
        first: dict[str, tuple[Step, ...]] = {}
        for path, work in self.works:
            if work.id in first:
                at = self.positions.task(work.id)
                there = f", first in line {at[0]}" if at else ""
                has_id = self.positions.has(*path, "id")
                said = f"the id `{work.id}` is there twice{there}"
                advice = "choose another: tasks and workstreams share one name space"
                yield self._at((*path, "id") if has_id else path, said, advice, is_key=not has_id)
            first.setdefault(work.id, path)

    def dependencies(self) -> Iterator[Problem]:
        for path, work in self.works:
            for index, name in enumerate(work.depends_on):
                place = (*path, "depends_on", index)
                if name == work.id:
                    yield self._at(place, f"`{name}` depends on itself: {name} → {name}", "leave it out")
                elif name not in self.known:
                    said = f"`{work.id}` depends on `{name}`, which does not exist"
                    yield self._at(place, said, meant(name, self._others(work.id), "other task"))

    def _others(self, id: str) -> set[str]:
        return {name for name in self.by_id if name != id and not name.startswith(UNREAD)}

    def cycles(self) -> Iterator[Problem]:
        edges: dict[str, list[str]] = {}
        for _, work in self.works:
            if work.depends_on:
                edges.setdefault(work.id, []).extend(name for name in work.depends_on if name != work.id)
        if self.plan.strategy == "pipeline":
            yield from self._against_pipeline()
        for _ in range(_MOST_CYCLES):
            cycle = find_cycle(edges)
            if cycle is None:
                return
            path = next(path for path, work in self.works if work.id == cycle[0])
            index = self.by_id[cycle[0]].depends_on.index(cycle[1])
            said = f"the tasks wait for each other: {' → '.join(_short(cycle))}"
            yield self._at((*path, "depends_on", index), said, "take out one of these dependencies")
            for name in cycle:
                edges.pop(name, None)

    def _against_pipeline(self) -> Iterator[Problem]:
        order = {task.id: index for index, task in enumerate(self.plan.tasks)}
        for number, task in enumerate(self.plan.tasks):
            for index, name in enumerate(task.depends_on):
                if order.get(name, -1) > number:
                    said = f"`{task.id}` depends on `{name}`, a later stage of the pipeline"
                    yield self._at(("tasks", number, "depends_on", index), said, f"put `{name}` before it")

    def descriptions(self) -> Iterator[Problem]:
        has_default = self.plan.defaults.template is not None
        for path, work in self.works:
            if work.description.strip():
                continue
            if isinstance(work, Workstream):
                yield self._at(
                    path,
                    f"the workstream `{work.id}` has no `description`",
                    "say what is to be done",
                    is_key=True,
                )
            elif work.template is None and not has_default:
                said = f"the task `{work.id}` has no `description` and no `template`"
                yield self._at(path, said, "say what is to be done", is_key=True)

    def _layers(self) -> Iterator[tuple[tuple[Step, ...], Shared]]:
        yield ("defaults",), self.plan.defaults
        yield from self.works

    def _gates(self) -> Iterator[tuple[tuple[Step, ...], ReviewGate]]:
        for index, gate in enumerate(self.plan.gates.landing):
            if isinstance(gate, ReviewGate):
                yield ("gates", "landing", index), gate

    def _said(self, key: str) -> Iterator[tuple[tuple[Step, ...], Any]]:
        """What the defaults, tasks and workstreams say under a key, with its place; most say nothing."""
        for path, layer in self._layers():
            value = getattr(layer, key)
            if value is not None:
                yield (*path, key), value

    def _choices(self) -> Iterator[tuple[tuple[Step, ...], Choice | None]]:
        yield from self._said("engine")
        for path, layer in self._layers():
            if isinstance(layer.verify, Choice):
                yield (*path, "verify"), layer.verify
        for name, role in self.plan.roles.items():
            yield ("roles", name, "engine"), role.engine
        for path, gate in self._gates():
            yield (*path, "engine"), gate.engine
        yield ("landing", "resolver"), self.plan.landing.resolver

    def engines(self) -> Iterator[Problem]:
        registered = self.names.engines
        if registered is None:
            return
        for name, entry in self.plan.engines.items():
            if entry.use not in registered:
                said = f"the engine `{name}` uses `{entry.use}`, which is unknown"
                yield self._at(("engines", name, "use"), said, meant(entry.use, registered, "engine"))
        known = registered | set(self.plan.engines) | {"auto"}
        for path, choice in self._choices():
            for index, name in enumerate(choice.members if choice else ()):
                if name not in known and name not in self.unread:
                    place = (*path, *_place_of_member(choice, index, name))
                    yield self._at(place, f"the engine `{name}` is unknown", meant(name, known, "engine"))

    def templates(self) -> Iterator[Problem]:
        known = self.names.templates
        if known is None:
            return
        used = list(self._said("template"))
        used += [((*path, "review"), gate.review) for path, gate in self._gates()]
        for place, name in used:
            if name not in known:
                yield self._at(place, f"the template `{name}` is unknown", meant(name, known, "template"))

    def models(self) -> Iterator[Problem]:
        used = list(self._said("model"))
        used += [(("roles", name, "model"), role.model) for name, role in self.plan.roles.items()]
        used += [(("engines", name, "model"), entry.model) for name, entry in self.plan.engines.items()]
        used += [((*path, "model"), gate.model) for path, gate in self._gates()]
        known = self.names.tiers | self.names.models
        for place, name in used:
            if name is None or name in known:
                continue
            said_tier = self._says_tier(place)
            if said_tier or _is_misspelt(name, self.names.tiers):
                advice = meant(name, self.names.tiers, "tier")
                yield self._at(place, f"the tier `{name}` is unknown", advice)

    def _says_tier(self, place: tuple[Step, ...]) -> bool:
        holder = self.positions.place(place[:-1])
        return bool(
            holder and holder.children and "tier" in holder.children and "model" not in holder.children
        )

    def roles(self) -> Iterator[Problem]:
        if self.names.roles is None:
            return
        known = self.names.roles | set(self.plan.roles)
        for place, role in self._said("role"):
            if role not in known | self.unread:
                yield self._at(place, f"the role `{role}` is unknown", meant(role, known, "role"))

    def phases(self) -> Iterator[Problem]:
        if not self.plan.phases or "phases" in self.unread:
            return
        phase_of: dict[str, int] = {}
        for number, phase in enumerate(self.plan.phases):
            for index, name in enumerate(phase.tasks):
                place = ("phases", number, "tasks", index)
                if name not in self.known:
                    said = f"the phase `{phase.name}` names `{name}`, which does not exist"
                    yield self._at(place, said, meant(name, self._others(""), "task"))
                elif name in phase_of:
                    other = self.plan.phases[phase_of[name]].name
                    said = f"`{name}` is in two phases: `{other}` and `{phase.name}`"
                    if phase_of[name] == number:
                        said = f"`{name}` is in the phase `{phase.name}` twice"
                    yield self._at(place, said, "keep one of them")
                phase_of.setdefault(name, number)
        yield from self._phase_names()
        yield from self._outside(phase_of)
        yield from self._across(phase_of)

    def _phase_names(self) -> Iterator[Problem]:
        seen: set[str] = set()
        for number, phase in enumerate(self.plan.phases):
            if phase.name in seen:
                yield self._at(
                    ("phases", number, "name"), f"the phase `{phase.name}` is there twice", "rename one"
                )
            seen.add(phase.name)

    def _outside(self, phase_of: Mapping[str, int]) -> Iterator[Problem]:
        # A plan may put only its workstreams, or only its tasks, in phases; but then all of them.
        for kind in ("tasks", "workstreams"):
            group = [(path, work) for path, work in self.works if path[0] == kind]
            if not any(work.id in phase_of for _, work in group):
                continue
            for path, work in group:
                if work.id not in phase_of and work.id not in self.unread:
                    said = f"`{work.id}` is in no phase, and the plan has phases"
                    yield self._at(path, said, "add it to the `tasks` of a phase", is_key=True)

    def _across(self, phase_of: Mapping[str, int]) -> Iterator[Problem]:
        for path, work in self.works:
            own = phase_of.get(work.id)
            for index, name in enumerate(work.depends_on):
                other = phase_of.get(name)
                if own is not None and other is not None and other > own:
                    phases = self.plan.phases
                    said = f"`{work.id}` (phase `{phases[own].name}`) depends on `{name}` of the later phase"
                    advice = (
                        f"move `{name}` to `{phases[own].name}`, or `{work.id}` to `{phases[other].name}`"
                    )
                    yield self._at((*path, "depends_on", index), f"{said} `{phases[other].name}`", advice)

    def strategy(self) -> Iterator[Problem]:
        name = self.plan.strategy.partition(":")[0]
        known = self.names.strategies
        if known is not None and name not in known:
            yield self._at(("strategy",), f"the strategy `{name}` is unknown", meant(name, known, "strategy"))

    def owners(self) -> Iterator[Problem]:
        for index, work in enumerate(self.plan.workstreams):
            if not work.owns:
                said = f"the workstream `{work.id}` owns nothing"
                yield self._at(("workstreams", index, "owns"), said, "write the files that it may change")

    def ownership(self) -> Iterator[Problem]:
        index_of = {work.id: index for index, work in enumerate(self.plan.workstreams)}
        for pair in pairs(self.plan, self.tree.paths if self.tree is not None else None):
            if not pair.is_safe:
                yield self._at(("workstreams", index_of[pair.b], "owns"), pair.said, pair.next)

    def branches(self) -> Iterator[Problem]:
        seen: dict[str, tuple[str, str]] = {}
        for index, work in enumerate(self.plan.workstreams):
            branch = work.branch or f"parallelai/{work.id}"
            key = "branch" if work.branch else "id"
            if not is_branch(branch):
                said = f"`{branch}` is no branch name that git takes"
                yield self._at(("workstreams", index, key), said, "use letters, digits, `-`, `_` and `/`")
                continue
            folded = f"{branch.casefold()}/"
            clashes = (
                pair for other, pair in seen.items() if other.startswith(folded) or folded.startswith(other)
            )
            id, other = next((pair for pair in clashes if pair[0] != work.id), (work.id, branch))
            if id != work.id:
                said = f"`{work.id}` and `{id}` have the same branch `{branch}`"
                if other != branch:
                    said = f"the branches `{branch}` of `{work.id}` and `{other}` of `{id}` cannot be beside each other"
                yield self._at(("workstreams", index, key), said, "give each a branch of its own")
            seen.setdefault(folded, (work.id, branch))

    def generated(self) -> Iterator[Problem]:
        generators = self.plan.landing.generated
        for index, one in enumerate(generators):
            if not one.files:
                said = "a command of `generated` makes no file"
                yield self._at(
                    ("landing", "generated", index, "files"), said, "write the files that it makes"
                )
        claimed = Generators(generators)
        told: set[tuple[int, ...]] = set()
        for path in self.tree.paths if self.tree is not None and len(generators) > 1 else ():
            places = claimed.claims(path)
            if len(places) > 1 and places not in told:
                told.add(places)
                said = f"{shown(path)} is made by {len(places)} commands of `generated`"
                place = ("landing", "generated", places[1], "files")
                yield self._at(place, said, "let one of them leave it out, with `!`")

    def team(self) -> Iterator[Problem]:
        known = {work.id for work in self.plan.workstreams} | self.unread
        for person, member in self.plan.team.items():
            for index, name in enumerate(member.workstreams):
                if name not in known:
                    said = f"`{person}` has the workstream `{name}`, which does not exist"
                    yield self._at(
                        ("team", person, "workstreams", index), said, meant(name, known, "workstream")
                    )

    def files(self) -> Iterator[Problem]:
        if self.tree is None:
            return
        paths = self.tree.paths
        known = frozenset(paths)
        later = self._after_edits()
        seen: dict[tuple[str, ...], bool] = {}  # a fan-out by hand repeats its patterns
        for path, work in self.works:
            if not work.files or isinstance(work, Workstream) or work.id in later:
                continue
            if work.files not in seen:
                seen[work.files] = not known.isdisjoint(work.files) or _selects_any(work.files, paths)
            if not seen[work.files]:
                said = f"{joined(work.files)} matches no file of the project"
                yield self._at((*path, "files"), said, "correct the pattern, or leave `files` out")
            for name in known.intersection(work.files):
                place = self.tree.root / name
                if place.is_symlink() and triage_safety(place, self.tree.root) is not None:
                    said = f"{shown(name)} is a link that leads out of the project, or nowhere"
                    yield self._at((*path, "files"), said, "name a file of the project")

    def _after_edits(self) -> set[str]:
        """Find the tasks that wait, directly or not, for one that edits, and so may make their files."""
        dependents: dict[str, list[str]] = {}
        for _, work in self.works:
            for name in work.depends_on:
                dependents.setdefault(name, []).append(work.id)
        waiting = [work.id for _, work in self.works if work.edits]
        found: set[str] = set()
        while waiting:
            for name in dependents.get(waiting.pop(), ()):
                if name not in found:
                    found.add(name)
                    waiting.append(name)
        return found

    def secrets(self) -> Iterator[Problem]:
        for name, entry in self.plan.engines.items():
            texts = {"base_url": entry.base_url or "", "args": " ".join(entry.args)}
            texts["command"] = " ".join(entry.command or ())
            for key, text in texts.items():
                if has_secret(text):
                    yield self._secret(("engines", name, key))
            yield from self._secret_values(("engines", name, "env"), entry.env)
        for index, one in enumerate(self.plan.landing.generated):
            if has_secret(" ".join(one.command)):
                yield self._secret(("landing", "generated", index, "command"))
        yield from self._secret_values(("workspace", "env"), self.plan.workspace.env)
        yield from self._secret_values(("vars",), self.plan.vars)
        for path, layer in self._layers():
            if layer.workspace is not None:
                yield from self._secret_values((*path, "workspace", "env"), layer.workspace.env)
            if layer.params:
                yield from self._secret_values((*path, "params"), layer.params)

    def _secret_values(self, path: tuple[Step, ...], found: Mapping[str, object]) -> Iterator[Problem]:
        for key, value in found.items():
            if isinstance(value, str) and has_secret(value):
                yield self._secret((*path, key))

    def _secret(self, path: tuple[Step, ...]) -> Problem:
        said = f"`{path[-1]}` holds what looks like a secret, and secrets are never in a plan"
        return self._at(path, said, "name the variable that holds it: `api_key_env`, or `pass_env`")

    def prompts(self) -> Iterator[Problem]:
        works = [(path, work) for path, work in self.works if work.when or "{" in work.description]
        if not works:
            return
        from parallelai.plan.prompt import undefined  # needs jinja2, which plans without templates do not

        plan = None if {"vars", "defaults"} & self.unread else self.plan
        for path, work in works:
            for said in undefined(work, plan, vars=self.names.vars):
                key = "when" if said.startswith("`when`") else "description"
                yield self._at((*path, key), said, None)


def _selects_any(patterns: tuple[str, ...], paths: Iterable[str]) -> bool:
    matcher = Matcher(patterns)
    return any(matcher.selects(path) for path in paths)


def _short(cycle: list[str]) -> list[str]:
    return cycle if len(cycle) <= 12 else [*cycle[:6], f"… {len(cycle) - 11} more …", *cycle[-5:]]


def _place_of_member(choice: Choice | None, index: int, name: str) -> tuple[Step, ...]:
    if choice is None or choice.rule == "one":
        return ()
    if choice.rule == "route":
        return ("route", next(key for key, engine in choice.routes.items() if engine == name))
    return (choice.rule, index)


def _is_misspelt(name: str, tiers: Iterable[str]) -> bool:
    """Say whether a model's name is so near to a tier's that it is one, written wrongly."""
    found = nearest(name, tiers) if name.isalpha() else None
    return found is not None and found[0] == name[0] and abs(len(found) - len(name)) <= 2


def is_branch(name: str) -> bool:
    """Say whether git takes a name for a branch (git-check-ref-format(1))."""
    if len(name) > 200 or re.search(r"[\x00-\x20~^:?*\[\\\x7f]|\.\.|@\{|//|/\.|\.lock(/|\Z)", name):
        return False
    return bool(name) and name != "@" and name[0] not in "-./" and name[-1] not in "/."
