"""What holds for every test: nobody's own settings, state or trust count, and none of it is written."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No test is timed, examples neither: a slow machine is no bug.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Fewer on CI, run after run; a developer's own run takes Hypothesis's hundred.
settings.register_profile("ci", settings.get_profile("untimed"), max_examples=50)
settings.load_profile("ci" if os.environ.get("CI") else "untimed")

# Whoever starts the tests in the background of a shell has SIGINT ignored, and so would all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A version manager's `python3` is a shell script that looks for one, ten times as long as a small program then takes.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).resolve().parent), os.environ["PATH"]])

_numbers = itertools.count()

# Workers of pytest-xdist all collect everything: which of them this is, and of how many.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

# What is collected stays until the end: to look for circles in it, then and with each test, would free nothing.
gc.disable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let each worker begin with other files: what one has rewritten and compiled, the others only read."""
    report = yield
    if isinstance(collector, pytest.Dir):
        first = len(report.result) * _WORKER // _WORKERS
        report.result = [*report.result[first:], *report.result[:first]]
    return report


def pytest_sessionstart() -> None:
    """Projects of tests are their own: what stands above them would be found in their stead."""
    folder = Path(tempfile.gettempdir()).resolve()
    for above in (folder, *folder.parents):
        for mark in ("parallelai.toml", ".parallelai"):
            if (above / mark).exists():
                raise pytest.UsageError(
                    f"`{above / mark}` is not a test's: remove it, or set TMPDIR to another folder"
                )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: at the end of many at once, one alone would keep all waiting."""
    if _WORKERS > 1:  # all have to agree on the order
        items.sort(key=lambda item: item.path)
    items.sort(key=lambda item: not any(item.iter_markers("slow")) and not any(item.iter_markers("timeout")))


def pytest_collection_finish() -> None:
    """From here on circles are looked for, but not in what was collected."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where CI is set nothing is left out: what this machine lacks is a failure that names it."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"left out, and on CI nothing may be: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all homes of this process."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def home(homes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, with nothing in it."""
    made = homes / str(next(_numbers))
    made.mkdir()
    monkeypatch.setenv("HOME", str(made))
    for name in ("STATE", "CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(made / name.lower()))
    for name in ("NO_COLOR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    return made


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, as it is for this test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder
