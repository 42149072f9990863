"""Why something did not land, in words."""

from __future__ import annotations

from parallelai.git.merging import Conflicted, Entry, Merged
from parallelai.work.landing import messages
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


def test_of_many_settled_files_the_first_are_named() -> None:
    few = {"b": "versions", "a": "regenerated", "c\n": "versions"}
    assert messages.settled_notes(few) == [
        "`a` was settled by the program that makes it",
        "`b` was settled by versions",
        "`c\n` was settled by versions",
    ]
    candidate = Candidate("gui", "1", "0")
    assert "\nConflict in c settled by versions.\n" in messages.member(candidate, few)
    many = {**few, **{f"gen/{number:02}": "regenerated" for number in range(30)}}
    (made, *others) = messages.settled_notes(many)
    said = (
        "`a`, `gen/00`, `gen/01`, `gen/02`, `gen/03` and 26 more were settled by the program that makes them"
    )
    assert (made, others) == (said, messages.settled_notes(few)[1:])
    assert messages.member(candidate, many).count("Conflict in ") == 3
