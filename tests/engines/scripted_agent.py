"""A small agent of the Agent Client Protocol, written with the SDK's agent side, that does what its prompt says.

The prompt holds a fenced block of the language `agent`: a JSON list of steps, done in order. Run it as a program;
`AGENT` in its environment holds JSON with what it can do: {"load": true, "resume": true, "close": true, "models": […],
"version": 1, "auth": true, "replay": n}. Sessions are kept in files below its HOME.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import acp
from acp import schema

CAN = json.loads(os.environ.get("AGENT", "{}"))
_BLOCK = re.compile(r"```agent\s*\n(.*?)\n```", re.DOTALL)


def block(*steps: dict[str, Any]) -> str:
    """Write steps as they stand in a prompt."""
    return "```agent\n" + json.dumps(list(steps)) + "\n```\n"


def write(text: str) -> None:
    """Write to stdout, past the SDK, which made it non-blocking."""
    data = memoryview(text.encode())
    while data:
        select.select([], [1], [])
        try:
            data = data[os.write(1, data[:4096]) :]
        except BlockingIOError:
            continue


class ScriptedAgent:
    """What the protocol calls."""

    def __init__(self) -> None:
        self.client: Any = None
        self.roots: dict[str, str] = {}
        self.cancelled: dict[str, asyncio.Event] = {}
        self.responses: dict[str, dict[str, Any]] = {}
        self.saids: dict[str, list[str]] = {}

    def on_connect(self, conn: Any) -> None:
        self.client = conn

    async def initialize(self, protocol_version: int, client_capabilities: Any = None, **_: Any) -> Any:
        fs = client_capabilities.fs
        self.offered = [fs.read_text_file, fs.write_text_file, client_capabilities.terminal]
        session = schema.SessionCapabilities(
            resume=schema.SessionResumeCapabilities() if CAN.get("resume") else None,
            close=schema.SessionCloseCapabilities() if CAN.get("close") else None,
        )
        able = schema.AgentCapabilities(load_session=bool(CAN.get("load")), session_capabilities=session)
        return schema.InitializeResponse(protocol_version=CAN.get("version", 1), agent_capabilities=able)

    def _options(self) -> Any:
        if "models" not in CAN:
            return None
        values = [schema.SessionConfigSelectOption(value=name, name=name.title()) for name in CAN["models"]]
        option = schema.SessionConfigOptionSelect(
            id="m",
            name="Model",
            category="model",
            type="select",
            current_value=CAN["models"][0],
            options=values,
        )
        return [option]

    async def new_session(self, cwd: str, **_: Any) -> Any:
        if CAN.get("auth"):
            raise acp.RequestError.auth_required()
        id = uuid.uuid4().hex
        self._file(id).parent.mkdir(exist_ok=True)
        self._file(id).write_text("[]")
        self._open(id, cwd)
        return schema.NewSessionResponse(session_id=id, config_options=self._options())

    def _open(self, id: str, cwd: str) -> None:
        self.roots[id] = cwd
        self.cancelled[id] = asyncio.Event()
        self.model = None

    def _file(self, id: str) -> Path:
        return Path.home() / "sessions" / f"{id}.json"

    async def load_session(self, cwd: str, session_id: str, **_: Any) -> Any:
        if not self._file(session_id).exists():
            raise acp.RequestError(-32602, f"Session not found: {session_id}")
        self._open(session_id, cwd)
        self.replaying = asyncio.create_task(self._replay(session_id))
        return schema.LoadSessionResponse(config_options=self._options())

    async def _replay(self, id: str) -> None:
        """Tell the past, as gemini does: also after the load was answered."""
        for said, answered in json.loads(self._file(id).read_text()):
            await self.client.session_update(id, acp.update_user_message_text(said))
            await self.client.session_update(id, acp.update_agent_message_text(answered))

    async def resume_session(self, session_id: str, cwd: str, **_: Any) -> Any:
        self._open(session_id, cwd)
        return schema.ResumeSessionResponse(config_options=self._options())

    async def close_session(self, session_id: str, **_: Any) -> Any:
        print(f"closed {session_id}", file=sys.stderr)
        return schema.CloseSessionResponse()

    async def set_config_option(self, config_id: str, session_id: str, value: Any, **_: Any) -> Any:
        self.model = value
        return schema.SetSessionConfigOptionResponse(config_options=self._options())

    async def cancel(self, session_id: str, **_: Any) -> None:
        print("cancelled", file=sys.stderr, flush=True)
        self.cancelled[session_id].set()

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> Any:
        text = "".join(part.text for part in prompt)
        self.saids[session_id] = []
        self.responses[session_id] = {"stop_reason": "end_turn"}
        found = _BLOCK.findall(text)
        self.text, self.parts = text, [part.text for part in prompt]
        for step in json.loads(found[-1]) if found else [{"say": text}]:
            ((verb, what), *_) = step.items()
            await getattr(self, f"do_{verb}")(session_id, what, step)
        past = json.loads(self._file(session_id).read_text())
        self._file(session_id).write_text(json.dumps([*past, (text, "".join(self.saids[session_id]))]))
        return schema.PromptResponse(**self.responses[session_id])

    # Steps

    async def do_say(self, id: str, what: str, _: Any) -> None:
        self.saids[id].append(what)
        await self.client.session_update(id, acp.update_agent_message_text(what))

    async def do_think(self, id: str, what: str, _: Any) -> None:
        await self.client.session_update(id, acp.update_agent_thought_text(what))

    async def do_tell(self, id: str, what: str, _: Any) -> None:
        """Say something about oneself."""
        known = {
            "offered": lambda: self.offered,
            "model": lambda: self.model,
            "cwd": lambda: [self.roots[id], os.getcwd(), os.environ.get("PWD")],
            "env": lambda: sorted(os.environ),
            "parts": lambda: self.parts,
            "pid": os.getpid,
            "past": lambda: json.loads(self._file(id).read_text()),
        }
        await self.do_say(id, json.dumps(known[what]()), _)

    async def do_write(self, id: str, what: str, step: Any) -> None:
        """Write a file, with the reports that go with it."""
        path = str(Path(self.roots[id]) / what)
        start = acp.start_tool_call(f"w-{what}", f"Write {what}", kind="edit", status="in_progress")
        await self.client.session_update(id, start)
        try:
            Path(path).write_text(step.get("text", ""))
        except OSError as error:
            await self.client.session_update(id, acp.update_tool_call(f"w-{what}", status="failed"))
            await self.do_say(id, f"[{error.strerror}]", step)
            return
        content = [acp.tool_diff_content(path, step.get("text", ""))]
        await self.client.session_update(
            id, acp.update_tool_call(f"w-{what}", status="completed", content=content)
        )

    async def do_tool(self, id: str, what: dict[str, Any], _: Any) -> None:
        """Send a report of a tool as it stands."""
        self.raw({"sessionUpdate": "tool_call", "title": "t", **what}, id)

    async def do_update(self, id: str, what: Any, _: Any) -> None:
        self.raw(what, id)

    def raw(self, update: Any, id: str) -> None:
        params = {"sessionId": id, "update": update}
        write(json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": params}) + "\n")

    async def do_plan(self, id: str, what: list[list[str]], _: Any) -> None:
        entries = [acp.plan_entry(text, status=status) for text, status in what]
        await self.client.session_update(id, acp.update_plan(entries))

    async def do_ask(self, id: str, what: list[str], step: Any) -> None:
        """Ask for leave, with options of these kinds, and say what was chosen."""
        options = [schema.PermissionOption(option_id=f"o-{kind}", name=kind, kind=kind) for kind in what]
        call = schema.ToolCallUpdate(
            tool_call_id="asked",
            kind=step.get("kind"),
            title=step.get("title"),
            raw_input=step.get("input"),
            locations=[schema.ToolCallLocation(path=path) for path in step.get("places", ())],
        )
        answer = await self.client.request_permission(session_id=id, tool_call=call, options=options)
        await self.do_say(id, getattr(answer.outcome, "option_id", "cancelled"), step)

    async def do_request(self, id: str, what: str, _: Any) -> None:
        """Ask the client for what it does not offer."""
        try:
            await getattr(self.client, what)(path="/etc/passwd", session_id=id)
        except acp.RequestError as error:
            await self.do_say(id, f"refused {error.code}", _)

    async def do_print(self, id: str, what: str, _: Any) -> None:
        write(what)

    async def do_complain(self, id: str, what: str, _: Any) -> None:
        print(what, file=sys.stderr, flush=True)

    async def do_flood(self, id: str, what: int, step: Any) -> None:
        line = json.dumps(
            {
                "jsonrpc": "2.0",
                "method": "session/update",
                "params": {"sessionId": id, "update": step["update"]},
            }
        )
        write((line + "\n") * what)

    async def do_spawn(self, id: str, what: list[str], _: Any) -> None:
        child = subprocess.Popen(
            what, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        await self.do_say(id, str(child.pid), _)

    async def do_touch(self, id: str, what: str, _: Any) -> None:
        (Path(self.roots[id]) / what).touch()

    async def do_await(self, id: str, what: str, _: Any) -> None:
        """Wait for a file, as the sign of a test."""
        while not (Path(self.roots[id]) / what).exists():
            await asyncio.sleep(0.01)

    async def do_hang(self, id: str, what: str, _: Any) -> None:
        """Wait for the cancel; `deaf`: for ever."""
        if what == "deaf":
            await asyncio.Event().wait()
        await self.cancelled[id].wait()
        self.responses[id]["stop_reason"] = "cancelled"

    async def do_report(self, id: str, what: dict[str, Any], _: Any) -> None:
        """Write down a call to its model, as opencode does."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with Path(os.environ["PARALLELAI_REPORT"]).open("a") as file:
            file.write(json.dumps({"at": at, "session": id, **what}, indent=2) + "\n")

    async def do_exit(self, id: str, what: int, _: Any) -> None:
        sys.stderr.flush()
        os._exit(what)

    async def do_kill(self, id: str, what: int, _: Any) -> None:
        os.kill(os.getpid(), what)

    async def do_error(self, id: str, what: dict[str, Any], _: Any) -> None:
        raise acp.RequestError(what["code"], what.get("message", ""), what.get("data"))

    async def do_stop(self, id: str, what: str, _: Any) -> None:
        self.responses[id]["stop_reason"] = what

    async def do_usage(self, id: str, what: dict[str, Any], _: Any) -> None:
        self.responses[id]["usage"] = what

    async def do_meta(self, id: str, what: dict[str, Any], _: Any) -> None:
        self.responses[id]["field_meta"] = what

    async def do_cost(self, id: str, what: float, _: Any) -> None:
        self.raw(
            {
                "sessionUpdate": "usage_update",
                "used": 1,
                "size": 2,
                "cost": {"amount": what, "currency": "USD"},
            },
            id,
        )


if __name__ == "__main__":
    asyncio.run(acp.run_agent(ScriptedAgent(), use_unstable_protocol=True))
