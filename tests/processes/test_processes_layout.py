"""What of the file system a confined program sees: the decisions, without a program."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallelai.processes import DEFAULT_HIDDEN, seccomp
from parallelai.processes.landlock import beside
from parallelai.processes.layout import Kind, arrange, is_within

NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)
PATHS = NAMES.map(lambda names: "/" + "/".join(names))


@given(st.sets(PATHS, max_size=4), st.sets(PATHS, max_size=4), st.sets(PATHS, max_size=4), PATHS)
def test_the_deepest_entry_above_a_path_counts(
    hidden: set[str], readable: set[str], writable: set[str], path: str
) -> None:
    layout = arrange(hidden=hidden, readable=readable, writable=writable, temporary="/t")
    nearest = max(
        (one for one in {*hidden, *readable, *writable} if is_within(path, one)), key=len, default=None
    )
    found = layout.kind(path)
    if nearest is None:
        assert found is Kind.READABLE
    elif nearest in writable:
        assert found is Kind.WRITABLE
    elif nearest in readable:  # to be readable takes nothing away
        assert found in (Kind.READABLE, Kind.WRITABLE)
    else:
        assert found is Kind.HIDDEN
    assert [path.count("/") for path, _ in layout.entries] == sorted(
        path.count("/") for path, _ in layout.entries
    )


def test_entries_that_change_nothing_are_left_out() -> None:
    layout = arrange(
        hidden=["/h", "/h/deeper"], readable=["/r", "/w/r"], writable=["/w", "/w/deeper"], temporary="/w"
    )
    assert layout.entries == (("/h", Kind.HIDDEN), ("/w", Kind.WRITABLE))


def test_names_that_begin_alike_are_not_within_each_other() -> None:
    assert is_within("/a/b", "/a")
    assert is_within("/a", "/")
    assert is_within("/a", "/a")
    assert not is_within("/ab", "/a")


def test_a_folder_is_taken_apart_around_what_is_hidden(tmp_path: Path) -> None:
    for name in ("a/x", "a/y/hidden/deep", "b/secret", "c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("b/secret")
    top = str(tmp_path)
    hidden = tuple(f"{top}/{name}" for name in ("a/y/hidden", "b/secret"))
    found = {os.path.relpath(path, top) for path in beside(top, hidden)}
    assert found == {"a/x", "c", "file"}
    assert list(beside(top, ("/elsewhere",))) == [top]
    assert list(beside(top, (top,))) == []
    assert list(beside(f"{top}/a/y/hidden/deep", hidden)) == [f"{top}/a/y/hidden/deep"]
    assert list(beside(f"{top}/none", (f"{top}/none/x",))) == []


def test_what_is_hidden_of_a_home() -> None:
    found = DEFAULT_HIDDEN("/home/u")
    assert len(found) == len(set(found))
    assert all(path.startswith("/") for path in found)
    for name in [
        ".ssh",
        ".gnupg",
        ".aws",
        ".azure",
        ".config/gcloud",
        ".kube",
        ".docker",
        ".config/gh",
        ".config/glab-cli",
        ".git-credentials",
        ".netrc",
        ".npmrc",
        ".pypirc",
        ".mozilla",
        ".config/google-chrome",
        ".local/share/keyrings",
        ".claude",
        ".claude.json",
        ".codex",
        ".gemini",
        ".qwen",
        ".config/opencode",
        ".local/share/opencode",
        ".cursor",
        ".local/state/parallelai",
    ]:
        assert f"/home/u/{name}" in found, name


def test_what_lies_in_folders_of_the_users_choice_is_hidden_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", f"/data/{name.lower()}")
    found = DEFAULT_HIDDEN("/home/u")
    for path in ("/data/config/gh", "/data/data/keyrings", "/data/state/parallelai", "/home/u/.config/gh"):
        assert path in found


# The filter of system calls, by its meaning: this interprets what the kernel would.

ALLOWED = 0x7FFF0000
CALLS = {
    "x86_64": {"audit": 0xC000003E, "socket": 41, "sendto": 44, "sendmsg": 46, "sendmmsg": 307},
    "aarch64": {"audit": 0xC00000B7, "socket": 198, "sendto": 206, "sendmsg": 211, "sendmmsg": 269},
}


def _verdict(program: bytes, audit: int, number: int, *arguments: int) -> int:
    data = struct.pack("<IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    held, at = 0, 0
    steps = list(struct.iter_unpack("=HBBI", program))
    while True:
        code, yes, no, value = steps[at]
        at += 1
        match code:
            case 0x20:
                (held,) = struct.unpack_from("<I", data, value)
            case 0x54:
                held &= value
            case 0x15:
                at += yes if held == value else no
            case 0x35:
                at += yes if held >= value else no
            case 0x45:
                at += yes if held & value else no
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(code)


def _refused(number: int) -> int:
    return 0x00050000 | number


@pytest.mark.parametrize("machine", list(CALLS))
@pytest.mark.parametrize("allow_tcp", [True, False])
def test_the_filter_refuses_all_of_the_network_but_plain_tcp(machine: str, allow_tcp: bool) -> None:
    program = seccomp.assemble(machine, allow_tcp=allow_tcp)
    calls = CALLS[machine]

    def ask(name: str, *arguments: int) -> int:
        return _verdict(program, calls["audit"], calls[name], *arguments)

    unix, inet, inet6, netlink, packet, vsock, smc = 1, 2, 10, 16, 17, 40, 43
    stream, datagram, raw, flags = 1, 2, 3, 0o2004000
    refused = _refused(errno.EACCES)
    tcp = ALLOWED if allow_tcp else refused
    for family in (unix, netlink):
        assert ask("socket", family, stream | flags, 0) == ALLOWED
    for family in (inet, inet6):
        assert ask("socket", family, stream | flags, 0) == tcp
        assert ask("socket", family, stream, 6) == tcp
        for kind, protocol in ((datagram, 0), (raw, 1), (stream, 262), (stream, 132), (datagram | flags, 17)):
            assert ask("socket", family, kind, protocol) == refused
    for family in (packet, vsock, smc):
        assert ask("socket", family, stream, 0) == refused
    fast_open = 0x20000000
    for name, at in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        arguments = [0] * at
        assert ask(name, *arguments, 0x4000) == ALLOWED
        if allow_tcp:
            assert ask(name, *arguments, fast_open | 0x4000) == _refused(errno.EOPNOTSUPP)
    assert _verdict(program, calls["audit"], 425) == _refused(errno.ENOSYS)
    assert _verdict(program, calls["audit"], 0x40000000 | calls["socket"], unix) == refused
    assert _verdict(program, 0x40000003, 1) == refused
    assert _verdict(program, calls["audit"], 1) == ALLOWED
