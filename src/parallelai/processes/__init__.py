"""The only room that starts a program: launch, the end of the whole tree, sweep.

`run` starts a program in the running event loop, `run_quick` a small one without. Both give it an argv
without a shell and an environment of only what it needs (`environment`), and bound what it prints. `run` has
a warden end the whole tree, however it, or ParallelAI, ended; `sweep` ends what is left all the same.
"""

from parallelai.processes.confinement import Confinement, Mount
from parallelai.processes.confining import confined_words, confinements
from parallelai.processes.environment import environment, find
from parallelai.processes.feed import Feed
from parallelai.processes.hidden import DEFAULT_HIDDEN
from parallelai.processes.launch import run
from parallelai.processes.output import MASKING
from parallelai.processes.program import Completed, Program
from parallelai.processes.quick import run_quick
from parallelai.processes.sweep import Orphan, sweep
from parallelai.processes.zygote import close_warden

__all__ = [
    "DEFAULT_HIDDEN",
    "MASKING",
    "Completed",
    "Confinement",
    "Feed",
    "Mount",
    "Orphan",
    "Program",
    "close_warden",
    "confined_words",
    "confinements",
    "environment",
    "find",
    "run",
    "run_quick",
    "sweep",
]
