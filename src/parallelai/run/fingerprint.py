"""What a task's result depends on, as one short hash (DESIGN §5, Run).

A finished task is taken from before exactly if its fingerprint is the same: its definition, its template, the
content of its files, the replies of its dependencies, and who does it. Order, priority, time-outs and retries
do not count: they change when something is done, not what comes out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from parallelai.engines.protocol import Request
from parallelai.plan.graph import Instance
from parallelai.plan.model import Choice, EngineEntry, Task
from parallelai.plan.templates import Template
from parallelai.records import FilePart, Reply, to_json

_WHAT_COUNTS = {
    "description", "kind", "role", "model", "each", "params", "checklist", "output", "when",
    "edits", "checks", "todo", "empty", "verify", "workspace",
}  # fmt: skip
_DOES_NOT_COUNT = {
    "concurrency", "timeout", "idle_timeout", "price",
    "account", "api_key_env", "api_key_file", "api_key_keyring",
    "model",  # it stands beside the entry, as it was decided
}  # fmt: skip
"""What an engine's entry says of when, how long, for how much and by which login, not of what comes out."""
_VARIABLE = re.compile(r"\bvars\b")
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)


def digest(data: Any) -> str:
    """Hash plain data (JSON, sorted keys): 32 hexadecimal digits of BLAKE2b."""
    return hashlib.blake2b(_JSON.encode(data).encode(), digest_size=16).hexdigest()


def definition_digest(
    task: Task,
    template: Template | None,
    choice: Choice,
    members: Iterable[tuple[str, str | None, str | None]],
    variables: Mapping[str, Any],
) -> str:
    """Hash what the plan says of a task, its template, its engines as (name, digest of the entry, model), and
    of the variables those that its texts name."""
    return digest(
        {
            "task": task.model_dump(mode="json", include=_WHAT_COUNTS, exclude_defaults=True),
            "template": template.model_dump(mode="json") if template is not None else None,
            "rule": choice.rule if len(choice.members) > 1 and choice.rule != "route" else "one",
            "members": list(members),
            "vars": _used(variables, task, template),
        }
    )


def _used(variables: Mapping[str, Any], task: Task, template: Template | None) -> dict[str, Any]:
    """The variables whose names are in the task's texts; one too many only asks once more than needed."""
    texts = " ".join((task.description, task.when or "", template.prompt if template is not None else ""))
    if not variables or not _VARIABLE.search(texts):
        return {}
    return {name: value for name, value in variables.items() if name in texts}


def reply_digest(reply: Reply) -> str:
    """Hash what dependents see of a reply: text, data and findings, not what it cost."""
    findings = [to_json(f) for f in reply.findings]
    return digest([reply.text, reply.data, findings])


class EntryDigests:
    """Hashes of engines' entries, each made once: thousands of tasks have the same one."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[EngineEntry, str]] = {}  # by identity, which holds while it is kept here

    def of(self, entry: EngineEntry | None) -> str | None:
        """Hash what comes out of an entry; None where there is none."""
        if entry is None:
            return None
        known = self._known.get(id(entry))
        if known is None:
            found = digest(entry.model_dump(mode="json", exclude=_DOES_NOT_COUNT))
            known = self._known[id(entry)] = (entry, found)
        return known[1]


class FileDigests:
    """Content hashes of a project's files. A file that is not there hashes as absent.

    A file is read again only if its status says that it was written since: tasks may write files.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}

    def of(self, path: str) -> str:
        full = os.path.join(self._root, path)  # noqa: PTH118  # texts: there are thousands of files
        try:
            status = os.stat(full)  # noqa: PTH116
            mark = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            known = self._known.get(path)
            if known is not None and known[0] == mark:
                return known[1]
            with open(full, "rb") as file:  # noqa: PTH123
                content = file.read()
        except OSError:
            return "absent"
        found = hashlib.blake2b(content, digest_size=16).hexdigest()
        self._known[path] = (mark, found)
        return found


def fingerprint(
    instance: Instance,
    definition: str,
    files: Callable[[str], str],
    dependencies: Iterable[tuple[str, str]],
) -> str:
    """Hash all that the result of an instance depends on.

    Args:
        definition: from `definition_digest`.
        files: gives the content hash of a path.
        dependencies: id and `reply_digest` (or outcome) of what it waited for, in a fixed order.
    """
    hasher = hashlib.blake2b(digest_size=16)
    hasher.update(f"{instance.id}\0{definition}".encode())
    for part in instance.files:
        hasher.update(f"\0f{_place(part)}\0{files(part.path)}".encode())
    for name, value in dependencies:
        hasher.update(f"\0d{name}\0{value}".encode())
    return hasher.hexdigest()


def _place(part: FilePart) -> str:
    return f"{part.path}:{part.first}:{part.last}"


def cache_key(request: Request, engine: str, entry: str | None, files: Callable[[str], str]) -> str:
    """Address a reply by its content: whoever is asked the same of the same files gets the same reply.

    `entry` is the digest of the engine's entry. The run and the task do not count, so that runs share
    replies; `request.repeat` does, so that asking twice on purpose asks twice.
    """
    return digest(
        {
            "engine": engine,
            "entry": entry,
            "model": request.model,
            "prompt": request.prompt,
            "files": [[_place(part), files(part.path)] for part in request.files],
            "output": request.output,
            "schema": request.schema,
            "checklist": request.checklist,
            "repeat": request.repeat,
        }
    )
