"""What `review` is: one task over the files that were asked for, and nothing else a plan could hold."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from parallelai.client.project import OpenProject
from parallelai.errors import NotFoundError, UsageError
from parallelai.git.listing import changed_since, staged
from parallelai.plan.files import FileTree, is_all_named, select, unmatched
from parallelai.plan.model import Plan, Task
from parallelai.records import FREE, Coverage, Outcome, RunDocument

TASK = "review"
TEMPLATE = "code-review"


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """What a review is about, beside how it is carried out.

    Attributes:
        patterns: file patterns, counted from the folder one is in; none is the whole project.
        since: a git revision; only files changed since then.
        staged: only files in git's index that differ from HEAD.
        template: the task template; it must give findings.
        checklist: what to look for.
        baseline: a file of accepted findings.
        base: the folder below the root that patterns count from.
    """

    patterns: tuple[str, ...] = ()
    since: str | None = None
    staged: bool = False
    template: str = TEMPLATE
    checklist: tuple[str, ...] = ()
    baseline: Path | None = None
    base: str = "."


def list_ahead(project: OpenProject, options: ReviewOptions) -> None:
    """Begin to list the project's files, if `chosen_files` will need the list."""
    if _is_list_needed(project, options):
        project.list_ahead()


async def listed_files(project: OpenProject, options: ReviewOptions) -> FileTree:
    """As `chosen_files`; whoever waits for the list of a large project may be interrupted."""
    if _is_list_needed(project, options):
        await project.listed()
    return chosen_files(project, options)


def _is_list_needed(project: OpenProject, options: ReviewOptions) -> bool:
    return not is_all_named(options.patterns, project.root, base=options.base)


def _is_ours(path: str) -> bool:
    """Whether a file is ParallelAI's own settings: nobody who names no file wants these reviewed."""
    return path == "parallelai.toml" or path.startswith(".parallelai/")


def chosen_files(project: OpenProject, options: ReviewOptions) -> FileTree:
    """Give the files of a review. There may be none of them with `since` and `staged` only."""
    if options.since is not None and options.staged:
        raise UsageError("`--since` and `--staged` exclude each other", next="give one of them")
    base = PurePosixPath(options.base)
    # A folder without git may be somebody's whole home: it is not walked through for files that are named.
    is_named = is_all_named(options.patterns, project.root, base=base)
    tree = FileTree(project.root, ()) if is_named else project.tree
    files = [path for path in tree.paths if not _is_ours(path)]
    if options.patterns:
        files = select(options.patterns, tree, base=base)
        lost = unmatched(options.patterns, tree, base=base)
        if lost:
            shown = ", ".join(f"`{pattern}`" for pattern in lost)
            raise UsageError(
                f"no file matches {shown}", next="patterns count from here, by git's rules; quote them"
            )
    if options.since is not None:
        changed = set(changed_since(project.root, options.since))
        return FileTree(project.root, tuple(file for file in files if file in changed))
    if options.staged:
        changed = set(staged(project.root, index_file=_index_file()))
        return FileTree(project.root, tuple(file for file in files if file in changed))
    if not files:
        raise UsageError("there is no file to review here", next="go to your project, or give `--project`")
    return FileTree(project.root, tuple(files))


def _index_file() -> Path | None:
    """The index that git names to its hooks, which may not be the usual one."""
    named = os.environ.get("GIT_INDEX_FILE")
    return Path(named) if named else None


def base_of(project: OpenProject) -> str:
    """The folder one is in, below the root; patterns count from there."""
    if not project.start.is_relative_to(project.root):
        return "."
    return project.start.relative_to(project.root).as_posix()


def plan_of(project: OpenProject, options: ReviewOptions, *, is_each: bool) -> Plan:
    """Make the plan of a review. With `is_each`, one instance for each file."""
    template = project.templates.get(options.template)
    if template is None:
        known = ", ".join(f"`{name}`" for name in sorted(project.templates))
        raise NotFoundError(f"there is no template `{options.template}`", next=f"there are {known}")
    if template.output != "findings":
        raise UsageError(
            f"template `{options.template}` does not give findings", next="use it in a plan's task instead"
        )
    task = Task(
        id=TASK,
        description="Review this file." if is_each else "Review these files.",
        template=options.template,
        files=("*",),  # of a tree that holds just the files that were asked for
        each="file" if is_each else None,
        checklist=options.checklist,
    )
    return Plan(name=TASK, tasks=(task,))


def review_name(options: ReviewOptions, engine: str) -> str:
    """What a review is known by: its patterns, template and engines."""
    asked = [options.patterns, options.since, options.staged, options.template, options.checklist, engine]
    digest = hashlib.blake2b(json.dumps(asked).encode(), digest_size=4).hexdigest()
    shown = " ".join(options.patterns).encode("utf-8", "backslashreplace").decode() or "everything"
    return f"review {shown[:60]} ({digest})"


def nothing_to_do(plan: str | None = None) -> RunDocument:
    """The document of a run of nothing: a review of changes where nothing changed, a plan in which all is done."""
    return RunDocument("", plan, 0, Outcome.OK, 0.0, 0.0, dict.fromkeys(Outcome, 0), FREE, files=Coverage())
