"""What a task's result depends on, as one short hash (DESIGN §5, Run).

A finished task is taken from before exactly if its fingerprint is the same: its definition, its template, the
content of its files, the replies of its dependencies, and who does it. Order, priority, time-outs and retries
do not count: they change when something is done, not what comes out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from parallelai.engines.protocol import Request
from parallelai.plan.graph import Instance
from parallelai.plan.model import EngineEntry, Task
from parallelai.plan.templates import Template
from parallelai.records import FilePart, Reply, to_json

_WHAT_COUNTS = frozenset(
    {
        "description", "kind", "role", "model", "each", "params", "checklist", "output", "when",
        "edits", "checks", "todo", "empty", "verify", "workspace",
    }
)  # fmt: skip


def digest(data: Any) -> str:
    """Hash plain data (JSON, sorted keys): 32 hexadecimal digits of BLAKE2b."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def definition_digest(
    task: Task, template: Template | None, members: Iterable[tuple[str, EngineEntry | None, str | None]]
) -> str:
    """Hash what the plan says of a task, its template, and its engines as (name, entry, model)."""
    return digest(
        {
            "task": task.model_dump(mode="json", include=set(_WHAT_COUNTS)),
            "template": template.model_dump(mode="json") if template is not None else None,
            "members": [
                [name, entry.model_dump(mode="json") if entry is not None else None, model]
                for name, entry, model in members
            ],
        }
    )


def reply_digest(reply: Reply) -> str:
    """Hash what dependents see of a reply: text, data and findings, not what it cost."""
    findings = [to_json(f) for f in reply.findings]
    return digest([reply.text, reply.data, findings])


class FileDigests:
    """Content hashes of a project's files, each read once. A file that is not there hashes as absent."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, str] = {}

    def of(self, path: str) -> str:
        known = self._known.get(path)
        if known is None:
            try:
                content = (self._root / path).read_bytes()
            except OSError:
                known = "absent"
            else:
                known = hashlib.blake2b(content, digest_size=16).hexdigest()
            self._known[path] = known
        return known


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


def cache_key(request: Request, engine: str, entry: EngineEntry | None, files: Callable[[str], str]) -> str:
    """Address a reply by its content: whoever is asked the same of the same files gets the same reply.

    The run and the task do not count, so that runs share replies; `request.repeat` does, so that asking
    twice on purpose asks twice.
    """
    return digest(
        {
            "engine": engine,
            "entry": entry.model_dump(mode="json") if entry is not None else None,
            "model": request.model,
            "prompt": request.prompt,
            "files": [[_place(part), files(part.path)] for part in request.files],
            "output": request.output,
            "schema": request.schema,
            "checklist": request.checklist,
            "repeat": request.repeat,
        }
    )
