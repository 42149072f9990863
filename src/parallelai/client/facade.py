"""`AsyncParallelAI`: what can be done with ParallelAI, as awaitable calls."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from parallelai.client.options import CarryOut, OnEvents
from parallelai.client.project import OpenProject
from parallelai.errors import UsageError

if TYPE_CHECKING:  # each is loaded when it is first used: a list of runs needs no scheduler
    from parallelai.client.carrying import Carrier
    from parallelai.client.changes import RunChanges
    from parallelai.client.consent import Offer
    from parallelai.client.engines import Engines
    from parallelai.client.plans import Plans
    from parallelai.client.reviews import ReviewOptions
    from parallelai.client.runs import Runs
    from parallelai.client.workstreams.askers import PortsOf
    from parallelai.client.workstreams.landings import Landings
    from parallelai.client.workstreams.work import Work
    from parallelai.engines.protocol import Engine
    from parallelai.plan.model import Budget, Choice, Plan, Task
    from parallelai.records import RunDocument, Severity
    from parallelai.run.scheduling.strategies import Strategy
    from parallelai.work.landing.records import Tell
    from parallelai.work.opening import Ports
    from parallelai.work.streams.worktrees import Started


class AsyncParallelAI:
    """Runs many assistants at once over one code base.

    Args:
        project: the project's folder; by default the one that the current folder is in.
        config: settings over those of files and environment, nested as in `parallelai.toml`.
        engines: engines of your own, used by their names.
        trust: what the project's own config names may run.

    Use it as an async context manager, or call `aclose` when done.
    """

    def __init__(
        self,
        project: str | Path | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        engines: Iterable[Engine] = (),
        trust: bool = False,
    ) -> None:
        self.project = OpenProject(
            Path.cwd(),
            Path(project) if project is not None else None,
            overrides=config,
            engines=engines,
            is_trusted=trust,
        )

    # -- the rooms of the facade

    @functools.cached_property
    def runs(self) -> Runs:
        """What was carried out, and what is: listed, shown, steered, gone on with."""
        from parallelai.client.runs import Runs

        return Runs(self.project, lambda run, carry: self._carrier.resume(run, carry))

    @functools.cached_property
    def changes(self) -> RunChanges:
        """What runs changed: shown, applied, taken back."""
        from parallelai.client.changes import RunChanges

        return RunChanges(self.project, self.runs)

    @functools.cached_property
    def plans(self) -> Plans:
        """Plans, looked at without carrying them out."""
        from parallelai.client.plans import Plans

        return Plans(self.project)

    @functools.cached_property
    def engines(self) -> Engines:
        """Who can do tasks here."""
        from parallelai.client.engines import Engines

        return Engines(self.project)

    @functools.cached_property
    def work(self) -> Work:
        """Workstreams: started, steered, landed, cleaned."""
        from parallelai.client.workstreams.work import Work

        def start(plan: Plan, name: str, names: Sequence[str]) -> Awaitable[list[Started]]:
            return self._carrier.start(plan, name, names)

        return Work(self.project, self.runs, self.carry_out_plan, start, self._landings)

    def _landings(self) -> Landings:
        from parallelai.client.workstreams.landings import Landings

        return Landings(self.project, self.runs, self._ports)

    @functools.cached_property
    def _carrier(self) -> Carrier:
        from parallelai.client.carrying import Carrier

        return Carrier(self.project, self._ports)

    @functools.cached_property
    def _ports(self) -> PortsOf:
        def ports(plan: Plan, folder: Path, tell: Tell) -> Ports:
            from parallelai.client.workstreams.askers import ports_for

            return ports_for(self.project, AsyncParallelAI, plan, folder, tell)

        return ports

    async def __aenter__(self) -> AsyncParallelAI:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of everything."""
        self.project.close()

    def interrupt(self, signal: int) -> bool:
        """Stop what is being carried out; see `Runner.interrupt`. False if nothing is."""
        return "_carrier" in self.__dict__ and self._carrier.interrupt(signal)

    async def review(
        self,
        patterns: str | Sequence[str] = (),
        *,
        engine: str | Choice | Sequence[str] | Any = None,
        model: str | None = None,
        parallel: int | None = None,
        budget: str | Budget | None = None,
        timeout: float | str | None = None,
        since: str | None = None,
        staged: bool = False,
        template: str = "code-review",
        checklist: Sequence[str] = (),
        baseline: str | Path | None = None,
        fail_on: str | Severity | None = None,
        cache: bool = True,
        apply: bool = False,
        resume: bool = False,
        on_events: OnEvents | None = None,
    ) -> RunDocument:
        """Review files, and give one ranked list of findings.

        Args:
            patterns: which files, by git's rules, from the current folder; none is the whole project.
            engine: who reviews; several are a vote. By default see DESIGN §5, "Consent".
            model: a tier or a model's name.
            parallel: how much at once.
            budget: such as `10usd,5Mtok,4h`.
            timeout: of an attempt, in seconds or as `30m`.
            since: only what changed since this git revision.
            staged: only what is staged in git.
            template: the task template.
            checklist: what to look for.
            baseline: a file of accepted findings.
            fail_on: the severity from which a finding makes `exit` 1.
            cache: stored replies may be used.
            apply: put changes into the user's checkout at the end.
            resume: go on with the latest review of the same.
            on_events: is given events as they happen.

        Raises:
            UsageError: the patterns match nothing, or something else cannot be done as asked.
        """
        from parallelai.client.arguments import words_of
        from parallelai.client.reviews import ReviewOptions, base_of

        options = ReviewOptions(
            words_of(patterns),
            since,
            staged,
            template,
            tuple(checklist),
            Path(baseline) if baseline is not None else None,
            base_of(self.project),
        )
        carry = self._carry(
            engine=engine,
            model=model,
            parallel=parallel,
            budget=budget,
            timeout=timeout,
            fail_on=fail_on,
            is_cacheable=cache,
            is_applied=apply,
            is_resume=resume,
            on_events=on_events,
        )
        return await self.carry_out_review(options, carry)

    async def execute(
        self,
        plan: str | Path | Plan | Mapping[str, Any] | None = None,
        *,
        tasks: Iterable[Task | Mapping[str, Any]] | None = None,
        strategy: str | Strategy | None = None,
        engine: str | Choice | Sequence[str] | Any = None,
        model: str | None = None,
        parallel: int | None = None,
        budget: str | Budget | None = None,
        timeout: float | str | None = None,
        variables: Mapping[str, Any] | None = None,
        only: Sequence[str] = (),
        fail_on: str | Severity | None = None,
        cache: bool = True,
        apply: bool = False,
        resume: bool = False,
        new: bool = False,
        on_events: OnEvents | None = None,
    ) -> RunDocument:
        """Carry a plan out: a file, a `Plan`, plain data, or just tasks.

        Args:
            plan: the plan, or the path of its file.
            tasks: the tasks, instead of a plan.
            strategy: `dag`, `parallel`, `batch:N`, `pipeline`, or an object.
            engine: who does the tasks that name nobody.
            variables: the plan's `vars`, over what it gives.
            only: ids or tags; these tasks and what they depend on.
            resume: go on with the plan's latest run, where there is one.
            new: start a new run even then.

        The other arguments are those of `review`.

        Raises:
            PlanError: all that is wrong with the plan.
        """
        carry = self._carry(
            engine=engine,
            model=model,
            parallel=parallel,
            budget=budget,
            timeout=timeout,
            strategy=strategy,
            variables=dict(variables or {}),
            only=tuple(only),
            fail_on=fail_on,
            is_cacheable=cache,
            is_applied=apply,
            is_resume=resume,
            is_new=new,
            on_events=on_events,
        )
        from parallelai.run.collector import collecting_seldom

        await self.project.listed()
        with collecting_seldom():
            loaded, name = self._load(plan, tasks, carry.variables)
        return await self.carry_out_plan(loaded, name, carry)

    # -- what the command line calls, with the options as objects

    async def carry_out_review(self, options: ReviewOptions, carry: CarryOut) -> RunDocument:
        """Carry a review out; see `review`."""
        from parallelai.client.reviews import list_ahead

        list_ahead(self.project, options)
        return await self._carrier.review(options, carry)

    async def preview_review(
        self, options: ReviewOptions, carry: CarryOut
    ) -> tuple[list[str], list[str], str]:
        """Say what a review would do (`--dry-run`): its files, the engines, and why they would be taken."""
        return await self._carrier.preview(options, carry)

    async def review_offer(self, options: ReviewOptions, carry: CarryOut) -> Offer | None:
        """Say which engine the user should be asked about before a review; None where there is none."""
        if carry.engine is not None or self.project.settings.defaults.engine is not None:
            return None
        if self._carrier.before(options, carry) is not None:  # who does it was chosen then
            return None
        from parallelai.client.consent import offer
        from parallelai.client.reviews import listed_files

        tree = await listed_files(self.project, options)
        template = self.project.templates.get(options.template)
        if not tree.paths or template is None:  # a name of none is refused later
            return None
        checklist = template.checklist
        told = [template.prompt, *(checklist.get(name, "") for name in options.checklist or checklist)]
        return await offer(self.project, tree.paths, prompt="\n".join(told))

    async def load_plan(self, path: str | Path, variables: Iterable[str] = ()) -> tuple[Plan, str]:
        """Load a plan's file, and say what it is known by. Raises `PlanError` with all problems."""
        await self.project.listed()
        return self._load_file(path, variables)

    async def carry_out_plan(self, plan: Plan, name: str | None, carry: CarryOut) -> RunDocument:
        """Carry a plan out; see `execute`."""
        return await self._carrier.plan(plan, name, carry)

    def _carry(self, **asked: Any) -> CarryOut:
        from parallelai.client.arguments import (
            budget_of,
            choice_of,
            count_of,
            seconds_of,
            severity_of,
            strategy_of,
        )

        choice, engines = choice_of(asked.pop("engine"))
        self.project.given.update({engine.name: engine for engine in engines})
        timeout = asked.pop("timeout")
        count_of(asked["parallel"])
        return CarryOut(
            engine=choice,
            budget=budget_of(asked.pop("budget")),
            timeout_seconds=seconds_of(timeout),
            fail_on=severity_of(asked.pop("fail_on")),
            strategy=strategy_of(asked.pop("strategy", None)),
            **asked,
        )

    def _load(
        self,
        plan: str | Path | Plan | Mapping[str, Any] | None,
        tasks: Iterable[Task | Mapping[str, Any]] | None,
        variables: Iterable[str] = (),
    ) -> tuple[Plan, str | None]:
        """Load a plan, and say what it is known by; None for one that is not a file."""
        from parallelai.plan import load
        from parallelai.plan.model import Plan

        if (plan is None) == (tasks is None):
            raise UsageError("give a plan or tasks", next='`execute("tasks.yaml")`, or `execute(tasks=[…])`')
        if isinstance(plan, Plan):
            return plan, None
        names = self.project.names(variables)
        if isinstance(plan, Mapping):
            return load.from_mapping(plan, names=names, tree=self.project.tree), None
        if plan is None:
            given = {"tasks": list(tasks or ())}
            return load.from_mapping(given, names=names, tree=self.project.tree), None
        return self._load_file(plan, variables)

    def _load_file(self, path: str | Path, variables: Iterable[str]) -> tuple[Plan, str]:
        from parallelai.client.loading import load_plan
        from parallelai.client.naming import plan_name

        return load_plan(self.project, Path(path), variables), plan_name(Path(path), self.project.root)
