"""Which source files a gate should see, and what no parser of their language lets pass. Pure.

A canary goes where most of the code would notice it: into the file whose name most other files import, weighed by
where they lie (tests that the gate's command names, other tests, the rest). That is read from lines that look like
imports, in any language; a wrong guess costs one run, as up to three files in different folders are tried.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

MOST = 3
"""How many files are tried."""
_BROKEN = b")]} this is no program: a canary of parallelai {[(\n"
_BROKEN_PHP = b"\n<?php )]} this is no program: a canary of parallelai {[(\n"

_LANGUAGES: Mapping[str, tuple[str, ...]] = {
    "python": (".py",),
    "script": (".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx", ".vue", ".svelte"),
    "go": (".go",),
    "rust": (".rs",),
    "jvm": (".java", ".kt", ".scala", ".groovy"),
    "c": (".c", ".cc", ".cpp", ".cxx", ".h", ".hpp"),
    "ruby": (".rb",),
    "php": (".php",),
    "dotnet": (".cs", ".fs"),
    "swift": (".swift",),
    "elixir": (".ex",),
    "shell": (".sh", ".bash"),
}
LANGUAGE: Mapping[str, str] = {ending: name for name, endings in _LANGUAGES.items() for ending in endings}
"""The language of a file name's ending."""
_RUNNERS: Mapping[str, str] = {
    **dict.fromkeys(
        ("pytest", "py.test", "tox", "nox", "mypy", "ruff", "pyright", "unittest", "pylint"), "python"
    ),
    **dict.fromkeys(
        ("npm", "npx", "yarn", "pnpm", "node", "jest", "vitest", "mocha", "tsc", "bun"), "script"
    ),
    **dict.fromkeys(("eslint", "deno", "ava", "playwright", "cypress"), "script"),
    **dict.fromkeys(("mvn", "mvnw", "gradle", "gradlew", "sbt", "ant", "javac"), "jvm"),
    **dict.fromkeys(("rspec", "rake", "bundle", "ruby", "rails", "minitest"), "ruby"),
    **dict.fromkeys(("phpunit", "php", "composer", "pest"), "php"),
    **dict.fromkeys(("ctest", "gcc", "clang", "cmake", "bazel"), "c"),
    **dict.fromkeys(("go", "gotestsum"), "go"),
    **dict.fromkeys(("cargo", "rustc"), "rust"),
    "dotnet": "dotnet",
    "swift": "swift",
    "mix": "elixir",
    "bats": "shell",
}
_ASIDE = frozenset(
    {
        *(
            "test",
            "tests",
            "testing",
            "spec",
            "specs",
            "__tests__",
            "__mocks__",
            "e2e",
            "fixtures",
            "testdata",
        ),
        *(
            "doc",
            "docs",
            "example",
            "examples",
            "sample",
            "samples",
            "demo",
            "benchmarks",
            "bench",
            "benches",
        ),
        *("vendor", "third_party", "node_modules", "site-packages", "venv"),
        *("dist", "build", "target", "migrations", "generated"),
    }
)
_NO_SOURCE = re.compile(
    r"(test_.*|.*_test|.*\.test|.*\.spec|.*_spec|.*\.config|.*\.d|.*\.stories|conftest|setup|noxfile|fabfile|tasks)\.\w+"
    r"|.*Tests?\.(java|kt|scala|cs)|\..*"
)
_TEST = re.compile(r"(test_.*|.*_test|.*\.test|.*\.spec|.*_spec|conftest)\.\w+|.*Tests?\.(java|kt|scala|cs)")
_IMPORTS = re.compile(
    rb"^.{0,80}?\b(?:import|from|require|require_relative|include|use|using|mod|load|source|alias)\b.*$",
    re.MULTILINE,
)
_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_OF_FOLDER = frozenset({"__init__", "index", "mod", "lib", "main"})


def language(path: str) -> str | None:
    return LANGUAGE.get(PurePosixPath(path).suffix.lower())


def languages_of(argv: Iterable[str]) -> frozenset[str]:
    """The languages that a command's words speak of; none where they say nothing (`make test`)."""
    words = (word for text in argv for word in re.split(r"[\s;&|()\"']+", text))
    names = (PurePosixPath(word).name for word in words if word)
    found = {
        _RUNNERS.get(name) or ("python" if re.fullmatch(r"python[\d.]*", name) else None) for name in names
    }
    return frozenset(each for each in found if each is not None)


def is_source(path: str) -> bool:
    """Whether a path is a source file that tests could be about, by its name alone."""
    place = PurePosixPath(path)
    if language(path) is None or _NO_SOURCE.fullmatch(place.name):
        return False
    return not any(part.lower() in _ASIDE or part.startswith(".") for part in place.parts[:-1])


def choose(files: Mapping[str, bytes], argv: Sequence[str]) -> list[str]:
    """Choose the files for a gate's canary, the likeliest first; none where there is no source file.

    Args:
        files: the source files and tests of a tree, with their content.
        argv: the gate's command.
    """
    spoken = languages_of(argv)
    sources = [path for path in files if is_source(path)]
    fitting = [path for path in sources if language(path) in spoken] or sources
    mentions = _mentions(files, argv)
    ranked = sorted(fitting, key=lambda path: (-_score(path, mentions), path.count("/"), path))
    chosen: list[str] = []
    for is_new in (True, False):  # first one of each folder, then others
        for path in ranked:
            folders = {str(PurePosixPath(each).parent) for each in chosen}
            if path not in chosen and (str(PurePosixPath(path).parent) not in folders or not is_new):
                chosen.append(path)
            if len(chosen) == MOST:
                return chosen
    return chosen


def _mentions(files: Mapping[str, bytes], argv: Sequence[str]) -> Counter[tuple[str | None, bytes]]:
    """How often each word is imported, by language and weighed."""
    named = [word.partition("::")[0].rstrip("/") for word in argv[1:] if not word.startswith("-")]
    found: Counter[tuple[str | None, bytes]] = Counter()
    for path, data in files.items():
        weight = 3 if _TEST.fullmatch(PurePosixPath(path).name) else 1
        if any(word and (path == word or path.startswith(f"{word}/")) for word in named):
            weight *= 10
        words = {word for line in _IMPORTS.findall(data) for word in _WORD.findall(line)}
        found.update({(language(path), word): weight for word in words})
    return found


def _score(path: str, mentions: Mapping[tuple[str | None, bytes], int]) -> int:
    place = PurePosixPath(path)
    is_folders = place.stem in _OF_FOLDER or language(path) == "go"
    name = place.parent.name if is_folders else place.stem
    return mentions.get((language(path), name.encode("utf-8", "surrogateescape")), 0)


def broken(path: str, data: bytes) -> bytes:
    """Content that no parser of the file's language takes."""
    if language(path) == "php":  # what stands before its first tag is text
        return data + _BROKEN_PHP
    if language(path) in ("python", "shell", "ruby") and data.startswith(b"#!"):
        first, _, rest = data.partition(b"\n")
        return first + b"\n" + _BROKEN + rest
    return _BROKEN + data
