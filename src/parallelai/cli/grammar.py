"""The grammar of the command line: global flags anywhere, nouns in both numbers, mistakes told kindly.

Loads nothing but click, so that help and completion are quick.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import click
from click.shell_completion import CompletionItem

from parallelai.errors import UsageError

NAMES = ("project", "is_json", "is_yes", "is_quiet", "is_verbose", "color")
"""The global flags, by the names that `Shared` gives them."""
_WHOLE = 1_000
"""More characters than any sentence of a help text has."""
_CLOSE = 0.7
"""How like a command a word has to be, to be meant for it: `lst` is like `list`, `path` is not like `attach`."""

_KIN = (
    ("check", "validate", "verify", "lint"),
    ("delete", "remove", "rm", "drop", "uninstall", "clear", "prune", "clean"),
    ("list", "ls", "show", "status", "info", "view", "get"),
    ("cancel", "stop", "kill", "abort", "halt"),
    ("new", "add", "create", "make"),
    ("start", "begin", "launch"),
    ("resume", "continue"),
    ("land", "merge"),
    ("undo", "unapply", "revert", "rollback"),
)
"""Words that people say for each other; each names the commands of its row, the best first."""
_MOST_MEANT = 2
_PLANS = (".yaml", ".yml", ".json", ".toml", ".md")
"""How the names of plans' files end: who writes one for a command wants it carried out."""


class SectionOption(click.Option):
    """An option that help lists in a section of its own."""

    section: ClassVar[str] = "Options"


class GlobalOption(SectionOption):
    """An option that every command takes, before its name as well as after it."""

    section = "Global options"


def global_options(*, is_hidden: bool = False) -> list[click.Parameter]:
    """Make the global flags."""
    make = functools.partial(GlobalOption, hidden=is_hidden)
    return [
        make(
            ["--project"],
            metavar="DIR",
            type=click.Path(),
            help="The project's folder (default: the one you are in).",
        ),
        make(["--json", "is_json"], is_flag=True, help="Print one JSON document, also on failure."),
        make(
            ["--yes", "-y", "is_yes"],
            is_flag=True,
            help="Answer yes to questions (never to consent, trust, money).",
        ),
        make(["--quiet", "-q", "is_quiet"], is_flag=True, help="Print results and errors only."),
        make(["--verbose", "-v", "is_verbose"], is_flag=True, help="Print more."),
        make(
            ["--color"], type=click.Choice(["auto", "always", "never"]), help="Use colours (default: auto)."
        ),
    ]


def _take_flags(ctx: click.Context) -> dict[str, Any]:
    """Take the global flags out of a context: its own over those that came before."""
    own = {name: ctx.params.pop(name, None) for name in NAMES}
    return {**(ctx.obj or {}), **{name: value for name, value in own.items() if value is not None and value}}


def _format_sections(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record is not None:
            is_help = any(option in ctx.help_option_names for option in parameter.opts)
            section = getattr(parameter, "section", SectionOption.section)
            if is_help and GlobalOption.section in sections:
                section = GlobalOption.section
            sections.setdefault(section, []).append(record)
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl(rows)


@contextlib.contextmanager
def _of_this(ctx: click.Context) -> Iterator[None]:
    """Name the command in mistakes of which click does not know whose they are: an option without its value."""
    try:
        yield
    except click.UsageError as error:
        error.ctx = error.ctx or ctx
        raise


class Command(click.Command):
    """A command with the global flags; its function gets a `Shared` as the argument `shared`."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.params.extend(global_options())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _of_this(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        from parallelai.cli.shared import Shared

        ctx.params["shared"] = Shared(**_take_flags(ctx))
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _format_sections(self, ctx, formatter)


class Group(click.Group):
    """A noun with its verbs. It takes the global flags, and passes them on.

    `same` maps other words for a verb to it; `later` are verbs of later versions, with what to do instead. Help lists
    the verbs in `sections`, by their titles; one that none of them names comes in the last.
    """

    command_class = Command

    def __init__(
        self,
        *args: Any,
        same: Mapping[str, str] | None = None,
        later: Mapping[str, str | None] | None = None,
        sections: Mapping[str, Sequence[str]] | None = None,
        has_visible_flags: bool = False,
        **given: Any,
    ) -> None:
        super().__init__(*args, **given)
        self.sections = dict(sections or {"Commands": ()})
        self.same = dict(same or {})
        self.later = dict(later or {})
        self.params.extend(global_options(is_hidden=not has_visible_flags))

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = _take_flags(ctx)
        return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            if (ctx.obj or {}).get("is_json"):  # a program has no use for a page of help
                raise click.UsageError("Missing command.", ctx)
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        with _of_this(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = self.same.get(args[0], args[0])
        found = self.get_command(ctx, name)
        if found is None and not ctx.resilient_parsing:
            raise self._unknown(ctx, args[0], name)
        return name, found, args[1:]

    def _unknown(self, ctx: click.Context, written: str, name: str) -> UsageError:
        path = " ".join([*ctx.command_path.split()[1:], written])
        if name in self.later:
            return UsageError(
                f"`{path}` is not built yet in this version of ParallelAI", next=self.later[name]
            )
        known = [*self.list_commands(ctx), *self.same, *self.later]
        close = difflib.get_close_matches(written, known, _MOST_MEANT, _CLOSE)
        meant = (
            _carrying_out(written)
            or self._deeper(ctx, (written,))
            or [word for word in _kin(written) if word in known][:_MOST_MEANT]
            or self._deeper(ctx, _kin(written))[:_MOST_MEANT]
            or list(dict.fromkeys(self.same.get(word, word) for word in close))
        )
        shown = " or ".join(f"`{each}`" for each in meant)
        advice = f"did you mean {shown}?" if meant else f"`{ctx.command_path} --help` lists them"
        return UsageError(f"there is no command `{path}`", next=advice)

    def _deeper(self, ctx: click.Context, words: Sequence[str]) -> list[str]:
        """The commands of groups of this one that are called like one of these words."""
        groups = self.list_commands(ctx)
        return [f"{each} {word}" for word in words for each in groups if self._has(ctx, each, word)]

    def _has(self, ctx: click.Context, group: str, verb: str) -> bool:
        """Whether a group of this one has the verb: people leave the group out."""
        found = self.get_command(ctx, group)
        return isinstance(found, click.Group) and verb in found.list_commands(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _format_sections(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs with the whole of their first sentence, where click would cut it to a line."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = {
            name: verb.get_short_help_str(_WHOLE)
            for name, verb in found
            if verb is not None and not verb.hidden
        }
        named = {name for names in self.sections.values() for name in names}
        rest = [name for name in rows if name not in named]
        last = next(reversed(self.sections))
        for title, names in self.sections.items():
            listed = [*names, *rest] if title == last else names
            with formatter.section(title):
                formatter.write_dl([(name, rows[name]) for name in listed])


def _carrying_out(written: str) -> Sequence[str]:
    """What carries a plan out, where one was written for a command: `parallelai run plan.yaml`."""
    if not written.lower().endswith(_PLANS):
        return ()
    plan = shlex.quote(written)
    return (f"parallelai execute {plan}", f"parallelai work run {plan}")


def _kin(written: str) -> Sequence[str]:
    """The words that people say for this one."""
    return next((row for row in _KIN if written in row), ())


class LazyGroup(Group):
    """A group whose commands are imported when they are called: `homes` maps each to its home and its line."""

    def __init__(self, *args: Any, homes: Mapping[str, tuple[str, str]], **given: Any) -> None:
        super().__init__(*args, **given)
        self.homes = dict(homes)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.homes)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        import importlib

        name = self.same.get(name, name)
        if name not in self.homes:
            return None
        module, _, attribute = self.homes[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.homes.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [
            CompletionItem(name, help=text)
            for name, (_, text) in self.homes.items()
            if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


def group(**given: Any) -> Callable[[Callable[[], None]], Group]:
    """Make a `Group` of a function whose docstring is its help."""

    def made(function: Callable[[], None]) -> Group:
        return click.group(cls=Group, **given)(function)

    return made


def command(**given: Any) -> Callable[[Callable[..., int]], Command]:
    """Make a `Command` of a function that takes `shared` first and gives the exit code."""

    def made(function: Callable[..., int]) -> Command:
        return click.command(cls=Command, **given)(function)

    return made
