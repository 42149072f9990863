"""The engine `acp`: any agent that speaks the Agent Client Protocol over stdio, and those that are known by name.

    engines:
      gemini: {use: gemini, model: gemini-2.5-pro}
      mine:   {use: acp, command: [my-agent, --acp]}

One turn is one prompt in a session of the agent's. Each turn that edits has an agent of its own, in its own
folder; read-only turns in the same folder share one, as long as any of them is under way: eight sessions in one
gemini took 0.26 GB, in eight of them 1.6 GB; of opencode 0.7 GB and 5 s against 3.4 GB and 37 s (2 cores).
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from parallelai.engines.acp.launch import Launch
from parallelai.engines.acp.presets import PRESETS, Preset, Wanted, settings_text
from parallelai.engines.clients.client import is_session
from parallelai.engines.confining import confinement
from parallelai.engines.context import EngineContext, asked_at, refuse_unused
from parallelai.engines.listening import refuse_closed
from parallelai.engines.loopback import loopback_port
from parallelai.engines.own_folders import (
    below,
    check_network,
    installation,
    likely_folders,
    login_folders,
    package_version,
    pinned_version,
    read_key,
    refuse_unread,
)
from parallelai.engines.protocol import Availability, Capabilities, Estimate, Port, Request, needs_entry
from parallelai.errors import EngineError, ProgramError, TimedOut, Unavailable, first_error
from parallelai.processes import Confinement, Program, environment, find
from parallelai.records import LimitKey, Reply

if TYPE_CHECKING:
    from parallelai.engines.acp.pool import Pool
    from parallelai.engines.acp.report import Reporter
    from parallelai.plan.model import EngineEntry

SHARED_BY = 4
"""Among how many read-only turns an agent's memory is divided; at most eight share one."""
MAX_OUTPUT_BYTES = 16 * 1024 * 1024
"""The longest message that an agent can send."""
HOW = (
    "write `command: [agent, argument, …]` in the engine's entry, or `parallelai engines add NAME -- agent …`"
)
_OWN = Preset(command=(), how=HOW, memory_bytes=300 * 1024 * 1024)
_KEYS = frozenset({"command", "args", "env", "model", "network", "sandbox", "account"})
_PRESET_KEYS = frozenset({"base_url", "api_key_env", "api_key_file", "max_turns"})


class AcpEngine:
    """An agent. `entry.use` is `acp`, with the entry's own command, or the name of a preset."""

    def __init__(self, name: str, entry: EngineEntry, context: EngineContext) -> None:
        """Take the command from the entry or the preset. Raises `ConfigError` for keys without effect."""
        self._preset = PRESETS.get(entry.use, _OWN)
        refuse_unused(name, entry, _usable_keys(entry.use, self._preset))
        self.name = name
        self.capabilities = Capabilities(
            answers=frozenset({"text", "findings", "schema", "change"}),
            edits=True,
            streams=True,
            resumes=True,
            interrupts=True,
            asks=True,
            attaches=bool(self._preset.attach),
            is_remote=True,
            works_in_folder=True,
            takes_instructions=True,
            asks_at=asked_at(entry, set(self._preset.pass_env) & {self._preset.url_env}),
        )
        self._entry = entry
        self._root = context.root
        self._obeyed = () if context.trusted else self._preset.obeyed
        self._command = tuple(entry.command or self._preset.command)
        self._pool: Pool | None = None

    async def detect(self) -> Availability:
        """Look for the program: on the PATH, or below the project's root where its name holds a `/`."""
        if not self._command:
            return needs_entry(HOW)
        program = self._command[0]
        path = find(str(self._root / program) if "/" in program else program)
        if path is None:
            how = (
                self._preset.how
                if self._entry.command is None
                else f"install `{program}`, or correct `command`"
            )
            return Availability(False, f"`{program}` not found", how=how)
        version, tested = package_version(Path(path)), pinned_version(self._preset.how)
        return Availability(True, f"runs `{program}`", version=version, path=path, tested=tested)

    def limit_key(self, request: Request) -> LimitKey:
        """Sessions of one account with one model count together."""
        model = request.model or self._entry.model or ""
        return LimitKey(self.name, self._entry.account or "default", model)

    def estimate(self, request: Request) -> Estimate:
        """Guess the memory, a part of it where agents are shared; its own prompts make its tokens unknown.

        A server of this machine costs nothing.
        """
        whole = self._preset.memory_bytes
        memory = whole if request.output == "change" else whole // SHARED_BY
        usd = None if loopback_port(self._entry.base_url) is None else 0.0
        return Estimate(tokens=None, usd=usd, memory_bytes=memory)

    async def perform(self, request: Request, port: Port) -> Reply:
        """Do one turn in a session of the agent's. Raises an `EngineError`."""
        if not self._command:
            raise Unavailable(f"engine `{self.name}` has no command", next=HOW)
        # Agents tell and ask about real paths; one told of a link to its folder takes that for another folder.
        request = replace(request, root=os.path.realpath(request.root))
        # The protocol's SDK takes long to load: meanwhile, others have sessions to start.
        loading = asyncio.to_thread(importlib.import_module, "parallelai.engines.acp.session")
        launch, _ = await asyncio.gather(asyncio.to_thread(self._launch, request), loading)
        from parallelai.engines.acp.pool import Pool
        from parallelai.engines.acp.session import take_turn

        if self._pool is None:
            self._pool = Pool()
        try:
            async with asyncio.timeout(request.timeout_seconds) as wall:
                return await take_turn(self._pool, launch, request, port, wall)
        except TimeoutError:
            if not wall.expired():
                raise
            said = f"`{self.name}` was not done after {request.timeout_seconds:g} s"
            raise TimedOut(said, next="raise `timeout`, or make the task smaller") from None
        except BaseExceptionGroup as errors:
            raise first_error(errors, EngineError, ProgramError) from None

    def _launch(self, request: Request) -> Launch:
        """Say how the agent of a request is started. Looks at files; makes the agent's own home, where it has one."""
        preset, entry = self._preset, self._entry
        refuse_unread(self.name, Path(request.root), self._obeyed)
        key = self._key()
        refuse_closed(entry.base_url)
        wanted = Wanted(
            model=request.model or entry.model,
            base_url=entry.base_url,
            key_env=preset.key_env if key is not None else None,
            max_turns=request.max_turns or entry.max_turns,
        )
        text = settings_text(preset, wanted) if preset.settings is not None else None
        env = self._environment(request, wanted, key, text)
        is_users = key is None and entry.base_url is None
        home, confined = self._place(request, env, text, is_users=is_users)
        program = Program(
            argv=(*self._command, *_model_args(preset, wanted), *entry.args),
            cwd=Path(request.root),
            env=env,
            grace_seconds=request.grace_seconds,
            max_output_bytes=MAX_OUTPUT_BYTES,
            run=request.run,
            label=request.task,
            confinement=confined,
            memory_bytes=None if request.workspace is None else request.workspace.memory_bytes,
        )
        has_own_place = bool(preset.model_args or preset.model_env or preset.settings_env)
        if request.session is not None and preset.keep is not None:
            preset.keep(home, request.session)
        return Launch(
            name=self.name,
            program=program,
            is_shared=request.workspace is not None and not request.workspace.edits,
            settings_env=preset.settings_env if preset.is_settings_file else None,
            settings=text if preset.is_settings_file else None,
            session_model=None if has_own_place else wanted.model,
            counts_last_call=preset.counts_last_call,
            reports=_reporter(preset, env),
            is_free=loopback_port(entry.base_url) is not None,
        )

    def _place(
        self, request: Request, env: dict[str, str], settings: str | None, *, is_users: bool
    ) -> tuple[Path, Confinement | None]:
        """Give the home that the agent has, named in `env` where it is its own, and what confines it.

        `is_users` says that it needs the user's login.
        """
        preset, entry = self._preset, self._entry
        readable = [str(below(env, path)) for path in preset.read_only]
        readable += installation(self._command[0], env.get("PATH"))
        if preset.home_env is not None and not is_users:
            home = _own_home(preset, settings or "{}")
            env[preset.home_env] = str(home)
            folders: tuple[str, ...] = (str(home),)
            readable.append(str(home / preset.home_settings))
        else:
            home = Path(env.get("HOME") or Path.home())
            folders = login_folders(preset.login, env) or likely_folders(self._command[0], env)
        port = loopback_port(entry.base_url)
        confined = confinement(
            request,
            writable=folders,
            readable=tuple(readable),
            hidden_except=folders,
            ports=() if port is None else (port,),
            network=entry.network or "on",
        )
        check_network(self.name, request, entry, confined)
        return home, confined

    def _key(self) -> str | None:
        """Give the key that the entry names, or that a user without a login has in the environment."""
        key, preset = read_key(self.name, self._entry), self._preset
        if key is not None or preset.login_file is None or (Path.home() / preset.login_file).exists():
            return key
        return os.environ.get(preset.key_env or "") or None

    def _environment(
        self, request: Request, wanted: Wanted, key: str | None, settings: str | None
    ) -> dict[str, str]:
        preset = self._preset
        given: dict[str, str] = dict(preset.env)
        if settings is not None and preset.settings_env and not preset.is_settings_file:
            given[preset.settings_env] = settings
        for variable, value in (
            (preset.key_env, key),
            (preset.url_env, wanted.base_url),
            (preset.model_env, wanted.model),
        ):
            if variable is not None and value is not None:
                given[variable] = value
        passed = (*preset.pass_env, *request.pass_env)
        return environment(env={**given, **self._entry.env, **request.env}, pass_env=passed)

    def attach(self, session: str) -> list[str] | None:
        """Give the command that opens a session in the agent's own interface, where there is one.

        The agent gave the session its id, which could be an option of that command.
        """
        if not is_session(session):
            return None
        return [word.replace("{session}", session) for word in self._preset.attach] or None

    async def aclose(self) -> None:
        """End the agents that still run."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()


def _usable_keys(use: str, preset: Preset) -> frozenset[str]:
    if use not in PRESETS:
        return _KEYS
    given: set[str] = set()
    if preset.url_env is not None or preset.settings_env == "OPENCODE_CONFIG_CONTENT":
        given.add("base_url")
    if preset.key_env is not None:
        given |= {"api_key_env", "api_key_file"}
    if preset.is_settings_file or preset.home_env is not None:
        given.add("max_turns")
    return _KEYS | (_PRESET_KEYS & given)


def _model_args(preset: Preset, wanted: Wanted) -> tuple[str, ...]:
    return (*preset.model_args, wanted.model) if preset.model_args and wanted.model else ()


def _reporter(preset: Preset, env: Mapping[str, str]) -> Reporter | None:
    """How the agent is to report; None where it does not, or the user has own wishes for that."""
    own = None if preset.reports is None else preset.reports.own_prefix
    return None if own is not None and any(name.startswith(own) for name in env) else preset.reports


def _own_home(preset: Preset, settings: str) -> Path:
    """Make a home for an agent that needs no login: one for each set of settings, kept for its sessions."""
    from platformdirs import user_state_path

    mark = hashlib.sha256(settings.encode()).hexdigest()[:12]
    home = user_state_path("parallelai") / "agents" / f"{preset.command[0]}-{mark}"
    file = home / preset.home_settings
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists() or file.read_text(encoding="utf-8") != settings:
            fresh = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
            fresh.write_text(settings, encoding="utf-8")
            fresh.replace(file)
    except OSError as error:
        raise Unavailable(f"`{home}`, the agent's own folder, cannot be made: {error.strerror}") from None
    return home
