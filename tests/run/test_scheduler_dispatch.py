"""Which task starts when: order, dependencies, groups, phases, limits, admission."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_world import World, bad, member, node, nodes, ok

from parallelai.engines.protocol import Estimate
from parallelai.errors import NotFoundError
from parallelai.events import LimitChanged, LimitReached
from parallelai.records import ErrorRecord, Outcome
from parallelai.run.scheduling.decisions import RunStep, Start, Wait
from parallelai.run.scheduling.nodes import Allowance, AttemptResult, Node, Prepared, RoleLimit, Settled
from parallelai.run.scheduling.scheduler import Scheduler
from parallelai.run.scheduling.settings import Settings


def test_the_longest_remaining_path_starts_first() -> None:
    graph = [
        node("short", 0, estimate_seconds=5),
        node("head", 1, estimate_seconds=1),
        node("tail", 2, depends_on=("head",), estimate_seconds=100),
        node("middle", 3, estimate_seconds=50),
    ]
    assert World(graph, settings=Settings(parallel=1)).run().names == ["head", "tail", "middle", "short"]


def test_an_urgent_task_and_what_it_depends_on_go_first() -> None:
    graph = [
        node("normal", 0, estimate_seconds=100),
        node("before", 1, estimate_seconds=1),
        node("urgent", 2, depends_on=("before",), weight=0.25),
        node("low", 3, weight=2.0),
    ]
    assert World(graph, settings=Settings(parallel=1)).run().names == ["before", "urgent", "normal", "low"]


@pytest.mark.parametrize("weights", [(-2.0, -1.0, 0.0, 0.5, 3.0, 1e300)])
def test_any_number_is_a_priority_and_smaller_is_more_urgent(weights: tuple[float, ...]) -> None:
    graph = [node(f"w{at}", -at, weight=weight) for at, weight in enumerate(weights)]
    assert World(graph, settings=Settings(parallel=1)).run().names == [one.id for one in graph]


def test_plan_order_breaks_ties() -> None:
    assert World(nodes("c", "a", "b"), settings=Settings(parallel=1)).run().names == ["c", "a", "b"]


def test_a_task_starts_as_soon_as_its_own_dependencies_are_there() -> None:
    graph = [node("slow", 0), node("quick", 1), node("after", 2, depends_on=("quick",))]
    world = World(graph, script=lambda task, *_: ok(10.0 if task == "slow" else 1.0)).run()
    assert dict(zip(world.names, world.starts_at, strict=True))["after"] == 1.0


def test_a_group_is_awaited_as_a_whole() -> None:
    graph = [*nodes("a", "b", "c"), node("all", 3, awaits=("files",))]
    world = World(graph, {"files": ("a", "b", "c")}, script=lambda task, *_: ok(" abc".index(task[0]))).run()
    assert world.starts_at[world.names.index("all")] == 3.0


def test_an_empty_group_holds_nobody() -> None:
    assert World([node("a", awaits=("none",))], {"none": ()}).run().outcomes == {"a": "ok"}


def test_the_next_phase_starts_when_this_one_has_ended_whatever_its_outcomes() -> None:
    graph = [*nodes("a", "b"), node("later", 2, awaits=("phase:0",), phase=1)]
    world = World(
        graph,
        {"phase:0": ("a", "b")},
        script=lambda task, *_: bad("refused", 5.0) if task == "b" else ok(),
    ).run()
    assert world.outcomes == {"a": "ok", "b": "failed", "later": "ok"}
    assert world.starts_at[-1] == 5.0


def test_one_failed_item_skips_who_awaits_the_whole_but_not_its_neighbours() -> None:
    graph = [*nodes("a", "b", "c"), node("all", 3, awaits=("files",)), node("last", 4, depends_on=("all",))]

    def script(task: str, *_: int) -> AttemptResult:
        return bad("refused") if task == "b" else ok()

    world = World(graph, {"files": ("a", "b", "c")}, script=script).run()
    assert world.outcomes == {"a": "ok", "b": "failed", "c": "ok", "all": "skipped", "last": "skipped"}
    assert world.finished["all"].why == "`b` failed"


def test_on_failure_continue_lets_dependents_run() -> None:
    graph = [node("a", 0, on_failure="continue"), node("b", 1, depends_on=("a",))]
    world = World(graph, script=lambda task, *_: bad("refused") if task == "a" else ok()).run()
    assert world.outcomes == {"a": "failed", "b": "ok"}


def test_on_failure_stop_starts_nothing_more_but_lets_end_what_runs() -> None:
    graph = [node("bad", 0, on_failure="stop"), *[node(f"t{at}", at + 1) for at in range(4)]]

    def script(task: str, *_: int) -> AttemptResult:
        return bad("refused", 1.0) if task == "bad" else ok(9.0)

    world = World(graph, settings=Settings(parallel=2), script=script).run()
    assert world.outcomes == {
        "bad": "failed",
        "t0": "ok",
        "t1": "cancelled",
        "t2": "cancelled",
        "t3": "cancelled",
    }
    assert world.finished["t1"].why == "stopped, because `bad` failed"


def test_what_needs_no_attempt_is_settled_and_counts_for_its_dependents() -> None:
    graph = [
        node("kept", 0),
        node("off", 1),
        node("a", 2, depends_on=("kept",)),
        node("b", 3, depends_on=("off",)),
    ]
    told = {"kept": Settled(Outcome.OK, None, "kept"), "off": Settled(Outcome.SKIPPED, None, "`when`")}
    world = World(graph)
    world.given_prepare = lambda task: told.get(task) or Prepared((world.estimate,))
    assert world.run().outcomes == {"kept": "ok", "off": "skipped", "a": "ok", "b": "skipped"}
    assert world.names == ["a"]
    assert world.finished["off"].why == "`when`"


def _prepared(world: World):
    from parallelai.run.scheduling.nodes import Prepared

    return Prepared((world.estimate,))


def test_nothing_is_prepared_long_before_its_slot() -> None:
    world = World(nodes(*"abcdef"), settings=Settings(parallel=2))
    world.decide()
    assert world.prepared == ["a", "b"]


def test_who_prepares_a_task_has_been_told_of_the_end_of_its_dependencies() -> None:
    world = World([node("a"), node("b", 1, depends_on=("a",))])
    world.decide()
    world.now = 1.0
    world.land()
    assert world.decide() == Wait(1.0, "ready")
    assert world.prepared == ["a"]
    world.decide()
    assert world.prepared == ["a", "b"]


def test_a_node_that_nobody_can_do_is_blocked() -> None:
    world = World([node("a", members=())]).run()
    assert world.outcomes == {"a": "blocked"}
    assert world.finished["a"].error is not None
    assert world.finished["a"].error.kind == "unavailable"


def test_parallel_concurrency_and_phases_are_ceilings_and_the_rest_goes_on() -> None:
    graph = [node(f"a{at}", at, members=(member("a"),)) for at in range(6)]
    graph += [node(f"b{at}", at + 6, members=(member("b"),)) for at in range(6)]
    world = World(graph, settings=Settings(parallel=4, concurrency={"a": 1})).run()
    assert world.highest == 4
    assert world.names[:4] == ["a0", "b0", "b1", "b2"]
    phased = World(
        [node(f"t{at}", at, phase=at % 2) for at in range(8)], settings=Settings(8, {}, {0: 1})
    ).run()
    assert phased.names[:5] == ["t0", "t1", "t3", "t5", "t7"]


def test_a_role_s_limit_holds_over_engines_and_phases_while_others_and_its_own_checks_go_on() -> None:
    limit = RoleLimit("backend", 2)
    graph = [
        *[
            node(f"b{at}", at, role=limit, phase=at % 2, members=(member("xy"[at % 2]),), steps=steps)
            for at, steps in enumerate([("perform", "check")] * 5)
        ],
        node("other", 5),
    ]
    world = World(graph, settings=Settings(parallel=6), script=lambda *_: ok(5.0))
    first = world.decide()
    assert [start.task for start in world.started] == ["b0", "b1", "other"]
    assert first is not None
    assert first.why == "role"
    world.run()
    assert dict(zip(world.names, world.starts_at, strict=True))["b2"] == 5.0, (
        "a check takes no place of a role"
    )
    assert set(world.outcomes.values()) == {"ok"}
    assert world.of(LimitReached) == [LimitReached("role", "backend", 2, 2)], "it is told once"


def test_an_engine_s_full_concurrency_is_told_once_and_of_each_engine() -> None:
    graph = [node(f"{name}{at}", 2 * at, members=(member(name),)) for name in "abc" for at in range(4)]
    world = World(graph, settings=Settings(parallel=9, concurrency={"a": 1, "b": 2, "c": 4})).run()
    told = sorted(world.of(LimitReached), key=lambda one: one.name)
    assert told == [LimitReached("engine", "a", 1, 1), LimitReached("engine", "b", 2, 2)], "c's never binds"


def test_a_choice_waits_for_all_of_its_engines_and_each_is_told() -> None:
    graph = [node(f"t{at}", at, members=(member("a"), member("b")), rule="any") for at in range(4)]
    world = World(graph, settings=Settings(parallel=9, concurrency={"a": 1, "b": 1})).run()
    assert sorted(one.name for one in world.of(LimitReached)) == ["a", "b"]


def test_a_parked_attempt_gives_its_place_in_the_role_to_others() -> None:
    limit = RoleLimit("backend", 1)
    world = World([node("a", role=limit), node("b", 1, role=limit)], script=lambda *_: ok(5.0))
    world.decide()
    assert world.names == ["a"]
    world.scheduler.park("a", 1, True)
    assert Start("b", 0, 1, Estimate()) in world.scheduler.decide(0.0)


def test_the_wait_says_what_binds_the_run() -> None:
    def bound(graph: list[Node], settings: Settings, script=lambda *_: ok()) -> str:
        world = World(graph, settings=settings, script=script)
        return world.decide().why  # type: ignore[union-attr]

    many = nodes("a", "b", "c")
    assert bound(many, Settings(parallel=2)) == "parallel"
    assert bound(many, Settings(parallel=9)) == "in_flight"
    assert bound(many, Settings(9, {"mock": 1})) == "concurrency"
    assert bound(many, Settings(9, {}, {0: 1})) == "phase"


def test_steps_run_in_order_and_a_red_check_fails_the_task() -> None:
    steps = ("prepare", "perform", "check")
    graph = [node("a", 0, steps=steps), node("b", 1, steps=steps), node("c", 2, depends_on=("b",))]
    red = ErrorRecord("check_failed", "red")
    world = World(graph, settings=Settings(parallel=1), steps={("b", "check"): red}).run()
    assert world.outcomes == {"a": "ok", "b": "failed", "c": "skipped"}
    assert world.finished["b"].error == red
    assert [step for task, step in world.steps if task == "a"] == ["prepare", "check"]


def test_what_has_begun_ends_before_something_new_begins() -> None:
    graph = [
        node("a", 0, steps=("perform", "check")),
        node("x", 1),
        node("long", 2, depends_on=("x",), weight=0.1),
    ]
    world = World(graph, settings=Settings(parallel=2))
    world.decide()
    world.scheduler.set_parallel(1)
    world.now = 1.0
    world.land()
    world.decide()
    assert world.scheduler.decide(1.0)[0] == RunStep("a", "check")


def test_pause_starts_nothing_and_resume_goes_on() -> None:
    world = World(nodes("a", "b"), settings=Settings(parallel=1))
    world.decide()
    world.scheduler.pause()
    world.now = 1.0
    world.land()
    assert world.decide() == Wait(None, "paused")
    assert world.scheduler.statistics().is_paused
    world.scheduler.resume()
    assert world.run().outcomes == {"a": "ok", "b": "ok"}


def test_stop_ends_the_rest_as_cancelled_without_a_retry() -> None:
    def script(task: str, *_: int) -> AttemptResult:
        return bad("transient", 5.0) if task == "a" else ok(5.0)

    world = World(nodes("a", "b", "c"), settings=Settings(parallel=2), script=script)
    world.at.append((1.0, lambda world: world.scheduler.stop("interrupted")))
    assert world.run().outcomes == {"a": "cancelled", "b": "ok", "c": "cancelled"}
    assert not world.cancelled


def test_cancel_ends_what_is_in_flight_and_waits_until_it_has_ended() -> None:
    world = World(nodes("a", "b", "c"), settings=Settings(parallel=2), script=lambda *_: ok(9.0))
    world.at.append((1.0, lambda world: world.scheduler.cancel(None, "interrupted")))
    world.run()
    assert set(world.outcomes.values()) == {"cancelled"}
    assert {one.task for one in world.cancelled} == {"a", "b"}
    assert world.now == 1.5


def test_a_result_that_comes_after_the_cancel_is_taken() -> None:
    world = World(nodes("a"), script=lambda *_: ok(2.0), cancel_takes=50.0)
    world.at.append((1.0, lambda world: world.scheduler.cancel("a")))
    assert world.run().outcomes == {"a": "ok"}


def test_a_cancelled_step_is_no_success() -> None:
    world = World([node("a", steps=("perform", "check"))])
    world.at.append((1.2, lambda world: world.scheduler.cancel("a")))
    assert world.run().outcomes == {"a": "cancelled"}


def test_cancelling_one_task_skips_its_dependents_only() -> None:
    graph = [node("a"), node("b", 1, depends_on=("a",)), node("c", 2)]
    world = World(graph)
    assert world.scheduler.cancel("a", "not wanted")
    assert world.run().outcomes == {"a": "cancelled", "b": "skipped", "c": "ok"}
    assert not world.scheduler.cancel("a")


def test_retry_opens_a_failed_task_and_what_was_skipped_for_it() -> None:
    graph = [node("a"), node("b", 1, depends_on=("a",)), node("c", 2, awaits=("g",)), node("slow", 3)]

    def script(task: str, who: int, tried: int) -> AttemptResult:
        return ok(9.0) if task == "slow" else bad("refused") if tried == 0 and task == "a" else ok()

    world = World(graph, {"g": ("b",)}, script=script)
    opened: list[str] = []

    def again(world: World) -> None:
        opened.extend(world.scheduler.retry("a", world.now))
        world.openings.update(opened)

    world.at.append((3.0, again))
    assert world.run().outcomes == {"a": "ok", "b": "ok", "c": "ok", "slow": "ok"}
    assert opened == ["a", "b", "c"]
    assert world.scheduler.retry("a", world.now) == ()


def test_retry_does_not_wait_for_the_back_off() -> None:
    def script(task: str, who: int, tried: int) -> AttemptResult:
        return bad("transient", after=500.0) if tried == 0 else ok()

    world = World(nodes("a"), script=script)
    world.at.append((2.0, lambda world: world.scheduler.retry("a", world.now)))
    assert world.run().starts_at == [0.0, 2.0]


def test_unknown_tasks_are_named() -> None:
    world = World(nodes("a"))
    with pytest.raises(NotFoundError, match="`x`"):
        world.scheduler.cancel("x")
    with pytest.raises(NotFoundError, match="`x`"):
        world.scheduler.retry("x", 0.0)


def test_set_parallel_takes_effect_at_once_and_is_told() -> None:
    world = World(nodes(*"abcdef"), settings=Settings(parallel=1), script=lambda *_: ok(3.0))
    world.decide()
    world.scheduler.set_parallel(4)
    world.parallel = 4
    world.decide()
    assert len(world.flying) == 4
    assert [(one.before, one.after) for one in world.of(LimitChanged)] == [(1, 4)]
    with pytest.raises(ValueError, match="at least 1"):
        world.scheduler.set_parallel(0)


def test_a_task_can_be_added_to_a_running_run() -> None:
    world = World(nodes("a", "b"), settings=Settings(parallel=1))
    world.decide()
    urgent = node("new", 2, weight=0.1)
    world.nodes["new"] = urgent
    world.openings["new"] = 1
    world.scheduler.add([urgent], {}, 0.0)
    assert world.run().names == ["a", "new", "b"]


def test_a_task_that_is_added_hurries_what_it_depends_on() -> None:
    world = World([node("now", weight=0.1), *nodes("a", "b")], settings=Settings(parallel=1))
    world.decide()
    new = node("new", 3, depends_on=("b",), estimate_seconds=900)
    world.nodes["new"] = new
    world.openings["new"] = 1
    world.scheduler.add([new], {}, 0.0)
    assert world.run().names == ["now", "b", "new", "a"]


def test_what_settled_badly_decides_its_dependents() -> None:
    world = World([node("a"), node("b", 1, depends_on=("a",)), node("c", 2, awaits=("g",))], {"g": ("b",)})
    world.scheduler.settle("a", Outcome.FAILED)
    assert world.run().outcomes == {"b": "skipped", "c": "skipped"}
    with pytest.raises(ValueError, match="has begun already"):
        world.scheduler.settle("a", Outcome.OK)


def test_a_skipped_task_is_not_tried_again_by_itself() -> None:
    graph = [node("a"), node("b", 1, depends_on=("a",)), node("slow", 2)]
    world = World(graph, script=lambda task, *_: bad("refused") if task == "a" else ok(9.0))
    world.at.append((2.0, lambda world: world.openings.update(world.scheduler.retry("b", world.now))))
    world.run()
    assert world.openings["b"] == 1


def test_adding_what_cannot_be_leaves_the_run_as_it_was() -> None:
    world = World(nodes("a"))
    for wrong in ([node("b", depends_on=("x",))], [node("a")], [node("b", depends_on=("b",))]):
        with pytest.raises(ValueError):
            world.scheduler.add(wrong, {}, 0.0)
    assert world.run().outcomes == {"a": "ok"}


@pytest.mark.parametrize(
    ("graph", "groups"),
    [
        ([node("a"), node("a")], {}),
        ([node("a", depends_on=("b",)), node("b", depends_on=("a",))], {}),
        ([node("a", awaits=("g",))], {}),
        ([node("a", awaits=("g",))], {"g": ("a",)}),
        ([node("a")], {"g": ("x",)}),
    ],
)
def test_graphs_that_no_checked_plan_gives_are_refused(
    graph: list[Node], groups: dict[str, tuple[str, ...]]
) -> None:
    with pytest.raises(ValueError):
        World(graph, groups)


def test_an_end_of_what_is_not_in_flight_is_refused() -> None:
    world = World(nodes("a"))
    with pytest.raises(ValueError, match="no attempt 1 of `a`"):
        world.scheduler.attempt_ended("a", 1, ok(), 0.0)


def test_no_tasks_is_a_run_that_is_done() -> None:
    world = World([])
    assert world.scheduler.is_done
    assert world.scheduler.decide(0.0) == []


def test_statistics_add_up() -> None:
    graph = [*nodes("a", "b", "c"), node("d", 3, depends_on=("a",))]
    world = World(graph, settings=Settings(parallel=2))
    world.decide()
    now = world.scheduler.statistics()
    assert (now.in_flight, now.working, now.ready, now.waiting, now.done) == (2, 2, 1, 1, 0)
    assert now.limit_bound == "parallel"
    world.run()
    assert world.scheduler.statistics().outcomes == {Outcome.OK: 4}


def test_starts_take_the_estimates_of_their_member() -> None:
    world = World([node("a", rule="fallback", members=(member("x"), member("y")))])
    world.script = lambda task, who, tried: bad("unavailable") if who == 0 else ok()
    world.run()
    assert [(one.member, one.attempt) for one in world.started] == [(0, 1), (1, 2)]
    assert all(isinstance(one, Start) and one.estimate == world.estimate for one in world.started)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 25), st.integers(1, 6))
def test_the_makespan_is_that_of_the_critical_path_list(seed: int, count: int, slots: int) -> None:
    chance = Random(seed)
    seconds = {f"t{at}": float(chance.randint(1, 1_000_000)) for at in range(count)}
    parents = {
        f"t{at}": tuple(f"t{one}" for one in sorted(chance.sample(range(at), min(at, chance.randint(0, 3)))))
        for at in range(count)
    }
    graph = [
        node(name, at, depends_on=parents[name], estimate_seconds=seconds[name])
        for at, name in enumerate(seconds)
    ]
    world = World(graph, settings=Settings(parallel=slots), script=lambda task, *_: ok(seconds[task])).run()
    assert world.now == critical_path_list(seconds, parents, slots)


def critical_path_list(seconds: dict[str, float], parents: dict[str, tuple[str, ...]], slots: int) -> float:
    """Plain list scheduling, quadratic and obvious."""
    length: dict[str, float] = {}
    for name in reversed(list(seconds)):
        below = [child for child, held in parents.items() if name in held]
        length[name] = seconds[name] + max((length[child] for child in below), default=0.0)
    now, ends, done, begun = 0.0, {}, set(), set()
    while len(done) < len(seconds):
        ready = [name for name in seconds if name not in begun and done.issuperset(parents[name])]
        for name in sorted(ready, key=lambda name: -length[name])[: slots - len(ends)]:
            begun.add(name)
            ends[name] = now + seconds[name]
        now = min(ends.values())
        for name in [name for name, end in ends.items() if end == now]:
            done.add(name)
            del ends[name]
    return now


def test_a_scheduler_needs_a_slot() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Scheduler(
            [], {}, Settings(parallel=0), prepare=lambda _: Settled(Outcome.OK), random=Random(0), now=0.0
        )
    with pytest.raises(ValueError, match="at least 1"):
        World(nodes("a"), settings=Settings(concurrency={"mock": 0}))


def test_the_task_time_limit_cancels_what_takes_longer() -> None:
    graph = [node("a", budget=Allowance(time=3.0)), node("b", 1)]
    world = World(graph, script=lambda *_: ok(10.0), settings=Settings(parallel=2)).run()
    assert world.outcomes == {"a": "over_budget", "b": "ok"}
    assert [(one.task, one.attempt) for one in world.cancelled] == [("a", 1)]


def test_a_failure_that_says_nothing_is_internal() -> None:
    world = World(nodes("a"), script=lambda *_: AttemptResult(False, 1.0)).run()
    assert world.finished["a"].error is not None
    assert world.finished["a"].error.kind == "internal"


def _scheduler(all_nodes: list[Node], **settings: object) -> Scheduler:
    return Scheduler(
        all_nodes,
        {},
        Settings(**settings),
        prepare=lambda task: Prepared((Estimate(),)),
        random=Random(1),
        now=0.0,
    )


def _starts(scheduler: Scheduler) -> list[str]:
    """What starts now: attempts by their task, steps with their name before it."""
    found = []
    for one in [*scheduler.decide(0.0), *scheduler.decide(0.0)]:  # ends are carried out before others start
        if isinstance(one, Start):
            found.append(one.task)
        elif isinstance(one, RunStep):
            found.append(f"{one.step} {one.task}")
    return found


def test_who_needs_only_the_work_of_another_does_not_wait_for_its_end() -> None:
    steps = {"steps": ("perform", "land"), "unslotted": frozenset({"land"}), "finish_step": 1}
    first = node("first", 0, **steps)
    early = node("early", 1, depends_on=("first",), after_finish=frozenset({"first"}), **steps)
    late = node("late", 2, depends_on=("first", "early"), **steps)
    scheduler = _scheduler([first, early, late])
    assert _starts(scheduler) == ["first"]
    scheduler.attempt_ended("first", 1, ok(), 0.0)
    assert sorted(_starts(scheduler)) == ["early", "land first"]
    scheduler.step_ended("first", "land", None, 0.0)
    assert _starts(scheduler) == []
    scheduler.attempt_ended("early", 1, ok(), 0.0)
    assert _starts(scheduler) == ["land early"]
    scheduler.step_ended("early", "land", None, 0.0)
    assert _starts(scheduler) == ["late"]


def test_a_dependent_that_began_early_is_not_counted_twice_when_the_other_ends() -> None:
    steps = {"steps": ("perform", "land"), "unslotted": frozenset({"land"}), "finish_step": 1}
    first, second = node("first", 0, **steps), node("second", 1, **steps)
    both = node("both", 2, depends_on=("first", "second"), after_finish=frozenset({"first"}))
    scheduler = _scheduler([first, second, both])
    _starts(scheduler)
    scheduler.attempt_ended("first", 1, ok(), 0.0)
    _starts(scheduler)
    scheduler.step_ended("first", "land", None, 0.0)
    assert _starts(scheduler) == []  # `second` has still to land
    scheduler.attempt_ended("second", 1, ok(), 0.0)
    assert _starts(scheduler) == ["land second"]
    scheduler.step_ended("second", "land", None, 0.0)
    assert _starts(scheduler) == ["both"]


def test_a_step_that_waits_takes_no_slot() -> None:
    steps = {"steps": ("perform", "land"), "unslotted": frozenset({"land"})}
    scheduler = _scheduler([node("a", 0, **steps), node("b", 1, **steps)], parallel=1)
    assert _starts(scheduler) == ["a"]
    scheduler.attempt_ended("a", 1, ok(), 0.0)
    assert sorted(_starts(scheduler)) == ["b", "land a"]
    scheduler.step_ended("a", "land", None, 0.0)
    scheduler.attempt_ended("b", 1, ok(), 0.0)
    assert _starts(scheduler) == ["land b"]


def test_a_parked_attempt_gives_its_slot_to_others_until_it_goes_on() -> None:
    scheduler = _scheduler(nodes("a", "b", "c"), parallel=1)
    assert _starts(scheduler) == ["a"]
    scheduler.park("a", 1, True)
    assert _starts(scheduler) == ["b"]
    scheduler.park("a", 1, False)
    scheduler.attempt_ended("b", 1, ok(), 0.0)
    assert _starts(scheduler) == []  # `a` has its slot again
    scheduler.attempt_ended("a", 1, ok(), 0.0)
    assert _starts(scheduler) == ["c"]
    scheduler.park("c", 1, True)
    scheduler.attempt_ended("c", 1, ok(), 0.0)  # ended while it waited
    scheduler.decide(0.0)
    assert scheduler.is_done
    assert scheduler.statistics().in_flight == 0
