"""Where settings come from, and where the project is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from parallelai import config
from parallelai.config import Project, find_project
from parallelai.errors import ConfigError


def _git(folder: Path, *words: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    env = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", *identity, *words], cwd=folder, env=env, check=True, capture_output=True)


# The project's root and its state


def test_the_root_is_the_top_of_the_worktree(tmp_path: Path) -> None:
    _git(tmp_path / "repo", "init", "-q")
    inner = tmp_path / "repo" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "parallelai.toml").touch()
    root = tmp_path / "repo"
    assert find_project(inner) == Project(root, root / ".parallelai" / "state")


def test_all_worktrees_of_a_repository_share_the_main_ones_state(tmp_path: Path) -> None:
    main = tmp_path / "main"
    _git(main, "init", "-q")
    _git(main, "commit", "-q", "--allow-empty", "-m", "x")
    _git(main, "worktree", "add", "-q", str(tmp_path / "linked"))
    found = find_project(tmp_path / "linked")
    assert found == Project(tmp_path / "linked", main / ".parallelai" / "state")


def test_a_bare_repository_keeps_its_state_in_its_common_folder(tmp_path: Path) -> None:
    main = tmp_path / "main"
    _git(main, "init", "-q")
    _git(main, "commit", "-q", "--allow-empty", "-m", "x")
    _git(main, "clone", "-q", "--bare", str(main), str(tmp_path / "bare"))
    _git(tmp_path / "bare", "worktree", "add", "-q", str(tmp_path / "tree"))
    state = tmp_path / "bare" / ".parallelai" / "state"
    assert find_project(tmp_path / "bare") == Project(tmp_path / "bare", state)
    assert find_project(tmp_path / "tree") == Project(tmp_path / "tree", state)


def test_a_submodule_is_a_project_of_its_own(tmp_path: Path) -> None:
    _git(tmp_path / "sub", "init", "-q")
    _git(tmp_path / "sub", "commit", "-q", "--allow-empty", "-m", "x")
    _git(tmp_path / "main", "init", "-q")
    _git(
        tmp_path / "main",
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "add",
        "-q",
        str(tmp_path / "sub"),
        "lib",
    )
    root = tmp_path / "main" / "lib"
    assert find_project(root) == Project(root, root / ".parallelai" / "state")


def test_a_git_file_that_points_elsewhere_moves_no_state(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    _git(victim, "init", "-q")
    _git(victim, "commit", "-q", "--allow-empty", "-m", "x")
    _git(victim, "worktree", "add", "-q", str(tmp_path / "linked"))
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / ".git").write_text(f"gitdir: {victim / '.git' / 'worktrees' / 'linked'}\n")
    assert find_project(hostile).state == hostile / ".parallelai" / "state"


def test_without_git_the_nearest_config_or_state_decides_else_here(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert find_project(inner).root == inner
    (tmp_path / ".parallelai").mkdir()
    assert find_project(inner).root == tmp_path
    (tmp_path / "a" / "parallelai.toml").touch()
    assert find_project(inner).root == tmp_path / "a"


def test_a_given_project_wins_and_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    assert find_project(tmp_path, Path("x")).root == tmp_path / "x"
    with pytest.raises(ConfigError, match="is no folder"):
        find_project(tmp_path, Path("missing"))


@pytest.mark.parametrize("content", [b"", b"gitdir: /nowhere\n", b"\xff\xfe", b"gitdir: \0\n"])
def test_a_broken_git_file_is_no_worktree(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".git").write_bytes(content)
    (tmp_path / "a").mkdir()
    assert find_project(tmp_path / "a").root == tmp_path / "a"


# Layers


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "home" / "parallelai").mkdir(parents=True)
    root = tmp_path / "project"
    root.mkdir()
    return Project(root, root / ".parallelai" / "state")


def _env(project: Project, **more: str) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(project.root.parent / "home"), **more}


def _user(project: Project, text: str) -> Path:
    path = project.root.parent / "home" / "parallelai" / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_later_layers_win_key_by_key_and_origins_say_whose_each_is(project: Project) -> None:
    user = _user(
        project, "permissions = 'ask'\n[limits]\nparallel = 1\ngrace = 1\nmax_wait = 1\nunpriced = 'allow'\n"
    )
    (project.root / "parallelai.toml").write_text("[limits]\nparallel = 2\ngrace = 2\nmax_wait = 2\n")
    env = _env(
        project,
        PARALLELAI_LIMITS__GRACE="3",
        PARALLELAI_LIMITS__MAX_WAIT="3",
        UNRELATED="x",
        PARALLELAI_MARK="a__b",
    )
    found = config.load(project, env=env, overrides={"limits.max_wait": 4, "limits.budget": None})
    assert found.values == {
        "permissions": "ask",
        "limits": {"unpriced": "allow", "parallel": 2, "grace": 3, "max_wait": 4},
    }
    assert found.origins == {
        "permissions": str(user),
        "limits.unpriced": str(user),
        "limits.parallel": "parallelai.toml",
        "limits.grace": "PARALLELAI_LIMITS__GRACE",
        "limits.max_wait": "argument",
    }
    assert found.project_values == {"limits": {"parallel": 2, "grace": 2, "max_wait": 2}}
    assert found.without_project is not None
    assert found.without_project.values["limits"] == {
        "parallel": 1,
        "grace": 3,
        "max_wait": 4,
        "unpriced": "allow",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("true", True),
        ("1.5", 1.5),
        ("30m", "30m"),
        ('["a", "b"]', ["a", "b"]),
        ("{usd = 2}", {"usd": 2}),
        ("", ""),
        ("a b", "a b"),
        ("1\nx = 2", "1\nx = 2"),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_variables_are_read_as_toml_else_as_text(project: Project, text: str, value: object) -> None:
    found = config.load(project, env=_env(project, PARALLELAI_X__Y=text))
    assert found.values == {"x": {"y": value}}


def test_the_table_of_pyproject_counts_where_there_is_no_file_of_our_own(project: Project) -> None:
    (project.root / "pyproject.toml").write_text(
        "[project]\nname = 'x'\n[tool.parallelai]\npermissions = 'deny'\n"
    )
    found = config.load(project, env=_env(project))
    assert found.origins == {"permissions": "pyproject.toml [tool.parallelai]"}
    (project.root / "parallelai.toml").write_text("permissions = 'ask'\n")
    assert config.load(project, env=_env(project)).values == {"permissions": "ask"}


def test_a_project_without_settings_has_no_digest(project: Project) -> None:
    (project.root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    found = config.load(project, env=_env(project))
    assert (found.project_digest, found.project_file, found.values) == (None, None, {})


def test_the_digest_names_what_is_said_and_not_how_it_is_laid_out(project: Project) -> None:
    def digest(text: str) -> str | None:
        (project.root / "parallelai.toml").write_text(text)
        return config.load(project, env=_env(project)).project_digest

    one = digest("[engines.x]\nuse = 'command'\ncommand = ['a']\n")
    assert digest("# said otherwise\nengines.x = { command = ['a'], use = 'command' }\n") == one
    assert digest("[engines.x]\nuse = 'command'\ncommand = ['b']\n") != one


BROKEN = [
    (
        b"[limits\nx = 1\n",
        "parallelai.toml:1:8",
        "this is not TOML: expected ']' at the end of a table declaration",
    ),
    (b"a = 1\na = 2\n", "parallelai.toml:2:6", "this is not TOML: cannot overwrite a value"),
    (b"x = 'a", "parallelai.toml:1:7", "this is not TOML"),
    (b"x = 1\ny = \xff\n", "parallelai.toml:2:5", "the file is not UTF-8 text"),
    (b"x = " + b"[" * 100_000, "parallelai.toml", ""),
    (b"#" * 1_000_001, "parallelai.toml", "the file is too large for settings"),
]


@pytest.mark.parametrize(
    ("data", "where", "said"), BROKEN, ids=[case[1] + str(n) for n, case in enumerate(BROKEN)]
)
def test_a_broken_file_is_refused_with_its_place(
    project: Project, data: bytes, where: str, said: str
) -> None:
    (project.root / "parallelai.toml").write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        config.load(project, env=_env(project))
    assert caught.value.where is not None
    assert caught.value.where.startswith(where)
    assert said in caught.value.said


def test_a_config_that_is_a_link_out_of_the_project_is_refused(project: Project) -> None:
    outside = project.root.parent / "secret.toml"
    outside.write_text("permissions = 'auto'\n")
    (project.root / "parallelai.toml").symlink_to(outside)
    with pytest.raises(ConfigError, match="leads out of the project"):
        config.load(project, env=_env(project))
