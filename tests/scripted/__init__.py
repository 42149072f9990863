"""A model server for tests: the real clients' own protocols, led by scripts in the prompts.

`python -m scripted [--port N]` (with `tests` on PYTHONPATH) serves until it is interrupted, and prints its
address as the first line.
"""

from scripted.script import block
from scripted.server import Recorded, ScriptedServer, serving

__all__ = ["Recorded", "ScriptedServer", "block", "serving"]
