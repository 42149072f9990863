"""The registry: names are held, files are whole, and a damaged one is named."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.errors import NotFoundError, StoreCorruptError, StoreError
from parallelai.work.streams.record import GateRun, KeptOut, Landed, Rules, Stream
from parallelai.work.streams.registry import MOST_HISTORY, Held, Streams
from parallelai.work.streams.written import read_stream, write_stream

RULES = Rules(("src/**",))


def stream(name: str, plan: str = "a.yaml", **more: object) -> Stream:
    made = Stream(
        name, plan, "r-1", f"parallelai/{name}", f"/trees/{name}", "c" * 40, "c" * 40, "main", RULES
    )
    return replace(made, **more)  # type: ignore[arg-type]


def test_a_claim_is_kept_and_given_back(tmp_path: Path) -> None:
    streams = Streams(tmp_path)
    assert streams.all() == []
    assert streams.get("gui") is None
    one = streams.claim(stream("gui"))
    assert one.is_new
    assert one.before is None
    again = streams.claim(stream("gui", run="r-2", base="d" * 40, priority=0.5))
    assert not again.is_new
    assert (again.stream.run, again.stream.base, again.stream.priority) == ("r-2", "c" * 40, 0.5)
    assert Streams(tmp_path).find("gui") == again.stream
    assert streams.open("a.yaml") == [again.stream]
    assert streams.open("b.yaml") == []
    with pytest.raises(NotFoundError, match="`gui`"):
        streams.find("nope")


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (stream("gui", "b.yaml"), "name `gui`"),
        (stream("GUI", "b.yaml"), "name `GUI`"),
        (stream("x", "b.yaml", branch="parallelai/gui"), "branch"),
        (stream("x", branch="parallelai/gui/deep"), "branch"),
        (stream("x", "b.yaml", worktree="/trees/gui"), "folder"),
        (stream("x", "b.yaml", worktree="/trees/GUI/in"), "folder"),
    ],
)
def test_what_another_holds_is_refused(tmp_path: Path, other: Stream, what: str) -> None:
    streams = Streams(tmp_path)
    streams.claim(stream("gui"))
    with pytest.raises(Held, match=what) as error:
        streams.claim(other)
    assert "`gui` of `a.yaml`" in error.value.said
    assert [each.name for each in streams.all()] == ["gui"]
    for state in ("landed", "dropped"):
        streams.update("gui", lambda known, state=state: replace(known, state=state))
        streams.claim(other)
        streams.update(other.name, lambda known: replace(known, state="dropped"))
        streams.claim(stream("gui"))


def test_finished_ones_become_history(tmp_path: Path) -> None:
    streams = Streams(tmp_path)
    for number in range(3):
        claim = streams.claim(stream("gui", f"{number}.yaml"))
        assert (claim.before is None) == (number == 0)
        streams.update("gui", lambda known: replace(known, state="landed"))
    assert [each.plan for each in streams.all()] == ["2.yaml"]
    assert {each.plan for each in streams.history()} == {"0.yaml", "1.yaml"}


def test_a_folder_of_git_is_ours_only_for_the_present_holder_of_a_name(tmp_path: Path) -> None:
    streams, tree = Streams(tmp_path / "state"), tmp_path / "tree"
    tree.mkdir()
    for number in range(2):  # git may have given the first one's folder to a worktree of the user's since
        admin = str(tmp_path / f"admin{number}")
        streams.claim(stream("gui", f"{number}.yaml", worktree=str(tree)))
        streams.update("gui", lambda known, admin=admin: replace(known, state="landed", admin=admin))
    assert str(tmp_path / "admin1") in streams.worktrees()
    assert str(tmp_path / "admin0") not in streams.worktrees()


def test_history_is_bounded(tmp_path: Path) -> None:
    streams = Streams(tmp_path)
    old = streams.folder / "history"
    old.mkdir(parents=True)
    for number in range(MOST_HISTORY + 5):
        (old / f"x-{number}.json").write_bytes(write_stream(stream("x", state="landed")))
    streams.claim(stream("gui"))
    assert len(streams.history()) == MOST_HISTORY


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"v": 1}', b"\xff\xfe", b"null", b'{"v": 0}', b"[" * 100_000]
)
def test_a_damaged_file_is_named_and_the_others_are_listed(tmp_path: Path, damage: bytes) -> None:
    streams = Streams(tmp_path)
    streams.claim(stream("gui"))
    streams.claim(stream("backend"))
    streams.path("gui").write_bytes(damage)
    listed = streams.listed()
    assert [each.name for each in listed.streams] == ["backend"]
    assert len(listed.errors) == 1
    assert str(streams.path("gui")) in listed.errors[0].said
    for call in (
        lambda: streams.get("gui"),
        lambda: streams.claim(stream("gui")),
        lambda: streams.put(stream("gui")),
    ):
        with pytest.raises(StoreCorruptError, match=r"gui\.json"):
            call()
    streams.claim(stream("third"))


def test_a_file_of_a_later_version_is_no_damage(tmp_path: Path) -> None:
    streams = Streams(tmp_path)
    streams.claim(stream("gui"))
    for change in ({"v": 2}, {"mood": "good"}):
        data = json.loads(write_stream(stream("gui"))) | change
        streams.path("gui").write_text(json.dumps(data))
        with pytest.raises(StoreError, match="newer") as error:
            streams.get("gui")
        assert not isinstance(error.value, StoreCorruptError)


def test_another_plan_s_name_is_not_written_over(tmp_path: Path) -> None:
    streams = Streams(tmp_path)
    streams.claim(stream("gui"))
    with pytest.raises(Held):
        streams.put(stream("gui", "b.yaml"))
    streams.forget(stream("gui", "b.yaml"))
    assert streams.find("gui").plan == "a.yaml"
    streams.forget(stream("gui"))
    assert streams.get("gui") is None


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "work").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="link"):
        Streams(tmp_path).claim(stream("gui"))


def _claims(state: str, plan: str, ready: object, results: object) -> None:
    ready.wait()  # type: ignore[attr-defined]
    won = []
    for number in range(20):
        try:
            Streams(Path(state)).claim(stream(f"s{number}", plan))
            won.append(number)
        except Held:
            continue
    results.put((plan, won))  # type: ignore[attr-defined]


def test_of_several_processes_one_has_each_name(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(3), context.Queue()
    plans = [f"{number}.yaml" for number in range(3)]
    processes = [
        context.Process(target=_claims, args=(str(tmp_path), plan, ready, results)) for plan in plans
    ]
    for process in processes:
        process.start()
    won = dict(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert sorted(number for each in won.values() for number in each) == list(range(20))
    assert {each.name: each.plan for each in Streams(tmp_path).all()} == {
        f"s{number}": plan for plan, numbers in won.items() for number in numbers
    }


TEXTS = st.text(st.characters(exclude_categories=()), max_size=8).map(
    lambda text: os.fsdecode(text.encode("utf-8", "surrogatepass"))
)
WORDS = st.lists(TEXTS, max_size=3).map(tuple)


@given(
    st.builds(
        Stream,
        *([TEXTS] * 8),
        st.builds(Rules, WORDS, WORDS, WORDS),
        description=TEXTS,
        depends_on=WORDS,
        priority=st.floats(allow_nan=False, allow_infinity=False),
        state=st.sampled_from(["open", "done", "landed", "dropped"]),
        kept_out=st.lists(st.builds(KeptOut, WORDS, TEXTS, st.none() | TEXTS), max_size=2).map(tuple),
        landed=st.none()
        | st.builds(
            Landed,
            *([TEXTS] * 4),
            st.none() | TEXTS,
            st.lists(
                st.builds(GateRun, TEXTS, st.none() | st.integers(), st.floats(0, 9), TEXTS), max_size=2
            ).map(tuple),
        ),
        brought=WORDS,
        is_ready=st.booleans(),
    )
)
def test_what_is_written_is_read(made: Stream) -> None:
    assert read_stream(json.loads(write_stream(made))) == made
