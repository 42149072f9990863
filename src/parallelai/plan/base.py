"""What every object of a plan has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from parallelai.plan import values

HOURS = frozenset({"estimated_hours", "ESTIMATED TIME"})
"""The aliases whose bare numbers are hours."""


class Model(BaseModel):
    """The base: frozen, strict, no unknown keys, import aliases renamed. Built when it is first used: many commands
    read no plan.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)
    aliases: ClassVar[Mapping[str, str]] = {}  # import alias → canonical key
    refused: ClassVar[Mapping[str, tuple[str, str]]] = {}  # keys of another object → why not here, what to do

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, data: Any) -> Any:
        # A key that is there under two names stays, and is refused as unknown with a word about that.
        # (`dict` is named because most are one, and to ask whether something is a `Mapping` takes long.)
        if not cls.aliases or not isinstance(data, (dict, Mapping)) or cls.aliases.keys().isdisjoint(data):
            return data
        renamed: dict[str, Any] = {}
        for key, value in data.items():
            canonical = cls.aliases.get(key, key)
            is_taken = canonical != key and (canonical in data or canonical in renamed)
            in_hours = key in HOURS and not isinstance(value, values.InHours)
            renamed[key if is_taken else canonical] = values.InHours(value) if in_hours else value
        return renamed
