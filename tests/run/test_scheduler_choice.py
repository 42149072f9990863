"""Choices, retries, rate limits and breakers."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scheduler_world import Script, World, bad, member, node, nodes, ok

from parallelai.events import BreakerClosed, BreakerOpened, LimitWaiting
from parallelai.records import LimitKey
from parallelai.run.scheduling.nodes import AttemptResult
from parallelai.run.scheduling.retry import backoff_seconds, limited_seconds
from parallelai.run.scheduling.settings import Settings

TWO = (member("x"), member("y"))
THREE = (*TWO, member("z"))


def by_member(*answers: AttemptResult) -> Script:
    return lambda task, who, tried: answers[who]


def fails_first(times: int, kind: str) -> Script:
    return lambda task, who, tried: bad(kind) if tried < times else ok()


# -- retries


@pytest.mark.parametrize(("times", "outcome"), [(0, "ok"), (3, "ok"), (4, "failed")])
def test_transient_errors_are_tried_again_up_to_retries(times: int, outcome: str) -> None:
    world = World(nodes("a", retries=3), script=fails_first(times, "transient")).run()
    assert world.outcomes == {"a": outcome}
    assert len(world.started) == min(times, 3) + 1


@pytest.mark.parametrize("kind", ["refused", "rejected", "invalid", "timed_out", "internal", "check_failed"])
def test_other_errors_end_the_task_at_once(kind: str) -> None:
    world = World(nodes("a"), script=fails_first(1, kind)).run()
    assert world.outcomes == {"a": "failed"}
    assert world.finished["a"].error is not None
    assert world.finished["a"].error.kind == kind


@pytest.mark.parametrize(
    ("word", "kind"), [("timeout", "timed_out"), ("refused", "refused"), ("invalid", "invalid")]
)
def test_retry_on_adds_kinds(word: str, kind: str) -> None:
    world = World(nodes("a", retry_on=frozenset({word})), script=fails_first(2, kind)).run()
    assert world.outcomes == {"a": "ok"}


def test_an_engine_that_cannot_work_blocks_the_task() -> None:
    assert World(nodes("a"), script=fails_first(9, "unavailable")).run().outcomes == {"a": "blocked"}


def test_the_slot_is_free_during_the_back_off() -> None:
    def script(task: str, who: int, tried: int) -> AttemptResult:
        return bad("transient", after=30.0) if task == "a" and not tried else ok()

    world = World(nodes("a", "b", "c"), settings=Settings(parallel=1), script=script).run()
    assert world.names == ["a", "b", "c", "a"]
    assert world.starts_at == [0.0, 1.0, 2.0, 31.0]


@given(st.integers(1, 2000), st.integers())
def test_back_off_is_fully_jittered_and_bounded(retry: int, seed: int) -> None:
    assert 0.0 <= backoff_seconds(retry, Random(seed)) <= min(60.0, 2.0 ** min(retry, 6))
    assert backoff_seconds(retry, Random(seed), at_least=90.0) == 90.0
    full = min(60.0, 2.0 ** min(retry, 6))
    assert full / 2 <= limited_seconds(retry, Random(seed)) <= full


# -- rate limits


def test_a_rate_limit_counts_as_no_try() -> None:
    def script(task: str, who: int, tried: int) -> AttemptResult:
        return bad("rate_limited", after=2.0) if tried < 8 else ok()

    assert World(nodes("a", retries=0), script=script).run().outcomes == {"a": "ok"}


def test_retry_after_holds_the_whole_key_and_no_other() -> None:
    graph = [node("a", 0, members=(member("x"),)), node("b", 1, members=(member("x"),)), node("c", 2)]

    def script(task: str, who: int, tried: int) -> AttemptResult:
        return bad("rate_limited", 1.0, after=10.0) if task == "a" and not tried else ok()

    world = World(graph, settings=Settings(parallel=1), script=script).run()
    assert list(zip(world.names, world.starts_at, strict=True)) == [
        ("a", 0.0),
        ("c", 1.0),
        ("a", 11.0),
        ("b", 12.0),
    ]


def test_a_refusal_that_is_known_to_say_nothing_of_others_holds_only_its_task() -> None:
    def script(task: str, who: int, tried: int) -> AttemptResult:
        return bad("rate_limited", 1.0, after=10.0, alone=True) if task == "a" and not tried else ok()

    world = World(nodes("a", "b", "c"), settings=Settings(parallel=1), script=script).run()
    assert list(zip(world.names, world.starts_at, strict=True)) == [
        ("a", 0.0),
        ("b", 1.0),
        ("c", 2.0),
        ("a", 11.0),
    ]
    assert world.outcomes == dict.fromkeys("abc", "ok")


def test_who_is_refused_alone_again_and_again_is_not_tried_without_end() -> None:
    world = World(
        nodes("a"),
        settings=Settings(max_wait_seconds=600.0),
        script=lambda *_: bad("rate_limited", 0.0, after=60.0, alone=True),
    ).run()
    assert world.outcomes == {"a": "blocked"}
    assert len(world.started) == 11


def test_a_wait_beyond_max_wait_blocks_the_task_and_says_until_when() -> None:
    world = World(
        nodes("a", "b"), settings=Settings(1), script=lambda *_: bad("rate_limited", 1.0, after=7200.0)
    ).run()
    assert world.outcomes == {"a": "blocked", "b": "blocked"}
    assert len(world.started) == 1, "nothing more is sent to a provider that asked to wait two hours"
    error = world.finished["b"].error
    assert error is not None
    assert error.kind == "rate_limited"
    assert "1970-01-01T02:00:01Z" in error.said


def test_a_provider_that_always_limits_is_not_asked_without_end() -> None:
    world = World(
        nodes("a"), settings=Settings(max_wait_seconds=600.0), script=lambda *_: bad("rate_limited", 0.0)
    ).run()
    assert world.outcomes == {"a": "blocked"}
    assert len(world.started) < 40
    assert world.now < 700.0
    zero = World(
        nodes("a"),
        settings=Settings(max_wait_seconds=600.0),
        script=lambda *_: bad("rate_limited", 0.0, after=0.0),
    )
    assert zero.run().outcomes == {"a": "blocked"}


def test_a_used_up_quota_opens_the_breaker_until_it_is_reset() -> None:
    def script(task: str, who: int, tried: int) -> AttemptResult:
        return bad("rate_limited", after=100.0, quota=True) if task == "a" and not tried else ok()

    world = World(nodes("a", "b"), settings=Settings(1), script=script).run()
    assert world.outcomes == {"a": "ok", "b": "ok"}
    assert world.starts_at == [0.0, 101.0, 102.0]
    opened, closed = world.of(BreakerOpened), world.of(BreakerClosed)
    assert [(one.key, one.until) for one in opened] == [(LimitKey("mock"), "1970-01-01T00:01:41Z")]
    assert len(closed) == 1


def test_a_key_that_waits_is_told_with_its_end_and_not_again_for_the_same_wait() -> None:
    def script(task: str, who: int, tried: int) -> AttemptResult:
        return ok() if tried else bad("rate_limited", after=30.0)

    world = World(nodes("a", "b"), settings=Settings(2), script=script).run()
    assert world.outcomes == {"a": "ok", "b": "ok"}
    assert [(one.key, one.until) for one in world.of(LimitWaiting)] == [
        (LimitKey("mock"), "1970-01-01T00:00:31Z")
    ]
    assert world.of(BreakerOpened) == []


def test_a_short_wait_is_not_told() -> None:
    def script(task: str, who: int, tried: int) -> AttemptResult:
        return ok() if tried else bad("rate_limited", after=4.0)

    assert World(nodes("a"), script=script).run().of(LimitWaiting) == []


def test_a_session_that_waits_is_told_as_its_key_is() -> None:
    world = World(nodes("a"), script=lambda *_: ok(60.0))

    def waits(world: World) -> None:
        world.scheduler.limited(LimitKey("mock"), 20.0, "a session waits", world.now)

    world.at.append((5.0, waits))
    (told,) = world.run().of(LimitWaiting)
    assert (told.until, told.why) == ("1970-01-01T00:00:25Z", "a session waits")


def test_a_quota_without_a_time_ends_everything_on_its_key_until_somebody_retries() -> None:
    def script(task: str, who: int, tried: int) -> AttemptResult:
        return bad("rate_limited", quota=True) if task == "a" and not tried else ok(9.0)

    graph = [*nodes("a", "b"), node("other", 2, members=(member("x"),))]
    world = World(graph, settings=Settings(1), script=script)

    def again(world: World) -> None:
        assert world.outcomes == {"a": "blocked", "b": "blocked"}
        world.openings.update(world.scheduler.retry("a", world.now))

    world.at.append((5.0, again))
    assert world.run().outcomes == {"a": "ok", "b": "blocked", "other": "ok"}


# -- choices


@pytest.mark.parametrize("kind", ["unavailable", "rejected", "timed_out"])
def test_fallback_goes_over(kind: str) -> None:
    world = World([node("a", rule="fallback", members=TWO)], script=by_member(bad(kind), ok())).run()
    assert world.outcomes == {"a": "ok"}
    assert [one.member for one in world.started] == [0, 1]


@pytest.mark.parametrize("kind", ["refused", "invalid", "check_failed"])
def test_fallback_does_not_go_over(kind: str) -> None:
    world = World([node("a", rule="fallback", members=TWO)], script=by_member(bad(kind), ok())).run()
    assert world.outcomes == {"a": "failed"}
    assert [one.member for one in world.started] == [0]


def test_fallback_goes_over_on_transient_errors_after_the_retries() -> None:
    graph = [node("a", rule="fallback", members=TWO, retries=2)]
    world = World(graph, script=by_member(bad("transient"), ok())).run()
    assert [one.member for one in world.started] == [0, 0, 0, 1]


def test_fallback_takes_over_where_a_quota_is_used_up() -> None:
    graph = [node(name, at, rule="fallback", members=TWO) for at, name in enumerate("abc")]
    script = by_member(bad("rate_limited", after=9000.0, quota=True), ok())
    world = World(graph, settings=Settings(parallel=1), script=script).run()
    assert set(world.outcomes.values()) == {"ok"}
    assert [one.member for one in world.started] == [0, 1, 1, 1]


def test_fallback_where_all_fail_ends_with_the_failure_and_not_the_block() -> None:
    world = World(
        [node("a", rule="fallback", members=TWO)], script=by_member(bad("unavailable"), bad("rejected"))
    ).run()
    assert world.outcomes == {"a": "failed"}
    blocked = World(
        [node("a", rule="fallback", members=TWO)], script=by_member(*[bad("unavailable")] * 2)
    ).run()
    assert blocked.outcomes == {"a": "blocked"}


def test_race_ends_with_the_first_good_one_and_cancels_the_others() -> None:
    world = World(
        [node("a", rule="race", members=THREE)], script=by_member(bad("refused", 1.0), ok(2.0), ok(50.0))
    ).run()
    assert world.outcomes == {"a": "ok"}
    assert [(one.task, one.attempt) for one in world.cancelled] == [("a", 3)]
    assert world.now == 2.5, "it ends when the cancelled one has ended"


def test_race_with_one_slot_does_not_start_the_others() -> None:
    world = World([node("a", rule="race", members=THREE)], settings=Settings(parallel=1)).run()
    assert len(world.started) == 1


def test_race_fails_when_all_have() -> None:
    world = World(
        [node("a", rule="race", members=TWO)], script=by_member(bad("refused"), bad("invalid", 3.0))
    ).run()
    assert world.outcomes == {"a": "failed"}


def test_vote_asks_all_and_one_answer_is_enough() -> None:
    world = World(
        [node("a", rule="vote", members=THREE)], script=by_member(ok(), bad("refused", 9.0), ok(2.0))
    ).run()
    assert world.outcomes == {"a": "ok"}
    assert world.now == 9.0
    none = World(
        [node("a", rule="vote", members=TWO)], script=by_member(bad("refused"), bad("refused"))
    ).run()
    assert none.outcomes == {"a": "failed"}


def test_spread_balances_by_what_each_has_left() -> None:
    graph = [node(f"t{at}", at, rule="spread", members=TWO) for at in range(12)]
    world = World(graph, settings=Settings(6, {"x": 1, "y": 5})).run()
    members = [one.member for one in world.started]
    assert members[:6].count(0) == 1
    even = World(graph, settings=Settings(parallel=1)).run()
    assert [one.member for one in even.started].count(0) == 6


def test_spread_leaves_out_who_cannot_work() -> None:
    graph = [node(f"t{at}", at, rule="spread", members=TWO) for at in range(4)]
    world = World(graph, settings=Settings(1), script=by_member(bad("unavailable"), ok())).run()
    assert set(world.outcomes.values()) == {"ok"}
    limited = World(
        graph, settings=Settings(1), script=by_member(bad("rate_limited", after=9000.0), ok())
    ).run()
    assert set(limited.outcomes.values()) == {"ok"}
    assert [one.member for one in limited.started].count(0) == 1


def test_a_wait_is_never_for_a_time_that_has_passed() -> None:
    spread = [node(f"t{at}", at, rule="spread", members=TWO) for at in range(3)]
    graph = [node("x", 3, members=TWO[:1], weight=0.1), node("y", 4, members=TWO[1:], weight=0.1), *spread]
    answers = {"x": bad("rate_limited", 1.0, after=2.0), "y": bad("rate_limited", 8.0, after=20.0)}

    def script(task: str, who: int, tried: int) -> AttemptResult:
        return answers.get(task, ok(30.0)) if not tried else ok(30.0)

    world = World(graph, settings=Settings(9, {"x": 1, "y": 1}), script=script).run()
    assert set(world.outcomes.values()) == {"ok"}
    waits = [wait for wait in world.waits if wait.why == "rate_limited"]
    assert {wait.until for wait in waits} == {3.0, 28.0}
