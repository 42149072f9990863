"""Everything in examples/ does what it says, with nothing installed; the models are those of `shop_model.py`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from tour import REPOSITORY, Reader

EXAMPLES = REPOSITORY / "examples"
PLANS = sorted(path.name for path in EXAMPLES.glob("*.yaml"))
PROGRAMS = sorted(path.name for path in (EXAMPLES / "library").glob("*.py"))
EXITS = {"failures.yaml": 4}


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    checkout = tmp_path / "checkout"
    shutil.copytree(EXAMPLES, checkout / "examples")
    found = Reader(tmp_path / "home", checkout)
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "Examples"]):
        subprocess.run(["git", *command], cwd=checkout, env=found.env, check=True)
    return found


def _call(reader: Reader, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=reader.folder,
        env=reader.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_can_be_checked_and_carried_out(name: str, reader: Reader) -> None:
    checked = _call(reader, "parallelai", "plan", "check", f"examples/{name}")
    assert checked.returncode == 0, checked.stderr
    done = _call(reader, "parallelai", "execute", f"examples/{name}", "--json")
    assert done.returncode == EXITS.get(name, 0), done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["tasks"]


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_names_a_schema_that_it_meets(name: str) -> None:
    path = EXAMPLES / name
    first = path.read_text(encoding="utf-8").splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named is not None
    schema = json.loads((path.parent / named[1]).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_the_results_are_those_that_the_plans_promise(reader: Reader) -> None:
    def tasks(name: str) -> dict[str, dict[str, object]]:
        done = _call(reader, "parallelai", "execute", f"examples/{name}", "--json")
        return {task["id"]: task for task in json.loads(done.stdout)["tasks"]}

    assert str(tasks("hello.yaml")["greeting"]["text"]).startswith("Hello in 2")
    assert str(tasks("review.yaml")["count"]["text"]).strip() == "3 findings, 3 in the audit"
    assert tasks("fallback.yaml")["work"]["engine"] == "steady"
    assert len(tasks("each-file.yaml")) == 6
    assert tasks("own-findings.yaml")["passwords"]["findings"] == 1
    failures = tasks("failures.yaml")
    assert {name: task["status"] for name, task in failures.items()} == {
        "sometimes": "ok",
        "never": "failed",
        "after-never": "skipped",
        "tidy-up": "ok",
    }


def test_models_vote_and_what_they_find_is_looked_at_again(reader: Reader) -> None:
    document = json.loads(_call(reader, "parallelai", "execute", "examples/vote.yaml", "--json").stdout)
    found = {(finding["file"], finding["votes"], finding["state"]) for finding in document["findings"]}
    assert ("examples/shop/src/backup.py", 2, "open") in found
    assert ("examples/shop/src/settings.py", 2, "refuted") in found


@pytest.mark.parametrize(
    ("name", "file", "gone"),
    [("edit.yaml", "settings.py", "winter-2019"), ("review-fix-test.yaml", "backup.py", "shell=True")],
)
def test_a_change_is_applied_and_taken_back(name: str, file: str, gone: str, reader: Reader) -> None:
    path = reader.folder / "examples" / "shop" / "src" / file
    before = path.read_bytes()
    done = _call(reader, "parallelai", "execute", f"examples/{name}", "--apply")
    assert done.returncode == 0, done.stdout + done.stderr
    assert gone not in path.read_text(encoding="utf-8")
    assert _call(reader, "parallelai", "runs", "unapply").returncode == 0
    assert path.read_bytes() == before


def test_workstreams_land(reader: Reader) -> None:
    (reader.folder / "own.py").write_text("x = 1\n")  # the gate has to look at the reader's own files, too
    for words in (("add", "own.py"), ("commit", "-qm", "own")):
        assert _call(reader, "git", "-c", "user.name=R", "-c", "user.email=r@x", *words).returncode == 0
    done = _call(reader, "parallelai", "work", "run", "examples/workstreams.yaml", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    landed = {task["id"]: task["workstream"]["landed"] for task in json.loads(done.stdout)["tasks"]}
    assert "stays green" not in done.stdout, "its canary is noticed"
    assert all(landed[name]["target"] == "main" for name in ("menu", "export", "tests"))
    assert (reader.folder / "examples/shop/tests/test_all.py").exists()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs(name: str, reader: Reader) -> None:
    done = _call(reader, sys.executable, f"examples/library/{name}")
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_example_is_listed() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in [*PLANS, *(f"library/{program}" for program in PROGRAMS)]:
        assert f"({name})" in page, name
