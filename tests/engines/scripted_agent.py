"""A small agent of the Agent Client Protocol that does what its prompt says.

It speaks JSON-RPC by itself: hundreds are started, and the SDK takes most of a start's time. Our side is the SDK's.
The prompt holds a fenced block of the language `agent`: a JSON list of steps, done in order. Run it as a program;
`AGENT` in its environment holds JSON with what it can do: {"load": true, "resume": true, "close": true, "models": […],
"version": 1, "auth": true, "replay": n}. Sessions are kept in files below its HOME.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CAN = json.loads(os.environ.get("AGENT", "{}"))
_BLOCK = re.compile(r"```agent\s*\n(.*?)\n```", re.DOTALL)


def block(*steps: dict[str, Any]) -> str:
    """Write steps as they stand in a prompt."""
    return "```agent\n" + json.dumps(list(steps)) + "\n```\n"


def write(text: str) -> None:
    """Write to stdout, all of it."""
    data = memoryview(text.encode())
    while data:
        data = data[os.write(1, data) :]


def chunk(kind: str, text: str) -> dict[str, Any]:
    """Words, as an update of a session."""
    return {"sessionUpdate": f"{kind}_chunk", "content": {"type": "text", "text": text}}


class RequestError(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        self.answer = {"code": code, "message": message, **({"data": data} if data is not None else {})}
        super().__init__(message)


class ScriptedAgent:
    """What the protocol calls, by the last part of a method's name."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.asked: dict[int, asyncio.Future[Any]] = {}
        self.roots: dict[str, str] = {}
        self.cancelled: dict[str, asyncio.Event] = {}
        self.responses: dict[str, dict[str, Any]] = {}
        self.saids: dict[str, list[str]] = {}

    async def run(self) -> None:
        """Do what comes in by stdin, until it is closed."""
        reader = asyncio.StreamReader(limit=2**26)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        works = set()
        while line := await reader.readline():
            message = json.loads(line)
            if "method" in message:
                works.add(asyncio.create_task(self._answer(message)))
            elif asked := self.asked.pop(message["id"], None):  # what a script prints may be answered too
                asked.set_result(message)

    async def _answer(self, message: dict[str, Any]) -> None:
        done: dict[str, Any] = {}
        try:
            call = getattr(self, message["method"].rpartition("/")[2])
            done["result"] = await call(**(message.get("params") or {}))
        except RequestError as error:
            done["error"] = error.answer
        except Exception as error:
            done["error"] = {"code": -32603, "message": "Internal error", "data": {"details": str(error)}}
        if "id" in message:
            write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **done}) + "\n")

    async def _request(self, method: str, **params: Any) -> Any:
        """Ask the client."""
        id = next(self.numbers)
        self.asked[id] = asyncio.get_running_loop().create_future()
        write(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}) + "\n")
        answer = await self.asked[id]
        if "error" in answer:
            raise RequestError(**answer["error"])
        return answer["result"]

    async def initialize(self, clientCapabilities: dict[str, Any] | None = None, **_: Any) -> Any:
        given = clientCapabilities or {}
        fs = given.get("fs", {})
        offered = [fs.get("readTextFile"), fs.get("writeTextFile"), given.get("terminal")]
        self.offered = [bool(each) for each in offered]
        able = {
            "loadSession": bool(CAN.get("load")),
            "sessionCapabilities": {name: {} for name in ("resume", "close") if CAN.get(name)},
        }
        return {"protocolVersion": CAN.get("version", 1), "agentCapabilities": able}

    def _options(self) -> dict[str, Any]:
        if "models" not in CAN:
            return {}
        option = {
            "id": "m",
            "name": "Model",
            "category": "model",
            "type": "select",
            "currentValue": CAN["models"][0],
            "options": [{"value": name, "name": name.title()} for name in CAN["models"]],
        }
        return {"configOptions": [option]}

    async def new(self, cwd: str, **_: Any) -> Any:
        if CAN.get("auth"):
            raise RequestError(-32000, "Authentication required")
        id = uuid.uuid4().hex
        self._file(id).parent.mkdir(exist_ok=True)
        self._file(id).write_text("[]")
        self._open(id, cwd)
        return {"sessionId": id, **self._options()}

    def _open(self, id: str, cwd: str) -> None:
        self.roots[id] = cwd
        self.cancelled[id] = asyncio.Event()
        self.model = None

    def _file(self, id: str) -> Path:
        return Path.home() / "sessions" / f"{id}.json"

    async def load(self, cwd: str, sessionId: str, **_: Any) -> Any:
        if not self._file(sessionId).exists():
            raise RequestError(-32602, f"Session not found: {sessionId}")
        self._open(sessionId, cwd)
        self.replaying = asyncio.create_task(self._replay(sessionId))
        return self._options()

    async def _replay(self, id: str) -> None:
        """Tell the past, as gemini does: also after the load was answered."""
        for said, answered in json.loads(self._file(id).read_text()):
            self.raw(chunk("user_message", said), id)
            self.raw(chunk("agent_message", answered), id)
            await asyncio.sleep(0)

    async def resume(self, sessionId: str, cwd: str, **_: Any) -> Any:
        self._open(sessionId, cwd)
        return self._options()

    async def close(self, sessionId: str, **_: Any) -> Any:
        print(f"closed {sessionId}", file=sys.stderr)
        return {}

    async def set_config_option(self, sessionId: str, value: Any, **_: Any) -> Any:
        self.model = value
        return self._options()

    async def cancel(self, sessionId: str, **_: Any) -> None:
        print("cancelled", file=sys.stderr, flush=True)
        self.cancelled[sessionId].set()

    async def prompt(self, sessionId: str, prompt: list[dict[str, Any]], **_: Any) -> Any:
        self.parts = [part["text"] for part in prompt]
        self.text = text = "".join(self.parts)
        self.saids[sessionId] = []
        self.responses[sessionId] = {"stopReason": "end_turn"}
        found = _BLOCK.findall(text)
        for step in json.loads(found[-1]) if found else [{"say": text}]:
            ((verb, what), *_) = step.items()
            await getattr(self, f"do_{verb}")(sessionId, what, step)
            await asyncio.sleep(0)
        past = json.loads(self._file(sessionId).read_text())
        self._file(sessionId).write_text(json.dumps([*past, (text, "".join(self.saids[sessionId]))]))
        return self.responses[sessionId]

    # Steps

    async def do_say(self, id: str, what: str, _: Any) -> None:
        self.saids[id].append(what)
        self.raw(chunk("agent_message", what), id)

    async def do_think(self, id: str, what: str, _: Any) -> None:
        self.raw(chunk("agent_thought", what), id)

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
        call = {"toolCallId": f"w-{what}", "title": f"Write {what}", "kind": "edit", "status": "in_progress"}
        self.raw({"sessionUpdate": "tool_call", **call}, id)
        done = {"sessionUpdate": "tool_call_update", "toolCallId": f"w-{what}"}
        try:
            Path(path).write_text(step.get("text", ""))
        except OSError as error:
            self.raw({**done, "status": "failed"}, id)
            await self.do_say(id, f"[{error.strerror}]", step)
            return
        content = [{"type": "diff", "path": path, "newText": step.get("text", "")}]
        self.raw({**done, "status": "completed", "content": content}, id)

    async def do_tool(self, id: str, what: dict[str, Any], _: Any) -> None:
        """Send a report of a tool as it stands."""
        self.raw({"sessionUpdate": "tool_call", "title": "t", **what}, id)

    async def do_update(self, id: str, what: Any, _: Any) -> None:
        self.raw(what, id)

    def raw(self, update: Any, id: str) -> None:
        params = {"sessionId": id, "update": update}
        write(json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": params}) + "\n")

    async def do_plan(self, id: str, what: list[list[str]], _: Any) -> None:
        entries = [{"content": text, "priority": "medium", "status": status} for text, status in what]
        self.raw({"sessionUpdate": "plan", "entries": entries}, id)

    async def do_ask(self, id: str, what: list[str], step: Any) -> None:
        """Ask for leave, with options of these kinds, and say what was chosen."""
        options = [{"optionId": f"o-{kind}", "name": kind, "kind": kind} for kind in what]
        told = {"kind": step.get("kind"), "title": step.get("title"), "rawInput": step.get("input")}
        call = {"toolCallId": "asked", **{key: value for key, value in told.items() if value is not None}}
        call["locations"] = [{"path": path} for path in step.get("places", ())]
        answer = await self._request(
            "session/request_permission", sessionId=id, toolCall=call, options=options
        )
        await self.do_say(id, answer["outcome"].get("optionId", "cancelled"), step)

    async def do_request(self, id: str, what: str, _: Any) -> None:
        """Ask the client for what it does not offer."""
        try:
            await self._request(f"fs/{what}", path="/etc/passwd", sessionId=id)
        except RequestError as error:
            await self.do_say(id, f"refused {error.answer['code']}", _)

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
        self.responses[id]["stopReason"] = "cancelled"

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
        raise RequestError(what["code"], what.get("message", ""), what.get("data"))

    async def do_stop(self, id: str, what: str, _: Any) -> None:
        self.responses[id]["stopReason"] = what

    async def do_usage(self, id: str, what: dict[str, Any], _: Any) -> None:
        self.responses[id]["usage"] = what

    async def do_meta(self, id: str, what: dict[str, Any], _: Any) -> None:
        self.responses[id]["_meta"] = what

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
    asyncio.run(ScriptedAgent().run())
