"""Keys that are known, but not where somebody wrote them: why not there, and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping

_OF_THE_RUN = {
    "on_budget": "it says what becomes of a run whose budget is used up",
    "unpriced": "it is about the money of a whole run",
    "max_wait": "a provider's limit holds back all that call it, whatever their role",
    "grace": "a signal ends a run as a whole",
}
NO_LIMITS_OF_A_ROLE: Mapping[str, tuple[str, str]] = {
    key: (f"`{key}` is no limit of a role: {why}", f"write `{key}` in the `limits` of the plan")
    for key, why in _OF_THE_RUN.items()
}
"""Keys of a plan's `limits` that those of a role have not."""
