"""A failing test of the end of processes must not leave them behind either."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from processes_support import TOKENS, alive


@pytest.fixture(autouse=True)
def _end_what_is_left() -> Iterator[None]:
    TOKENS.clear()
    yield
    for name in TOKENS:
        for pid in alive(name):
            os.kill(pid, signal.SIGKILL)
