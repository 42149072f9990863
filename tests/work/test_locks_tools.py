"""Two branches that each need one more package: the lock file is made anew by its own tool, where that is here."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from repositories import Repository

from running import run_program

PLACES = ("# one", "# -", "# -", "# -", "# two")
"""Lines of a manifest that are far enough apart for git to merge what becomes of them."""
NAMES = ("alpha", "beta", "gamma")


@dataclass(frozen=True)
class Kind:
    """A tool: the manifest of the whole and of a package, the line that needs a package, the command that locks."""

    lock: str
    manifest: str
    whole: str
    package: str
    line: str
    command: tuple[str, ...]
    again: tuple[str, ...]
    """A command that fails where the lock does not fit the manifest."""
    source: str = "{name}.py"


UV = Kind(
    "uv.lock",
    "pyproject.toml",
    '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = [\n{lines}\n]\n'
    "[tool.uv]\npackage = false\n[tool.uv.sources]\n"
    + "".join(f'{name} = {{{{ path = "libs/{name}" }}}}\n' for name in NAMES),
    '[project]\nname = "{name}"\nversion = "1.0"\nrequires-python = ">=3.11"\n',
    '"{name}",',
    ("uv", "lock", "--offline"),
    ("uv", "lock", "--offline", "--check"),
)
POETRY = Kind(
    "poetry.lock",
    "pyproject.toml",
    '[tool.poetry]\nname = "app"\nversion = "1"\ndescription = ""\nauthors = []\npackage-mode = false\n'
    '[tool.poetry.dependencies]\npython = ">=3.11"\n{lines}\n',
    '[tool.poetry]\nname = "{name}"\nversion = "1.0"\ndescription = ""\nauthors = []\n'
    '[tool.poetry.dependencies]\npython = ">=3.11"\n'
    '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n',
    '{name} = {{ path = "libs/{name}" }}',
    ("poetry", "lock", "--no-interaction"),
    ("poetry", "check", "--lock"),
)
CARGO = Kind(
    "Cargo.lock",
    "Cargo.toml",
    '[package]\nname = "app"\nversion = "1.0.0"\nedition = "2021"\n[dependencies]\n{lines}\n',
    '[package]\nname = "{name}"\nversion = "1.0.0"\nedition = "2021"\n',
    '{name} = {{ path = "libs/{name}" }}',
    ("cargo", "generate-lockfile", "--offline"),
    ("cargo", "metadata", "--locked", "--offline", "--format-version", "1"),
    "src/lib.rs",
)


def manifest(kind: Kind, **needed: str) -> str:
    """The manifest of the whole; `needed` are packages by the place that they are named at."""
    lines = [kind.line.format(name="alpha")]
    for place in PLACES:
        name = needed.get(place.removeprefix("# "))
        lines.append(kind.line.format(name=name) if name else place)
    return kind.whole.format(lines="\n".join(lines))


def call(root: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def works(tool: str) -> bool:
    """Whether a tool is there, and no empty shell of one that needs the user's home."""
    there = shutil.which(tool) is not None
    return there and subprocess.run((tool, "--version"), capture_output=True, check=False).returncode == 0


def branch(user: Repository, kind: Kind, place: str, name: str) -> None:
    """A branch that needs one more package, locked by the tool."""
    user.git("switch", "--quiet", "--create", place, "main")
    user.write({kind.manifest: manifest(kind, **{place: name})})
    call(user.root, kind.command)
    user.commit()
    user.git("switch", "--quiet", "main")


@pytest.mark.parametrize("kind", [UV, POETRY, CARGO], ids=lambda kind: kind.command[0])
def test_a_lock_that_two_branches_changed_is_made_anew(tmp_path: Path, kind: Kind) -> None:
    if not works(kind.command[0]):
        pytest.skip(f"{kind.command[0]} is not installed")
    user = Repository.start(tmp_path / "project")
    for key, value in (("user.name", "Ana"), ("user.email", "ana@example.invalid")):
        user.git("config", key, value)
    for name in NAMES:
        files = {kind.manifest: kind.package.format(name=name), kind.source.format(name=name): ""}
        user.write({f"libs/{name}/{path}": text for path, text in files.items()})
    user.write({kind.manifest: manifest(kind), kind.source.format(name="app"): "", ".gitignore": ".venv/\n"})
    call(user.root, kind.command)
    user.commit()
    branch(user, kind, "one", "beta")
    branch(user, kind, "two", "gamma")

    landed = run_program(user.root, "work", "land", "--branches", "one", "--branches", "two")

    assert landed.returncode == 0, landed.stdout + landed.stderr
    text = (user.root / kind.lock).read_text()
    assert all(f'name = "{name}"' in text for name in NAMES)
    call(user.root, kind.again)
    assert user.git("status", "--porcelain") == ""
