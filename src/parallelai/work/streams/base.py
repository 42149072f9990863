"""From where worktrees are cut: the target branch as it is here, or as the remote has it where that is ahead.

Nothing of the user's moves by it: what is fetched goes to a ref of ours, which is removed at once, and to the
remote-tracking branch that `git fetch` brings up to date beside it.
"""

from __future__ import annotations

import secrets
import shlex

from msgspec import Struct

from parallelai.errors import ParallelAIError, UsageError
from parallelai.git.repository import Repository
from parallelai.processes import Completed

FETCH_SECONDS = 60.0
"""How long a fetch may take before the local branch is taken."""
LANDING = "parallelai/landing/"
"""The branch of this name and the target's holds what landed while the user's checkout could not follow."""
RECORDED = "refs/parallelai/pending/"
"""Where it is written down what such a branch holds: assistants may write the branches beside their own."""
_QUIET = ("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "core.hooksPath=/dev/null")


class PendingError(ParallelAIError):
    """The branch of pending results cannot be moved, or does not fit to the target any more."""

    kind = "conflict"
    exit_code = 4


class Base(Struct, frozen=True):
    """The commit that worktrees are cut from, the branch that they land on, and what a person should know.

    `pending` is the branch that stands for the target until that contains it, None where there is none.
    """

    commit: str
    target: str
    note: str | None = None
    pending: str | None = None


class Upstream(Struct, frozen=True):
    """Where a branch comes from: a remote's name (or address) and the branch's name there."""

    remote: str
    branch: str


async def choose_base(repository: Repository, target: str | None, *, fetch: bool) -> Base:
    """Choose what worktrees are cut from.

    The local branch, unless the remote's is ahead of it; where that cannot be asked, the local one, and `note`
    says so.

    Args:
        target: the branch to land on; None is the one that is checked out in the main worktree.
        fetch: whether the remote may be asked (`fetch: never` is False).

    Raises:
        UsageError: HEAD is detached and no target is named, the branch has no commit, or it and the remote's
            have diverged.
    """
    name = await _target(repository, target)
    local = await _tip(repository, name)
    base = await _pending(repository, name, local)
    upstream = await find_upstream(repository, name)
    if upstream is None:
        return _noted(base, "there is no remote: the local branch is the base")
    if not fetch:
        return _noted(base, f"`{upstream.remote}` was not asked: the local branch is the base")
    remote, why = await fetch_branch(repository, upstream)
    if remote is None:
        return _noted(base, f"`{upstream.remote}` could not be asked ({why}): the local branch is the base")
    if await repository.ancestor(remote, base.commit):
        return base
    if not await repository.ancestor(base.commit, remote):
        raise await _diverged(repository, base, upstream)
    said = f"`{upstream.remote}` is ahead of the local `{name}`: its `{upstream.branch}` is the base"
    return _noted(Base(remote, name, base.note, base.pending), said)


def _noted(base: Base, said: str) -> Base:
    notes = [base.note, f"{said} (`{base.target}` at {base.commit[:10]})"]
    return Base(base.commit, base.target, "; ".join(note for note in notes if note), base.pending)


async def _target(repository: Repository, given: str | None) -> str:
    if given is None:
        branch = await repository.branch()
        if branch is None:
            raise UsageError(
                f"no branch is checked out in `{repository.root}` (HEAD is detached)",
                next="check out the branch to land on, or name it (`--target`, or `landing.target` in the plan)",
            )
        return branch
    name = given.removeprefix("refs/heads/")
    checked = await repository.git.attempt("check-ref-format", f"refs/heads/{name}")
    if checked.exit != 0 or name.startswith(("-", LANDING)) or name == "HEAD":
        raise UsageError(f"`{given!a}` is no name of a branch to land on")
    return name


async def _tip(repository: Repository, name: str) -> str:
    tip = await repository.commit(f"refs/heads/{name}")
    if tip is not None:
        return tip
    upstream = await find_upstream(repository, name)
    if upstream is not None:
        tracked = f"refs/remotes/{upstream.remote}/{upstream.branch}"
        if await repository.commit(tracked) is not None:
            command = f"git branch {shlex.quote(name)} {shlex.quote(f'{upstream.remote}/{upstream.branch}')}"
            raise UsageError(
                f"there is no branch `{name}` here, only on `{upstream.remote}`", next=f"`{command}`"
            )
    if await repository.branch() == name:
        raise UsageError(f"the branch `{name}` has no commit yet", next="make a first commit")
    raise UsageError(f"there is no branch `{name}` to land on", next="make it, or name another")


def recorded_ref(target: str) -> str:
    """The ref that says what the landings of a target left pending."""
    return f"{RECORDED}{target}"


async def pending_of(repository: Repository, target: str) -> str | None:
    """What landed on a target and waits to be taken over; None where nothing does.

    A branch of that name that no landing made counts for nothing: what is in it has passed no gate. Raises
    `PendingError` where somebody else moved the branch.
    """
    ref, record = f"refs/heads/{LANDING}{target}", recorded_ref(target)
    form = "--format=%(refname)%00%(objectname)%00%(symref)"
    listed = await repository.git.line("for-each-ref", form, ref, record)
    rows = (line.split("\0") for line in listed.split("\n") if line)
    found = {name: (commit, leads) for name, commit, leads in rows}
    recorded = found.get(record, (None, ""))[0]
    if recorded is None:
        return None
    commit, leads = found.get(ref, (None, ""))
    if commit == recorded and not leads:
        return recorded
    tip = await repository.commit(f"refs/heads/{target}")
    if tip is None or await repository.ancestor(recorded, tip):  # it was taken over
        await repository.delete(record, recorded)
        return None
    # It was deleted or put back; or a landing was killed before it came to move it.
    is_behind = commit is None or (not leads and await repository.ancestor(commit, recorded))
    if is_behind and await repository.move(ref, recorded, commit, "parallelai: landing"):
        return recorded
    raise PendingError(
        f"`{LANDING}{target}` holds what no landing put there; what landed is {recorded[:10]}",
        next=f"look at it: `git log {recorded[:10]}..{LANDING}{target}`; rename it, or merge what is good",
    )


async def _pending(repository: Repository, name: str, local: str) -> Base:
    """What landed and could not be taken over yet is what stands for the target (DESIGN §5)."""
    branch = f"{LANDING}{name}"
    tip = await pending_of(repository, name)
    if tip is None or await repository.ancestor(tip, local):
        return Base(local, name)
    said = f"`{branch}` holds what landed and `{name}` does not yet"
    if not await repository.ancestor(local, tip):
        raise UsageError(
            f"{said}, and `{name}` has commits that it has not",
            next=f"take it over: `git -C {shlex.quote(str(repository.root))} merge {shlex.quote(branch)}`",
        )
    return Base(tip, name, f"{said}: it is the base", branch)


async def find_upstream(repository: Repository, name: str) -> Upstream | None:
    """Say where a branch comes from: as its configuration says, else the same name on the only remote, or `origin`."""
    settings = await repository.git.configured(r"^(branch|remote)\.")
    # git gives the section and the key in lower case, and what is between as it was written.
    remote, merge = settings.get(f"branch.{name}.remote"), settings.get(f"branch.{name}.merge")
    if remote == ".":
        return None
    if remote and merge:
        return Upstream(remote, merge.removeprefix("refs/heads/"))
    remotes = {
        key.removeprefix("remote.").removesuffix(".url")
        for key in settings
        if key.startswith("remote.") and key.endswith(".url")
    }
    chosen = remote or ("origin" if "origin" in remotes else next(iter(remotes), None))
    return Upstream(chosen, name) if chosen and (len(remotes) == 1 or chosen in remotes) else None


async def fetch_branch(repository: Repository, upstream: Upstream) -> tuple[str | None, str]:
    """Ask a remote for a branch; gives its commit, or None and why there is none."""
    if upstream.remote.startswith("-"):
        return None, "its name begins with a dash"
    ref = f"refs/parallelai/fetched/{secrets.token_hex(8)}"
    words = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
    refspec = f"+refs/heads/{upstream.branch}:{ref}"
    done = await repository.as_user(
        *_QUIET, *words, "--end-of-options", upstream.remote, refspec, seconds=FETCH_SECONDS
    )
    # Also where git complains: another fetch may hold the remote-tracking branch, and ours is there.
    fetched = await repository.commit(ref)
    if fetched is not None:
        await repository.git.attempt("update-ref", "-d", ref)
        return fetched, ""
    return None, _words(done)


def _words(done: Completed) -> str:
    if done.ended_by is not None:
        return f"it did not answer within {FETCH_SECONDS:g} s"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[0].removeprefix("fatal: ")[:200] if lines else f"exit {done.exit}"


async def _diverged(repository: Repository, base: Base, upstream: Upstream) -> UsageError:
    there = f"{shlex.quote(upstream.remote)} {shlex.quote(upstream.branch)}"
    root = shlex.quote(str(repository.root))
    pull = f"git -C {root} pull --rebase {there}"
    if not repository.is_bare and await repository.branch() != base.target:
        pull = f"git -C {root} checkout {shlex.quote(base.target)} && {pull}"
    return UsageError(
        f"`{base.pending or base.target}` and `{upstream.branch}` of `{upstream.remote}` have diverged",
        next=f"bring them together first: `{pull}`",
    )
