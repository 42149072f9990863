"""How a confined tree ends, whom it can reach, what it can take: with bubblewrap, with Landlock, and bare."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from confinement_support import BOTH, TRY, Place, echo_server
from processes_support import (
    HERE,
    SOURCE,
    STUBBORN,
    alive,
    eventually,
    gone_within,
    open_files,
    python,
    run_until_ready,
    token,
)

from parallelai.errors import ProgramError
from parallelai.processes import Completed, Program, environment, run
from parallelai.processes.confinement import By
from parallelai.processes.tree import start_time
from parallelai.processes.walk import children, descendants
from parallelai.processes.zygote import zygote_pid

ALL = (*BOTH, None)
MB = 1 << 20
DAEMON = "child(os.setsid, fork_again, os.setsid, clear)"
TREE = f"{STUBBORN}\nchild()\nchild(os.setsid)\n{DAEMON}\nstay()"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path)


def program(place: Place, by: By | None, code: str, *args: str, **options: object) -> Program:
    """Confine by `by`, None: not at all."""
    if by is not None:
        return place.program(by, code, *args, **options)
    return python(f"{TRY}\n{code}", *args, cwd=place.work, **{"grace_seconds": 0.5, **options})


# Ends


@pytest.mark.parametrize("by", ALL)
@pytest.mark.parametrize("network", ["on", "loopback"])
async def test_exit_codes_and_signals_are_told_as_they_are(place: Place, by: By, network: str) -> None:
    options = {} if by is None or network == "on" else {"network": "loopback", "ports": (9,)}
    for code in (0, 3, 127, 255):
        done = await run(program(place, by, f"sys.exit({code})", **options))
        assert (done.exit, done.signal) == (code, None)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2):
        done = await run(program(place, by, f"os.kill(os.getpid(), {number})", **options))
        assert (done.exit, done.signal) == (None, number)


@pytest.mark.parametrize("by", ALL)
async def test_a_daemon_does_not_outlive_the_program(place: Place, by: By) -> None:
    name = token()
    done = await run(program(place, by, f"{STUBBORN}\n{DAEMON}\nos.read(0, 1)", name, stdin=b""))
    assert done.exit == 0
    assert alive(name) == []


@pytest.mark.parametrize("by", ALL)
async def test_a_cancel_ends_all_that_ignores_every_signal(place: Place, by: By) -> None:
    name = token()
    task, _ = await run_until_ready(program(place, by, TREE, name, grace_seconds=0.1), 4)
    assert len(alive(name)) >= 4
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert alive(name) == []


@pytest.mark.parametrize("by", ALL)
@pytest.mark.parametrize("network", ["on", "loopback"])
async def test_an_interrupt_reaches_the_program_and_it_has_its_grace(
    place: Place, by: By, network: str
) -> None:
    options = {} if by is None or network == "on" else {"network": "loopback", "ports": (9,)}
    code = """
def leave(*_):
    child.wait()
    write('bye')
    sys.exit(7)
signal.signal(signal.SIGINT, leave)
child = subprocess.Popen([sys.executable, '-I', '-S', '-c', '''if 1:
    import signal, sys, time
    def leave(*_):
        open('child-bye', 'w').close()
        sys.exit(0)
    signal.signal(signal.SIGINT, leave)
    print('ready', flush=True)
    time.sleep(60)
'''])
print('ready', flush=True)
time.sleep(60)
"""
    task, _ = await run_until_ready(program(place, by, code, grace_seconds=30.0, **options), 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (place.work / "bye").exists()
    assert (place.work / "child-bye").exists()


@pytest.mark.parametrize("by", ALL)
async def test_a_time_out_ends_the_tree(place: Place, by: By) -> None:
    name = token()
    done = await run(program(place, by, TREE, name, timeout_seconds=1.0, grace_seconds=0.1))
    assert (done.ended_by, done.exit) == ("timeout", None)
    assert alive(name) == []


@pytest.mark.parametrize("by", ALL)
async def test_work_in_the_tree_is_not_idle(place: Place, by: By) -> None:
    code = "end = time.process_time() + 1.5\nwhile time.process_time() < end: pass"
    worker = f"subprocess.run([sys.executable, '-I', '-S', '-c', 'import time\\n' + {code!r}])"
    done = await run(program(place, by, worker, idle_timeout_seconds=1.0))
    assert (done.ended_by, done.exit) == (None, 0)
    done = await run(program(place, by, "time.sleep(60)", idle_timeout_seconds=0.3, grace_seconds=0.0))
    assert done.ended_by == "idle"


OWNER = """
import asyncio, json, os, sys
from pathlib import Path
from confinement_support import Place
from processes_support import run_until_ready
from parallelai.processes.walk import descendants
from parallelai.processes.zygote import zygote_pid
base, by, tree, name, ports = sys.argv[1:]
place = Place(Path(base))
options = {"network": "loopback", "ports": tuple(json.loads(ports))} if json.loads(ports) else {}
async def main():
    task, _ = await run_until_ready(place.program(by, tree, name, grace_seconds=0.1, **options), 4)
    print(json.dumps([zygote_pid(), *descendants(zygote_pid())]), flush=True)
    await task
asyncio.run(main())
"""


def _owner(place: Place, by: str, name: str, ports: list[int]) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a process that runs a confined tree; give it and what is below it."""
    env = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{HERE}"}
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(place.base), by, TREE, name, json.dumps(ports)],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the owner failed"
    return process, json.loads(line)


@pytest.mark.parametrize("by", BOTH)
@pytest.mark.parametrize("killed", ["parallelai", "all guards"])
def test_kill_9_leaves_nothing_of_a_confined_tree(place: Place, by: By, killed: str) -> None:
    name = token()
    owner, below = _owner(place, by, name, [9] if by == "bubblewrap" else [])
    guards = [owner.pid]
    if killed == "all guards":
        guards += [below[0], *children(below[0])]
    try:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in guards:
                os.kill(pid, number)
        owner.wait()
        # Without any guard, the PID namespace ends what cleared its environment; Landlock has none.
        if (killed, by) != ("all guards", "landlock"):
            assert gone_within(name)
            assert eventually(lambda: not [pid for pid in below if start_time(pid) is not None])
    finally:
        owner.wait()
        assert owner.stdout is not None
        owner.stdout.close()
        for pid in alive(name):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("by", BOTH)
async def test_kill_9_of_a_warden_ends_its_confined_tree(place: Place, by: By) -> None:
    name = token()
    before = set(children(zygote_pid()))
    options = {"network": "loopback", "ports": (9,)}
    task, _ = await run_until_ready(place.program(by, TREE, name, **options), 4)
    (warden,) = set(children(zygote_pid())) - before
    below = descendants(warden)
    os.kill(warden, signal.SIGKILL)
    with pytest.raises(ProgramError, match="was killed; its tree was ended"):
        await task
    assert gone_within(name)
    assert eventually(lambda: not [pid for pid in below if start_time(pid) is not None])


# Other processes


@pytest.mark.parametrize("by", BOTH)
async def test_other_processes_cannot_be_signalled_or_traced(place: Place, by: By) -> None:
    name = token()
    sibling, _ = await run_until_ready(place.program(by, f"{STUBBORN}\nstay()", name), 1)
    victims = [os.getpid(), zygote_pid(), *children(zygote_pid()), *alive(name)]
    code = """
found['parent'] = attempt(lambda: os.kill(os.getppid(), 0) if os.getppid() > 1 else os.kill(10 ** 6, 0))
for pid in map(int, sys.argv[1:]):
    found[f'kill {pid}'] = attempt(lambda: os.kill(pid, signal.SIGKILL))
    found[f'group {pid}'] = attempt(lambda: os.killpg(pid, signal.SIGKILL))
    found[f'environ {pid}'] = attempt(lambda: len(read(f'/proc/{pid}/environ')) and 'read')
    found[f'memory {pid}'] = attempt(lambda: os.close(os.open(f'/proc/{pid}/mem', os.O_RDWR)))
"""
    found = await place.attempts(by, code, *map(str, victims))
    assert {name: result for name, result in found.items() if not str(result).startswith("refused")} == {}
    await place.attempts(by, "attempt(lambda: os.kill(1, signal.SIGKILL))")
    everybody = "signal.signal(signal.SIGTERM, signal.SIG_IGN); attempt(lambda: os.kill(-1, signal.SIGTERM))"
    await place.attempts(by, everybody)
    assert alive(name)
    assert not sibling.done()
    sibling.cancel()
    await asyncio.wait({sibling})


ORDINARY = """
import json, os, sys
from pathlib import Path
import tempfile  # what is imported later is root's alone, maybe
from parallelai.processes import Confinement, confining, landlock, seccomp
from parallelai.processes.becoming import become
from parallelai.processes.specification import Specification
from parallelai.processes.warden import _prctl
base, *readable = sys.argv[1:]
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
print(json.dumps(confining._bubblewrap_works(confining.find("bwrap"))), flush=True)
confining._tried = lambda bwrap: ("bubblewrap", "landlock")
for by in ("bubblewrap", "landlock"):
    asked = Confinement((f"{base}/work",), f"{base}/temporary", (base,), by=by, network="off", hidden=("/etc",))
    shell = f"echo x > {by}; touch {base}/outside/{by}; cat /etc/passwd && exit 9; kill -USR1 $$"
    argv, env = (b"sh", b"-c", shell.encode()), (b"PATH=/usr/bin:/bin",)
    specification = confining.confine(Specification(b"/bin/sh", f"{base}/work".encode(), 0.0, argv, env), asked)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        become(specification, [0, 1, 2, writer], writer, _prctl())
    print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)
"""


def test_an_ordinary_user_is_confined_as_root_is() -> None:
    if os.geteuid() != 0:
        return  # then all the other tests say it
    base = Path(tempfile.mkdtemp(prefix="parallelai-test-"))  # pytest's own folders are root's alone
    try:
        base.chmod(0o755)
        for name in ("work", "temporary", "outside"):
            (base / name).mkdir()
            os.chown(base / name, 65534, 65534)
        env = {**os.environ, "PYTHONPATH": str(SOURCE)}
        argv = [sys.executable, "-c", ORDINARY, str(base)]
        done = subprocess.run(argv, env=env, cwd="/", capture_output=True, text=True, check=False)
        # bubblewrap tells of a signal as shells do.
        assert done.stdout.split() == ["true", str(128 + signal.SIGUSR1), str(-signal.SIGUSR1)], done.stderr
        assert sorted(path.name for path in (base / "work").iterdir()) == sorted(BOTH)
        assert list((base / "outside").iterdir()) == []
    finally:
        shutil.rmtree(base)


# The network

CONNECT = """
def talk(port, data=b'hello', host='127.0.0.1'):
    with socket.create_connection((host, port), 20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b''
        while part := connection.recv(65536): received += part
        return received == b'echo ' + data
def datagram(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b'x', ('127.0.0.1', port))
open_port, shut_port, udp_port = map(int, sys.argv[1:4])
"""


@pytest.mark.parametrize("by", BOTH)
async def test_no_network_but_what_is_given(place: Place, by: By) -> None:
    with echo_server() as one, echo_server() as two, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        code = f"""{CONNECT}
found['open'] = attempt(lambda: talk(open_port))
found['shut'] = attempt(lambda: talk(shut_port))
found['udp'] = attempt(lambda: datagram(udp_port))
found['elsewhere'] = attempt(lambda: talk(shut_port, host='127.0.0.2'))
found['children'] = attempt(lambda: subprocess.run([sys.executable, '-c', f'import socket; '
    f'socket.create_connection(("127.0.0.1", {{shut_port}}))'], stderr=subprocess.DEVNULL).returncode)
found['unix'] = attempt(lambda: len(socket.socketpair()))
found['fast open'] = attempt(lambda: socket.socket().sendto(b'x', socket.MSG_FASTOPEN, ('127.0.0.1', shut_port)))
"""
        arguments = (str(one), str(two), str(udp.getsockname()[1]))
        found = await place.attempts(by, code, *arguments, network="loopback", ports=(one,))
        assert (found.pop("open"), found.pop("unix"), found.pop("children")) == (True, 2, 1)
        # In a network namespace of its own a datagram goes nowhere; Landlock's is refused.
        assert by == "bubblewrap" or found["udp"].startswith("refused")
        found.pop("udp")
        assert all(result.startswith("refused") for result in found.values()), found
        found = await place.attempts(by, code, *arguments, network="off")
        assert (found.pop("children"), found.pop("unix"), found.pop("udp") is not None) == (1, 2, True)
        assert all(result.startswith("refused") for result in found.values()), found
        with pytest.raises(BlockingIOError):
            udp.recv(1)
        found = await place.attempts(by, code, *arguments, network="on")
        assert (found["open"], found["shut"]) == (True, True)
        assert udp.recv(1) == b"x"


@pytest.mark.parametrize("by", BOTH)
async def test_much_goes_through_an_open_port_at_once_and_back(place: Place, by: By) -> None:
    before = open_files()
    with echo_server() as one, echo_server() as two:
        code = f"""{CONNECT}
import threading
data = os.urandom(3_000_000)
results = []
def work(port): results.append(talk(port, data))
threads = [threading.Thread(target=work, args=(port,)) for port in (open_port, shut_port) * 8]
for thread in threads: thread.start()
for thread in threads: thread.join()
found['results'] = results
"""
        found = await place.attempts(by, code, str(one), str(two), "0", network="loopback", ports=(one, two))
    assert found["results"] == [True] * 16
    assert open_files() <= before + 1


@pytest.mark.parametrize("by", BOTH)
async def test_a_port_where_nobody_listens_ends_the_connection(place: Place, by: By) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        code = f"{CONNECT}\nfound['open'] = [attempt(lambda: talk(open_port)) for _ in range(300)]"
        found = await place.attempts(by, code, str(port), "0", "0", network="loopback", ports=(port,))
    assert not any(result is True for result in found["open"])


@pytest.mark.parametrize("by", BOTH)
async def test_loopback_without_ports_is_no_network(place: Place, by: By) -> None:
    with echo_server() as one:
        code = f"{CONNECT}\nfound['open'] = attempt(lambda: talk(open_port))"
        found = await place.attempts(by, code, str(one), "0", "0", network="loopback")
    assert found["open"].startswith("refused")


@pytest.mark.parametrize("by", BOTH)
async def test_abstract_sockets_of_others_are_out_of_reach(place: Place, by: By) -> None:
    name = f"\0{token()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        code = """
def connect():
    with socket.socket(socket.AF_UNIX) as one: one.connect(chr(0) + sys.argv[1])
found['connect'] = attempt(connect)
"""
        for network in ("on", "off"):
            found = await place.attempts(by, code, name[1:], network=network)
            assert found["connect"].startswith("refused")


# Memory

GREEDY = """
held = []
def eat(megabytes):
    for _ in range(megabytes):
        held.append(bytearray(os.urandom(1 << 10)) * (1 << 10))
"""


@pytest.mark.parametrize("by", ALL)
async def test_a_tree_that_takes_too_much_memory_is_ended(place: Place, by: By) -> None:
    name = token()
    code = f"{GREEDY}\nfor _ in range(3):\n    if os.fork() == 0: break\nos.setsid\neat(600)\ntime.sleep(60)"
    done = await run(program(place, by, code, name, memory_bytes=200 * MB))
    assert (done.ended_by, done.exit) == ("memory", None)
    assert done.peak_memory_bytes is not None
    assert done.peak_memory_bytes > 150 * MB
    assert alive(name) == []


@pytest.mark.parametrize("by", ALL)
async def test_memory_within_the_limit_is_measured(place: Place, by: By) -> None:
    code = f"{GREEDY}\neat(100)\nprint('full', flush=True)\nos.read(0, 1)"
    done: Completed = await run(program(place, by, code, memory_bytes=400 * MB))
    assert (done.ended_by, done.exit) == (None, 0)
    assert done.peak_memory_bytes is not None
    assert 100 * MB < done.peak_memory_bytes < 250 * MB


async def test_pages_that_processes_share_count_once(place: Place) -> None:
    forks = "for _ in range(6):\n    if os.fork() == 0: time.sleep(0.7); os._exit(0)"
    code = f"{GREEDY}\neat(100)\n{forks}\ntime.sleep(0.7)"
    done = await run(program(place, None, code, memory_bytes=300 * MB))
    assert (done.ended_by, done.exit) == (None, 0)


async def test_shared_memory_without_a_file_counts(place: Place) -> None:
    grow = "held.append(mmap.mmap(-1, 1 << 20)); held[-1].write(bytes(1 << 20))"
    code = f"import mmap\nheld = []\nfor _ in range(600):\n    {grow}"
    done = await run(program(place, None, f"{code}\ntime.sleep(60)", memory_bytes=200 * MB))
    assert done.ended_by == "memory"


async def test_the_lower_of_two_limits_counts(place: Place) -> None:
    confined = place.program("landlock", f"{GREEDY}\neat(600)\ntime.sleep(60)", memory_bytes=1000 * MB)
    assert confined.confinement is not None
    argv, lower = confined.argv, place.confinement("landlock", memory_bytes=150 * MB)
    done = await run(
        Program(argv, cwd=place.work, env=environment(), confinement=lower, memory_bytes=1000 * MB)
    )
    assert done.ended_by == "memory"


@pytest.mark.parametrize("by", ["bubblewrap"])
async def test_the_memory_file_systems_hold_only_so_much(place: Place, by: By) -> None:
    code = """
def fill(path):
    with open(path, 'wb', buffering=0) as file:
        for _ in range(400): file.write(bytes(1 << 20))
found['shared memory'] = attempt(lambda: fill('/dev/shm/full'))
found['hidden'] = attempt(lambda: fill(sys.argv[1] + '/full'))
"""
    hidden = str(place.home / ".ssh")
    found = await place.attempts(by, code, hidden, hidden=(hidden,))
    assert all(result.startswith("refused") for result in found.values()), found
