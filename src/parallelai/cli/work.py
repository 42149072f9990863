"""`parallelai work …`: from a plan's workstreams to landed work."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parallelai.cli import completing
from parallelai.cli.flags import Carrying, carrying
from parallelai.cli.grammar import Group, group
from parallelai.cli.shared import Shared
from parallelai.errors import UsageError

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.options import CarryOut
    from parallelai.plan.model import Plan
    from parallelai.records import RunDocument

_name = click.argument("name", shell_complete=completing.streams)
_names = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completing.streams)
_plan = click.argument("plan", metavar="PLAN", type=click.Path())
_branches = click.option(
    "--branches", multiple=True, metavar="PATTERN…", help="Any branches instead, as git's patterns."
)


@group(
    sections={
        "Commands that carry out": ("run", "start", "pause", "resume", "stop"),
        "Commands that show": (
            "status",
            "logs",
            "diff",
            "context",
            "attach",
            "conflicts",
            "ledger",
            "decisions",
        ),
        "Commands that steer": ("send", "done", "approve", "reject", "lease", "drop"),
        "Commands that bring it home": ("sync", "land", "undo", "clean", "hooks", "merge-driver"),
    }
)
def work() -> None:
    """Develop side by side: a worktree, a branch and an assistant for each workstream; landed behind gates."""


# -- carrying out


@work.command()
@_plan
@_names
def start(shared: Shared, plan: str, names: tuple[str, ...]) -> int:
    """Make a branch and a worktree for each workstream of PLAN, or for those named; your checkout stays as it is."""
    from parallelai.cli import streams

    started = shared.call(lambda ai: ai.work.start(plan, names))
    return streams.print_started(shared, started)


@work.command()
@_plan
@carrying
def run(shared: Shared, plan: str, **given: Any) -> int:
    """Carry PLAN out: start what is ready, guard, land, clean. Goes on with its latest run unless `--new`."""
    from parallelai.cli.carry import carry_out
    from parallelai.plan.model import positions
    from parallelai.plan.source import is_task_list

    def check(loaded: Plan) -> None:
        if not loaded.workstreams and not positions(loaded).finished:
            left = " left" if is_task_list(Path(plan)) else ""
            raise UsageError(
                f"`{plan}` has no workstreams{left}", next=f"`parallelai execute {plan}` runs its tasks"
            )

    asked = Carrying.of(given)
    if asked.is_dry:
        from parallelai.cli.execute import preview

        carry = dataclasses.replace(asked.carry, is_resume=not asked.carry.is_new)
        return preview(shared, plan, dataclasses.replace(asked, carry=carry), check)

    async def call(ai: AsyncParallelAI, carry: CarryOut) -> RunDocument:
        loaded, name = await ai.load_plan(plan, carry.variables)
        check(loaded)
        return await ai.work.run(loaded, name, carry)

    return carry_out(shared, asked, call)


# -- looking


@work.command()
@_names
@click.option(
    "--write", type=click.Path(), metavar="FILE", help="Write it as Markdown, and tick a task file's boxes."
)
@click.option(
    "--watch", "is_watching", is_flag=True, help="Keep the file, or the table, current until Ctrl-C."
)
@click.option("--all", "is_all", is_flag=True, help="Also what has landed or was dropped.")
def status(shared: Shared, names: tuple[str, ...], write: str | None, is_watching: bool, is_all: bool) -> int:
    """Say of each workstream where it stands, and whether it is ready to land, or why not."""
    from parallelai.cli import streams

    return streams.print_status(shared, names, write=write, is_watching=is_watching, is_all=is_all)


@work.command()
@_name
@click.option("--follow", "-f", "is_following", is_flag=True, help="Go on until the run ends.")
def logs(shared: Shared, name: str, is_following: bool) -> int:
    """Print what the assistant of a workstream said and did; with --follow the run's events as they come."""
    from parallelai.cli import following, listings

    run_id = shared.read(lambda ai: ai.work.run_of(name))
    return following.follow(shared, run_id) if is_following else listings.print_streams(shared, run_id, name)


@work.command()
@_name
def diff(shared: Shared, name: str) -> int:
    """Show all that a workstream changed since it was cut, committed or not."""
    from parallelai.cli import streams

    return streams.print_diff(shared, name)


@work.command()
@_name
@click.option(
    "--plan", type=click.Path(), metavar="FILE", help="The plan, where the workstream is not started yet."
)
def context(shared: Shared, name: str, plan: str | None) -> int:
    """Show what an assistant is told of a workstream, and how many tokens that takes."""
    from parallelai.cli import streams

    return streams.print_context(shared, shared.call(lambda ai: ai.work.context(name, plan)))


@work.command()
@_name
@click.option("--print", "is_printed", is_flag=True, help="Print the command instead of running it.")
def attach(shared: Shared, name: str, is_printed: bool) -> int:
    """Open the assistant's own session in the worktree; a shell where there is none."""
    from parallelai.cli import streams

    return streams.attach(shared, name, is_printed=is_printed or shared.is_json)


@work.command()
@click.argument("more", nargs=-1, metavar="")
@click.option("--plan", type=click.Path(), metavar="FILE", help="Only the workstreams of this plan.")
@_branches
@click.option(
    "--base", metavar="REV", help="With --branches: what they are compared with (default: the target)."
)
@click.option(
    "--target", metavar="BRANCH", help="The branch to land on (default: the one that is checked out)."
)
@click.option("--watch", "is_watching", is_flag=True, help="Tell each change of the picture until Ctrl-C.")
@click.option("--fail", "is_failing", is_flag=True, help="Exit with 1 where two do not fit together.")
@click.option(
    "--shadow", "is_shadow", is_flag=True, help="Try a landing of all, gates included; nothing moves."
)
@click.option(
    "--gate", "gates", multiple=True, metavar="CMD", help="With --shadow: the gate, instead of the plan's."
)
@click.option(
    "--allow-red-base",
    "is_red_allowed",
    is_flag=True,
    help="With --shadow: also where the gate fails on the base.",
)
def conflicts(shared: Shared, **given: Any) -> int:
    """Say which workstreams, or branches, do not fit together, from what is in their worktrees now."""
    from parallelai.cli import streams

    return streams.print_conflicts(shared, **given)


@work.command()
def ledger(shared: Shared) -> int:
    """Show who holds which port, database name, folder, memory share and heavy slot on this machine."""
    from parallelai.cli import streams

    return streams.print_ledger(shared)


@work.command()
@click.option("--forget", metavar="KEY", help="Forget one, so that its conflict is settled anew.")
def decisions(shared: Shared, forget: str | None) -> int:
    """List how conflicts were settled: the same one is settled the same way."""
    from parallelai.cli import streams

    return streams.print_decisions(shared, forget)


# -- steering


@work.command()
@click.argument("name", shell_complete=completing.streams)
@click.argument("text")
def send(shared: Shared, name: str, text: str) -> int:
    """Tell the assistant of a workstream something; one that is between turns gets it with the next."""
    return _told(shared, shared.call(lambda ai: ai.work.send(name, text)))


@work.command()
@_names
def pause(shared: Shared, names: tuple[str, ...]) -> int:
    """Let the run start nothing more until `work resume`."""
    return _told(shared, shared.call(lambda ai: ai.work.ask("pause", names)))


@work.command()
@_names
def resume(shared: Shared, names: tuple[str, ...]) -> int:
    """Let a paused run go on."""
    return _told(shared, shared.call(lambda ai: ai.work.ask("resume", names)))


@work.command()
@_names
def stop(shared: Shared, names: tuple[str, ...]) -> int:
    """End the assistants of workstreams, or of all; their worktrees stay, and `work run` goes on with them."""
    return _told(shared, shared.call(lambda ai: ai.work.ask("stop", names)))


@work.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=completing.streams)
def done(shared: Shared, names: tuple[str, ...]) -> int:
    """Say that worktrees are ready to land as they are, whoever worked in them."""
    return _told(shared, shared.call(lambda ai: ai.work.done(*names)))


@work.command()
@_name
@click.option(
    "--result",
    metavar="MARK",
    help="What you looked at: the mark that `runs show` names, or a workstream's commit. Anything else is refused.",
)
def approve(shared: Shared, name: str, result: str | None) -> int:
    """Give leave that a workstream lands, or that what a task came to counts, where its plan says `approve: true`."""
    return _told(shared, shared.call(lambda ai: ai.work.approve(name, result)))


@work.command()
@_name
@click.option("--reason", default="", metavar="TEXT", help="What is to be changed; the assistant is told.")
def reject(shared: Shared, name: str, reason: str) -> int:
    """Refuse that a workstream lands: it is worked on again, or ends blocked. A task that is refused fails."""
    return _told(shared, shared.call(lambda ai: ai.work.reject(name, reason)))


@work.command()
@_name
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def lease(shared: Shared, name: str, paths: tuple[str, ...]) -> int:
    """Give a workstream leave to change files that are protected, or shared."""
    return _told(shared, shared.call(lambda ai: ai.work.lease(name, paths)))


@work.command()
@_name
def drop(shared: Shared, name: str) -> int:
    """Give a workstream up; its work is kept as a patch, its worktree and branch are removed."""
    # Who asks for what is not there need not answer first.
    stream = shared.read(lambda ai: ai.work.find(name))
    if stream.state != "landed" and not shared.confirm(f"Give up `{name}`? Its work is kept as a patch."):
        return _told(shared, "nothing was dropped")
    return _told(shared, shared.call(lambda ai: ai.work.drop(name)))


# -- bringing it home


@work.command()
@_names
def sync(shared: Shared, names: tuple[str, ...]) -> int:
    """Bring what has landed since into the worktrees of workstreams that are between turns."""
    from parallelai.cli import streams

    return streams.print_synced(shared, shared.call(lambda ai: ai.work.sync(names)))


@work.command()
@_names
@click.option("--all", "is_all", is_flag=True, help="All that are ready.")
@_branches
@click.option(
    "--target", metavar="BRANCH", help="The branch to land on (default: the one that is checked out)."
)
@click.option(
    "--gate", "gates", multiple=True, metavar="CMD", help="What has to pass, instead of the plan's gates."
)
@click.option(
    "--method", type=click.Choice(["merge", "squash", "rebase"]), help="How (default: the plan's, or merge)."
)
@click.option("--push", "is_pushed", is_flag=True, help="Push the target afterwards.")
@click.option(
    "--allow-red-base", "is_red_allowed", is_flag=True, help="Also where the gate fails on the base."
)
@click.option(
    "--engine",
    metavar="NAME",
    shell_complete=completing.engines,
    help="Who settles conflicts that no rule can.",
)
@click.option("--dry-run", "is_dry", is_flag=True, help="Show the order, expected conflicts and gate runs.")
def land(shared: Shared, **given: Any) -> int:
    """Land workstreams that are ready, or branches: in order, behind the gates, all good ones."""
    from parallelai.cli import landing

    return landing.land(shared, **given)


@work.command()
@_names
@click.option(
    "--gate", "gates", multiple=True, metavar="CMD", help="What has to pass, instead of the plan's gates."
)
def undo(shared: Shared, names: tuple[str, ...], gates: tuple[str, ...]) -> int:
    """Take landings back by new, gated commits; without NAME the latest."""
    from parallelai.cli import landing

    return landing.undo(shared, names, gates)


@work.command()
@click.option("--dry-run", "is_dry", is_flag=True, help="Only list.")
@click.option(
    "--left",
    multiple=True,
    metavar="NAME",
    help="Instead, let go of what is kept in git of worktrees: a workstream's, or one by its name ('*' is all).",
)
def clean(shared: Shared, is_dry: bool, left: tuple[str, ...]) -> int:
    """Remove what has landed and is clean; list all else with the command that would rescue it."""
    from parallelai.cli import streams

    if left:
        return streams.let_go(shared, left, is_dry=is_dry)
    return streams.print_cleaned(shared, shared.call(lambda ai: ai.work.clean(is_dry=is_dry)), is_dry=is_dry)


# -- git


@work.group(cls=Group)  # click's own group would not give `shared` to its commands
def hooks() -> None:
    """Give people in worktrees the guard's check: git hooks that refuse a commit or a push."""


@hooks.command("install")
def install_(shared: Shared) -> int:
    """Install a pre-commit and a pre-push hook; your own are kept, and run first."""
    return _told(shared, shared.call(lambda ai: ai.work.install_hooks()))


@hooks.command("uninstall")
def uninstall_(shared: Shared) -> int:
    """Take the hooks out again; what was there before is put back."""
    return _told(shared, shared.call(lambda ai: ai.work.uninstall_hooks()))


@work.command("guard-check", hidden=True)
@click.option("--staged", "is_staged", is_flag=True, help="What is about to be committed.")
@click.option("--push", "is_push", is_flag=True, help="What is about to be pushed; git tells it on stdin.")
@click.argument("rest", nargs=-1)
def guard_check(shared: Shared, is_staged: bool, is_push: bool, rest: tuple[str, ...]) -> int:
    """The check that the hooks make; git's own arguments (`rest`) are not needed."""
    from parallelai.cli import streams

    return streams.guard_check(shared, is_staged=is_staged or not is_push)


@work.command("merge-driver")
@click.argument("base", type=click.Path())
@click.argument("ours", type=click.Path())
@click.argument("theirs", type=click.Path())
@click.argument("path")
def merge_driver(shared: Shared, base: str, ours: str, theirs: str, path: str) -> int:
    """Settle one file for git: `driver = parallelai work merge-driver %O %A %B %P` in a git config."""
    from parallelai.work.resolvers.merge_driver import drive

    return drive(Path(base), Path(ours), Path(theirs), path)


def _told(shared: Shared, said: str) -> int:
    shared.result({"said": said}, said)
    return 0
