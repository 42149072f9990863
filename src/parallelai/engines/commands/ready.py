"""Assistants without a protocol, as ready-made commands: `use: aider`, `use: pi`, `use: mini-swe-agent`.

Seen to work with the versions that each one's `how` pins.
"""

from __future__ import annotations

from collections.abc import Mapping

from parallelai.engines.commands import aider, mini_swe_agent, pi
from parallelai.engines.commands.parts import Template

TEMPLATES: Mapping[str, Template] = {
    "aider": aider.TEMPLATE,
    "pi": pi.TEMPLATE,
    "mini-swe-agent": mini_swe_agent.TEMPLATE,
}
"""Registered names that are a command each, by the name that plans use."""
