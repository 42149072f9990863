"""Scripts: what a scripted model does, told in the prompt itself.

A prompt holds a fenced block of the language `script` with JSON: a list of steps, or an object

    {"id": "any text", "steps": [...], "usage": {"input": 900, "cached": 800, "output": 40, "reasoning": 0}}

Each step that acts is one answer of the model; `say` beside a tool is said before it:

    {"tool": "write", "path": "a.txt", "text": "hello"}       the client's own tool for it is found
    {"tool": "edit", "path": "a.txt", "old": "a", "new": "b"}
    {"tool": "read", "path": "a.txt"}      {"tool": "shell", "command": "ls"}
    {"tool": "any", "name": "TodoWrite", "args": {...}}       a tool by its exact name
    {"say": "done"}                        text, which ends the turn
    {"json": {...}}                        a structured answer: by the client's tool for it, else as text
    {"refuse": "I will not"}               {"say": "…", "stop": "max_tokens"}

What comes before an action troubles it, `times` times (for ever where not given), and then lets it through:

    {"fault": "overloaded", "times": 2, "retry_after": 2}     a name of `faults.NAMED`
    {"fault": {"status": 500, "message": "…"}, "times": 1}
    {"hang": "start"} {"hang": "stream"} {"cut": true} {"garbage": true} {"error_event": "overloaded"}
    {"unfinished": true}                                       the answer stops, as if it were whole
    {"delay": 0.5}

The last block of a conversation counts. How far a conversation has come is read from itself: the number of
results of tools after the block; so the server keeps no state but the counts of faults.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Step = dict[str, Any]

_BLOCK = re.compile(r"```script\s*\n(.*?)\n\s*```", re.DOTALL)
_ACTS = ("tool", "say", "json", "refuse")


@dataclass(frozen=True)
class Script:
    """A script as it was read: each action with the troubles before it."""

    id: str
    actions: tuple[Step, ...]
    troubles: tuple[tuple[Step, ...], ...]
    usage: dict[str, int] = field(default_factory=dict)

    def action(self, position: int) -> Step:
        """Give the action after `position` results of tools; past the end, the word that all is done."""
        return self.actions[position] if position < len(self.actions) else {"say": "done"}

    def troubles_before(self, position: int) -> tuple[Step, ...]:
        return self.troubles[position] if position < len(self.troubles) else ()


EMPTY = Script("none", (), ())


def block(*steps: Step, id: str = "", **more: Any) -> str:
    """Write a script as it stands in a prompt."""
    return "```script\n" + json.dumps({"id": id, "steps": list(steps), **more}) + "\n```\n"


def find_script(text: str) -> Script | None:
    """Read the last script in a text, None where there is none that is JSON."""
    for found in reversed(_BLOCK.findall(text)):
        try:
            data = json.loads(found)
        except ValueError:
            continue
        return _read(data, found)
    return None


def _read(data: Any, text: str) -> Script:
    plain = data if isinstance(data, dict) else {"steps": data}
    actions: list[Step] = []
    troubles: list[tuple[Step, ...]] = []
    before: list[Step] = []
    for step in plain["steps"]:
        if any(key in step for key in _ACTS):
            actions.append(step)
            troubles.append(tuple(before))
            before = []
        else:
            before.append(step)
    if before:  # a trouble at the end is for the word that all is done
        actions.append({"say": "done"})
        troubles.append(tuple(before))
    name = plain.get("id") or hashlib.sha256(text.encode()).hexdigest()[:12]
    return Script(name, tuple(actions), tuple(troubles), plain.get("usage") or {})


@dataclass(frozen=True)
class Tool:
    """A tool that a client offers: its JSON schema, or, with `is_free`, a text as its only argument."""

    name: str
    schema: dict[str, Any] = field(default_factory=dict)
    is_free: bool = False


@dataclass(frozen=True)
class Call:
    """What a client asked, whatever its wire format: every text that a user said or a tool gave, in order.

    `turns` holds ("user" | "result" | "model", text). `text` is the whole request as text, to find the
    folder in that the client works in. `is_streamed`: the client wants events.
    """

    model: str
    turns: tuple[tuple[str, str], ...]
    tools: tuple[Tool, ...]
    is_streamed: bool
    text: str

    @property
    def user_text(self) -> str:
        return "\n".join(text for who, text in self.turns if who == "user")


@dataclass(frozen=True)
class Answer:
    """What the model answers: text, then at most one call of a tool."""

    text: str | None = None
    tool: Tool | None = None
    args: Any = None  # an object, or the text of a free tool
    stop: str = "end"  # end | tool | max_tokens | refusal
    usage: dict[str, int] = field(default_factory=dict)


def place(call: Call) -> tuple[Script, int]:
    """Find the script that a conversation follows, and how many results of tools came since."""
    script, results = EMPTY, 0
    for who, text in call.turns:
        found = find_script(text) if who == "user" else None
        if found is not None:
            script, results = found, 0
        elif who == "result":
            results += 1
    return script, results


def texts(content: Any) -> list[str]:
    """Collect the texts of a content that is a string, or a list of parts with `text`."""
    if isinstance(content, str):
        return [content]
    parts: Sequence[Any] = content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
