"""Same-issue detection and the first tier, on real reviews of many tools.

    python -m benchmarks reviews --data DIR

reads the data's folder `reviews`: pull requests, each tool's comments (texts only), and which of them a judge
matched to what people had found. Two comments of different tools are the same issue if they were matched to
the same one. The threshold is fixed on all repositories but one, and tested on that one, for each in turn;
beside it stand the shipped threshold and plain TF-IDF. A pair counts as detected if both are in one group, as
`results.matching` makes them: of the judged comments alone (as the reference figures are made), and of all.
"""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from benchmarks.figures import Figure, Options, left_out, table
from parallelai.results.matching import THRESHOLD, Statement, Vocabulary, group, words
from parallelai.results.rank import Standing, TrackRecord, tier

NAME = "same issue, F1"
BAR = 0.90
PRECISION_BAR, RECALL_BAR = 0.54, 0.42
THRESHOLDS = [number / 100 for number in range(8, 42, 2)]

Counts = tuple[int, int, int]
"""Pairs that were detected rightly, wrongly, and not."""


@dataclass(frozen=True)
class Comment:
    tool: str
    text: str
    matched: frozenset[str]


@dataclass(frozen=True)
class Review:
    """One pull request: `golden` is what people had found, `tools` all that looked at it."""

    repository: str
    comments: tuple[Comment, ...]
    golden: frozenset[str]
    tools: tuple[str, ...]

    def judged(self) -> Review:
        kept = tuple(comment for comment in self.comments if comment.matched)
        return Review(self.repository, kept, self.golden, self.tools)


Detector = Callable[[Review, float], Callable[[int, int], bool]]


def read(folder: Path) -> list[Review]:
    """Read all reviews of a folder (`*.json.gz`, `*.json`)."""
    found: list[Review] = []
    for path in sorted(folder.glob("*.json*")):
        data = json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
        found += (_review(data[key]) for key in sorted(data))
    return found


def _review(data: Mapping[str, object]) -> Review:
    matches, said = data["matches"], data["comments"]
    assert isinstance(matches, dict)
    assert isinstance(said, dict)
    golden: set[str] = set()
    hits: dict[tuple[str, str], set[str]] = {}
    for tool, judged in matches.items():
        for match in judged["true_positives"]:
            golden.add(match["golden_comment"])
            hits.setdefault((tool, match["matched_candidate"]), set()).add(match["golden_comment"])
        golden.update(missed["golden_comment"] for missed in judged["false_negatives"])
    comments = tuple(
        Comment(tool, comment["text"], frozenset(hits.get((tool, comment["text"]), ())))
        for tool, comments in said.items()
        for comment in comments
    )
    return Review(str(data["repo"]), comments, frozenset(golden), tuple(matches))


def run(options: Options) -> list[Figure]:
    folder = options.data / "reviews" if options.data else None
    reviews = read(folder) if folder and folder.is_dir() else []
    repositories = sorted({review.repository for review in reviews})
    if len(repositories) < 2:
        return [left_out(NAME, "no reviews of two repositories in `--data DIR/reviews`")]
    figures: list[Figure] = []
    rows: list[tuple[str, ...]]
    rows = [("tested on", "fixed at", "plain TF-IDF", "judged comments", "all comments", "as shipped")]
    for repository in repositories:
        tested = [review for review in reviews if review.repository == repository]
        others = [review for review in reviews if review.repository != repository]
        row, figure = _detection(repository, tested, others)
        rows.append(row)
        figures.append(figure)
    print(table(rows))
    rows = [("first tier of", "precision", "recall", "three agree", "recall", "with track record", "recall")]
    for repository in repositories:
        row, more = _first_tier(repository, reviews)
        rows.append(row)
        figures += more
    print(table(rows))
    return figures


# --- pairs


def _detection(
    repository: str, tested: Sequence[Review], others: Sequence[Review]
) -> tuple[tuple[str, ...], Figure]:
    judged, other = [one.judged() for one in tested], [one.judged() for one in others]
    plain = f1(tested_at(judged, tf_idf, best(other, tf_idf)))
    fixed = best(other, grouped)
    alone = f1(tested_at(judged, grouped, fixed))
    whole = f1(tested_at(tested, grouped, best(others, grouped)))
    shipped = [f1(tested_at(part, grouped, THRESHOLD)) for part in (judged, tested)]
    row = (repository, f"{fixed:.2f}", f"{plain:.3f}", f"{alone:.3f}", f"{whole:.3f}")
    least = min(alone, whole, *shipped)
    figure = Figure(f"{NAME} on {repository}", f"{least:.3f}", f"≥ {BAR:.2f}", least >= BAR)
    return (*row, "/".join(f"{value:.3f}" for value in shipped)), figure


def grouped(review: Review, threshold: float) -> Callable[[int, int], bool]:
    """Detect by the project's groups."""
    texts = [comment.text for comment in review.comments]
    statements = [Statement(frozenset([one.tool]), one.text) for one in review.comments]
    home: dict[int, int] = {}
    for number, members in enumerate(group(statements, Vocabulary(texts), threshold=threshold)):
        home.update(dict.fromkeys(members, number))
    return lambda a, b: home[a] == home[b]


def tf_idf(review: Review, threshold: float) -> Callable[[int, int], bool]:
    """Detect by the cosine of two comments' words alone, as the reference figures do."""
    texts = [Counter(words(comment.text)) for comment in review.comments]
    seen = Counter(word for text in texts for word in text)
    vectors = [
        {word: times * (math.log((1 + len(texts)) / (1 + seen[word])) + 1) for word, times in text.items()}
        for text in texts
    ]
    lengths = [math.sqrt(sum(value * value for value in vector.values())) or 1.0 for vector in vectors]

    def is_same(a: int, b: int) -> bool:
        product = sum(value * vectors[b].get(word, 0.0) for word, value in vectors[a].items())
        return product / (lengths[a] * lengths[b]) >= threshold

    return is_same


def tested_at(reviews: Iterable[Review], detector: Detector, threshold: float) -> Counts:
    """Count the pairs of judged comments of different tools."""
    right = wrong = missed = 0
    for review in reviews:
        is_same = detector(review, threshold)
        for a, b in _pairs(review.comments):
            is_detected = is_same(a, b)
            is_one = bool(review.comments[a].matched & review.comments[b].matched)
            right += is_detected and is_one
            wrong += is_detected and not is_one
            missed += is_one and not is_detected
    return right, wrong, missed


def _pairs(comments: Sequence[Comment]) -> Iterator[tuple[int, int]]:
    judged = [at for at, comment in enumerate(comments) if comment.matched]
    for at, b in enumerate(judged):
        yield from ((a, b) for a in judged[:at] if comments[a].tool != comments[b].tool)


def f1(counts: Counts) -> float:
    right, wrong, missed = counts
    return 2 * right / (2 * right + wrong + missed) if right else 0.0


def best(reviews: Sequence[Review], detector: Detector) -> float:
    """The threshold to fix: the middle of those that are as good as the best one, but for 0.005."""
    found = {threshold: f1(tested_at(reviews, detector, threshold)) for threshold in THRESHOLDS}
    top = max(found.values())
    return median(threshold for threshold, value in found.items() if value >= top - 0.005)


# --- tiers


def _first_tier(repository: str, reviews: Sequence[Review]) -> tuple[tuple[str, ...], list[Figure]]:
    """Precision: how many of the first tier's matters hold what people had found; recall: of what they had."""
    tested = [review for review in reviews if review.repository == repository]
    record = track_record(review for review in reviews if review.repository != repository)

    def must(by: Sequence[str], review: Review) -> bool:
        return tier(by, len(by), lookers=len(review.tools), confidence=None, record={}) == "must"

    def known(by: Sequence[str], review: Review) -> bool:
        return tier(by, len(by), lookers=len(review.tools), confidence=None, record=record) == "must"

    ours, three = share(tested, must), share(tested, lambda by, _: len(by) >= 3)
    with_record = share(tested, known)
    shown = tuple(f"{value:.2f}" for pair in (ours, three, with_record) for value in pair)
    figures = [
        Figure(
            f"first tier, precision on {repository}",
            f"{ours[0]:.2f}",
            f"≥ {PRECISION_BAR}",
            ours[0] >= PRECISION_BAR,
        ),
        Figure(f"  recall on {repository}", f"{ours[1]:.2f}", f"≥ {RECALL_BAR}", ours[1] >= RECALL_BAR),
    ]
    return (repository, *shown), figures


def share(reviews: Iterable[Review], takes: Callable[[Sequence[str], Review], bool]) -> tuple[float, float]:
    """Give precision and recall of the matters that `takes` takes."""
    held: list[bool] = []
    found = wanted = 0
    for review in reviews:
        texts = [comment.text for comment in review.comments]
        statements = [Statement(frozenset([one.tool]), one.text) for one in review.comments]
        seen: set[str] = set()
        for members in group(statements, Vocabulary(texts)):
            comments = [review.comments[at] for at in members]
            if takes([comment.tool for comment in comments], review):
                hits = frozenset[str]().union(*(comment.matched for comment in comments))
                held.append(bool(hits))
                seen |= hits
        found += len(seen)
        wanted += len(review.golden)
    return (fmean(held) if held else 0.0), found / max(wanted, 1)


def track_record(reviews: Iterable[Review]) -> TrackRecord:
    """How each tool's comments held."""
    record: dict[str, Standing] = {}
    for review in reviews:
        for comment in review.comments:
            one = Standing(1, 0) if comment.matched else Standing(0, 1)
            record[comment.tool] = record.get(comment.tool, Standing()) + one
    return record
