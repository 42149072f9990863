"""`parallelai review`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parallelai.cli.flags import Carrying, carrying
from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared
from parallelai.errors import UsageError

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.options import CarryOut
    from parallelai.client.project import OpenProject
    from parallelai.client.reviews import ReviewOptions
    from parallelai.records import RunDocument


@command()
@click.argument("patterns", nargs=-1, type=click.Path())
@click.option("--since", metavar="REV", help="Only what changed since this git revision.")
@click.option("--staged", "is_staged", is_flag=True, help="Only what is staged in git.")
@click.option(
    "--template", default="code-review", metavar="NAME", help="The task template (default: code-review)."
)
@click.option("--checklist", metavar="A,B", help="What to look for, such as security,performance.")
@click.option(
    "--baseline", type=click.Path(), metavar="FILE", help="A file of findings that were accepted before."
)
@click.option("--update-baseline", "is_update", is_flag=True, help="Accept all that is found now.")
@carrying
def review(shared: Shared, patterns: tuple[str, ...], **given: Any) -> int:
    """Review files, and print one ranked list of findings.

    PATTERNS are file patterns by git's rules, from the current folder: "src/**/*.py", "!tests/**", a folder, a
    file. Without any, the whole project is reviewed.
    """
    from parallelai.cli.carry import carry_out

    is_update = given.pop("is_update")
    options = _options(patterns, given)
    asked = Carrying.of(given)
    if is_update:
        _check_update(options)
    if asked.is_dry:
        return _preview(shared, options, asked)

    async def call(ai: AsyncParallelAI, carry: CarryOut) -> RunDocument:
        known = based(ai.project, _without_missing(options) if is_update else options)
        await _ask_consent(shared, ai, known, carry)
        document = await ai.carry_out_review(known, carry)
        return _accepted(shared, options, document) if is_update else document

    return carry_out(shared, asked, call)


async def _ask_consent(shared: Shared, ai: AsyncParallelAI, options: ReviewOptions, carry: CarryOut) -> None:
    """On a terminal, ask once whether what is reviewed may be sent to an engine that is ready."""
    if not shared.is_interactive:
        return
    from parallelai.client import consent

    offer = await ai.review_offer(options, carry)
    if offer is not None:
        consent.answer(ai.project, offer, click.confirm(offer.question, default=False, err=True))


def _options(patterns: tuple[str, ...], given: dict[str, Any]) -> ReviewOptions:
    from parallelai.client.reviews import ReviewOptions

    checklist, baseline = given.pop("checklist") or "", given.pop("baseline")
    return ReviewOptions(
        patterns=patterns,
        since=given.pop("since"),
        staged=given.pop("is_staged"),
        template=given.pop("template"),
        checklist=tuple(word.strip() for word in checklist.split(",") if word.strip()),
        baseline=Path(baseline).absolute() if baseline else None,
    )


def based(project: OpenProject, options: ReviewOptions) -> ReviewOptions:
    """Let patterns count from the folder that one is in."""
    from parallelai.client.reviews import base_of

    return dataclasses.replace(options, base=base_of(project))


def _check_update(options: ReviewOptions) -> None:
    if options.baseline is None:
        raise UsageError("`--update-baseline` needs `--baseline FILE`", next="name the file to write")
    if options.since is not None or options.staged:
        said = "a baseline holds what is in all files, and `--since` and `--staged` look at some"
        raise UsageError(said, next="leave them out to update it")


def _without_missing(options: ReviewOptions) -> ReviewOptions:
    """A baseline that is to be written need not be there yet."""
    if options.baseline is not None and not options.baseline.exists():
        return dataclasses.replace(options, baseline=None)
    return options


def _accepted(shared: Shared, options: ReviewOptions, document: RunDocument) -> RunDocument:
    """Write the baseline, unless the review is not complete; gives the document as the baseline has it now."""
    from parallelai.results import baseline

    assert options.baseline is not None  # noqa: S101 -- `_check_update` saw to it
    if document.exit not in (0, 1):
        shared.say("the baseline is left as it was, because the review is not complete")
        return document
    baseline.save(options.baseline, document.findings)
    shared.say(f"baseline written to {options.baseline}")
    accepted = baseline.apply(document.findings, {finding.id for finding in document.findings})
    return dataclasses.replace(document, findings=accepted, exit=0)


def _preview(shared: Shared, options: ReviewOptions, asked: Carrying) -> int:
    from parallelai.client import absent

    async def work(ai: AsyncParallelAI) -> tuple[list[str], list[str], str]:
        found = await ai.preview_review(based(ai.project, options), asked.carry)
        shared.say_ignored(ai.project)
        for name, why in (await ai.engines.absent(found[1])).items():
            shared.say(f"note: {absent.problem(name, why)}")
        return found

    files, engines, why = shared.call(work, is_trusted=asked.carry.is_trusted)
    count = f"{len(files)} file{'s' * (len(files) != 1)} would be reviewed"
    who = ", ".join(f"`{name}`" for name in engines)
    closing = f"{count} by {who} ({why})" if files else "nothing would be reviewed"
    shared.result({"files": files, "engines": engines, "why": why}, lambda: "\n".join([*files, closing]))
    return 0
