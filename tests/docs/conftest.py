"""One model server for all pages that a process follows, ended with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tour import stop_model


@pytest.fixture(autouse=True, scope="session")
def _model() -> Iterator[None]:
    yield
    stop_model()
