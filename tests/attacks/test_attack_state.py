"""A checkout may bring its own `.parallelai`: nothing in it leads ParallelAI out of the project, or stops it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from parallelai.errors import StoreError
from parallelai.store import Machine, Store

NAMES = ("journal.db", "journal.db-wal", "journal.db-shm", "journal.lock", "runs", "cache")


def link_out(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "victim")


def link_to_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def device(path: Path, outside: Path) -> None:
    path.symlink_to("/dev/zero")


def pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("plant", [link_out, link_to_folder, device, pipe])
def test_what_was_planted_in_the_state_is_refused(
    tmp_path: Path, name: str, plant: Callable[[Path, Path], None]
) -> None:
    outside, state = tmp_path / "outside", tmp_path / ".parallelai" / "state"
    outside.mkdir()
    state.parent.mkdir()
    state.mkdir(mode=0o700)
    plant(state / name, outside)

    with pytest.raises(StoreError, match=name):
        Store.open(state)

    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_the_projects_own_folder_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / ".parallelai").symlink_to(outside)

    with pytest.raises(StoreError, match="is a link"):
        Store.open(tmp_path / ".parallelai" / "state")

    assert list(outside.iterdir()) == []


def test_what_lasts_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with Store.open(tmp_path / ".parallelai" / "state") as store:
            assert store.journal.runs() == []
            made = [path for path in store.state.iterdir() if path.name.startswith("journal.db")]
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made}
        Machine.open(tmp_path / "machine.db").close()
        modes["machine.db"] = stat.S_IMODE((tmp_path / "machine.db").stat().st_mode)
    finally:
        os.umask(old)
    assert "journal.db-wal" in modes
    assert set(modes.values()) == {0o600}, modes
