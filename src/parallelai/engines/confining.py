"""From a request's workspace to how its program is confined (DESIGN §5, Confinement).

An engine names what its client needs beside the workspace: the folder of its login, its installation, the
port of its model server. All else follows from the request.
"""

# Paths are texts here: each session asks about hundreds, and a `Path` costs ten times as much.

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from parallelai.engines.protocol import Request
from parallelai.errors import Unavailable
from parallelai.processes import DEFAULT_HIDDEN, Confinement, confinements

Network = Literal["on", "loopback", "off"]
INSTALL = "install bubblewrap (`apt install bubblewrap`), or write `sandbox: auto`"


def confinement(
    request: Request,
    *,
    writable: tuple[str, ...] = (),
    readable: tuple[str, ...] = (),
    hidden_except: tuple[str, ...] = (),
    protected: tuple[str, ...] = (),
    ports: tuple[int, ...] = (),
    network: Network = "on",
) -> Confinement | None:
    """Say how the program of a request is confined; None where it runs unconfined.

    All paths are absolute. `writable` and `readable` come to those of the workspace; what does not exist is
    left out. `hidden_except` are folders that stay visible although they hold credentials: the client's own;
    `protected` what in them is read-only all the same. `network` counts where the plan asks for none; `ports`
    are those of 127.0.0.1 that it needs, which count where the network is `loopback`.
    Raises `Unavailable` where a sandbox is required and none works here, or the network is to be taken away and
    nothing can, or its ports would be closed.
    """
    workspace = request.workspace
    if workspace is None:
        return None
    if workspace.sandbox == "required" and not confinements():
        raise Unavailable("a sandbox is required, and none works here", next=INSTALL)
    if workspace.sandbox == "none" or not confinements():
        if workspace.network in ("off", "loopback"):
            said = f"the network is to be `{workspace.network}`, and without a sandbox nothing keeps it so"
            raise Unavailable(said, next="let it have a sandbox, or take `network` out")
        return None
    seen = {os.path.realpath(path) for path in hidden_except}
    hidden = _existing((*DEFAULT_HIDDEN(Path.home()), *workspace.hidden))  # of two hundred a few, mostly
    own = (request.root, *workspace.writable) if workspace.edits else ()
    mounts = workspace.mounts if workspace.edits else ()
    reach = workspace.network or network
    if reach == "off" and ports:
        said = f"the network is to be `off`, which closes the model server's port {ports[0]} too"
        raise Unavailable(said, next="write `network: loopback`: then this port alone is open")
    return Confinement(
        writable=_existing((*own, *writable)),
        temporary=workspace.temporary,
        readable=_existing((request.root, *workspace.readable, *readable)),
        hidden=tuple(path for path in hidden if os.path.realpath(path) not in seen),
        protected=(*workspace.protected, *protected),
        mounts=tuple(each for each in mounts if Path(each.what).exists()),
        network=reach,
        ports=ports if reach == "loopback" else (),
        by=confinements()[0],
    )


def _existing(paths: Iterable[str]) -> tuple[str, ...]:
    """Keep what exists, once, in order: a sandbox cannot bind what is not there."""
    return tuple(dict.fromkeys(filter(os.path.exists, paths)))
