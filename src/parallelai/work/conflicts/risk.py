"""A forecast: how likely two sides that merge cleanly now will not do so once both are finished.

A small logistic formula over what can be seen early and explained. Its numbers were fitted on half-finished
branches of three public repositories (tornado, gin, express), and tested on those of others (celery, beads,
multica); `docs/explanation/conflicts.md` has precision and recall, and `make bench-history` measures them again.
Most pairs never collide, also of those that share files: so a forecast is a small number, and still many times
that of other pairs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from parallelai.work.conflicts.decide import Meeting

NOTEWORTHY = 0.02
"""From here on a pair is listed: ten times what pairs without common files come to."""
LIKELY = 0.5
"""From here on a pair counts as one that will not merge: git says so now, or a use has lost its definition."""
COMMITS = 300
"""How far back history is looked at."""
MOST_FILES = 30
"""Commits that touch more say nothing of which files belong together."""
MOST_LATENT = 50
"""Of a side, files that it changed, and files that usually change with one, which count."""


class History(Struct, frozen=True):
    """How often files changed lately, alone and together, in how many commits."""

    commits: int = 0
    touched: Mapping[str, int] | None = None
    together: Mapping[str, Mapping[str, int]] | None = None

    def beside(self, path: str) -> dict[str, float]:
        """Which files changed with this one, in which share of its commits; only what is more than chance."""
        count = (self.touched or {}).get(path, 0)
        if count < 2:
            return {}
        others = (self.together or {}).get(path, {})
        return {other: times / (count + 2) for other, times in others.items() if times > 1}


def history(commits: Iterable[Sequence[str]]) -> History:
    """Count over the files of each commit."""
    touched: Counter[str] = Counter()
    together: dict[str, Counter[str]] = {}
    count = 0
    for paths in commits:
        count += 1
        touched.update(paths)
        if len(paths) <= MOST_FILES:
            for path in paths:
                together.setdefault(path, Counter()).update(other for other in paths if other != path)
    return History(count, touched, together)


@dataclass(frozen=True, slots=True)
class Features:
    """What the forecast knows of a pair, each from 0 to about 1.

    Attributes:
        common: how many files both changed, as log2(1 + n) / 3, at most 1.
        near: how near their changes are in the nearest common file: 1 / (1 + lines / 60).
        same: whether both changed the same definition.
        alike: whether both made some of the same changes: they do the same work.
        latent: for sides without a common file, the expected number of files that both will touch, by history.
        owned: whether both own the same files.
        size: changed lines of the smaller side, as log10(1 + n) / 3.
    """

    common: float = 0.0
    near: float = 0.0
    same: float = 0.0
    alike: float = 0.0
    latent: float = 0.0
    owned: float = 0.0
    size: float = 0.0


# `owned` was not in the data, which knows no plans: twice the odds, by judgement.
WEIGHTS = Features(common=0.87, near=1.95, same=0.35, alike=1.77, latent=0.27, owned=0.7, size=0.15)
BIAS = -5.0


def risk(features: Features) -> float:
    """Give the likelihood, between 0 and 0.99: only git's own conflicts are certain."""
    total = BIAS + sum(
        getattr(WEIGHTS, name) * getattr(features, name) for name in Features.__dataclass_fields__
    )
    return round(min(0.99, 1 / (1 + math.exp(-total))), 3)


def features_of(
    meetings: Mapping[str, Meeting], sizes: tuple[int, int], latent: float, is_owned: bool
) -> Features:
    """Look at a pair: its meetings by path, the changed lines of each side, `latent`, and who owns what."""
    gaps = [one.gap for one in meetings.values() if one.gap is not None]
    return Features(
        common=min(1.0, math.log2(1 + len(meetings)) / 3),
        near=1 / (1 + min(gaps) / 60) if gaps else 0.0,
        same=float(any(one.class_ == "file" for one in meetings.values())),
        alike=float(any(one.is_alike for one in meetings.values())),
        latent=0.0 if meetings else latent,
        owned=float(is_owned),
        size=min(1.0, math.log10(1 + min(sizes)) / 3),
    )


def expected(past: History, paths: Collection[str]) -> dict[str, float]:
    """Say for each file how likely a side that changed `paths` will change it: 1 for those that it did."""
    found: dict[str, float] = {}
    for path in sorted(paths)[:MOST_LATENT]:
        for other, share in past.beside(path).items():
            found[other] = max(found.get(other, 0.0), share)
    return {**found, **dict.fromkeys(paths, 1.0)}


def latent(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """The expected number of files that both will change, without those that both have changed."""
    small, large = sorted((a, b), key=len)
    both = (share * large[path] for path, share in small.items() if path in large)
    return min(1.0, sum(each for each in both if each < 1.0))
