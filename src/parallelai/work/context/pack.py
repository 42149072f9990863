"""Gathers what a workstream's assistant is told: from the plan, from a commit's files, from what others said."""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository
from parallelai.plan.files import Matcher
from parallelai.plan.model import Plan, Workstream
from parallelai.plan.resolve import role_of
from parallelai.plan.roles import instructions_of
from parallelai.work.context.index import Entry, entries_of, index_of
from parallelai.work.context.mapping import Symbol, draw, files_of
from parallelai.work.context.ranking import About, rank
from parallelai.work.context.text import Context, Convention, Inputs, Note, Part, Peer, compose
from parallelai.work.streams.rules import rules_in
from parallelai.work.symbols import definitions

__all__ = ["MAP_TOKENS", "Context", "Inputs", "Note", "Part", "compose", "context", "inputs_of", "symbols_of"]

MAP_TOKENS = 2_000
"""How large the map of symbols is where nobody says otherwise."""
CONVENTIONS = ("AGENTS.md", "CLAUDE.md")
"""The files in which repositories tell assistants how things are done."""
_MOST_NESTED = 10
_WORD = re.compile(r"[A-Za-z_$][\w$]{2,99}")


async def context(
    repository: Repository,
    plan: Plan,
    name: str,
    *,
    commit: str,
    target: str,
    landed: Collection[str] = (),
    notes: Sequence[Note] = (),
    task: str | None = None,
    done: int = 0,
    has_hands: bool = True,
    with_role: bool = True,
    with_todo: bool = True,
    map_tokens: int = MAP_TOKENS,
    cache: Path | None = None,
) -> Context:
    """Write the context of a workstream.

    Args:
        plan: the whole plan, with the roles that it names (`plan.roles.with_roles`) and what config adds to it.
        commit: what is in the worktree; conventions and symbols are those of its files.
        target: the branch that the plan lands on.
        landed: names of workstreams whose work is in `commit` already.
        notes: what others said: finished interfaces, decisions, messages; in the order of their importance.
        task: what is asked, where that is more than the plan's description (a template, results of others).
        done: how many parts of `todo` are finished.
        has_hands: the engine opens files itself; else the conventions' text is in the context.
        with_role: with the role's instructions; not where the engine is told them as such.
        with_todo: with the parts of the task; not where the run gives them out one by one.
        map_tokens: how large the map may be; 0 leaves it out.
        cache: the folder in which what was found in files is kept.

    Raises:
        KeyError: the plan has no such workstream.
        GitError: the commit cannot be read.
    """
    entries = await entries_of(repository.git, commit)
    inputs = inputs_of(plan, name, target=target, paths=[entry.path for entry in entries])
    work = _work(plan, name)
    symbols = await symbols_of(repository, entries, inputs, plan, map_tokens, cache) if map_tokens else ""
    conventions = await _conventions(repository.git, commit, {entry.path for entry in entries})
    if not has_hands:
        conventions = await _with_texts(repository, entries, conventions)
    return compose(
        replace(
            inputs,
            description=inputs.description if task is None else task,
            conventions=conventions,
            landed=frozenset(landed),
            instructions=instructions_of(role_of(plan, work)) if with_role else None,
            todo=work.todo if with_todo else (),
            done=done,
            notes=tuple(notes),
            symbols=symbols,
        )
    )


def inputs_of(plan: Plan, name: str, *, target: str, paths: Iterable[str] = ()) -> Inputs:
    """Say what the plan alone, and the names of the files that there are, give of a workstream's context.

    Raises `KeyError` if the plan has no such workstream.
    """
    work = _work(plan, name)
    known = frozenset(paths)
    return Inputs(
        plan=plan.name or "workstreams",
        target=target,
        name=name,
        description=work.description,
        rules=rules_in(plan, name),
        peers=tuple(_peer(other) for other in plan.workstreams),
        about=plan.description or "",
        conventions=tuple(Convention(path) for path in CONVENTIONS if path in known),
        nested=_nested(work.owns, known),
    )


def _work(plan: Plan, name: str) -> Workstream:
    found = next((work for work in plan.workstreams if work.id == name), None)
    if found is None:
        raise KeyError(name)
    return found


def _peer(work: Workstream) -> Peer:
    return Peer(work.id, work.description, work.owns, work.depends_on, work.contracts)


async def _conventions(git: Git, commit: str, known: Collection[str]) -> tuple[Convention, ...]:
    """The files that hold the conventions of the whole repository: where one is a link, what that leads to."""
    leads: dict[str, str] = {}
    if not all(name in known for name in CONVENTIONS):
        listed = await git.run("ls-tree", "-z", "--full-tree", commit, "--", *CONVENTIONS)
        rows = (row.partition(b"\t") for row in listed.split(b"\0") if row.startswith(b"120000 "))
        links = {os.fsdecode(name): meta.split()[2].decode() for meta, _, name in rows}
        texts = await git.blobs(links.values()) if links else {}
        leads = {name: posixpath.normpath(os.fsdecode(texts.get(blob, b""))) for name, blob in links.items()}
    found: dict[str, None] = {}
    for name in CONVENTIONS:
        path = leads.get(name, name)
        path = leads.get(path, path)  # one of the two may lead to the other, and that elsewhere
        if path in known:
            found[path] = None
    return tuple(Convention(path) for path in found)


def _nested(owns: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Conventions in the folders above what a workstream owns, those nearest to the root first."""
    below = [path for path in known if PurePosixPath(path).name in CONVENTIONS and "/" in path]
    if not below:
        return ()
    owned = Matcher(owns)
    folders = {str(parent) for path in known if owned.selects(path) for parent in PurePosixPath(path).parents}
    found = [path for path in below if str(PurePosixPath(path).parent) in folders]
    return tuple(sorted(found, key=lambda path: (path.count("/"), path))[:_MOST_NESTED])


async def _with_texts(
    repository: Repository, entries: Sequence[Entry], conventions: Sequence[Convention]
) -> tuple[Convention, ...]:
    """The conventions with their text; one that says the same as another is told once."""
    blobs = {entry.path: entry.blob for entry in entries}
    wanted = {blobs[one.path]: one for one in reversed(conventions) if one.path in blobs}
    texts = await repository.git.blobs(wanted.keys())
    told = [
        replace(one, text=texts.get(blob, b"").decode("utf-8", "replace")) for blob, one in wanted.items()
    ]
    return tuple(reversed(told))


async def symbols_of(
    repository: Repository,
    entries: Sequence[Entry],
    inputs: Inputs,
    plan: Plan,
    tokens: int = MAP_TOKENS,
    cache: Path | None = None,
) -> str:
    """Draw the map of the symbols that matter for a workstream; empty where there are none."""
    about = _about(inputs, plan, [entry.path for entry in entries])
    indexed = await index_of(repository.git, entries, cache=cache, first=about.owned | about.interfaces)
    ranked = await asyncio.to_thread(rank, indexed, about)
    wanted = frozenset(files_of(ranked))
    blobs = {entry.blob: entry.path for entry in entries if entry.path in wanted}
    texts = await repository.git.blobs(blobs.keys())
    return await asyncio.to_thread(
        lambda: draw(
            ranked, {entry.path: _outline(entry, texts) for entry in entries if entry.path in wanted}, tokens
        )
    )


def _outline(entry: Entry, texts: dict[str, bytes]) -> tuple[Symbol, ...]:
    found = definitions(entry.path, texts.get(entry.blob, b""))
    return tuple(Symbol(one.name, one.first, one.signature) for one in found)


def _about(inputs: Inputs, plan: Plan, paths: Sequence[str]) -> About:
    """What a workstream is about: its files, the interfaces that it meets and what it should read, its words."""
    owned = Matcher(inputs.rules.owns)
    depended = frozenset(
        name for peer in inputs.peers if peer.name == inputs.name for name in peer.depends_on
    )
    promised = [*inputs.rules.contracts]
    promised += [pattern for work in plan.workstreams if work.id in depended for pattern in work.contracts]
    work = _work(plan, inputs.name)
    words = frozenset(_WORD.findall(" ".join((work.description, *work.todo))[:100_000]))
    own = frozenset(path for path in paths if owned.selects(path))
    others = [path for path in paths if path not in own]
    return About(own, _selected(promised, others), _selected(inputs.rules.reads, others), words)


def _selected(patterns: Sequence[str], paths: Iterable[str]) -> frozenset[str]:
    matcher = Matcher(patterns)
    return frozenset(path for path in paths if matcher.selects(path)) if patterns else frozenset()
