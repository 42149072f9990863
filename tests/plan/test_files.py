"""Patterns agree with git itself; files are listed, left out and read safely."""

import os
import random
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.errors import UsageError
from parallelai.plan.files import FileTree, is_all_named, match, read_text, select, triage, unmatched
from parallelai.plan.patterns import escape, parse
from parallelai.plan.walking import walk

SEGMENTS = [
    "a",
    "b",
    "src",
    "a.py",
    "ab.py",
    "x.min.js",
    "[a].ts",
    "a b",
    "A.py",
    ".hid",
    "a-b.py",
    "a]",
    "!x",
    "#y",
]
# `a**/b` is left out: git strips the literal prefix first and then, unlike its manual, lets `**` cross a slash.
PIECES = [
    *["a", "b", "src", "*.py", "**", "*", "?", "a*", "[ab]", "[!a]*", "[^a]*", "[a-b].py", "/", "\\[a\\].ts"],
    *["[[]a].ts", "**.py", "a ", "\\!x", "\\#y", "a\\ b", "[]a]*", "*/", "[a", "[[:alpha:]]*", "\\*", "***"],
    *["*a*b*", "[z-a]", "[[:nope:]]", "a\\", "[a-]*", "*.*"],
]


def git(folder: Path, *args: str, stdin: bytes = b"") -> bytes:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *args], cwd=folder, input=stdin, capture_output=True, env=env, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def some_paths(rng: random.Random, count: int) -> list[str]:
    paths = {"/".join(rng.choice(SEGMENTS) for _ in range(rng.randint(1, 4))) for _ in range(count)}
    return sorted(path for path in paths if not any(other.startswith(path + "/") for other in paths))


def some_pattern(rng: random.Random) -> str:
    body = "/".join(rng.choice(PIECES) for _ in range(rng.randint(1, 4)))
    return rng.choice(["", "", "", "/"]) + body + rng.choice(["", "", "", "/"])


@pytest.mark.parametrize("seed", range(3))
def test_patterns_match_what_git_matches(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    paths = some_paths(rng, 200)
    git(tmp_path, "init", "-q")
    stdin = "\0".join(paths).encode()
    for pattern in {some_pattern(rng) for _ in range(80)}:
        (tmp_path / ".gitignore").write_text(pattern + "\n")
        listed = git(tmp_path, "check-ignore", "--no-index", "-z", "--stdin", stdin=stdin)
        parsed = parse(pattern)
        ours = [path for path in paths if parsed and parsed.below.fullmatch(path)]
        assert ours == sorted(path.decode() for path in listed.split(b"\0") if path), pattern


@pytest.mark.parametrize("seed", range(4))
def test_walk_lists_what_git_would_list(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for path in some_paths(rng, 120):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    folders = [tmp_path, *rng.sample([path for path in sorted(tmp_path.rglob("*")) if path.is_dir()], 4)]
    for folder in folders:
        lines = [rng.choice(["", "", "!"]) + some_pattern(rng) for _ in range(4)]
        (folder / ".gitignore").write_text("# a comment\n\n" + "\n".join(lines) + "\n")
    ours = walk(tmp_path).paths
    git(tmp_path, "init", "-q")
    listed = git(tmp_path, "ls-files", "-co", "--exclude-standard", "-z")
    assert list(ours) == sorted(path.decode() for path in listed.split(b"\0") if path)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.py"], ["a.py", "src/b.py", "src/deep/c.py"]),
        (["/*.py"], ["a.py"]),
        (["./*.py"], ["a.py"]),
        (["src/*.py"], ["src/b.py"]),
        (["src/**"], ["src/b.py", "src/deep/c.py", "src/deep/d.js"]),
        (["src"], ["src/b.py", "src/deep/c.py", "src/deep/d.js"]),
        (["deep/"], ["src/deep/c.py", "src/deep/d.js"]),
        (["**/*.py", "!src/deep/**"], ["a.py", "src/b.py"]),
        (["**/*.py", "!deep", "src/deep/c.py"], ["a.py", "src/b.py", "src/deep/c.py"]),
        (["!*.py"], ["src/deep/d.js"]),
        (["nothing"], []),
        ([], []),
    ],
)
def test_the_last_pattern_that_fits_decides(patterns: list[str], expected: list[str]) -> None:
    assert match(patterns, ["a.py", "src/b.py", "src/deep/c.py", "src/deep/d.js"]) == expected


@pytest.mark.parametrize("pattern", ["src/*.{py,js}", "{a}", "!x{y", "../secret", "src/../../x", "!.."])
def test_patterns_that_cannot_be_meant_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError):
        match([pattern], ["a.py"])


def test_a_brace_can_be_meant_by_itself() -> None:
    assert match(["\\{id\\}.py", "[{]x.py"], ["{id}.py", "{x.py", "id.py"]) == ["{id}.py", "{x.py"]


NAMES = st.text(st.sampled_from("ab*?[]{}!#\\ .-é"), min_size=1, max_size=6).filter(
    lambda n: n not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@given(PATHS, st.lists(PATHS, max_size=8))
def test_an_escaped_path_matches_itself_and_what_is_below_only(path: str, others: list[str]) -> None:
    found = match([escape(path)], [path, *others])
    assert found == [path, *(other for other in others if other == path or other.startswith(path + "/"))]


@given(st.lists(PATHS, max_size=8), st.permutations(range(3)))
def test_many_literal_patterns_decide_as_wildcards_would(paths: list[str], order: list[int]) -> None:
    choices = ["/a", "!/a/b", "/a/b/*"]
    patterns = [choices[index] for index in order]
    slow = [f"/[{text.removeprefix('!')[1]}]{text.removeprefix('!')[2:]}" for text in patterns]
    spelled = [
        ("!" if text.startswith("!") else "") + body for text, body in zip(patterns, slow, strict=True)
    ]
    assert match(patterns, paths) == match(spelled, paths)


def test_a_hostile_pattern_takes_no_time() -> None:
    """Backtracking would take longer than the universe has been there; the suite's time-out watches."""
    long, deep = "/".join(["a" * 200] * 10), "/".join(["a"] * 100)
    assert match(["*a" * 60 + "b", "**/*a*a*/" * 20 + "b", "*" * 500 + "b"], [long]) == []
    assert match(["**/a/" * 20 + "b", "**/a*/" * 20 + "b"], [deep]) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for path in ["a.py", "src/b.py", "src/deep/c.py", "src/[id].ts", "src/i.ts", "docs/x.md", "src/a,b.py"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "base", "expected"),
    [
        (
            (),
            "src",
            ["a.py", "docs/x.md", "src/[id].ts", "src/a,b.py", "src/b.py", "src/deep/c.py", "src/i.ts"],
        ),
        (["*.py"], "src", ["src/a,b.py", "src/b.py", "src/deep/c.py"]),
        (["deep"], "src", ["src/deep/c.py"]),
        (["./*.ts"], "src", ["src/[id].ts", "src/i.ts"]),
        (["deep/*.py"], "src", ["src/deep/c.py"]),
        (["../docs"], "src", ["docs/x.md"]),
        (["../../a.py"], "src/deep", ["a.py"]),
        (["../*.md", "../docs/*.md"], "src", ["docs/x.md"]),
        (["."], "src/deep", ["src/deep/c.py"]),
        (["[id].ts"], "src", ["src/[id].ts"]),
        (["src/a,b.py"], ".", ["src/a,b.py"]),
        ("src/*.ts, docs", ".", ["docs/x.md", "src/[id].ts", "src/i.ts"]),
        (["src", "!deep"], ".", ["src/[id].ts", "src/a,b.py", "src/b.py", "src/i.ts"]),
        (["src", "!src/deep/c.py"], ".", ["src/[id].ts", "src/a,b.py", "src/b.py", "src/i.ts"]),
    ],
)
def test_arguments_count_from_where_one_is(
    project: Path, patterns: list[str], base: str, expected: list[str]
) -> None:
    assert select(patterns, walk(project), base=PurePosixPath(base)) == expected


def test_a_pattern_may_begin_with_the_projects_own_folder(project: Path) -> None:
    tree = walk(project)
    expected = ["src/b.py", "src/deep/c.py"]
    assert [path for path in select([f"{project}/src/**/*.py"], tree) if "," not in path] == expected
    link = project.parent / "way"
    link.symlink_to(project)
    through = FileTree(link, tree.paths)
    assert select([f"{project.resolve()}/*.md"], through, base="docs") == select(["/*.md"], tree)
    assert select([f"{project}x/*.py"], tree) == []


def test_files_that_are_named_need_no_listing(project: Path) -> None:
    assert is_all_named(["a.py", "src/b.py"], project)
    assert is_all_named("b.py", project, base="src")
    for patterns in ([], ["src"], ["*.py"], ["a.py", "!a.py"], ["a.py", "nothing.py"]):
        assert not is_all_named(patterns, project)


def test_a_file_that_is_named_is_taken_even_if_git_ignores_it(project: Path) -> None:
    (project / ".gitignore").write_text("secret.py\n")
    (project / "secret.py").write_text("")
    tree = walk(project)
    assert "secret.py" not in tree.paths
    assert select(["secret.py"], tree) == ["secret.py"]
    assert select([str(project / "secret.py")], tree) == ["secret.py"]


def test_what_lies_outside_is_refused(project: Path) -> None:
    tree = FileTree(project / "src", walk(project / "src").paths)
    for text in ["../a.py", str(project / "a.py"), "../*.py"]:
        with pytest.raises(UsageError):
            select([text], tree)


def test_a_file_is_inside_by_whatever_links_one_came_to_it(project: Path) -> None:
    """A shell's `$PWD` is the way that one went, not where it leads."""
    tree = FileTree(project / "src", walk(project / "src").paths)
    way, far = project / "docs" / "way", project / "docs" / "far"
    way.symlink_to(project / "src")
    far.symlink_to(project / "a.py")
    assert select([str(way / "deep" / "c.py")], tree) == ["deep/c.py"]
    assert select([str(way / "deep"), "!*.ts"], tree) == ["deep/c.py"]
    assert select([str(way)], tree) == list(tree.paths)
    with pytest.raises(UsageError, match="outside the project"):
        select([str(far)], tree)
    (project / "src" / "b.link").symlink_to("b.py")
    assert select([str(way / "b.link")], tree) == ["b.link"], "a link in the project stays itself"


def test_unmatched_arguments_are_named(project: Path) -> None:
    assert unmatched(["*.py", "typo.py", "!x", "src/*.rs"], walk(project)) == ["typo.py", "src/*.rs"]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.py", b"x = 1\n", None),
        ("empty.py", b"", None),
        ("latin.py", "é = 1".encode("latin-1"), None),
        ("a.bin", b"ab\0cd", "binary"),
        ("app.min.js", b"x", "generated"),
        ("package-lock.json", b"{}", "generated"),
        ("api_pb2.py", b"", "generated"),
        ("gen.go", b"// Code generated by protoc. DO NOT EDIT.\npackage x\n", "generated"),
        ("gen.ts", b"/**\n * @generated by hand\n */\n", "generated"),
        ("says.py", b"x = 1\n# Code generated by x. DO NOT EDIT.\n", None),
        ("word.py", b"# How reports are generated\n", None),
        ("bundle.js", b"var a=1;" * 2000, "generated"),
        ("big.py", b"x = 1\n" * 200_000, "huge"),
    ],
)
def test_triage_says_why_a_file_is_not_read(
    tmp_path: Path, name: str, content: bytes, why: str | None
) -> None:
    (tmp_path / name).write_bytes(content)
    assert triage(tmp_path / name, root=tmp_path) == why


def test_links_pipes_and_missing_files_are_never_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "out.py").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    (root / "loop.py").symlink_to("loop.py")
    os.mkfifo(root / "pipe.py")
    assert triage(root / "out.py", root=root) == "link out of the project"
    assert triage(root / "folder/outside.py", root=root) == "link out of the project"
    assert triage(root / "loop.py", root=root) == "unreadable"
    assert triage(root / "gone.py", root=root) == "unreadable"
    assert triage(root / "pipe.py", root=root) == "not a file"
    for name in ["out.py", "../outside.py", "folder/outside.py", str(outside), "pipe.py"]:
        with pytest.raises(UsageError):
            read_text(root, name)
    assert walk(root).paths == ("folder", "loop.py", "out.py")


def test_text_is_read_as_utf8_without_its_mark(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes("\ufeffé\r\n".encode() + b"\xff")
    assert read_text(tmp_path, "a.py") == "é\r\n\ufffd"
    with pytest.raises(UsageError):
        read_text(tmp_path, "a.py", max_bytes=3)


def test_walk_leaves_out_what_nobody_wrote_here(tmp_path: Path) -> None:
    for path in [
        "a.py",
        "node_modules/x.js",
        "env/pyvenv.cfg",
        "env/lib.py",
        "__pycache__/a.pyc",
        ".git/config",
    ]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("")
    assert walk(tmp_path).paths == ("a.py",)


def test_walk_goes_on_past_a_folder_that_the_system_does_not_let_it_look_into(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    deep = tmp_path
    while (left := 4090 - len(os.fspath(deep))) > 1:  # as long a path as there may be: nothing in it has one
        deep /= "d" * min(200, left - 1)
        deep.mkdir()
    assert walk(tmp_path).paths == ("a.py",)
