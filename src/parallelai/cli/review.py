"""`parallelai review`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from parallelai.cli.carry import Carrying, carry_out, carrying
from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared
from parallelai.client import AsyncParallelAI
from parallelai.client.options import CarryOut
from parallelai.client.project import OpenProject
from parallelai.client.reviews import ReviewOptions, base_of, chosen_files
from parallelai.errors import UsageError
from parallelai.records import RunDocument
from parallelai.results import baseline as baselines


@command()
@click.argument("patterns", nargs=-1)
@click.option("--since", metavar="REV", help="Only what changed since this git revision.")
@click.option("--staged", "is_staged", is_flag=True, help="Only what is staged in git.")
@click.option("--template", default="code-review", metavar="NAME", help="The task template.")
@click.option("--checklist", metavar="A,B", help="What to look for.")
@click.option("--baseline", metavar="FILE", help="Findings that were accepted before.")
@click.option("--update-baseline", "is_update", is_flag=True, help="Accept all that is found now.")
@carrying
def review(shared: Shared, patterns: tuple[str, ...], **given: Any) -> int:
    """Review files, and print one ranked list of findings.

    PATTERNS are file patterns by git's rules, from the current folder: "src/**/*.py", "!tests/**", a folder, a
    file. Without any, the whole project is reviewed.
    """
    options = _options(patterns, given)
    is_update = given.pop("is_update")
    if is_update and options.baseline is None:
        raise UsageError("`--update-baseline` needs `--baseline FILE`", next="name the file to write")
    asked = Carrying.of(given)
    if asked.is_dry:
        return _preview(shared, options, asked)
    if is_update:
        accepted = options.baseline
        options = _without_missing(options)

    async def call(ai: AsyncParallelAI, carry: CarryOut) -> RunDocument:
        document = await ai.carry_out_review(based(ai.project, options), carry)
        if is_update and accepted is not None:
            baselines.save(accepted, document.findings)
            shared.say(f"baseline written to {accepted}")
        return document

    return carry_out(shared, asked, call)


def _options(patterns: tuple[str, ...], given: dict[str, Any]) -> ReviewOptions:
    checklist, baseline = given.pop("checklist"), given.pop("baseline")
    return ReviewOptions(
        patterns=patterns,
        since=given.pop("since"),
        staged=given.pop("is_staged"),
        template=given.pop("template"),
        checklist=tuple(word.strip() for word in checklist.split(",")) if checklist else (),
        baseline=Path(baseline).absolute() if baseline else None,
    )


def based(project: OpenProject, options: ReviewOptions) -> ReviewOptions:
    """Let patterns count from the folder that one is in."""
    return dataclasses.replace(options, base=base_of(project))


def _without_missing(options: ReviewOptions) -> ReviewOptions:
    """A baseline that is to be written need not be there yet."""
    if options.baseline is not None and not options.baseline.exists():
        return dataclasses.replace(options, baseline=None)
    return options


def _preview(shared: Shared, options: ReviewOptions, asked: Carrying) -> int:
    async def work(ai: AsyncParallelAI) -> list[str]:
        return list(chosen_files(ai.project, based(ai.project, options)).paths)

    files: list[str] = shared.call(work, is_trusted=asked.carry.is_trusted)
    shared.result({"files": files}, "\n".join([*files, f"{len(files)} files would be reviewed"]))
    return 0
