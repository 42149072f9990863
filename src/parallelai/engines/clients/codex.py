"""The engine `codex`: OpenAI's Codex without its screen, by `codex exec --json`.

    engines:
      codex: {use: codex, model: gpt-6.1-sol}
      own:   {use: codex, base_url: http://127.0.0.1:8000/v1, model: small, api_key_env: LOCAL_KEY}

Who is logged in to it needs no key. A `base_url` is a server of the Responses API. Its own sandbox is used
where ours is not: inside ours it has all that ours leaves it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parallelai.engines.clients.codex_program import own_program
from parallelai.engines.clients.codex_stream import CodexReader, recorded_total
from parallelai.engines.clients.engine import MIB, Client, ClientEngine, Launch, Login
from parallelai.engines.models.wire.structure import structure_of
from parallelai.engines.planted import read_plain
from parallelai.engines.protocol import Capabilities, Request
from parallelai.errors import Rejected
from parallelai.processes.removing import remove
from parallelai.processes.temporary import make_folder
from parallelai.records import Usage

if TYPE_CHECKING:
    from parallelai.engines.models.wire.records import Structure

PROVIDER = "parallelai"
KEY_VARIABLE = "PARALLELAI_CODEX_KEY"
MAX_INSTRUCTIONS_BYTES = 100_000
_QUIET = ("plugins", "remote_plugin", "apps")
_SETTINGS = ("check_for_update_on_startup=false", "analytics.enabled=false", "feedback.enabled=false")
_LET_OFF = ("danger-full-access", "--dangerously-bypass-approvals-and-sandbox", "--yolo")

CLIENT = Client(
    use="codex",
    program="codex",
    how="npm install -g @openai/codex@0.169.0",
    provider="openai",
    address="https://api.openai.com/v1",
    memory_bytes=220 * MIB,  # of 148 to 194 seen of one session alone
    login=Login(
        variable="CODEX_HOME",
        folder=".codex",
        obeyed=(
            "config.toml",
            "AGENTS.md",
            "AGENTS.override.md",
            "hooks.json",
            "agents",
            "hooks",
            "plugins",
            "prompts",
            "rules",
            "skills",
        ),
        own=("skills/.system",),
        variables=("CODEX_API_KEY",),
    ),
)


class CodexEngine(ClientEngine):
    """Codex (see the module)."""

    client = CLIENT
    capabilities = Capabilities(
        answers=frozenset({"text", "findings", "schema", "change"}),
        edits=True,
        structured=True,
        streams=True,
        resumes=True,
        attaches=True,
        is_remote=True,
        works_in_folder=True,
        takes_instructions=True,
        takes_price=True,
    )

    def prepare(self, request: Request, launch: Launch) -> Launch:
        """Find its own program, and note what a session that goes on has taken until now."""
        if self.entry.base_url is None and launch.key is None and not _has_login(launch):
            raise Rejected(f"nobody is logged in to `{self.name}`", next="run `codex login`, or name a key")
        if found := own_program(launch.path):
            program, variables = found
            launch = dataclasses.replace(launch, path=program, env={**variables, **launch.env})
        # git would complain aloud of a file that codex's own sandbox closes to it
        if not launch.is_confined and not _is_let_off(self.entry.args):
            env = {name: value for name, value in launch.env.items() if name != "GIT_TRACE_REFS"}
            launch = dataclasses.replace(launch, env=env)
        return dataclasses.replace(
            launch, extra={"before": recorded_total(launch.home.folder, request.session)}
        )

    def lay_out(self, request: Request, launch: Launch) -> Launch:
        """Write the schema down, in a folder of its own."""
        structure = _structure(request)
        if structure is None:
            return launch
        folder = make_folder("schema")
        name = folder / "schema.json"
        try:
            name.write_text(json.dumps(structure.schema), encoding="utf-8")
        except BaseException:  # no room, or an interrupt: nobody else knows of it
            remove(folder)
            raise
        confined = launch.confinement
        if confined is not None:
            confined = dataclasses.replace(confined, readable=(*confined.readable, str(name)))
        return dataclasses.replace(launch, extra={**launch.extra, "schema": str(name)}, confinement=confined)

    def finish(self, reader: CodexReader, launch: Launch) -> None:
        """Take the schema away; read what was taken from the session's file where no final event said it."""
        if "schema" in launch.extra:
            remove(Path(launch.extra["schema"]).parent)
        if reader.total is None:
            reader.total = recorded_total(launch.home.folder, reader.session)

    def reader(self, request: Request, launch: Launch) -> CodexReader:
        """Make the reader of one turn."""
        reader = CodexReader(self.name, request.root, self.limit_key(request), launch.extra.get("before"))
        reader.session = request.session
        reader.model = self.model_of(request) or None
        return reader

    def own_environment(self, key: str | None) -> dict[str, str]:
        """Give it its key: for a server of one's own in a variable of another name."""
        if self.entry.base_url is not None:
            return {KEY_VARIABLE: key or "none"}
        return {} if key is None else {"CODEX_API_KEY": key}

    def arguments(self, request: Request, launch: Launch) -> list[str]:
        """Its command line, after the program's name; the prompt comes by standard input."""
        argv = [
            "exec",
            *(["resume"] if request.session is not None else []),
            "--json",
            "--skip-git-repo-check",
        ]
        for feature in _QUIET:
            argv += ["--disable", feature]
        for setting in (*_SETTINGS, f'sandbox_mode="{_sandbox(request, launch)}"', *self._provider()):
            argv += ["-c", setting]
        if instructions := (request.instructions or "").encode("utf-8", "replace")[:MAX_INSTRUCTIONS_BYTES]:
            argv += ["-c", f"developer_instructions={json.dumps(instructions.decode('utf-8', 'ignore'))}"]
        model = self.model_of(request)
        if model:
            argv += ["--model", model]
        if "schema" in launch.extra:
            argv += ["--output-schema", launch.extra["schema"]]
        return [*argv, *([request.session] if request.session is not None else []), "-"]

    def _provider(self, key: str = KEY_VARIABLE) -> list[str]:
        """A server of one's own, which is asked once for each call; the provider that it has cannot be changed.

        `key` is the variable that its key is in.
        """
        if self.entry.base_url is None:
            return []
        settings = {
            "name": PROVIDER,
            "base_url": self.entry.base_url.rstrip("/").removesuffix("/v1") + "/v1",
            "env_key": key,
            "wire_api": "responses",
        }
        pairs = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
        pairs += ["request_max_retries=0", "stream_max_retries=0"]
        return [f'model_provider="{PROVIDER}"', f"model_providers.{PROVIDER}={{{', '.join(pairs)}}}"]

    def answer_text(self, reader: CodexReader, request: Request) -> str:
        """The last message."""
        return reader.text

    def priced(self, usage: Usage, reader: CodexReader, launch: Launch) -> Usage:
        """A subscription has no price for a call."""
        own = self.entry.price is None and launch.key is None and self.entry.base_url is None
        if own and not launch.env.get("CODEX_API_KEY") and not _is_by_key(launch.home.folder):
            return dataclasses.replace(usage, usd=None, basis="subscription")
        return super().priced(usage, reader, launch)

    def attach(self, session: str) -> list[str] | None:
        """Open a session in Codex itself, which asks the entry's server, with the key of its variable."""
        opening = self.opening(session)
        if opening is None:
            return None
        settings = self._provider(self.entry.api_key_env or KEY_VARIABLE)
        return [*opening, "resume", *(word for each in settings for word in ("-c", each)), session]


def _is_let_off(args: Sequence[str]) -> bool:
    """Whether arguments of a user take codex's own sandbox away."""
    return any(word in argument for argument in args for word in _LET_OFF)


def _sandbox(request: Request, launch: Launch) -> str:
    """Inside our confinement its own would only fail; without, its own is better than none."""
    if launch.is_confined:
        return "danger-full-access"
    return "workspace-write" if request.workspace is not None and request.workspace.edits else "read-only"


def _structure(request: Request) -> Structure | None:
    """What the server is to hold the answer to: only what its strict form can say, else the prompt's words."""
    if request.output not in {"findings", "schema"}:
        return None
    found = structure_of(request.output, request.schema)
    return found if found is not None and found.is_strict and not found.is_wrapped else None


def _has_login(launch: Launch) -> bool:
    """Say whether codex could know who it works for; without, it would only try for half a minute.

    A login may also lie in a keyring, or be another provider's, which its settings say.
    """
    folder = launch.home.folder
    if launch.env.get("CODEX_API_KEY") or (folder / "auth.json").is_file():
        return True
    try:
        settings = read_plain(folder / "config.toml", MIB).decode("utf-8", "replace")
    except OSError:
        return False
    return any(word in settings for word in ("model_provider", "credentials_store"))


def _is_by_key(home: Path) -> bool:
    """Say whether who is logged in pays for each call: by a key, not by a subscription."""
    try:
        data: Any = json.loads(read_plain(home / "auth.json", MIB))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and bool(data.get("OPENAI_API_KEY")) and not data.get("tokens")
