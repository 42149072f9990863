"""Parts of a call of a model API that need no engine: how large it is, how it is written, what its end means."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from parallelai.engines.models.keys import LEAST_MASKED_IN_ANSWERS, masked
from parallelai.engines.models.prices import CHARACTERS_PER_TOKEN, tokens_of
from parallelai.engines.models.wire.records import Ask, Completion, Structure, items, mapping
from parallelai.engines.protocol import Request
from parallelai.engines.untrusted import clean, shorten
from parallelai.errors import Invalid, Refused, Unavailable

LINE_CHARACTERS = 60
"""A line of code is taken to have no more, on the average."""
LEAST_SUSPECT_TOKENS = 2_000


def tokens_of_files(request: Request) -> int:
    """Guess the tokens of the files whose text is still to be put into the prompt, from their sizes."""
    if request.files_at is None:
        return 0
    size = 0
    for part in request.files:
        try:
            whole = os.stat(f"{request.root}/{part.path}").st_size  # noqa: PTH116  # for each of thousands of tasks
        except OSError:
            continue  # the attempt will say so
        lines = None if part.first is None or part.last is None else part.last - part.first + 1
        size += whole if lines is None else min(whole, lines * LINE_CHARACTERS)
    return size // CHARACTERS_PER_TOKEN


def encoded(body: Mapping[str, Any]) -> bytes:
    """Write JSON; half of a surrogate pair, which a file's name may hold, becomes a `?`."""
    from pydantic_core import to_json

    try:
        return to_json(body)
    except ValueError:
        return json.dumps(body, ensure_ascii=False, default=dict).encode("utf-8", "replace")


def cleaned(completion: Completion, key: str | None) -> Completion:
    """Take out of an answer what a server may not put into it: our key, and a name of a model that is none."""
    name = completion.model
    shown = None if name is None else shorten(" ".join(clean(name).split()), 200) or None
    if shown == name and (key is None or key not in completion.text):
        return completion
    return dataclasses.replace(
        completion, text=masked(completion.text, key, LEAST_MASKED_IN_ANSWERS), model=shown
    )


def check_stop(completion: Completion, ask: Ask) -> None:
    if completion.stop == "refused":
        said = shorten(clean(completion.said), 500) or "it gave no reason"
        raise Refused(f"`{ask.model}` refused: {said}")
    if completion.stop == "length":
        limit = "its limit" if ask.max_tokens is None else f"`max_tokens` ({ask.max_tokens:,})"
        raise Invalid(
            f"the answer was cut at {limit}", next="raise `max_tokens`, or give it less (`each: {chunk: N}`)"
        )


def without_thoughts(text: str) -> str:
    """Take out what some servers leave of a model's thinking at the beginning of its answer."""
    if not text.lstrip().startswith("<think>"):
        return text
    _, end, rest = text.partition("</think>")
    return rest.lstrip() if end else text


def unwrapped(text: str, structure: Structure | None) -> str:
    """Take out of `{"value": …}` what the task asked for; servers take objects only."""
    if structure is None or not structure.is_wrapped:
        return text
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_wrapped = isinstance(data, dict) and data.keys() == {"value"}
    return json.dumps(data["value"], ensure_ascii=False) if is_wrapped else text


def only_model(body: bytes, name: str) -> str:
    """The one model of a server's list; `default` where it gives none: such servers look at no name."""
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        data = {}
    named = [str(item["id"]) for item in items(mapping(data).get("data")) if isinstance(item.get("id"), str)]
    names = [shorten(clean(one), 200) for one in named]
    if len(names) > 1:
        shown = ", ".join(f"`{one}`" for one in names[:8])
        raise Unavailable(
            f"engine `{name}` serves {len(names)} models: {shown}", next=f"write `model: {names[0]}`, say"
        )
    return names[0] if names else "default"


def cut_note(completion: Completion, ask: Ask) -> str | None:
    """Say that a server seems to have read only a part of the prompt, as local ones do without a word.

    Told by its own count of tokens, where that is less than half of what the prompt must have.
    """
    read, sent = completion.counts.input, tokens_of(ask.prompt, ask.instructions)
    if read is None or sent < LEAST_SUSPECT_TOKENS or read * 2 >= sent:
        return None
    return f"the server read about {read:,} of the prompt's {sent:,} tokens: give it a larger context"
