"""What all engines of native clients share: program, environment, login, confinement, time-out, reply.

A client is data (`Client`) and a few methods: its arguments, its reader, its voice.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from parallelai.engines.clients.client import Voice, check_end, converse, installation, is_session, version_of
from parallelai.engines.clients.home import Home, Look, look, take_back
from parallelai.engines.confining import confinement
from parallelai.engines.context import EngineContext, asked_at, refuse_unused
from parallelai.engines.listening import refuse_closed
from parallelai.engines.loopback import loopback_port
from parallelai.engines.models.keys import mask_error, read_key
from parallelai.engines.models.prices import Pricing
from parallelai.engines.models.table import extended, model_name
from parallelai.engines.models.wire.records import Counts
from parallelai.engines.own_folders import pinned_version
from parallelai.engines.protocol import (
    Availability,
    Capabilities,
    Estimate,
    FinalEvent,
    Port,
    Request,
    UsageEvent,
)
from parallelai.engines.replies import to_reply
from parallelai.errors import EngineError, Rejected, TimedOut, Unavailable
from parallelai.plan.values import shown
from parallelai.processes import Completed, Confinement, Feed, Program, environment, find
from parallelai.records import LimitKey, Reply, Usage

if TYPE_CHECKING:
    from parallelai.engines.confining import Network
    from parallelai.plan.model import EngineEntry

MIB = 1024 * 1024
MAX_LINE_BYTES = 16 * MIB
_KEYS = frozenset(
    {
        "account",
        "api_key_env",
        "api_key_file",
        "api_key_keyring",
        "args",
        "base_url",
        "command",
        "env",
        "model",
        "network",
        "price",
        "sandbox",
    }
)


USUAL_TURN = Counts(100_000, 80_000, 2_000)
"""The tokens of a turn, before any was measured: several calls, which read most of the same again."""


class Login(Struct, frozen=True):
    """Where a client keeps its login: `folder` below HOME, or what `variable` names.

    `beside` are files of HOME that it reads, too. `obeyed`, `own` and `state` are those of `client_home.Home`.
    `variables` are logins of the user's environment, passed on where the entry names no key and no server.
    """

    variable: str
    folder: str
    obeyed: tuple[str, ...]
    own: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


class Client(Struct, frozen=True):
    """A client, as data. `provider` and `address` are where its models and prices are looked up."""

    use: str
    program: str
    how: str
    provider: str
    address: str
    memory_bytes: int
    login: Login
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Launch:
    """How one turn is started; made before its reader, so that both agree."""

    path: Path
    version: str | None
    env: Mapping[str, str]
    home: Home
    key: str | None = None
    confinement: Confinement | None = None
    before: Look | None = None
    is_free: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_confined(self) -> bool:
        return self.confinement is not None


class ClientEngine(ABC):
    """An engine of a client that prints JSON lines (`engines.protocol.Engine`)."""

    client: ClassVar[Client]
    capabilities: Capabilities

    def __init__(self, name: str, entry: EngineEntry, context: EngineContext) -> None:
        """Take the settings of an entry. Raises `ConfigError` for keys without effect."""
        refuse_unused(name, entry, _KEYS | self.client.keys)
        self.name = name
        self.entry = entry
        self.context = context
        has_key = entry.api_key_env or entry.api_key_file or entry.api_key_keyring
        # What a login needs is not given beside a key.
        variables = () if has_key else self.client.login.variables
        if at := asked_at(entry, (name for name in variables if name.endswith("_BASE_URL"))):
            self.capabilities = dataclasses.replace(self.capabilities, asks_at=at)
        self._table = extended(context.models)

    # What each client says of itself

    @abstractmethod
    def arguments(self, request: Request, launch: Launch) -> list[str]:
        """Give the command line of a turn, after the program's name."""

    @abstractmethod
    def reader(self, request: Request, launch: Launch) -> Any:
        """Make the reader of one turn (`clients.Reader`)."""

    @abstractmethod
    def answer_text(self, reader: Any, request: Request) -> str:
        """Give what the client answered in the end."""

    @abstractmethod
    def own_environment(self, key: str | None) -> dict[str, str]:
        """Give the variables that this client is started with."""

    def voice(self) -> Voice | None:
        """Give how it is spoken to while it runs; None where that cannot be."""
        return None

    def first_input(self, request: Request) -> bytes:
        """Give what goes into its standard input at once."""
        return request.prompt.encode("utf-8", "replace")

    def home_writable(self, home: Home, request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Give what in its folder is writable, and what protected, beside the usual."""
        return (), ()

    def prepare(self, request: Request, launch: Launch) -> Launch:
        """Do what else must be done before a turn. Looks at files, in a thread."""
        return launch

    def lay_out(self, request: Request, launch: Launch) -> Launch:
        """Write down what the turn is to find, and `finish` takes away.

        Not in a thread: who is cancelled there would never hear of it.
        """
        return launch

    def finish(self, reader: Any, launch: Launch) -> None:  # noqa: B027 - most have nothing to do
        """Look at what a turn left behind, before its usage is asked for. It may block."""

    # The protocol

    @property
    def program_name(self) -> str:
        """The program: the entry's own, or the one that the client is known by."""
        return self.entry.command[0] if self.entry.command else self.client.program

    async def detect(self) -> Availability:
        """Look for the program: on the PATH, or below the project's root where its name holds a `/`."""
        path = self._find()
        if path is None:
            return Availability(False, f"`{self.program_name}` not found", how=self.client.how)
        version = await asyncio.to_thread(version_of, path)
        said, tested = f"runs `{self.program_name}`", pinned_version(self.client.how)
        return Availability(True, said, version=version, path=str(path), tested=tested)

    def _find(self) -> Path | None:
        name = self.program_name
        found = find(str(self.context.root / name) if "/" in name else name)
        return None if found is None else Path(found)

    def opening(self, session: str, **more: str) -> list[str] | None:
        """The beginning of the command that opens a session for a person; None for what is no id of one.

        It names the program, from wherever it is called, and the folder that the entry keeps its sessions in;
        `more` are further variables. No secret is in it: it may be printed.
        """
        if not is_session(session):  # it could be an option of the client
            return None
        folder = self.entry.env.get(self.client.login.variable)
        named = {self.client.login.variable: folder} if folder else {}
        env = [f"{name}={value}" for name, value in {**named, **more}.items()]
        found = self._find() if "/" in self.program_name else None
        program = str(found) if found is not None else self.program_name
        return [*(["env", *env] if env else []), program, *(self.entry.command or ())[1:]]

    def model_of(self, request: Request) -> str:
        """Give the model's name as the client knows it; empty for the client's own choice."""
        wanted = request.model or self.entry.model
        return model_name(wanted, self.client.provider, self._table) if wanted else ""

    def limit_key(self, request: Request) -> LimitKey:
        """Sessions of one account with one model count together."""
        return LimitKey(self.name, self.entry.account or "default", self.model_of(request))

    def estimate(self, request: Request) -> Estimate:
        """Guess the memory, and the money where the entry has a price, or its server is on this machine.

        A client's own prompts and tools make its tokens unknown: the money is that of a usual turn, until
        the run knows what its turns really take.
        """
        price, is_here = self.entry.price, loopback_port(self.entry.base_url) is not None
        usd = None
        if price is not None or is_here:
            usd = Pricing(self.client.address, price, is_here).usage("", USUAL_TURN).usd
        return Estimate(tokens=None, usd=usd, memory_bytes=self.client.memory_bytes)

    async def aclose(self) -> None:  # noqa: B027 - nothing is held
        """Hold nothing: what ran has ended with its turn."""

    async def perform(self, request: Request, port: Port) -> Reply:
        """Do one turn in a session of the client's. Raises an `EngineError`."""
        launch = await asyncio.to_thread(self._launch, request)
        reader = self.reader(request, launch)
        launch = self.lay_out(request, launch)
        reply: Reply | None = None
        try:
            reply = await self._converse(request, port, launch, reader)
        except EngineError as error:
            raise mask_error(error, launch.key) from None
        finally:
            if reply is None:  # failed or cancelled: it is paid all the same
                self.finish(reader, launch)
                await self._spend(port, reader, launch)
        await port.emit(UsageEvent(reply.usage))
        await port.emit(FinalEvent(ok=True))
        return reply

    async def _spend(self, port: Port, reader: Any, launch: Launch) -> None:
        usage = reader.usage()
        if usage is not None:
            await port.emit(UsageEvent(self.priced(usage, reader, launch)))

    async def _converse(self, request: Request, port: Port, launch: Launch, reader: Any) -> Reply:
        notes: list[str] = []
        try:
            completed = await self._talk(request, port, launch, reader, notes)
            check_end(self.name, launch.version, reader, completed)
        except EngineError as error:
            error.said = "; ".join((error.said, *notes))
            raise
        await asyncio.to_thread(self.finish, reader, launch)
        if completed is None:
            return self._reply(request, launch, reader, tuple(notes))
        reply = self._reply(request, launch, reader, (*notes, *completed.notes))
        return dataclasses.replace(reply, memory_bytes=completed.peak_memory_bytes)

    async def _talk(
        self, request: Request, port: Port, launch: Launch, reader: Any, notes: list[str]
    ) -> Completed | None:
        """Run the client to its end; what it left in its folder to be obeyed is taken back and put into `notes`."""
        voice = self.voice()
        program = self._program(request, launch, Feed() if voice is not None else None)
        try:
            async with asyncio.timeout(request.timeout_seconds) as wall:
                return await converse(program, reader, port, wall, voice)
        except TimeoutError:
            if not wall.expired():
                raise
            said = f"`{self.name}` was not done after {request.timeout_seconds:g} s"
            raise TimedOut(said, next="raise `timeout`, or make the task smaller") from None
        finally:
            # Not in a thread: a cancelled turn must not leave before this is done.
            notes += self._take_back(launch, request)

    def _reply(self, request: Request, launch: Launch, reader: Any, notes: tuple[str, ...]) -> Reply:
        usage = self.priced(reader.usage() or Usage(), reader, launch)
        unconfined = () if launch.is_confined or _asked_for_none(request) else ("it ran without a sandbox",)
        reply = to_reply(
            self.answer_text(reader, request),
            output=request.output,
            schema=request.schema,
            root=request.root,
            usage=usage,
            notes=(*reader.notes, *notes, *unconfined),
        )
        return dataclasses.replace(
            reply, session=reader.session, model=reader.model or self.model_of(request) or None
        )

    def priced(self, usage: Usage, reader: Any, launch: Launch) -> Usage:
        """Put a price to tokens: the entry's, none for a server of this machine, else the table's."""
        pricing = Pricing(self.client.address, self.entry.price, launch.is_free)
        counts = Counts(usage.input, usage.cached, usage.output, usage.reasoning)
        return pricing.usage(reader.model or "", counts)

    # The start

    def _launch(self, request: Request) -> Launch:
        """Say how a turn is started. Looks at files; makes the client's folder where it is missing."""
        path = self._find()
        if path is None:
            raise Unavailable(f"`{self.program_name}` not found", next=self.client.how)
        if request.session is not None and not is_session(request.session):  # another engine's, or worse
            said = f"{shown(request.session)} is no id of a session of `{self.name}`"
            raise Rejected(said, next="start the task anew (`--new`)")
        key, _ = read_key(self.entry, (), self.context.path)
        refuse_closed(self.entry.base_url)
        login = self.client.login
        is_users = key is None and self.entry.base_url is None
        passed = (login.variable, *(login.variables if is_users else ()), *request.pass_env)
        own = {**self.own_environment(key), **_temporary(request), **self.entry.env, **request.env}
        env = environment(env=own, pass_env=passed)
        home = Home(_folder(login, env), login.obeyed, login.own, login.state)
        home.make(self.name)
        confined = self._confine(request, path, home, env)
        before = look(home, keep=confined is None or confined.by != "bubblewrap")
        port = loopback_port(self.entry.base_url)
        is_free = port is not None and self.entry.price is None
        launch = Launch(path, version_of(path), env, home, key, confined, before, is_free)
        return self.prepare(request, launch)

    def _confine(
        self, request: Request, path: Path, home: Home, env: Mapping[str, str]
    ) -> Confinement | None:
        if request.workspace is None:
            return None
        writable, protected = self.home_writable(home, request)
        port = loopback_port(self.entry.base_url)
        beside = tuple(f"{env.get('HOME', '')}/{name}" for name in self.client.login.beside)
        folder = str(home.folder)
        network: Network = "on" if port is None else "loopback"
        return confinement(
            request,
            writable=(folder, *writable),
            readable=(installation(path), *beside),
            hidden_except=(folder, *beside),
            protected=(*home.protected(), *protected),
            ports=() if port is None else (port,),
            network=self.entry.network or network,
        )

    def _program(self, request: Request, launch: Launch, feed: Feed | None) -> Program:
        more = self.entry.command[1:] if self.entry.command else ()
        argv = (str(launch.path), *more, *self.arguments(request, launch), *self.entry.args)
        return Program(
            argv=argv,
            cwd=Path(request.root),
            env=launch.env,
            stdin=self.first_input(request),
            grace_seconds=request.grace_seconds,
            max_output_bytes=MAX_LINE_BYTES,
            log=None if request.log is None else Path(request.log),
            run=request.run,
            label=request.task,
            feed=feed,
            confinement=launch.confinement,
            memory_bytes=None if request.workspace is None else request.workspace.memory_bytes,
        )

    def _take_back(self, launch: Launch, request: Request) -> tuple[str, ...]:
        if launch.before is None:
            return ()
        aside = None if request.log is None else Path(request.log).with_suffix(".taken-back")
        return take_back(launch.home, launch.before, aside)


def _asked_for_none(request: Request) -> bool:
    return request.workspace is None or request.workspace.sandbox == "none"


def _temporary(request: Request) -> dict[str, str]:
    return {} if request.workspace is None else {"TMPDIR": request.workspace.temporary}


def _folder(login: Login, env: Mapping[str, str]) -> Path:
    named = env.get(login.variable)
    if named and os.path.isabs(named):  # noqa: PTH117
        return Path(named)
    return Path(env.get("HOME") or Path.home()) / login.folder
