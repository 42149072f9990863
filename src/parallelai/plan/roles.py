"""Roles as files: who does a task, in a YAML file each, named by its file (`frontend.yaml` is `frontend`).

Those that ship are in `parallelai/roles/`; a user's own and a project's (`.parallelai/roles/`) come on top, the
project's last. A project's are commands' equals: `config` reads them together with the project's settings, and
they hold only as long as somebody trusts exactly that content. A file is read when somebody asks for its role,
so that a broken one is in the way only of those who use it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from parallelai.config import ROLES_FOLDER, RoleFile
from parallelai.errors import PlanError, Problem, UsageError
from parallelai.plan import source
from parallelai.plan.files import read_text
from parallelai.plan.model import Plan, Role
from parallelai.plan.positions import Positions
from parallelai.plan.problems import alias_table, all_models, in_order, problems_of
from parallelai.plan.values import kind_of

SHIPPED = Path(__file__).parent.parent / "roles"
MAX_BYTES = 256 * 1024
"""How large a role's file may be: its instructions are told with every prompt."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_SUFFIXES = (".yaml", ".yml")
_NONE: Mapping[str, Role] = MappingProxyType({})


def find(
    user_dir: Path | None = None, project: Iterable[RoleFile] = (), *, over: Mapping[str, Role] = _NONE
) -> Mapping[str, Role]:
    """Give all roles by name, sorted; one is read when it is asked for.

    Args:
        user_dir: the folder of the user's own roles.
        project: the files of the project's own, if they hold (`config.Config.role_files`).
        over: those that settings define; they come before all files.

    Asking for a role raises `PlanError` with all that is wrong with its file, each with its place.
    """
    found: dict[str, Path | RoleFile] = {}
    for folder in (SHIPPED, user_dir):
        if folder is not None:
            found |= {path.stem: path for path in _files(folder)}
    found |= {file.name: file for file in project if _NAME.match(file.name)}
    return _Found(found, over)


class _Found(Mapping[str, Role]):
    """Roles by name, each read when it is first asked for."""

    def __init__(self, files: Mapping[str, Path | RoleFile], over: Mapping[str, Role]) -> None:
        self._files = files
        self._read = dict(over)
        self._names = sorted({*files, *over})

    def __getitem__(self, name: str) -> Role:
        known = self._read.get(name)
        if known is None:
            known = self._read[name] = _load(self._files[name])
        return known

    def __contains__(self, name: object) -> bool:
        return name in self._read or name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _files(folder: Path) -> Iterator[Path]:
    """The role files of a folder, sorted; none where there is no such folder."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return
    yield from (path for path in paths if path.suffix in _SUFFIXES and _NAME.match(path.stem))


def _load(file: Path | RoleFile) -> Role:
    if isinstance(file, RoleFile):
        return parse(source.decode(file.data, file.path), file.path)
    try:
        text = read_text(file.parent, file.name, max_bytes=MAX_BYTES)
    except OSError as error:
        raise _unreadable(str(file), error.strerror or "not readable") from None
    except UsageError as error:
        raise _unreadable(str(file), error.said) from None
    return parse(text, str(file))


def _unreadable(shown: str, why: str) -> PlanError:
    return PlanError([Problem(f"the role cannot be read: {why}", shown, next="look at its file")])


def parse(text: str, file: str) -> Role:
    """Read a role's text; `file` is what errors call it. Raises `PlanError` with all problems."""
    if len(text) > MAX_BYTES:
        said = f"the role is too large: at most {MAX_BYTES // 1024} kB are read"
        raise PlanError([Problem(said, file, next="keep instructions short")])
    found = source.parse(text, file)
    if not isinstance(found.data, Mapping):
        said = "the role is empty" if found.data is None else f"the role is {kind_of(found.data)}"
        problem = Problem(said, file, 1, 1, "write keys, such as `instructions: …`")
        raise PlanError([*found.problems, problem])
    problems = list(found.problems)
    try:
        role = Role.model_validate(dict(found.data))
    except ValidationError as error:
        place = Positions(file, found.place, _aliases())
        raise PlanError(in_order([*problems, *problems_of(error, Role, place)])) from None
    if problems:
        raise PlanError(in_order(problems))
    return role


@functools.cache
def _aliases() -> Mapping[str, tuple[str, ...]]:
    return alias_table(all_models(Role))


def used(plan: Plan, *others: str | None) -> frozenset[str]:
    """The roles that a plan's tasks, workstreams and defaults name, and `others`."""
    names = {work.role for work in plan.works}
    return frozenset(name for name in (*names, plan.defaults.role, *others) if name is not None)


def with_roles(plan: Plan, roles: Mapping[str, Role], *others: str | None) -> Plan:
    """Put the roles that a plan uses, and does not define itself, into it. Raises `PlanError` for a broken one.

    `others` are names of roles that hold for its tasks without being in it, such as by the config's defaults.
    """
    wanted = used(plan, *others) - plan.roles.keys()
    taken = {name: roles[name] for name in sorted(wanted) if name in roles}
    return plan.model_copy(update={"roles": {**plan.roles, **taken}}) if taken else plan


def instructions_of(role: Role | None) -> str | None:
    """What an engine is told of a role before any task; None where it says nothing."""
    if role is None:
        return None
    expertise = f"Your expertise: {', '.join(role.expertise)}." if role.expertise else ""
    parts = [expertise, (role.instructions or "").strip("\n")]
    return "\n\n".join(part for part in parts if part) or None


def forbidden_by(role: Role | None, shared: Iterable[str] = ()) -> tuple[str, ...]:
    """The files that a role may not change, as patterns of which the last that matches decides.

    These are all that it does not own, where it says what it owns, but for what is `shared` among all; and
    what it avoids.
    """
    if role is None:
        return ()
    outside = ("**", *map(_turned, role.owns), *map(_turned, shared)) if role.owns else ()
    return (*outside, *role.avoids)


def _turned(pattern: str) -> str:
    return pattern[1:] if pattern.startswith("!") else f"!{pattern}"


def told_by(role: Role | None, *, edits: bool) -> str | None:
    """What the engine of a task is told of its role: its instructions, what to read, what it may not change."""
    parts = [instructions_of(role) or ""]
    if role is not None and role.reads:
        parts.append(f"Before you begin, read what concerns you of {_listed(role.reads)}.")
    if role is not None and edits and role.owns:
        parts.append(f"Change nothing but {_listed(role.owns)}; anything else is dropped.")
    if role is not None and edits and role.avoids:
        parts.append(f"Do not change {_listed(role.avoids)}; it would be dropped.")
    return "\n\n".join(part for part in parts if part) or None


def _listed(patterns: Iterable[str]) -> str:
    return ", ".join(f"`{pattern}`" for pattern in patterns)


__all__ = [
    "MAX_BYTES",
    "ROLES_FOLDER",
    "SHIPPED",
    "find",
    "forbidden_by",
    "instructions_of",
    "parse",
    "told_by",
    "used",
    "with_roles",
]
