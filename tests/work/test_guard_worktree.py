"""The guard on real worktrees: every way of writing is seen, and nothing is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from guard_support import BASE, RULES, Room, Stream, apply

from parallelai.errors import Trespass
from parallelai.work.guard import steady
from parallelai.work.streams.record import Rules

KEY = "sk-" + "a1" * 20


def keys(text: str) -> frozenset[str]:
    return frozenset({KEY}) if KEY in text else frozenset()


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.fixture
def gui(room: Room) -> Stream:
    return room.worktree()


async def test_what_is_owned_is_committed_as_the_user(room: Room, gui: Stream) -> None:
    def act() -> None:
        gui.write({"src/new.txt": "new\n", "src/a.txt": "changed\n"})
        (gui.root / "src/b.txt").unlink()

    found = await gui.turn(act)
    assert found.files == ("src/a.txt", "src/b.txt", "src/new.txt")
    assert (found.kept_out, found.said, found.undone) == ((), "", ())
    made = await gui.guard.commit("Do it", {"ParallelAI-Run": "r-1"})
    assert gui.git("log", "-1", "--format=%an <%ae>|%cn|%s|%(trailers)", made).strip() == (
        "Ana <ana@example.invalid>|Ana|Do it|ParallelAI-Run: r-1"
    )
    assert gui.git("rev-parse", "parallelai/gui").strip() == made
    assert gui.git("rev-parse", f"{made}^").strip() == room.base
    assert gui.git("status", "--porcelain") == ""
    assert gui.shown(made, "src/a.txt") == "changed\n"
    assert "src/b.txt" not in gui.files(made)
    assert room.main.git("status", "--porcelain", "--ignored") in ("", "?? .parallelai/\n")
    gui.git("fsck", "--strict")


async def test_what_git_annex_brought_is_not_committed_in_the_place_of_its_pointer(tmp_path: Path) -> None:
    pointers: dict[str, str | bytes] = {
        f"src/{name}.bin": f"/annex/objects/SHA256E-s4--{name}\n" for name in "abc"
    }
    room = Room(tmp_path, {**BASE, **pointers, ".gitattributes": "*.bin filter=annex\n"})
    room.main.git("config", "filter.annex.clean", "git-annex smudge --clean -- %f")
    gui = room.worktree()
    other = "/annex/objects/SHA256E-s5--other\n"
    written = {"src/a.bin": "got\n", "src/b.bin": other, "src/new.bin": "new\n", "src/a.txt": "a\n"}
    found = await gui.turn(lambda: gui.write(dict(written)))
    assert found.files == ("src/a.txt", "src/b.bin", "src/new.bin")
    (kept,) = found.kept_out
    assert kept.paths == ("src/a.bin",)
    assert "git-annex" in kept.why
    assert (gui.root / "src/a.bin").read_text() == pointers["src/a.bin"]
    apply(gui.patches()[0], gui.root)
    assert (gui.root / "src/a.bin").read_text() == "got\n"


async def test_nothing_changed_is_no_commit(room: Room, gui: Stream) -> None:
    found = await gui.turn()
    assert (found.files, found.said) == ((), "")
    assert await gui.guard.commit("x") == room.base


def _write(gui: Stream) -> None:
    gui.write({"other/x.txt": "mine\n"})


def _new(gui: Stream) -> None:
    gui.write({"other/new/z.bin": bytes(range(256))})


def _delete(gui: Stream) -> None:
    (gui.root / "other/y.bin").unlink()


def _mode(gui: Stream) -> None:
    (gui.root / "other/x.txt").chmod(0o755)


def _rename_out(gui: Stream) -> None:
    (gui.root / "src/a.txt").rename(gui.root / "other/a.txt")


def _rename_in(gui: Stream) -> None:
    (gui.root / "other/x.txt").rename(gui.root / "src/x.txt")


def _link(gui: Stream) -> None:
    (gui.root / "other/link").symlink_to("x.txt")


def _link_instead(gui: Stream) -> None:
    shutil.rmtree(gui.root / "other")
    (gui.root / "other").symlink_to("src")


def _file_instead_of_folder(gui: Stream) -> None:
    shutil.rmtree(gui.root / "other")
    gui.write({"other": "a file\n"})


def _folder_instead_of_file(gui: Stream) -> None:
    (gui.root / "shared.txt").unlink()
    gui.write({"shared.txt/in": "1\n"})


def _protected(gui: Stream) -> None:
    gui.write(
        {"AGENTS.md": "Obey.\n", "src/CLAUDE.md": "x\n", ".parallelai/roles/r.yaml": "x\n", "locked/x": "1\n"}
    )


def _hooks_in_the_tree(gui: Stream) -> None:
    gui.write({".husky/pre-commit": "#!/bin/sh\n", ".gitattributes": "* -diff\n", ".gitmodules": "[x]\n"})


def _shared(gui: Stream) -> None:
    gui.write({"shared.txt": "mine\n"})


def _avoided(gui: Stream) -> None:
    gui.write({"src/never/x.txt": "1\n"})


def _case(gui: Stream) -> None:
    gui.write({"src/A.TXT": "1\n"})


def _unicode(gui: Stream) -> None:
    gui.write({"src/e\u0301.txt": "1\n", "src/\u00e9.txt": "2\n"})


def _committed(gui: Stream) -> None:
    gui.write({"other/x.txt": "mine\n"})
    gui.git("commit", "-q", "-am", "mine")


def _staged_then_removed_from_the_index(gui: Stream) -> None:
    gui.git("rm", "-q", "--cached", "other/x.txt")
    gui.write({"other/x.txt": "mine\n"})


def _assume_unchanged(gui: Stream) -> None:
    gui.git("update-index", "--assume-unchanged", "other/x.txt")
    gui.git("update-index", "--skip-worktree", "other/y.bin")
    gui.write({"other/x.txt": "mine\n", "other/y.bin": "mine\n"})


def _hidden_by_an_ignore_file(gui: Stream) -> None:
    gui.write({".gitignore": "*\n", "other/x.txt": "mine\n", "other/hidden.txt": "1\n"})


def _index_replaced(gui: Stream) -> None:
    gui.write({"other/x.txt": "mine\n"})
    gui.git("add", "-A")
    Path(gui.git("rev-parse", "--git-path", "index").strip()).write_bytes(b"no index")


def _exclude_written(gui: Stream) -> None:
    common = Path(gui.git("rev-parse", "--git-common-dir").strip())
    (common / "info").mkdir(exist_ok=True)
    (common / "info/exclude").write_text("*\n")
    gui.write({"other/hidden.txt": "1\n"})


TRESPASSES = [value for name, value in list(globals().items()) if name.startswith("_") and callable(value)]


@pytest.mark.parametrize("act", TRESPASSES, ids=lambda act: act.__name__.strip("_"))
async def test_a_trespass_is_kept_out_as_a_patch_and_the_rest_goes_on(
    room: Room, gui: Stream, act: Callable[[Stream], None]
) -> None:
    def both() -> None:
        act(gui)
        gui.write({"src/deep/c.txt": "good\n"})

    before = gui.lying()
    found = await gui.turn(both)
    kept = {path for each in found.kept_out for path in each.paths}
    assert kept
    assert "src/deep/c.txt" in found.files
    made = await gui.guard.commit("Do it")
    new = {"src/\u00e9.txt", "src/e\u0301.txt"} & gui.files(made).keys()
    assert len(new) < 2
    assert {path for path in gui.files(made) if path not in new} == set(BASE)
    for path in BASE:
        text = gui.git("cat-file", "blob", f"{made}:{path}") if path != "other/y.bin" else None
        if path == "src/deep/c.txt":
            assert text == "good\n"
        elif text is not None:
            assert text == BASE[path]
    assert gui.files(made)["other/x.txt"] == "100644"
    expected = {**before, "src/deep/c.txt": ("file", b"good\n")}
    assert {path: what for path, what in gui.lying().items() if path not in new} == expected
    assert gui.git("status", "--porcelain") == ""
    # What was kept out is whole in the patch.
    again = room.worktree("again")
    for patch in dict.fromkeys(each.patch for each in found.kept_out if each.patch):
        apply(room.main.root / patch, again.root)
    for path in kept & set(again.lying()):
        assert path in again.lying()
    assert again.git("status", "--porcelain", "--ignored") != ""
    for path in kept:
        assert f"`{path}`" in found.said or path.encode().decode() in found.said
    # And it is not told a second time.
    later = await gui.turn()
    assert (later.kept_out, later.files, later.said) == ((), (), "")


async def test_the_patch_holds_every_byte(room: Room, gui: Stream) -> None:
    def act() -> None:
        gui.write({"other/new.bin": os.urandom(5000), "other/y.bin": b"\0\1", "other/x.txt": "no end"})
        (gui.root / "other/run.sh").write_text("#!/bin/sh\n")
        (gui.root / "other/run.sh").chmod(0o755)
        (gui.root / "other/link").symlink_to("x.txt")

    await gui.guard.before()
    act()
    written = gui.lying()
    found = await gui.guard.check()
    again = room.worktree("again")
    apply(room.main.root / str(found.kept_out[0].patch), again.root)
    assert again.lying() == written


async def test_a_lease_lets_a_shared_file_in_and_only_that(gui: Stream) -> None:
    def act() -> None:
        gui.write({"shared.txt": "mine\n", "other/x.txt": "mine\n"})

    found = await gui.turn(act, ("shared.txt",))
    assert found.files == ("shared.txt",)
    assert [each.paths for each in found.kept_out] == [("other/x.txt",)]
    assert '{"lease": "other/x.txt"' in found.said


async def test_ignored_files_never_get_in_unless_they_are_tracked(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.main.write({"src/kept.log": "1\n"})
    room.main.git("add", "-f", "src/kept.log")
    room.base = room.main.commit()
    gui = room.worktree()

    def act() -> None:
        gui.write({"src/kept.log": "2\n", "src/new.log": "1\n", "build/out": "1\n", "other/noise.log": "1\n"})
        gui.git("add", "-f", "src/new.log")
        gui.git("commit", "-qm", "forced")

    found = await gui.turn(act)
    assert found.files == ("src/kept.log",)
    assert found.kept_out == ()
    assert (gui.root / "src/new.log").exists()
    assert (gui.root / "build/out").exists()


async def test_brought_files_are_no_part_of_a_change(room: Room) -> None:
    gui = room.worktree(brought=frozenset({"src/.env", "node_modules"}))
    (gui.root / "src/.env").write_text("KEY=1\n")
    (gui.root / "node_modules").symlink_to(room.main.root)
    found = await gui.turn(lambda: gui.write({"src/.env": "KEY=2\n", "src/a.txt": "1\n"}))
    assert found.files == ("src/a.txt",)
    assert found.kept_out == ()
    assert (gui.root / "src/.env").read_text() == "KEY=2\n"
    assert (gui.root / "node_modules").is_symlink()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "../.git/config", "loop", "out/x"])
async def test_a_link_out_is_kept_out_also_of_what_is_owned(room: Room, gui: Stream, target: str) -> None:
    (room.folder / "elsewhere").mkdir()
    if target == "out/x":
        gui = room.worktree("linked", brought=frozenset({"src/out"}))
        (gui.root / "src/out").symlink_to(room.folder / "elsewhere")
    found = await gui.turn(lambda: (gui.root / "src/loop").symlink_to(target))
    assert [each.paths for each in found.kept_out] == [("src/loop",)]
    assert found.files == ()
    assert not (gui.root / "src/loop").is_symlink()


async def test_a_link_that_stays_inside_is_a_change_like_any(gui: Stream) -> None:
    found = await gui.turn(lambda: (gui.root / "src/link").symlink_to("a.txt"))
    assert found.files == ("src/link",)
    made = await gui.guard.commit("x")
    assert gui.files(made)["src/link"] == "120000"


async def test_pipes_sockets_and_huge_files_do_not_stop_it(room: Room, gui: Stream) -> None:
    def act() -> None:
        (gui.root / "other/x.txt").unlink()
        os.mkfifo(gui.root / "other/x.txt")
        os.mkfifo(gui.root / "src/pipe")
        os.mkfifo(gui.root / "src/.gitattributes")
        with (gui.root / "src/huge.bin").open("wb") as file:
            file.truncate(100 * 1024 * 1024 + 1)
        gui.write({"src/a.txt": "good\n"})

    found = await gui.turn(act)
    assert found.files == ("src/a.txt",)
    kept = {path: each.why for each in found.kept_out for path in each.paths}
    assert set(kept) == {"other/x.txt", "src/huge.bin"}
    assert "100 MB" in kept["src/huge.bin"]
    assert (gui.root / "other/x.txt").read_text() == BASE["other/x.txt"]
    (huge,) = room.main.root.rglob("huge.bin")
    assert huge.stat().st_size == 100 * 1024 * 1024 + 1
    assert not (gui.root / "src/huge.bin").exists()


async def test_a_repository_inside_is_moved_away_whole(room: Room, gui: Stream) -> None:
    def act() -> None:
        gui.git("init", "-q", "src/inner")
        gui.write({"src/inner/f.txt": "1\n", "src/a.txt": "good\n"})

    found = await gui.turn(act)
    assert found.files == ("src/a.txt",)
    assert [each.paths for each in found.kept_out] == [("src/inner",)]
    assert [each.patch for each in found.kept_out] == [None]
    (kept,) = room.main.root.rglob("inner")
    assert (kept / "f.txt").read_text() == "1\n"
    assert (kept / ".git/HEAD").exists()
    assert str(kept.parent.parent.relative_to(room.main.root)) in found.kept_out[0].why


async def test_names_that_git_keeps_for_itself_are_moved_away(gui: Stream) -> None:
    found = await gui.turn(lambda: gui.write({"src/.GIT/hooks/x": "1\n", "src/git~1/y": "1\n"}))
    assert found.files == ()
    assert {path for each in found.kept_out for path in each.paths} == {"src/.GIT/hooks/x", "src/git~1/y"}
    assert not (gui.root / "src/.GIT").exists()


async def test_a_case_only_rename_is_judged_by_both_names(room: Room, gui: Stream) -> None:
    found = await gui.turn(lambda: (gui.root / "src/a.txt").rename(gui.root / "src/A.txt"))
    assert found.files == ("src/A.txt", "src/a.txt")
    made = await gui.guard.commit("x")
    assert "src/A.txt" in gui.files(made)
    other = room.worktree("other", rules=Rules(owns=("src/A.txt",)))
    kept = await other.turn(lambda: (other.root / "src/a.txt").rename(other.root / "src/A.txt"))
    assert kept.files == ()
    assert (other.root / "src/a.txt").exists()
    assert not (other.root / "src/A.txt").exists()


async def test_a_setting_of_another_machine_hides_no_name(room: Room, gui: Stream) -> None:
    if (gui.root / ".GIT").exists():
        pytest.skip("this file system does not tell names apart by case")
    room.main.git("config", "core.ignoreCase", "true")
    found = await gui.turn(lambda: (gui.root / "src" / "a.txt").rename(gui.root / "src" / "A.txt"))
    assert set(found.files) == {"src/a.txt", "src/A.txt"}
    made = await gui.guard.commit("x")
    assert gui.shown(made, "src/A.txt") == BASE["src/a.txt"]


async def test_a_file_in_place_of_an_owned_folder_is_fine(gui: Stream) -> None:
    def act() -> None:
        shutil.rmtree(gui.root / "src/deep")
        gui.write({"src/deep": "a file now\n"})

    found = await gui.turn(act)
    assert found.files == ("src/deep", "src/deep/c.txt")
    made = await gui.guard.commit("x")
    assert gui.shown(made, "src/deep") == "a file now\n"


async def test_ignored_files_below_what_has_to_come_back_are_kept(room: Room, gui: Stream) -> None:
    def act() -> None:
        (gui.root / "shared.txt").unlink()
        gui.write({"shared.txt/secret.log": "mine\n", "shared.txt/in": "1\n"})

    await gui.turn(act)
    assert (gui.root / "shared.txt").read_text() == "shared\n"
    (kept,) = room.main.root.rglob("secret.log")
    assert kept.read_text() == "mine\n"


async def test_a_secret_in_what_stays_blocks_the_commit_until_it_is_gone(room: Room) -> None:
    gui = room.worktree(secrets_in=keys)
    found = await gui.turn(lambda: gui.write({"src/a.txt": f"key = {KEY}\n"}))
    assert found.secrets == ("src/a.txt",)
    assert "secret" in found.said
    assert KEY not in found.said
    with pytest.raises(Trespass, match="secret") as caught:
        await gui.guard.commit("x")
    assert KEY not in str(caught.value)
    assert gui.git("rev-parse", "parallelai/gui").strip() == room.base
    found = await gui.turn(lambda: gui.write({"src/a.txt": "key = env\n"}))
    assert found.secrets == ()
    made = await gui.guard.commit("x")
    assert KEY not in gui.git("log", "-p", made)


async def test_a_secret_that_only_moved_was_there_before(tmp_path: Path) -> None:
    room = Room(tmp_path, {**BASE, "src/fixture.txt": f"key = {KEY}\n"})
    gui = room.worktree(secrets_in=keys)
    found = await gui.turn(lambda: (gui.root / "src/fixture.txt").rename(gui.root / "src/moved.txt"))
    assert (found.secrets, found.files) == ((), ("src/fixture.txt", "src/moved.txt"))
    await gui.guard.commit("x")
    found = await gui.turn(lambda: gui.write({"src/a.txt": f"key = {KEY}\n"}))
    assert found.secrets == ("src/a.txt",)  # one that stays where it is has only been copied


async def test_what_is_kept_out_does_not_get_into_the_users_objects(room: Room) -> None:
    gui = room.worktree(secrets_in=keys)
    found = await gui.turn(lambda: gui.write({"other/x.txt": KEY, "src/a.txt": "1\n"}))
    assert found.secrets == ()
    await gui.guard.commit("x")
    listed = room.main.git("cat-file", "--batch-all-objects", "--batch-check")
    hashes = [line.split()[0] for line in listed.splitlines() if " blob " in line]
    assert all(KEY not in room.main.git("cat-file", "blob", each) for each in hashes)
    assert room.main.root.joinpath(str(found.kept_out[0].patch)).stat().st_mode & 0o777 == 0o600


async def test_a_lock_file_follows_its_manifest(room: Room) -> None:
    gui = room.worktree(rules=Rules(owns=("web/package.json", "src/**"), shared=("Cargo.toml",)))
    found = await gui.turn(
        lambda: gui.write({"web/package.json": "{}", "web/package-lock.json": "{}", "Cargo.lock": "x\n"})
    )
    assert found.files == ("web/package-lock.json", "web/package.json")
    assert [each.paths for each in found.kept_out] == [("Cargo.lock",)]
    assert '{"lease": "Cargo.toml"' in found.said
    found = await gui.turn(lambda: gui.write({"Cargo.lock": "x\n"}), ("Cargo.toml",))
    assert "Cargo.lock" in found.files


async def test_line_ends_are_converted_as_the_user_has_it(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.main.git("config", "core.autocrlf", "true")
    gui = room.worktree()
    assert (gui.root / "src/a.txt").read_bytes().startswith(b"a\r\n")
    found = await gui.turn()
    assert found.files == ()
    found = await gui.turn(lambda: gui.write({"src/a.txt": "a\r\n", "other/x.txt": "y\r\n"}))
    assert found.files == ("src/a.txt",)
    assert (gui.root / "other/x.txt").read_bytes() == b"x\r\n" * 20
    made = await gui.guard.commit("x")
    assert gui.shown(made, "src/a.txt") == "a\n"


@pytest.mark.parametrize(
    "settings",
    [{"core.trustctime": "false", "core.checkStat": "minimal"}, {"core.ignoreStat": "true"}],
)
async def test_a_file_of_the_same_size_and_time_is_seen_whatever_git_was_set_to(
    room: Room, settings: dict[str, str]
) -> None:
    for key, value in settings.items():
        room.main.git("config", key, value)
    gui = room.worktree()
    file = gui.root / "shared.txt"
    os.utime(file, (1_000_000_000, 1_000_000_000))
    await gui.turn()  # the guard's index knows the file now

    def act() -> None:
        other = file.with_name("other.txt")
        other.write_bytes(b"x" * file.stat().st_size)
        os.utime(other, (1_000_000_000, 1_000_000_000))
        other.replace(file)

    found = await gui.turn(act)
    assert [each.paths for each in found.kept_out] == [("shared.txt",)]
    assert "x" not in file.read_text()


async def test_a_file_that_goes_while_its_filter_is_tried_is_looked_at_again(
    room: Room, gui: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.main.git("config", "filter.own.clean", "cat")
    listed = steady._files

    def going(root: Path, names: list[str]) -> list[str]:
        found = listed(root, names)
        if "src/soon.txt" in found:
            (gui.root / "src/soon.txt").unlink()
        return found

    monkeypatch.setattr(steady, "_files", going)
    files: dict[str, str | bytes] = {".gitattributes": "*.txt filter=own\n", "src/a.txt": "new\n"}

    found = await gui.turn(lambda: gui.write({**files, "src/soon.txt": "gone soon\n"}), (".gitattributes",))

    assert found.files == (".gitattributes", "src/a.txt")
    assert found.kept_out == ()


async def test_a_sparse_worktree_misses_nothing(room: Room) -> None:
    gui = room.worktree()
    gui.git("sparse-checkout", "set", "--no-cone", "/src/")
    assert not (gui.root / "other").exists()
    found = await gui.turn(lambda: gui.write({"src/a.txt": "1\n"}))
    assert (found.files, found.kept_out) == (("src/a.txt",), ())
    made = await gui.guard.commit("x")
    assert set(gui.files(made)) == set(BASE)
    found = await gui.turn(lambda: gui.write({"other/x.txt": "outside\n"}))
    assert [each.paths for each in found.kept_out] == [("other/x.txt",)]
    assert gui.git("status", "--porcelain") == ""


async def test_a_sparse_worktree_that_nobody_looked_at_before_misses_nothing(room: Room) -> None:
    gui = room.worktree()
    gui.git("sparse-checkout", "set", "--no-cone", "/src/")
    gui.write({"src/a.txt": "1\n"})
    found = await gui.guard.check()
    assert (found.files, found.kept_out) == (("src/a.txt",), ())
    assert set(gui.files(await gui.guard.commit("x"))) == set(BASE)


async def test_what_a_sparse_worktree_does_not_have_is_read_before_it_is_written_over(room: Room) -> None:
    gui = room.worktree()
    gui.git("sparse-checkout", "set", "--no-cone", "/src/a.txt")

    def blind() -> None:
        gui.write({"src/a.txt": "1\n", "src/b.txt": "as if it were new\n"})
        gui.git("status")  # by which git takes all that lies there for laid out

    found = await gui.turn(blind)

    assert found.files == ("src/a.txt",)
    assert [(each.path, each.why) for each in found.out] == [("src/b.txt", "unseen")]
    assert "`src/b.txt`: the worktree did not have it (`sparse`)" in found.said
    assert "as if it were new" in gui.patches()[0].read_text()
    made = await gui.guard.commit("x")
    assert gui.shown(made, "src/b.txt") == BASE["src/b.txt"]
    assert (gui.root / "src/b.txt").read_text() == BASE["src/b.txt"]  # where it is read now
    found = await gui.turn(lambda: gui.write({"src/b.txt": "on top of it\n"}))
    assert (found.files, found.out) == (("src/b.txt",), ())

    def asked_for() -> None:
        gui.git("sparse-checkout", "add", "/src/deep/")
        gui.write({"src/deep/c.txt": "seen\n"})

    found = await gui.turn(asked_for)
    assert (found.files, found.out) == (("src/b.txt", "src/deep/c.txt"), ())


async def test_what_was_laid_out_by_ending_the_sparse_checkout_was_seen(room: Room) -> None:
    gui = room.worktree()
    gui.git("sparse-checkout", "set", "--no-cone", "/src/a.txt")

    def asked_for_all() -> None:
        gui.git("sparse-checkout", "disable")
        gui.write({"src/b.txt": "seen\n"})

    found = await gui.turn(asked_for_all)
    assert (found.files, found.out) == (("src/b.txt",), ())


async def test_nothing_is_put_in_place_of_a_folder_that_a_sparse_worktree_does_not_have(room: Room) -> None:
    gui = room.worktree()
    gui.git("sparse-checkout", "set", "--no-cone", "/src/a.txt")
    found = await gui.turn(lambda: gui.write({"src/deep": "in place of a folder\n"}))
    assert {(each.path, each.why) for each in found.out} == {
        *(("src/deep/c.txt", "unseen"), ("src/deep", "in_the_way"))
    }
    assert found.files == ()


async def test_rules_are_the_streams_own(room: Room) -> None:
    one, two = room.worktree("one"), room.worktree("two", rules=Rules(owns=("other/**",)))
    first = await one.turn(lambda: one.write({"other/x.txt": "1\n", "src/a.txt": "1\n"}))
    second = await two.turn(lambda: two.write({"other/x.txt": "2\n", "src/a.txt": "2\n"}))
    assert (first.files, second.files) == (("src/a.txt",), ("other/x.txt",))
    assert RULES.owns == ("src/**",)
