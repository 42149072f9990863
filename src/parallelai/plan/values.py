"""How the values of a plan are written: durations, amounts, patterns, commands, priorities.

Every function takes what somebody wrote and gives what it means, or raises `Wrong` with what is wrong and
what to write. All are pure; times are seconds.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from parallelai.errors import UsageError
from parallelai.plan.patterns import refuse_braces

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
RESERVED = frozenset({"landing"})
AUTO = "auto"
"""Who does a task where ParallelAI is to choose: no engine's name."""
PRIORITIES: Mapping[str, float] = {
    "urgent": 0.25,
    "critical": 0.25,
    "high": 0.5,
    "normal": 1.0,
    "medium": 1.0,
    "low": 2.0,
}
"""The named priorities as factors: smaller is more urgent."""

_UNITS: Mapping[str, float] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_SCALES: Mapping[str, int] = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
_BYTES: Mapping[str, int] = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_NUMBER = r"(\d{1,12}(?:\.\d{1,9})?|\.\d{1,9})"
_DURATION = re.compile(rf"(?:{_NUMBER}\s*([a-z]+)\s*)+\Z", re.IGNORECASE)
_PART = re.compile(rf"{_NUMBER}\s*([a-z]+)", re.IGNORECASE)
_SPAN = re.compile(
    rf"~?\s*(?:{_NUMBER}\s*[a-z]*\s*(?:-|–|—|to|bis)\s*)?{_NUMBER}\s*([a-z]*)\s*\Z", re.IGNORECASE
)
_AMOUNT = re.compile(rf"{_NUMBER}\s*([kmgb]?)(?:\s*tok(?:ens?)?)?\Z", re.IGNORECASE)
_SIZE = re.compile(rf"{_NUMBER}\s*([kmgt]?)i?b?\Z", re.IGNORECASE)
_LONGEST_SECONDS = 10 * 366 * 86400.0
_SHOWN = 60


class Wrong(ValueError):
    """A value that cannot be taken: `said` is what is wrong with it, `next` what to write."""

    def __init__(self, said: str, next: str | None = None) -> None:
        super().__init__(said)
        self.said = said
        self.next = next


class InHours(Struct, frozen=True):
    """A duration that came in under a key whose bare numbers are hours."""

    value: Any


def shown(value: Any) -> str:
    """Name a value in a message: short, on one line, without control characters, in back-ticks."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: _SHOWN + 1])
    return f"`{text[:_SHOWN]}…`" if len(text) > _SHOWN else f"`{text}`"


def kind_of(value: Any) -> str:
    """Name the kind of a value as a user would."""
    if value is None:
        return "empty"
    names = ((bool, "true or false"), ((int, float), "a number"), (str, "text"), (Mapping, "a mapping"))
    for kinds, name in names:
        if isinstance(value, kinds):
            return name
    return "a list" if isinstance(value, (list, tuple, set, frozenset)) else f"a {type(value).__name__}"


def _number(value: Any) -> float | None:
    """Give a real number, None if it is not one. Raises `Wrong` on infinities and negative ones."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < 0:
        raise Wrong(f"{shown(value)} is no number that makes sense here", "write a number from 0 up")
    return number


def auto_count(value: Any) -> Any:
    """Read `auto` as None. Raises `Wrong` on what is neither that nor a whole number."""
    if value == "auto":
        return None
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and value.isdecimal():
        raise Wrong(f"expected a whole number or `auto`, not text: {value!r}", "write it without quotes")
    is_short = value != "" and isinstance(value, (str, float))
    what = shown(value) if is_short else kind_of(value)
    raise Wrong(f"expected a whole number or `auto`, not {what}", "write `auto`, or 4, say")


def duration(value: Any) -> float:
    """Read a duration as seconds: `90s`, `30m`, `4h`, `2d`, `1h30m`, or a number of seconds."""
    if isinstance(value, InHours):
        return _in_hours(value.value)
    seconds = _number(value)
    if seconds is None and isinstance(value, str):
        seconds = _duration_text(value.strip())
    if seconds is None:
        raise Wrong(f"{shown(value)} is no duration", "write it like 90s, 30m, 4h or 2d")
    return _bounded(seconds, value)


def _bounded(seconds: float, value: Any) -> float:
    if seconds > _LONGEST_SECONDS:
        raise Wrong(f"{shown(value)} is longer than ten years", "write a shorter time")
    return seconds


def _duration_text(text: str) -> float | None:
    if re.fullmatch(_NUMBER, text):
        return float(text)
    if len(text) > 100 or not _DURATION.match(text):
        return None
    parts = [(float(number), _UNITS.get(unit.lower())) for number, unit in _PART.findall(text)]
    if any(unit is None for _, unit in parts):
        return None
    return sum(number * unit for number, unit in parts if unit is not None)


def _in_hours(value: Any) -> float:
    """Read an estimate whose bare numbers are hours; of a span the upper end counts."""
    hours = _number(value)
    if hours is not None:
        return _bounded(hours * 3600.0, value)
    if isinstance(value, str) and len(value) <= 100:
        span = _SPAN.match(value.strip())
        unit = _UNITS.get((span[3] or "h").lower()) if span else None
        if span and unit is not None:
            return _bounded(float(span[2]) * unit, value)
        seconds = _duration_text(value.strip())
        if seconds is not None:
            return _bounded(seconds, value)
    raise Wrong(f"{shown(value)} is no estimate", "write hours, such as 3, 2-3 or 4h")


def tokens(value: Any) -> int:
    """Read a number of tokens: `5M`, `200k`, `5Mtok`, 1000."""
    number = _number(value)
    if number is not None and number == int(number):
        return int(number)
    match = _AMOUNT.match(value.strip().replace("_", "")) if isinstance(value, str) else None
    if match is None:
        raise Wrong(f"{shown(value)} is no number of tokens", "write it like 5M, 200k or 1000")
    return round(float(match[1]) * _SCALES[match[2].lower()])


def size(value: Any) -> int:
    """Read a size of memory as bytes: `512M`, `2G`, 1048576."""
    number = _number(value)
    if number is not None and number == int(number):
        return int(number)
    match = _SIZE.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise Wrong(f"{shown(value)} is no size", "write it like 512M or 2G")
    return round(float(match[1]) * _BYTES[match[2].lower()])


def usd(value: Any) -> float:
    """Read an amount of money in US dollars."""
    number = _number(value)
    if number is None:
        raise Wrong(f"{shown(value)} is no amount of US dollars", "write a number, such as 20")
    return number


def budget(value: Any) -> Any:
    """Turn `10usd,5Mtok,4h` into a mapping of `usd`, `tokens` and `time`; a mapping stays as it is."""
    if isinstance(value, (int, float, list, tuple)):
        raise Wrong(f"{shown(value)} is no budget", "write it like 10usd,5Mtok,4h")
    if not isinstance(value, str):
        return value
    found: dict[str, Any] = {}
    for part in value.split(","):
        key, amount = _budget_part(part.strip())
        if key in found:
            raise Wrong(f"{shown(value)} limits `{key}` twice", "write it like 10usd,5Mtok,4h")
        found[key] = amount
    return found


def _budget_part(part: str) -> tuple[str, Any]:
    lower = part.lower()
    money = re.fullmatch(rf"\$\s*{_NUMBER}|{_NUMBER}\s*(?:usd|\$)", lower)
    if money:
        return "usd", float(money[1] or money[2])
    if re.search(r"\d\s*[kmgb]?\s*tok(?:ens?)?\Z", lower):
        return "tokens", tokens(part)
    seconds = _duration_text(part) if not re.fullmatch(_NUMBER, part) else None
    if seconds is None:
        raise Wrong(f"{shown(part)} is no budget", "write it like 10usd,5Mtok,4h")
    return "time", seconds


def priority(value: Any) -> float:
    """Read a priority: a name, or a number above 0, where smaller is more urgent."""
    if isinstance(value, str) and value.strip().lower() in PRIORITIES:
        return PRIORITIES[value.strip().lower()]
    number = None if isinstance(value, str) else _number(value)
    if not number:
        raise Wrong(f"{shown(value)} is no priority", "write urgent, high, normal, low, or a number above 0")
    return number


def identifier(value: Any) -> str:
    """Check an id of a task or workstream."""
    if not isinstance(value, str):
        quoted = f': "{value}"' if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
        raise Wrong(f"an id is text, not {kind_of(value)}", f"write it in quotes{quoted}" if quoted else None)
    if not ID.match(value) or len(value) > 100:
        advice = "begin with a letter or digit, then letters, digits, `.`, `_`, `-` (at most 100)"
        raise Wrong(f"{shown(value)} is no id", advice)
    if value in RESERVED:
        raise Wrong(f"the id `{value}` is reserved", "choose another")
    return value


def engine_name(value: Any) -> Any:
    """Check the name of an engine's entry."""
    if value == AUTO:
        said = "`auto` cannot be an engine's name: it stands for the engines that ParallelAI chooses itself"
        raise Wrong(said, "give the entry another name, such as `mine`, and write `engine: mine`")
    return value


def _texts(value: Any, what: str) -> tuple[Any, ...]:
    """Give a list of texts: a text is split at commas. What is no text in a list is left to the caller."""
    if value is None:
        return ()
    if isinstance(value, (str, os.PathLike)):
        text = str(os.fspath(value))
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise Wrong(f"expected {what}, not {kind_of(value)}", "write a list, or a text with commas")
    return tuple(os.fspath(item) if isinstance(item, os.PathLike) else item for item in value)


def words(value: Any) -> tuple[Any, ...]:
    """Read a list of words; a text is split at commas."""
    return _texts(value, "a list of words")


def sentences(value: Any) -> tuple[Any, ...]:
    """Read a list of texts; a single text is one item, or one for each of its lines."""
    if isinstance(value, str):
        return tuple(line.strip().removeprefix("- ") for line in value.splitlines() if line.strip())
    return _texts(value, "a list of texts")


def dependencies(value: Any) -> tuple[Any, ...]:
    """Read what a task depends on; `None …` is nothing."""
    if isinstance(value, str) and re.match(r"\s*none\b(?![._-]\w)", value, re.IGNORECASE):
        return ()
    return _texts(value, "a list of ids")


def pattern_list(value: Any) -> tuple[Any, ...]:
    """Read file patterns: a list, or a text split at commas (which has no braces, or they would be torn)."""
    if isinstance(value, str) and ("{" in value or not value.strip()):
        return (value.strip(),)
    return _texts(value, "file patterns")


def pattern(text: str) -> str:
    """Check one file pattern. Raises `Wrong` on braces, absolute ones, and ones that climb."""
    bare = text.removeprefix("!")
    try:
        refuse_braces(bare)
    except UsageError:
        raise Wrong(f"the pattern {shown(text)} has braces", _without_braces(text)) from None
    if not bare.strip() or "\0" in bare or "\n" in bare:
        raise Wrong(f"{shown(text)} is no file pattern", "write it like src/**/*.py")
    if bare.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", bare):
        raise Wrong(
            f"the pattern {shown(text)} is absolute", f"write it from the project's root: {_below(bare)}"
        )
    if ".." in re.split(r"[\\/]", bare):
        raise Wrong(
            f"the pattern {shown(text)} climbs out of the project", "write it from the project's root"
        )
    return text


def _below(bare: str) -> str:
    return "./" + re.sub(r"\A(?:[A-Za-z]:|~)?[\\/]*", "", bare)[:_SHOWN]


def _without_braces(text: str) -> str:
    match = re.search(r"\{([^{}]*,[^{}]*)\}", text)
    if match is None:
        return "write it without `{`, or `\\{` for the character itself"
    options = [text[: match.start()] + part.strip() + text[match.end() :] for part in match[1].split(",")]
    return f"write one pattern for each: [{', '.join(options[:5])}]"


_OPERATORS = "|&;<>()`$\n"


def command(value: Any) -> tuple[str, ...]:
    """Read one command: a text is split as POSIX words, a list is argv. There is no shell."""
    if isinstance(value, str):
        return _command_text(value)
    if not isinstance(value, (list, tuple)):
        raise Wrong(f"a command is text or a list of texts, not {kind_of(value)}", 'write "pytest -q"')
    if not value or not all(isinstance(word, str) for word in value):
        wrong = next((word for word in value if not isinstance(word, str)), None)
        said = f"a command is a list of texts, but {shown(wrong)} is {kind_of(wrong)}"
        raise Wrong(said if value else "a command is empty", 'write it like [pytest, "-q"]')
    return _program(tuple(value))


def _command_text(text: str) -> tuple[str, ...]:
    operator = shell_operator(text)
    if operator is not None:
        said = f"the command {shown(text)} needs a shell for {shown(operator)}, and there is none"
        raise Wrong(said, f"write [sh, -c, {quoted(text)}]")
    try:
        return _program(tuple(shlex.split(text)))
    except Wrong:
        raise
    except ValueError:
        raise Wrong(f"the command {shown(text)} has a quote that is not closed", "close the quote") from None


def _program(argv: tuple[str, ...]) -> tuple[str, ...]:
    if not argv or not argv[0].strip():
        raise Wrong("a command is empty", 'write it like "pytest -q"')
    if argv[0].startswith("-"):
        said = f"{shown(argv[0])} is no program"
        raise Wrong(said, "a list of words is one command only inside another list: [[pytest, -q]]")
    if any("\0" in word for word in argv):
        raise Wrong("a command has a NUL character", "leave it out")
    return argv


def quoted(text: str) -> str:
    """Write a text in YAML's double quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def shell_operator(text: str) -> str | None:
    """Find what only a shell could carry out: an operator, an expansion, an assignment before the program."""
    assignment = re.match(r"\s*[A-Za-z_][A-Za-z0-9_]*=", text)
    if assignment:
        return assignment[0].strip()
    quote = ""
    skip = False
    for at, char in enumerate(text):
        if skip:
            skip = False
        elif quote == "'":
            quote = "" if char == "'" else quote
        elif char == "\\":
            skip = True
        elif char in "'\"":
            quote = "" if quote == char else quote or char
        elif char in _OPERATORS and (not quote or char in "`$") and _is_operator(text, at):
            return text[at : at + 2] if text[at : at + 2] in {"&&", "||", ">>", "<<", "$("} else char
    return None


def _is_operator(text: str, at: int) -> bool:
    """Say whether the character means something to a shell there: a `$` before a space does not."""
    following = text[at + 1 : at + 2]
    return (
        text[at] != "$" or following.isalnum() or following in {"_", "{", "(", "?", "@", "*", "#", "'", '"'}
    )


def command_list(value: Any) -> tuple[Any, ...]:
    """Read a list of commands; a single text is one command."""
    if value is None or isinstance(value, str):
        return () if value is None else (value,)
    if not isinstance(value, (list, tuple)):
        raise Wrong(f"expected a list of commands, not {kind_of(value)}", 'write it like ["pytest -q"]')
    return tuple(value)


def strategy(value: Any) -> str:
    """Check how a strategy is written: a name, or `name:argument`; `batch` needs a number."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*(:[^\s:]+)?", value):
        raise Wrong(f"{shown(value)} is no strategy", "write dag, parallel, batch:N or pipeline")
    name, _, argument = value.partition(":")
    if name == "batch" and not re.fullmatch(r"[1-9]\d{0,5}", argument):
        raise Wrong(f"{shown(value)} is no strategy: `batch` needs a number", "write it like batch:4")
    if name in {"dag", "parallel", "pipeline"} and argument:
        raise Wrong(f"the strategy `{name}` takes no argument", f"write {name}")
    return value


_SECRET = re.compile(
    r"sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}"
    r"|xox[abprs]-[\w-]{10,}|glpat-[\w-]{16,}|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s:@]+@"
)


def has_secret(text: str) -> bool:
    """Say whether a text holds what looks like a key, token or password."""
    return _SECRET.search(text) is not None


def variable(value: Any) -> str:
    """Check the name of an environment variable. The value, maybe a key by mistake, is not said."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise Wrong("expected the name of an environment variable", "write it like ANTHROPIC_API_KEY")
    return value


def joined(items: Iterable[str]) -> str:
    """Write names as a sentence lists them: `a`, `b` or `c`."""
    names = [f"`{item}`" for item in items]
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def named_engine(data: Any) -> str:
    """The name of an engine. Raises `Wrong`."""
    if not isinstance(data, str) or not data.strip():
        raise Wrong(f"an engine's name is text, not {kind_of(data)}", "write an engine's name")
    return data.strip()


def choice(rule: str, data: Any) -> dict[str, Any]:
    """A choice of several engines by a rule, as the keys of `model.Choice`. Raises `Wrong`."""
    if rule == "route":
        if not isinstance(data, Mapping):
            raise Wrong("a route is a mapping of a kind, tag or file pattern to an engine", "add else: NAME")
        routes = {str(key): named_engine(name) for key, name in data.items()}
        return {"rule": rule, "members": tuple(dict.fromkeys(routes.values())), "routes": routes}
    if not isinstance(data, (list, tuple)):
        raise Wrong(f"`{rule}` takes a list of engines, not {kind_of(data)}", f"write {{{rule}: [a, b]}}")
    return {"rule": rule, "members": tuple(named_engine(name) for name in data)}
