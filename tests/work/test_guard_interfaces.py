"""Contracts between workstreams: what broke, and who uses it."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import Repository

from parallelai.git.plumbing import Git
from parallelai.work.guard.interfaces import Broken, broken
from parallelai.work.symbols import language_of

API = '''\
"""Exports."""

LIMIT = 10


def export(path, kind="ods", *, strict=False):
    return _hidden(path)


class Writer:
    def write(self, row): ...

    def close(self): ...

    def _flush(self): ...


def _hidden(x): ...
'''
USER = "from pkg.api import export, Writer\n\n\ndef main():\n    export('x')\n    Writer().close()\n"


class Two:
    """A repository whose first commit is what was promised."""

    def __init__(self, folder: Path, files: dict[str, str | bytes]) -> None:
        self.checkout = Repository.start(folder)
        self.before = self.checkout.commit(files)
        self.git = Git(folder / ".git")

    async def after(self, files: dict[str, str | bytes | None], *contracts: str) -> list[Broken]:
        for name, content in files.items():
            if content is None:
                (self.checkout.root / name).unlink()
        after = self.checkout.commit({name: each for name, each in files.items() if each is not None})
        return await broken(self.git, self.before, after, contracts or ("src/pkg/api.py",))


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(
        tmp_path / "repo",
        {
            "src/pkg/__init__.py": "from .api import export\n__all__ = ['export']\n",
            "src/pkg/api.py": API,
            "app/main.py": USER,
            "README.md": "`close` it.\n",
        },
    )


async def test_what_stays_compatible_breaks_nothing(two: Two) -> None:
    changed = (
        API.replace("strict=False", "strict=False, depth=1").replace("_hidden", "_other")
        + "def more(): ...\n"
    )
    assert await two.after({"src/pkg/api.py": changed}) == []
    assert await two.after({"app/main.py": "x = 1\n"}) == []


async def test_a_removed_method_is_told_with_its_callers(two: Two) -> None:
    (found,) = await two.after({"src/pkg/api.py": API.replace("    def close(self): ...\n", "")})
    assert (found.symbol, found.what, found.path) == ("Writer.close", "it was removed", "src/pkg/api.py")
    assert [(each.path, each.line) for each in found.callers] == [("app/main.py", 6)]
    assert found.said == ("`Writer.close` in `src/pkg/api.py`: it was removed; it is used in `app/main.py`:6")


async def test_a_parameter_that_must_be_given_now(two: Two) -> None:
    found = await two.after({"src/pkg/api.py": API.replace('path, kind="ods"', "path, kind")})
    assert [(each.symbol, each.what) for each in found] == [
        ("export", "its parameter `kind` must be given now")
    ]
    assert ("app/main.py", 5) in [(each.path, each.line) for each in found[0].callers]
    assert found[0].line == 6


async def test_what_a_package_exports_is_looked_at_behind_the_import(two: Two) -> None:
    changed = API.replace('path, kind="ods"', "path, folder, kind")
    found = await two.after({"src/pkg/api.py": changed}, "src/pkg/__init__.py")
    assert {(each.symbol, each.path) for each in found} == {("export", "src/pkg/__init__.py")}
    assert any("parameter `folder`" in each.what for each in found)


async def test_a_file_that_is_gone_and_one_that_does_not_parse(two: Two) -> None:
    (found,) = await two.after({"src/pkg/api.py": "def export(:\n"})
    assert (found.symbol, found.what) == ("", "it has a syntax error")
    (found,) = await two.after({"src/pkg/api.py": None})
    assert (found.symbol, found.what) == ("", "the file is gone")
    assert "app/main.py" in {each.path for each in found.callers}


async def test_nothing_is_imported_or_run(two: Two, tmp_path: Path) -> None:
    evil = f"open({str(tmp_path / 'ran')!r}, 'w')\n" + API.replace("def export", "def exported")
    (found,) = await two.after({"src/pkg/api.py": evil, "src/pkg/json.py": "raise SystemExit\n"})
    assert found.symbol == "export"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("path", "before", "after", "symbol"),
    [
        (
            "api.go",
            "package a\n\nfunc Export(p string) {}\n",
            "package a\n\nfunc Export(p, q string) {}\n",
            "Export",
        ),
        ("api.ts", "export function run(a: string) {}\n", "export function walk(a: string) {}\n", "run"),
        ("api.rs", "pub fn run(a: u8) {}\nfn own() {}\n", "pub fn run(a: u16) {}\n", "run"),
        ("Api.java", "class Api {\n public int run() {return 1;}\n}\n", "class Api {\n}\n", "run"),
    ],
)
async def test_other_languages_by_their_public_definitions(
    tmp_path: Path, path: str, before: str, after: str, symbol: str
) -> None:
    assert language_of(path) is not None
    two = Two(tmp_path / "repo", {path: before})
    found = await two.after({path: after}, path)
    assert symbol in {each.symbol.rpartition(".")[2] for each in found}


async def test_a_file_of_another_language_uses_another_name(tmp_path: Path) -> None:
    api = "export function run(a) {}\nexport function stay() {}\n"
    use = {"use.ts": "run(1)\n", "use.py": "run(1)\n", "Use.java": "class Use { void m() { run(1); } }\n"}
    two = Two(tmp_path / "repo", {"api.js": api, **use})
    (one,) = await two.after({"api.js": "export function stay() {}\n"}, "api.js")
    assert [(each.path, each.line) for each in one.callers] == [("use.ts", 1)]


async def test_a_file_in_no_known_language_breaks_by_going_away_only(tmp_path: Path) -> None:
    two = Two(tmp_path / "repo", {"api.yaml": "a: 1\n", "b.bin": b"\0\1"})
    assert await two.after({"api.yaml": "b: 2\n", "b.bin": b"\2\0"}, "*.yaml", "*.bin") == []
    found = await two.after({"api.yaml": None}, "*.yaml")
    assert [each.what for each in found] == ["the file is gone"]


@pytest.mark.parametrize(
    "text",
    [
        b"\0\0\0",
        b"\xff\xfe" * 100,
        b"(" * 50_000,
        b"x = " + b"-" * 20_000 + b"1\n",
        b"# coding: nonsense\nx=1\n",
        b"a." * 5000,
    ],
    ids=["nul", "bytes", "brackets", "minus", "coding", "dots"],
)
async def test_hostile_texts_are_told_or_passed_over(two: Two, text: bytes) -> None:
    found = await two.after({"src/pkg/api.py": text, "src/pkg/other.py": text})
    assert all(isinstance(each.said, str) for each in found)


async def test_names_that_are_no_modules_are_compared_all_the_same(tmp_path: Path) -> None:
    two = Two(tmp_path / "repo", {"tools/my-tool.py": "def run(a): ...\n"})
    found = await two.after({"tools/my-tool.py": "def run(a, b): ...\n"}, "tools/*")
    assert [each.symbol for each in found] == ["run"]
