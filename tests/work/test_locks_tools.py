"""Two branches that each need one more package: the lock file is made anew by its own tool."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from repositories import Repository

from running import run_program

PLACES = ("# one", "# -", "# -", "# -", "# two")
"""Lines of a manifest that are far enough apart for git to merge what becomes of them."""
NAMES = ("alpha", "beta", "gamma")
PROJECT = '[project]\nname = "{name}"\nversion = "1"\nrequires-python = ">=3.11"\n'
SOURCES = "".join(f'{name} = {{ path = "libs/{name}" }}\n' for name in NAMES)


def manifest(**needed: str) -> str:
    """The manifest of the whole; `needed` are packages by the place that they are named at."""
    lines = ['"alpha",']
    for place in PLACES:
        name = needed.get(place.removeprefix("# "))
        lines.append(f'"{name}",' if name else place)
    dependencies = "dependencies = [\n{}\n]\n".format("\n".join(lines))
    return (
        f"{PROJECT.format(name='app')}{dependencies}[tool.uv]\npackage = false\n[tool.uv.sources]\n{SOURCES}"
    )


def lock(root: Path, *more: str) -> None:
    done = subprocess.run(
        ["uv", "lock", "--offline", *more], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def branch(user: Repository, place: str, name: str) -> None:
    """A branch that needs one more package, locked by the tool."""
    user.git("switch", "--quiet", "--create", place, "main")
    user.write({"pyproject.toml": manifest(**{place: name})})
    lock(user.root)
    user.commit()
    user.git("switch", "--quiet", "main")


def test_a_lock_that_two_branches_changed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    user = Repository.start(tmp_path / "project")
    for key, value in (("user.name", "Ana"), ("user.email", "ana@example.invalid")):
        user.git("config", key, value)
    for name in NAMES:
        user.write({f"libs/{name}/pyproject.toml": PROJECT.format(name=name), f"libs/{name}/{name}.py": ""})
    user.write({"pyproject.toml": manifest(), "app.py": "", ".gitignore": ".venv/\n"})
    lock(user.root)
    user.commit()
    branch(user, "one", "beta")
    branch(user, "two", "gamma")

    landed = run_program(user.root, "work", "land", "--branches", "one", "--branches", "two")

    assert landed.returncode == 0, landed.stdout + landed.stderr
    text = (user.root / "uv.lock").read_text()
    assert all(f'name = "{name}"' in text for name in NAMES)
    lock(user.root, "--check")
    assert user.git("status", "--porcelain") == ""


@dataclass(frozen=True)
class Language:
    """A tool that not every machine has. `files` are a project's that needs some packages, `lock` locks it.

    `base` is what the project needs at first, `more` what each of two branches adds.
    """

    program: str
    lock: str
    files: Callable[[str], Mapping[str, str]]
    command: tuple[str, ...]
    base: str
    more: tuple[str, str]
    packages: Callable[[Path], Mapping[str, str]]
    """The packages themselves, as files of the project; in a folder of the test what lies beside it."""
    env: Mapping[str, str] = field(default_factory=dict)


def gems(beside: Path) -> dict[str, str]:
    words = 's.version = "1"; s.summary = "s"; s.authors = ["a"]; s.files = []'
    return {
        f"p/{n}/{n}.gemspec": f'Gem::Specification.new {{ |s| s.name = "{n}"; {words} }}\n' for n in "abmnp"
    }


def gemfile(needed: str) -> dict[str, str]:
    """Gems in an order of their own, so that only the lock, which sorts them, is in conflict."""
    lines = (f'gem "{name}", path: "p/{name}"\n' for name in "mbpna" if name in needed)
    return {"Gemfile": 'source "https://rubygems.org"\n' + "".join(lines)}


def composer_packages(beside: Path) -> dict[str, str]:
    return {f"p/{n}/composer.json": json.dumps({"name": f"a/{n}", "version": "1.0.0"}) for n in "abmnp"}


def composer_json(needed: str) -> dict[str, str]:
    places = [{"type": "path", "url": f"p/{name}", "options": {"symlink": False}} for name in "abmnp"]
    document = {
        "repositories": [*places, {"packagist.org": False}],
        "require": {f"a/{name}": "*" for name in sorted(needed)},
    }
    return {"composer.json": json.dumps(document, indent=4) + "\n"}


def go_modules(beside: Path) -> dict[str, str]:
    """Nothing in the project: modules come from a folder that stands for a proxy, as go has it."""
    for name in "abmnp":
        place = beside / f"example.com/{name}/@v"
        place.mkdir(parents=True)
        mod = f"module example.com/{name}\n\ngo 1.19\n"
        (place / "v1.0.0.mod").write_text(mod)
        (place / "v1.0.0.info").write_text('{"Version": "v1.0.0"}')
        with zipfile.ZipFile(place / "v1.0.0.zip", "w") as packed:
            packed.writestr(f"example.com/{name}@v1.0.0/go.mod", mod)
            packed.writestr(f"example.com/{name}@v1.0.0/{name}.go", f"package {name}\n")
    return {}


def go_files(needed: str) -> dict[str, str]:
    lines = "".join(f"\n// {name}\nrequire example.com/{name} v1.0.0\n" for name in "mbpna" if name in needed)
    sources = {f"{name}.go": f'package app\n\nimport _ "example.com/{name}"\n' for name in needed}
    return {"go.mod": f"module example.com/app\n\ngo 1.19\n{lines}", **sources}


@pytest.fixture
def beside() -> Iterator[Path]:
    """A folder that confined programs see, which have a `/tmp` of their own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


LANGUAGES = (
    Language("bundle", "Gemfile.lock", gemfile, ("bundle", "lock", "--local"), "bp", ("m", "n"), gems),
    Language(
        "composer",
        "composer.lock",
        composer_json,
        ("composer", "update", "--no-install", "-n", "-q"),
        "bmp",
        ("a", "n"),
        composer_packages,
    ),
    Language(
        "go",
        "go.sum",
        go_files,
        ("go", "mod", "tidy"),
        "bp",
        ("m", "n"),
        go_modules,
        {"GOPROXY": "file://{beside}", "GONOSUMDB": "*", "GOFLAGS": "-modcacherw"},
    ),
)


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.program)
def test_locks_of_other_languages_are_made_anew_without_the_network(
    tmp_path: Path, beside: Path, monkeypatch: pytest.MonkeyPatch, language: Language
) -> None:
    if shutil.which(language.program) is None:
        pytest.skip(f"needs {language.program}")
    user = Repository.start(tmp_path / "project")
    env = {name: value.format(beside=beside) for name, value in language.env.items()}
    for name, value in {"COMPOSER_ALLOW_SUPERUSER": "1", "GOMODCACHE": str(tmp_path / "go"), **env}.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "config" / "parallelai" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[workspace]\nnetwork = "off"\npass_env = {json.dumps(list(env))}\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config.parent.parent))
    for key, value in (("user.name", "Ana"), ("user.email", "ana@example.invalid")):
        user.git("config", key, value)

    def commit(needed: str) -> None:
        user.write(language.files(needed))
        subprocess.run(language.command, cwd=user.root, check=True, capture_output=True)
        user.commit()

    user.write(language.packages(beside))
    commit(language.base)
    for name in language.more:
        user.git("switch", "--quiet", "--create", name, "main")
        commit(language.base + name)
        user.git("switch", "--quiet", "main")
    alone = subprocess.run(
        ["git", "merge-tree", "--write-tree", "--name-only", "--no-messages", *language.more],
        cwd=user.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.stdout.split()[1:] == [language.lock]

    landed = run_program(user.root, "work", "land", "--branches", *language.more)

    assert landed.returncode == 0, landed.stdout + landed.stderr
    text = (user.root / language.lock).read_text()
    subprocess.run(language.command, cwd=user.root, check=True, capture_output=True)
    assert (user.root / language.lock).read_text() == text  # the tool finds nothing to do
    assert user.git("status", "--porcelain") == ""
