"""What the tests of confinement share: a place with a workspace and secrets, and programs held to it."""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes_support import python

from parallelai.processes import Completed, Confinement, Program, environment, run

BOTH = ("bubblewrap", "landlock")
PYTHON = os.path.realpath(sys.executable)
PREFIXES = (PYTHON, os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_exec_prefix))

TRY = """
import ctypes, json, os, shutil, signal, socket, subprocess, sys, time
def attempt(call):
    try:
        found = call()
        return found if isinstance(found, (str, int, list, bool)) else 'done'
    except OSError as error:
        return f'refused {error.errno}'
def read(path):
    with open(path) as file:
        return file.read()
def write(path, text='overwritten'):
    with open(path, 'w') as file:
        file.write(text)
"""
"""What a program that attempts forbidden things begins with."""


@dataclass(frozen=True)
class Place:
    """A folder with a workspace, a temporary folder, and a home with secrets beside them."""

    base: Path

    @property
    def work(self) -> Path:
        return self.base / "work"

    @property
    def temporary(self) -> Path:
        return self.base / "temporary"

    @property
    def home(self) -> Path:
        return self.base / "home"

    @classmethod
    def make(cls, base: Path) -> Place:
        place = cls(base)
        for folder in (place.work, place.temporary, place.home / ".ssh", place.home / ".tool" / "own"):
            folder.mkdir(parents=True)
        (place.home / "notes").write_text("notes")
        (place.home / ".netrc").write_text("secret")
        (place.home / ".ssh" / "id").write_text("secret")
        (place.home / ".tool" / "token").write_text("secret")
        (place.home / ".tool" / "own" / "settings").write_text("mine")
        return place

    def confinement(self, by: Any, **options: Any) -> Confinement:
        """All of the place is readable, the workspace writable."""
        options.setdefault("writable", (str(self.work),))
        options["readable"] = (str(self.base), *PREFIXES, *options.get("readable", ()))
        return Confinement(temporary=str(self.temporary), by=by, **options)

    def program(self, by: Any, code: str, *args: str, **options: Any) -> Program:
        """Make a program out of Python code that runs in the workspace."""
        given = {name: options.pop(name) for name in list(options) if name in Confinement.__slots__}
        program = python(f"{TRY}\n{code}", *args, cwd=self.work, **options)
        argv = (PYTHON, *program.argv[1:])
        return Program(
            argv,
            cwd=self.work,
            env=environment(),
            confinement=self.confinement(by, **given),
            **{"grace_seconds": 0.5, **options},
        )

    async def attempts(self, by: Any, code: str, *args: str, **options: Any) -> dict[str, Any]:
        """Run code that fills the dictionary `found`; return that."""
        whole = f"found = {{}}\n{code}\nprint(json.dumps(found))"
        done = await run(self.program(by, whole, *args, **options))
        return answer(done)


def answer(done: Completed) -> dict[str, Any]:
    assert done.exit == 0, done
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        received = bytearray()
        while data := self.request.recv(65536):
            received += data
        self.request.sendall(b"echo " + received)


class _Server(socketserver.ThreadingTCPServer):
    request_queue_size = 64


@contextlib.contextmanager
def echo_server() -> Iterator[int]:
    """Serve on a port of 127.0.0.1: what comes until the end is sent back, after the word `echo`."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
