"""Which addresses are on this machine."""

from __future__ import annotations

import pytest

from parallelai.engines.loopback import is_loopback, loopback_port


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://localhost:8000/v1", 8000),
        ("http://LOCALHOST.:8000", 8000),
        ("http://model.localhost:8000/", 8000),
        ("https://127.0.0.1/v1", 443),
        ("http://127.8.9.10", 80),
        ("http://[::1]:9/v1", 9),
        ("http://0.0.0.0:11434", 11434),
        ("http://[::]:11434", 11434),
    ],
)
def test_on_this_machine(url: str, port: int) -> None:
    assert is_loopback(url)
    assert loopback_port(url) == port


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1.example.org:11434/v1",
        "http://127.example.org/",
        "http://localhost.example.org/",
        "http://notlocalhost/",
        "http://user@127.0.0.1@example.org/",
        "http://127.0.0.1@example.org/",
        "http://128.0.0.1/",
        "http://[::2]/",
        "http://[::1/",
        "http://localhost:99999/",
        "localhost:8000",
        "default",
        "",
        None,
    ],
)
def test_elsewhere_or_nowhere(url: str | None) -> None:
    assert not is_loopback(url)
    assert loopback_port(url) is None
