"""The README's tour is what a new user meets: every block of it is carried out."""

from pathlib import Path

import pytest
from tour import REPOSITORY, Reader, blocks, commands_of, matches

PAGE = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_tour_works(tmp_path: Path) -> None:
    Reader(tmp_path / "home", REPOSITORY).follow(PAGE)


def test_every_block_is_carried_out() -> None:
    for block in blocks(PAGE):
        assert block.title or block.language in {"console", "python"} or block.follows, block


def test_the_promised_calls_are_shown() -> None:
    for call in (
        '.review("src/**/*.py")',
        'ai.review("*.py", parallel=50, checklist=["security", "performance"])',
        "ai.execute(tasks=tasks, parallel=100)",
        "strategy=DAGStrategy(), engine=MultiEngine([",
        'ai.execute("',
    ):
        assert call in PAGE, call


@pytest.mark.parametrize(
    ("shown", "printed", "is_same"),
    [
        ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("a\n…", "a\n", True),
        ("run … ended", "run r-1 ended", True),
        ("run … ended", "run r-1 began", False),
        ("a", "a\nb", False),
        ("", "a", False),
        ("1.5 (s)", "1x5 (s)", False),
    ],
)
def test_wildcards(shown: str, printed: str, is_same: bool) -> None:
    assert matches(shown, printed) is is_same


def test_a_page_that_lies_is_found(tmp_path: Path) -> None:
    for lie in (
        "```console\n$ echo a\nb\n```\n",
        "```console\n$ false\n```\n",
        '```python\nprint("a")\n```\n\n```text\nb\n```\n',
        "```python\nraise SystemExit(3)\n```\n",
        "```sh\necho a\n```\n",
    ):
        with pytest.raises(AssertionError, match=r"line [15]"):
            Reader(tmp_path / "home", tmp_path).follow(lie)


def test_commands_may_go_over_lines() -> None:
    assert commands_of("$ a \\\n>   b\nout\n$ c\n") == [("a \\\n  b", "out"), ("c", "")]
