"""The page about assistants is what was measured: whole, of the pinned versions, and still so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_clients_faults import FAULTS

from clients.installing import HERE, PACKAGES, programs
from clients.measuring import ENGINES, KILLED, NO_LOGIN, SECONDS, STEPS, TARGET, describe, measure
from parallelai.errors import EngineError, RateLimited

OVERCOME = {
    ("claude-code", "answer cut off"),
    ("claude-code", "error in the midst of an answer"),
}


@pytest.fixture(scope="session", autouse=True)
def installed() -> Path:
    return programs()


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TARGET.read_text(encoding="utf-8"))
    return found


def test_all_is_measured_with_the_pinned_versions(written: dict[str, Any]) -> None:
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]
    assert tuple(written) == ENGINES
    for use, found in written.items():
        assert found["version"] == pinned[PACKAGES[use]]
        assert list(found["faults"]) == list(STEPS)


def test_no_fault_is_a_success_or_lasts(written: dict[str, Any]) -> None:
    kinds = {fault.name: fault.error for fault in FAULTS}
    for use, found in written.items():
        for name, row in found["faults"].items():
            assert row["seconds"] < SECONDS
            assert (row["became"] == "ok") == ((use, name) in OVERCOME), (use, name)
            if name in kinds and row["became"] != "ok":
                assert row["became"].removesuffix(" (quota)") == kinds[name].kind
                is_quota = kinds[name] is RateLimited and name in ("quota used up", "no credit")
                assert row["became"].endswith("(quota)") == is_quota
    assert all(issubclass(kind, EngineError) for kind in kinds.values())


@pytest.mark.parametrize("use", ENGINES)
@pytest.mark.parametrize("name", ["wrong key", "429, Retry-After 60", "answer cut off", NO_LOGIN, KILLED])
async def test_what_is_written_is_still_so(
    use: str, name: str, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CLIENT_KEY", "")  # measuring sets it, and this takes it away again
    row = written[use]["faults"][name]
    found = await measure(use, name)
    assert {**found, "seconds": 0} == {**row, "seconds": 0}


@pytest.mark.parametrize("use", ENGINES)
async def test_what_engines_can_do_is_still_so(use: str, written: dict[str, Any]) -> None:
    assert await describe(use) == {key: written[use][key] for key in ("version", "can")}
