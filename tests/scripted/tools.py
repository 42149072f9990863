"""A client's own tools: found by name, their arguments filled by their JSON schema."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath
from typing import Any

from scripted.script import Answer, Call, Step, Tool

NAMES = {
    "write": ("write", "write_file", "create_file", "writefile", "create"),
    "edit": ("edit", "replace", "edit_file", "str_replace", "search_replace"),
    "read": ("read", "read_file", "readfile", "view"),
    "shell": ("bash", "run_shell_command", "exec_command", "shell_command", "shell", "terminal", "execute"),
    "json": ("structuredoutput", "structured_output", "final_answer"),
}
PROPERTIES = {
    "path": ("path", "file_path", "filepath", "absolute_path", "filename", "file"),
    "text": ("content", "contents", "text", "file_text"),
    "command": ("command", "cmd", "script"),
    "old": ("old_string", "oldstring", "old_str", "old", "old_text", "oldtext"),
    "new": ("new_string", "newstring", "new_str", "new", "new_text", "newtext"),
}
_FOLDER = re.compile(
    r"(?:working directory|current directory|workspace|cwd|project root)[^/\n]{0,40}?[:>`\s]\s*`?(/[^\s<\"'`\\]+)",
    re.IGNORECASE,
)


def answer(step: Step, call: Call) -> Answer:
    """Carry out an action with the tools that the client offers; without any, say that all is well."""
    if "refuse" in step:
        return Answer(step["refuse"], stop="refusal")
    if "json" in step:
        tool = find(call, "json")
        if tool is not None:
            return Answer(step.get("say"), tool, step["json"], "tool")
        import json

        return Answer(json.dumps(step["json"]))
    if "tool" not in step:
        return Answer(step["say"], stop=step.get("stop", "end"))
    if not call.tools:  # a side request of the client: a title, a summary
        return Answer("ok")
    tool, args = choose(step, call)
    return Answer(step.get("say"), tool, args, "tool")


def find(call: Call, kind: str) -> Tool | None:
    """Find the client's tool of a kind, by the names that such tools have."""
    by_name = {tool.name.lower(): tool for tool in call.tools}
    return next((by_name[name] for name in NAMES[kind] if name in by_name), None)


def choose(step: Step, call: Call) -> tuple[Tool, Any]:
    """Pick the tool for a step and fill its arguments; raises `LookupError` where the client has none."""
    if "name" in step:
        tool = next((tool for tool in call.tools if tool.name == step["name"]), Tool(step["name"]))
        return tool, step.get("args", {})
    kind = step["tool"]
    tool = find(call, kind)
    if tool is None:
        return _by_shell(step, call)
    return tool, fill(tool.schema, step, call)


def _by_shell(step: Step, call: Call) -> tuple[Tool, Any]:
    """Do with the shell what a client has no tool for."""
    shell = find(call, "shell")
    if shell is None:
        raise LookupError(f"no tool for {step['tool']} among {[tool.name for tool in call.tools]}")
    path = shlex.quote(step["path"])
    if step["tool"] == "write":
        folder = shlex.quote(str(PurePosixPath(step["path"]).parent))
        command = f"mkdir -p {folder} && printf %s {shlex.quote(step['text'])} > {path}"
    elif step["tool"] == "read":
        command = f"cat {path}"
    else:
        program = (
            "import sys; p, a, b = sys.argv[1:]; s = open(p).read(); open(p, 'w').write(s.replace(a, b))"
        )
        command = shlex.join(["python3", "-c", program, step["path"], step["old"], step["new"]])
    return shell, fill(shell.schema, {"tool": "shell", "command": command}, call)


def fill(schema: dict[str, Any], step: Step, call: Call) -> dict[str, Any]:
    """Fill the arguments: what the step gives, then what else the schema requires."""
    properties: dict[str, Any] = schema.get("properties") or {}
    args: dict[str, Any] = {}
    for key, names in PROPERTIES.items():
        if key not in step:
            continue
        name = next((name for name in properties if name.lower() in names), None)
        if name is not None:
            args[name] = _value(key, step[key], properties[name], call)
    for name in schema.get("required") or ():
        if name not in args:
            args[name] = _default(properties.get(name) or {})
    return {**args, **step.get("args", {})}


def _value(key: str, given: str, schema: dict[str, Any], call: Call) -> Any:
    if (
        key == "path"
        and not given.startswith("/")
        and "absolute" in str(schema.get("description", "")).lower()
    ):
        return str(PurePosixPath(folder(call)) / given)
    if key == "command" and schema.get("type") == "array":
        return ["bash", "-c", given]
    return given


def folder(call: Call) -> str:
    """Find the folder that the client works in: it tells the model."""
    found = _FOLDER.search(call.text)
    return found[1].rstrip(".,;)") if found else "/"


def _default(schema: dict[str, Any]) -> Any:
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    kinds = {"boolean": False, "integer": 1, "number": 1, "array": [], "object": {}}
    return kinds.get(kind, "scripted") if isinstance(kind, str) else "scripted"
