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
from parallelai.errors import UsageError
from parallelai.plan.contents import Seen, content_digest, mark_of
from parallelai.plan.graph import Instance
from parallelai.plan.model import Choice, EngineEntry, Role, Task
from parallelai.plan.templates import Template
from parallelai.records import FilePart, Reply, to_json
from parallelai.run.masking import is_secret

_WHAT_COUNTS = {
    "description", "kind", "role", "model", "each", "checklist", "when",
    "edits", "checks", "todo", "empty", "verify",
}  # fmt: skip
_MAPPINGS = {"params", "output", "workspace"}
"""What counts too, in whatever order its keys are written."""
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
    doers: str,
    variables: Mapping[str, Any],
    role: Role | None = None,
) -> str:
    """Hash what the plan says of a task, its role, its template, who does it (`doers_digest`), and of the
    variables those that its texts name. Raises `UsageError` for text that is none."""
    used = _used(variables, task, template)
    others = digest([template and template.model_dump(mode="json"), used]) if template or used else ""
    given = task.model_fields_set  # what else there is are defaults
    mappings = digest(task.model_dump(mode="json", include=_MAPPINGS)) if _MAPPINGS & given else ""
    try:
        said = task.model_dump_json(include=_WHAT_COUNTS & given, exclude_defaults=True)
    except ValueError:  # halves of surrogate pairs: bytes of a command line that are not UTF-8
        raise UsageError(f"what the task `{task.id}` says is not Unicode", next="write it as UTF-8") from None
    text = f"{said}\0{mappings}\0{others}\0{doers}{_role_digest(role)}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _role_digest(role: Role | None) -> str:
    """Hash what a role says of how a task is done; its model and engine are the doers', its limits no matter."""
    if role is None:
        return ""
    said = role.model_dump(mode="json", exclude={"model", "engine", "limits"}, exclude_defaults=True)
    return f"\0{digest(said)}" if said else ""


def doers_digest(choice: Choice, members: Iterable[tuple[str, str | None, str | None]]) -> str:
    """Hash the engines of a task as (name, digest of the entry, model), and the rule that picks them."""
    rule = choice.rule if len(choice.members) > 1 and choice.rule != "route" else "one"
    return digest([rule, list(members)])


def _used(variables: Mapping[str, Any], task: Task, template: Template | None) -> dict[str, Any]:
    """The variables whose names are in the task's texts; one too many only asks once more than needed."""
    if not variables:
        return {}
    texts = " ".join((task.description, task.when or "", template.prompt if template is not None else ""))
    if not _VARIABLE.search(texts):
        return {}
    return {name: value for name, value in variables.items() if name in texts}


def reply_digest(reply: Reply) -> str:
    """Hash what dependents see of a reply: text, data and findings, not what it cost."""
    findings = [to_json(f) for f in reply.findings]
    seen = [reply.text, reply.data, findings]
    if reply.change is not None:  # each attempt's patch has a name of its own
        seen.append([reply.change.patch, *reply.change.files])
    return digest(seen)


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
            said = entry.model_dump(mode="json", exclude=_DOES_NOT_COUNT)
            said["env"] = {name: text for name, text in entry.env.items() if not is_secret(name, text)}
            found = digest(said)
            known = self._known[id(entry)] = (entry, found)
        return known[1]


ABSENT = "absent"
"""The hash of a file that is not there."""


class FileDigests:
    """Content hashes of a project's files. A file that is not there hashes as absent.

    A file is read again only if its status says that it was written since: tasks may write files. What the
    run itself wrote into a file does not count: `written` gives the hash of what was there before, for a
    path and the hash of what the run wrote; None stands for no file. `seen` is what files (by absolute path)
    were found to hold shortly before.
    """

    def __init__(
        self,
        root: Path,
        written: Mapping[tuple[str, str | None], str | None] | None = None,
        seen: Mapping[str, Seen] | None = None,
    ) -> None:
        self._root = str(root)
        self._written = written or {}
        self._known: dict[str, Seen] = dict(seen or {})

    def of(self, path: str) -> str:
        full = f"{self._root}/{path}"
        try:
            status = os.stat(full)  # noqa: PTH116
            mark = mark_of(status)
            known = self._known.get(full)
            if known is None or known.mark != mark:
                known = self._known[full] = Seen(mark, content_digest(_read(full, status.st_size)))
        except OSError:
            return self._before(path, None)
        return self._before(path, known.digest)

    def _before(self, path: str, found: str | None) -> str:
        before = self._written.get((path, found), found) if self._written else found
        return before if before is not None else ABSENT


_MORE_BYTES = 64 * 1024


def _read(path: str, size: int) -> bytes:
    """Read a file that is about so large; a file object would cost twice as much, for each of thousands."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(descriptor, size + 1)]
        if len(parts[0]) == size:  # as nearly always: one call less
            return parts[0]
        while more := os.read(descriptor, max(_MORE_BYTES, size + 1 - len(parts[0]))):
            parts.append(more)
        return b"".join(parts)
    finally:
        os.close(descriptor)


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


_NOTHING_TOLD = (None, None, None)


def cache_key(
    request: Request, engine: str, entry: str | None, files: Callable[[str], str], asks_at: str = ""
) -> str:
    """Address a reply by its content: whoever is asked the same of the same files gets the same reply.

    `entry` is the digest of the engine's entry, `asks_at` as in `Capabilities`. The run and the task do not
    count, so that runs share replies; `request.repeat` does, so that asking twice on purpose asks twice.
    """
    asked = f"{engine}\0{entry}\0{request.model}\0{request.output}\0{request.repeat}\0{len(request.prompt)}\0"
    hasher = hashlib.blake2b((asked + request.prompt).encode("utf-8", "surrogatepass"), digest_size=16)
    for part in request.files:
        hasher.update(f"\0f{_place(part)}\0{files(part.path)}".encode("utf-8", "surrogatepass"))
    if request.schema is not None or request.checklist:
        hasher.update(f"\0s{digest([request.schema, request.checklist])}".encode())
    told = (request.instructions, request.temperature, request.max_tokens)
    if told != _NOTHING_TOLD:
        hasher.update(f"\0r{digest(told)}".encode())
    if asks_at:
        hasher.update(f"\0a{asks_at}".encode("utf-8", "surrogatepass"))
    return hasher.hexdigest()
