"""Why something did not land, in words."""

from __future__ import annotations

from parallelai.git.merging import Conflicted, Entry, Merged
from parallelai.work.landing.explaining import conflicts
from parallelai.work.landing.merging import Clash
from parallelai.work.landing.records import Candidate
from parallelai.work.streams.beside import files_and_folders


def test_of_a_file_and_a_folder_it_is_said_which_is_whose() -> None:
    aside = Conflicted(f"src/new~{'a' * 40}", "file/directory", {3: Entry("100644", "b" * 40)})
    plain = Conflicted("a.txt", "content", {2: Entry("100644", "b" * 40), 3: Entry("100644", "c" * 40)})
    merged = Merged("t", False, (plain, aside), ("CONFLICT (file/directory): …",))
    clash = Clash(Candidate("gui", "1", "0"), "2", merged, why="CONFLICT (file/directory): …; more")

    error = conflicts(clash, (), "main")

    assert error.said == (
        "`gui` conflicts with `main` in `a.txt`, `src/new`;"
        " `src/new` is a file in `gui`, and a folder in `main`"
    )
    assert "a folder in `backend`, `api`" in conflicts(clash, ("backend", "api"), "main").said
    theirs = Conflicted(f"lib~{'a' * 40}", "file/directory", {1: plain.stages[2], 2: plain.stages[2]})
    assert files_and_folders([theirs], "x", "y") == ("`lib` is a file in x, and a folder in y",)
