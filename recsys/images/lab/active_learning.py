"""Active learning: which photos to label next, what that saves, and when further labels change little.

A photo's score is U · I · D, each the share of the candidates that have no higher value:

    U   uncertainty   the nearest labelled photos disagree about its label
    I   density       photos like it are many: labelled, it teaches about all of them
    D   diversity     nothing like it is labelled, or chosen in the same batch

Density is the mean cosine of the nearest photos, not of all as published: the middle of a collection is no place where
a label is needed. Its weight fades, since typical photos teach most while there are few labels, unsure ones later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from recsys.errors import EmptyInputError
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.head import unit_length
from recsys.images.lab.neighbours import duplicate_cosine, nearest, nearest_others, with_fewer_features
from recsys.images.lab.training import fit_linear

VOTERS = 5
"""Nearest labelled photos that vote for a photo's label."""
VOTE_SCALE = 0.1
"""A vote weighs exp(cosine / VOTE_SCALE)."""
DENSITY_NEIGHBOURS = 10
FADING = 20
"""Number of labels at which the logarithm of I counts half."""
SHOWN_NEIGHBOURS = 3
FEATURES_PER_LABEL, LEAST_FEATURES, MOST_FEATURES = 4, 32, 128
STOPPING_ROUNDS = 3
STABLE = 0.01
"""Share of changed predictions, mean of the last STOPPING_ROUNDS batches, below which labelling can stop."""

Embeddings = NDArray[np.float32]
Values = NDArray[np.float64]
Rows = NDArray[np.int64]


class Batch(NamedTuple):
    """Photos to label, in the order in which they were chosen; all arrays have a row per photo."""

    photos: Rows  # row numbers of the photos given
    uncertainty: Values  # U, a share in (0, 1] of the candidates
    density: Values  # I, after fading
    diversity: Values  # D, when the photo was chosen
    nearest_labelled: Rows  # row numbers of labelled photos, shape (n, at most SHOWN_NEIGHBOURS), nearest first
    cosines: NDArray[np.float32]  # to these, the same shape

    @property
    def score(self) -> Values:
        """U · I · D of each photo."""
        return self.uncertainty * self.density * self.diversity


def next_batch(
    embeddings: Embeddings,
    candidates: Rows,
    labelled: Dataset,
    n: int,
    seed: int = 0,
    density: Values | None = None,
) -> Batch:
    """Choose the photos to label next, one after the other: each makes those like it less diverse.

    Near duplicates of a photo that is labelled or chosen are not chosen. Without labels, photos are chosen by density
    and diversity.

    Args:
        embeddings: All photos, labelled or not, shape (n_photos, n_features), of any length.
        candidates: Row numbers of the photos to choose from, usually those that are not labelled.
        labelled: The labelled photos that vote, and that diversity keeps away from.
        n: Number of photos to choose; fewer are returned if there are fewer that differ.
        seed: Seed of the clusters in which the nearest of many photos are searched, and of the order of equal scores.
        density: What `local_density` returned for these embeddings after `compact`, if it is known.

    Source:
        Uncertainty, density and diversity as empirical distributions, multiplied; unlike the source, the density is
        local and fades.
    """
    vectors, known = _comparable(embeddings, labelled, seed)
    if density is None:
        density = local_density(vectors, seed)
    candidates = np.random.default_rng(seed).permutation(candidates)  # the first of equal scores is chosen
    vectors, originals = vectors[candidates], unit_length(labelled.embeddings)
    neighbours = nearest(vectors, known, VOTERS)
    u = empirical_cdf(uncertainty(neighbours.photos, neighbours.cosines, labelled))
    i = empirical_cdf(density[candidates]) ** (FADING / (FADING + len(labelled)))
    closest = neighbours.cosines.max(1, initial=-1.0)
    d = empirical_cdf(-closest)
    is_open = np.ones(len(candidates), np.bool_)
    chosen: list[int] = []
    diversities: list[float] = []
    same = duplicate_cosine(embeddings)
    taken = np.zeros((0, embeddings.shape[1]), np.float32)
    while len(chosen) < n and is_open.any():
        best = int(np.argmax(np.where(is_open, u * i * d, -1.0)))
        is_open[best] = False
        photo = unit_length(embeddings[candidates[best], None])
        similar = np.concatenate([taken, originals[neighbours.photos[best]]])
        if (similar @ photo[0] < same).all():
            chosen.append(best)
            diversities.append(float(d[best]))
            taken = np.concatenate([taken, photo])
            closest = np.maximum(closest, vectors @ vectors[best])
            d = empirical_cdf(-closest)
    rows = np.array(chosen, np.int64)
    shown = neighbours.photos[rows, :SHOWN_NEIGHBOURS]
    return Batch(
        candidates[rows],
        u[rows],
        i[rows],
        np.array(diversities),
        shown,
        np.einsum("nf,nkf->nk", taken, originals[shown]),
    )


def local_density(embeddings: Embeddings, seed: int = 0) -> Values:
    """Return the mean cosine of each photo to its DENSITY_NEIGHBOURS nearest, shape (n_photos,)."""
    if len(embeddings) < 2:
        return np.zeros(len(embeddings))
    return nearest_others(embeddings, DENSITY_NEIGHBOURS, seed=seed).cosines.mean(1, dtype=np.float64)


def uncertainty(neighbours: Rows, cosines: NDArray[np.float32], labelled: Dataset) -> Values:
    """Return how much the nearest labelled photos disagree, in [0, 1]; 1 if nothing is labelled.

    Of kind single it is 1 - (p1 - p2), where p are the shares of the votes by label, none of these included. Of kind
    multi each label is one question, answered by yes or no: the mean of 1 - |yes - no| over the labels.

    Args:
        neighbours: Row numbers of labelled photos, shape (n_photos, k), nearest first; the first VOTERS vote.
        cosines: Their cosines, the same shape.
        labelled: The labelled photos.
    """
    if len(labelled) == 0:
        return np.ones(len(neighbours))
    cosines = cosines[:, :VOTERS].astype(np.float64)
    weights = np.exp((cosines - cosines.max(1, keepdims=True)) / VOTE_SCALE)
    weights /= weights.sum(1, keepdims=True)
    answers = labelled.targets
    if labelled.kind == "single":
        answers = np.column_stack([answers, ~answers.any(1)])
    votes = np.zeros((len(neighbours), answers.shape[1]))
    for place in range(weights.shape[1]):
        votes += weights[:, place, None] * answers[neighbours[:, place]]
    if labelled.kind == "multi":
        return (1 - np.abs(2 * votes - 1)).mean(1)
    highest = np.partition(votes, votes.shape[1] - 2, axis=1)
    return 1 - (highest[:, -1] - highest[:, -2])


def empirical_cdf(values: Values) -> Values:
    """Return for each value the share of all values that are not higher, in (0, 1]."""
    return np.searchsorted(np.sort(values), values, side="right") / max(1, len(values))


def compact(embeddings: Embeddings, n_labels: int, seed: int = 0) -> Embeddings:
    """Return embeddings of length 1 with as many features as tell that many labels apart, and no more.

    The directions in which photos differ least are noise to nearest neighbours: without them, fewer labels are needed.
    """
    most, least, per_label = MOST_FEATURES, LEAST_FEATURES, FEATURES_PER_LABEL
    return with_fewer_features(embeddings, min(most, max(least, per_label * n_labels)), seed)


def _comparable(embeddings: Embeddings, labelled: Dataset, seed: int) -> tuple[Embeddings, Embeddings]:
    """Return the embeddings of all and of the labelled photos, compact in the same way."""
    both = compact(np.concatenate([embeddings, labelled.embeddings]), len(labelled.labels), seed)
    return both[: len(embeddings)], both[len(embeddings) :]


def changed_predictions(
    embeddings: Embeddings, labelled: Dataset, order: Rows, batch: int, rounds: int = STOPPING_ROUNDS
) -> list[float]:
    """Return the share of predictions that each of the last batches of labels changed, the last one at the end.

    Where a few batches in a row change next to nothing, further labels do neither, whether or not the predictions are
    right: no labelled test photos are needed to see it.

    Args:
        embeddings: Photos without a label, shape (n_photos, n_features).
        labelled: The labelled photos.
        order: Their row numbers in the order in which they were labelled.
        batch: Number of labels of a batch.
        rounds: Number of batches; of fewer labels than one batch more, the list is shorter.

    Source:
        Bloodgood and Vijay-Shanker 2009, stabilizing predictions; shares of contradictions instead of Cohen's kappa.
    """
    ends = [end for end in range(len(order) - rounds * batch, len(order) + 1, batch) if end > 0]
    said = [predictions(labelled.where(np.isin(np.arange(len(labelled)), order[:end])), embeddings) for end in ends]
    return [float((now != before).any(1).mean()) for before, now in pairwise(said)]


# What it saves, measured on photos whose labels are known.

Chooser = Callable[[Rows, int], Rows]
"""From the row numbers of the labelled photos and a number to those of the photos to label next."""
Strategy = Callable[[Dataset, int], Chooser]
"""From a pool of photos and a seed to a chooser; it may look at the labels of the photos that are labelled."""


def by_score(pool: Dataset, seed: int) -> Chooser:
    """Choose by `next_batch`."""
    pool = replace(pool, embeddings=compact(pool.embeddings, len(pool.labels), seed))
    density = local_density(pool.embeddings, seed)

    def choose(labelled: Rows, n: int) -> Rows:
        mask = np.isin(np.arange(len(pool)), labelled)
        return next_batch(pool.embeddings, np.flatnonzero(~mask), pool.where(mask), n, seed, density).photos

    return choose


def at_random(pool: Dataset, seed: int) -> Chooser:
    """Choose at random."""
    order = np.random.default_rng(seed).permutation(len(pool))
    return lambda labelled, n: order[~np.isin(order, labelled)][:n]


STRATEGIES: dict[str, Strategy] = {"active": by_score, "random": at_random}


class Estimate(NamedTuple):
    """A mean over seeds with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Simulation:
    """Accuracy on the test part by number of labels, for each strategy and seed."""

    n_labels: Rows  # (n_steps,)
    accuracy: dict[str, Values]  # by strategy, (n_seeds, n_steps)
    changed: Values  # (n_seeds, n_steps); of the pool's predictions, share that the last batch of "active" changed
    with_all: Values  # (n_seeds,), accuracy with all labels of the pool

    def labels_needed(self, strategy: str, share: float = 0.9) -> Values:
        """Return for each seed the labels from which the accuracy is a share of that with all; inf if it never is."""
        reached = self.accuracy[strategy] >= share * self.with_all[:, None]
        return np.where(reached.any(1), self.n_labels[reached.argmax(1)], np.inf)

    def labels_against_random(self, strategy: str, share: float = 0.9) -> Estimate:
        """Return the labels needed as a multiple of those needed at random: means over seeds, paired bootstrap."""
        needed, of_random = self.labels_needed(strategy, share), self.labels_needed("random", share)
        if not np.isfinite(needed).all() or not np.isfinite(of_random).all():
            return Estimate(np.nan, np.nan, np.nan)
        return _estimate((needed, of_random), lambda some, others, axis=-1: some.mean(axis) / others.mean(axis))

    def stops(self) -> tuple[Values, Values]:
        """Return for each seed the labels after which `changed` tells to stop, inf if never, and the accuracy there."""
        steps = self.changed.shape[1]
        stable = np.array([[is_stable(row[:step]) for step in range(1, steps + 1)] for row in self.changed])
        step = np.where(stable.any(1), stable.argmax(1), steps - 1)
        stopped = np.where(stable.any(1), self.n_labels[step], np.inf)
        return stopped, self.accuracy["active"][np.arange(len(step)), step]

    def curve(self, strategy: str) -> list[Estimate]:
        """Return the accuracy at each number of labels."""
        steps = self.accuracy[strategy].T
        return [_estimate((each,), lambda values, axis=-1: values.mean(axis)) for each in steps]


def simulate(
    dataset: Dataset,
    batch: int = 10,
    max_labels: int = 600,
    seeds: int = 10,
    strategies: dict[str, Strategy] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Simulation:
    """Draw photos by each strategy, beginning without labels, and measure a linear head after each batch.

    The test part is the same for all seeds. A seed's pool is 80 % of the groups of all other photos, drawn at random.

    Args:
        dataset: Labelled photos, some of them in the test part.
        batch: Labels that are added at a time.
        max_labels: Number of labels at which a curve ends; the size of the pool if that is smaller.
        seeds: Number of pools, at least 2.
        strategies: By name; by default "active" and "random".
        progress: Called after each strategy of each seed.

    Raises:
        EmptyInputError: If there is no test photo, or there are fewer than two batches of others.
    """
    test = dataset.part("test")
    others = dataset.where(dataset.parts != "test")
    if len(test) == 0 or len(others) < 2 * batch:
        raise EmptyInputError(
            f"{len(test)} labelled photos of the test part and {len(others)} others: a simulation needs test photos, "
            f"and two batches of {batch} others: label more photos, or take a smaller batch"
        )
    strategies = strategies or STRATEGIES
    pools = [_drawn_pool(others, seed) for seed in range(seeds)]
    n_labels = np.arange(batch, min(max_labels, min(map(len, pools))) + 1, batch)
    accuracy = {name: np.zeros((seeds, len(n_labels))) for name in strategies}
    changed = np.ones((seeds, len(n_labels)))
    with_all = np.array([_accuracy(predictions(pool, test.embeddings), test.targets, test.kind) for pool in pools])
    for seed, pool in enumerate(pools):
        for name, strategy in strategies.items():
            choose, labelled, before = strategy(pool, seed), np.zeros(0, np.int64), None
            for step in range(len(n_labels)):
                labelled = np.concatenate([labelled, choose(labelled, batch)])
                known = pool.where(np.isin(np.arange(len(pool)), labelled))
                predicted = predictions(known, np.concatenate([test.embeddings, pool.embeddings]))
                accuracy[name][seed, step] = _accuracy(predicted[: len(test)], test.targets, test.kind)
                if name == "active" and before is not None:
                    changed[seed, step] = (predicted[len(test) :] != before).any(1).mean()
                before = predicted[len(test) :]
            progress()
    return Simulation(n_labels, accuracy, changed, with_all)


def predictions(labelled: Dataset, embeddings: Embeddings) -> NDArray[np.bool_]:
    """Return the labels that a linear head fitted to labelled photos predicts, shape (n_photos, n_labels).

    Where all photos have the same labels there is nothing to fit, and all predictions are these.
    """
    if (labelled.targets == labelled.targets[:1]).all():
        return np.broadcast_to(labelled.targets[:1], (len(embeddings), len(labelled.labels)))
    # The weights lie in the span of the photos: few photos need as few features, with the same solution.
    span, coordinates = np.linalg.qr(unit_length(labelled.embeddings).T)
    head = fit_linear(replace(labelled, embeddings=coordinates.T))
    head = replace(head, weights=[span @ head.weights[0]])
    probabilities = head.probabilities(embeddings)
    if labelled.kind == "single":
        return probabilities.argmax(1)[:, None] == np.arange(len(labelled.labels))
    return probabilities >= 0.5


def _accuracy(predicted: NDArray[np.bool_], targets: NDArray[np.bool_], kind: Literal["single", "multi"]) -> float:
    """Return the share of right predictions, of kind multi micro F1."""
    if kind == "single":
        return float((predicted == targets).all(1).mean())
    return float(2 * (predicted & targets).sum() / max(1, predicted.sum() + targets.sum()))


def is_stable(changed: Sequence[float] | Values) -> bool:
    """Return whether the last STOPPING_ROUNDS batches changed less than STABLE of the predictions, in the mean."""
    return len(changed) >= STOPPING_ROUNDS and float(np.mean(changed[-STOPPING_ROUNDS:])) < STABLE


def _drawn_pool(others: Dataset, seed: int) -> Dataset:
    groups = np.unique(others.groups)
    kept = np.random.default_rng(seed).permutation(groups)[: max(1, round(0.8 * len(groups)))]
    return others.where(np.isin(others.groups, kept))


def _estimate(samples: tuple[Values, ...], statistic: Callable[..., Values]) -> Estimate:
    value = float(statistic(*samples))
    if len(samples[0]) < 2 or all(np.ptp(each) == 0 for each in samples):
        return Estimate(value, value, value)
    found = bootstrap(
        samples, statistic, n_resamples=2000, paired=True, method="percentile", rng=np.random.default_rng(0)
    )
    return Estimate(value, float(found.confidence_interval.low), float(found.confidence_interval.high))
