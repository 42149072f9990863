"""What sets a project up and looks after it: a first config and plan, trust, a check-up."""

from __future__ import annotations

import json
import platform
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import parallelai
from parallelai import processes
from parallelai.client.engines import Engines
from parallelai.client.project import OpenProject
from parallelai.errors import ParallelAIError, StoreCorruptError, UsageError
from parallelai.plan.schema import plan_schema
from parallelai.results.write import write_atomically
from parallelai.store import Store

CONFIG = "parallelai.toml"
FIRST_PLAN = "parallelai.yaml"
SCHEMA = ".parallelai/plan.schema.json"
"""For editors: what a plan file may hold, beside the project and not on some server."""
LANGUAGES = {
    ".py": "Python",
    ".js": "JavaScript",
    ".ts": "TypeScript",
    ".tsx": "TypeScript",
    ".go": "Go",
    ".rs": "Rust",
    ".java": "Java",
    ".c": "C",
    ".cpp": "C++",
    ".rb": "Ruby",
    ".php": "PHP",
    ".sh": "Shell",
}
LEAST_GIT = (2, 39)


@dataclass(frozen=True, slots=True)
class Made:
    """What `init` wrote, and what it found."""

    files: tuple[str, ...]
    languages: tuple[tuple[str, int], ...]
    engines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checkup:
    """One thing that `doctor` looked at. `state` is ok, note or wrong."""

    what: str
    state: str
    said: str
    next: str | None = None


def languages(project: OpenProject) -> tuple[tuple[str, int], ...]:
    """Count the project's files by language, the most first."""
    found = Counter(
        LANGUAGES[suffix]
        for path in project.tree.paths
        if (suffix := PurePosixPath(path).suffix) in LANGUAGES
    )
    return tuple(found.most_common())


async def init(project: OpenProject, *, is_forced: bool = False) -> Made:
    """Write a commented config and a first plan. Raises `UsageError` rather than overwrite anything."""
    files = (CONFIG, FIRST_PLAN, SCHEMA)
    there = [name for name in files[:2] if (project.root / name).exists()]
    if there and not is_forced:
        raise UsageError(f"`{there[0]}` is there already", next="use it, or take it away first")
    found = languages(project)
    ready = [row.name for row in await Engines(project).list() if row.state == "ready" and row.name != "mock"]
    (project.root / SCHEMA).parent.mkdir(exist_ok=True)
    write_atomically(project.root / SCHEMA, json.dumps(plan_schema(), indent=2) + "\n")
    write_atomically(project.root / CONFIG, config_text(ready))
    write_atomically(project.root / FIRST_PLAN, plan_text(found, (project.root / ".git").exists()))
    return Made(files, found, tuple(ready))


def config_text(engines: list[str]) -> str:
    """The commented config that `init` writes."""
    return f"""\
# ParallelAI's settings for this project. `parallelai config show` says which hold, and where each is from.
# What is named here runs only after `parallelai trust`, because a checkout may be somebody else's.

# [limits]
# parallel = 8            # how much at once; by default 50 for API engines, 2 for each core for commands
# budget = "5usd,4h"      # totals of a run

# [defaults]
# engine = "analyzers"    # who does tasks that name nobody; ready here: {", ".join(engines)}
# timeout = "30m"

# An engine of your own: any program that takes a prompt on stdin.
# [engines.mine]
# use = "command"
# command = ["python3", "tools/agent.py"]

# A static analyser of your own: any program that prints SARIF.
# [analyzers.shell]
# command = ["shellcheck-sarif"]
# files = ["*.sh"]
"""


def plan_text(found: tuple[tuple[str, int], ...], is_git: bool) -> str:
    """The first plan that `init` writes: three small tasks that work with nothing installed."""
    files = '"*.py"' if any(name == "Python" for name, _ in found) else '"**/*"'
    look = "git log --oneline -5 2>/dev/null || ls" if is_git else "ls"
    return f"""\
# yaml-language-server: $schema=.parallelai/plan.schema.json
# Carry it out with `parallelai execute {FIRST_PLAN}`; look at it first with `parallelai plan show {FIRST_PLAN}`.
version: 1
name: first-plan
engines:
  look: {{use: command, command: [sh, -c, "{look}"]}}
  count: {{use: command, command: [sh, -c, "wc -c"]}}
tasks:
  - id: look
    description: See what happened here lately.
    engine: look
  - id: review
    description: Find what is wrong.
    files: {files}
    template: code-review
  - id: sum-up
    description: Count what the others said.
    engine: count
    depends_on: [look, review]
"""


def trust(project: OpenProject) -> str:
    """Let what the project's config names run, as long as its content stays as it is; gives its digest."""
    digest = project.config.project_digest
    if digest is None:
        raise UsageError("there is nothing to trust here: this project has no config of its own")
    project.machine.trust(project.root, digest)
    return digest


def untrust(project: OpenProject) -> None:
    """Take trust back."""
    project.machine.untrust(project.root)


def settings(project: OpenProject) -> list[tuple[str, Any, str]]:
    """Give each setting that somebody made, with its value and where it is from."""
    config = project.config
    return [(key, _dig(config.values, key), origin) for key, origin in sorted(config.origins.items())]


def _dig(values: Mapping[str, Any], dotted: str) -> Any:
    value: Any = values
    for key in dotted.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


async def check_up(project: OpenProject) -> list[Checkup]:
    """Look at all that ParallelAI needs."""
    found = [
        Checkup("parallelai", "ok", f"{parallelai.__version__} on Python {platform.python_version()}"),
        _platform(),
        _git(project),
        _config(project),
        _store(project),
    ]
    for row in await Engines(project).list():
        if row.is_default or row.origin == "configured":
            state = "ok" if row.state == "ready" else "wrong"
            found.append(Checkup(f"engine {row.name}", state, row.availability.said, row.availability.how))
    return found


def repair(project: OpenProject) -> list[str]:
    """Rebuild what the journal's projections hold; of a torn journal, save what can be read."""
    if not project.has_store:
        return ["there is no journal to repair"]
    try:
        return list(project.store.journal.repair())
    except StoreCorruptError:  # so damaged that it does not even open
        return Store.repair(project.state)


def _platform() -> Checkup:
    system = platform.system()
    if system == "Linux":
        return Checkup("platform", "ok", "Linux")
    if system == "Darwin":
        return Checkup("platform", "note", "macOS: untested, and without Linux's confinement")
    return Checkup("platform", "wrong", f"{system} is not supported", "use WSL2 on Windows")


def _git(project: OpenProject) -> Checkup:
    path = shutil.which("git")
    if path is None:
        return Checkup(
            "git", "note", "not installed: files are found without it", "install git 2.39 or newer"
        )
    completed = processes.run_quick(("git", "--version"), cwd=project.root, timeout=10)
    said = completed.stdout.decode(errors="replace").strip()
    numbers = said.split()[-1].split(".")[:2] if said else []
    version = tuple(int(number) for number in numbers if number.isdigit())
    if version < LEAST_GIT:
        return Checkup("git", "note", f"{said}: too old for `work`", "install git 2.39 or newer")
    return Checkup("git", "ok", said)


def _config(project: OpenProject) -> Checkup:
    try:
        ignored = project.ignored
    except ParallelAIError as error:
        return Checkup("config", "wrong", str(error), error.next)
    if ignored:
        return Checkup(
            "config", "note", f"not trusted, so ignored: {', '.join(ignored)}", "`parallelai trust`"
        )
    files = project.config.files
    return Checkup("config", "ok", ", ".join(files) if files else "none; defaults hold")


def _store(project: OpenProject) -> Checkup:
    if not project.has_store:
        return Checkup("journal", "ok", "none yet")
    try:
        problems = project.store.journal.check()
    except ParallelAIError as error:
        return Checkup("journal", "wrong", str(error), error.next or "`parallelai doctor --repair`")
    if problems:
        return Checkup("journal", "wrong", "; ".join(problems), "`parallelai doctor --repair`")
    return Checkup("journal", "ok", str(Path(project.state)))
