"""Logistic regression on stored embeddings: as a head, and as probabilities of photos that it was not fitted to."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from recsys.images.lab.head import Head, unit_length

FOLDS = 5
C = 30.0
"""Inverse strength of the ridge penalty on embeddings of length 1."""
_NEVER = 30.0
"""Logit, but for its sign, of an output whose training photos all have the label, or none has."""


def fit_linear(
    embeddings: NDArray[np.float32], targets: NDArray[np.bool_], labels: list[str], kind: Literal["single", "multi"]
) -> Head:
    """Fit a head of one layer.

    Args:
        embeddings: Shape (n_photos, n_features), of any length.
        targets: Shape (n_photos, n_outputs), of kind single one per row.
        labels: Ids of the first outputs.
        kind: Whether outputs are exclusive; if not, each is fitted by itself.
    """
    inputs = unit_length(embeddings)
    weight = np.zeros((inputs.shape[1], targets.shape[1]), np.float32)
    bias = np.where(targets.any(0), _NEVER, -_NEVER).astype(np.float32)
    if kind == "single":
        used = np.flatnonzero(targets.any(0))
        if len(used) > 1:
            fitted = _regression().fit(inputs, targets.argmax(1))
            signs = np.array([[-0.5], [0.5]]) if len(used) == 2 else 1  # of two classes one difference is fitted
            weight[:, used], bias[used] = (signs * fitted.coef_).T, (signs * fitted.intercept_[np.newaxis].T).ravel()
        return Head(kind, labels, [weight], [bias])
    for column in np.flatnonzero(targets.any(0) & ~targets.all(0)):
        fitted = _regression().fit(inputs, targets[:, column])
        weight[:, column], bias[column] = fitted.coef_[0], fitted.intercept_[0]
    return Head(kind, labels, [weight], [bias])


def out_of_fold_probabilities(
    embeddings: NDArray[np.float32],
    targets: NDArray[np.bool_],
    groups: NDArray[np.int64],
    labels: list[str],
    kind: Literal["single", "multi"],
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return probabilities by heads that saw no photo of a photo's group, shape (n_photos, n_outputs).

    Args:
        embeddings, targets, labels, kind: See `fit_linear`.
        groups: Shape (n_photos,); photos of one group are in one fold.
        seed: Seed of the folds.
    """
    folds = folds_of(targets, groups, seed)
    probabilities = np.zeros(targets.shape)
    for fold in np.unique(folds):
        held_out = folds == fold
        head = fit_linear(embeddings[~held_out], targets[~held_out], labels, kind)
        probabilities[held_out] = head.probabilities(embeddings[held_out])
    return probabilities


def folds_of(targets: NDArray[np.bool_], groups: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """Return a fold of FOLDS for each photo: groups stay together, each label's groups are spread evenly."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = np.lexsort((np.random.default_rng(seed).random(len(first)), targets[first].argmax(1)))
    folds = np.empty(len(first), np.int64)
    folds[order] = np.arange(len(first)) % FOLDS
    return folds[group]


def _regression() -> LogisticRegression:
    return LogisticRegression(C=C, tol=1e-3, max_iter=1000)
