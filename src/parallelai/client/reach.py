"""Whether an engine's program could reach its model server at all, with the network that it is given."""

from __future__ import annotations

from parallelai.engines.loopback import loopback_port
from parallelai.errors import UsageError
from parallelai.plan.model import EngineEntry, Workspace


def refuse_cut_off(name: str, entry: EngineEntry | None, workspace: Workspace) -> None:
    """Refuse an engine whose program would wait in vain for a model server of this machine.

    Raises `UsageError` that says what to write instead.
    """
    port = None if entry is None else loopback_port(entry.base_url)
    if entry is None or port is None or "off" not in (entry.network, workspace.network):
        return
    where = f"the entry of `{name}`" if entry.network == "off" else "the `workspace`"
    said = f"engine `{name}` could not reach its model server: `network: off` closes port {port} of this machine too"
    raise UsageError(said, next=f"write `network: loopback` in {where}: then this port alone is open to it")
