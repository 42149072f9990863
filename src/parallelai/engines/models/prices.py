"""What model APIs cost and how much they can read: an entry's own price, else the table of genai-prices.

What no table knows is unknown, and said so; nothing is guessed. The table ships with genai-prices: no price is
fetched.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from parallelai.engines.models.wire.records import Counts
from parallelai.records import CostBasis, Usage

if TYPE_CHECKING:
    from parallelai.plan.model import Price

CHARACTERS_PER_TOKEN = 4
_MILLION = 1_000_000


def tokens_of(*texts: str | None) -> int:
    """Guess the tokens of texts, from their characters."""
    return sum(len(text) for text in texts if text) // CHARACTERS_PER_TOKEN


class Pricing(Struct, frozen=True):
    """How the calls of one engine are priced.

    `price` is the entry's; `is_free`: a server on this machine without a price; `address` is where the table
    is asked for, so that a gateway is not taken for the provider whose models it names.
    """

    address: str
    price: Price | None = None
    is_free: bool = False

    def usage(self, model: str, counts: Counts) -> Usage:
        """Give what a call took; money that nobody knows is None, with the basis `unknown`."""
        usd, basis = self._cost(model, counts)
        return Usage(counts.input, counts.cached, counts.output, counts.reasoning, usd, basis)

    def _cost(self, model: str, counts: Counts) -> tuple[float | None, CostBasis]:
        if self.price is not None:
            usd = _by_price(self.price, counts)
            return usd, "unknown" if usd is None else "prices"
        if self.is_free:
            return 0.0, "free"
        if counts.usd is not None:  # what the gateway itself says that it takes
            return counts.usd, "client"
        usd = _by_table(self.address, model, counts)
        return usd, "unknown" if usd is None else "prices"

    def estimate(self, model: str, tokens_in: int, tokens_out: int) -> float | None:
        """Foretell the cost of a call, in USD; None where no price is known."""
        if self.price is not None:
            return (tokens_in * self.price.input + tokens_out * self.price.output) / _MILLION
        if self.is_free:
            return 0.0
        rates = _rates(self.address, model)
        if rates is None:
            return None
        call, per_input, per_output = rates
        return call + tokens_in * per_input + tokens_out * per_output

    def window(self, model: str) -> int | None:
        """Give how many tokens a model can read, None where nobody knows.

        A server on this machine decides itself how much it reads, whatever its model could.
        """
        return None if self.is_free else _window(self.address, model)


def _by_price(price: Price, counts: Counts) -> float | None:
    if counts.input is None or counts.output is None:
        return None
    cached = min(counts.cached or 0, counts.input)
    of_cached = price.input if price.cached is None else price.cached
    cost = (counts.input - cached) * price.input + cached * of_cached + counts.output * price.output
    return cost / _MILLION


def _by_table(address: str, model: str, counts: Counts) -> float | None:
    if counts.input is None or counts.output is None:
        return None
    from genai_prices import Usage as Counted

    counted = Counted(
        input_tokens=counts.input,
        cache_read_tokens=min(counts.cached or 0, counts.input),
        cache_write_tokens=min(counts.written or 0, counts.input - min(counts.cached or 0, counts.input)),
        output_tokens=counts.output,
    )
    return _asked(address, model, counted)


def _asked(address: str, model: str, counted: Any) -> float | None:
    from genai_prices import calc_price

    try:
        return float(calc_price(counted, model, provider_api_url=address).total_price)
    except (LookupError, ValueError):  # a model or provider that it does not know, or figures that contradict
        return None


@functools.lru_cache(maxsize=256)
def _rates(address: str, model: str) -> tuple[float, float, float] | None:
    """USD for a call, for a token read and for one written, at the price of short prompts."""
    from genai_prices import Usage as Counted

    fixed = _asked(address, model, Counted(input_tokens=0, output_tokens=0))
    read = _asked(address, model, Counted(input_tokens=1000, output_tokens=0))
    written = _asked(address, model, Counted(input_tokens=0, output_tokens=1000))
    if fixed is None or read is None or written is None:
        return None
    return fixed, (read - fixed) / 1000, (written - fixed) / 1000


@functools.lru_cache(maxsize=256)
def _window(address: str, model: str) -> int | None:
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, found = get_snapshot().find_provider_model(model, None, None, address)
    except (LookupError, ValueError):
        return None
    return found.context_window
