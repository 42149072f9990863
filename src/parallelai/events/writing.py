"""How records become JSON text where thousands are written: by the quickest writer that can."""

from __future__ import annotations

from typing import Any

import msgspec
import pydantic_core


def write_json(record: Any) -> bytes:
    """Write a record as compact JSON text; a number that JSON does not have is null.

    Raises ValueError for what cannot be written, such as half of a surrogate pair.
    """
    try:
        return msgspec.json.encode(record)
    except (TypeError, RecursionError):  # a key that is no text, or lists in lists without end
        return pydantic_core.to_json(record, inf_nan_mode="null", fallback=msgspec.structs.asdict)
