"""What sets a project up and looks after it: a first config and plan, trust, a check-up."""

from __future__ import annotations

import json
import platform
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec import Struct

import parallelai
from parallelai import processes
from parallelai.client.engines import Engines
from parallelai.client.notes import of_ignored
from parallelai.client.project import NO_CONFIG, OpenProject
from parallelai.engines.protocol import Availability
from parallelai.errors import ConfigError, StoreCorruptError, StoreError, UsageError
from parallelai.plan.schema import plan_schema
from parallelai.results.write import write_atomically
from parallelai.store import Store

CONFIG = "parallelai.toml"
FIRST_PLAN = "parallelai.yaml"
SCHEMA = ".parallelai/plan.schema.json"
"""For editors: what a plan file may hold, beside the project and not on some server."""
IGNORE = ".parallelai/.gitignore"
"""Leaves the schema out of commits: it is large, and each version of ParallelAI has its own."""
_IGNORED = """\
# For editors. Everybody makes their own with `parallelai plan schema --output .parallelai/plan.schema.json`.
/plan.schema.json
"""
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
HIDDEN = "(set; not shown)"
MOST_NAMED = 3
"""Failed checks of an engine that `doctor` names."""
_REPAIR = "`parallelai doctor --repair` saves what can be read; the old file is kept beside the new one"
_LONGEST = 200
"""How much of a problem is shown, in characters."""


class Made(Struct, frozen=True):
    """What `init` wrote, and what it found. `plan` is the first plan; paths are below the root."""

    files: tuple[str, ...]
    languages: tuple[tuple[str, int], ...]
    engines: tuple[str, ...]
    plan: str = FIRST_PLAN


class Setting(Struct, frozen=True):
    """A line of `config show`. `is_ignored`: nobody trusts the project's config, so it does not hold."""

    key: str
    value: Any
    origin: str
    is_ignored: bool = False


class Checkup(Struct, frozen=True):
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
    """Write a commented config, a first plan and its schema. Raises `UsageError` rather than overwrite anything.

    Where pyproject.toml has the config there is no other: it would hold instead. What `.parallelai` leaves out of
    commits is not touched where somebody has said it.
    """
    has_config = project.config.project_file not in (None, CONFIG)
    own = (FIRST_PLAN,) if has_config else (CONFIG, FIRST_PLAN)
    files = (*own, SCHEMA) if _is_there(project.root / IGNORE) else (*own, SCHEMA, IGNORE)
    there = [name for name in own if _is_there(project.root / name)]
    if there and not is_forced:
        raise UsageError(f"`{there[0]}` is there already", next="use it, or overwrite it with `--force`")
    found = languages(project)
    ready = [row.name for row in await Engines(project).list() if row.state == "ready" and row.name != "mock"]
    _make_folder(project.root / SCHEMA)
    texts = {
        CONFIG: config_text(ready),
        FIRST_PLAN: plan_text(found, (project.root / ".git").exists()),
        SCHEMA: json.dumps(plan_schema(), indent=2) + "\n",
        IGNORE: _IGNORED,
    }
    for name in files:
        write_atomically(project.root / name, texts[name])
    return Made(files, found, tuple(ready))


def _is_there(path: Path) -> bool:
    """Say whether there is anything, also a link that leads nowhere yet."""
    return path.exists() or path.is_symlink()


def _make_folder(file: Path) -> None:
    """Make the folder of a file. Raises `UsageError` where there cannot be one."""
    try:
        file.parent.mkdir(exist_ok=True)
    except OSError as error:
        said = f"the folder `{file.parent}` cannot be made: {error.strerror}"
        raise UsageError(
            said, next="take away what is in its place, or ask for leave to write there"
        ) from None


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


def trust(project: OpenProject) -> str | None:
    """Let what the project's config names run, as long as its content stays as it is; gives its digest.

    Assistants then obey what lies in the project for them, too. None where it has no config that sets anything.
    """
    digest = project.config.project_digest
    project.machine.trust(project.root, digest or NO_CONFIG)
    return digest


def untrust(project: OpenProject) -> bool:
    """Take trust back; False where there was none."""
    return project.machine.untrust(project.root)


def settings(project: OpenProject, *, has_defaults: bool = False) -> list[Setting]:
    """Give each setting that somebody made, with its value and where it is from; with the defaults if asked.

    What an engine is given as its environment may be a secret: it is said to be set, and not shown.
    """
    config, ignored = project.config, frozenset(project.ignored)
    rows = [
        Setting(key, _shown(key, _dig(config.values, key)), origin, key in ignored)
        for key, origin in config.origins.items()
    ]
    if has_defaults:
        held = project.settings.model_dump(mode="json")
        known = set(config.origins)
        rows += [
            Setting(key, value, "default") for key, value in _leaves(held) if not _is_part_of(key, known)
        ]
    return sorted(rows, key=lambda row: row.key)


def _shown(key: str, value: Any) -> Any:
    return HIDDEN if "env" in key.split(".")[:-1] else value


def _leaves(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        dotted = f"{at}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{dotted}.")
        else:
            yield dotted, value


def _is_part_of(key: str, known: set[str]) -> bool:
    """Whether somebody set this key, or the table that it is in, or a part of it."""
    parts = key.split(".")
    above = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return not known.isdisjoint(above) or any(other.startswith(f"{key}.") for other in known)


def _dig(values: Mapping[str, Any], dotted: str) -> Any:
    value: Any = values
    for key in dotted.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


async def check_up(project: OpenProject) -> list[Checkup]:
    """Look at all that ParallelAI needs. Raises `ConfigError`; see `check_up_without`."""
    found = [*_installation(), _config(project), _store(project)]
    for row in await Engines(project).list():
        failed = project.machine.conformance(row.name, row.availability.version)
        if row.state == "ready" and failed:
            found.append(_unfit(row.name, row.availability.version, failed))
        elif row.state == "ready" and failed is None and _is_untested(row.availability):
            found.append(_untested(row.name, row.availability))
        elif row.is_default or row.origin == "configured":
            state = "ok" if row.state == "ready" else "wrong"
            found.append(Checkup(f"engine {row.name}", state, row.availability.said, row.availability.how))
    return found


def _unfit(engine: str, version: str | None, failed: Sequence[str]) -> Checkup:
    """An engine whose client, as it is now, failed `engines conform`."""
    named = "; ".join(failed[:MOST_NAMED]) + ("; …" if len(failed) > MOST_NAMED else "")
    said = f"version {version or 'unknown'} does not conform: it failed `{named}`"
    again = f"`parallelai engines conform {engine}` says why; install another version and prove that"
    return Checkup(f"engine {engine}", "wrong", said, again)


def _is_untested(found: Availability) -> bool:
    return None not in (found.version, found.tested) and found.version != found.tested


def _untested(engine: str, found: Availability) -> Checkup:
    """An engine of which nobody knows yet whether its client, as it is now, conforms."""
    said = (
        f"{found.said}, version {found.version}, which is untested: ParallelAI was tested with {found.tested}"
    )
    return Checkup(f"engine {engine}", "note", said, f"`parallelai engines conform {engine}` proves it")


def check_up_without(error: ConfigError) -> list[Checkup]:
    """Look at what can be looked at where the config is wrong."""
    said = f"{error.where}: {error.said}" if error.where else error.said
    return [*_installation(), Checkup("config", "wrong", said, error.next)]


def _installation() -> list[Checkup]:
    about = f"{parallelai.__version__} on Python {platform.python_version()}"
    return [Checkup("parallelai", "ok", about), _platform(), _git(), _confinement()]


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


def _git() -> Checkup:
    if shutil.which("git") is None:
        return Checkup(
            "git", "note", "not installed: files are found without it", "install git 2.39 or newer"
        )
    completed = processes.run_quick(("git", "--version"), cwd=Path("/"), timeout=10)
    said = completed.stdout.decode(errors="replace").strip()
    numbers = re.search(r"(\d+)\.(\d+)", said)
    if numbers is None:
        return Checkup("git", "note", f"`git --version` says `{said}`", "install git 2.39 or newer")
    if (int(numbers[1]), int(numbers[2])) < LEAST_GIT:
        return Checkup("git", "note", f"{said}: too old for `work`", "install git 2.39 or newer")
    return Checkup("git", "ok", said)


def _confinement() -> Checkup:
    """What holds programs to their folders here."""
    found = processes.confinements()
    advice = "install bubblewrap (`apt install bubblewrap`)"
    if not found:
        return Checkup("sandbox", "note", "none works here: assistants run unconfined", advice)
    if "bubblewrap" not in found:
        return Checkup("sandbox", "note", "Landlock, which hides and limits less than bubblewrap", advice)
    return Checkup("sandbox", "ok", ", ".join(found))


def _config(project: OpenProject) -> Checkup:
    if untrusted := project.untrusted:
        said = f"not trusted, so ignored: {', '.join(untrusted)}"
        return Checkup("config", "note", said, "`parallelai trust`")
    if notes := of_ignored(project):
        return Checkup("config", "note", notes[0])
    files = project.config.files
    return Checkup("config", "ok", ", ".join(files) if files else "none; defaults hold")


def _store(project: OpenProject) -> Checkup:
    if not project.has_store:
        return Checkup("journal", "ok", "none yet")
    try:
        problems = project.store.journal.check()
    except StoreError as error:
        return Checkup("journal", "wrong", error.said, error.next or _REPAIR)
    if problems:
        first = problems[0].replace("\n", " ")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return Checkup("journal", "wrong", f"{first[:_LONGEST]}{more}", _REPAIR)
    return Checkup("journal", "ok", str(Path(project.state)))
