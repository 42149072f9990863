"""git hooks that give people the guard's check, and the check that they make.

A hook that is there already is moved beside ours, which runs it first, with the same arguments and input; taking
ours out moves it back. A folder of hooks that belongs to the project (`core.hooksPath` in the checkout) is
committed by people, and differs between worktrees: there the line to add is named instead.
(What git calls, and with what: githooks(5).)
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from parallelai.errors import ParallelAIError, UsageError
from parallelai.git.attributes import Attributes, merge_all
from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository
from parallelai.work.guard import facts, words
from parallelai.work.guard.measure import is_below, rows_of, with_targets
from parallelai.work.guard.place import git_dir_of, names_of, no_secrets
from parallelai.work.guard.published import unpublished
from parallelai.work.guard.rules import Judged, Out, judge
from parallelai.work.streams.adopting import brought_in
from parallelai.work.streams.now import current
from parallelai.work.streams.places import first_line
from parallelai.work.streams.record import Stream
from parallelai.work.streams.taking_over import settling

_MARK = "# Made by `parallelai work hooks install`; `parallelai work hooks uninstall` takes it out."
_BEFORE = ".before-parallelai"
LANDING = "PARALLELAI_LANDING"
"""The variable that tells a hook of a landing's commit, which is no person's."""
_COMMIT = """\
#!/bin/sh
{mark}
before="$(dirname -- "$0")/{name}{suffix}"
if [ -x "$before" ]; then
  "$before" "$@" || exit $?
fi
[ -z "${{{landing}-}}" ] || exit 0
command -v {program} >/dev/null 2>&1 || exit 0
exec {command} work guard-check --staged
"""
_PUSH = """\
#!/bin/sh
{mark}
before="$(dirname -- "$0")/{name}{suffix}"
pushed="$(cat; printf x)"
pushed="${{pushed%x}}"
if [ -x "$before" ]; then
  printf '%s' "$pushed" | "$before" "$@" || exit $?
fi
command -v {program} >/dev/null 2>&1 || exit 0
printf '%s' "$pushed" | {command} work guard-check --push -- "$@"
"""
_HOOKS = {"pre-commit": _COMMIT, "pre-push": _PUSH}


async def install(repository: Repository, command: Sequence[str] | None = None) -> list[str]:
    """Install the hooks; gives in words what was done, nothing where all was there already.

    `command` starts this program (default: this interpreter with the package).

    Raises:
        UsageError: the hooks belong to the project, or somebody put another hook over ours.
    """
    folder = await _folder(repository)
    argv = tuple(command or (sys.executable, "-m", "parallelai"))
    return await asyncio.to_thread(_install, folder, argv)


async def uninstall(repository: Repository) -> list[str]:
    """Take our hooks out, and put back what was there before; gives in words what was done."""
    return await asyncio.to_thread(_uninstall, await _folder(repository))


async def _folder(repository: Repository) -> Path:
    """The folder of hooks that git uses. Raises `UsageError` where it is part of the checkout."""
    folder = await facts.hooks_folder(repository)
    real = Path(os.path.realpath(folder))
    is_inside = real.is_relative_to(repository.root) and not real.is_relative_to(repository.common)
    if is_inside and not repository.is_bare:
        shown = os.path.relpath(folder, repository.root)
        files = shown.removesuffix("/_")  # what husky writes there is its own, and calls the files beside it
        raise UsageError(
            f"the hooks lie in `{shown}`, which is part of the project",
            next=f"add `parallelai work guard-check --staged` to `{files}/pre-commit`, and"
            f" `parallelai work guard-check --push` to `{files}/pre-push`, and commit that",
        )
    return folder


def _install(folder: Path, argv: Sequence[str]) -> list[str]:
    done = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, template in _HOOKS.items():
        hook, before = folder / name, folder / f"{name}{_BEFORE}"
        text = template.format(
            mark=_MARK,
            name=name,
            suffix=_BEFORE,
            landing=LANDING,
            program=shlex.quote(argv[0]),
            command=shlex.join(argv),
        )
        if _is_ours(hook):
            if hook.read_text(encoding="utf-8", errors="replace") != text:
                _write(hook, text)
                done.append(f"`{hook}` was renewed")
            continue
        is_there = os.path.lexists(hook)
        if is_there and os.path.lexists(before):
            said = f"somebody put another hook in place of ours at `{hook}`, and `{before}` is the one before that"
            raise UsageError(said, next=f"make one of the two, remove `{before}`, and install again")
        if is_there:
            hook.rename(before)
        _write(hook, text)
        done.append(f"`{hook}` was installed{_said_of(before) if is_there else ''}")
    return done


def _said_of(before: Path) -> str:
    """What becomes of a hook that was there: git runs none that is not executable, and neither does ours."""
    if os.access(before, os.X_OK):
        return f"; it runs `{before.name}` first, which was there"
    return f"; `{before.name}`, which was there, is not executable, and is not run, as before"


def _uninstall(folder: Path) -> list[str]:
    done = []
    for name in _HOOKS:
        hook, before = folder / name, folder / f"{name}{_BEFORE}"
        is_ours, is_kept = _is_ours(hook), os.path.lexists(before)
        if os.path.lexists(hook) and not is_ours:
            if is_kept:
                done.append(f"`{hook}` is not ours and was left; the one before it is `{before}`")
        elif is_kept:
            before.replace(hook)
            done.append(f"`{hook}` is what it was before")
        elif is_ours:
            hook.unlink()
            done.append(f"`{hook}` was removed")
    return done


def is_for_people(hook: Path) -> bool:
    """Whether a hook is ours, with none behind it that was there before: it has nothing to say of a landing."""
    return _is_ours(hook) and not os.access(hook.with_name(f"{hook.name}{_BEFORE}"), os.X_OK)


def _is_ours(hook: Path) -> bool:
    try:
        if hook.is_symlink() or hook.stat().st_size > 10_000:
            return False
        return _MARK in hook.read_text(encoding="utf-8", errors="replace").split("\n", 2)[:2]
    except OSError:
        return False


def _write(hook: Path, text: str) -> None:
    part = hook.with_name(f".{hook.name}.parallelai")
    part.write_text(text, encoding="utf-8")
    part.chmod(0o755)
    part.replace(hook)


# -- the check


class Checked(Struct, frozen=True):
    """What a hook has to say: what may not go on, in words (empty if all may), and warnings, which stop nothing."""

    refused: str = ""
    warnings: tuple[str, ...] = ()


def stream_at(streams: Iterable[Stream], folder: Path) -> Stream | None:
    """The workstream whose worktree a folder is in."""
    place = Path(os.path.realpath(folder))
    return next((each for each in streams if place.is_relative_to(os.path.realpath(each.worktree))), None)


async def check(
    repository: Repository,
    streams: Sequence[Stream],
    folder: Path,
    *,
    pushed: str | None = None,
    index_file: Path | None = None,
    secrets_in: Callable[[str], frozenset[str]] = no_secrets,
) -> Checked:
    """Make the check of a hook that git called in `folder`; a folder of no workstream passes.

    Args:
        streams: the unfinished ones.
        pushed: what git told the pre-push hook on its standard input; None is the pre-commit hook.
        index_file: the index that git named to the hook in `GIT_INDEX_FILE`, as an absolute path.

    Raises `GitError`.
    """
    if pushed is not None:
        return await _check_pushed(repository, streams, folder, pushed, secrets_in)
    stream = stream_at(streams, folder)
    if stream is None:
        return Checked()
    git, commit, base = await _next_commit(repository, stream, index_file)
    judged = await _judged(repository, git, stream, base, commit)
    secrets = await facts.secrets_in(git, base, commit, secrets_in)
    others = [each for each in streams if each.name != stream.name]
    out, brought = _parted(stream, judged)
    refused = words.for_person(stream.name, out, secrets, brought=brought)
    return Checked(refused, await clashes(repository, stream, commit, others))


def _parted(stream: Stream, judged: Judged) -> tuple[list[Out], list[str]]:
    """Part what may not go on into a person's own changes, and what was brought there: these by what was named."""
    tops = frozenset(stream.brought)
    out = [each for each in judged.out if not is_below(each.change.path, tops)]
    brought = [each.change.path for each in judged.out if is_below(each.change.path, tops)]
    return out, [top for top in stream.brought if any(is_below(path, frozenset((top,))) for path in brought)]


async def check_staged(repository: Repository, stream: Stream, *, index_file: Path | None = None) -> Judged:
    """Judge what the next commit in a workstream's worktree would change. Raises `GitError`."""
    git, commit, base = await _next_commit(repository, stream, index_file)
    return await _judged(repository, git, stream, base, commit)


async def check_push(repository: Repository, stream: Stream, commit: str) -> Judged:
    """Judge all that a workstream's branch changed of its target, as it is about to be pushed."""
    base = await _brought(repository, stream, commit) or stream.base
    return await _judged(repository, repository.git, stream, base, commit)


async def _check_pushed(
    repository: Repository,
    streams: Sequence[Stream],
    folder: Path,
    pushed: str,
    secrets_in: Callable[[str], frozenset[str]],
) -> Checked:
    """Check the branches of workstreams that git is about to push, wherever it was called."""
    refused: list[str] = []
    warnings: list[str] = []
    for line in pushed.splitlines():
        fields = line.split(" ")
        stream = _pushed(streams, folder, *fields) if len(fields) == 4 else None
        if stream is None or set(fields[1]) == {"0"}:
            continue
        base = await _brought(repository, stream, fields[1]) or stream.base
        judged = await _judged(repository, repository.git, stream, base, fields[1])
        secrets = await facts.secrets_in(repository.git, base, fields[1], secrets_in)
        out, brought = _parted(stream, judged)
        refused.append(words.for_person(stream.name, out, secrets, "push", brought))
        others = [each for each in streams if each.name != stream.name]
        warnings += await clashes(repository, stream, fields[1], others)
    return Checked("\n\n".join(filter(None, refused)), tuple(warnings))


def _pushed(
    streams: Sequence[Stream], folder: Path, local: str, _: str, remote: str, __: str
) -> Stream | None:
    """The workstream whose work is pushed: git names it as it was named to git, by a branch, `HEAD` or a commit."""
    branches = {f"refs/heads/{stream.branch}": stream for stream in streams}
    if local.startswith("refs/"):
        return branches.get(local)
    return branches.get(remote) or stream_at(streams, folder)


async def _git_at(repository: Repository, stream: Stream, index_file: Path | None) -> Git:
    """Plumbing on a worktree's HEAD and on the index that is to be committed."""
    git_dir = await asyncio.to_thread(git_dir_of, repository, Path(stream.worktree))
    env = {"GIT_COMMON_DIR": str(repository.common)}
    return Git(git_dir, index=index_file or git_dir / "index", env=env)


async def _next_commit(
    repository: Repository, stream: Stream, index_file: Path | None
) -> tuple[Git, str, str]:
    """What is staged, as a commit that no branch has, and the commit of which it says what is changed.

    That is HEAD; while the target is merged, what comes in of that: it is nobody's change there.
    """
    git = await _git_at(repository, stream, index_file)
    merging = await asyncio.to_thread(first_line, git.git_dir / "MERGE_HEAD")
    parents = ("HEAD", merging) if merging else ("HEAD",)
    words = (word for parent in parents for word in ("-p", parent))
    tree = await git.line("write-tree", "--missing-ok")
    commit = await git.line("commit-tree", tree, *words, "-m", "What is staged")
    brought = await _brought(repository, stream, merging) if merging else None
    return git, commit, brought or await git.line("rev-parse", "--verify", "HEAD^{commit}")


async def _brought(repository: Repository, stream: Stream, commit: str) -> str | None:
    """The newest commit of the target that a merge or a rebase brings to the branch with a commit, if it does."""
    target = await repository.commit(f"refs/heads/{stream.target}")
    return await brought_in(repository, stream, target, [commit]) if target is not None else None


async def _judged(repository: Repository, git: Git, stream: Stream, base: str, commit: str) -> Judged:
    sides = (f"{base}^{{tree}}", f"{commit}^{{tree}}")
    listed = await git.run("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "-M", *sides)
    rows = await with_targets(git, rows_of(listed), Path(stream.worktree))
    plan = facts.plan_below(repository.root, stream.plan)
    permits = await facts.permits_of(repository, stream.rules, stream.leases, plan, settling(stream))
    existing = names_of(await git.run("ls-tree", "-r", "-z", "--name-only", base)) if rows else []
    lost = await unpublished(repository.git, base, rows)
    return judge([row.change for row in rows], permits, existing=existing, unpublished=lost)


async def clashes(
    repository: Repository, stream: Stream, commit: str, others: Sequence[Stream]
) -> tuple[str, ...]:
    """Warn of workstreams of which git could not merge what is in their worktrees now with a commit of this one."""
    now = {each.name: await _now(repository, each) for each in others}
    there = {name: tip for name, tip in now.items() if tip is not None}
    pairs = [(commit, tip) for tip in there.values()]
    merged = await merge_all(Attributes(repository.git), pairs) if pairs else []
    warnings = []
    for name, one in zip(there, merged, strict=True):
        if not one.is_clean:
            paths = ", ".join(dict.fromkeys(words.shown(each.path) for each in one.conflicts))
            where = f" in {paths[:500]}" if paths else f": {one.said[0]}"
            warnings.append(f"this conflicts with the workstream {words.shown(name)}{where}")
    return tuple(warnings)


async def _now(repository: Repository, stream: Stream) -> str | None:
    """What is in a worktree, committed or not; its branch where that cannot be seen."""
    found = None
    try:
        found = await current(repository, stream)
    except* (ParallelAIError, OSError):  # its folder is gone, or goes just now
        pass
    return found or await repository.commit(f"refs/heads/{stream.branch}")
