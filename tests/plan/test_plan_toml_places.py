"""Where the values of a config file were written."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from parallelai import config
from parallelai.config import Project
from parallelai.errors import ConfigError
from parallelai.plan.positions import Place, Step
from parallelai.plan.settings import parse, settings_for
from parallelai.plan.toml_places import places

TRICKY = '''\
# limits = 1
a.b = 1.5   # [not]
"quoted \\" key".'x' = [ [1, 2], [ # comment ]
  "]", {c = "}", d.e = 'a=b'}
]]
text = """
[limits] \\""" = 3
"""""
raw = \'\'\'
x = 1\'\'\'
when = 1979-05-27 07:32:00.5
[limits . "budget"]
  usd = -1e3
[[jobs]]
n = 1
[jobs.inner]
deep = true
[[jobs]]
n = 2
'''


def _shape(place: Place) -> Any:
    if place.children is None:
        return None
    if 0 in place.children:
        return [_shape(child) for child in place.children.values()]
    return {name: _shape(child) for name, child in place.children.items()}


def _shape_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape_of(item) for name, item in value.items()}
    return [_shape_of(item) for item in value] if isinstance(value, list) else None


def _at(text: str, *path: Step) -> tuple[tuple[int, int], tuple[int, int]]:
    place = places(text)
    for step in path:
        assert place.children is not None
        place = place.children[step]
    return place.key, place.value


def test_every_value_of_a_file_has_a_place_and_nothing_else_has() -> None:
    assert _shape(places(TRICKY)) == _shape_of(tomllib.loads(TRICKY))


def test_keys_and_values_are_where_they_were_written() -> None:
    assert _at(TRICKY, "a", "b") == ((2, 1), (2, 7))
    assert _at(TRICKY, 'quoted " key', "x", 0, 1)[1] == (3, 29)
    assert _at(TRICKY, 'quoted " key', "x", 1, 1, "d", "e") == ((4, 18), (4, 24))
    assert _at(TRICKY, "limits", "budget", "usd") == ((13, 3), (13, 9))
    assert _at(TRICKY, "jobs", 1, "n") == ((19, 1), (19, 5))
    assert _at(TRICKY, "jobs", 0, "inner", "deep") == ((17, 1), (17, 8))


BAD = """\
# mine
[limits]
paralel = 4
timeout = 1

[engines.e]
use = "mock"
timeout = "soon"
[engines.nothing]
model = "m"
"""


@pytest.mark.parametrize("is_trusted", [True, False])
def test_each_error_of_a_config_names_its_line_and_column(tmp_path: Path, is_trusted: bool) -> None:
    (tmp_path / "parallelai.toml").write_text(BAD)
    read = config.load(Project(tmp_path, tmp_path), env={"XDG_CONFIG_HOME": str(tmp_path)})
    with pytest.raises(ConfigError) as caught:
        settings_for(read, is_trusted=is_trusted)
    lines = str(caught.value).splitlines()
    assert "parallelai.toml:3:1: unknown key `paralel` (did you mean `parallel`?)" in lines
    assert (
        "parallelai.toml:8:11: `timeout`: `soon` is no duration (write it like 90s, 30m, 4h or 2d)" in lines
    )
    has_use = any(line.startswith("parallelai.toml:9:") and "has no `use`" in line for line in lines)
    assert has_use == is_trusted  # who is not trusted may mean an engine of the user's


def test_a_table_of_pyproject_and_the_users_own_file_have_places_too(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.parallelai.state]\npth = "y"\n')
    own = tmp_path / "parallelai" / "config.toml"
    own.parent.mkdir()
    own.write_text("fetch = 'somtimes'\n")
    read = config.load(Project(tmp_path, tmp_path), env={"XDG_CONFIG_HOME": str(tmp_path)})
    with pytest.raises(ConfigError) as caught:
        parse(read)
    starts = {line.partition(": ")[0] for line in str(caught.value).splitlines()}
    assert starts == {"pyproject.toml:4:1", f"{own}:1:9"}
