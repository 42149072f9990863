"""What goes wrong on demand, in the words that the real services use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from scripted.script import Script, Step


@dataclass(frozen=True)
class Fault:
    """An error answer. `kind` is Anthropic's `error.type`, `code` OpenAI's `error.code`."""

    status: int
    message: str
    kind: str = "api_error"
    code: str | None = None
    retry_after: float | None = None


NAMED: dict[str, Fault] = {
    "rate_limit": Fault(429, "Rate limit reached for requests", "rate_limit_error", "rate_limit_exceeded"),
    "quota": Fault(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "rate_limit_error",
        "insufficient_quota",
    ),
    "credit": Fault(
        400, "Your credit balance is too low to access the Anthropic API.", "invalid_request_error"
    ),
    "overloaded": Fault(529, "Overloaded", "overloaded_error", "server_is_overloaded"),
    "server_error": Fault(500, "Internal server error", "api_error", "server_error"),
    "bad_gateway": Fault(502, "Bad gateway", "api_error", "server_error"),
    "unavailable": Fault(503, "Service unavailable", "api_error", "server_error"),
    "auth": Fault(401, "invalid x-api-key", "authentication_error", "invalid_api_key"),
    "forbidden": Fault(403, "Your account may not use this model", "permission_error", "permission_denied"),
    "unknown_model": Fault(
        404, "The model `no-such-model` does not exist", "not_found_error", "model_not_found"
    ),
    "bad_request": Fault(400, "messages: something is wrong", "invalid_request_error", "invalid_request"),
    "context": Fault(
        400,
        "prompt is too long: 250000 tokens > 200000 maximum",
        "invalid_request_error",
        "context_length_exceeded",
    ),
}


def fault_of(step: Step) -> Fault:
    """Read the fault of a step: a name, or an object with at least `status`."""
    given: Any = step.get("fault", step.get("error_event"))
    known = NAMED[given] if isinstance(given, str) else NAMED["server_error"] if given is True else None
    plain = given if isinstance(given, dict) else {}
    fault = known or Fault(
        plain.get("status", 500),
        plain.get("message", "failed"),
        plain.get("kind", "api_error"),
        plain.get("code"),
    )
    after = step.get("retry_after", plain.get("retry_after"))
    return fault if after is None else Fault(fault.status, fault.message, fault.kind, fault.code, after)


class Counts:
    """How often each trouble of each script was met: the only state of the server."""

    def __init__(self) -> None:
        self._met: Counter[tuple[str, int, int]] = Counter()

    def next(self, script: Script, position: int) -> Step | None:
        """Give the trouble that this request meets; None where all of them have passed."""
        for number, step in enumerate(script.troubles_before(position)):
            key = (script.id, position, number)
            if "times" not in step or self._met[key] < step["times"]:
                self._met[key] += 1
                if "delay" not in step or "times" in step or self._met[key] == 1:
                    return step
        return None
