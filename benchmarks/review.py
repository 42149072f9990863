"""A review of a large public project by the analysers, beside Ruff itself on the same files.

The project is Django, as its source package. Ruff runs as a user would call it on a fresh checkout: it prints in
its own form, and its cache is empty, for a review asks no cache either. Beside it stands Ruff that prints SARIF
and writes no cache, as the review has it do: about a tenth quicker. Start-up is taken off: what is left is what a
review adds, per file, to Ruff. Start-up is a review of one file that is looked for by a pattern, so that git lists
the project for it, too; beside it stands a review of one file that is named, which lists nothing. The findings
have to be those of Ruff, and a progress bar must not stand still.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from benchmarks.figures import Figure, Options, at_most, installed, left_out, program, table

NAME = "review of Django over Ruff itself"
BAR = 1.5
ROUNDS = 7
DOWNLOAD = ("-m", "pip", "download", "--quiet", "--no-binary", ":all:", "--no-deps")
FOUND = (0, 1)
"""1 is: it looked, and found something."""

Place = tuple[str, int, str]


@dataclass
class Times:
    """Wall seconds of each round."""

    ruff: list[float] = field(default_factory=list)
    sarif: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    named: list[float] = field(default_factory=list)
    review: list[float] = field(default_factory=list)


def run(options: Options) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        root, why = _django(folder)
        if root is None:
            return [left_out(NAME, why)]
        times, theirs, ours = Times(), set[Place](), set[Place]()
        for number in range(ROUNDS):
            theirs = _by_ruff(root, folder / f"cache-{number}", times)
            _start(root, folder, times)
            ours = _review(root, folder / f"{number}.sarif", times)
        pause = _longest_pause(root, folder)
    return _figures(root.name, times, theirs, ours, pause)


def _figures(
    name: str, times: Times, theirs: set[Place], ours: set[Place], pause_seconds: float
) -> list[Figure]:
    each = (times.ruff, times.sarif, times.start, times.named, times.review)
    ruff, sarif, start, named, whole = map(statistics.median, each)
    rows = [(f"{name}, median of {ROUNDS}", "seconds", "findings' places")]
    rows += [("ruff check", f"{ruff:.3f}", ""), ("  that prints SARIF", f"{sarif:.3f}", str(len(theirs)))]
    rows += [("review of one file", f"{start:.3f}", "")]
    rows += [("review", f"{whole:.3f}", str(len(ours))), ("  less start-up", f"{whole - start:.3f}", "")]
    print(table(rows))
    _tell("Ruff's only", theirs - ours)
    _tell("the review's only", ours - theirs)
    differing = len(theirs ^ ours)
    return [
        at_most(NAME, (whole - start) / ruff, BAR, "×"),
        Figure("  over Ruff that prints SARIF", f"{(whole - start) / sarif:.2f}×"),
        Figure("  less the start-up for a named file", f"{(whole - named) / ruff:.2f}×"),
        Figure("  places that differ from Ruff's", str(differing), "0", not differing),
        Figure("  longest pause between ended tasks", f"{pause_seconds:.2f} s"),
    ]


def _tell(whose: str, places: set[Place]) -> None:
    for path, line, rule in sorted(places)[:5]:
        print(f"  {whose}: {path}:{line} {rule}")


def _django(folder: Path) -> tuple[Path | None, str]:
    """Unpack Django's source package; None and why, where it cannot be had.

    pip makes the package's metadata even for a download: with what is installed, else in a place of its own.
    """
    said = ""
    for more in (("--no-build-isolation",), ()):
        argv = [sys.executable, *DOWNLOAD, *more, "--dest", str(folder), "django"]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        said = ended.stderr.strip() or said
        if ended.returncode == 0:
            break
    package = next(folder.glob("*.tar.gz"), None)
    if package is None:
        return None, f"Django's source package cannot be had: {said.splitlines()[-1] if said else '?'}"
    with tarfile.open(package) as archive:
        archive.extractall(folder, filter="data")
    root = next(path for path in folder.iterdir() if path.is_dir())
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    return root, ""


def _by_ruff(root: Path, cache: Path, times: Times) -> set[Place]:
    check = [installed("ruff"), "check", "--no-fix", "--extend-select", "S"]
    times.ruff.append(program([*check, "--cache-dir", str(cache), "."], cwd=root, exits=FOUND).wall)
    ended = program([*check, "--no-cache", "--output-format", "sarif", "."], cwd=root, exits=FOUND)
    times.sarif.append(ended.wall)
    return {_place(result, root) for result in json.loads(ended.output)["runs"][0]["results"]}


def _start(root: Path, folder: Path, times: Times) -> None:
    for pattern, taken in (("django/__init__.p[y]", times.start), ("django/__init__.py", times.named)):
        argv = _command(pattern, folder / "one.sarif")
        taken.append(program(argv, cwd=root, exits=FOUND).wall)


def _review(root: Path, output: Path, times: Times) -> set[Place]:
    times.review.append(program(_command("**/*.py", output), cwd=root, exits=FOUND).wall)
    results = json.loads(output.read_text())["runs"][0]["results"]
    return {_place(result, root) for result in results}


def _command(pattern: str, output: Path) -> list[str]:
    review = [sys.executable, installed("parallelai"), "review", pattern, "--engine", "analyzers"]
    return [*review, "--new", "--format", "sarif", "--output", str(output)]


def _place(result: Mapping[str, Any], root: Path) -> Place:
    place = result["locations"][0]["physicalLocation"]
    file = unquote(place["artifactLocation"]["uri"]).removeprefix(root.as_uri() + "/")
    return file, place["region"]["startLine"], str(result["ruleId"])


def _longest_pause(root: Path, folder: Path) -> float:
    """Seconds from the start of a run to the first task that ended, and from each to the next."""
    events = folder / "events.jsonl"
    argv = [*_command("**/*.py", folder / "watched.sarif"), "--events", str(events)]
    program(argv, cwd=root, exits=FOUND)
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    times = [
        datetime.fromisoformat(row["at"]).timestamp()
        for row in rows
        if row["type"] in ("run.started", "task.ended")
    ]
    return max((after - before for before, after in pairwise(times)), default=0.0)
