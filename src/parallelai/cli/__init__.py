"""The command line. It parses, calls the facade and prints; commands are loaded when they are used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

COMMANDS = {
    "review": ("parallelai.cli.review:review", "Review files, and print one ranked list of findings."),
    "execute": ("parallelai.cli.execute:execute", "Carry out a plan."),
    "plan": ("parallelai.cli.plan:plan", "Check, show, draw, estimate and convert plans."),
    "runs": ("parallelai.cli.runs:runs", "List, show, follow, steer and resume runs."),
    "engines": ("parallelai.cli.engines:engines", "List and test who can do tasks."),
    "init": ("parallelai.cli.init:init", "Write a config and a first plan for this project."),
    "doctor": ("parallelai.cli.doctor:doctor", "Check this installation and this project."),
    "trust": ("parallelai.cli.trust:trust", "Let what this project's config names run."),
    "config": ("parallelai.cli.config:config", "Show each setting and where it is from."),
    "cache": ("parallelai.cli.cache:cache", "Look at stored replies, or clear them."),
    "completion": ("parallelai.cli.completion:completion", "Print the completion script of a shell."),
}
"""Each command's home and its line in `--help`, so that help loads no command."""

LATER = ("work", "usage", "templates", "dashboard", "serve", "mcp", "top", "products", "models")
"""Commands of later versions: refused with a clear word."""

SAME = {"plans": "plan", "run": "runs", "engine": "engines", "configs": "config", "caches": "cache"}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        name = SAME.get(name, name)
        if name in LATER:
            raise click.UsageError(f"`{name}` is not built yet in this version of ParallelAI")
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if "No such command" in error.message and args:
                raise click.UsageError(self._unknown(args[0]), ctx) from None
            raise

    def _unknown(self, name: str) -> str:
        import difflib  # only for a mistake

        close = difflib.get_close_matches(name, [*COMMANDS, *LATER], n=1)
        advice = f"did you mean `{close[0]}`?" if close else "`parallelai --help` lists them"
        return f"there is no command `{name}`; {advice}"

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _print_version(ctx: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        from parallelai import __version__

        click.echo(f"parallelai {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
@click.option(
    "--project", "project", metavar="DIR", help="The project's folder (default: the one you are in)."
)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--yes", "is_yes", is_flag=True, help="Answer yes to questions (never to consent, trust, money)."
)
@click.option("--quiet", "-q", "is_quiet", is_flag=True, help="Print results and errors only.")
@click.option("--verbose", "-v", "is_verbose", is_flag=True, help="Print more.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), help="Use colours (default: auto).")
@click.pass_context
def app(ctx: click.Context, /, **given: Any) -> None:
    """Run many AI assistants at once over one code base, and bring their work back safely.

    Start with `parallelai review`, or `parallelai init`.
    """
    ctx.obj = given


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, and exit with a code of CONTRACTS §3."""
    args = sys.argv[1:] if arguments is None else arguments
    try:
        code = app.main(args, prog_name="parallelai", standalone_mode=False)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except SystemExit as ended:  # click's own, when whoever reads us has gone
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException as failure:  # the one place that decides how any failure is told
        from parallelai.cli.failures import tell

        code = tell(failure, args)
    sys.exit(code if isinstance(code, int) else 0)
