"""`parallelai trust`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared
from parallelai.errors import UsageError

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI


@command()
@click.option("--revoke", "is_revoked", is_flag=True, help="Take trust back, or the consent to engines.")
@click.argument("engines", nargs=-1, metavar="[ENGINE]...")
def trust(shared: Shared, is_revoked: bool, engines: tuple[str, ...]) -> int:
    """Let what this project's config names run, until the config changes.

    Assistants then obey their own settings, hooks and tool servers in it, too.

    With --revoke and engines: take back that `auto` may take them, for all projects.
    """
    from parallelai.client import setup

    if engines and not is_revoked:
        raise UsageError(
            "trust is for the project's config, not for an engine",
            next="`parallelai review --engine NAME` takes an engine; `--revoke NAME` takes consent back",
        )
    if engines:
        return _take_back(shared, engines)

    async def work(ai: AsyncParallelAI) -> tuple[str, str, str | None, tuple[str, ...]]:
        root = str(ai.project.root)
        if is_revoked:
            was_trusted = setup.untrust(ai.project)
            said = "not trusted any more" if was_trusted else "there was no trust to take back"
            return root, said, None, ()
        gained = ai.project.untrusted  # what does not hold yet
        digest = setup.trust(ai.project)
        return root, "trusted", digest, gained

    root, said, digest, gained = shared.call(work)
    as_it_is = ", as its config is now" if digest else ""
    lines = [f"{said}: {root}{as_it_is}", *(f"  now holds: {key}" for key in gained)]
    shared.result({"project": root, "digest": digest, "now_holds": list(gained)}, "\n".join(lines))
    return 0


def _take_back(shared: Shared, engines: tuple[str, ...]) -> int:
    """Forget that `auto` may take these engines."""
    from parallelai.client import consent

    async def work(ai: AsyncParallelAI) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return consent.take_back(ai.project, engines)

    revoked, kept = shared.call(work)
    lines = [f"`auto` takes `{name}` no more, until you agree again" for name in revoked]
    lines += [f"nobody had agreed to `{name}`" for name in engines if name not in {*revoked, *kept}]
    lines += [f"your config still agrees to `{name}`: take it out of `consent`" for name in kept]
    shared.result({"revoked": list(revoked), "in_config": list(kept)}, "\n".join(lines))
    return 0
