"""The command line. It parses, calls the facade and prints; commands are loaded when they are used."""

from __future__ import annotations

import gc
import sys

import click

from parallelai.cli.grammar import LazyGroup

COMMANDS = {
    "review": ("parallelai.cli.review:review", "Review files, and print one ranked list of findings."),
    "execute": ("parallelai.cli.execute:execute", "Carry out a plan."),
    "work": ("parallelai.cli.work:work", "Develop side by side in worktrees, and land what is ready."),
    "plan": ("parallelai.cli.plan:plan", "Check, show, draw, estimate and convert plans."),
    "runs": ("parallelai.cli.runs:runs", "List, show, follow, steer and resume runs."),
    "templates": ("parallelai.cli.templates:templates", "List, show, write and check task templates."),
    "engines": ("parallelai.cli.engines:engines", "List and test who can do tasks."),
    "init": ("parallelai.cli.init:init", "Write a config and a first plan for this project."),
    "doctor": ("parallelai.cli.doctor:doctor", "Check this installation and this project."),
    "trust": ("parallelai.cli.trust:trust", "Let what this project's config names run."),
    "config": ("parallelai.cli.config:config", "Show each setting and where it is from."),
    "usage": ("parallelai.cli.usage:usage", "Sum up what all runs used: tokens and cost."),
    "cache": ("parallelai.cli.cache:cache", "Look at stored replies, or clear them."),
    "completion": ("parallelai.cli.completion:completion", "Print the completion script of a shell."),
}
"""Each command's home and its line in `--help`, so that help loads no command."""

LATER = {
    "dashboard": "`parallelai runs logs --follow` shows a run live",
    "serve": "`parallelai runs logs --follow` shows a run live",
    "mcp": None,
    "top": "`parallelai runs list` shows what is running",
    "products": None,
    "models": "name a model with `--model`",
}
"""Commands of later versions, each with what to do instead: refused with a clear word."""

SAME = {
    "plans": "plan",
    "run": "runs",
    "engine": "engines",
    "configs": "config",
    "caches": "cache",
    "reviews": "review",
    "template": "templates",
    "product": "products",
    "model": "models",
}
"""The other number of each noun."""


_SELDOM = 500_000
"""New objects before Python looks for circles: what a command loads stays, and a look at it costs a tenth of it."""


def _print_version(ctx: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        from parallelai import __version__

        click.echo(f"parallelai {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    homes=COMMANDS,
    same=SAME,
    later=LATER,
    has_visible_flags=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
def app() -> None:
    """Run many AI assistants at once over one code base, and bring their work back safely.

    Start with `parallelai review`, or `parallelai init`.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, and exit with a code of CONTRACTS §3."""
    args = sys.argv[1:] if arguments is None else arguments
    if arguments is None:
        gc.set_threshold(_SELDOM)
    _open_missing()
    for stream in (sys.stdout, sys.stderr):
        _never_fail(stream)
    try:
        code = app.main(args, prog_name="parallelai", standalone_mode=False)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except SystemExit as ended:  # click's own, when whoever reads us has gone
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException as failure:  # the one place that decides how any failure is told
        from parallelai.cli.failures import tell

        code = tell(failure, args)
    if arguments is None:
        gc.freeze()  # the program ends: to look for circles in all that it made takes a tenth of a second
    sys.exit(code if isinstance(code, int) else 0)


def _open_missing() -> None:
    """Let closed standard streams lead nowhere, lest a file or a socket gets their number, and is printed to."""
    import os

    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115, PTH123


def _never_fail(stream: object) -> None:
    """Let no character that a terminal cannot show, nor a file's undecodable name, end a command."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
