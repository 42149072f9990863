"""What programs see of this process's environment, and where they are found."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from parallelai.processes import environment, find

SOURCE = {
    "PATH": "/usr/bin",
    "HOME": "/home/ana",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "OPENAI_API_KEY": "secret",
    "HTTPS_PROXY": "http://proxy",
    "PYTHONPATH": "/x",
    "LD_PRELOAD": "/x.so",
    "PARALLELAI_MARK": "1:2:r",
}


def test_only_what_is_needed_is_passed_on() -> None:
    kept = {"PATH", "HOME", "LANG", "TZ"}
    assert environment(source=SOURCE) == {name: SOURCE[name] for name in kept}


def test_named_variables_are_passed_on_where_they_exist() -> None:
    result = environment(pass_env=["OPENAI_API_KEY", "NOT_THERE"], source=SOURCE)
    assert result["OPENAI_API_KEY"] == "secret"
    assert "NOT_THERE" not in result


def test_given_values_win() -> None:
    result = environment(
        env={"PATH": "/p", "OPENAI_API_KEY": "b"}, pass_env=["OPENAI_API_KEY"], source=SOURCE
    )
    assert (result["PATH"], result["OPENAI_API_KEY"]) == ("/p", "b")


def test_the_mark_of_an_outer_parallelai_is_never_passed_on() -> None:
    result = environment(env={"PARALLELAI_MARK": "1:2:x"}, pass_env=["PARALLELAI_MARK"], source=SOURCE)
    assert "PARALLELAI_MARK" not in result


def test_there_is_always_a_path() -> None:
    assert environment(source={})["PATH"] == os.defpath


def test_a_temporary_folder_is_passed_on_only_if_it_exists(tmp_path: Path) -> None:
    assert environment(source={"TMPDIR": str(tmp_path)})["TMPDIR"] == str(tmp_path)
    assert "TMPDIR" not in environment(source={"TMPDIR": str(tmp_path / "gone")})
    assert "TMPDIR" not in environment(source={"TMPDIR": ""})


def test_this_process_s_environment_is_the_default_and_stays_as_it_was() -> None:
    before = dict(os.environ)
    assert environment()["PATH"] == os.environ["PATH"]
    assert dict(os.environ) == before


def test_find_takes_the_first_executable_file(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "tool").mkdir()
    (tmp_path / "b" / "tool").write_text("")
    (tmp_path / "c" / "tool").write_text("")
    (tmp_path / "c" / "tool").chmod(0o755)
    path = os.pathsep.join(str(tmp_path / name) for name in ("none", "a", "b", "c"))
    assert find("tool", path) == str(tmp_path / "c" / "tool")
    assert find("other", path) is None
    assert find("", path) is None


def test_find_takes_a_path_as_it_is_and_never_a_relative_folder() -> None:
    assert find(sys.executable) == sys.executable
    assert find("sh") == find("sh", os.environ["PATH"])
    assert find("/no/such/file") is None
    assert find(Path(sys.executable).name, os.path.relpath(Path(sys.executable).parent)) is None
