"""How much two candidates have to do with each other: rare words that both change. A hint, never a proof.

Where one renames a function that another one starts to call, no line meets another, but a word does. What breaks
together is looked for among such candidates first, which saves gate runs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from parallelai.git.repository import Repository
from parallelai.work.landing.records import Candidate

_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{2,63}")
_MOST_BYTES = 400_000


def weights(words: Collection[str], others: Sequence[Collection[str]]) -> list[float]:
    """For each of the others how likely it has to do with what changes `words`: 1 where they share no rare word.

    A word counts the more, the fewer of the others change it; one that all of them change counts nothing. Who
    is the only one to share a word outweighs all the rest together.
    """
    count = Counter(word for each in others for word in set(each))
    most = max(1, len(others) // 4)
    wanted = set(words)
    return [
        1.0 + len(others) * sum(1 / count[word] ** 2 for word in wanted & set(each) if count[word] <= most)
        for each in others
    ]


async def changed_words(
    repository: Repository, candidates: Sequence[Candidate]
) -> Mapping[str, frozenset[str]]:
    """By name, the words in the lines that each candidate added or removed, and in the paths of these files."""
    found = {}
    for candidate in candidates:
        done = await repository.git.attempt(
            *("diff-tree", "-r", "-p", "-U0", "--no-ext-diff", "--no-textconv", "--no-color"),
            *(candidate.base, candidate.commit),
        )
        lines = done.stdout[:_MOST_BYTES].split(b"\n") if done.exit == 0 else []
        # `--- a/path` and `+++ b/path` stand among them.
        text = b"\n".join(line for line in lines if line[:1] in (b"+", b"-"))
        found[candidate.name] = frozenset(word.decode() for word in _WORD.findall(text))
    return found
