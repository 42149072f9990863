"""The analyzers engine on real projects with the real Ruff: the same findings, nothing written, all told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from parallelai.engines.analyzers import ruff
from parallelai.engines.analyzers.engine import AnalyzersEngine
from parallelai.engines.conformance import CollectingPort, conform
from parallelai.engines.context import EngineContext
from parallelai.engines.protocol import Request
from parallelai.errors import ConfigError, Internal, Rejected, TimedOut, Unavailable
from parallelai.plan.model import EngineEntry
from parallelai.records import FilePart, Reply, Severity, from_json, to_json

RUFF = ruff.find_ruff() or pytest.fail("Ruff is not installed beside the interpreter")
ENTRY = EngineEntry(use="analyzers")
BAD = 'assert True\nexec("1")\npassword = "hunter2"\nimport pickle\n'
"""S101, S102, S105, and F401 by Ruff's defaults."""

Place = tuple[str, int, str | None]


@dataclass(frozen=True)
class Tool:
    command: tuple[str, ...]
    files: tuple[str, ...] = ()
    batch: int = 50


class Project:
    """A folder of files, what the engine finds in it, and what Ruff itself does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tools: Mapping[str, Tool] = {}
        self.trusted = False

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def engine(self) -> AnalyzersEngine:
        context = EngineContext(self.root, self.tools, self.trusted)
        return AnalyzersEngine("analyzers", ENTRY, context)

    def request(self, *files: str | FilePart, **keys: object) -> Request:
        listed = files or tuple(
            sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        )
        parts = tuple(FilePart(file) if isinstance(file, str) else file for file in listed)
        request = Request("r", "t", 1, str(self.root), "", files=parts, output="findings", grace_seconds=0.2)
        return replace(request, **keys)

    async def review(self, *files: str | FilePart, **keys: object) -> Reply:
        reply = await self.engine().perform(self.request(*files, **keys), CollectingPort())
        accounted = [
            *reply.coverage.covered,
            *(n.file for n in reply.coverage.skipped + reply.coverage.failed),
        ]
        assert len(accounted) == len(set(accounted)), "a file is told twice"
        assert from_json(Reply, json.loads(json.dumps(to_json(reply)))) == reply
        return reply

    def by_ruff(self, *options: str) -> set[Place]:
        """What `ruff check` itself finds in the folder."""
        argv = [RUFF, "check", "--no-fix", "--no-cache", "--extend-select", "S", "--output-format", "json"]
        done = subprocess.run([*argv, *options, "."], cwd=self.root, capture_output=True, check=False)
        return {
            (os.path.relpath(item["filename"], self.root), item["location"]["row"], item["code"])
            for item in json.loads(done.stdout)
        }


def places(reply: Reply) -> set[Place]:
    return {(finding.file, finding.line[0], finding.rule) for finding in reply.findings}


def rules(reply: Reply) -> set[str | None]:
    return {finding.rule for finding in reply.findings}


def skipped(reply: Reply) -> dict[str, str]:
    return {note.file: note.why for note in reply.coverage.skipped}


def failed(reply: Reply) -> dict[str, str]:
    return {note.file: note.why for note in reply.coverage.failed}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# --- The same as Ruff itself


async def test_finds_what_ruff_finds_in_its_own_installation(project: Project) -> None:
    """Code of strangers, a hundred files of it, which every installation has."""
    import click
    import pydantic

    for package in (click, pydantic):
        source = Path(package.__file__).parent
        for path in source.rglob("*.py"):
            target = project.root / source.name / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    reply = await project.review()
    assert len(reply.coverage.covered) > 100
    assert places(reply) == project.by_ruff()
    assert len(places(reply)) > 100


async def test_obeys_settings_of_every_folder_as_ruff_does(project: Project) -> None:
    project.write(
        {
            "pyproject.toml": '[tool.ruff]\nextend-exclude = ["old"]\n[tool.ruff.lint]\nextend-select = ["D100"]\n'
            '[tool.ruff.lint.per-file-ignores]\n"tests/*" = ["S101", "D"]\n',
            "a.py": BAD,
            "b.pyi": "import os\n",
            "tests/test_a.py": BAD,
            "old/c.py": BAD,
            "dist/d.py": BAD,
            "inner/ruff.toml": 'line-length = 5\nlint.select = ["E501"]\n',
            "inner/deep/e.py": BAD,
            "left/ruff.toml": 'extend = "../pyproject.toml"\nlint.exclude = ["f.py"]\n',
            "left/f.py": BAD,
            "left/g.py": BAD,
            "script": "#!/usr/bin/env python\nassert 1\n",
            "notes.md": "```python\nassert 1\n```\n",
        }
    )
    reply = await project.review()
    assert places(reply) == project.by_ruff()
    excluded = "excluded by the project's Ruff settings"
    told = skipped(reply)
    assert {file for file, why in told.items() if why == excluded} == {"old/c.py", "dist/d.py", "left/f.py"}
    assert told["script"] == told["notes.md"] == "no analyser for this kind of file"
    assert {"a.py", "b.pyi", "tests/test_a.py", "inner/deep/e.py", "left/g.py"} <= set(reply.coverage.covered)


async def test_include_decides_which_files_are_looked_at(project: Project) -> None:
    project.write(
        {
            "ruff.toml": 'include = ["src/*.py", "*.script"]\nextension = {script = "python"}\n',
            "src/a.py": BAD,
            "other/b.py": BAD,
            "c.script": BAD,
        }
    )
    reply = await project.review()
    assert places(reply) == project.by_ruff()
    assert {file for file, _, _ in places(reply)} == {"src/a.py", "c.script"}
    assert "other/b.py" in skipped(reply)


async def test_reports_preview_rules_that_have_only_a_name(project: Project) -> None:
    settings = 'preview = true\nlint.select = ["ALL"]\n'
    project.write({"ruff.toml": settings, "a.py": 'import re\nre.compile("x").match("x")\n'})
    reply = await project.review("a.py")
    named = {rule or "" for _, _, rule in project.by_ruff() if rule}
    assert named <= rules(reply)
    assert all(rules(reply))


@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        ('lint.ignore = ["S101"]', {"S101"}),
        ('ignore = ["S101"]', {"S101"}),
        ('lint.extend-ignore = ["S10"]', {"S101", "S102", "S105"}),
        ('lint.ignore = ["S"]', {"S101", "S102", "S105"}),
        ('lint.ignore = ["ALL"]', {"S101", "S102", "S105", "F401"}),
        ('lint.ignore = ["S1"]\nlint.select = ["S102"]', {"S101", "S105", "F401"}),
        ('lint.ignore = ["SIM", "E501"]', set()),
        ('preview = true\nlint.ignore = ["assert"]', {"S101"}),
        ("", set()),
    ],
)
async def test_rules_that_the_project_ignores_stay_ignored(
    project: Project, settings: str, gone: set[str]
) -> None:
    project.write({"ruff.toml": settings + "\n", "a.py": BAD})
    reply = await project.review("a.py")
    assert {"S101", "S102", "S105", "F401"} - rules(reply) == gone
    # The trap: on Ruff's command line a selection wins over the project's `ignore`.
    if "S101" in gone:
        assert ("a.py", 1, "S101") in project.by_ruff()


async def test_what_an_extended_file_ignores_stays_ignored_unless_selected_again(project: Project) -> None:
    project.write(
        {
            "base.toml": 'lint.ignore = ["S101", "S102"]\n',
            "ruff.toml": 'extend = "base.toml"\nlint.extend-select = ["S102"]\n',
            "a.py": BAD,
            "plain/ruff.toml": "\n",
            "plain/b.py": BAD,
        }
    )
    reply = await project.review("a.py", "plain/b.py")
    found = {(finding.file, finding.rule) for finding in reply.findings}
    assert ("a.py", "S101") not in found
    assert {("a.py", "S102"), ("plain/b.py", "S101"), ("plain/b.py", "S102")} <= found


# --- Nothing is written


async def test_writes_nothing_whatever_the_settings_say(project: Project) -> None:
    project.write(
        {
            "ruff.toml": 'fix = true\nfix-only = true\nunsafe-fixes = true\nshow-fixes = true\ncache-dir = "c"\n'
            'output-format = "github"\n',
            "a.py": BAD,
        }
    )
    reply = await project.review("a.py")
    assert (project.root / "a.py").read_text() == BAD
    assert sorted(path.name for path in project.root.iterdir()) == ["a.py", "ruff.toml"]
    assert rules(reply) == {"S101", "S102", "S105", "F401"}


# --- Settings that cannot be used


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ('line-length = "x"', "invalid type"),
        ("lint.no-such-key = 1", "no-such-key"),
        ("= =", "ruff.toml"),
        ('required-version = "==0.0.1"', "0.0.1"),
        ('extend = "nowhere.toml"', "nowhere.toml"),
        ('extend = "/etc/hostname"', "/etc/hostname"),
        ('lint.ignore = ["NOPE999"]', "NOPE999"),
        ('extend = "/dev/zero"', "/dev/zero"),
        ('extend = "ruff.toml"', "ruff.toml"),
    ],
)
async def test_settings_that_ruff_cannot_load_are_named_and_the_built_in_ones_used(
    project: Project, settings: str, word: str
) -> None:
    project.write({"sub/ruff.toml": settings + "\n", "sub/a.py": BAD, "b.py": BAD, "sub/dist/c.py": BAD})
    reply = await project.review("sub/a.py", "b.py", "sub/dist/c.py")
    for file in ("sub/a.py", "b.py"):
        assert {rule for path, _, rule in places(reply) if path == file} == {"S101", "S102", "S105", "F401"}
    assert "sub/dist/c.py" in skipped(reply)
    assert any(word in note and "built-in" in note for note in reply.notes), reply.notes
    assert not any(str(project.root) in note for note in reply.notes)


async def test_bad_settings_at_the_top_do_not_touch_good_ones_below(project: Project) -> None:
    project.write(
        {
            "ruff.toml": 'line-length = "x"\nlint.ignore = ["S102"]\n',
            "a.py": BAD,
            "good/ruff.toml": 'lint.select = ["D100"]\n',
            "good/b.py": BAD,
        }
    )
    reply = await project.review("a.py", "good/b.py")
    assert {rule for path, _, rule in places(reply) if path == "good/b.py"} == {
        "D100",
        "S101",
        "S102",
        "S105",
    }
    # What it ignores can still be read.
    assert {rule for path, _, rule in places(reply) if path == "a.py"} == {"S101", "S105", "F401"}
    assert len(reply.notes) == 1


async def test_a_huge_settings_file_is_not_read(project: Project) -> None:
    project.write({"ruff.toml": "# " + "x" * 2_000_000, "a.py": BAD})
    reply = await project.review("a.py")
    assert "S102" in rules(reply)
    assert "larger than" in reply.notes[0]


async def test_no_variable_of_the_users_shell_changes_what_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUFF_OUTPUT_FORMAT", "github")
    monkeypatch.setenv("RUFF_OUTPUT_FILE", str(project.root / "out.txt"))
    project.write({"a.py": BAD})
    assert "S102" in rules(await project.review("a.py"))
    assert not (project.root / "out.txt").exists()


# --- Odd and hostile files


async def test_a_syntax_error_is_a_finding_of_high_severity(project: Project) -> None:
    project.write({"a.py": "def f(:\n"})
    reply = await project.review("a.py")
    first = reply.findings[0]
    assert (first.rule, first.severity, first.line, first.category) == (
        "invalid-syntax",
        Severity.HIGH,
        (1, 1),
        "bug",
    )
    assert reply.coverage.covered == ("a.py",)


async def test_names_of_every_kind(project: Project) -> None:
    names = [
        "-x.py",
        "--config=x.py",
        "@args.py",
        "a b.py",
        "n\nl.py",
        "*.py",
        "[a].py",
        "~c.py",
        "é😀.py",
        "$H.py",
    ]
    project.write(dict.fromkeys(names, BAD))
    for settings in ("", 'lint.exclude = ["a b.py"]\n', 'exclude = ["a b.py"]\n'):
        project.write({"ruff.toml": settings})
        reply = await project.review(*names)
        left = {"a b.py"} if settings else set()
        assert set(reply.coverage.covered) == set(names) - left
        assert set(skipped(reply)) == left
        assert {finding.file for finding in reply.findings} == set(names) - left


async def test_a_name_that_is_not_utf8_is_skipped_and_told(project: Project) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    (project.root / name).write_text(BAD)
    project.write({"a.py": BAD})
    reply = await project.review(name, "a.py")
    assert skipped(reply) == {"caf\\udce9.py": "its name is not UTF-8"}
    assert reply.coverage.covered == ("a.py",)


async def test_more_files_than_fit_on_a_command_line(project: Project) -> None:
    folder = "/".join(letter * 240 for letter in "abcdefghijklmn")
    names = [f"{folder}/{'m' * 200}{number}.py" for number in range(600)]
    project.write(dict.fromkeys(names, "exec('1')\n"))
    assert sum(map(len, names)) > 2 * 1024 * 1024
    reply = await project.review(*names)
    assert len(reply.coverage.covered) == 600
    assert len([finding for finding in reply.findings if finding.rule == "S102"]) == 600


async def test_a_file_that_crashes_ruff_fails_alone(project: Project) -> None:
    project.write({f"m{number}.py": BAD for number in range(9)})
    project.write({"deep.py": "x" + ".a" * 300_000 + "\n"})
    reply = await project.review()
    assert list(failed(reply)) == ["deep.py"]
    assert "crashed" in failed(reply)["deep.py"]
    assert {finding.file for finding in reply.findings} == {f"m{number}.py" for number in range(9)}


async def test_requests_that_are_under_way_at_once_share_the_cores(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    program, log = project.root / "ruff", project.root / "log"
    # Each stays until all have said how many threads they may have.
    wait = f'until [ $(wc -l < "{log}") -ge "$(cat "{project.root}/all")" ]; do sleep 0.01; done'
    program.write_text(f'#!/bin/sh\necho "${{RAYON_NUM_THREADS-any}}" >> "{log}"\n{wait}\n')
    program.chmod(0o755)
    looking = ruff.Ruff(str(program), str(project.root))

    async def check() -> None:
        bounds = ruff.Bounds(asyncio.get_running_loop().time() + 60.0)
        await looking.check({f"{project.root}/a.py": "a.py"}, bounds)

    project.write({"all": "1"})
    await check()
    project.write({"all": "5"})
    await asyncio.gather(*(check() for _ in range(4)))
    assert log.read_text().split() == ["any", "4", "4", "4", "4"]


async def test_files_that_cannot_be_read_are_told(project: Project) -> None:
    project.write({"a.py": "x = 1\n", "sub/b.py": "x = 1\n"})
    (project.root / "latin.py").write_bytes(b'# coding: latin-1\nx = "\xe9"\n')
    outside = project.root.parent / f"{project.root.name}-outside.py"
    outside.write_text(BAD)
    try:
        (project.root / "link.py").symlink_to(outside)
        (project.root / "up").symlink_to(project.root.parent)
        (project.root / "inside.py").symlink_to("a.py")
        os.mkfifo(project.root / "pipe.py")
        reply = await project.review(
            "a.py",
            "gone.py",
            "latin.py",
            "link.py",
            f"up/{outside.name}",
            "inside.py",
            "pipe.py",
            "../x.py",
            "/etc/hosts",
            "nul\0.py",
            "sub",
        )
    finally:
        outside.unlink()
    assert set(reply.coverage.covered) == {"a.py", "inside.py"}
    assert failed(reply) == {
        "gone.py": "it no longer exists",
        "latin.py": "stream did not contain valid UTF-8",
        "../x.py": "outside the project",
        "/etc/hosts": "outside the project",
        "nul\0.py": "outside the project",
    }
    assert skipped(reply) == {
        "link.py": "link out of the project",
        f"up/{outside.name}": "link out of the project",
        "pipe.py": "not a file",
        "sub": "not a file",
    }
    # Ruff's own finding about it stays one: Python cannot read the file either.
    assert rules(reply) == {"E902"}


async def test_a_file_that_ruff_cannot_read_has_failed_whatever_rules_are_selected(project: Project) -> None:
    project.write({"ruff.toml": "lint.select = ['F']", "sub/ruff.toml": "lint.ignore = ['E9']", "a.py": BAD})
    for name in ("latin: 1.py", "sub/latin.py"):
        (project.root / name).write_bytes(b'x = "\xe9"\n')
    reply = await project.review("a.py", "latin: 1.py", "sub/latin.py")
    assert set(reply.coverage.covered) == {"a.py"}
    assert failed(reply) == dict.fromkeys(
        ("latin: 1.py", "sub/latin.py"), "stream did not contain valid UTF-8"
    )
    assert {finding.file for finding in reply.findings} == {"a.py"}


async def test_a_file_with_too_many_findings_keeps_some_and_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ruff, "MAX_OUTPUT_BYTES", 20_000)
    project.write({"many.py": "exec('1')\n" * 1000, "a.py": BAD, "b.py": BAD})
    reply = await project.review()
    assert list(failed(reply)) == ["many.py"]
    assert set(reply.coverage.covered) == {"a.py", "b.py"}
    assert {finding.file for finding in reply.findings} == {"many.py", "a.py", "b.py"}


# --- What a finding says


async def test_places_count_code_points_and_ends_are_exclusive(project: Project) -> None:
    project.write({"a.py": 'x = "😀é"; exec("1")\n'})
    (finding,) = [found for found in (await project.review("a.py")).findings if found.rule == "S102"]
    assert (finding.line, finding.column) == ((1, 1), (11, 15))
    assert finding.message
    assert (finding.by, finding.id, finding.task, finding.state) == ((), "", "", "open")


async def test_parts_of_files_get_only_their_findings(project: Project) -> None:
    project.write({"a.py": BAD})
    parts = (FilePart("a.py", 1, 1), FilePart("a.py", 3, 3))
    assert places(await project.review(*parts)) == {("a.py", 1, "S101"), ("a.py", 3, "S105")}
    reply = await project.review(FilePart("a.py", 2))
    assert rules(reply) == {"S102", "S105", "F401"}


async def test_the_order_is_the_same_every_time(project: Project) -> None:
    project.write({f"m{number}.py": BAD for number in range(30)})
    first, second = await project.review(), await project.review()
    assert first == second
    assert [finding.file for finding in first.findings] == sorted(finding.file for finding in first.findings)


async def test_notebooks_are_placed_in_their_file(project: Project) -> None:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# T\n", "exec\n"]},
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": ["x = 1\n", "exec('1')\n", "exec('2')"],
        },
    ]
    metadata = {"language_info": {"name": "python"}}
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 2}
    project.write({"a.ipynb": json.dumps(notebook, indent=1)})
    reply = await project.review("a.ipynb")
    lines = (project.root / "a.ipynb").read_text().splitlines()
    found = [finding for finding in reply.findings if finding.rule == "S102"]
    assert [lines[finding.line[0] - 1].strip() for finding in found] == [
        r""""exec('1')\n",""",
        '''"exec('2')"''',
    ]
    assert found[0].message.endswith("(cell 2, line 2)")


# --- The engine itself


async def test_conforms(project: Project) -> None:
    project.write({"a.py": BAD})
    verdicts = await conform(
        project.engine, project.request("a.py"), failing=project.request("a.py", output="text")
    )
    assert [verdict for verdict in verdicts if not verdict.ok] == []


async def test_gives_findings_only(project: Project) -> None:
    with pytest.raises(Rejected, match="findings only"):
        await project.review("a.py", output="text")


async def test_keys_without_effect_are_refused(tmp_path: Path) -> None:
    entry = EngineEntry(use="analyzers", model="best")
    with pytest.raises(ConfigError, match="model"):
        AnalyzersEngine("analyzers", entry, EngineContext(tmp_path))


async def test_no_files_is_an_empty_reply(project: Project) -> None:
    engine = project.engine()
    reply = await engine.perform(replace(project.request("x"), files=()), CollectingPort())
    assert reply.findings == ()
    assert reply.coverage is not None
    assert reply.coverage.covered == ()


async def test_ruff_is_the_one_beside_the_interpreter(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = project.root / "bin" / "ruff"
    project.write({"bin/ruff": "#!/bin/sh\necho no\n", "a.py": BAD})
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(fake.parent)
    assert "S102" in rules(await project.review("a.py"))
    found = await project.engine().detect()
    assert found.is_available
    assert Path(str(found.path)).parent in (Path(sys.executable).parent, Path(RUFF).parent)


async def test_without_ruff_it_says_what_to_install(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parallelai.engines.analyzers.engine.find_ruff", lambda: None)
    found = await project.engine().detect()
    assert not found.is_available
    assert "pip install ruff" in str(found.how)
    with pytest.raises(Unavailable):
        await project.review("a.py")


def stand_in(project: Project, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a program of our own in Ruff's place."""
    path = project.root.parent / f"{project.root.name}-ruff"
    path.write_text(f"#!{sys.executable}\nimport sys, time, os\n{body}\n")
    path.chmod(0o755)
    monkeypatch.setattr("parallelai.engines.analyzers.engine.find_ruff", lambda: str(path))


@pytest.mark.parametrize(
    "body",
    [
        'print("ruff failed\\n  Cause: no idea", file=sys.stderr); sys.exit(2)',
        "print('{\"filename\": 1}'); sys.exit(1)",
        'print(\'{"filename": "\' + sys.argv[-1] + \'", "code": "X1", "location": 3}\'); sys.exit(1)',
    ],
)
async def test_a_ruff_that_does_not_work_is_an_error_not_an_empty_review(
    project: Project, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    project.write({f"m{number}.py": BAD for number in range(20)})
    stand_in(project, monkeypatch, body)
    with pytest.raises(Internal) as caught:
        await project.review()
    assert "ruff" in str(caught.value).lower()


async def test_a_ruff_that_hangs_is_ended_at_the_time_out(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write({"a.py": BAD})
    stand_in(project, monkeypatch, "time.sleep(600)")
    with pytest.raises(TimedOut):
        await project.review("a.py", timeout_seconds=0.2)


async def test_being_cancelled_ends_what_runs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write({"a.py": BAD})
    mark = project.root / "pid"
    stand_in(project, monkeypatch, f"open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    turn = asyncio.ensure_future(project.engine().perform(project.request("a.py"), CollectingPort()))
    while not (mark.exists() and mark.read_text()):
        await asyncio.sleep(0.01)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert not psutil.pid_exists(int(mark.read_text()))


# --- Other tools

SARIF_TOOL = """
import json, sys
results = [
    {"ruleId": "no-x", "level": "error", "message": {"text": "found in " + path},
     "locations": [{"physicalLocation": {"artifactLocation": {"uri": path}, "region": {"startLine": 1}}}]}
    for path in sys.argv[1:]
]
print(json.dumps({"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": results}]}))
"""


def python_tool(code: str, **keys: object) -> Tool:
    return Tool((sys.executable, "-c", code), **keys)


async def test_configured_tools_run_over_their_files_in_batches(project: Project) -> None:
    names = [f"m{number}.js" for number in range(5)]
    project.write({**dict.fromkeys(names, "x\n"), "-dash.js": "x\n", "a.py": BAD, "c.txt": ""})
    # A name that begins with a dash must not arrive as an option.
    counting = f"{SARIF_TOOL}assert not [word for word in sys.argv[1:] if word[0] == '-']\n"
    counting += "open('calls', 'a').write(f'{len(sys.argv) - 1} ')\n"
    project.tools, project.trusted = {"lint": python_tool(counting, files=("*.js",), batch=2)}, True
    reply = await project.review(*names, "-dash.js", "a.py", "c.txt")
    by_tool = [finding for finding in reply.findings if finding.rule == "no-x"]
    assert {finding.file for finding in by_tool} == {*names, "-dash.js"}
    assert by_tool[0].severity == "high"
    assert {"S101", "S102", "S105"} <= rules(reply)
    assert set(reply.coverage.covered) == {*names, "-dash.js", "a.py"}
    assert list(skipped(reply)) == ["c.txt"]
    assert (project.root / "calls").read_text().split() == ["2", "2", "2"]


async def test_tools_do_not_run_without_trust_and_that_is_said(project: Project) -> None:
    project.write({"a.js": "x\n"})
    project.tools = {"lint": python_tool("open('ran', 'w')", files=("*.js",))}
    reply = await project.review("a.js")
    assert not (project.root / "ran").exists()
    assert "`lint`" in reply.notes[0]
    assert "parallelai trust" in reply.notes[0]
    assert list(skipped(reply)) == ["a.js"]
    assert "not trusted" in (await project.engine().detect()).said


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("print('hello')", "not JSON"),
        ("print('{}')", "no `runs`"),
        ("import sys; sys.exit('no such plugin')", "exit code 1: no such plugin"),
        ("print('[' * 100000)", "nested too deeply"),
        ("print('{\"runs\": 3}')", "not a list"),
    ],
)
async def test_a_tool_that_fails_leaves_the_others_findings(project: Project, code: str, why: str) -> None:
    project.write({"a.py": BAD, "b.js": "x\n"})
    project.tools, project.trusted = {"lint": python_tool(code)}, True
    reply = await project.review("a.py", "b.js")
    assert set(failed(reply)) == {"a.py", "b.js"}
    assert failed(reply)["a.py"].startswith("`lint`: ")
    assert why in failed(reply)["a.py"]
    assert "S102" in rules(reply)


async def test_a_tool_that_is_not_installed_fails_its_files(project: Project) -> None:
    project.write({"b.js": "x\n"})
    project.tools, project.trusted = {"lint": Tool(("no-such-tool-anywhere",))}, True
    assert "not found" in failed(await project.review("b.js"))["b.js"]


# --- Where Ruff is found


@pytest.mark.parametrize("executable", ["", "python"])
def test_a_ruff_in_the_current_folder_is_never_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    fake = tmp_path / "ruff"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr("sysconfig.get_path", lambda name: "")
    found: Callable[[], str | None] = ruff.find_ruff
    assert found() != str(fake)
    assert found() is None or os.path.isabs(str(found()))
