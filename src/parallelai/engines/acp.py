"""The engine `acp`: any agent that speaks the Agent Client Protocol over stdio, and those that are known by name.

    engines:
      gemini: {use: gemini, model: gemini-2.5-pro}
      mine:   {use: acp, command: [my-agent, --acp]}

One turn is one prompt in a session of the agent's. Each turn that edits has an agent of its own, in its own
folder; read-only turns in the same folder share one, as long as any of them is under way, because an agent
takes 300 to 600 MB and a session in it a tenth of that (docs/explanation/engines.md has the figures).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parallelai.engines.acp_presets import PRESETS, Preset, Wanted, settings_text
from parallelai.engines.confining import confinement, loopback_port
from parallelai.engines.context import EngineContext, refuse_unused
from parallelai.engines.protocol import Availability, Capabilities, Estimate, Port, Request
from parallelai.errors import EngineError, TimedOut, Unavailable
from parallelai.processes import Program, environment, find
from parallelai.records import LimitKey, Reply

if TYPE_CHECKING:
    from parallelai.engines.acp_pool import Pool
    from parallelai.plan.model import EngineEntry

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
"""The longest message that an agent can send."""
HOW = (
    "write `command: [agent, argument, …]` in the engine's entry, or `parallelai engines add NAME -- agent …`"
)
_OWN = Preset(command=(), how=HOW, memory_bytes=300 * 1024 * 1024)
_KEYS = frozenset({"command", "args", "env", "model", "network", "sandbox", "account"})
_PRESET_KEYS = frozenset({"base_url", "api_key_env", "api_key_file", "max_turns"})
_MAX_KEY_BYTES = 64 * 1024


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
        )
        self._entry = entry
        self._root = context.root
        self._command = tuple(entry.command or self._preset.command)
        self._pool: Pool | None = None

    async def detect(self) -> Availability:
        """Look for the program: on the PATH, or below the project's root where its name holds a `/`."""
        if not self._command:
            return Availability(False, "no command is configured", how=HOW)
        program = self._command[0]
        path = find(str(self._root / program) if "/" in program else program)
        if path is None:
            how = (
                self._preset.how
                if self._entry.command is None
                else f"install `{program}`, or correct `command`"
            )
            return Availability(False, f"`{program}` not found", how=how)
        return Availability(True, f"runs `{program}`", version=package_version(Path(path)), path=path)

    def limit_key(self, request: Request) -> LimitKey:
        """Sessions of one account with one model count together."""
        model = request.model or self._entry.model or ""
        return LimitKey(self.name, self._entry.account or "default", model)

    def estimate(self, request: Request) -> Estimate:
        """Guess the memory; an agent's own prompts and tools make its tokens unknown."""
        return Estimate(tokens=None, usd=None, memory_bytes=self._preset.memory_bytes)

    async def perform(self, request: Request, port: Port) -> Reply:
        """Do one turn in a session of the agent's. Raises an `EngineError`."""
        if not self._command:
            raise Unavailable(f"engine `{self.name}` has no command", next=HOW)
        from parallelai.engines.acp_pool import Pool  # the protocol's SDK takes half a second to load
        from parallelai.engines.acp_session import take_turn

        if self._pool is None:
            self._pool = Pool()
        launch = await asyncio.to_thread(self._launch, request)
        try:
            async with asyncio.timeout(request.timeout_seconds) as wall:
                return await take_turn(self._pool, launch, request, port, wall)
        except TimeoutError:
            if not wall.expired():
                raise
            said = f"`{self.name}` was not done after {request.timeout_seconds:g} s"
            raise TimedOut(said, next="raise `timeout`, or make the task smaller") from None
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    def _launch(self, request: Request) -> Launch:
        """Say how the agent of a request is started. Looks at files; makes the agent's own home, where it has one."""
        preset, entry = self._preset, self._entry
        key = _key(self.name, entry, preset)
        wanted = Wanted(
            model=request.model or entry.model,
            base_url=entry.base_url,
            key_env=preset.key_env if key is not None else None,
            max_turns=request.max_turns or entry.max_turns,
        )
        text = settings_text(preset, wanted) if preset.settings is not None else None
        env = self._environment(request, wanted, key, text)
        readable = [str(_below(env, path)) for path in preset.read_only]
        readable += installation(self._command[0], env.get("PATH"))
        if preset.home_env is not None and key is not None:
            home = _own_home(preset, text or "{}")
            env[preset.home_env] = str(home)
            folders: tuple[str, ...] = (str(home),)
            readable.append(str(home / preset.home_settings))
        else:
            home = Path(env.get("HOME") or Path.home())
            folders = _login_folders(preset, env)
        port = loopback_port(entry.base_url)
        program = Program(
            argv=(*self._command, *_model_args(preset, wanted), *entry.args),
            cwd=Path(request.root),
            env=env,
            grace_seconds=request.grace_seconds,
            max_output_bytes=MAX_OUTPUT_BYTES,
            run=request.run,
            label=request.task,
            confinement=confinement(
                request,
                writable=folders,
                readable=tuple(readable),
                hidden_except=folders,
                ports=() if port is None else (port,),
                network=entry.network or "on",
            ),
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
        )

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
        """Give the command that opens a session in the agent's own interface, where there is one."""
        return [word.replace("{session}", session) for word in self._preset.attach] or None

    async def aclose(self) -> None:
        """End the agents that still run."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()


@dataclass(frozen=True, slots=True)
class Launch:
    """How an agent is started for a turn.

    `settings` is a document for a file that the variable `settings_env` names. `session_model` is to be set by
    an option of the session.
    """

    name: str
    program: Program
    is_shared: bool = False
    settings_env: str | None = None
    settings: str | None = None
    session_model: str | None = None
    counts_last_call: bool = False


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


def _key(name: str, entry: EngineEntry, preset: Preset) -> str | None:
    """Read the key that an entry names, or that a user without a login has in the environment.

    Raises `Unavailable` where the one that is named is not there.
    """
    if entry.api_key_env is not None:
        if key := os.environ.get(entry.api_key_env):
            return key
        raise Unavailable(
            f"engine `{name}`: `{entry.api_key_env}` is not set", next=f"set {entry.api_key_env}"
        )
    if entry.api_key_file is None:
        is_logged_in = preset.login_file is None or (Path.home() / preset.login_file).exists()
        return None if is_logged_in else os.environ.get(preset.key_env or "") or None
    path = Path(entry.api_key_file).expanduser()
    try:
        with path.open("rb") as file:
            key = file.read(_MAX_KEY_BYTES).decode("utf-8").strip()
    except (OSError, ValueError) as error:
        said = f"engine `{name}`: the key's file `{path}` cannot be read: {error}"
        raise Unavailable(said, next="correct `api_key_file`") from None
    if not key:
        raise Unavailable(f"engine `{name}`: the key's file `{path}` is empty", next="write the key into it")
    return key


def _own_home(preset: Preset, settings: str) -> Path:
    """Make a home for an agent that is used with a key: one for each set of settings, kept for its sessions."""
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


def _login_folders(preset: Preset, env: dict[str, str]) -> tuple[str, ...]:
    """Give the folders of the agent's login and sessions, made where they are missing, as it would itself."""
    folders = [_below(env, name) for name in preset.login]
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"`{folder}`, the agent's own folder, cannot be made: {error.strerror}"
            ) from None
    return tuple(str(folder) for folder in folders)


_XDG = {
    ".config/": "XDG_CONFIG_HOME",
    ".local/share/": "XDG_DATA_HOME",
    ".local/state/": "XDG_STATE_HOME",
    ".cache/": "XDG_CACHE_HOME",
}


def _below(env: dict[str, str], name: str) -> Path:
    """Find a folder below HOME, or where the XDG variables that the agent sees put it."""
    for prefix, variable in _XDG.items():
        if name.startswith(prefix) and env.get(variable, "").startswith("/"):
            return Path(env[variable]) / name.removeprefix(prefix)
    return Path(env.get("HOME") or Path.home()) / name


def installation(program: str, path: str | None = None) -> list[str]:
    """Give the folders that a program lies in, which a sandbox may else not show (below a temporary folder)."""
    found = find(program, path)
    if found is None:
        return []
    real = Path(found).resolve()
    modules = [folder for folder in real.parents if folder.name == "node_modules"]
    folder = modules[-1] if modules else real.parent
    return [str(Path(found).parent), str(folder)]


def package_version(program: Path) -> str | None:
    """Read the version of a program that npm installed, from its `package.json`; None for any other."""
    for folder in list(program.resolve().parents)[:4]:
        try:
            with (folder / "package.json").open("rb") as file:
                data: Any = json.loads(file.read(1024 * 1024))
        except (OSError, ValueError):
            continue
        version = data.get("version") if isinstance(data, dict) else None
        return version[:50] if isinstance(version, str) else None
    return None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that counts of a group: an engine's before any other, however deep it lies."""
    found: list[BaseException] = []
    todo: list[BaseException] = [errors]
    while todo:
        error = todo.pop(0)
        if isinstance(error, BaseExceptionGroup):
            todo += error.exceptions
        else:
            found.append(error)
    return next((error for error in found if isinstance(error, EngineError)), found[0])
