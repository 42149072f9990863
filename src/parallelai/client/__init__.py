"""The facade that the command line, pages and library users call."""

from parallelai.client.facade import AsyncParallelAI
from parallelai.client.sync import ParallelAI

__all__ = ["AsyncParallelAI", "ParallelAI"]
