"""What to tell the two sides of a pair: one paragraph, to people and to assistants."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence

from parallelai.errors import Conflict, ParallelAIError
from parallelai.plan.generators import Generators
from parallelai.plan.model import Plan
from parallelai.records import ConflictDocument, ConflictFile, ConflictPair
from parallelai.results.printable import visible
from parallelai.work.streams.beside import belongs_to
from parallelai.work.streams.markers import Marker, places

MOST = 5


def advice(pair: ConflictPair, *, is_with_target: bool = False) -> str:
    """Say what the matter is, and what each side should do about it; `pair.b` may be the target."""
    if pair.class_ == "logic":
        return (
            f"{_capital(pair.why or 'One side uses what the other changed')}. git merges both without a conflict,"
            " and the result would be broken. Who lands second adapts the use; if the old form is still needed,"
            " agree on it before either lands."
        )
    if pair.conflict and pair.why:
        return (
            f"{_capital(pair.why)}: git cannot merge that. One of them has to take another name; who lands second"
            " does that, or agrees on it with the other before."
        )
    where = _where(pair.files)
    both = f"`{pair.a}` and `{pair.b}`"
    if pair.is_deletion:
        return (
            f"Of {both} one changed what the other deleted{where}, and git cannot merge that. Agree whether it stays;"
            " who lands second takes that over."
        )
    if pair.conflict and pair.class_ == "function":
        return (
            f"{both} change different definitions at the same place{where}, and git cannot merge that. Keep both"
            " definitions: who lands second puts its own after the other's, unchanged."
        )
    if pair.conflict and is_with_target:
        return (
            f"What `{pair.a}` does and what `{pair.b}` has had since change the same lines{where}, and git cannot"
            f" merge that. Look at it with `git diff HEAD...{pair.b}`, take the new state over, and make the change"
            " again on top of it; do not undo the other's."
        )
    if pair.conflict:
        return (
            f"{both} change the same lines{where}, and git cannot merge that. One of them should wait until the"
            " other has landed, take the new state over, and make its change again on top of it; do not undo the"
            " other's."
        )
    if pair.class_ == "file":
        return (
            f"{both} edit the same definition{where}. It still merges; keep further edits there small, or let one"
            f" wait for the other. A conflict is likely with {pair.risk:.0%}."
        )
    return (
        f"{both} work close to each other{where}. It still merges; leave lines alone that are the other's. A"
        f" conflict is likely with {pair.risk:.0%}."
    )


def made_anew(found: ConflictDocument, plan: Callable[[], Plan]) -> ConflictDocument:
    """Say of conflicts in files that a plan calls generated that a landing makes these anew.

    The plan is read only where there is a conflict; one that cannot be read names none.
    """
    if not any(pair.conflict for pair in found.pairs):
        return found
    try:
        generators = Generators(plan().landing.generated)
    except ParallelAIError:  # whoever carries it out is told; conflicts are there without it
        return found
    pairs = tuple(_made_anew(pair, generators) for pair in found.pairs)
    return dataclasses.replace(found, pairs=pairs)


def _made_anew(pair: ConflictPair, generators: Generators) -> ConflictPair:
    made = [file.path for file in pair.files if generators.of(file.path) is not None]
    if not pair.conflict or not made:
        return pair
    said = f"a landing makes {listed(made)} anew, by the command that the plan names"
    return dataclasses.replace(pair, why=f"{pair.why}; {said}" if pair.why else said)


def has_landed(names: Sequence[str], target: str, where: str = "") -> str:
    """Say what has changed while a workstream waited, and `where` it does not fit.

    Without names it is what somebody else put on the target.
    """
    shown = ", ".join(f"`{name}`" for name in names) or f"`{target}`"
    what = f"{'has' if len(names) == 1 else 'have'} landed" if names else "has moved on"
    return f"{shown} {what}, and what you did conflicts with that{f' in {where}' if where else ''}."


def to_settle(files: Sequence[str]) -> str:
    """Say what to do about files with git's conflict markers, and about what lies beside others."""
    texts = [path for path in files if belongs_to(path) is None]
    others = [path for path in files if belongs_to(path) is not None]
    said = []
    if texts:
        said.append(
            f"git has written conflict markers into {listed(texts)}: above `=======` is what you did, below it what"
            " has landed. Settle each place so that both still do what they are meant to, and leave no marker."
        )
    if others:
        those = dict.fromkeys(belongs_to(path) or path for path in others)
        said.append(
            f"git cannot merge {listed(list(those))}, and there is no text to put markers into. The version of"
            f" another commit, or the only one that is left, lies beside it as {listed(others)}. Make of each file"
            " what it should be, or remove it, and then remove every file whose name ends in `~` and a commit: as"
            " long as one is there, nothing lands."
        )
    return " ".join(said)


def left_unsettled(name: str, files: Sequence[str]) -> Conflict:
    """The error of a workstream that cannot land because of conflicts that are left in it."""
    texts = [path for path in files if belongs_to(path) is None]
    others = [path for path in files if belongs_to(path) is not None]
    said = [f"conflict markers are left in {listed(texts)}"] * bool(texts)
    said += [f"{listed(others)} lies there still, beside a file that git could not merge"] * bool(others)
    how = "make of each file what it should be, and remove what ends in `~` and a commit; " if others else ""
    next = f"go on with the run, or settle it in its worktree: {how}then `parallelai work done {name}`"
    return Conflict(f"`{name}` cannot land: {', and '.join(said)}", next=next)


def marked(name: str, markers: Sequence[Marker]) -> Conflict:
    """The error of a workstream that brought conflict markers which no merge of ours has written."""
    return Conflict(f"`{name}` has conflict markers in {places(markers)}", next=what_to_do(name))


def what_to_do(name: str) -> str:
    """What a person does about conflict markers of a workstream."""
    return (
        f"settle them in its worktree, then `parallelai work done {name}`; if they are meant,"
        f" `parallelai work approve {name}` gives leave to land them"
    )


def marked_branch(name: str, markers: Sequence[Marker]) -> Conflict:
    """The error of a branch without a plan that brought conflict markers."""
    how = f"if they are meant, `git merge {shlex.quote(name)}` takes the branch as it is"
    return Conflict(
        f"it brings conflict markers in {places(markers)}",
        next=f"settle and commit them on `{visible(name)}`, then land it again; {how}",
    )


def listed(files: Sequence[str]) -> str:
    """Name files, the first few of many."""
    shown = ", ".join(f"`{visible(path)}`" for path in files[:MOST])
    return f"{shown} and {len(files) - MOST} more" if len(files) > MOST else shown


def _where(files: tuple[ConflictFile, ...]) -> str:
    if not files:
        return ""
    shown = [f"`{one.path}`{_what(one)}" for one in files[:MOST]]
    more = f" and {len(files) - MOST} more" if len(files) > MOST else ""
    return f" in {', '.join(shown)}{more}"


def _what(file: ConflictFile) -> str:
    if file.symbols:
        return f" ({', '.join(f'`{name}`' for name in file.symbols[:MOST])})"
    if file.places:
        return f" (lines {file.places[0].a[0]}-{file.places[0].a[1]})"
    return "" if file.kind == "content" else f" ({file.kind})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
