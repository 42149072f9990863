"""Settings that come with a checkout: they neither stop ParallelAI, nor lead it elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from parallelai import config
from parallelai.engines.analyzers.ruff_settings import SettingsReader
from parallelai.errors import ConfigError
from parallelai.plan.settings import settings_for
from running import opened, project


def zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)  # of holes


@pytest.mark.parametrize("plant", [zero, pipe, huge])
@pytest.mark.parametrize("place", ["pyproject.toml", "src/pyproject.toml", "ruff.toml", "src/.ruff.toml"])
async def test_ruff_is_not_given_settings_without_an_end(
    tmp_path: Path, plant: Callable[[Path], None], place: str
) -> None:
    root = project(tmp_path, {"src/a.py": "a = undefined_name\n", "src/b/ruff.toml": "", "src/b/c.py": "b"})
    plant(root / place)
    if (plant, place) == (huge, "pyproject.toml"):
        with pytest.raises(ConfigError, match="too large"):
            opened(root)
        return
    async with opened(root) as ai:
        document = await ai.review("src/**/*.py", timeout="60s")

    assert document.exit == 0
    assert [(f.file, f.rule) for f in document.findings if f.rule == "F821"] == [
        ("src/a.py", "F821"),
        ("src/b/c.py", "F821"),
    ]


def test_each_folder_above_is_looked_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pyproject.toml")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "ruff.toml").touch()
    files = [str(tmp_path / "a" / "b" / f"{number}.py") for number in range(3)]
    found = SettingsReader().of_files([*files, str(tmp_path / "x.py")])

    assert {settings.path for settings in found.values()} == {str(tmp_path / "pyproject.toml")}
    assert all(settings.problem for settings in found.values())


def test_a_project_with_very_many_settings_is_told_what_is_wrong(tmp_path: Path) -> None:
    text = "[engines.a]\n" + "\n".join(f"x{number}=1" for number in range(40_000))
    (tmp_path / "parallelai.toml").write_text(text)
    loaded = config.load(config.Project(tmp_path, tmp_path), env={})

    with pytest.raises(ConfigError) as told:
        settings_for(loaded, is_trusted=False)
    assert len(told.value.said) < 10_000


def test_very_many_tables_are_read_in_time(tmp_path: Path) -> None:
    text = "\n".join(f"[vars.v{number}]\nx=1" for number in range(30_000))
    (tmp_path / "parallelai.toml").write_text(text)
    loaded = config.load(config.Project(tmp_path, tmp_path), env={})

    assert len(loaded.origins) == 30_000


@pytest.mark.parametrize(
    "text", [".".join("a" * 5000) + " = 1", "a = " + "[" * 5000 + "]" * 5000, "[" + ".".join("a" * 900) + "]"]
)
def test_settings_nested_without_end_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "parallelai.toml").write_text(text)
    with pytest.raises(ConfigError, match="nested too deep"):
        config.load(config.Project(tmp_path, tmp_path), env={})
