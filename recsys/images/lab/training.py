"""Trains heads on stored embeddings: logistic regression, or two fully connected layers; calibrated out of fold.

Everything runs on one thread: small products gain nothing by more, and waiting for a busy core made them far slower.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax
from threadpoolctl import threadpool_limits

from recsys.errors import EmptyInputError, InputError
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.head import Head, unit_length
from recsys.wording import plural

HeadKind = Literal["linear", "mlp", "best"]
Kind = Literal["single", "multi"]
Array = NDArray[np.float32]

LEAST_PHOTOS = 5
"""Photos of a label below which it is not learnt: each of five folds needs one."""
FOLDS = 5
SURE_ACCURACY = 0.95
"""Share of right labels among the photos that are filed without review."""
_PENALTIES = (0.3, 0.1, 0.03, 0.01, 0.003)
"""Candidates for the penalty times the number of photos, strongest first; 1 / C of other libraries."""
_MOST_COMPONENTS = 512
"""Principal components that heads are fitted on; more gave the same accuracy, and cost time."""
_ENOUGH_PHOTOS = 2000
"""Held-out photos by which a choice is made: where one fold has as many, it is enough."""
_LEAST_POSITIVES = 50
"""Positive photos from which a label gets a threshold of its own: with fewer, one for all labels is better."""


@dataclass(frozen=True)
class Training:
    """A head, and what was predicted of photos by heads that had not learnt them."""

    head: Head
    sure: float
    """See `TrainedTagger`."""
    is_judged: NDArray[np.bool_]
    """Photos outside the part test that were held out, shape (n_photos,) of the dataset given."""
    probabilities: Array
    """Calibrated, of the photos of `is_judged`, shape (n_judged, n_outputs)."""


def train_head(dataset: Dataset, kind: HeadKind = "best", seed: int = 0) -> Head:
    """Return the head of `train`."""
    return train(dataset, kind, seed).head


@threadpool_limits.wrap(limits=1)
def train(dataset: Dataset, kind: HeadKind = "best", seed: int = 0) -> Training:
    """Train a head on the parts train and validation; the part test is not looked at.

    Regularisation, temperature, thresholds and the margin of sure labels are chosen on out-of-fold predictions. A
    linear head is then fitted to all photos of both parts; an MLP to the part train, stopped by the part validation.
    `best` is the MLP only where its held-out predictions are better by more than one standard error.

    Args:
        dataset: Photos without a label, of kind single, teach the class 'none of these'.
        kind: The head to train.
        seed: Of folds, initial weights, order of photos and dropout.

    Raises:
        EmptyInputError: If fewer than two classes, or groups of photos, are there to learn from.
    """
    learnt = dataset.where(dataset.parts != "test")
    problem = _Problem.of(learnt, FOLDS, seed)
    n_folds = np.flatnonzero(np.cumsum(np.bincount(problem.folds)) >= min(_ENOUGH_PHOTOS, len(learnt)))[0] + 1
    held = problem.folds < n_folds
    targets = problem.targets[held]
    fits: dict[str, tuple[Array, float]] = {}
    if kind != "mlp":
        fits["linear"] = _choose_penalty(problem, range(n_folds))
    if kind != "linear":
        fits["mlp"] = _mlp_logits(problem, range(n_folds), seed), 0.0
    chosen = kind if kind != "best" else _better(fits["linear"][0][held], fits["mlp"][0][held], targets, problem.kind)
    logits, penalty = fits[chosen]
    if chosen == "linear":
        layers = [_fit_logistic(problem.scores, problem.targets, problem.kind, penalty)]
    else:
        is_stop = learnt.parts == "validation"
        layers = _fit_mlp(problem, np.ones(len(learnt), bool), is_stop if is_stop.any() else problem.folds == 0, seed)
    temperature = fit_temperature(logits[held], targets, problem.kind)
    head = replace(problem.head(layers), temperature=temperature)
    probabilities = _probabilities(logits[held] / temperature, problem.kind)
    if problem.kind == "multi":
        head = replace(head, thresholds=choose_thresholds(probabilities, targets > 0))
    is_judged = dataset.parts != "test"
    is_judged[is_judged] = held
    return Training(head, sure_margin(head, probabilities, targets > 0), is_judged, probabilities)


@threadpool_limits.wrap(limits=1)
def fit_linear(dataset: Dataset, penalty: float = 0.1) -> Head:
    """Return a linear head fitted to all photos, whatever their part; not calibrated, with thresholds of 0.5.

    Args:
        dataset: The photos to learn from.
        penalty: Of the squared weights, times the number of photos; 1 / C of other libraries.

    Raises:
        EmptyInputError: If fewer than two classes have photos.
    """
    problem = _Problem.of(dataset, 1, 0)
    head = problem.head([_fit_logistic(problem.scores, problem.targets, problem.kind, penalty)])
    return head if dataset.kind == "single" else replace(head, thresholds=np.full(len(head.labels), 0.5, np.float32))


@threadpool_limits.wrap(limits=1)
def out_of_fold_probabilities(
    dataset: Dataset, n_folds: int = FOLDS, seed: int = 0, kind: Literal["linear", "mlp"] = "linear"
) -> Array:
    """Return calibrated probabilities of each photo by a head that was fitted without the photos of its group.

    Args:
        dataset: All its photos are learnt from, whatever their part: leave out the part test to keep it unseen.
        n_folds: At least 2.
        seed: Of the folds.
        kind: The head to fit.

    Returns:
        Shape (n_photos, n_outputs), as `Head.probabilities`: of kind single with 'none of these' as last column where
        there are such photos.

    Raises:
        EmptyInputError: If fewer than two classes, or n_folds groups, have photos.
    """
    problem = _Problem.of(dataset, n_folds, seed)
    if kind == "mlp":
        logits = _mlp_logits(problem, range(n_folds), seed)
    else:
        sizes = np.cumsum(np.bincount(problem.folds, minlength=n_folds))
        n_judged = np.flatnonzero(sizes >= min(_ENOUGH_PHOTOS, len(dataset)))[0] + 1
        logits, penalty = _choose_penalty(problem, range(n_judged))
        for fold in range(n_judged, n_folds):
            held = problem.folds == fold
            weight, bias = _fit_logistic(problem.scores[~held], problem.targets[~held], problem.kind, penalty)
            logits[held] = problem.scores[held] @ weight + bias
    return _probabilities(logits / fit_temperature(logits, problem.targets, problem.kind), problem.kind)


def learnable(dataset: Dataset) -> tuple[Dataset, dict[str, int]]:
    """Return the dataset with the labels that enough photos show, and the number of photos of each label left out.

    Photos count that are not of the part test. Of kind single, the photos of a label that is left out are left out too.

    Raises:
        EmptyInputError: If fewer than two classes remain, of kind multi: no label.
    """
    counts = dataset.targets[dataset.parts != "test"].sum(0)
    is_learnt = counts >= LEAST_PHOTOS
    left_out = {label: int(counts[n]) for n, label in enumerate(dataset.labels) if not is_learnt[n]}
    photos = (
        dataset if dataset.kind == "multi" else dataset.where(np.flatnonzero(~dataset.targets[:, ~is_learnt].any(1)))
    )
    labels = [label for label in dataset.labels if label not in left_out]
    rest = replace(photos, labels=labels, targets=photos.targets[:, is_learnt])
    least = 1 if rest.kind == "multi" or bool((rest.classes == len(labels)).any()) else 2
    if len(labels) < least:
        shown = ", ".join(f"'{label}' {count}" for label, count in zip(dataset.labels, counts, strict=True))
        raise EmptyInputError(
            f"{plural(len(labels), 'label')} with at least {LEAST_PHOTOS} photos outside the test part, needs {least} "
            f"({shown}): label more photos, see 'recsys tagger label --help'"
        )
    return rest, left_out


def folds_of(dataset: Dataset, n_folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Return the fold of each photo, shape (n_photos,): groups stay whole, labels are spread evenly.

    Raises:
        EmptyInputError: If there are fewer groups than folds.
    """
    _, first, group = np.unique(dataset.groups, return_index=True, return_inverse=True)
    if len(first) < n_folds:
        raise EmptyInputError(
            f"{plural(len(first), 'group')} of photos, needs {n_folds}: label photos of more sales; copies of a photo "
            "and photos of one sale are one group"
        )
    counts = np.where(dataset.targets, dataset.targets.sum(0), len(dataset) + 1)
    rarest = np.where(dataset.targets.any(1), counts.argmin(1), len(dataset.labels))[first]
    order = np.lexsort((np.random.default_rng(seed).random(len(first)), rarest))
    folds = np.empty(len(first), np.int64)
    folds[order] = np.arange(len(first)) % n_folds
    return folds[group]


def calibrated(head: Head, held: Dataset) -> tuple[Head, float]:
    """Return a head with temperature and thresholds, and the margin of sure labels, by photos it has not learnt."""
    targets = held.targets
    if head.has_other:
        targets = np.column_stack([targets, ~targets.any(1)])
    head = replace(head, temperature=fit_temperature(head.logits(held.embeddings), targets, head.kind))
    probabilities = head.probabilities(held.embeddings)
    if head.kind == "multi":
        head = replace(head, thresholds=choose_thresholds(probabilities, targets))
    return head, sure_margin(head, probabilities, targets)


def fit_temperature(logits: Array, targets: NDArray[np.generic], kind: Kind) -> float:
    """Return the temperature by which held-out logits are most likely.

    Args:
        logits: Shape (n_photos, n_outputs), of photos that were not learnt.
        targets: Shape (n_photos, n_outputs), 1 where true.
        kind: Whether outputs are exclusive.

    Source:
        Guo et al. 2017, sec. 4.2.
    """
    found = minimize_scalar(
        lambda log: _losses(logits / np.exp(log), targets, kind).mean(), bounds=(-3, 3), method="bounded"
    )
    return float(np.exp(found.x))


def choose_thresholds(probabilities: Array, targets: NDArray[np.bool_]) -> Array:
    """Return the probability from which each label is said, shape (n_labels,).

    One threshold of the best micro F1, and a label's own of its best F1 where it has 50 positive photos or more.
    """
    thresholds = np.full(targets.shape[1], _best_f1_threshold(probabilities.ravel(), targets.ravel()), np.float32)
    for label in np.flatnonzero(targets.sum(0) >= _LEAST_POSITIVES):
        thresholds[label] = _best_f1_threshold(probabilities[:, label], targets[:, label])
    return thresholds


def is_right(head: Head, probabilities: Array, targets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether each photo's most probable class is its own, of kind multi: whether all its labels are right.

    Args:
        head: The head of the probabilities.
        probabilities: Shape (n_photos, n_outputs).
        targets: Shape (n_photos, n_labels) or (n_photos, n_outputs).
    """
    if head.thresholds is not None:
        return ((probabilities >= head.thresholds) == targets).all(1)
    return probabilities.argmax(1) == np.where(targets.any(1), targets.argmax(1), len(head.labels))


def sure_margin(head: Head, probabilities: Array, targets: NDArray[np.bool_], accuracy: float = SURE_ACCURACY) -> float:
    """Return the least margin from which photos are right with the accuracy; 1 if there is none.

    Args:
        head: The head of the probabilities.
        probabilities: Of photos that were not learnt, calibrated; shape (n_photos, n_outputs).
        targets: As for `is_right`.
        accuracy: Share of the photos with at least this margin that must be right.
    """
    values = head.margins(probabilities)
    order = np.argsort(-values, kind="stable")
    accuracies = np.cumsum(is_right(head, probabilities, targets)[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(accuracies >= accuracy)
    if len(enough) == 0:
        return 1.0
    return 0.0 if enough[-1] == len(order) - 1 else float(values[order[enough[-1]]])


@dataclass(frozen=True)
class _Problem:
    """Photos by their principal components: the same regularised fits as on embeddings, but faster."""

    kind: Kind
    labels: list[str]
    mean: Array  # (n_features,)
    rotation: Array  # (n_features, n_components)
    scores: Array  # (n_photos, n_components)
    targets: Array  # (n_photos, n_outputs), 1 where true
    folds: NDArray[np.int64]  # (n_photos,)

    @classmethod
    def of(cls, dataset: Dataset, n_folds: int, seed: int) -> "_Problem":
        targets = dataset.targets
        if dataset.kind == "single" and not (has_label := targets.any(1)).all():
            targets = np.column_stack([targets, ~has_label])
        shown = [
            name for name, column in zip([*dataset.labels, "none of these"], targets.T, strict=False) if column.any()
        ]
        least = 2 if dataset.kind == "single" else 1
        if len(shown) < least:
            raise EmptyInputError(
                f"{plural(len(dataset), 'photo')} to learn from, of {len(shown)} different labels "
                f"({', '.join(shown) or 'none'}), needs at least {least}: label photos of another"
            )
        if not np.isfinite(dataset.embeddings).all():
            raise InputError("embeddings must be finite numbers: tag the photos again with 'recsys tag'")
        photos = unit_length(dataset.embeddings)
        mean = photos.mean(0)
        centred = photos - mean
        size = photos.shape[1]
        n_components = min(_MOST_COMPONENTS, size, len(photos))
        _, rotation = eigh(centred.T @ centred, subset_by_index=(size - n_components, size - 1))
        scores = centred @ rotation
        folds = folds_of(dataset, n_folds, seed)
        return cls(dataset.kind, dataset.labels, mean, rotation, scores, targets.astype(np.float32), folds)

    def head(self, layers: list[tuple[Array, Array]]) -> Head:
        """Return layers on scores as a head on embeddings."""
        (weight, bias), *others = layers
        first = self.rotation @ weight
        weights = [first, *(each for each, _ in others)]
        return Head(self.kind, self.labels, weights, [bias - self.mean @ first, *(each for _, each in others)])


def _choose_penalty(problem: _Problem, folds: range) -> tuple[Array, float]:
    """Return the logits of the photos in the folds, held out, with the penalty of the least log loss; others are 0."""
    paths = np.zeros((len(_PENALTIES), *problem.targets.shape), np.float32)
    for fold in folds:
        held = problem.folds == fold
        fit = None
        for number, penalty in enumerate(_PENALTIES):
            fit = _fit_logistic(problem.scores[~held], problem.targets[~held], problem.kind, penalty, fit)
            paths[number, held] = problem.scores[held] @ fit[0] + fit[1]
    is_held = problem.folds < len(folds)
    targets = problem.targets[is_held]
    losses = [
        _losses(logits[is_held] / fit_temperature(logits[is_held], targets, problem.kind), targets, problem.kind).mean()
        for logits in paths
    ]
    best = int(np.argmin(losses))
    return paths[best], _PENALTIES[best]


def _fit_logistic(
    scores: Array, targets: Array, kind: Kind, penalty: float, start: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """Return weights (n_components, n_outputs) and bias of least loss + penalty / 2 · |weights|² / n_photos.

    L-BFGS in coordinates that are scaled by an estimate of the curvature, which halves the number of steps.
    """
    n_photos, n_components = scores.shape
    n_outputs = targets.shape[1]
    ridge = penalty / n_photos
    scale = (1 / np.sqrt(0.5 / n_outputs * scores.var(0) + ridge)).astype(np.float32)[:, None]
    scaled, ridges = scores * scale.T, (ridge * scale**2).astype(np.float32)

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.astype(np.float32).reshape(n_components + 1, n_outputs)
        logits = scaled @ weights[:-1] + weights[-1]
        errors = (_probabilities(logits, kind) - targets) / n_photos
        shrunk = ridges * weights[:-1]
        loss = _losses(logits, targets, kind).mean(dtype=np.float64) + (shrunk * weights[:-1]).sum() / 2
        return float(loss), np.vstack([scaled.T @ errors + shrunk, errors.sum(0)]).astype(np.float64).ravel()

    first = np.zeros((n_components + 1, n_outputs)) if start is None else np.vstack([start[0] / scale, start[1]])
    options = {"maxiter": 100, "gtol": 1e-4, "ftol": 1e-7}
    found = minimize(loss_and_gradient, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    weights = found.x.astype(np.float32).reshape(n_components + 1, n_outputs)
    return weights[:-1] * scale, weights[-1]


def _mlp_logits(problem: _Problem, folds: range, seed: int) -> Array:
    """Return the logits of the photos in the folds, each by an MLP that was stopped by the fold after it."""
    logits = np.zeros(problem.targets.shape, np.float32)
    n_folds = problem.folds.max() + 1
    for fold in folds:
        held = problem.folds == fold
        layers = _fit_mlp(problem, ~held, problem.folds == (fold + 1) % n_folds, seed)
        (first, first_bias), (second, second_bias) = layers
        logits[held] = np.maximum(problem.scores[held] @ first + first_bias, 0) @ second + second_bias
    return logits


def _fit_mlp(
    problem: _Problem, is_learnt: NDArray[np.bool_], is_stop: NDArray[np.bool_], seed: int
) -> list[tuple[Array, Array]]:
    """Return the layers of an MLP, trained by AdamW until the loss of the photos of `is_stop` no longer falls."""
    import torch
    from torch import nn

    scale = 1 / problem.scores.std()
    learnt = is_learnt & ~is_stop
    features, targets = (torch.from_numpy(each) for each in (problem.scores * scale, problem.targets))
    x, y, stop_x, stop_y = features[learnt], targets[learnt], features[is_stop], targets[is_stop]
    loss_of = nn.CrossEntropyLoss() if problem.kind == "single" else nn.BCEWithLogitsLoss()
    batch = 64 if len(x) < _ENOUGH_PHOTOS else 256
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(x.shape[1], 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, targets.shape[1])
        )
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
        best, patience = (float("inf"), network.state_dict()), 0
        for _ in range(100):
            network.train()
            for rows in torch.randperm(len(x)).split(batch):
                optimiser.zero_grad()
                loss_of(network(x[rows]), y[rows]).backward()
                optimiser.step()
            network.eval()
            with torch.no_grad():
                loss = float(loss_of(network(stop_x), stop_y))
            patience += 1
            if loss < best[0]:
                best, patience = (loss, {name: each.clone() for name, each in network.state_dict().items()}), 0
            if patience == 8:
                break
    torch.set_num_threads(n_threads)
    first, first_bias, second, second_bias = (each.numpy() for each in best[1].values())
    return [(first.T * scale, first_bias), (np.ascontiguousarray(second.T), second_bias)]


def _better(linear: Array, mlp: Array, targets: Array, kind: Kind) -> Literal["linear", "mlp"]:
    """Return the kind of head with the better held-out logits: the MLP only if by more than one standard error."""
    if kind == "single":
        answer = targets.argmax(1)
        gains = (mlp.argmax(1) == answer).astype(float) - (linear.argmax(1) == answer)
    else:
        linear_loss, mlp_loss = (
            _losses(each / fit_temperature(each, targets, kind), targets, kind) for each in (linear, mlp)
        )
        gains = linear_loss - mlp_loss
    return "mlp" if gains.mean() > gains.std() / np.sqrt(len(gains)) else "linear"


def _losses(logits: Array, targets: NDArray[np.generic], kind: Kind) -> Array:
    """Return the log loss of each photo, shape (n_photos,); of kind multi summed over labels."""
    if kind == "single":
        return -(targets * log_softmax(logits, axis=1)).sum(1)
    return -(targets * log_expit(logits) + (1 - targets) * log_expit(-logits)).sum(1)


def _probabilities(logits: Array, kind: Kind) -> Array:
    return (softmax(logits, axis=1) if kind == "single" else expit(logits)).astype(np.float32)


def _best_f1_threshold(probabilities: Array, is_true: NDArray[np.bool_]) -> float:
    """Return the threshold of the best F1, halfway to the next lower probability; 0.5 without a positive."""
    if not is_true.any():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    values, hits = probabilities[order], np.cumsum(is_true[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + hits[-1])
    f1[:-1][values[:-1] == values[1:]] = 0  # a threshold cannot part equal probabilities
    best = int(f1.argmax())
    below = values[best + 1] if best + 1 < len(values) else 0.0
    return float((values[best] + below) / 2)
