"""JSON: the run document of CONTRACTS §5, for scripts; and the error document of CONTRACTS §4."""

from __future__ import annotations

import functools
import importlib
import json
import re
from types import ModuleType
from typing import Any

from msgspec.structs import asdict

from parallelai.errors import ParallelAIError
from parallelai.records import RunDocument
from parallelai.results.document import to_data
from parallelai.results.formats import RenderContext

# JSON leaves these as they are, and a terminal that the text is printed on would obey or misread them.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029]")


def render(document: RunDocument, context: RenderContext) -> str:
    """Write a run's document, indented, with a line end at the end."""
    return dump(to_data(document))


def render_error(error: ParallelAIError) -> str:
    """Write what `--json` prints when a command failed."""
    return dump({"error": error.to_json()})


def dump(data: Any, *, indent: int | None = 2) -> str:
    """Write records or plain data as JSON text that is safe to print and always valid UTF-8.

    A number that JSON does not have is null; half of a surrogate pair, as in the name of a file that is not
    UTF-8, is written as its escape. Indented text ends with a line end, text without indentation has none.
    """
    pydantic = _pydantic()
    try:
        text: str = pydantic.to_json(data, indent=indent, inf_nan_mode="null", fallback=asdict).decode()
    except (pydantic.PydanticSerializationError, UnicodeEncodeError):
        plain = pydantic.to_jsonable_python(data, inf_nan_mode="null", fallback=asdict)
        text = json.dumps(plain, indent=indent, ensure_ascii=False)
        text = text.encode("utf-8", "backslashreplace").decode()
    if not text.isascii() or "\x7f" in text:
        text = _UNSAFE.sub(_escape, text)
    return text if indent is None else text + "\n"


@functools.cache
def _pydantic() -> ModuleType:
    """What writes JSON; not loaded before there is something to write, and looked up once."""
    return importlib.import_module("pydantic_core")


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
