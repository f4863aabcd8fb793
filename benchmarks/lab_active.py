"""Active learning beside scikit-activeml: labels needed, and seconds to choose among 100,000 photos.

All strategies begin without labels, label in the same batches, and are measured by the same logistic regression on the
same test part; a seed draws 80 % of the other photos as the pool. Scikit-activeml's strategies get embeddings of length
1; those that need a classifier get the logistic regression, and photos drawn at random until two labels are known.

All runs on one thread, and times are CPU seconds: those of the clock depend on what else the machine does. TypiClust
takes most of the time, since it makes as many clusters as there are labels and photos to choose.
"""

import time
import warnings
from collections.abc import Callable, Mapping

import numpy as np
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import CoreSet, ProbCover, TypiClust, UncertaintySampling
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from recsys.images.lab.active_learning import (
    STRATEGIES,
    Chooser,
    Embeddings,
    Rows,
    Strategy,
    next_batch,
    simulate,
)
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.head import unit_length

SETUPS = {"sun8": (4, 160, 20), "clothing": (10, 400, 8)}
"""Batch, labels at which a curve ends, and seeds."""
MANY, FEATURES, KNOWN, BATCH = 100_000, 1280, 500, 50


@threadpool_limits.wrap(limits=1)
def measure(datasets: Mapping[str, Dataset]) -> None:
    """Print the labels needed to 90 % of the accuracy with all, and the time among many photos."""
    peers: dict[str, Strategy] = {
        "TypiClust": peer(TypiClust),
        "ProbCover": peer(ProbCover),
        "CoreSet": peer(CoreSet),
        "margin": peer(UncertaintySampling, method="margin_sampling"),
    }
    for name, data in datasets.items():
        batch, most, seeds = SETUPS[name]
        start = time.process_time()
        found = simulate(data, batch, most, seeds, STRATEGIES | peers)
        seconds = time.process_time() - start
        print(
            f"{name}: {len(data):,} photos, batches of {batch}, {seeds} seeds, all: {found.with_all.mean():.3f}; "
            f"{seconds:.0f} s"
        )
        for strategy in found.accuracy:
            needed, ratio = found.labels_needed(strategy), found.labels_against_random(strategy)
            told = f"{ratio.value:.2f} x random ({ratio.low:.2f} to {ratio.high:.2f})"
            if not np.isfinite(needed).all():
                told = f"not within {most} labels in {np.isinf(needed).mean():.0%} of the seeds"
            mean = found.accuracy[strategy].mean()
            print(f"  {strategy:<10} {needed.mean():6.1f} labels, {told}; mean accuracy {mean:.3f}", flush=True)
    speed()


def speed() -> None:
    """Print the seconds of one batch among many photos: clumps of different size, in noise."""
    random = np.random.default_rng(0)
    middles = np.abs(random.normal(size=(2_000, FEATURES))).astype(np.float32)
    clump = np.sort((2_000 * random.random(MANY) ** 2).astype(int))
    noise = random.normal(size=(MANY, FEATURES), scale=0.7).astype(np.float32)
    embeddings = middles[clump] + noise
    classes = clump % 20
    known = random.permutation(MANY)[:KNOWN]
    hashes = np.array([f"{row:06d}" for row in range(MANY)])
    targets = classes[:, None] == np.arange(20)
    data = Dataset([str(n) for n in range(20)], "single", hashes, hashes, embeddings, targets, np.arange(MANY), hashes)
    mask = np.isin(np.arange(MANY), known)
    ours = _seconds(lambda: next_batch(embeddings, np.flatnonzero(~mask), data.where(mask), BATCH))
    print(f"next: {BATCH} of {MANY:,} photos, {KNOWN} labelled: {ours:.1f} s", flush=True)
    # TypiClust makes one cluster per label and photo to choose: a tenth of the photos is enough to compare with
    small = data.where(np.arange(MANY) % 10 == 0)
    labelled = np.flatnonzero(mask[::10])
    few = small.where(np.isin(np.arange(len(small)), labelled))
    others = np.setdiff1d(np.arange(len(small)), labelled)
    ours = _seconds(lambda: next_batch(small.embeddings, others, few, BATCH))
    theirs = _seconds(lambda: peer(TypiClust)(small, 0)(labelled, BATCH))
    print(f"{len(small):,} photos: {ours:.1f} s, TypiClust {theirs:.1f} s, {theirs / ours:.1f} x as long", flush=True)


def peer(query: type, **options: object) -> Strategy:
    """Return a strategy of scikit-activeml."""

    def strategy(pool: Dataset, seed: int) -> Chooser:
        vectors: Embeddings = unit_length(pool.embeddings)
        classes = pool.classes
        asked = query(missing_label=-1, random_state=seed, **options)
        order = np.random.default_rng(seed).permutation(len(pool))

        def choose(labelled: Rows, n: int) -> Rows:
            answers = np.full(len(pool), -1)
            answers[labelled] = classes[labelled]
            arguments: dict[str, object] = {}
            if query is UncertaintySampling:
                if len(np.unique(answers[labelled])) < 2:
                    return order[~np.isin(order, labelled)][:n]
                regression = LogisticRegression(C=10, tol=1e-3, max_iter=1000)
                arguments["clf"] = SklearnClassifier(regression, classes=np.unique(classes), missing_label=-1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return np.asarray(asked.query(vectors, answers, batch_size=n, **arguments), np.int64)

        return choose

    return strategy


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
