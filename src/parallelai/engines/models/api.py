"""What all engines of model APIs do alike: one turn is one call, or two where the first answer is malformed.

What differs between servers is data (`engines.model_servers`) and a format (`engines.wire`). Nothing is tried
again here: that is the scheduler's. Two answers have a second call, with a permit of its own: one that cannot be
read is shown to the model once, with what is wrong; and a server that knows no schemas is asked without one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from parallelai.engines.context import EngineContext, refuse_unused
from parallelai.engines.edits import CHANGE_SHAPE, check_fit, edits_of, edits_to_data
from parallelai.engines.listening import is_listening
from parallelai.engines.loopback import is_loopback
from parallelai.engines.models.calls import (
    check_stop,
    cleaned,
    cut_note,
    encoded,
    only_model,
    tokens_of_files,
    unwrapped,
    without_thoughts,
)
from parallelai.engines.models.http import HttpClient, shown_url
from parallelai.engines.models.keys import (
    LEAST_MASKED_IN_ANSWERS,
    mask_error,
    masked,
    read_key,
    split_at_key,
)
from parallelai.engines.models.prices import Pricing, tokens_of
from parallelai.engines.models.servers import SERVERS, ModelServer, call_url, known_by, reached
from parallelai.engines.models.table import TIERS, extended, model_name
from parallelai.engines.models.warming import Warming
from parallelai.engines.models.wire.chat import ChatWire
from parallelai.engines.models.wire.errors import CHUNK, error_in_stream, error_of, is_about_format
from parallelai.engines.models.wire.limits import read_limits
from parallelai.engines.models.wire.messages import VERSION, MessagesWire, usual_limit
from parallelai.engines.models.wire.records import Ask, Completion, Structure, Wire, mapping
from parallelai.engines.models.wire.responses import ResponsesWire
from parallelai.engines.models.wire.sse import EventStream
from parallelai.engines.models.wire.structure import structure_of
from parallelai.engines.protocol import (
    TUNED,
    Availability,
    Capabilities,
    Estimate,
    FinalEvent,
    LimitsEvent,
    OutputKind,
    Port,
    Request,
    TextEvent,
    UsageEvent,
    needs_entry,
)
from parallelai.engines.replies import to_reply
from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import ConfigError, EngineError, Invalid, Transient, Unavailable
from parallelai.processes import find
from parallelai.records import LimitKey, Reply, Usage, changed

if TYPE_CHECKING:
    from parallelai.plan.model import EngineEntry

USED = frozenset(
    {
        "model",
        "base_url",
        "api_key_env",
        "api_key_file",
        "api_key_keyring",
        "price",
        "account",
        "args",
        "max_tokens",
        "temperature",
    }
)
ARGS = ("chat", "responses", "stream", "plain")
"""What `args` may say: the format, whether answers are streamed, and to send no schemas along."""
GUESSED_OUTPUT = 1_000
"""Tokens that an answer is taken to have, where no limit says more or less."""
MAX_SHOWN_AGAIN = 200_000
"""Characters of a malformed answer that are shown to the model again."""
LIST_SECONDS = 10.0
QUIET_SECONDS = 10.0
"""How often a stream without words (thinking, signs of life) is told of."""
_ANSWERS: frozenset[OutputKind] = frozenset({"text", "findings", "schema", "change"})
_KEY_HEADERS = {"bearer": "Authorization", "api-key": "api-key", "x-api-key": "x-api-key"}


class _Turn(Struct):
    """One turn under way: what it may use, and what it has taken."""

    request: Request
    port: Port
    model: str
    key: str | None
    how: str  # what to do about a key that is not accepted
    headers: Mapping[str, str]
    usage: Usage | None = None

    def took(self, usage: Usage) -> None:
        self.usage = usage if self.usage is None else self.usage + usage


class _Stream:
    """Reads a streamed answer, and carries its text to the port as it comes."""

    def __init__(self, port: Port, wire: Wire, key: str | None) -> None:
        self._port, self._key = port, key
        self._events = EventStream()
        self._reader = wire.reader()
        self._told = asyncio.get_running_loop().time()
        self._held = ""  # the end of what came, as long as it may be the beginning of the key

    async def take(self, chunk: bytes) -> None:
        added = "".join(self._reader.take(kind, data) for kind, data in self._events.take(chunk))
        now = asyncio.get_running_loop().time()
        if added or now - self._told > QUIET_SECONDS:  # a model that thinks is not idle
            self._told = now
            text, self._held = split_at_key(self._held + added, self._key)
            await self._tell(text)

    async def end(self) -> Completion:
        for kind, data in self._events.end():
            self._reader.take(kind, data)
        if self._held:
            await self._tell(self._held)
        return self._reader.end(self._events.is_done)

    async def _tell(self, text: str) -> None:
        await self._port.emit(TextEvent(clean(masked(text, self._key, LEAST_MASKED_IN_ANSWERS))))


class _FormatRefused(Exception):
    """The server does not take a schema along."""


class ModelEngine:
    """An engine of a model API. `use` is the name that it is registered under."""

    use = ""

    def __init__(
        self, name: str, entry: EngineEntry, context: EngineContext, *, api_key: str | None = None
    ) -> None:
        """Take the entry's settings. Raises `ConfigError` for what has no effect or is no address.

        `api_key` is a library user's own key: it stays in this object.
        """
        refuse_unused(name, entry, USED)
        args = _checked_args(name, entry)
        use = self.use or entry.use
        self.name = name
        self._entry, self._context, self._api_key = entry, context, api_key
        self._named = SERVERS[use]
        self._url, self._server = reached(use, entry.base_url, os.environ, where=f"engine `{name}`")
        self._wire = _wire(args, self._server)
        self._is_streamed = "stream" in args
        self._sends_schemas = "plain" not in args
        is_here = bool(self._url) and is_loopback(self._url)
        self._is_local = self._named.is_local and is_here
        self._pricing = Pricing(self._url, entry.price, is_free=is_here and entry.price is None)
        self._table = extended(context.models)
        self._providers = (name, use, self._server.provider)
        self._names: dict[str | None, str] = {}  # of models, by what requests call them
        self._plain: set[str] = set()  # models whose server takes no schema
        self._found: str | None = None  # the one model of a local server
        self._warming = Warming(self._url)
        self._http = HttpClient(self._url, uses_proxies=not self._is_local)
        is_usual = not entry.base_url and self._url == self._named.base_url
        self._account = entry.account or ("default" if is_usual else shown_url(self._url))
        self.capabilities = Capabilities(
            answers=_ANSWERS,
            structured=self._sends_schemas,
            streams=self._is_streamed,
            is_repeatable=True,
            is_remote=not self._is_local,
            takes_text=True,
            takes_instructions=True,
            tunes=TUNED,
            takes_price=True,
            asks_at="" if entry.base_url or self._url == self._named.base_url else self._url,
        )

    @property
    def entry(self) -> EngineEntry:
        """Its settings: those of its entry, or what a library user made it with."""
        return self._entry

    # ------------------------------------------------------------------ before the call

    async def detect(self) -> Availability:
        """Look for a key, or for a server's program and whether something listens; asks no server."""
        if not self._url:
            return needs_entry("write its `base_url`")
        where = shown_url(self._url)
        lacking = self._lacking_key()
        if lacking is not None:
            return lacking
        return self._detect_local(where) if self._is_local else Availability(True, f"calls {where}")

    def _detect_local(self, where: str) -> Availability:
        kind = self._named
        path = next((found for program in kind.programs if (found := find(program))), None)
        listens = is_listening(self._url)
        if listens or (listens is None and path is not None):
            return Availability(True, f"calls {where}", path=path)
        installed = f"`{kind.programs[0]}` found; " if path else ""
        how = f"start it: `{kind.start}`" if path else "install and start it, or correct `base_url`"
        return Availability(False, f"{installed}nothing listens at {where}", path=path, how=how)

    def is_here(self) -> bool:
        """Say whether `auto` may take it: a server on this machine, that seems to run."""
        if not self._is_local:
            return False
        is_known = self._entry.base_url is not None or any(map(find, self._named.programs))
        return is_known and is_listening(self._url) is not False

    def _lacking_key(self) -> Availability | None:
        """Say that there is no key, where the server needs one or the entry says where it is; None if all is well.

        No keyring is read: it may ask its user.
        """
        if self._api_key or self._entry.api_key_keyring:
            return None
        try:
            key, how = read_key(self._entry, self._server.key_variables, self._context.path)
        except EngineError as error:
            return Availability(False, error.said, how=error.next)
        if key is None and self._server.needs_key:
            return Availability(False, "no key", how=how)
        return None

    def limit_key(self, request: Request) -> LimitKey:
        """All calls of one account or address and model count together."""
        return LimitKey(self.name, self._account, self._model(request))

    def estimate(self, request: Request) -> Estimate:
        """Guess tokens from the characters, and the cost from prices that are known."""
        tokens_in = tokens_of(request.prompt, request.instructions) + tokens_of_files(request)
        tokens_out = self._guessed_output(request)
        usd = self._pricing.estimate(self._model(request), tokens_in, tokens_out)
        return Estimate(tokens_in + tokens_out, usd)

    def _guessed_output(self, request: Request) -> int:
        """What an answer is taken to need: the limit that somebody wrote, else a guess."""
        return request.max_tokens or self._entry.max_tokens or GUESSED_OUTPUT

    def attach(self, session: str) -> list[str] | None:
        """Has no sessions."""
        return None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _model(self, request: Request) -> str:
        """The name by which the server knows the model; empty for whatever a local one serves."""
        named = self._names.get(request.model)
        if named is None:
            named = self._names[request.model] = self._looked_up(request.model)
        return named

    def _looked_up(self, model: str | None) -> str:
        wanted, own = model or self._entry.model or "standard", self._entry.model
        has_own = own is not None and own not in TIERS
        # Of a server at an address that nobody knows a provider's tiers say nothing; its entry does.
        is_foreign = wanted in TIERS and has_own and known_by(self._url) is None
        for provider in self._providers[:1] if is_foreign else self._providers:
            named = model_name(wanted, provider, self._table)
            if named != wanted:
                if named:
                    return named
                continue
        if wanted not in TIERS:
            return wanted
        return self._looked_up(own) if has_own else ""

    # ------------------------------------------------------------------ the turn

    async def perform(self, request: Request, port: Port) -> Reply:
        """Do one turn. Raises the `EngineError` of whatever went wrong, without the key in it."""
        key = self._api_key
        try:
            key, how = await self._key()
            turn = _Turn(request, port, self._model(request), key, how, self._headers(key))
            reply = await self._performed(turn)
        except EngineError as error:
            raise mask_error(error, key) from None
        await port.emit(FinalEvent(ok=True))
        return reply

    async def _performed(self, turn: _Turn) -> Reply:
        request = turn.request
        if not self._url:
            raise Unavailable(f"engine `{self.name}` has no address", next="write `base_url` in its entry")
        if not turn.model:
            turn.model = await self._served(turn)
        ask = self._ask(request, turn.model)
        self._check_fits(ask)
        completion, ask = await self._answered(turn, ask)
        try:
            return self._read(completion, turn, ask)
        except Invalid as wrong:
            if request.output == "text" or completion.stop != "end":
                raise
            return await self._repaired(turn, ask, completion, wrong)

    async def _repaired(self, turn: _Turn, ask: Ask, completion: Completion, wrong: Invalid) -> Reply:
        """Show the model once what is wrong with its answer."""
        said = (
            f"That answer cannot be used: {wrong.said}. Give the whole answer once more, corrected, in the form "
            "that was asked for, and nothing else."
        )
        answer = shorten(completion.text, MAX_SHOWN_AGAIN) or "(nothing)"
        again, ask = await self._answered(turn, dataclasses.replace(ask, earlier=(answer, said)))
        try:
            reply = self._read(again, turn, ask)
        except Invalid as still:
            still.said += " (also after one repair)"
            raise
        return dataclasses.replace(reply, notes=(*reply.notes, "its answer was malformed, and repaired once"))

    async def _answered(self, turn: _Turn, ask: Ask) -> tuple[Completion, Ask]:
        """Call, once more without a schema where the server takes none."""
        try:
            async with self._warming.turn(ask):
                return await self._call(turn, ask), ask
        except _FormatRefused:
            self._plain.add(turn.model)
            ask = dataclasses.replace(ask, structure=None)
            return await self._call(turn, ask), ask

    async def _call(self, turn: _Turn, ask: Ask) -> Completion:
        """Make one call: a permit before it, which is settled however it ends."""
        data = encoded(self._wire.body(ask))
        tokens = tokens_of(ask.prompt, ask.instructions) + self._guessed_output(turn.request)
        permit = await turn.port.permit(self.limit_key(turn.request), tokens)
        usage: Usage | None = None
        limits: LimitsEvent | None = None
        try:
            stream = _Stream(turn.port, self._wire, turn.key) if ask.stream else None
            answer = await self._http.post(
                call_url(self._url, self._wire.path),
                data,
                turn.headers,
                timeout_seconds=turn.request.timeout_seconds,
                take=stream.take if stream is not None else None,
            )
            limits = read_limits(answer.headers)
            if not answer.is_ok:
                if ask.structure is not None and is_about_format(answer.status, answer.body):
                    raise _FormatRefused
                raise error_of(answer.status, answer.headers, answer.body, model=turn.model, how=turn.how)
            is_streamed = stream is not None and not answer.body  # some servers never stream
            completion = await stream.end() if stream and is_streamed else self._whole(answer.body, turn)
            completion = cleaned(completion, turn.key)
            usage = self._pricing.usage(completion.model or turn.model, completion.counts)
            turn.took(usage)
        finally:
            await permit.settle(usage=usage, limits=limits)
            if limits is not None:
                await turn.port.emit(limits)
        await turn.port.emit(UsageEvent(usage))
        return completion

    def _whole(self, body: bytes, turn: _Turn) -> Completion:
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            shown = shorten(" ".join(clean(body[:300].decode("utf-8", "replace")).split()), 200)
            raise Transient(
                f"the server did not answer in JSON: {shown or 'nothing'}", next="look at `base_url`"
            ) from None
        if mapping(data).get("error") and not mapping(data).get("choices"):
            raise error_in_stream(data, model=turn.model, how=turn.how)
        return self._wire.read(data)

    # ------------------------------------------------------------------ what is asked, what came back

    def _ask(self, request: Request, model: str) -> Ask:
        entry = self._entry
        structure: Structure | None = None
        if self._sends_schemas and model not in self._plain:
            structure = structure_of(request.output, request.schema)
        prompt = request.prompt
        if request.output == "change":
            prompt = f"{prompt.rstrip()}\n\n{CHANGE_SHAPE}\n"
        most = request.max_tokens or entry.max_tokens
        if most is None and isinstance(self._wire, MessagesWire):
            most = usual_limit(model)
        return Ask(
            model=model,
            prompt=prompt,
            shared=min(request.shared, len(prompt)),
            instructions=request.instructions,
            max_tokens=most,
            temperature=entry.temperature if request.temperature is None else request.temperature,
            structure=structure,
            stream=self._is_streamed,
        )

    def _check_fits(self, ask: Ask) -> None:
        """Say before the call what cannot be read whole."""
        window = self._pricing.window(ask.model)
        tokens = tokens_of(ask.prompt, ask.instructions)
        if window is not None and tokens > window:
            said = f"the prompt has about {tokens:,} tokens, and `{ask.model}` reads at most {window:,}"
            raise Invalid(said, next=CHUNK.replace("N}", f"{max(window // 4, 500)}}}"))

    def _read(self, completion: Completion, turn: _Turn, ask: Ask) -> Reply:
        """Check an answer. Raises `Refused`, or `Invalid` with what is wrong, and the answer."""
        try:
            return self._checked(completion, turn, ask)
        except Invalid as wrong:
            wrong.reply = completion.text
            raise

    def _checked(self, completion: Completion, turn: _Turn, ask: Ask) -> Reply:
        request = turn.request
        check_stop(completion, ask)
        text = unwrapped(without_thoughts(completion.text), ask.structure)
        usage = turn.usage or Usage()
        if request.output == "text" and not text.strip():
            raise Invalid("the model answered nothing")
        if request.output == "change":
            reply = to_reply(text, output="schema", schema={}, usage=usage)
            edits = edits_of(reply.data)
            check_fit(edits, Path(request.root))
            reply = dataclasses.replace(reply, data=edits_to_data(edits))
        else:
            reply = to_reply(
                text, output=request.output, schema=request.schema, root=request.root, usage=usage
            )
        note = cut_note(completion, ask) if self._is_local else None
        notes = reply.notes if note is None else (*reply.notes, note)
        return changed(reply, model=completion.model or ask.model, notes=notes)

    # ------------------------------------------------------------------ keys, headers, models

    async def _key(self) -> tuple[str | None, str]:
        if self._api_key is not None:
            return self._api_key, "look at the key that was given"
        if self._entry.api_key_keyring:  # a keyring may ask its user, and wait
            return await asyncio.to_thread(read_key, self._entry, (), self._context.path)
        key, how = read_key(self._entry, self._server.key_variables, self._context.path)
        if key is None and self._server.needs_key:
            raise Unavailable(f"engine `{self.name}` has no key", next=how)
        return key, how

    def _headers(self, key: str | None) -> Mapping[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "parallelai"}
        if key is not None:
            kind = self._server.key_header
            headers[_KEY_HEADERS[kind]] = f"Bearer {key}" if kind == "bearer" else key
        if isinstance(self._wire, MessagesWire):
            headers["anthropic-version"] = VERSION
        return headers

    async def _served(self, turn: _Turn) -> str:
        """Ask a local server, once, which model it serves. Raises `Unavailable` where there is a choice."""
        if self._found is None:
            answer = await self._http.get(
                call_url(self._url, "/models"), turn.headers, timeout_seconds=LIST_SECONDS
            )
            self._found = only_model(answer.body if answer.is_ok else b"{}", self.name)
        return self._found


def _checked_args(name: str, entry: EngineEntry) -> frozenset[str]:
    unknown = [word for word in entry.args if word not in ARGS]
    if unknown or {"chat", "responses"} <= set(entry.args):
        said = f"engine `{name}`: `args` cannot hold {' '.join(unknown or entry.args)}"
        raise ConfigError(said, next=f"of {', '.join(ARGS)}; one format at most")
    return frozenset(entry.args)


def _wire(args: frozenset[str], server: ModelServer) -> Wire:
    if server.format == "messages":
        return MessagesWire()
    return ResponsesWire() if "responses" in args else ChatWire(limit_key=server.limit_key)
