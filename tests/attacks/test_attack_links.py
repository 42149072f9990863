"""Links that a checkout brings: nothing is written through them to places outside of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallelai import config
from parallelai.client import setup
from parallelai.errors import UsageError
from parallelai.results.write import write_atomically
from running import opened, project, run_program


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return project(tmp_path / "project", {"a.py": "a = undefined_name\n"})


@pytest.mark.parametrize("name", ["parallelai.yaml", "parallelai.toml", ".parallelai/plan.schema.json"])
@pytest.mark.parametrize("is_forced", [True, False])
async def test_init_writes_through_no_link(root: Path, outside: Path, name: str, is_forced: bool) -> None:
    (root / name).symlink_to(outside / "victim")
    with pytest.raises(UsageError):
        async with opened(root) as ai:
            await setup.init(ai.project, is_forced=is_forced)
    assert list(outside.iterdir()) == []


async def test_init_writes_through_no_link_in_the_place_of_the_folder(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "other"
    root.mkdir()
    (root / ".parallelai").symlink_to(outside)
    with pytest.raises(UsageError):
        async with opened(root) as ai:
            await setup.init(ai.project)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("path", ["out.json", "reports/out.json", "reports/../out.json"])
def test_no_result_is_written_out_of_the_project(root: Path, outside: Path, path: str) -> None:
    (root / "out.json").symlink_to(outside / "victim")
    (root / "reports").symlink_to(outside)
    with pytest.raises(UsageError, match="leads out of the project"):
        write_atomically(root / path, "x")
    assert list(outside.iterdir()) == []


def test_links_within_the_project_and_paths_outside_of_it_are_written(root: Path, outside: Path) -> None:
    (root / "link").symlink_to("real")
    write_atomically(root / "link", "x")
    write_atomically(outside / "report", "x")
    assert (root / "link").is_symlink()
    assert (root / "real").read_text() == (outside / "report").read_text() == "x"


@pytest.mark.parametrize("option", ["--output", "--events"])
def test_the_command_line_refuses_such_a_link(root: Path, outside: Path, option: str) -> None:
    (root / "out.json").symlink_to(outside / "victim")
    done = run_program(root, "review", option, "out.json")
    assert done.returncode == 2
    assert "leads out of the project" in done.stderr
    assert list(outside.iterdir()) == []


def test_a_forged_git_file_does_not_name_the_state_of_another_project(tmp_path: Path, root: Path) -> None:
    victim, forged = tmp_path / "victim" / ".git", root / "forged"
    victim.mkdir(parents=True)
    forged.mkdir()
    for folder in (victim, forged):
        (folder / "HEAD").write_text("ref: refs/heads/main\n")
    (root / ".git").write_text("gitdir: forged\n")
    (forged / "gitdir").write_text("../.git\n")
    (forged / "commondir").write_text(f"{victim}\n")

    assert config.find_project(root).state == root / ".parallelai" / "state"
