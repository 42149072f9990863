"""Jinja for texts that nobody may trust: what it can read, make and take is bounded.

Templates are found in repositories, and plans are passed on. Beside Jinja's own sandbox: few filters, no
macros, assignments, includes or inheritance; loops share a budget of steps; every text that is made is
measured before it is made.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from itertools import chain
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.filters import FILTERS
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from parallelai.errors import UsageError
from parallelai.plan.reasons import Missing, reason
from parallelai.records import Finding

MAX_CHARACTERS = 4_000_000
"""How long a rendered text may be."""
MAX_STEPS = 200_000
"""How many steps all loops of one text may take together."""
MAX_MADE = 10 * MAX_CHARACTERS
"""How many characters one text may make on its way, all together."""
MAX_SECONDS = 2.0
"""How long one text may take: the last resort, for many steps that are each allowed, but slow."""
MAX_SOURCE = 1_000_000
_MAX_INTEGER = 10**18
_MAX_DIGITS = 300
"""How many digits a number may be rounded to; no floating-point number has more."""

# fmt: off
_FILTERS = (
    "abs", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last",
    "length", "list", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "unique",
)
_TEXT_FILTERS = ("capitalize", "e", "escape", "lower", "title", "trim", "upper", "urlencode", "wordcount")
_METHODS = frozenset({
    "upper", "lower", "title", "capitalize", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix",
    "split", "rsplit", "splitlines", "partition", "rpartition", "startswith", "endswith", "find", "rfind",
    "index", "count", "isdigit", "isalpha", "isupper", "islower", "items", "keys", "values", "get",
})
# fmt: on
_REFUSED: tuple[type[nodes.Node], ...] = (
    nodes.Macro,
    nodes.CallBlock,
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.Extends,
    nodes.Block,
    nodes.Assign,
    nodes.AssignBlock,
    nodes.With,
    nodes.FilterBlock,
    nodes.ScopedEvalContextModifier,
)
FAILURES = (
    TemplateError,
    SyntaxError,  # Python's own, of what Jinja makes: too many nested blocks, a keyword given twice
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a bad template can raise while it is read or rendered."""


class TooMuch(TemplateError):
    """A text would take more than it may."""


class _Meter:
    """What one rendering has left: steps of its loops, characters that it makes, time."""

    __slots__ = ("characters", "deadline", "steps")

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.characters = MAX_MADE
        self.deadline = time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise TooMuch(f"its loops take more than {MAX_STEPS:,} steps")
        self.tick()

    def tick(self) -> None:
        if time.monotonic() > self.deadline:
            raise TooMuch(f"it takes longer than {MAX_SECONDS:g} s")

    def make(self, length: int) -> None:
        self.characters -= length
        if self.characters < 0:
            raise TooMuch(f"it makes more than {MAX_MADE:,} characters on its way")


_meter: ContextVar[_Meter | None] = ContextVar("meter", default=None)


def has_markup(text: str) -> bool:
    """Say whether a text has anything to render at all."""
    return "{{" in text or "{%" in text or "{#" in text


def render_text(source: str, names: Mapping[str, Any], what: str) -> str:
    """Render a text; without markup it comes back as it is.

    Raises `UsageError` that names `what` if it is broken, uses an undefined name, or takes too much.
    """
    if not has_markup(source):
        return source
    token = _meter.set(_Meter())
    try:
        length = 0
        pieces: list[str] = []
        for piece in template(source).generate(**names):
            length += len(piece)
            if length > MAX_CHARACTERS:
                raise TooMuch(f"it becomes longer than {MAX_CHARACTERS:,} characters")
            pieces.append(piece)
    except FAILURES as error:
        raise UsageError(f"{what} cannot be rendered: {reason(error)}") from None
    finally:
        _meter.reset(token)
    return "".join(pieces)


def evaluate_expression(source: str, names: Mapping[str, Any], what: str) -> bool:
    """Say whether an expression holds. Raises `UsageError` as `render_text` does."""
    token = _meter.set(_Meter())
    try:
        return bool(expression(source)(**names))
    except FAILURES as error:
        raise UsageError(f"{what} cannot be evaluated: {reason(error)}") from None
    finally:
        _meter.reset(token)


@functools.lru_cache(maxsize=1024)
def template(source: str) -> Template:
    """Compile a text. Raises one of `FAILURES`."""
    if len(source) > MAX_SOURCE:
        raise TooMuch(f"it is longer than {MAX_SOURCE:,} characters")
    return ENVIRONMENT.from_string(source)


@functools.lru_cache(maxsize=1024)
def expression(source: str) -> Callable[..., Any]:
    """Compile an expression. Raises one of `FAILURES`."""
    if len(source) > MAX_SOURCE:
        raise TooMuch(f"it is longer than {MAX_SOURCE:,} characters")
    return ENVIRONMENT.compile_expression(source, undefined_to_none=False)


class Shown:
    """What a prompt shows by its own `str`, also where it is a list or a mapping."""

    __slots__ = ()


def text_of(value: Any) -> str:
    """Write a value as a prompt shows it: findings as lines, lists and mappings as JSON; bounded."""
    if isinstance(value, str):
        return value
    if isinstance(value, Undefined):
        return str(value)  # raises, naming it
    if isinstance(value, Finding):
        return finding_line(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Finding) for item in value):
        return "\n".join(finding_line(item) for item in value)
    if isinstance(value, (list, tuple, Mapping)) and not isinstance(value, Shown):
        return _json(value)
    text = str(value)
    _measure(len(text))
    return text


def finding_line(finding: Finding) -> str:
    """Write a finding on one line: `src/a.py:3: high security S105: message`."""
    rule = f" {finding.rule}" if finding.rule else ""
    message = " ".join(finding.message.split())
    return f"{finding.file}:{finding.line[0]}: {finding.severity} {finding.category}{rule}: {message}"


def _json(value: Any) -> str:
    pieces: list[str] = []
    length = 0
    for piece in _json_pieces(value, 0):
        length += len(piece)
        if length > MAX_CHARACTERS:
            break
        pieces.append(piece)
    _measure(length)
    return "".join(pieces)


def _json_pieces(value: Any, depth: int) -> Iterator[str]:
    if depth > 20:
        raise TooMuch("a value is nested too deeply")
    if isinstance(value, Mapping):
        for index, (key, item) in enumerate(value.items()):
            yield ("{" if index == 0 else ", ") + json.dumps(str(key), ensure_ascii=False) + ": "
            yield from _json_pieces(item, depth + 1)
        yield "}" if value else "{}"
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield "[" if index == 0 else ", "
            yield from _json_pieces(item, depth + 1)
        yield "]" if value else "[]"
    elif value is None or isinstance(value, (str, int, float)):
        yield json.dumps(value, ensure_ascii=False)
    else:
        yield json.dumps(text_of(value), ensure_ascii=False)


def _measure(length: int) -> None:
    if length > MAX_CHARACTERS:
        raise TooMuch(f"it becomes longer than {MAX_CHARACTERS:,} characters")
    meter = _meter.get()
    if meter is not None:
        meter.make(length)


def _tick() -> None:
    meter = _meter.get()
    if meter is not None:
        meter.tick()


def _timed(name: str) -> Callable[..., Any]:
    """Give one of Jinja's filters, which first looks at the time: a text may hold thousands of slow ones."""
    original = FILTERS[name]

    @functools.wraps(original)
    def timed(*args: Any, **options: Any) -> Any:
        _tick()
        return original(*args, **options)

    return timed


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    meter = _meter.get()
    for item in items:
        if meter is not None:
            meter.step()
        yield item


def _measured(name: str) -> Callable[..., Any]:
    """Give one of Jinja's filters for texts, which first measures what it is given."""
    original = FILTERS[name]

    @functools.wraps(original)
    def measured(*args: Any, **options: Any) -> Any:
        _tick()
        _measure(sum(len(arg) for arg in args if isinstance(arg, str)))
        return original(*args, **options)

    return measured


def _mapped(items: Iterable[Any], attribute: str) -> Iterator[Any]:
    for item in _counted(items):
        value = item
        for name in attribute.split("."):
            value = (
                ENVIRONMENT.getitem(value, int(name)) if name.isdigit() else ENVIRONMENT.getattr(value, name)
            )
        yield value


def _joined(items: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    values = _mapped(items, attribute) if attribute else _counted(items)
    pieces: list[str] = []
    length = 0
    for item in values:
        pieces.append(text_of(item))
        length += len(pieces[-1]) + len(separator)
        if length > MAX_CHARACTERS:
            break
    _measure(length)
    return separator.join(pieces)


def _concatenated(items: Iterable[Any]) -> str:
    return _joined(items)


def _replaced(value: Any, old: str, new: str, count: int | None = None) -> str:
    text, old, new = text_of(value), str(old), str(new)
    times = text.count(old)
    if count is not None and count >= 0:  # below 0 Python replaces all
        times = min(count, times)
    _measure(len(text) + times * len(new))
    return text.replace(old, new, times)


def _indented(value: Any, width: int = 4, first: bool = False) -> str:
    text = text_of(value)
    if not 0 <= width <= 40:
        raise TooMuch("an indentation is at most 40 wide")
    _measure(len(text) + (text.count("\n") + 1) * width)
    padding = " " * width
    return (padding if first else "") + text.replace("\n", "\n" + padding)


def _truncated(value: Any, length: int = 255, end: str = "…") -> str:
    text = text_of(value)
    return text if len(text) <= length else text[: max(0, length - len(end))] + end


def _summed(items: Iterable[Any]) -> float:
    return sum(item for item in _counted(items) if isinstance(item, (int, float)))


def _rounded(value: float, precision: int = 0, method: str = "common") -> float:
    if method not in ("common", "ceil", "floor"):
        raise TooMuch("a number is rounded by `common`, `ceil` or `floor`")
    if not -_MAX_DIGITS <= precision <= _MAX_DIGITS:
        raise TooMuch(f"a number is rounded to at most {_MAX_DIGITS} digits")
    rounded: float = FILTERS["round"](value, precision, method)
    return rounded


def _remainder(value: float, number: float) -> float:
    # Of a text `%` would be formatting, whose widths make texts of any length.
    if isinstance(value, (int, float)) and isinstance(number, (int, float)):
        return value % number
    raise TooMuch("`divisibleby`, `odd` and `even` are for numbers")


def _is_divisible(value: float, number: float) -> bool:
    return _remainder(value, number) == 0


def _is_odd(value: float) -> bool:
    return _remainder(value, 2) == 1


def _is_even(value: float) -> bool:
    return _remainder(value, 2) == 0


def _range(*bounds: int) -> range:
    _tick()
    numbers = range(*bounds)
    if len(numbers) > MAX_STEPS:
        raise TooMuch(f"a range has more than {MAX_STEPS:,} steps")
    return numbers


class _Bounding(NodeTransformer):
    """Puts the counting filter around what loops go over, and the measuring one for `~`."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        if node.recursive:
            raise TooMuch("recursive loops are not allowed")
        node.iter = nodes.Filter(node.iter, "_counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        items = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(items, "_concatenated", [], [], None, None, lineno=node.lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of every prompt, template and condition."""

    intercepted_binops = frozenset({"+", "*", "**", "%", "//", "/", "-"})

    def __init__(self) -> None:
        super().__init__(undefined=Missing, autoescape=False, keep_trailing_newline=True, finalize=text_of)
        self.globals = {"range": _range}
        self.tests = {**self.tests, "divisibleby": _is_divisible, "odd": _is_odd, "even": _is_even}
        self.filters = {name: _timed(name) for name in _FILTERS}
        self.filters |= {name: _measured(name) for name in _TEXT_FILTERS}
        self.filters |= {
            "_counted": _counted,
            "_concatenated": _concatenated,
            "join": _joined,
            "map": _mapped,
            "replace": _replaced,
            "round": _rounded,
            "indent": _indented,
            "truncate": _truncated,
            "sum": _summed,
            "tojson": _json,
            "string": text_of,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        refused = next(chain.from_iterable(tree.find_all(kind) for kind in _REFUSED), None)
        if refused is not None:
            raise TooMuch(f"`{type(refused).__name__.lower()}` is not allowed in it")
        return tree

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        return super()._generate(_Bounding().visit(source), name, filename, defer_init)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Carry out an operation whose result is known to be small."""
        _check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, *args: Any, **options: Any) -> Any:
        """Call a method or function, measuring the text or list that a method belongs to."""
        _tick()
        owner = getattr(args[1], "__self__", None)
        if isinstance(owner, (str, list, tuple)):
            _measure(len(owner))
        return super().call(*args, **options)

    def wrap_str_format(self, value: Any) -> None:
        """Give no `str.format`: its widths make texts of any length."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow only methods that make nothing large."""
        if isinstance(obj, (str, bytes, list, tuple, dict)) and callable(value) and attr not in _METHODS:
            return False
        return bool(super().is_safe_attribute(obj, attr, value))


def _check_operation(operator: str, left: Any, right: Any) -> None:
    if operator == "**" or (operator == "%" and isinstance(left, str)):
        raise TooMuch(f"`{operator}` is not allowed in it")
    if operator == "*":
        if isinstance(left, int) and isinstance(right, int):
            if abs(left) > _MAX_INTEGER or abs(right) > _MAX_INTEGER:
                raise TooMuch("a number is too large")
            return
        for sequence, count in ((left, right), (right, left)):
            if isinstance(sequence, Sequence) and isinstance(count, int):
                _measure(len(sequence) * max(count, 0))
    if operator == "+" and isinstance(left, Sequence) and isinstance(right, Sequence):
        _measure(len(left) + len(right))


ENVIRONMENT = Sandbox()
