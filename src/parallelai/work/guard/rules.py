"""What a workstream may change: each change of its worktree stays, or is kept out for a reason. Pure.

The order in which a path is judged: names that git keeps for itself never; what is protected, or avoided, only
where a person gave leave; what is leased, yes; what is shared, only with a lease; then what is owned. A lock file
counts as the manifest beside it counts, because only its tool writes it.

Protected in every repository, at any depth: `.parallelai/**` and `parallelai.toml`, `AGENTS.md` and `CLAUDE.md`,
the plan itself; what holds or configures git's hooks (the folder of `core.hooksPath`, `.githooks`, `.husky`,
`.pre-commit-config.yaml`); `.gitattributes`, `.gitmodules` and `.lfsconfig`, which choose programs, ways of
merging and addresses for everybody; `.worktreeinclude`, which names ignored files to copy.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from msgspec import Struct

from parallelai.git.paths import is_gits_own, may_be_link
from parallelai.plan.files import Matcher
from parallelai.plan.patterns import escape
from parallelai.work.scratch.measuring import clashing, is_link_out
from parallelai.work.streams.record import Rules

Status = Literal["added", "deleted", "changed", "renamed"]
Why = Literal[
    "not_owned",
    "shared",
    "generated",
    "avoided",
    "protected",
    "gits_own",
    "leads_out",
    "clash",
    "in_the_way",
    "unpublished",
    "annexed",
    "no_file",
    "too_large",
    "repository",
    "inside",
    "unreadable",
    "unseen",
]
LEASABLE: frozenset[Why] = frozenset({"not_owned", "shared", "generated"})
"""What a lease would let in; what is avoided or protected needs a person."""
BY_PERSON: frozenset[Why] = frozenset({"avoided", "protected"})

ALWAYS_PROTECTED = (
    *(".parallelai/", "parallelai.toml", "AGENTS.md", "CLAUDE.md"),
    *(".githooks/", ".husky/", ".pre-commit-config.yaml"),
    *(".gitattributes", ".gitmodules", ".lfsconfig", ".worktreeinclude"),
)
MANIFESTS: Mapping[str, tuple[str, ...]] = {
    "package-lock.json": ("package.json",),
    "npm-shrinkwrap.json": ("package.json",),
    "yarn.lock": ("package.json",),
    "pnpm-lock.yaml": ("package.json", "pnpm-workspace.yaml"),
    "bun.lock": ("package.json",),
    "bun.lockb": ("package.json",),
    "deno.lock": ("deno.json", "deno.jsonc"),
    "poetry.lock": ("pyproject.toml",),
    "uv.lock": ("pyproject.toml",),
    "pdm.lock": ("pyproject.toml",),
    "pylock.toml": ("pyproject.toml",),
    "Pipfile.lock": ("Pipfile",),
    "requirements.txt": ("requirements.in",),
    "Cargo.lock": ("Cargo.toml",),
    "go.sum": ("go.mod",),
    "go.work.sum": ("go.work",),
    "composer.lock": ("composer.json",),
    "Gemfile.lock": ("Gemfile",),
    "gradle.lockfile": ("build.gradle", "build.gradle.kts"),
    "Package.resolved": ("Package.swift",),
    "mix.lock": ("mix.exs",),
    "pubspec.lock": ("pubspec.yaml",),
    "flake.lock": ("flake.nix",),
}
"""Lock files, by name, and the manifests from which their tools write them."""
_LINK, _REPOSITORY = "120000", "160000"


@dataclass(frozen=True, slots=True)
class Changed:
    """One change against the base. A renamed file has both names; modes are git's, None where there is nothing.

    `target` is where a link leads, as it is written.
    """

    path: str
    status: Status
    old_path: str | None = None
    mode_before: str | None = None
    mode_after: str | None = None
    target: bytes | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that it touches: of a renamed file both."""
        return (self.path,) if self.old_path is None else (self.old_path, self.path)

    @property
    def made(self) -> str | None:
        """The path that is new, if one is."""
        return self.path if self.status in ("added", "renamed") else None

    @property
    def gone(self) -> str | None:
        """The path that is there no more, if one is."""
        return {"deleted": self.path, "renamed": self.old_path}.get(self.status)


class Out(Struct, frozen=True):
    """A change that is kept out. `path` is the one of its paths that decided; `about` another file it is about."""

    change: Changed
    path: str
    why: Why
    about: str | None = None


class Judged(Struct, frozen=True):
    """What stays and what is kept out, each in the order of the changes."""

    kept: tuple[Changed, ...]
    out: tuple[Out, ...]


class Permits:
    """Says of single paths whether a workstream may change them.

    `leases` are paths, granted by policy or by a person, who alone grants what is protected or avoided.
    `plan_file` and `hooks` (folders of git's hooks) are below the root. `settling` are paths with a conflict that the
    workstream has to settle, whoever owns them; what is protected or avoided is not its to settle.
    """

    def __init__(
        self,
        rules: Rules,
        leases: Collection[str] = (),
        *,
        plan_file: str | None = None,
        hooks: Iterable[str] = (),
        settling: Collection[str] = (),
    ) -> None:
        always = [*ALWAYS_PROTECTED, *(escape(hook).removeprefix(".") for hook in hooks)]
        if plan_file is not None:
            always.append(escape(plan_file).removeprefix("."))
        # Also under the names that another file system takes for the same.
        self._always = Matcher([folded(pattern) for pattern in always])
        self._protected = Matcher([folded(pattern) for pattern in rules.protected])
        self._avoids = Matcher([folded(pattern) for pattern in rules.avoids])
        self._shared = Matcher(rules.shared)
        self._owns = Matcher(rules.owns)
        self._shared_alike = Matcher([folded(pattern) for pattern in rules.shared])
        self._owns_alike = Matcher([folded(pattern) for pattern in rules.owns])
        self._leases = frozenset(leases)
        self._settling = frozenset(settling)

    def refusal(self, path: str) -> tuple[Why, str | None] | None:
        """Say why a path may not be changed, and what other file that is about; None where it may."""
        if any(map(is_gits_own, PurePosixPath(path).parts)):
            return "gits_own", None
        if path in self._leases:
            return None
        by_person = self.by_person(path)
        if by_person is not None:
            return by_person, None
        if path in self._settling:
            return None
        manifests = manifests_of(path)
        if any(self._may(manifest) for manifest in manifests):
            return None
        if self._shared.selects(path):
            return "shared", None
        if self._owns.selects(path):
            return None
        return ("generated", manifests[0]) if manifests else ("not_owned", None)

    def by_person(self, path: str) -> Why | None:
        """Say why only a person may give leave to change a path; None where policy may."""
        other = folded(path)
        if self._always.selects(other) or self._protected.selects(other):
            return "protected"
        return "avoided" if self._avoids.selects(other) else None

    def owns(self, path: str) -> bool:
        """Whether the workstream may change a path without any lease."""
        return self.refusal(path) is None and path not in self._leases

    def owns_alike(self, path: str) -> bool:
        """Whether it owns a path, or one that a file system without upper and lower case takes for the same."""
        if self.owns(path):
            return True
        other = folded(path)
        if path in self._leases or self.by_person(path) is not None or self._shared_alike.selects(other):
            return False
        return any(self._owns_alike.selects(each) for each in (other, *_alike_manifests(other)))

    def _may(self, path: str) -> bool:
        """Whether a manifest may be changed."""
        if path in self._leases:
            return True
        return self.by_person(path) is None and not self._shared.selects(path) and self._owns.selects(path)


def judge(
    changes: Sequence[Changed],
    permits: Permits,
    *,
    existing: Collection[str] = (),
    generated: Collection[str] = (),
    unpublished: Collection[str] = (),
    annexed: Collection[str] = (),
    unseen: Collection[str] = (),
) -> Judged:
    """Judge the changes of a worktree.

    Args:
        existing: the paths of the base.
        generated: paths that the repository marks as generated (`linguist-generated`).
        unpublished: submodules whose new commit no remote has: it would be lost with the worktree.
        annexed: files of which git has a pointer of git-annex, with content in its place.
        unseen: files of the base that a sparse worktree did not have, so that nobody has read what would go.
    """
    out: dict[Changed, Out] = {}
    for change in changes:
        found = _refused(change, permits, generated)
        if found is None and change.mode_after == _REPOSITORY and change.path in unpublished:
            found = Out(change, change.path, "unpublished")
        if found is None and change.path in annexed:
            found = Out(change, change.path, "annexed")
        if found is None and (hidden := next((path for path in change.paths if path in unseen), None)):
            found = Out(change, hidden, "unseen")
        if found is not None:
            out[change] = found
    for found in _fitting(changes, set(out), existing):
        out[found.change] = found
    kept = tuple(change for change in changes if change not in out)
    return Judged(kept, tuple(out[change] for change in changes if change in out))


def _refused(change: Changed, permits: Permits, generated: Collection[str]) -> Out | None:
    """What is wrong with a change by itself."""
    for path in change.paths:
        refusal = permits.refusal(path)
        if refusal is not None:
            why, about = refusal
            return Out(change, path, "generated" if why == "not_owned" and path in generated else why, about)
    if change.mode_after == _LINK and _is_bad_link(change):
        return Out(change, change.path, "leads_out")
    return None


def _is_bad_link(change: Changed) -> bool:
    name = change.path.rpartition("/")[2]
    return not may_be_link(name) or change.target is None or is_link_out(change.path, change.target)


def _fitting(changes: Sequence[Changed], out: set[Changed], existing: Collection[str]) -> list[Out]:
    """Keep out what does not fit beside what stays: it would take another file's place.

    What is kept out may have made room for something else, so this goes on until nothing more is found.
    """
    found: list[Out] = []
    out = set(out)
    while True:
        kept = [change for change in changes if change not in out]
        made = {change.made: change for change in kept if change.made is not None}
        if not made:
            return found
        there = set(existing).difference(change.gone for change in kept if change.gone is not None)
        there.difference_update(made)
        more = _misfits(made, there)
        if not more:
            return found
        found.extend(more)
        out.update(each.change for each in more)


def _misfits(made: Mapping[str, Changed], there: Collection[str]) -> list[Out]:
    files = frozenset(there)
    folders = {str(parent) for path in there for parent in _parents(path)} if made else set()
    clashes = clashing(made, files.union(made))
    found = []
    for path, change in made.items():
        blocking = next((parent for parent in _parents(path) if parent in files or parent in made), None)
        if blocking is not None or path in folders:
            found.append(Out(change, path, "in_the_way", blocking))
        elif path in clashes:
            found.append(Out(change, path, "clash"))
    return found


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def manifests_of(path: str) -> tuple[str, ...]:
    """Give the manifests beside a lock file, as paths; nothing for a file that is none."""
    folder, _, name = path.rpartition("/")
    return tuple(f"{folder}/{each}" if folder else each for each in MANIFESTS.get(name, ()))


def _alike_manifests(path: str) -> list[str]:
    """The manifests beside what may be a lock file on a file system without upper and lower case, folded."""
    folder, _, name = path.rpartition("/")
    found = [each for lock, those in MANIFESTS.items() if folded(lock) == name for each in those]
    return [folded(f"{folder}/{each}" if folder else each) for each in found]


def folded(name: str) -> str:
    """A name as file systems without upper and lower case compare it."""
    return unicodedata.normalize("NFC", name).casefold()
