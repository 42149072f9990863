"""Formats by name, JSON that is safe to print, atomic files, baselines, comparisons."""

from __future__ import annotations

import io
import json
import os
import stat
from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_documents import document, documents, finding

from parallelai.errors import NotFoundError, UsageError
from parallelai.records import Coverage, FileNote, from_json
from parallelai.results import baseline, formats
from parallelai.results.compare import compare
from parallelai.results.document import to_data
from parallelai.results.formats import RenderContext, context_for
from parallelai.results.json import dump, render
from parallelai.results.write import write_atomically

# --- formats


def test_the_formats_that_ship_are_found_by_name():
    assert {"terminal", "json", "sarif"} <= set(formats.names())
    for name in ("terminal", "json", "sarif"):
        assert formats.render(name, document([finding()]), RenderContext()).endswith("\n")


def test_an_unknown_format_is_refused_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        formats.find("jsno")
    assert caught.value.said == "no output format `jsno`"
    assert caught.value.next == "did you mean `json`?"
    with pytest.raises(UsageError, match="sarif"):
        formats.find("quite-else")


def test_a_format_that_cannot_be_loaded_is_named(monkeypatch):
    broken = metadata.EntryPoint("broken", "parallelai_nothing.here:render", formats.GROUP)
    monkeypatch.setattr("parallelai.extensions.of_group", lambda group: (broken,))
    with pytest.raises(UsageError) as caught:
        formats.find("broken")
    assert caught.value.where == "parallelai_nothing.here:render"


class Screen(io.StringIO):
    encoding = "UTF-8"

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "color", "expected"),
    [
        (Screen(), {}, "auto", True),
        (Screen(), {"NO_COLOR": "1"}, "auto", False),
        (Screen(), {"NO_COLOR": ""}, "auto", True),
        (Screen(), {"TERM": "dumb"}, "auto", False),
        (Screen(), {"NO_COLOR": "1"}, "always", True),
        (Screen(), {}, "never", False),
        (io.StringIO(), {}, "auto", False),
        (io.StringIO(), {}, "always", True),
    ],
)
def test_colour_by_stream_environment_and_flag(tmp_path, stream, environ, color, expected):
    assert context_for(stream, root=tmp_path, environ=environ, color=color).color is expected


@pytest.mark.parametrize(
    ("encoding", "ascii_only"), [("utf-8", False), ("UTF8", False), ("ascii", True), ("latin-1", True)]
)
def test_only_unicode_streams_get_unicode(tmp_path, encoding, ascii_only):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert context_for(stream, root=tmp_path, environ={}).ascii_only is ascii_only


# --- JSON


@given(documents())
def test_json_holds_what_the_document_holds_and_is_safe_to_print(doc):
    text = render(doc, RenderContext())
    written = json.loads(text)
    covered = written["files"].pop("covered")
    assert covered == len(doc.files.covered)
    again = from_json(type(doc), {**written, "files": {**written["files"], "covered": doc.files.covered}})
    assert again == doc
    text.encode("utf-8")
    assert all(
        character.isprintable() or character in "\n\u00a0\u200d\u202e\ufeff" or ord(character) > 0xA0
        for character in text
    )
    assert not set(text) & set("\x1b\x7f\x85\x9b\u2028")


def test_json_has_no_numbers_that_json_does_not_have():
    assert json.loads(dump({"a": float("inf"), "b": float("nan"), "c": "\udcff"})) == {
        "a": None,
        "b": None,
        "c": "\udcff",
    }
    assert json.loads(dump({"a": float("inf")})) == {"a": None}


def test_the_schema_comes_first():
    assert next(iter(to_data(document()))) == "schema"


# --- files


def test_a_new_file_and_an_old_one(tmp_path):
    path = tmp_path / "out.json"
    write_atomically(path, "one\n")
    plain = tmp_path / "plain"
    plain.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    path.chmod(0o640)
    write_atomically(path, "zwei é\n")
    assert path.read_bytes() == "zwei é\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.json", "plain"]


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_atomically(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_folders_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        write_atomically(tmp_path, "x")
    with pytest.raises(UsageError, match="does not exist"):
        write_atomically(tmp_path / "no" / "such" / "file", "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "below", "x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UsageError, match="cannot be written"):
        write_atomically(tmp_path / "loop", "x")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "out"
    path.write_text("old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("parallelai.results.write.os.fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(pipe, "through\n")
        assert os.read(reader, 100) == b"through\n"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


# --- baselines

_states = st.sampled_from(["open", "baseline", "suppressed", "refuted"])


@given(
    st.lists(st.builds(finding, id=st.text("abc", min_size=1, max_size=3), state=_states, message=st.text()))
)
def test_what_was_saved_is_accepted_and_what_is_new_is_not(tmp_path_factory, findings):
    path = tmp_path_factory.mktemp("baseline") / "baseline.json"
    baseline.save(path, findings)
    accepted = baseline.load(path)
    assert accepted == {one.id for one in findings if one.state in ("open", "baseline")}
    new = finding(id="f-new")
    states = [one.state for one in baseline.apply([*findings, new], accepted)]
    kept = [one.state if one.state != "open" else "baseline" for one in findings]
    assert states == [*kept, "open"]


def test_a_baseline_reads_well_and_does_not_depend_on_lines(tmp_path):
    one, two = finding("b.py", 7, id="f-2", rule="S1"), finding("a.py", 9, id="f-1", rule="S1")
    baseline.save(tmp_path / "x", [one, two])
    baseline.save(tmp_path / "y", [finding("a.py", 1, id="f-1", rule="S1"), one])
    text = (tmp_path / "x").read_text()
    assert text == (tmp_path / "y").read_text()
    assert len(text.splitlines()) == 4


def test_a_missing_baseline_says_how_to_make_one(tmp_path):
    with pytest.raises(NotFoundError) as caught:
        baseline.load(tmp_path / "none")
    assert "--update-baseline" in (caught.value.next or "")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": "parallelai/baseline/2", "findings": []}', "[" * 100_000, "\xff"]
    + [
        f'{{"schema": "parallelai/baseline/1", "findings": {bad}}}'
        for bad in ("1", "null", "[1]", '[{"id": 2}]', "{}")
    ],
)
def test_what_is_no_baseline_is_refused(tmp_path, text):
    path = tmp_path / "baseline.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        baseline.load(path)
    assert caught.value.where == str(path)


def test_a_folder_is_no_baseline(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        baseline.load(tmp_path)


# --- comparisons


def test_fixed_new_and_stayed():
    gone, kept, new = finding(id="f-gone"), finding(id="f-kept", line=1), finding(id="f-new")
    moved = finding(id="f-kept", line=9)
    result = compare(document([gone, kept]), document([moved, new]))
    assert (result.fixed, result.new, result.stayed, result.unseen) == ((gone,), (new,), (moved,), ())


def test_what_nobody_looked_at_again_is_not_called_fixed():
    gone = [finding("a.py", id="f-1"), finding("b.py", id="f-2"), finding("c.py", id="f-3")]
    files = Coverage(skipped=(FileNote("a.py", "huge"),), failed=(FileNote("b.py", "crashed"),))
    result = compare(document(gone), document(files=files))
    assert [one.id for one in result.fixed] == ["f-3"]
    assert [one.id for one in result.unseen] == ["f-1", "f-2"]


def test_suppressing_a_finding_neither_fixes_it_nor_makes_it_new():
    hidden = finding(id="f-1", state="suppressed")
    result = compare(document([finding(id="f-1")]), document([hidden]))
    assert result == type(result)((), (), ())
    assert compare(document(), document([hidden])) == type(result)((), (), ())


@given(documents(), documents())
def test_every_finding_that_is_there_is_told_once(a, b):
    result = compare(a, b)
    there = [one for one in b.findings if one.state in ("open", "baseline")]
    assert sorted(map(repr, (*result.new, *result.stayed))) == sorted(map(repr, there))
    assert {one.id for one in (*result.fixed, *result.unseen)}.isdisjoint(one.id for one in b.findings)
    assert compare(a, a).new == compare(a, a).fixed == ()
