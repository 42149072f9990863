"""What must last: the journal of runs, the commands to them, the cache of replies, the machine's memory.

    with Store.open(project.state) as store:
        async with store.journal.writer(run) as writer:
            writer.append(RunStarted(...))
            await writer.flush()

A `Store` is one project's; `Machine` is what belongs to the machine and not to a project.
"""

from parallelai.store.cache import Cache, CacheInfo
from parallelai.store.commands import KINDS, CommandRow, Commands
from parallelai.store.journal import Journal
from parallelai.store.machine import Machine, Trusted
from parallelai.store.projections import RunRow, TaskRow
from parallelai.store.store import Store
from parallelai.store.writer import RunWriter

__all__ = [
    "KINDS",
    "Cache",
    "CacheInfo",
    "CommandRow",
    "Commands",
    "Journal",
    "Machine",
    "RunRow",
    "RunWriter",
    "Store",
    "TaskRow",
    "Trusted",
]
