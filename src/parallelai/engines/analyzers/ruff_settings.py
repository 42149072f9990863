"""Which of a project's Ruff settings hold for a file, and which security rules they ignore.

Ruff lets rules that the command line selects win over what a project's settings ignore. ParallelAI adds the
security rules to every project, and what the project ignores must stay ignored: so the settings are read
here, with Ruff's own precedence, and the rules that they switch off are switched off on the command line
again.

Settings are a stranger's data. They are read up to a bound, from plain files only; what is neither is not
given to Ruff either.
"""

# ruff: noqa: PTH111, PTH113, PTH116, PTH118, PTH119, PTH120, PTH123
# Paths are texts here: there are thousands, and a `Path` costs ten times as much.

from __future__ import annotations

import os
import re
import stat
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import Struct

NAMES = (".ruff.toml", "ruff.toml", "pyproject.toml")
"""The settings files that Ruff looks for in a folder, in its order."""
MAX_BYTES = 1024 * 1024
MAX_EXTENDS = 20

_CODE = re.compile(r"[A-Z]+[0-9]*\Z")
_SECURITY = re.compile(r"S[0-9]*\Z")
_MOST_SPECIFIC = 100
_SETTLED_NS = 3 * 10**9
"""What was written longer ago gets another time when it is written again, on any file system."""
_INCLUDES = frozenset({"include", "extend-include"})
_EXCLUDES = frozenset({"exclude", "extend-exclude"})


class SecurityRule(Struct, frozen=True):
    """A rule of Ruff's family `S`. `category` is empty in versions that have none."""

    code: str
    name: str
    category: str = ""


class Layer(Struct, frozen=True):
    """The rule selection of one settings file: what it selects and ignores."""

    selected: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for the files whose nearest settings file is `path` (absolute; None: there is none).

    `layers` begin with the file that the others extend. `has_include`, `has_exclude`, `has_lint_exclude`:
    whether the settings say themselves which files are looked at. `problem` says why they must not be given
    to Ruff.
    """

    path: str | None = None
    layers: tuple[Layer, ...] = ()
    has_include: bool = False
    has_exclude: bool = False
    has_lint_exclude: bool = False
    problem: str | None = None

    @property
    def may_ignore_security(self) -> bool:
        """Say whether the rules themselves are needed to know what is ignored."""
        return any(_may_be_security(selector) for layer in self.layers for selector in layer.ignored)


def ignored_security(layers: Sequence[Layer], rules: Iterable[SecurityRule]) -> tuple[str, ...]:
    """Give the codes of the security rules that settings switch off, sorted.

    Within a file the more exact selector wins, and `ignore` over `select` where they are equally exact; a
    file wins over what it extends. A rule that a file ignores stays so until one that extends it selects it.
    """
    ignored: list[str] = []
    for rule in rules:
        is_ignored = False
        for layer in layers:
            on = max((_exactness(selector, rule) for selector in layer.selected), default=0)
            off = max((_exactness(selector, rule) for selector in layer.ignored), default=0)
            if on or off:
                is_ignored = off >= on
        if is_ignored:
            ignored.append(rule.code)
    return tuple(sorted(ignored))


def security_rules(catalogue: Iterable[Mapping[str, Any]]) -> tuple[SecurityRule, ...]:
    """Pick the security rules out of what `ruff rule --all --output-format json` prints."""
    return tuple(
        SecurityRule(code, str(item.get("name", "")), str(item.get("category") or ""))
        for item in catalogue
        if isinstance(code := item.get("code"), str) and _SECURITY.match(code)
    )


def _exactness(selector: str, rule: SecurityRule) -> int:
    """How exactly a selector names a rule; 0 if it does not."""
    if selector in (rule.code, rule.name):
        return _MOST_SPECIFIC
    if selector == "ALL":
        return 1
    if rule.category and selector == rule.category:
        return 2
    return 2 + len(selector) if _SECURITY.match(selector) and rule.code.startswith(selector) else 0


def _may_be_security(selector: str) -> bool:
    return selector == "ALL" or _SECURITY.match(selector) is not None or _CODE.match(selector) is None


class _Unread(Struct, frozen=True):
    """Why a file could not be read. `is_unsafe`: Ruff must not try either."""

    why: str
    is_unsafe: bool = False


class _Places(Struct, frozen=True):
    """The nearest `pyproject.toml` that is a pipe, a device, huge (Ruff reads each of them); the nearest settings."""

    unsafe: str | None
    nearest: str | None


class SettingsReader:
    """Finds and reads settings files. What was read is kept for as long as the file is the same."""

    def __init__(self, user_folder: str | None = None) -> None:
        """`user_folder` holds the user's own settings, for files that have no nearer ones."""
        self._user_folder = user_folder
        self._bare: dict[str, int] = {}
        self._kept: dict[str, tuple[tuple[int, int, int], dict[str, Any] | _Unread]] = {}

    def of_files(self, paths: Iterable[str]) -> dict[str, Settings]:
        """Give the settings of each absolute path. Every folder and file is looked at once a call."""
        known: dict[str, _Places] = {}
        of_folder: dict[str, Settings] = {}
        made: dict[str | None, Settings] = {}
        result: dict[str, Settings] = {}
        for path in paths:
            folder = path.rpartition("/")[0] or "/"
            settings = of_folder.get(folder)
            if settings is None:
                places = self._places(folder, known)
                found = places.unsafe or places.nearest
                if found not in made:
                    made[found] = self._settings(found)
                settings = of_folder[folder] = made[found]
            result[path] = settings
        return result

    def _places(self, folder: str, known: dict[str, _Places]) -> _Places:
        """Go up from a folder to the first that has settings, as Ruff does, beyond the project's root too."""
        passed: list[str] = []
        while folder not in known:
            passed.append(folder)
            above = os.path.dirname(folder)
            if above == folder:
                known[folder] = self._here(folder, _Places(None, self._of_user()))
            folder = above
        places = known[folder]
        for each in reversed(passed):
            places = known[each] = known.get(each) or self._here(each, places)
        return places

    def _here(self, folder: str, above: _Places) -> _Places:
        """What holds in a folder, where `above` holds in the one above it."""
        if self._is_bare(folder):
            return above
        path = os.path.join(folder, NAMES[-1])
        content = self._load(path)
        is_unsafe = isinstance(content, _Unread) and content.is_unsafe
        return _Places(path if is_unsafe else above.unsafe, self._in_folder(folder) or above.nearest)

    def _is_bare(self, folder: str) -> bool:
        """Say whether no settings file stands in a folder: what is known of it holds until it is written."""
        try:
            written = os.stat(folder).st_mtime_ns
        except (OSError, ValueError):
            return False
        if self._bare.get(folder) == written:
            return True
        if any(os.path.lexists(f"{folder}/{name}") for name in NAMES):
            return False
        if time.time_ns() - written > _SETTLED_NS:
            self._bare[folder] = written
        return True

    def _of_user(self) -> str | None:
        return self._in_folder(self._user_folder) if self._user_folder else None

    def _in_folder(self, folder: str) -> str | None:
        for name in NAMES:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and (name != "pyproject.toml" or _has_section(self._load(path))):
                return path
        return None

    def _load(self, path: str) -> dict[str, Any] | _Unread:
        try:
            about = os.stat(path)
        except (OSError, ValueError):
            return _Unread("it cannot be found")
        if not stat.S_ISREG(about.st_mode):
            return _Unread("it is not a plain file", is_unsafe=True)
        if about.st_size > MAX_BYTES:
            return _Unread(f"it is larger than {MAX_BYTES:,} bytes", is_unsafe=True)
        stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
        kept = self._kept.get(path)
        if kept is None or kept[0] != stamp:
            kept = self._kept[path] = (stamp, _parse(path))
        return kept[1]

    def _settings(self, path: str | None) -> Settings:
        """Read a file and what it extends, as far as that can be read: Ruff says best what is wrong there."""
        made = Settings(path)
        seen: set[str] = set()
        current = path
        while current is not None and current not in seen and len(seen) < MAX_EXTENDS:
            seen.add(current)
            content = self._load(current)
            if isinstance(content, _Unread):
                problem = f"`{current}`: {content.why}" if content.is_unsafe else None
                return replace(made, problem=problem)
            section = _section(content, current)
            made = _with(made, section)
            current = _extended(section, current)
        return made


def _with(settings: Settings, section: dict[str, Any]) -> Settings:
    """Add what is extended below what extends it."""
    lint = section.get("lint")
    return replace(
        settings,
        layers=(_layer(section), *settings.layers),
        has_include=settings.has_include or not _INCLUDES.isdisjoint(section),
        has_exclude=settings.has_exclude or not _EXCLUDES.isdisjoint(section),
        has_lint_exclude=settings.has_lint_exclude or (isinstance(lint, dict) and "exclude" in lint),
    )


def _parse(path: str) -> dict[str, Any] | _Unread:
    try:
        with open(path, "rb") as stream:
            return tomllib.loads(stream.read(MAX_BYTES + 1).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return _Unread("it is not valid TOML")


def _has_section(content: dict[str, Any] | _Unread) -> bool:
    """A `pyproject.toml` counts if it has `[tool.ruff]`; for one that cannot be read, Ruff decides."""
    if isinstance(content, _Unread):
        return True
    tool = content.get("tool")
    return isinstance(tool, dict) and "ruff" in tool


def _section(content: dict[str, Any], path: str) -> dict[str, Any]:
    if os.path.basename(path) != "pyproject.toml":
        return content
    tool = content.get("tool")
    section = tool.get("ruff") if isinstance(tool, dict) else None
    return section if isinstance(section, dict) else {}


def _layer(section: dict[str, Any]) -> Layer:
    """Read a file's selection. A key under `lint` replaces the same, deprecated, key at the top."""
    lint = section.get("lint")
    both = {**section, **lint} if isinstance(lint, dict) else section
    return Layer(
        (*_words(both.get("select")), *_words(both.get("extend-select"))),
        (*_words(both.get("ignore")), *_words(both.get("extend-ignore"))),
    )


def _words(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _extended(section: dict[str, Any], path: str) -> str | None:
    """Resolve `extend`, which counts from the file's folder, as Ruff does with `~` and variables in it."""
    value = section.get("extend")
    if not isinstance(value, str) or "\0" in value:
        return None
    return os.path.normpath(
        os.path.join(os.path.dirname(path), os.path.expanduser(os.path.expandvars(value)))
    )
