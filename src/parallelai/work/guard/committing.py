"""What stays becomes a commit of the user's on the workstream's branch; the worktree's index follows."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from parallelai.errors import Internal, Unavailable
from parallelai.git.plumbing import failure, is_full
from parallelai.processes.removing import remove
from parallelai.work.guard.place import Place
from parallelai.work.streams.indexes import put_index


async def bring_objects(place: Place, tree: str, head: str) -> None:
    """Bring the objects of a tree into the repository; what was kept out stays outside."""
    listed = await place.plumbing().run(
        "rev-list", "--objects", "--no-object-names", "--missing=allow-any", tree, f"^{head}", "--"
    )
    names = listed.decode().split()
    await asyncio.to_thread(
        _bring, place.settings.objects, place.settings.repository.common / "objects", names
    )


def _bring(source: Path, target: Path, names: list[str]) -> None:
    for name in names:
        ours, theirs = (folder / name[:2] / name[2:] for folder in (source, target))
        if theirs.exists() or not ours.exists():
            continue
        theirs.parent.mkdir(exist_ok=True)
        part = theirs.with_name(f"tmp_obj_parallelai_{secrets.token_hex(8)}")  # others may bring it, too
        try:
            shutil.copyfile(ours, part)
            part.chmod(0o444)
            part.replace(theirs)
        finally:
            part.unlink(missing_ok=True)


Trailers = Mapping[str, str | Sequence[str]]
"""What ends a commit's message, by key; several values have a line each."""


async def make_commit(place: Place, tree: str, head: str, message: str, trailers: Trailers) -> str:
    """Make a commit as the user's git would: their identity, signed where they sign.

    Raises `Unavailable` where git knows no identity, or cannot sign, `StoreFullError`, and `GitError` where what it is
    made of is gone.
    """
    repository = place.settings.repository
    settings = await repository.settings(r"^commit\.gpgsign$", repository.root, {})
    signs = settings.get("commit.gpgsign", "false").lower()
    sign = ("-S",) if signs in ("true", "yes", "on", "1", "") else ()
    arguments = ("-c", "core.hooksPath=/dev/null", "commit-tree", *sign, tree, "-p", head, "-F", "-")
    done = await repository.as_user(*arguments, stdin=worded(message, trailers).encode())
    if is_full(done) or b"not a valid object" in done.stderr:
        raise failure(("commit-tree",), done)
    if done.exit != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        said = next((line for line in reversed(lines) if line.strip()), f"exit {done.exit}")
        advice = "set `user.name` and `user.email`, or correct how git signs; then run the same command again"
        raise Unavailable(f"git could not make the commit: {said.removeprefix('fatal: ')}", next=advice)
    return done.stdout.decode().strip()


async def refuse_incomplete(place: Place, commit: str, head: str) -> None:
    """Raise `GitError` where something of a commit is not in the repository, which `head` has not."""
    git = place.settings.repository.git
    await git.run("rev-list", "--objects", "--quiet", "--missing=allow-promisor", commit, f"^{head}", "--")


def worded(message: str, trailers: Trailers) -> str:
    """A commit's message with its trailers at the end, each on one line.

    Lines of the message stay as they are, but for what ends a text or a line elsewhere than at its end.
    """
    text = message.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").strip("\n")
    pairs = [
        (key, each)
        for key, value in trailers.items()
        for each in ([value] if isinstance(value, str) else value)
    ]
    lines = [f"{key}: {' '.join(value.split())}" for key, value in pairs]
    return (text or "Work") + "\n" + ("\n" + "\n".join(lines) + "\n" if lines else "")


async def move_branch(place: Place, commit: str, head: str) -> None:
    """Move the branch to its new commit. Raises `Internal` where somebody moved it meanwhile."""
    settings = place.settings
    if not await settings.repository.move(settings.ref, commit, head, "parallelai: commit"):
        said = f"the branch `{settings.branch}` was moved meanwhile"
        raise Internal(said, next="run the same command again", retry_helps=True)


async def reset_index(place: Place, head: str) -> bool:
    """Let the worktree's own index say what `head` has; False where somebody holds its lock.

    Objects that nobody decided upon are not named in it: they are not in the repository.
    """
    index = place.settings.index.with_name("worktree-index")
    await asyncio.to_thread(shutil.copy2, place.settings.index, index)
    # With `-i` git does not look at the files, which a filter may make something else of each time.
    await place.run("read-tree", "-i", "-m", head, index=index)
    return await asyncio.to_thread(refresh_index, place, index)


def refresh_index(place: Place, index: Path | None = None) -> bool:
    """Let the worktree's own index say what was measured last; False where somebody holds its lock.

    Its time goes with it: git takes a file as unchanged only if the index was written later.
    """
    try:
        put_index(index or place.settings.index, place.git_dir / "index")
    except FileExistsError:
        return False
    return True


def forget_objects(place: Place) -> None:
    """Drop the objects of what was kept out, once what stays is in the repository."""
    remove(place.settings.objects)
