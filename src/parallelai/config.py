"""Where settings come from: defaults < user's file < project's file < environment < arguments.

Values are raw here, each with its origin; `plan.settings` checks them. Also finds the project: its root, and
the folder of its state, which all worktrees of a repository share (CONTRACTS §1, Root).
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from parallelai.errors import ConfigError

PREFIX = "PARALLELAI_"
LARGEST_BYTES = 1_000_000
ROLES_FOLDER = ".parallelai/roles"
"""Where a project keeps its roles, a YAML file each."""
PYPROJECT = "pyproject.toml [tool.parallelai]"
"""The origin of what a project says in that table."""
MARKS = ("parallelai.toml", ".parallelai")
"""What makes a folder that git does not know a project, and all below it a part of that."""
_MOST_ROLES = 500
DEEPEST = 40
_OWN = frozenset({"PARALLELAI_MARK", "PARALLELAI_CONFIG"})  # variables that are no settings
_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Project(Struct, frozen=True):
    """A project: the folder that paths count from, and the folder of its state."""

    root: Path
    state: Path


class RoleFile(Struct, frozen=True):
    """A file of the project's own roles, as it was read: what is trusted is what is used.

    `name` is the role's, `path` relative to the root. `data` of one that cannot be taken is empty.
    """

    name: str
    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Config:
    """Settings as they were written, and where each is from.

    `values` is nested; `origins` maps dotted keys of leaves to a file, a variable or `argument`. `files` are
    the files that were read, the user's before the project's. `project_values` is what the project's own file
    says, `role_files` are its roles' files, and `project_digest` names the content of both, for trust; all are
    empty where it has none. `without_project` is what holds as long as nobody trusts that file. `texts` are the
    files' own, by origin, for the places of errors.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    project_values: Mapping[str, Any] = field(default_factory=dict)
    project_digest: str | None = None
    project_file: str | None = None
    without_project: Config | None = None
    role_files: tuple[RoleFile, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


def find_project(start: Path, given: Path | None = None) -> Project:
    """Find the project that a folder belongs to.

    Args:
        start: where to look from.
        given: the root that the user named, instead of looking.

    Raises:
        ConfigError: `given` is no folder.
    """
    if given is not None:
        root = (start / given).resolve()
        if not root.is_dir():
            raise ConfigError(f"the project `{given}` is no folder", next="name a folder with --project")
        return Project(root, _state_of(root))
    start = start.resolve()
    folders = [start, *start.parents] if start.is_dir() else list(start.parents)
    for marks in ((".git",), MARKS):
        for folder in folders:
            if is_bare(folder):
                return Project(folder, folder / ".parallelai" / "state")
            if any(_is_mark(folder / mark) for mark in marks):
                return Project(folder, _state_of(folder))
    root = folders[0]
    return Project(root, _state_of(root))


def _is_mark(path: Path) -> bool:
    try:
        return _git_folder(path.parent) is not None if path.name == ".git" else path.exists()
    except OSError:
        return False


def _git_folder(root: Path) -> Path | None:
    """Find the git folder of a worktree: `.git` itself, or where the file `.git` points."""
    dot_git = root / ".git"
    try:
        if dot_git.is_dir():
            return dot_git if (dot_git / "HEAD").is_file() else None
        text = _first_line(dot_git)
        if text is None or not text.startswith("gitdir:"):
            return None
        folder = root / text.removeprefix("gitdir:").strip()
        return folder if folder.is_dir() else None
    except (OSError, ValueError):
        return None


def _first_line(path: Path) -> str | None:
    """Read the first line of a small file; None if it is none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as stream:
            return stream.read(4096).decode("utf-8", "surrogateescape").split("\n", 1)[0].strip()
    except (OSError, ValueError):
        return None


def is_bare(folder: Path) -> bool:
    """Whether a folder is a bare repository: one of git, without files to work on."""
    try:
        return (
            folder.name != ".git"
            and (folder / "HEAD").is_file()
            and (folder / "objects").is_dir()
            and (folder / "refs").is_dir()
            and (folder / "config").is_file()
        )
    except OSError:
        return False


def _state_of(root: Path) -> Path:
    """Give the folder of the state: the main worktree's, that of a bare repository in its common folder.

    A submodule is a project of its own. What `.git` says is taken only if the git folder points back here.
    """
    own = root / ".parallelai" / "state"
    if is_bare(root):
        return own
    folder = _git_folder(root)
    if folder is None or folder == root / ".git":
        return own
    common_text = _first_line(folder / "commondir")
    if common_text is None or not _points_back(folder, root):
        return own  # a submodule, or a repository with a separate git folder
    common = (folder / common_text).resolve()
    if not (common / "HEAD").is_file():
        return own
    if folder.resolve().parent != common / "worktrees":
        return own  # git keeps them there; a stranger's `.git` may not name the state of another project
    main = common.parent if common.name == ".git" else common
    return main / ".parallelai" / "state"


def _points_back(folder: Path, root: Path) -> bool:
    """Say whether a linked worktree's git folder names this worktree: a stranger's `.git` file may not."""
    text = _first_line(folder / "gitdir")
    if text is None:
        return False
    try:
        return (folder / text).resolve() == (root / ".git").resolve()
    except OSError:
        return False


def load(project: Project, *, env: Mapping[str, str], overrides: Mapping[str, Any] = _EMPTY) -> Config:
    """Collect the settings of a project, later ones over earlier ones, key by key.

    `overrides` maps dotted keys, or nested mappings, to values of arguments; None is not set. Raises
    `ConfigError` with file:line:column for a file that cannot be read.
    """
    user = _user_file(env)
    found = _project_file(project.root)
    later = [(name, _nested(path, value)) for name, path, value in _from_environment(env)]
    later += [("argument", _nested(k.split("."), v)) for k, v in overrides.items() if v is not None]
    before = [user[:2]] if user else []
    texts = {read[0]: read[2] for read in (user, found) if read}
    base = _layered([*before, *later], tuple(name for name, _ in before), texts)
    roles = tuple(_role_files(project.root))
    if found is None:
        return dataclasses.replace(base, role_files=roles, project_digest=_digest({}, roles))
    whole = _layered([*before, found[:2], *later], (*base.files, found[0]), texts)
    return dataclasses.replace(
        whole,
        project_values=found[1],
        project_digest=_digest(found[1], roles),
        project_file=found[0],
        without_project=base,
        role_files=roles,
    )


def _role_files(root: Path) -> Iterator[RoleFile]:
    """Read the project's roles, sorted by file; those that lie outside of it, or are too large, are empty."""
    try:
        names = sorted(path.name for path in (root / ROLES_FOLDER).iterdir())
    except OSError:
        return
    files = [name for name in names if name.endswith((".yaml", ".yml")) and not name.startswith(".")]
    if len(files) > _MOST_ROLES:
        raise ConfigError(f"there are more than {_MOST_ROLES} roles", where=ROLES_FOLDER)
    for name in files:
        path = root / ROLES_FOLDER / name
        yield RoleFile(Path(name).stem, f"{ROLES_FOLDER}/{name}", _role_data(path, root))


def _role_data(path: Path, root: Path) -> bytes:
    try:
        is_inside = path.resolve().is_relative_to(root.resolve())
        found = path.stat()
        if not is_inside or not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_BYTES:
            return b""
        return path.read_bytes()
    except (OSError, ValueError, RuntimeError):
        return b""


def _layered(
    layers: Iterable[tuple[str, Mapping[str, Any]]], files: tuple[str, ...], texts: Mapping[str, str]
) -> Config:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        _merge(values, origins, layer, origin)
    return Config(values, origins, files, texts=texts)


def user_file(env: Mapping[str, str]) -> Path:
    """Name the user's own file, whether it exists or not."""
    given = env.get("XDG_CONFIG_HOME", "")
    if given and Path(given).is_absolute():
        return Path(given) / "parallelai" / "config.toml"
    import platformdirs  # only needed here

    return Path(platformdirs.user_config_dir("parallelai", appauthor=False)) / "config.toml"


def machine_path() -> Path:
    """Where what belongs to the machine is kept: trust, consent, what was learned of limits."""
    import platformdirs  # only needed here

    return platformdirs.user_state_path("parallelai", appauthor=False) / "machine.db"


_Read = tuple[str, dict[str, Any], str]
"""A file as it was read: its origin, its values, its text."""


def _user_file(env: Mapping[str, str]) -> _Read | None:
    path = user_file(env)
    found = _read(path, str(path))
    return None if found is None else (str(path), *found)


def _project_file(root: Path) -> _Read | None:
    """Read `parallelai.toml`, else the table of pyproject.toml. Only files of the project itself count."""
    for name in ("parallelai.toml", "pyproject.toml"):
        path = root / name
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            if name == "parallelai.toml":
                raise ConfigError("the file is a link that leads out of the project", where=name)
            continue
        found = _read(path, name)
        if found is None:
            continue
        data, text = found
        if name == "parallelai.toml":
            return name, data, text
        table = data.get("tool", {})
        own = table.get("parallelai") if isinstance(table, dict) else None
        if isinstance(own, dict):
            return PYPROJECT, own, text
    return None


def _read(path: Path, shown: str) -> tuple[dict[str, Any], str] | None:
    """Read a file's values and text; None where there is none."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return None
        if found.st_size > LARGEST_BYTES:
            said = f"the file is too large for settings: at most {LARGEST_BYTES // 1000} kB are read"
            raise ConfigError(said, where=shown)
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except (NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", where=shown) from None
    return _parse(data, shown)


def _parse(data: bytes, shown: str) -> tuple[dict[str, Any], str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = len(data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode("utf-8", "replace")) + 1
        where = f"{shown}:{line}:{column}"
        raise ConfigError("the file is not UTF-8 text", where=where, next="save it as UTF-8") from None
    try:
        values = tomllib.loads(text)
        _check_depth(values, shown)
    except tomllib.TOMLDecodeError as error:
        said, line, column = _place_in(str(error), text)
        where = f"{shown}:{line}:{column}"
        raise ConfigError(f"this is not TOML: {said}", where=where, next="correct the line") from None
    except RecursionError:
        raise ConfigError(_TOO_DEEP, where=shown) from None
    return values, text


def _check_depth(values: dict[str, Any], shown: str) -> None:
    """Dotted keys make tables as deep as a line is long, which later steps go down one by one."""
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        tables = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for inner in tables for item in inner if isinstance(item, (dict, list))]
        if not level:
            return
    raise ConfigError(_TOO_DEEP, where=shown)


_TOO_DEEP = "the values are nested too deep"


def _place_in(message: str, text: str) -> tuple[str, int, int]:
    """Take the place out of tomllib's message: `… (at line 3, column 5)` or `… (at end of document)`."""
    match = re.search(r" \(at line (\d+), column (\d+)\)\Z", message)
    if match:
        return _lowered(message[: match.start()]), int(match[1]), int(match[2])
    said = _lowered(message.removesuffix(" (at end of document)"))
    return said, text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _from_environment(env: Mapping[str, str]) -> Iterator[tuple[str, list[str], Any]]:
    """Give the settings among the variables: `PARALLELAI_LIMITS__PARALLEL=4` is `limits.parallel`."""
    for name in sorted(env):
        if (name.startswith(PREFIX) and name not in _OWN and "__" in name) or name in _SINGLE:
            path = [part.lower() for part in name.removeprefix(PREFIX).split("__")]
            if all(path):
                yield name, path, _literal(env[name])


_SINGLE = frozenset(PREFIX + name for name in ("PERMISSIONS", "FETCH", "SHARED", "PROTECTED", "CONSENT"))
"""Settings that are no tables, and so have no `__` in their variable."""


def _literal(text: str) -> Any:
    """Read a variable's value as TOML has it (`4`, `true`, `["a"]`, `{usd = 20}`), else as text."""
    if not text or len(text) > 100_000 or "\n" in text:
        return text
    try:
        value = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return text
    return value["value"] if isinstance(value["value"], (bool, int, float, str, list, dict)) else text


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    return dict(value)


def _merge(
    values: dict[str, Any], origins: dict[str, str], new: Mapping[str, Any], origin: str, at: str = ""
) -> None:
    """Put new settings over old ones: tables key by key, everything else, lists too, as a whole."""
    for key, value in new.items():
        dotted = f"{at}.{key}" if at else str(key)
        if isinstance(value, Mapping):
            if not isinstance(values.get(key), dict):
                _forget(origins, dotted, key in values)
                values[key] = {}
            if not value:
                origins.setdefault(dotted, origin)
            _merge(values[key], origins, value, origin, dotted)
        else:
            _forget(origins, dotted, key in values)
            values[key] = copy.deepcopy(value)
            origins[dotted] = origin


def _forget(origins: dict[str, str], dotted: str, is_known: bool) -> None:
    if not is_known:
        return  # most keys are new, and there may be many: nobody looks through all of them for each
    for known in [key for key in origins if key == dotted or key.startswith(f"{dotted}.")]:
        del origins[known]


def _digest(values: Mapping[str, Any], roles: Iterable[RoleFile] = ()) -> str | None:
    """Name a content: the same settings have the same digest, however they are laid out; None for none at all."""
    files = {role.path: hashlib.sha256(role.data).hexdigest() for role in roles}
    if not values and not files:
        return None
    text = json.dumps(values, sort_keys=True, default=str, ensure_ascii=True)
    if files:
        text += "\n" + json.dumps(files, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
