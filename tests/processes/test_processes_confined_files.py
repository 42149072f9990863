"""What a confined program can see and change: real attempts, with bubblewrap and with Landlock."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from confinement_support import BOTH, Place

from parallelai.errors import ProgramError
from parallelai.processes import (
    DEFAULT_HIDDEN,
    Completed,
    Feed,
    Mount,
    Program,
    confinements,
    environment,
    layout,
    run,
)
from parallelai.processes.bubblewrap import PRIVATE
from parallelai.processes.confinement import By

pytestmark = pytest.mark.parametrize("by", BOTH)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path)


def test_both_work_here(by: By) -> None:
    assert by in confinements()


async def test_it_works_in_its_workspace_and_its_temporary_folder(place: Place, by: By) -> None:
    code = """
write('new', 'text')
os.mkdir('folder'); os.rename('new', 'folder/moved'); os.symlink('folder', 'link')
with open('folder/moved', 'r+') as file: file.truncate(2)
own = os.environ['TMPDIR']
write(own + '/mine', 'x')
found['cwd'] = os.getcwd()
found['same'] = os.environ['TMP'] == os.environ['TEMP'] == own and os.path.isdir(own)
found['child'] = subprocess.run(['sh', '-c', 'echo y > by-child; echo > /dev/null']).returncode
"""
    found = await place.attempts(by, code)
    assert found == {"cwd": str(place.work), "same": True, "child": 0}
    assert (place.work / "folder" / "moved").read_text() == "te"
    assert (place.work / "by-child").read_text() == "y\n"
    assert (place.temporary / "mine").read_text() == "x"


async def test_nothing_else_can_be_changed(place: Place, by: By, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (place.work / "shortcut").symlink_to(tmp_path)
    code = """
base = sys.argv[1]
for name, call in {
    'write': lambda: write(base + '/victim'),
    'through a link': lambda: write('shortcut/victim'),
    'new': lambda: write(base + '/new'),
    'truncate': lambda: os.truncate(base + '/victim', 0),
    'delete': lambda: os.unlink(base + '/victim'),
    'rename': lambda: os.rename(base + '/victim', 'mine'),
    'put in place': lambda: (write('mine2'), os.rename('mine2', base + '/victim')),
    'hard link': lambda: os.link(base + '/victim', 'hard'),
    'folder': lambda: os.mkdir(base + '/new'),
    'own link': lambda: (os.symlink(base, 'own'), write('own/victim')),
    'fifo': lambda: os.mkfifo(base + '/fifo'),
    'replace the workspace': lambda: os.rename(base + '/work', base + '/old'),
    'device': lambda: os.mknod('disk', 0o60600, os.makedev(8, 0)),
    'etc': lambda: write('/etc/parallelai-test'),
    'home': lambda: write('/root/parallelai-test'),
    'another temporary folder': lambda: write('/var/tmp/parallelai-test'),
    'kernel': lambda: write('/proc/sys/kernel/core_pattern', read('/proc/sys/kernel/core_pattern')),
    'system': lambda: os.close(os.open('/proc/sysrq-trigger', os.O_WRONLY)),
    'mount': lambda: subprocess.run(['mount', '-t', 'tmpfs', 'x', base], check=True, capture_output=True),
}.items():
    try:
        found[name] = attempt(call)
    except subprocess.CalledProcessError:
        found[name] = 'refused'
"""
    found = await place.attempts(by, code, str(tmp_path))
    assert {name: result for name, result in found.items() if not str(result).startswith("refused")} == {}
    assert (tmp_path / "victim").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "temporary", "victim", "work"]


async def test_what_is_hidden_cannot_be_read_but_what_is_readable_in_it_can(place: Place, by: By) -> None:
    home = str(place.home)
    hidden = (f"{home}/.ssh", f"{home}/.tool", f"{home}/.netrc", f"{home}/not-there")
    code = """
home = sys.argv[1]
for name in ('notes', '.netrc', '.ssh/id', '.tool/token', '.tool/own/settings'):
    found[name] = attempt(lambda: read(f'{home}/{name}'))
found['write'] = attempt(lambda: write(f'{home}/.ssh/new'))
found['own'] = attempt(lambda: write(f'{home}/.tool/own/settings'))
"""
    found = await place.attempts(by, code, home, hidden=hidden, readable=(f"{home}/.tool/own",))
    assert found.pop("notes") == "notes"
    assert found.pop(".tool/own/settings") == "mine"
    assert all(result == "" or result.startswith("refused") for result in found.values()), found
    assert (place.home / ".ssh" / "id").read_text() == "secret"
    assert not (place.home / ".ssh" / "new").exists()


async def test_a_writable_path_in_what_is_hidden_can_be_written(place: Place, by: By) -> None:
    own, hidden = place.home / ".tool" / "own", place.home / ".tool"
    code = (
        "write(sys.argv[1] + '/settings', 'refreshed'); found['token'] = attempt(lambda: read(sys.argv[2]))"
    )
    writable = (str(place.work), str(own))
    found = await place.attempts(
        by, code, str(own), f"{hidden}/token", hidden=(str(hidden),), writable=writable
    )
    assert (own / "settings").read_text() == "refreshed"
    assert found["token"].startswith("refused")


async def test_one_writable_file_in_a_folder_that_is_not(place: Place, by: By) -> None:
    notes = place.home / "notes"
    code = "write(sys.argv[1], 'changed'); found['beside'] = attempt(lambda: write(sys.argv[1] + '2'))"
    found = await place.attempts(by, code, str(notes), writable=(str(place.work), str(notes)))
    assert notes.read_text() == "changed"
    assert found["beside"].startswith("refused")


async def test_bubblewrap_alone_shows_one_folder_in_the_place_of_another(
    place: Place, by: By, tmp_path: Path
) -> None:
    for name in ("theirs", "own", "store"):
        (tmp_path / name).mkdir()
    (tmp_path / "theirs" / "file").write_text("theirs")
    theirs, own, store = (str(tmp_path / name) for name in ("theirs", "own", "store"))
    mounts = (Mount(theirs, store), Mount(own, theirs, True))
    code = """
theirs, store = sys.argv[1:]
found['seen'] = os.listdir(theirs)
found['stored'] = attempt(lambda: read(store + '/file'))
found['write'] = attempt(lambda: write(theirs + '/new'))
found['write the stored'] = attempt(lambda: write(store + '/file'))
"""
    found = await place.attempts(by, code, theirs, store, mounts=mounts)
    assert found.pop("write the stored").startswith("refused")
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["file"]
    if by == "bubblewrap":
        assert found == {"seen": [], "stored": "theirs", "write": "done"}
        assert (tmp_path / "own" / "new").read_text() == "overwritten"
    else:
        assert found == {"seen": ["file"], "stored": "refused 2", "write": "refused 13"}


async def test_the_temporary_folder_of_the_machine_is_hidden(place: Place, by: By, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret").write_text("secret")
    code = "found['other'] = attempt(lambda: read(sys.argv[1]))"
    program = place.program(by, f"found = {{}}\n{code}\nprint(found)", f"{tmp_path}/other/secret")
    assert program.confinement is not None
    narrow = type(program.confinement)(
        writable=(str(place.work),), temporary=str(place.temporary), readable=(program.argv[0],), by=by
    )
    done = await run(Program(program.argv, cwd=place.work, env=environment(), confinement=narrow))
    assert b"refused" in done.stdout, done


async def test_links_among_the_given_paths_are_followed(place: Place, by: By, tmp_path: Path) -> None:
    (tmp_path / "by-link").symlink_to(place.work)
    (tmp_path / "secrets").symlink_to(place.home / ".ssh")
    code = "write('new'); found['id'] = attempt(lambda: read(sys.argv[1]))"
    writable, hidden = (f"{tmp_path}/by-link",), (f"{tmp_path}/secrets",)
    found = await place.attempts(by, code, f"{place.home}/.ssh/id", writable=writable, hidden=hidden)
    assert (place.work / "new").exists()
    assert found["id"].startswith("refused")


@pytest.mark.parametrize("what", ["writable", "readable"])
async def test_a_link_that_the_program_planted_opens_nothing(place: Place, by: By, what: str) -> None:
    (place.work / "build").symlink_to(place.home / ".ssh")
    given: dict[str, dict[str, Any]] = {
        "writable": {"writable": (str(place.work), f"{place.work}/build")},
        "readable": {"readable": (f"{place.work}/build/deeper",)},
    }
    with pytest.raises(ProgramError, match="is a link in a folder that the program may write"):
        await place.attempts(by, "", **given[what])


async def test_a_link_planted_in_the_temporary_folder_is_not_mounted_over(place: Place, by: By) -> None:
    is_inside = place.base.is_relative_to(PRIVATE)
    (place.temporary / (place.base.relative_to(PRIVATE).parts[0] if is_inside else "x")).symlink_to(
        place.home
    )
    if by == "landlock" or not is_inside:  # nothing is mounted there
        assert await place.attempts(by, "") == {}
    else:
        with pytest.raises(ProgramError, match="is a link, where"):
            await place.attempts(by, "")


async def test_a_program_in_a_hidden_folder_runs_and_sees_nothing_beside_it(place: Place, by: By) -> None:
    tool = place.home / ".tool" / "run"
    tool.write_text('#!/bin/sh\ncat "$0.token" && exit 9\nexit 4\n')
    tool.chmod(0o755)
    (place.home / ".tool" / "run.token").write_text("secret")
    link = place.home / ".tool" / "link"
    link.symlink_to(tool)
    for path in (tool, link):
        hidden = (str(place.home / ".tool"),)
        confinement = place.confinement(by, hidden=hidden)
        done = await run(Program((str(path),), cwd=place.work, env=environment(), confinement=confinement))
        assert (done.exit, done.stdout) == (4, b"")


async def test_input_and_feed_reach_it(place: Place, by: By) -> None:
    feed = Feed()
    code = "for line in sys.stdin: print('got', line.strip(), flush=True)"
    program = place.program(by, code, stdin=b"one\n", feed=feed)
    lines: list[bytes] = []

    def on_line(stream: str, line: bytes) -> None:
        lines.append(line)
        feed.write(b"two\n")
        if line == b"got two":
            feed.close()

    assert (await run(program, on_line=on_line)).exit == 0
    assert lines[:2] == [b"got one", b"got two"]


async def test_it_has_no_terminal_no_disk_and_no_stray_descriptors(place: Place, by: By) -> None:
    code = """
found['own'] = attempt(lambda: write('/dev/tty'))
for flags in (os.O_RDONLY, os.O_WRONLY):
    found[f'other {flags}'] = attempt(lambda: os.close(os.open(sys.argv[1], flags | os.O_NOCTTY)))
for name in set(sys.argv[2:]):
    found[name] = attempt(lambda: os.close(os.open('/dev/' + name, os.O_RDONLY)))
print([int(n) for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')], file=sys.stderr)
"""
    disks = [entry.name for entry in os.scandir("/dev") if stat.S_ISBLK(entry.stat().st_mode)]
    master, slave = os.openpty()  # a user's, so to speak
    try:
        found = await place.attempts(by, code, os.ttyname(slave), "mem", "kmsg", *disks)
    finally:
        os.close(master)
        os.close(slave)
    assert {name: result for name, result in found.items() if not str(result).startswith("refused")} == {}
    done = await run(place.program(by, f"found = {{}}\n{code}", "/none"))
    assert done.stderr == b"[0, 1, 2]\n"


async def test_nothing_runs_where_it_cannot_be_confined_as_asked(place: Place, by: By) -> None:
    work, home = str(place.work), str(place.home)
    wrong: list[dict[str, Any]] = [
        {"writable": (work, f"{home}/not-there")},
        {"writable": ("work",)},
        {"readable": ("../home",)},
        {"hidden": ("/",)},
        {"hidden": (f"{work}\0",)},
        {"ports": (80,)},
        {"network": "loopback", "ports": (0,)},
        {"network": "loopback", "ports": (70000,)},
    ]
    if by == "landlock":
        (place.work / "secret").mkdir()
        wrong.append({"hidden": (f"{work}/secret",)})
    for options in wrong:
        with pytest.raises(ProgramError):
            await place.attempts(by, "write('ran')", **options)
    assert not (place.work / "ran").exists()


async def test_a_temporary_folder_that_is_everybodys_is_refused(place: Place, by: By) -> None:
    program = place.program(by, "write('ran')")
    assert program.confinement is not None
    for temporary in ("/tmp", "/", str(place.work / "none"), str(place.home / "notes")):
        confinement = type(program.confinement)((str(place.work),), temporary, by=by)
        with pytest.raises(ProgramError, match=r"temporary folder|does not exist"):
            await run(Program(program.argv, cwd=place.work, env=environment(), confinement=confinement))
    assert not (place.work / "ran").exists()


async def test_nothing_runs_where_nothing_works(
    place: Place, by: By, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parallelai.processes.confining._tried", lambda bwrap: ())
    for wanted in (by, None):
        with pytest.raises(ProgramError, match="cannot be confined"):
            await place.attempts(wanted, "write('ran')")
    assert not (place.work / "ran").exists()


async def test_what_fails_while_confining_is_an_error_with_its_words(
    place: Place, by: By, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "bubblewrap":
        fake = tmp_path / "bwrap"
        fake.write_text("#!/bin/sh\necho 'bwrap: Creating new namespace failed' >&2\nexit 1\n")
        fake.chmod(0o755)
        monkeypatch.setattr("parallelai.processes.confining.find", lambda name: str(fake))
        expected = "bwrap: Creating new namespace failed"
    else:  # the folder goes before the warden's child opens it
        real, gone = layout.arrange, place.home / "gone"
        gone.mkdir()

        def arrange_and_remove(**found: Any) -> layout.Layout:
            gone.rmdir()
            return real(**found)

        monkeypatch.setattr(layout, "arrange", arrange_and_remove)
        expected = "it cannot be confined"
    monkeypatch.setattr("parallelai.processes.confining._tried", lambda bwrap: BOTH)
    writable = (str(place.work),) if by == "bubblewrap" else (str(place.work), str(place.home / "gone"))
    with pytest.raises(ProgramError, match=expected):
        await place.attempts(by, "write('ran')", writable=writable)
    assert not (place.work / "ran").exists()


async def test_a_program_that_confinement_hides_from_itself_is_an_error(place: Place, by: By) -> None:
    script = place.home / "tool"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    for network in ("on", "loopback"):
        confinement = place.confinement(by, network=network, ports=(9,) if network == "loopback" else ())
        with pytest.raises(ProgramError):
            await run(Program((str(script),), cwd=place.work, env=environment(), confinement=confinement))


async def test_default_hidden_paths_of_this_user_do_no_harm(place: Place, by: By) -> None:
    found = await place.attempts(by, "write('new')", hidden=DEFAULT_HIDDEN(Path.home()))
    assert found == {}
    assert (place.work / "new").exists()


async def test_without_a_confinement_nothing_is_held_back(place: Place, by: By) -> None:
    done: Completed = await run(
        Program(("sh", "-c", f"echo x > {place.home}/free; exit 3"), cwd=place.work, env=environment())
    )
    assert done.exit == 3
    assert (place.home / "free").exists()
    assert os.path.exists("/tmp")
