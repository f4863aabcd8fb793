"""Baselines and how they are described; the classic ones: chance, the newest sales, popularity, and the models of the
library `implicit`, which is imported only where they are fitted: `pip install 'flash-sale-recsys[peers]'`.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import Histories

Scores = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Rows of users in the histories that a model was fitted to → their scores, shape (n_rows, n_sales).

What models of several settings have in common is computed when it is first needed, once per histories and rows.
"""

Settings = Mapping[str, Any]
WHOLE_YEAR = 400
"""Window of events in days of the kinds whose grid has no `days`."""


@dataclass(frozen=True)
class Kind:
    """A kind of model. Every combination of the values of its grid is tried, `days` is its window of events."""

    name: str
    fit: Callable[[Histories, Settings], Scores] = field(compare=False)
    grid: Mapping[str, tuple[float, ...]] = field(compare=False)

    def baselines(self) -> Iterator["Baseline"]:
        """Return one baseline per combination of settings."""
        for values in product(*self.grid.values()):
            yield Baseline(self, tuple(zip(self.grid, values, strict=True)))


@dataclass(frozen=True)
class Baseline:
    """A kind of model with its settings; equal baselines are fitted once."""

    kind: Kind
    settings: tuple[tuple[str, float], ...]

    @property
    def days(self) -> int:
        """Length of the window of events before as_of, in days."""
        return int(dict(self.settings).get("days", WHOLE_YEAR))

    def __str__(self) -> str:
        """Return kind and settings as text."""
        return f"{self.kind.name} ({self.options})" if self.settings else self.kind.name

    @property
    def options(self) -> str:
        """The settings as text."""
        return ", ".join(f"{name} {value:g}" for name, value in self.settings)

    def fit(self, known: Histories) -> Scores:
        """Return scores fitted to the histories of all users."""
        return self.kind.fit(known, {name: value for name, value in self.settings if name != "days"})


def fit_popularity(known: Histories, _: Settings) -> Scores:
    """Return scores by a sale's number of events, the same for all users."""
    events = np.bincount(known.sales, minlength=known.n_sales).astype(np.float32)
    return lambda rows: np.repeat(events[None], len(rows), axis=0)


def fit_chance(known: Histories, settings: Settings) -> Scores:
    """Return random scores, of each user their own."""
    seed = int(settings["seed"])

    def score(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        of_users = [np.random.default_rng((seed, row)).random(known.n_sales, np.float32) for row in rows.tolist()]
        return np.array(of_users, np.float32).reshape(len(rows), known.n_sales)

    return score


def newest(catalogue: Catalogue) -> "Kind":
    """Return the kind that puts the sales that opened last first."""
    opened = catalogue.opens_at.argsort(kind="stable").argsort(kind="stable").astype(np.float32)
    return Kind("newest", lambda *_: lambda rows: np.repeat(opened[None], len(rows), axis=0), {})


def fit_item_item(known: Histories, settings: Settings, model: str) -> Scores:
    """Return scores by similarity to the user's sales; a sale is similar to itself, so repeat purchases rank high."""
    from implicit import nearest_neighbours
    from implicit.utils import ParameterWarning

    counts, fitted = event_counts(known), getattr(nearest_neighbours, model)(**settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParameterWarning)  # about a matrix that `implicit` makes itself
        fitted.fit(counts, show_progress=False)
    return lambda rows: (counts[rows] @ fitted.similarity).toarray().astype(np.float32)


def fit_als(known: Histories, settings: Settings) -> Scores:
    """Return scores by the inner product of the factors of user and sale; Hu et al. 2008."""
    from implicit.als import AlternatingLeastSquares

    counts = event_counts(known)
    model = AlternatingLeastSquares(**settings, random_state=0)
    model.fit(counts, show_progress=False)

    def score(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        factors = model.recalculate_user(np.arange(len(rows)), counts[rows])
        return (factors @ model.item_factors.T).astype(np.float32)

    return score


def event_counts(known: Histories) -> csr_matrix:
    """Return the number of events of each user and sale, shape (n_users, n_sales)."""
    counts = known.matrix(np.ones(len(known.sales), np.float32)).copy()  # sum_duplicates sorts in place
    counts.sum_duplicates()
    return counts


CHANCE = Kind("chance", fit_chance, {"seed": (0,)})
POPULARITY = Kind("popularity", fit_popularity, {"days": (1, 3, 7, 14, 28, 90, 400)})
CLASSIC = (
    Kind("cosine", partial(fit_item_item, model="CosineRecommender"), {"days": (30, 60, 400), "K": (500,)}),
    Kind("TF-IDF", partial(fit_item_item, model="TFIDFRecommender"), {"days": (30, 60, 400), "K": (500,)}),
    Kind(
        "BM25",
        partial(fit_item_item, model="BM25Recommender"),
        {"days": (30, 60, 400), "K": (200,), "K1": (1.2, 100), "B": (0.2, 0.5)},
    ),
    Kind("ALS", fit_als, {"days": (60, 400), "factors": (32, 128), "regularization": (0.1, 10)}),
)
