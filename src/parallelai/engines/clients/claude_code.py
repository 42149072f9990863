"""The engine `claude-code`: Claude Code without its screen, by its stream of JSON lines both ways.

    engines:
      claude: {use: claude-code, model: sonnet, max_turns: 40}

Who is logged in to it needs no key. With a key or a `base_url` the login is not sent anywhere. Of what a
checkout would have it run (hooks, commands, settings, MCP servers) nothing counts until the project is
trusted. Further options go into `args`: `[--fallback-model, haiku]`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from parallelai.engines.clients.claude_stream import ClaudeReader, ClaudeVoice
from parallelai.engines.clients.engine import MIB, Client, ClientEngine, Launch, Login
from parallelai.engines.clients.home import Home
from parallelai.engines.models.wire.structure import structure_of
from parallelai.engines.protocol import Capabilities, Request
from parallelai.records import Usage

if TYPE_CHECKING:
    from parallelai.engines.models.wire.records import Structure

MAX_ARGUMENT_BYTES = 100_000
"""The kernel takes 128 KiB for one argument."""
_EDITORS = ("Edit", "MultiEdit", "NotebookEdit", "Write")
_NEVER = ("AskUserQuestion", "EnterWorktree", "ExitWorktree", "CronCreate", "ScheduleWakeup")
"""Tools of a session with a person, and those that leave something behind."""
_CONFINED = ("Bash", "WebFetch", "WebSearch")
_LONGEST_SLUG = 200
_ENV = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_RETRIES": "1",  # with 0 it does not say how long a server asks to wait
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
}

CLIENT = Client(
    use="claude-code",
    program="claude",
    how="npm install -g @anthropic-ai/claude-code@2.1.329",
    provider="anthropic",
    address="https://api.anthropic.com",
    memory_bytes=300 * MIB,  # of 203 to 274 seen of one session alone
    keys=frozenset({"max_turns"}),
    login=Login(
        variable="CLAUDE_CONFIG_DIR",
        folder=".claude",
        beside=(".claude.json",),
        obeyed=(
            "settings.json",
            "settings.local.json",
            "CLAUDE.md",
            "keybindings.json",
            "agents",
            "commands",
            "hooks",
            "output-styles",
            "plugins",
            "rules",
            "skills",
            "workflows",
        ),
        own=("plugins/store",),
        state=(".claude.json",),
        variables=(
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
        ),
    ),
)


class ClaudeCodeEngine(ClientEngine):
    """Claude Code (see the module)."""

    client = CLIENT
    capabilities = Capabilities(
        answers=frozenset({"text", "findings", "schema", "change"}),
        edits=True,
        structured=True,
        streams=True,
        resumes=True,
        interrupts=True,
        asks=True,
        attaches=True,
        is_remote=True,
        works_in_folder=True,
        takes_instructions=True,
        takes_price=True,
        messages=True,
    )

    def reader(self, request: Request, launch: Launch) -> ClaudeReader:
        """Make the reader of one turn."""
        reader = ClaudeReader(self.name, request.root, self.limit_key(request))
        reader.session = request.session
        return reader

    def voice(self) -> ClaudeVoice:
        """Messages and answers reach a running session."""
        return ClaudeVoice()

    def first_input(self, request: Request) -> bytes:
        """The prompt, as the first line of its input."""
        return ClaudeVoice().message(request.prompt)

    def own_environment(self, key: str | None) -> dict[str, str]:
        """Keep it quiet, and give it its key and server."""
        env = {**_ENV, **self._server()}
        if key is not None:
            env["ANTHROPIC_API_KEY"] = key
        elif self.entry.base_url is not None:
            env["ANTHROPIC_AUTH_TOKEN"] = "none"  # noqa: S105 - else the user's login would go there
        return env

    def arguments(self, request: Request, launch: Launch) -> list[str]:
        """Its command line, after the program's name."""
        argv = ["-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
        argv += ["--include-partial-messages", *self._permissions(request, launch)]
        if not self.context.trusted:
            argv += ["--setting-sources", "user", "--strict-mcp-config"]
        model = self.model_of(request)
        if model:
            argv += ["--model", model]
        turns = request.max_turns or self.entry.max_turns
        if turns is not None:
            argv += ["--max-turns", str(turns)]
        if request.session is not None:
            argv += ["--resume", request.session]
        if instructions := self._instructions(request):
            argv += ["--append-system-prompt", instructions]
        if (structure := _structure(request)) is not None:
            argv += ["--json-schema", json.dumps(structure.schema)]
        return argv

    def _permissions(self, request: Request, launch: Launch) -> list[str]:
        """What it may do unasked: the rest is asked through the port, or denied where nothing is edited."""
        edits = request.workspace is not None and request.workspace.edits
        denied = [*_NEVER] if edits else [*_NEVER, *_EDITORS]
        is_free = (
            launch.is_confined and request.workspace is not None and request.workspace.permissions == "auto"
        )
        argv = ["--permission-mode", "acceptEdits" if edits else "default"]
        argv += ["--permission-prompt-tool", "stdio", "--disallowedTools", ",".join(denied)]
        return [*argv, "--allowedTools", ",".join(_CONFINED)] if is_free else argv

    def _instructions(self, request: Request) -> str:
        texts = [request.instructions or ""]
        if not self.context.trusted and (Path(request.root) / "CLAUDE.md").is_file():
            texts.append("The project's own instructions are in CLAUDE.md: read them before you begin.")
        text = "\n\n".join(part for part in texts if part)
        return text.encode("utf-8", "replace")[:MAX_ARGUMENT_BYTES].decode("utf-8", "ignore")

    def home_writable(self, home: Home, request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of all projects' sessions and memories only this folder's are to be written."""
        slug = re.sub(r"[^A-Za-z0-9]", "-", os.path.realpath(request.root))
        projects = home.folder / "projects"
        if len(slug) > _LONGEST_SLUG:
            return (), ()
        own = projects / slug
        own.mkdir(parents=True, exist_ok=True)
        return (str(own),), (str(projects),)

    def answer_text(self, reader: ClaudeReader, request: Request) -> str:
        """The structured answer where one was asked for, else the text."""
        structure = _structure(request)
        if structure is None or reader.structured is None:
            return reader.text
        found = reader.structured
        if structure.is_wrapped and isinstance(found, dict) and "value" in found:
            found = found["value"]
        return json.dumps(found)

    def priced(self, usage: Usage, reader: ClaudeReader, launch: Launch) -> Usage:
        """A subscription has no price for a call; a server of this machine is free; else it says itself."""
        if self.entry.price is not None or launch.is_free:
            return super().priced(usage, reader, launch)
        if reader.has_own_login and self.entry.base_url is None:
            return dataclasses.replace(usage, usd=None, basis="subscription")
        return usage

    def attach(self, session: str) -> list[str] | None:
        """Open a session in Claude Code itself, which asks the entry's server, with the key of its variable."""
        opening = self.opening(session, **self._server())
        if opening is None:
            return None
        name = self.entry.api_key_env
        helper = json.dumps({"apiKeyHelper": f"printenv {shlex.quote(name)}"}) if name else None
        return [*opening, *(["--settings", helper] if helper else []), "--resume", session]

    def _server(self) -> dict[str, str]:
        """The variable that names a server of one's own."""
        if self.entry.base_url is None:
            return {}
        return {"ANTHROPIC_BASE_URL": self.entry.base_url.rstrip("/").removesuffix("/v1")}


def _structure(request: Request) -> Structure | None:
    if request.output not in {"findings", "schema"}:
        return None
    found = structure_of(request.output, request.schema)
    return found if found is not None and len(json.dumps(found.schema)) < MAX_ARGUMENT_BYTES else None
