"""Settings, checked: what config files, variables and arguments say, as the same objects that plans have.

A project's config that nobody trusts may only tighten limits, sandbox, network and permissions (DESIGN §5);
`settings_for` gives what holds, and names what was ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from parallelai.config import PYPROJECT, Config
from parallelai.errors import ConfigError
from parallelai.plan.base import Model
from parallelai.plan.fields import Command, Count, EngineName, Patterns, Words
from parallelai.plan.model import (
    Budget,
    Defaults,
    EngineEntry,
    Gates,
    Landing,
    Limits,
    Role,
    Workspace,
)
from parallelai.plan.positions import Place, Positions
from parallelai.plan.problems import alias_table, all_models, problems_of
from parallelai.plan.toml_places import places

DEFAULT_USD = 5.0
"""The money limit where the user wrote none (DESIGN §5)."""
_LEAST_AUTO = 2
"""What `parallel: auto` is at least: twice one core."""
_SCALES = {"permissions": ("auto", "ask", "deny"), "fetch": ("auto", "never")}
"""What can be said with one word, from the loosest to the tightest."""
_NETWORKS = ("on", "loopback", "off")
_SANDBOXES = ("none", "auto", "required")


class Worktrees(Model):
    """Where worktrees are made; None is beside the repository."""

    path: str | None = None


class State(Model):
    """Where the state is kept; None is `.parallelai/state` of the main worktree."""

    path: str | None = None


class Analyzer(Model):
    """A program that prints SARIF about the files that it is given after its arguments, `batch` at a time."""

    command: Command
    files: Patterns = ()
    batch: Annotated[Count, Field(le=10_000)] = 50


class Settings(Model):
    """Everything that can be set. What a plan says about the same objects comes before it."""

    engines: Mapping[EngineName, EngineEntry] = Field(default_factory=dict)
    roles: Mapping[str, Role] = Field(default_factory=dict)
    defaults: Defaults = Field(default_factory=Defaults)
    limits: Limits = Field(default_factory=Limits)
    shared: Patterns = ()
    protected: Patterns = ()
    workspace: Workspace = Field(default_factory=Workspace)
    gates: Gates = Field(default_factory=Gates)
    landing: Landing = Field(default_factory=Landing)
    permissions: Literal["auto", "ask", "deny"] = "auto"
    vars: Mapping[str, Any] = Field(default_factory=dict)
    worktrees: Worktrees = Field(default_factory=Worktrees)
    state: State = Field(default_factory=State)
    fetch: Literal["auto", "never"] = "auto"
    accounts: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    models: Mapping[str, Any] = Field(default_factory=dict)
    analyzers: Mapping[str, Analyzer] = Field(default_factory=dict)
    consent: Words = ()


NEVER_A_PROJECTS = frozenset({"consent"})
"""Settings that are the user's own: those of a project never hold."""
_EMPTY: Mapping[str, str] = {}
_MOST_ERRORS = 20
"""How many errors of a config are told at once: it may be a stranger's, with any number of them."""


def parse(config: Config) -> Settings:
    """Check settings. Raises `ConfigError` that names all that is wrong, with its place in its file or variable."""
    return _validated(config.values, config.origins, config.texts)


def _validated(
    values: Mapping[str, Any], origins: Mapping[str, str], texts: Mapping[str, str] = _EMPTY
) -> Settings:
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        told = list(_told(error, origins, texts))
        left_out = error.error_count() - len(told)
    where, said, advice = told[0]
    others = "".join(f"\n{w}: {s}" + (f" ({a})" if a else "") for w, s, a in told[1:])
    if left_out:
        others += f"\nand {left_out} more"
    if others:
        said, advice = f"{said} ({advice}){others}" if advice else f"{said}{others}", None
    raise ConfigError(said, where=where, next=advice)


def _told(
    error: ValidationError, origins: Mapping[str, str], texts: Mapping[str, str]
) -> Iterator[tuple[str, str, str | None]]:
    """Give for the first errors their place, what is wrong, and what to write."""
    known = {origin: _positions(origin, text) for origin, text in texts.items()}
    nowhere = Positions()
    origin_of = [
        _origin(tuple(str(step) for step in details["loc"]), origins)
        for details in error.errors(include_url=False)[:_MOST_ERRORS]
    ]
    placed = {
        origin: problems_of(error, Settings, known.get(origin, nowhere), most=_MOST_ERRORS)
        for origin in {origin for _, origin in origin_of}
    }
    for number, (dotted, origin) in enumerate(origin_of):
        problem = placed[origin][number]
        where = f"{origin}: {dotted}" if problem.line is None else problem.where
        yield where or origin, problem.said, problem.next


def _positions(origin: str, text: str) -> Positions:
    """Find where a file's settings were written."""
    root: Place | None = places(text)
    file = origin
    if origin == PYPROJECT:
        file = origin.partition(" ")[0]
        for step in ("tool", "parallelai"):
            root = root.children.get(step) if root and root.children else None
    return Positions(file, root, alias_table(all_models(Settings)))


def _origin(path: tuple[str, ...], origins: Mapping[str, str]) -> tuple[str, str]:
    """Find the longest part of a path that was set somewhere, and by whom."""
    for end in range(len(path), 0, -1):
        dotted = ".".join(path[:end])
        inside = next((key for key in origins if key == dotted or key.startswith(f"{dotted}.")), None)
        if inside is not None:
            return dotted, origins[inside]
    return ".".join(path), "settings"


def settings_for(config: Config, *, is_trusted: bool) -> tuple[Settings, tuple[str, ...]]:
    """Give the settings that hold, and the dotted keys of the project's config that were ignored.

    Consent is the user's own (`NEVER_A_PROJECTS`): what a project says about it is ignored, trusted or not.
    """
    if config.without_project is None:
        return parse(config), ()
    if is_trusted:
        settings = parse(config)
        if "consent" not in config.project_values:
            return settings, ()
        own = parse(config.without_project).consent
        return settings.model_copy(update={"consent": own}), ("consent",)
    settings = parse(config.without_project)
    named = frozenset(config.without_project.origins) - _from_files(config.without_project)
    return restrict(settings, config.project_values, kept=named, source=config)


def _from_files(config: Config) -> frozenset[str]:
    return frozenset(key for key, origin in config.origins.items() if origin in config.files)


def restrict(
    settings: Settings,
    project_values: Mapping[str, Any],
    *,
    kept: frozenset[str] = frozenset(),
    source: Config | None = None,
) -> tuple[Settings, tuple[str, ...]]:
    """Tighten settings by a project's config that nobody trusts.

    Args:
        settings: what holds without the project's config.
        project_values: what that says, raw.
        kept: dotted keys that arguments or variables set; they are not touched.
        source: where the project's config was read, for the places of what is wrong in it.

    Returns:
        The settings, and the dotted keys that were ignored because they would do anything but tighten.
    """
    origin = (source.project_file if source else None) or "the project's config"
    texts = source.texts if source else _EMPTY
    asked = _validated(_complete(project_values), dict.fromkeys(project_values, origin), texts)
    ignored: list[str] = []
    data = {name: getattr(settings, name) for name in settings.model_fields_set}
    for dotted in _leaves(project_values):
        if dotted in kept or _tighten(data, settings, asked, tuple(dotted.split("."))):
            continue
        ignored.append(dotted)
    return settings.model_copy(update=data), tuple(ignored)


def _complete(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let engine entries stand without `use`: they may mean engines that the user's own file has."""
    engines = values.get("engines")
    if not isinstance(engines, Mapping):
        return values
    entries = {k: {"use": "auto", **v} if isinstance(v, Mapping) else v for k, v in engines.items()}
    return {**values, "engines": entries}


def _leaves(values: Mapping[str, Any], at: str = "") -> Iterator[str]:
    for key, value in values.items():
        dotted = f"{at}.{key}" if at else key
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, dotted)
        else:
            yield dotted


def _tighten(data: dict[str, Any], settings: Settings, asked: Settings, path: tuple[str, ...]) -> bool:
    """Put one value into `data` if it is tighter than what is there, or the same; say whether that is so."""
    if path[:2] == ("limits", "budget"):
        return _tighten_budget(data, settings, asked, path[2:])
    if path[0] == "limits" and len(path) == 2:
        return _replace(data, settings, asked, "limits", path[1], _LIMITS.get(path[1]))
    if path[0] in _SCALES:
        return _tighten_word(data, settings, asked, path[0])
    if path == ("workspace", "network"):
        return _replace(data, settings, asked, "workspace", "network", _tighter_network)
    if path[0] == "engines" and len(path) == 3:
        return _tighten_engine(data, settings, asked, path[1], path[2])
    return False


def _tighten_word(data: dict[str, Any], settings: Settings, asked: Settings, key: str) -> bool:
    scale, new = _SCALES[key], getattr(asked, key)
    if scale.index(new) < scale.index(getattr(settings, key)):
        return False
    data[key] = new
    return True


_Compare = Callable[[Any, Any], bool]


def _tighter_parallel(new: Any, old: Any) -> bool:
    return new is not None and new <= (old if old is not None else _LEAST_AUTO)


def _tighter_network(new: Any, old: Any) -> bool:
    # None is an engine's own way, which may be any of the three.
    if new is None or old is None:
        return bool(new == "off")
    return _NETWORKS.index(new) >= _NETWORKS.index(old)


def _tighter_sandbox(new: Any, old: Any) -> bool:
    return _SANDBOXES.index(new) >= _SANDBOXES.index(old)


_LIMITS: Mapping[str, _Compare] = {
    "parallel": _tighter_parallel,
    "max_wait": lambda new, old: new <= old,
    "grace": lambda new, old: new <= old,
    "on_budget": lambda new, old: new == old or new == "cancel",
    "unpriced": lambda new, old: new == old or new == "refuse",
}


def _replace(
    data: dict[str, Any],
    settings: Settings,
    asked: Settings,
    name: str,
    key: str,
    is_tighter: _Compare | None,
) -> bool:
    new, old = getattr(getattr(asked, name), key, None), getattr(getattr(settings, name), key, None)
    if is_tighter is None or not is_tighter(new, old):
        return False
    data[name] = data.get(name, getattr(settings, name)).model_copy(update={key: new})
    return True


def _tighten_budget(data: dict[str, Any], settings: Settings, asked: Settings, path: tuple[str, ...]) -> bool:
    limits: Limits = data.get("limits", settings.limits)
    keys = path or tuple(Budget.model_fields)
    update: dict[str, Any] = {}
    for key in keys:
        new, old = getattr(asked.limits.budget, key, None), getattr(limits.budget, key, None)
        bound = DEFAULT_USD if key == "usd" and old is None else old
        if new is None:
            continue
        if bound is not None and new > bound:
            return False
        update[key] = new
    budget = limits.budget.model_copy(update=update)
    data["limits"] = limits.model_copy(update={"budget": budget})
    return True


def _tighten_engine(data: dict[str, Any], settings: Settings, asked: Settings, name: str, key: str) -> bool:
    """Tighten an engine that the user has; engines that only the project knows are ignored."""
    engines: Mapping[str, EngineEntry] = data.get("engines", settings.engines)
    is_tighter = {"sandbox": _tighter_sandbox, "network": _tighter_network}.get(key)
    if name not in engines or is_tighter is None:
        return False
    new, old = getattr(asked.engines[name], key), getattr(engines[name], key)
    if not is_tighter(new, old):
        return False
    data["engines"] = {**engines, name: engines[name].model_copy(update={key: new})}
    return True
