"""The engine `replay`: what another engine answered, recorded and played back, strictly matched.

    engines:
      assistant: {use: command, command: [python3, tools/agent.py]}
      taped: {use: replay, args: [recordings/review, record=assistant]}    # asks `assistant`, and keeps it
      taped: {use: replay, args: [recordings/review]}                      # plays it back

A recording is a folder with one JSON file for each different request: what was asked, and, in order, what
came back, errors included. What was not recorded is `Rejected`, naming the nearest request that was and where
the two differ. A recording holds prompts and replies as they are: keep it where those may be kept.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from parallelai.engines.context import EngineContext, refuse_unused
from parallelai.engines.protocol import (
    TUNED,
    Answer,
    Availability,
    Capabilities,
    Engine,
    EngineEvent,
    Estimate,
    OutputKind,
    Port,
    Question,
    Request,
    UsageEvent,
    needs_entry,
)
from parallelai.errors import ENGINE_ERRORS, ConfigError, EngineError, RateLimited, Rejected, Unavailable
from parallelai.records import LimitKey, Reply, Usage, from_json, to_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic import TypeAdapter

    from parallelai.engines.protocol import Message, Permit
    from parallelai.plan.model import EngineEntry

VERSION = 1
MAX_RECORDING_BYTES = 64 * 1024 * 1024
MAX_EVENTS = 20_000
HOW = "write `args: [FOLDER]` with a recording in the engine's entry"
RECORD = "record="

# What says only where and when a request was made, not what was asked.
_CIRCUMSTANCES = frozenset(
    {"run", "attempt", "root", "log", "timeout_seconds", "idle_timeout_seconds", "grace_seconds", "workspace"}
)
# What an entry says for requests that say nothing; the recorded engine's own entry holds for what it is asked.
_FROM_ENTRY = ("model", "max_turns", "max_tokens", "temperature")
# What an engine can that decides how it is asked.
_SHAPING = {"batch": int, "takes_text": bool, "takes_instructions": bool}
_ANSWERS = frozenset[OutputKind]({"text", "findings", "schema"})


def recorded_engine(entry: EngineEntry) -> str | None:
    """Give the name of the engine that an entry records; None for one that plays back, or is something else."""
    words = entry.args[1:] if entry.use == "replay" else ()
    return next((word.removeprefix(RECORD) for word in words if word.startswith(RECORD)), None)


def recorder(
    name: str, entry: EngineEntry, context: EngineContext, inner: Engine, of: EngineEntry | None
) -> Engine:
    """Make the engine of an entry that records `inner`, whose own entry is `of`; its owner closes `inner`."""
    refuse_unused(name, entry, frozenset({"args"}))
    return RecordingEngine(inner, context.path(entry.args[0]), name=name, entry=of, is_owner=False)


def asked(request: Request) -> dict[str, Any]:
    """Give what a request asks, as JSON: without its circumstances, with the content of its files as hashes.

    Of the environment only the names are kept: values may be secrets. Reads the request's files.
    """
    data: dict[str, Any] = to_json(request)
    kept = {key: value for key, value in data.items() if key not in _CIRCUMSTANCES}
    kept["env"] = sorted(request.env)
    root = Path(request.root)
    kept["content"] = {part.path: _content_hash(root, part.path) for part in request.files}
    return kept


def _content_hash(root: Path, relative: str) -> str | None:
    """None for what is no file of the project."""
    path = root / relative
    if not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(question: Mapping[str, Any]) -> str:
    text = json.dumps(question, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class _Tape(Struct):
    """One request and what came back, in order; `position` is the next one to play."""

    question: dict[str, Any]
    answers: list[dict[str, Any]] = field(default_factory=list)
    position: int = 0


class RecordingEngine:
    """Passes everything on to another engine and keeps what it asked and what came back in `folder`.

    A request that was recorded before, by another object, is recorded anew. Changes of files are not
    recorded, only what is said. `entry` is the other engine's: it holds for what a request leaves open.
    """

    def __init__(
        self,
        inner: Engine,
        folder: Path,
        *,
        name: str | None = None,
        entry: EngineEntry | None = None,
        is_owner: bool = True,
    ) -> None:
        self._inner = inner
        self._folder = folder
        self._entry = entry
        self._is_owner = is_owner
        self.name = name or inner.name
        # Not repeatable: what is asked for here is a recording, not a reply from the cache.
        can = inner.capabilities
        self.capabilities = replace(can, answers=can.answers & _ANSWERS, edits=False, is_repeatable=False)
        self._tapes: dict[str, _Tape] = {}

    async def detect(self) -> Availability:
        """Say what the recorded engine says."""
        return await self._inner.detect()

    def limit_key(self, request: Request) -> LimitKey:
        """Name the recorded engine's limit."""
        return self._inner.limit_key(self._completed(request))

    def estimate(self, request: Request) -> Estimate:
        """Estimate as the recorded engine does."""
        return self._inner.estimate(self._completed(request))

    def _completed(self, request: Request) -> Request:
        """Add what the recorded engine's entry says."""
        said = {name: getattr(self._entry, name, None) for name in _FROM_ENTRY} if self._entry else {}
        more = {name: value for name, value in said.items() if value is not None}
        missing = {name: value for name, value in more.items() if getattr(request, name) is None}
        return replace(request, **missing) if missing else request

    async def perform(self, request: Request, port: Port) -> Reply:
        """Do the turn, and write it down before anybody hears of it; a cancelled turn is not written."""
        question = asked(request)  # before the turn, which may change the files
        listening = _Listening(port)
        try:
            reply = await self._inner.perform(self._completed(request), listening)
        except EngineError as error:
            self._keep(question, {"error": _error_to_json(error), "events": listening.heard})
            raise
        self._keep(question, {"reply": to_json(reply), "events": listening.heard})
        return reply

    def _keep(self, question: dict[str, Any], answer: dict[str, Any]) -> None:
        # No await in here, so turns that end together cannot write over each other.
        key = _key(question)
        tape = self._tapes.setdefault(key, _Tape(question))
        tape.answers.append(answer)
        can = {name: getattr(self.capabilities, name) for name in _SHAPING}
        document = {
            "version": VERSION,
            "engine": can,
            "request": tape.question,
            "answers": tape.answers,
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{key}.json"
        fresh = path.with_name(f".{key}.{secrets.token_hex(4)}")
        fresh.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(fresh, path)  # noqa: PTH105  # both names in one folder: atomic

    def attach(self, session: str) -> list[str] | None:
        """Attach as the recorded engine does."""
        return self._inner.attach(session)

    async def aclose(self) -> None:
        """Close the recorded engine, unless somebody else does."""
        if self._is_owner:
            await self._inner.aclose()


class _Listening:
    """A port that hands everything on and keeps the events."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self.heard: list[dict[str, Any]] = []

    async def emit(self, event: EngineEvent) -> None:
        if len(self.heard) < MAX_EVENTS:
            self.heard.append(to_json(event))
        else:
            self.heard[-1] = to_json(event)  # the last one is what ends the stream
        await self._port.emit(event)

    async def permit(self, key: LimitKey, tokens: int) -> Permit:
        return await self._port.permit(key, tokens)

    async def ask(self, question: Question) -> Answer:
        return await self._port.ask(question)

    def inbox(self) -> AsyncIterator[Message]:
        return self._port.inbox()


class ReplayEngine:
    """Plays a recording back: the n-th time that a request is made, the n-th answer to it."""

    def __init__(
        self,
        name: str = "replay",
        entry: EngineEntry | None = None,
        context: EngineContext | None = None,
        *,
        folder: Path | None = None,
    ) -> None:
        """Take the recording's folder, or that which the entry's `args` name, below the project's root."""
        self.name = name
        if entry is not None:
            refuse_unused(name, entry, frozenset({"args"}))
            if folder is None and entry.args and context is not None:
                _refuse_words(name, entry.args[1:])
                folder = context.path(entry.args[0])
        self._folder = folder
        self.capabilities = Capabilities(
            answers=_ANSWERS, structured=True, is_repeatable=True, tunes=TUNED, **_shape_of(folder)
        )
        self._tapes: dict[str, _Tape] | None = None
        self._limit = LimitKey(name)

    async def detect(self) -> Availability:
        """Look whether the recording is there."""
        if self._folder is None:
            return needs_entry(HOW)
        if not self._folder.is_dir():
            return Availability(False, f"there is no folder `{self._folder.name}`", how=HOW)
        return Availability(True, f"plays `{self._folder.name}` back", path=str(self._folder))

    def limit_key(self, request: Request) -> LimitKey:
        """Count all together; nothing limits it."""
        return self._limit

    def estimate(self, request: Request) -> Estimate:
        """Costs nothing."""
        return Estimate()

    async def perform(self, request: Request, port: Port) -> Reply:
        """Play the next answer to this request. Raises `Rejected` for one that was not recorded."""
        tapes = self._load()
        question = asked(request)
        tape = tapes.get(_key(question))
        if tape is None:
            raise Rejected(_unrecorded(question, tapes), next="record it, or ask what was recorded")
        if tape.position >= len(tape.answers):
            times = len(tape.answers)
            raise Rejected(
                f"this request of `{request.task}` was recorded {times} time(s), and is made once more"
            )
        answer = tape.answers[tape.position]
        tape.position += 1
        for event in answer.get("events", ()):
            await port.emit(_free_event(_events().validate_python(event)))
        if "error" in answer:
            raise _error_from_json(answer["error"])
        reply = from_json(Reply, answer["reply"])
        return replace(reply, usage=_free(reply.usage))

    def _load(self) -> dict[str, _Tape]:
        if self._tapes is None:
            if self._folder is None or not self._folder.is_dir():
                raise Unavailable(f"engine `{self.name}` has no recording", next=HOW)
            files = sorted(self._folder.glob("*.json"))
            tapes = [_read(path) for path in files]
            self._tapes = {_key(tape.question): tape for tape in tapes}
        return self._tapes

    def attach(self, session: str) -> list[str] | None:
        """There is nobody to talk to."""
        return None

    async def aclose(self) -> None:
        """Forget how far it was played."""
        self._tapes = None


def _refuse_words(name: str, words: Sequence[str]) -> None:
    if words:
        raise ConfigError(
            f"engine `{name}`: `{words[0]}` means nothing to `replay`",
            next=f"write the folder, and `{RECORD}ENGINE` to record",
        )


def _shape_of(folder: Path | None) -> dict[str, Any]:
    """Give what the recorded engine could that shapes requests; all requests of a recording are alike in it."""
    shape: dict[str, Any] = {"batch": 50}
    try:
        first = next(iter(sorted(folder.glob("*.json"))), None) if folder is not None else None
        if first is not None and first.stat().st_size <= MAX_RECORDING_BYTES:
            said = json.loads(first.read_text(encoding="utf-8")).get("engine") or {}
            shape |= {key: said[key] for key, kind in _SHAPING.items() if type(said.get(key)) is kind}
    except (OSError, ValueError, AttributeError, RecursionError):
        pass  # playing it back says what is wrong
    return shape


def _read(path: Path) -> _Tape:
    """Read one file of a recording, whole and checked. Raises `Unavailable` naming the file."""

    try:
        if path.stat().st_size > MAX_RECORDING_BYTES:
            raise ValueError("it is too large")
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise ValueError(f"it is not a recording of version {VERSION}")
        tape = _Tape(dict(document["request"]), list(document["answers"]))
        for answer in tape.answers:
            _check_answer(answer)
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        said = f"the recording `{path.name}` cannot be read: {error}"
        raise Unavailable(said, where=str(path), next="record it anew") from None
    return tape


def _check_answer(answer: dict[str, Any]) -> None:
    for event in answer.get("events", ()):
        _events().validate_python(event)
    if "error" in answer:
        _error_from_json(answer["error"])
    else:
        from_json(Reply, answer["reply"])


@functools.cache
def _events() -> TypeAdapter[EngineEvent]:
    from typing import Annotated

    from pydantic import Field, TypeAdapter

    return TypeAdapter(Annotated[EngineEvent, Field(discriminator="type")])


def _free(usage: Usage) -> Usage:
    """What was paid when it was recorded is not paid again."""
    return replace(usage, usd=0.0, basis="free")


def _free_event(event: EngineEvent) -> EngineEvent:
    return UsageEvent(_free(event.usage)) if isinstance(event, UsageEvent) else event


def _error_to_json(error: EngineError) -> dict[str, Any]:
    data: dict[str, Any] = {"kind": error.kind, "said": error.said, "where": error.where, "next": error.next}
    if isinstance(error, RateLimited):
        data |= {"retry_after_seconds": error.retry_after_seconds, "is_quota": error.is_quota}
    return data


def _error_from_json(data: Mapping[str, Any]) -> EngineError:
    said, where, advice = str(data["said"]), data.get("where"), data.get("next")
    if data["kind"] == RateLimited.kind:
        return RateLimited(
            said,
            retry_after_seconds=data.get("retry_after_seconds"),
            is_quota=bool(data.get("is_quota")),
            where=where,
            next=advice,
        )
    return ENGINE_ERRORS[data["kind"]](said, where=where, next=advice)


def _unrecorded(question: Mapping[str, Any], tapes: Mapping[str, _Tape]) -> str:
    """Say how the nearest recorded request differs: the fewest fields, and of those the likest prompt."""
    shown = f"this request of `{question['task']}` was not recorded"
    if not tapes:
        return f"{shown}: the recording is empty"
    nearest = min((tape.question for tape in tapes.values()), key=lambda other: _distance(question, other))
    fields = _differences(question, nearest)
    details = "; ".join(_difference(name, nearest.get(name), question.get(name)) for name in fields[:3])
    more = f"; and {len(fields) - 3} more" if len(fields) > 3 else ""
    return f"{shown}; the nearest is one of `{nearest.get('task')}`, with another {details}{more}"


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]


def _distance(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[int, float]:
    prompts = str(a.get("prompt", ""))[:2000], str(b.get("prompt", ""))[:2000]
    likeness = difflib.SequenceMatcher(None, *prompts, autojunk=False).quick_ratio()
    return len(_differences(a, b)), -likeness


def _difference(name: str, recorded: Any, wanted: Any) -> str:
    if isinstance(recorded, str) and isinstance(wanted, str):
        before, after = recorded.splitlines() or [""], wanted.splitlines() or [""]
        same = sum(1 for _ in _shared_start(before, after))
        old, new = (lines[same] if same < len(lines) else "" for lines in (before, after))
        return f"`{name}`, line {same + 1}: recorded {_brief(old)}, asked {_brief(new)}"
    return f"`{name}`: recorded {_brief(recorded)}, asked {_brief(wanted)}"


def _shared_start(a: list[str], b: list[str]) -> list[str]:
    count = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:count]


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"
