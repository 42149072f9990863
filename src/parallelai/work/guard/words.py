"""What is said of what was kept out: to people, in events, and to the assistant whose change it was."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Literal

from parallelai.results.printable import visible
from parallelai.work.guard.rules import BY_PERSON, LEASABLE, Out, Why
from parallelai.work.scratch.workspaces import as_text

MOST_PATHS = 20
"""How many paths are named to an assistant; the rest is counted."""

_NO_TEXT = re.compile(r"\\udc[89a-f][0-9a-f]")
"""What `as_text` makes of a byte that is no text."""
_TAKES_OUT = {
    "commit": "`git restore --staged PATH` takes a file out of the commit",
    "push": "`parallelai work done {name}` takes it out of the branch, and keeps it as a patch",
}
"""What a person does without what is refused."""

_WHY: Mapping[Why, str] = {
    "not_owned": "not among the files that it owns",
    "shared": "shared by several: it takes a lease",
    "generated": "generated: its tool makes it again when its source has landed",
    "avoided": "among the files that it must avoid: a person has to give leave",
    "protected": "protected: a person has to give leave",
    "gits_own": "a name that git keeps for itself",
    "leads_out": "a link that leads out of the project, or into git's own folder",
    "clash": "another name of an existing file, for file systems without upper and lower case",
    "in_the_way": "in the place of a file or folder that stays",
    "unpublished": "a submodule's commit that none of its remotes has, as far as the main checkout knows (`git fetch`"
    " in the submodule there): it would be lost with the worktree",
    "annexed": "the content of a file of git-annex's, of which git keeps a pointer; git-annex does not run where"
    " assistants work: such files are changed in the user's checkout",
    "no_file": "no file: a pipe, a socket or a device",
    "too_large": "larger than 100 MB",
    "repository": "a repository of its own inside, and no submodule",
    "inside": "a file of a submodule, which is another repository: such changes are made and published there",
    "unreadable": "not readable",
    "unseen": "the worktree did not have it (`sparse`), so nobody has read what it would replace: it is there now",
}


def why(reason: Why) -> str:
    """Say in words why something is kept out."""
    return _WHY[reason]


def shown(path: str) -> str:
    """A path in back-ticks, on one line, whatever its name is made of."""
    return f"`{visible(as_text(path))}`"


def for_assistant(
    out: Sequence[Out], patches: Sequence[str], notes: Sequence[str], secrets: Sequence[str]
) -> str:
    """Tell an assistant what was kept out of its work, where it is, and what it can do; nothing if all is well.

    Args:
        patches: where what was kept out lies, from the root.
        notes: what had to be put right in git.
        secrets: paths that hold what looks like a secret.
    """
    parts: list[str] = []
    if out:
        parts.append("These changes are not part of your work, and the files are as they were before:")
        parts.append("\n".join(_lines(out)))
        if patches:
            parts.append("Nothing is lost; what you wrote is kept in " + ", ".join(map(shown, patches)) + ".")
        parts.append(_advice(out))
    if secrets:
        named = ", ".join(shown(path) for path in secrets[:MOST_PATHS])
        parts.append(
            f"What looks like a secret is in {named}. Nothing of your work can be taken over before it is gone:"
            " take it out, and read it from the environment instead."
        )
    if notes:
        parts.append(
            "Put right in git, where you need not commit, branch or stash: " + "; ".join(notes) + "."
        )
    return "\n\n".join(parts)


def for_person(
    name: str,
    out: Sequence[Out],
    secrets: Sequence[str],
    act: Literal["commit", "push"] = "commit",
    brought: Sequence[str] = (),
) -> str:
    """Tell a person in the worktree of the workstream `name` what is refused there, why, and what to do.

    `brought` are paths that came along from the main checkout: no leave makes them a part of the work.
    """
    parts: list[str] = []
    if brought:
        named = " ".join(shlex.quote(visible(as_text(path))) for path in brought[:MOST_PATHS])
        parts.append(
            f"The {act} is refused. ParallelAI brought this here (`workspace`), and it is no part of the work: {named}"
        )
        takes_out = f"`git restore --staged {named}` takes it out of the commit"
        if act == "push":
            takes_out = _TAKES_OUT[act].format(name=name)
        parts.append(
            f"{takes_out}; a line of `.gitignore` without a `/` at its end means links of folders, too."
        )
    if out:
        parts.append(f"The {act} is refused. The workstream {shown(name)} may not change this:")
        parts += _lines(out)
        parts.append(f"{_TAKES_OUT[act].format(name=name)}{_leave(name, out)}.")
    if secrets:
        named = ", ".join(shown(path) for path in secrets[:MOST_PATHS])
        parts.append(f"The {act} is refused. What looks like a secret is in {named}: take it out.")
    return "\n".join(parts)


def _leave(name: str, out: Sequence[Out]) -> str:
    """The command by which a person gives leave, where leave can be given."""
    wanted = [each for each in out if each.why in LEASABLE | BY_PERSON]
    paths = dict.fromkeys(as_text(path) for each in wanted for path in _asked(each))
    if not paths:
        return ""
    return (
        f"; `{gives_leave(name, tuple(paths))}` gives leave to change {'it' if len(paths) == 1 else 'them'}"
    )


def gives_leave(name: str, paths: Sequence[str], most: int = MOST_PATHS) -> str:
    """The command that gives leave for paths; `PATH...` stands for more, and for names that cannot be shown."""
    named = [path for path in paths[:most] if visible(path) == path and not _NO_TEXT.search(path)]
    rest = ["PATH..."] if len(named) < len(paths) else []
    dashes = ["--"] if any(path.startswith("-") for path in named) else []
    return " ".join(["parallelai work lease", shlex.join([name, *dashes, *named]), *rest])


def _lines(out: Sequence[Out]) -> list[str]:
    lines = []
    for each in out[:MOST_PATHS]:
        change = each.change
        name = shown(change.path)
        if change.old_path is not None:
            name = f"{shown(change.old_path)} → {name}"
        about = f" (see {shown(each.about)})" if each.about is not None else ""
        lines.append(f"- {name}: {why(each.why)}{about}")
    if len(out) > MOST_PATHS:
        lines.append(f"- and {len(out) - MOST_PATHS} more")
    return lines


def _advice(out: Sequence[Out]) -> str:
    asked = sorted({path for each in out if each.why in LEASABLE for path in _asked(each)})
    words = "Put your work right without them, if you can."
    if asked:
        paths = [as_text(path) for path in asked[:MOST_PATHS]]
        lease = json.dumps({"lease": paths[0] if len(paths) == 1 else paths, "reason": "why you need it"})
        words += (
            f" If you cannot, ask for a lease at the very end of your answer:\n\n```parallelai\n{lease}\n```"
        )
    if any(each.why == "unseen" for each in out):
        words += " What the worktree did not have is in it now: read it, and make your change on top of that."
    if any(each.why in BY_PERSON for each in out):
        words += (
            "\n\nWhat needs a person's leave may be asked for in the same way; you may have to wait for it."
        )
    return words


def _asked(out: Out) -> tuple[str, ...]:
    return (out.about,) if out.about is not None else out.change.paths
