"""The attempts of a run: start them, take their replies, and keep count of what each task took."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence

from msgspec import Struct, field

from parallelai.engines.protocol import Message, Request
from parallelai.engines.untrusted import shorten
from parallelai.errors import EngineError, Invalid, RateLimited
from parallelai.events import (
    AttemptEnded,
    AttemptReserved,
    AttemptStarted,
    ChangeMade,
    GuardKeptOut,
    SessionOpened,
    TurnEnded,
    TurnStarted,
    WorkspaceCreated,
    WorkspaceRemoved,
)
from parallelai.plan.graph import Instance
from parallelai.plan.model import Choice
from parallelai.records import FREE, Change, ErrorRecord, LimitKey, Outcome, Reply, Usage, changed
from parallelai.run.assembly import key_of, work_of
from parallelai.run.executors.base import (
    AttemptDone,
    AttemptId,
    AttemptPlaced,
    AttemptSpec,
    AttemptStreamed,
    AttemptTurned,
    Executor,
)
from parallelai.run.fingerprint import EntryDigests, FileDigests, cache_key, digest
from parallelai.run.job import Job
from parallelai.run.journaling import Append
from parallelai.run.masking import Masker
from parallelai.run.preparation import Ready, log_of, timeouts
from parallelai.run.report import join
from parallelai.run.resume import REJECTED, Prior
from parallelai.run.scheduling.decisions import Start
from parallelai.run.scheduling.nodes import AttemptResult
from parallelai.run.scheduling.retry import goes_over
from parallelai.run.streams import StreamLogs
from parallelai.run.validation import record_of, told, wrong_with
from parallelai.run.workspaces import Measured
from parallelai.store import Cache

MOST_SAID = 300
"""Characters of an error in a note."""


class Tally(Struct):
    """What a task has taken in this process, and the replies that count."""

    attempts: int = 0
    turns: int = 0
    seconds: float = 0.0
    usage: Usage | None = None
    engine: str | None = None
    account: str | None = None
    model: str | None = None
    good: dict[int, Reply] = field(default_factory=dict)
    doers: dict[int, str] = field(default_factory=dict)  # who gave each of these
    addresses: dict[int, str] = field(default_factory=dict)  # in the cache, of the good replies
    measured: dict[int, Measured] = field(default_factory=dict)  # the changes of the good replies
    passed: dict[str, str] = field(default_factory=dict)  # engines of a fallback that could not, as notes

    @property
    def change(self) -> Measured | None:
        """The change of the reply that counts."""
        return self.measured.get(next(iter(self.good), 0))

    @property
    def reply(self) -> Reply | None:
        """The replies that count, joined."""
        return next(iter(self.good.values())) if len(self.good) == 1 else join(self.good.values())

    def put_in_order(self, members: Sequence[str]) -> None:
        """Let the votes stand in the order of the choice's members, whoever was quicker."""
        places = {number: (members.index(doer), number) for number, doer in self.doers.items()}
        self.good = {number: self.good[number] for number in sorted(self.good, key=places.__getitem__)}


class _Flight(Struct):
    """An attempt in flight. `number` is the scheduler's, `id.attempt` the journal's."""

    id: AttemptId
    number: int
    log: int
    engine: str
    key: LimitKey
    request: Request
    cache_key: str | None
    turns: int = 1


class Flights:
    """Starts attempts and takes their ends; see `Runner` for the loop that calls it.

    An attempt is answered without asking its engine where the run has the reply from before, or the cache
    has one. Attempts of earlier processes of the run keep their numbers; new ones follow them.
    """

    def __init__(
        self,
        job: Job,
        prior: Prior,
        files: FileDigests,
        entries: EntryDigests,
        cache: Cache,
        masker: Masker,
        append: Append,
        executor: Callable[[], Executor],
    ) -> None:
        self._tallies: dict[str, Tally] = {}
        self._repeats = dict(prior.repeats)
        self._job = job
        self._prior = prior
        self._files = files
        self._entries = entries
        self._cache = cache
        self._masker = masker
        self._append = append
        self._executor = executor
        self._streams = StreamLogs(job.logs, masker.text)
        self._flights: dict[AttemptId, _Flight] = {}
        self.memory_taken: dict[str, int] = {}

    def start(self, start: Start, instance: Instance, ready: Ready) -> AttemptResult | None:
        """Begin an attempt. Gives its result at once if no engine need be asked, else None."""
        who = self._job.assignment(instance)
        name, model = who.choice.members[start.member], who.models[start.member]
        request = self._request(start, instance, ready.request, name, model)
        key = key_of(self._job, name, request)
        id = AttemptId(instance.id, request.attempt)
        reserved = AttemptReserved(name, key, who.why, start.estimate.tokens, start.estimate.usd)
        log = self._append(reserved, task=id.task, attempt=id.attempt).seq
        self._append(AttemptStarted(name, model, ready.fingerprint), task=id.task, attempt=id.attempt)
        address = self._address(request, name, instance.task.verify)
        flight = _Flight(id, start.attempt, log, name, key, request, address)
        known = self._known(flight, ready.fingerprint)
        if known is not None:
            return self._answer(flight, known)
        self._flights[id] = flight
        self._executor().start(self._spec(id, name, request, instance, ready.fingerprint))
        return None

    def _spec(
        self, id: AttemptId, engine: str, request: Request, instance: Instance, mark: str
    ) -> AttemptSpec:
        """What is carried out; what an earlier process was interrupted in goes on in the same session."""
        work = work_of(self._job, instance, engine)
        left = self._prior.interrupted.pop(id.task, None)
        if left is not None and (left.engine, left.fingerprint) == (engine, mark):
            request = dataclasses.replace(request, session=left.session)
            work = dataclasses.replace(work, folder=left.folder)
        return AttemptSpec(id, engine, request, work)

    def placed(self, news: AttemptPlaced) -> None:
        """Write down which folder an attempt works in, or that it is removed."""
        data = WorkspaceCreated(news.path, news.base, news.edits)
        told = WorkspaceRemoved(news.path) if news.is_over else data
        self._append(told, task=news.id.task, attempt=news.id.attempt)

    def number(self, id: AttemptId) -> tuple[str, int]:
        """An attempt as the scheduler numbers it."""
        return id.task, id.attempt - self._prior.attempts.get(id.task, 0)

    def cancel(self, task: str, number: int) -> None:
        """End an attempt in flight, by the scheduler's number."""
        id = AttemptId(task, number + self._prior.attempts.get(task, 0))
        if id in self._flights:
            self._executor().cancel(id)

    def send(self, task: str, message: Message) -> bool:
        """Pass a message to what is in flight for a task; False if nothing is that can take one."""
        sent = [self._executor().send(id, message) for id in self._flights if id.task == task]
        return any(sent)

    def mute(self, task: str) -> str | None:
        """Say that whoever works on a task takes no message just then; None if nobody works on it."""
        engine = next((flight.engine for id, flight in self._flights.items() if id.task == task), None)
        return None if engine is None else f"`{engine}` takes no message while it works"

    def adopt(self, job: Job) -> None:
        """Go on with a job that has more tasks."""
        self._job = job

    def streamed(self, news: AttemptStreamed) -> None:
        """Keep what an engine reported."""
        flight = self._flights.get(news.id)
        if flight is None:
            return
        if news.event.type == "session":
            self._append(SessionOpened(news.event.id), task=news.id.task, attempt=news.id.attempt)
        self._streams.write(flight.log, news.event)

    def turned(self, news: AttemptTurned) -> None:
        """Write down that another turn began, or that one ended which another follows."""
        flight = self._flights.get(news.id)
        if flight is None:
            return
        flight.turns = news.turn
        data = (
            TurnStarted(news.turn)
            if news.reason is None
            else TurnEnded(news.turn, round(news.seconds, 3), reason=news.reason)
        )
        self._append(data, task=news.id.task, attempt=news.id.attempt)

    def done(self, news: AttemptDone) -> tuple[str, int, AttemptResult]:
        """Take the end of an attempt: write it down, and say what the scheduler is to know of it."""
        flight = self._flights.pop(news.id)
        reply, error = news.reply, news.error
        if reply is not None:
            error = wrong_with(reply, flight.request)
            reply = self._masker.reply(told(reply, flight.request)) if error is None else None
        self._keep_unreadable(flight.log, news.id.task, error)
        if error is not None and news.kept is not None:
            _advise(error, f"what it changed is kept in `{news.kept}`")
        self._streams.ended(flight.log)
        usage = news.usage
        task, attempt = news.id.task, news.id.attempt
        if flight.turns > 1:  # the end of an only turn is the attempt's
            reason = "end_turn" if reply is not None else "error"
            self._append(TurnEnded(flight.turns, news.seconds, usage, reason), task=task, attempt=attempt)
        record = self._record(error)
        reply = self._over_whom(flight, reply, record)
        if reply is not None:
            self._changed(news, reply)
            self._learn_memory(flight.engine, reply.memory_bytes)
        self._append(
            AttemptEnded(
                flight.engine,
                reply is not None,
                news.seconds,
                usage,
                reply,
                record,
                calls=news.calls,
                kept=news.kept,
            ),
            task=task,
            attempt=attempt,
        )
        self._count(flight, news.seconds, usage, reply, turns=flight.turns)
        return task, flight.number, _result(news, error, record, ok=reply is not None)

    def _over_whom(self, flight: _Flight, reply: Reply | None, record: ErrorRecord | None) -> Reply | None:
        """Have the reply of a fallback's member say which ones before it could not, and why."""
        task = flight.id.task
        tally = self._tallies.get(task)
        if reply is not None:
            passed = () if tally is None else (n for who, n in tally.passed.items() if who != flight.engine)
            notes = (*reply.notes, *passed)
            return reply if len(notes) == len(reply.notes) else dataclasses.replace(reply, notes=notes)
        rule = self._choice(task).rule
        if record is not None and rule == "fallback" and goes_over(record.kind):
            said = f"`{flight.engine}` was passed over: {shorten(record.said, MOST_SAID)}"
            self._tallies.setdefault(task, Tally()).passed[flight.engine] = said
        return None

    def _keep_unreadable(self, log: int, task: str, error: EngineError | None) -> None:
        """Keep the text of a reply that could not be used, and say where it is."""
        if not isinstance(error, Invalid) or not error.reply:
            return
        self._streams.keep_reply(log, error.reply)
        place = f"`parallelai runs logs {self._job.run} {shlex.quote(task)}` shows what came"
        _advise(error, place)

    def _learn_memory(self, engine: str, taken: int | None) -> None:
        """Remember for later runs what a session took; the highest of this run is kept at its end."""
        if taken is not None:
            self.memory_taken[engine] = max(taken, self.memory_taken.get(engine, 0))

    def _changed(self, news: AttemptDone, reply: Reply) -> None:
        """Write down what an attempt changed."""
        change, measured = reply.change, news.measured
        if change is None or measured is None:
            return
        task, attempt = news.id.task, news.id.attempt
        if not measured.is_guarded:
            for kept_out in _kept_out(change, measured):
                self._append(kept_out, task=task, attempt=attempt)
        made = ChangeMade(change.patch, change.files, measured.base, measured.commit, change.kept_out)
        self._append(made, task=task, attempt=attempt)
        self._tallies.setdefault(task, Tally()).measured[attempt] = measured

    def finished(self, task: str, outcome: Outcome) -> Tally | None:
        """Give what an ended task took, None if nothing was tried. Its replies are shared if they did."""
        tally = self._tallies.pop(task, None)
        if tally is not None and outcome is Outcome.OK:
            for attempt, address in tally.addresses.items():
                good = tally.good[attempt]  # who else could not answer is of this run, not of the reply
                notes = tuple(note for note in good.notes if note not in tally.passed.values())
                self._cache.put(
                    address, good if len(notes) == len(good.notes) else changed(good, notes=notes)
                )
        elif tally is not None and outcome in REJECTED:  # who tries again does not want the same replies
            self._repeats[task] = self._repeats.get(task, 0) + len(tally.good)
        return tally

    def cancel_all(self) -> bool:
        """Cancel, again where need be, all that is in flight; False if nothing is."""
        for id in self._flights:
            self._executor().cancel(id)
        return bool(self._flights)

    def close(self) -> None:
        """Wait until what the engines reported is written."""
        self._streams.close()

    def _request(
        self, start: Start, instance: Instance, first: Request, name: str, model: str | None
    ) -> Request:
        """The request of an attempt; what was made ready is that of the first one, by the first member."""
        attempt = start.attempt + self._prior.attempts.get(instance.id, 0)
        repeat = self._repeats.get(instance.id, 0)
        if start.member == 0 and (first.attempt, first.repeat) == (attempt, repeat):
            return first
        wall, idle = timeouts(instance.task, self._job.entries.get(name))
        return changed(
            first,
            attempt=attempt,
            repeat=repeat,
            log=log_of(self._job, instance, attempt),
            model=model,
            timeout_seconds=wall,
            idle_timeout_seconds=idle,
        )

    def _address(self, request: Request, name: str, verify: bool | Choice) -> str | None:
        """Give where the cache has the reply. A reply that somebody tried to refute is not the one before that."""
        try:
            can = self._job.engines(name).capabilities
        except EngineError:  # it is not there, which the attempt will say
            return None
        if not self._job.is_cacheable or not can.is_repeatable or request.output == "change":
            return None
        entry = self._entries.of(self._job.entries.get(name))
        address = cache_key(request, name, entry, self._files.of, can.asks_at)
        by = verify if isinstance(verify, bool) else verify.members
        return digest([address, by]) if by else address

    def _known(self, flight: _Flight, fingerprint: str) -> Reply | None:
        """A reply that this run already paid for, or that the cache holds, or should."""
        task, engine = flight.id.task, flight.engine
        answered = self._prior.answer(task, engine, fingerprint)
        if answered is None and flight.cache_key is not None:
            cached = self._cache.get(flight.cache_key)
            if cached is not None or flight.request.repeat:
                return cached
            answered = self._prior.spared(task, engine, fingerprint)
        return answered.reply if answered is not None else None

    def _answer(self, flight: _Flight, reply: Reply) -> AttemptResult:
        self._take_over_change(flight.id, reply)
        ended = AttemptEnded(flight.engine, True, 0.0, FREE, reply, is_cached=True)
        self._append(ended, task=flight.id.task, attempt=flight.id.attempt)
        self._count(flight, 0.0, FREE, reply, turns=0)
        return AttemptResult(ok=True, usage=FREE)

    def _take_over_change(self, id: AttemptId, reply: Reply) -> None:
        """The change of an earlier process's attempt is this one's now."""
        if reply.change is None:
            return
        for (task, _), made in self._prior.changes.items():
            if task == id.task and made.patch == reply.change.patch:
                self._append(made, task=id.task, attempt=id.attempt)
                measured = Measured(made.base, made.commit, made.files, made.kept_out)
                self._tallies.setdefault(id.task, Tally()).measured[id.attempt] = measured
                return

    def _count(
        self, flight: _Flight, seconds: float, usage: Usage | None, reply: Reply | None, turns: int
    ) -> None:
        tally = self._tallies.setdefault(flight.id.task, Tally())
        tally.attempts += 1
        tally.turns += turns
        tally.seconds += seconds
        if usage is not None:
            tally.usage = usage if tally.usage is None else tally.usage + usage
        is_first = not tally.good
        if reply is not None and (is_first or self._is_vote(flight.id.task)):
            tally.good[flight.id.attempt] = reply
            tally.doers[flight.id.attempt] = flight.engine
            if flight.cache_key is not None:
                tally.addresses[flight.id.attempt] = flight.cache_key
            if not is_first:
                tally.put_in_order(self._choice(flight.id.task).members)
        if next(iter(tally.good), flight.id.attempt) == flight.id.attempt:
            # who gave the reply that comes first; while nobody has, who tried last
            tally.engine, tally.account = flight.engine, flight.key.account
            tally.model = (reply.model if reply is not None else None) or flight.request.model

    def _is_vote(self, task: str) -> bool:
        return self._choice(task).rule == "vote"

    def _choice(self, task: str) -> Choice:
        return self._job.assignment(self._job.graph.get(task)).choice

    def _record(self, error: EngineError | None) -> ErrorRecord | None:
        return None if error is None else self._masker.record(record_of(error))


def _advise(error: EngineError, words: str) -> None:
    """Say one thing more of what to do about an error."""
    error.next = f"{error.next}; {words}" if error.next else words


def _kept_out(change: Change, measured: Measured) -> list[GuardKeptOut]:
    """Say what of an attempt's work is no part of its change, by reason."""
    unseen = tuple(path for path in change.kept_out if path in measured.unseen)
    others = tuple(path for path in change.kept_out if path not in measured.unseen)
    found = (
        (others, "it may not be changed by an assistant"),
        (unseen, "the task could not see it (`sparse`)"),
    )
    return [GuardKeptOut(paths, why) for paths, why in found if paths]


def _result(
    news: AttemptDone, error: EngineError | None, record: ErrorRecord | None, *, ok: bool
) -> AttemptResult:
    """What the scheduler is to know of an attempt."""
    limited = error if isinstance(error, RateLimited) else None
    return AttemptResult(
        ok=ok,
        seconds=news.seconds,
        usage=news.usage,
        error=record,
        retry_after_seconds=limited.retry_after_seconds if limited is not None else None,
        is_quota=limited is not None and limited.is_quota,
    )
