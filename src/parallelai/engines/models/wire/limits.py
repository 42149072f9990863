"""What servers say about limits in the headers of their answers.

Names and forms are those of OpenAI and Azure (`x-ratelimit-remaining-requests`, resets as `6m0s`), Anthropic
(`anthropic-ratelimit-requests-remaining`, resets as RFC 3339 times), OpenRouter and others
(`x-ratelimit-remaining`, resets as seconds or as a time since 1970), and of RFC 9110's `Retry-After`.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from parallelai.engines.models.wire.records import Headers
from parallelai.engines.protocol import LimitsEvent, LimitWindow

MOST_SECONDS = 40 * 86_400.0
"""A longer wait is not believed."""
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_EPOCH = 1_000_000_000.0  # a number of seconds above it is a time since 1970
_EPOCH_MS = 1_000_000_000_000.0
_AGAIN = re.compile(r"(?:try again|retry) (?:in|after)[: ]+((?:\d+(?:\.\d+)?(?:ms|[dhms])?)+)", re.IGNORECASE)


def read_limits(headers: Headers, now: datetime | None = None) -> LimitsEvent | None:
    """Read the limits of an answer's headers; None where there are none. `now` is for tests."""
    if "x-ratelimit-limit-requests" in headers or "x-ratelimit-limit-tokens" in headers:
        forms = ("x-ratelimit-{}-requests", "x-ratelimit-{}-tokens")
    elif any(name in headers for name in _ANTHROPIC):
        tokens = "tokens" if "anthropic-ratelimit-tokens-limit" in headers else "input-tokens"
        forms = ("anthropic-ratelimit-requests-{}", f"anthropic-ratelimit-{tokens}-{{}}")
    elif "x-ratelimit-remaining" in headers or "x-ratelimit-limit" in headers:
        forms = ("x-ratelimit-{}", "")
    else:
        return None
    requests, tokens_ = (_window(headers, form, now) for form in forms)
    return None if requests is None and tokens_ is None else LimitsEvent(requests, tokens_)


_ANTHROPIC = (
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-input-tokens-limit",
)


def _window(headers: Headers, form: str, now: datetime | None) -> LimitWindow | None:
    limit, remaining, reset = (headers.get(form.format(key)) for key in ("limit", "remaining", "reset"))
    window = LimitWindow(_count(limit), _count(remaining), seconds_until(reset, headers, now))
    return None if window == LimitWindow(None, None, None) else window


def _count(value: str | None) -> int | None:
    try:
        number = float(value) if value else math.nan
    except ValueError:
        return None
    return int(number) if 0 <= number < 1e15 else None


def seconds_until(value: str | None, headers: Headers, now: datetime | None = None) -> float | None:
    """Read a reset in any of the forms, as seconds from now; None where it is none.

    A time is compared with the server's own clock (`Date`) where it says it, which may differ from ours.
    """
    if not value:
        return None
    value = value.strip()
    try:
        seconds = _number_or_parts(value)
        if seconds is None or seconds >= _EPOCH:
            seconds = _from_time(value, seconds) - _clock(headers, now)
    except (ValueError, OverflowError, TypeError):
        return None
    return min(max(seconds, 0.0), MOST_SECONDS) if math.isfinite(seconds) else None


def _number_or_parts(value: str) -> float | None:
    """Read `12`, `0.5`, `1s`, `6m0s`, `120ms`; None for a time."""
    try:
        return float(value)
    except ValueError:
        pass
    if _PART.sub("", value):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))


def _from_time(value: str, number: float | None) -> float:
    """Read a time, as seconds since 1970."""
    if number is not None:
        return number / 1000 if number >= _EPOCH_MS else number
    if value[:1].isdigit():
        time = datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return parsedate_to_datetime(value).timestamp()


def _clock(headers: Headers, now: datetime | None) -> float:
    if now is not None:
        return now.timestamp()
    said = headers.get("date")
    if said:
        try:
            return parsedate_to_datetime(said).timestamp()
        except (ValueError, TypeError):
            pass
    return datetime.now(UTC).timestamp()


def retry_after(headers: Headers, said: str = "", now: datetime | None = None) -> float | None:
    """Give how long a server asks to wait: by its headers, else by its words; None where it does not say."""
    milliseconds = headers.get("retry-after-ms")
    if milliseconds is not None:
        seconds = seconds_until(f"{milliseconds.strip()}ms", headers, now)
        if seconds is not None:
            return seconds
    seconds = seconds_until(headers.get("retry-after"), headers, now)
    if seconds is not None:
        return seconds
    limits = read_limits(headers, now)
    windows = [] if limits is None else [limits.requests, limits.tokens]
    resets = [window.reset_seconds for window in windows if window is not None and window.remaining == 0]
    known = [seconds for seconds in resets if seconds is not None]
    if known:
        return max(known)
    found = _AGAIN.search(said)
    return seconds_until(found[1], headers, now) if found else None
