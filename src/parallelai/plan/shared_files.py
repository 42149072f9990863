"""Files that several workstreams are likely to need, known by their names.

Lock files, lists of dependencies, routers and main modules: what each new feature adds a line to. A plan lists
them under `shared`, so that they are edited under a lease, one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

Kind = Literal["lock", "dependencies", "router", "main"]

LOCKS: Final = frozenset(
    {"package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb"}
    | {"deno.lock", "poetry.lock", "uv.lock", "pdm.lock", "Pipfile.lock", "pixi.lock", "conda-lock.yml"}
    | {"Cargo.lock", "go.sum", "go.work.sum", "Gemfile.lock", "composer.lock", "mix.lock", "pubspec.lock"}
    | {"flake.lock", "packages.lock.json", "Podfile.lock", "Package.resolved", "gradle.lockfile"}
)
"""Written by package managers: never merged by hand."""

_DEPENDENCIES: Final = frozenset(
    {"package.json", "pnpm-workspace.yaml", "deno.json", "pyproject.toml", "setup.py", "setup.cfg", "Pipfile"}
    | {
        "environment.yml",
        "environment.yaml",
        "constraints.txt",
        "pixi.toml",
        "Cargo.toml",
        "go.mod",
        "go.work",
    }
    | {"Gemfile", "composer.json", "pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle"}
    | {"settings.gradle.kts", "libs.versions.toml", "mix.exs", "pubspec.yaml", "Package.swift", "Podfile"}
    | {"Directory.Packages.props", "CMakeLists.txt", "conanfile.txt", "vcpkg.json", "flake.nix"}
)
_REQUIREMENTS = re.compile(r"(?:^|/)(?:requirements[\w.-]*\.(?:txt|in)|requirements/[\w.-]+\.(?:txt|in))\Z")
_CODE = r"\.(?:py|js|jsx|mjs|cjs|ts|tsx|mts|go|rs|rb|php|java|kt|cs|swift|dart|c|cc|cpp|ex|vue|svelte)"
_SOURCE = re.compile(rf"{_CODE}\Z")
_ROUTER = re.compile(
    rf"(?:^|/)(?:routes?|routers?|routing|urls|app[-.]routing(?:\.module)?|app\.routes){_CODE}\Z",
    re.IGNORECASE,
)
_MAIN = re.compile(
    rf"(?:^|/)(?:(?:main|__main__|manage|wsgi|asgi|app){_CODE}|lib\.rs|Program\.cs|\w*Application\.(?:java|kt))\Z",
    re.IGNORECASE,
)
_TOP_INDEX = re.compile(rf"\A(?:src/|app/|lib/)?index{_CODE}\Z")
_TOP_PACKAGE = re.compile(r"\A(?:src/)?[^/]+/__init__\.py\Z")
_ASIDE: Final = frozenset(
    {"test", "tests", "spec", "specs", "__tests__", "e2e", "testing", "testdata", "fixtures", "docs", "doc"}
    | {"examples", "example", "samples", "demo", "benchmarks", "vendor", "third_party", "node_modules"}
    | {"scripts", "tools", "templates", "migrations"}
)


def likely_shared(paths: Iterable[str]) -> tuple[str, ...]:
    """Give the files of a project that several workstreams are likely to edit, sorted."""
    return tuple(sorted(path for path in paths if kind_of(path) is not None))


def is_code(path: str) -> bool:
    """Say whether a file is source code, by its name."""
    return _SOURCE.search(path) is not None


def kind_of(path: str) -> Kind | None:
    """Say what kind of shared file a path is by its name, None for others.

    Routers and main modules count only in the code itself, not among tests, docs, examples or vendored code.
    """
    folder, _, name = path.rpartition("/")
    if name in LOCKS:
        return "lock"
    if name in _DEPENDENCIES or _REQUIREMENTS.search(path):
        return "dependencies"
    if not _ASIDE.isdisjoint(folder.lower().split("/")):
        return None
    if _ROUTER.search(path):
        return "router"
    if _MAIN.search(path) or _TOP_INDEX.search(path) or _TOP_PACKAGE.search(path):
        return "main"
    return None
