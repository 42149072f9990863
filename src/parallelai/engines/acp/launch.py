"""How an ACP agent is started; apart from what starts it, whose library is slow to import."""

from __future__ import annotations

from msgspec import Struct

from parallelai.engines.acp.report import Reporter
from parallelai.processes import Program


class Launch(Struct, frozen=True):
    """How an agent is started for a turn.

    `settings` is a document for a file that the variable `settings_env` names. `session_model` is to be set by
    an option of the session. `reports` says how it
    is to write down its calls to its model. `is_free`: its model's
    server is on this machine.
    """

    name: str
    program: Program
    is_shared: bool = False
    settings_env: str | None = None
    settings: str | None = None
    session_model: str | None = None
    counts_last_call: bool = False
    reports: Reporter | None = None
    is_free: bool = False
