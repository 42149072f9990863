"""The ledger: what two ask for at once only one gets, and what the dead held is given to others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from parallelai.errors import UsageError
from parallelai.plan.model import Needs
from parallelai.store import ledger as table
from parallelai.store.ledger import FIRST_PORT, LAST_PORT, Lacking
from parallelai.store.machine import Machine
from parallelai.work import ledger as module
from parallelai.work.ledger import Ledger, is_free

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from parallelai.plan.model import Needs
from parallelai.store.machine import Machine
from parallelai.work.ledger import Ledger

async def main(folder, run, names, ports, heavy):
    with Machine.open(folder / "machine.db") as machine:
        ledger = Ledger(machine, folder / "shop" / ".parallelai" / "state", heavy=2, folder=folder / "held")
        sys.stdin.readline()
        for name in names:
            held = await ledger.take(run, name, Needs(ports=ports, heavy=heavy))
            print(json.dumps(held.ports), flush=True)
        print("done", flush=True)
        sys.stdin.readline()

folder, run, names, ports, heavy = sys.argv[1:]
asyncio.run(main(Path(folder), run, names.split(), int(ports), int(heavy)))
"""


class Process:
    """Another process that takes ports and keeps them until it is told to end, or killed."""

    def __init__(self, folder: Path, run: str, names: str, ports: int, heavy: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), run, names, str(ports), str(heavy)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def ports(self) -> list[int]:
        assert self.process.stdout is not None
        found: list[int] = []
        for line in self.process.stdout:
            if line == "done\n":
                break
            found += json.loads(line)
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine.open(tmp_path / "machine.db") as machine:
        yield machine


def ledger_of(machine: Machine, tmp_path: Path, project: str = "shop") -> Ledger:
    return Ledger(machine, tmp_path / project / ".parallelai" / "state", heavy=2, folder=tmp_path / "held")


def bound_to(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.bind((address, port))
    return bound


async def test_what_a_workspace_holds_and_sees(machine: Machine, tmp_path: Path) -> None:
    ledger = ledger_of(machine, tmp_path)
    held = await ledger.take("r-1", "gui", Needs(ports=3, database=True, heavy=1, memory=1 << 20))
    assert len(set(held.ports)) == 3
    assert all(FIRST_PORT <= port <= LAST_PORT for port in held.ports)
    assert held.temporary.is_dir()
    assert held.cache.is_dir()
    assert held.temporary.stat().st_mode & 0o077 == 0
    assert dict(held.env) == {
        "PARALLELAI_WORKSPACE": "gui",
        "PARALLELAI_PORT_1": str(held.ports[0]),
        "PARALLELAI_PORT_2": str(held.ports[1]),
        "PARALLELAI_PORT_3": str(held.ports[2]),
        "PORT": str(held.ports[0]),
        "PARALLELAI_DATABASE": held.database,
        "COMPOSE_PROJECT_NAME": held.compose,
        "TMPDIR": str(held.temporary),
        "XDG_CACHE_HOME": str(held.cache),
        "PARALLELAI_MEMORY": str(1 << 20),
        "PARALLELAI_HEAVY": "1",
    }
    assert held.database is not None
    assert held.database.startswith("p_shop_gui_")
    assert (held.heavy, held.memory, held.pid, held.is_alive) == (1, 1 << 20, os.getpid(), True)
    assert [each.name for each in await ledger.holders()] == ["gui"]
    bare = await ledger.take("r-1", "docs", Needs())
    assert (bare.ports, bare.database) == ((), None)
    assert "PORT" not in bare.env
    await ledger.release(held)
    assert not held.temporary.parent.exists()
    assert bare.temporary.exists()
    await ledger.release("docs", "r-1", is_stream=False)
    assert await ledger.holders() == []
    assert list((tmp_path / "held").iterdir()) == []
    await ledger.release(held)


async def test_who_holds_it_keeps_it_and_may_ask_for_more(machine: Machine, tmp_path: Path) -> None:
    ledger = ledger_of(machine, tmp_path)
    one = await ledger.take("r-1", "gui", Needs(ports=2))
    two = await ledger.take("r-1", "gui", Needs(ports=4, database=True))
    assert two.ports[:2] == one.ports
    assert two.compose == one.compose
    three = await ledger.take("r-1", "gui", Needs(ports=1))
    assert three.ports == one.ports[:1]
    other = await ledger_of(machine, tmp_path, "other").take("r-1", "gui", Needs(ports=2))
    assert not set(other.ports) & set(three.ports)
    assert other.compose != three.compose


async def test_two_whose_names_are_alike_share_nothing(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "label_of", lambda state, key, name: "p_shop_0123")
    ledger = ledger_of(machine, tmp_path)
    one, two = [await ledger.take("r-1", name, Needs(database=True)) for name in ("a", "b")]
    again = await ledger.take("r-1", "b", Needs(database=True))
    assert len({one.temporary, two.temporary, one.database, two.database, one.compose, two.compose}) == 4
    assert (again.temporary, again.database) == (two.temporary, two.database)
    await ledger.release(two)
    assert (one.temporary.is_dir(), two.temporary.exists()) == (True, False)


async def test_ports_stay_while_its_own_server_listens_there(machine: Machine, tmp_path: Path) -> None:
    ledger = ledger_of(machine, tmp_path)
    one = await ledger.take("r-1", "gui", Needs(ports=2))
    with bound_to(socket.AF_INET, "127.0.0.1", one.ports[0]) as bound:
        bound.listen()
        assert (await ledger.take("r-1", "gui", Needs(ports=2))).ports == one.ports


async def test_what_others_hold_is_not_given_though_nobody_listens(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(machine, tmp_path)
    free = [port for port in range(FIRST_PORT, LAST_PORT) if is_free(port)][:7]
    monkeypatch.setattr(table, "FIRST_PORT", free[0])
    monkeypatch.setattr(table, "LAST_PORT", free[-1])
    one = await ledger.take("r-1", "one", Needs(ports=3))
    two = await ledger.take("r-1", "two", Needs(ports=3))
    assert len({*one.ports, *two.ports}) == 6
    with pytest.raises(Lacking, match="fewer than 3 ports"):
        await ledger.take("r-1", "three", Needs(ports=3))
    assert [each.name for each in await ledger.holders()] == ["one", "two"]


async def test_a_workstream_keeps_its_ports_from_run_to_run(machine: Machine, tmp_path: Path) -> None:
    ledger = ledger_of(machine, tmp_path)
    file = tmp_path / "gui.json"
    one = await ledger.take("r-1", "gui", Needs(ports=2), registration=file)
    two = await ledger.take("r-2", "gui", Needs(ports=2), registration=file)
    assert (two.ports, two.run) == (one.ports, "r-2")
    await ledger.release("gui")
    assert await ledger.holders() == []


def addresses() -> list[tuple[socket.AddressFamily, str]]:
    """The addresses that this machine has: some have no IPv6."""
    wanted = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0")]
    wanted += [(socket.AF_INET6, "::1"), (socket.AF_INET6, "::")]
    found = []
    for family, address in wanted:
        with contextlib.suppress(OSError):
            bound_to(family, address, 0).close()
            found.append((family, address))
    return found


@pytest.mark.parametrize(("family", "address"), addresses())
async def test_a_port_that_somebody_listens_on_is_not_given(
    machine: Machine, tmp_path: Path, family: socket.AddressFamily, address: str
) -> None:
    ledger = ledger_of(machine, tmp_path)
    first = (await ledger.take("r-1", "gui", Needs(ports=1))).ports[0]
    await ledger.release("gui", "r-1", is_stream=False)
    with bound_to(family, address, first) as bound:
        bound.listen()
        assert not is_free(first)
        again = await ledger.take("r-1", "gui", Needs(ports=1))
        assert again.ports != (first,)


def test_processes_that_race_never_get_the_same_port(tmp_path: Path) -> None:
    Machine.open(tmp_path / "machine.db").close()
    names = " ".join(f"s{number}" for number in range(8))
    processes = [Process(tmp_path, f"r-{number}", names, 3) for number in range(3)]
    for process in processes:
        process.go()
    found = [port for process in processes for port in process.ports()]
    for process in processes:
        process.kill()
    assert len(found) == 3 * 8 * 3
    assert len(set(found)) == len(found)


async def test_what_a_killed_process_held_is_taken_back(machine: Machine, tmp_path: Path) -> None:
    process = Process(tmp_path, "r-9", "gui", 2, heavy=2)
    process.go()
    ports = process.ports()
    ledger = ledger_of(machine, tmp_path)
    with pytest.raises(Lacking, match=r"`gui` of r-9") as error:
        await ledger.take("r-1", "other", Needs(heavy=1))
    assert error.value.retry_helps
    assert [each.name for each in await ledger.holders()] == ["gui"]
    assert await ledger.sweep() == []
    process.kill()
    (held,) = await ledger.holders()
    assert not held.is_alive
    assert held.temporary.exists()
    taken = await ledger.take("r-1", "other", Needs(heavy=1, ports=1))
    assert [each.name for each in await ledger.holders()] == ["other"]
    assert not held.temporary.exists()
    assert taken.temporary.exists()
    assert len(ports) == 2


async def test_a_registered_one_outlives_its_process_but_for_memory_and_slots(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(machine, tmp_path)
    file = tmp_path / "gui.json"
    file.write_text("damaged: nobody knows whether it is finished\n")
    held = await ledger.take("r-1", "gui", Needs(ports=1, heavy=2), registration=file)
    monkeypatch.setattr(module.tree, "is_alive", lambda pid, start: False)
    assert await ledger.sweep() == []
    (known,) = await ledger.holders()
    assert (known.ports, known.heavy, known.is_alive) == (held.ports, 0, False)
    await ledger.take("r-1", "other", Needs(heavy=2), registration=file)
    file.unlink()
    assert {each.name for each in await ledger.sweep()} == {"gui", "other"}


async def test_memory_and_slots_are_given_back_by_resting(machine: Machine, tmp_path: Path) -> None:
    ledger = ledger_of(machine, tmp_path)
    most = module._memory()
    one = await ledger.take("r-1", "one", Needs(memory=most, heavy=2, ports=1))
    for needs in (Needs(memory=1), Needs(heavy=1)):
        with pytest.raises(Lacking, match="`one`"):
            await ledger.take("r-1", "two", needs)
    assert [each.name for each in await ledger.holders()] == ["one"]
    await ledger.take("r-1", "two", Needs(memory=1), is_working=False)
    await ledger.rest(one)
    two = await ledger.take("r-1", "two", Needs(memory=most, heavy=2))
    assert (two.memory, two.heavy) == (most, 2)
    assert (await ledger.holders())[0].ports == one.ports


async def test_what_the_machine_does_not_have_is_refused(machine: Machine, tmp_path: Path) -> None:
    ledger = ledger_of(machine, tmp_path)
    for needs in (Needs(heavy=3), Needs(memory=1 << 60)):
        with pytest.raises(UsageError) as error:
            await ledger.take("r-1", "gui", needs)
        assert not isinstance(error.value, Lacking)
    assert await ledger.holders() == []


async def test_after_the_machine_was_started_anew_numbers_of_processes_mean_nothing(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(machine, tmp_path)
    await ledger.take("r-1", "gui", Needs(ports=1))
    name = module._host().rpartition("/")[0]
    monkeypatch.setattr(module, "_host", lambda: f"{name}/another-start")
    assert [each.name for each in await ledger.sweep()] == ["gui"]


async def test_another_machine_that_shares_the_file_is_left_alone(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(machine, tmp_path)
    one = await ledger.take("r-1", "gui", Needs(ports=1))
    monkeypatch.setattr(module, "_host", lambda: "elsewhere/1")
    assert await ledger.sweep() == []
    two = await ledger.take("r-2", "gui", Needs(ports=1))
    assert {each.run for each in await ledger.holders()} == {one.run, two.run}


async def test_many_at_once_in_one_process(machine: Machine, tmp_path: Path) -> None:
    ledger = ledger_of(machine, tmp_path)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ledger.take("r-1", f"s@{n}", Needs(ports=2))) for n in range(12)]
    ports = [port for task in tasks for port in task.result().ports]
    assert len(set(ports)) == 24


async def test_names_of_any_kind(machine: Machine, tmp_path: Path) -> None:
    ledger = ledger_of(machine, tmp_path, "Mein Läden\udcff")
    held = await ledger.take("r-1", "fix@src/\udcff ü.py#2", Needs(ports=1, database=True))
    assert held.database is not None
    assert set(held.database) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
    assert len(held.database) <= 60
    assert all(value.isprintable() for value in held.env.values())
    await ledger.release("fix@src/\udcff ü.py#2", "r-1", is_stream=False)
    assert await ledger.holders() == []
