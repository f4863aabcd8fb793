"""Baselines: popularity and the models of the library `implicit`, each with a grid of settings."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
from implicit.utils import ParameterWarning
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Scores = Callable[[csr_matrix], NDArray[np.float32]]
"""Number of events of each user and sale, shape (n_users, n_sales) → scores of the same shape."""

ITEM_ITEM = {"cosine": CosineRecommender, "TF-IDF": TFIDFRecommender, "BM25": BM25Recommender}
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "popularity": {"days": (1, 3, 7, 14, 28, 90, 400)},
    "cosine": {"days": (30, 60, 400), "K": (500,)},
    "TF-IDF": {"days": (30, 60, 400), "K": (500,)},
    "BM25": {"days": (30, 60, 400), "K": (200,), "K1": (1.2, 100), "B": (0.2, 0.5)},
    "ALS": {"days": (60, 400), "factors": (32, 128), "regularization": (0.1, 10)},
}
"""Every combination is tried. `days` is the window of events of model and histories; the others are `implicit`'s."""


@dataclass(frozen=True)
class Baseline:
    """A kind of model with its settings; equal baselines are fitted once."""

    kind: str
    settings: tuple[tuple[str, float], ...]

    @property
    def days(self) -> int:
        """Length of the window of events before as_of, in days."""
        return int(dict(self.settings)["days"])

    def __str__(self) -> str:
        """Return kind and settings as text."""
        return f"{self.kind} ({', '.join(f'{name} {value:g}' for name, value in self.settings)})"

    def fit(self, counts: csr_matrix) -> Scores:
        """Return scores fitted to the number of events of each user and sale, shape (n_users, n_sales)."""
        own = {name: value for name, value in self.settings if name != "days"}
        if self.kind == "popularity":
            return fit_popularity(counts)
        return fit_als(counts, own) if self.kind == "ALS" else fit_item_item(counts, self.kind, own)


def grid(kind: str) -> Iterator[Baseline]:
    """Return the baselines of a kind, one per combination of its settings."""
    for values in product(*GRIDS[kind].values()):
        yield Baseline(kind, tuple(zip(GRIDS[kind], values, strict=True)))


def fit_popularity(counts: csr_matrix) -> Scores:
    """Return scores by a sale's number of events, the same for all users."""
    events = np.asarray(counts.sum(axis=0), np.float32)
    return lambda users: np.repeat(events, users.shape[0], axis=0)


def fit_item_item(counts: csr_matrix, kind: str, settings: Mapping[str, Any]) -> Scores:
    """Return scores by similarity to the user's sales; a sale is similar to itself, so repeat purchases rank high."""
    model = ITEM_ITEM[kind](**settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParameterWarning)  # about a matrix that `implicit` makes itself
        model.fit(counts, show_progress=False)
    return lambda users: (users @ model.similarity).toarray().astype(np.float32)


def fit_als(counts: csr_matrix, settings: Mapping[str, Any]) -> Scores:
    """Return scores by the inner product of the factors of user and sale."""
    model = AlternatingLeastSquares(**settings, random_state=0)
    model.fit(counts, show_progress=False)

    def score(users: csr_matrix) -> NDArray[np.float32]:
        factors = model.recalculate_user(np.arange(users.shape[0]), users)
        return (factors @ model.item_factors.T).astype(np.float32)

    return score
