"""Baselines that are strong in recent comparisons: personal frequency, EASE, neighbours of users, BPR.

Unless said otherwise, they see all visits and purchases of the last 400 days, each weighted by 2^(-age / half life); an
infinite half life weighs all alike.
"""

from functools import cache

import numpy as np
from implicit.bpr import BayesianPersonalizedRanking
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import csr_matrix

from recsys.backtest.baselines import Kind, Scores, Settings, event_counts
from recsys.instants import DAY
from recsys.shop.histories import Histories

_MAX_DAYS = 1 << 17
"""More than the number of a day since 1970, so that user and day can be one integer."""


def fit_frequency(known: Histories, settings: Settings) -> Scores:
    """Return scores by the decayed number of the user's own events with each sale.

    Source:
        Personal top frequency, a strong baseline of next baskets: Li et al. 2023, "A Next Basket Recommendation Reality
        Check". The decay is ours.
    """
    return lambda rows: _frequency(known, settings["half_life"], rows)


def _frequency(known: Histories, half_life: float, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the decayed number of events of some users with each sale, shape (n_rows, n_sales)."""
    key = "frequency", half_life, rows.tobytes()
    return known.once(key, lambda: known.matrix(known.decay(half_life))[rows].toarray())


def fit_ease(known: Histories, settings: Settings) -> Scores:
    """Return scores by the linear item-item model EASE, plus `own` times personal frequency.

    A user's sale has the decayed number of events as its value, at most 1, which is 1 for an infinite half life.

    Source:
        Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", eq. 8. The diagonal of the model is zero, so
        that it says nothing about repeat purchases: personal frequency does, if `own` is above 0.
    """
    half_life, l2, own = settings["half_life"], settings["l2"], settings.get("own", 0.0)

    def predicted(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        values = _values(known, half_life)
        return values[rows] @ ease_weights(values, l2).astype(np.float32)

    def score(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        of_others = known.once(("EASE", half_life, l2, rows.tobytes()), lambda: predicted(rows))
        return of_others + own * _frequency(known, settings["own_half_life"], rows) if own else of_others

    return score


def ease_weights(interactions: csr_matrix, l2: float) -> NDArray[np.float64]:
    """Return the weights (n_items, n_items) with a zero diagonal that predict each item by the others best.

    Args:
        interactions: Shape (n_users, n_items).
        l2: Penalty on squared weights, above 0.
    """
    gram = (interactions.T @ interactions).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += l2
    cholesky, _ = lapack.dpotrf(gram, lower=True, overwrite_a=True)
    inverse, _ = lapack.dpotri(cholesky, lower=True, overwrite_c=True)  # the lower half; the upper one is undefined
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def fit_user_neighbours(known: Histories, settings: Settings) -> Scores:
    """Return scores by the sales of the k users with the highest cosine, weighted by it, plus `own` times the user's.

    Values are those of `fit_ease`.

    Source:
        Herlocker et al. 1999, "An Algorithmic Framework for Performing Collaborative Filtering". Unlike theirs, values
        are decayed events, not ratings.
    """
    half_life, k = settings["half_life"], int(settings["k"])
    values = cache(lambda: _values(known, half_life))

    def score(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        key = "user-kNN", half_life, rows.tobytes()
        cosines = known.once((*key, "cosines"), lambda: _cosines(values(), rows))
        nearest = known.once((*key, "nearest"), lambda: _best_first(cosines))[:, :k]
        nearness = np.take_along_axis(cosines, nearest, axis=1)
        theirs = known.once((*key, k), lambda: (_sparse(nearness, nearest, cosines.shape) @ values()).toarray())
        return theirs + settings["own"] * known.once((*key, "own"), lambda: values()[rows].toarray())

    return score


def _cosines(values: csr_matrix, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the cosine of some users with each other user, 0 with themselves, shape (n_rows, n_users)."""
    norms = np.sqrt(np.asarray(values.multiply(values).sum(axis=1)))
    unit = values.multiply(1 / np.maximum(norms, 1e-9)).tocsr()
    cosines = (unit[rows] @ unit.T).toarray()
    cosines[np.arange(len(rows)), rows] = 0
    return cosines


def fit_tifu_knn(known: Histories, settings: Settings) -> Scores:
    """Return scores by TIFU-kNN: a user's decayed frequencies, mixed with those of the k nearest users.

    A basket is the sales of a UTC day. Baskets form groups of size `m` from the latest on; a basket counts `within`
    times the next one of its group, a group `between` times the next one.

    Source:
        Hu et al. 2020, "Modeling Personalized Item Frequency Information for Next-basket Recommendation".
        The user is not their own neighbour; the earliest group, not the latest, may be smaller.
    """
    alpha, k = settings["alpha"], min(int(settings["k"]), len(known) - 1)
    grouping = int(settings["m"]), settings["within"], settings["between"]
    vectors = cache(lambda: tifu_vectors(known, *grouping))

    def mean_of_neighbours(nearest: NDArray[np.int64]) -> NDArray[np.float32]:
        shares = _sparse(np.full(nearest.shape, 1 / nearest.shape[1]), nearest, (len(nearest), len(known)))
        return (shares @ vectors()).toarray().astype(np.float32)

    def score(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        key = "TIFU-kNN", grouping, rows.tobytes()
        nearest = known.once((*key, "nearest"), lambda: _best_first(_nearness(vectors(), rows)))[:, :k]
        theirs = known.once((*key, k), lambda: mean_of_neighbours(nearest))
        own = known.once((*key, "own"), lambda: vectors()[rows].toarray().astype(np.float32))
        return alpha * own + (1 - alpha) * theirs

    return score


def _nearness(vectors: csr_matrix, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return minus the squared distance of some users to each user, up to a constant per row; to themselves, -inf."""
    squares = np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel()
    nearness = 2 * (vectors[rows] @ vectors.T).toarray() - squares
    nearness[np.arange(len(rows)), rows] = -np.inf
    return nearness


def tifu_vectors(known: Histories, m: int, within: float, between: float) -> csr_matrix:
    """Return the decayed frequency of each sale in the baskets of each user of `fit_tifu_knn`, (n_users, n_sales)."""
    users, sales, age, n_baskets = known.once("baskets", lambda: _baskets(known))
    group, position = age // m, age % m
    group_size, n_groups = np.minimum(m, n_baskets - group * m), -(-n_baskets // m)
    weights = within**position / group_size * between**group / n_groups
    return csr_matrix((weights, (users, sales)), (len(known), known.n_sales))


def _baskets(known: Histories) -> NDArray[np.int64]:
    """Return each sale of each basket once: the user, the sale, and how many later baskets and baskets the user has.

    Shape (4, n_basket_sales).
    """
    basket_of_event = known.user_of_event() * _MAX_DAYS + known.occurred_at // DAY
    cells = np.unique(basket_of_event * known.n_sales + known.sales)
    baskets, basket_of_cell = np.unique(cells // known.n_sales, return_inverse=True)
    users = baskets // _MAX_DAYS
    later = np.searchsorted(users, users, side="right") - 1 - np.arange(len(users))
    n_baskets = np.bincount(users, minlength=len(known))[users]
    of_baskets = np.stack([users, later, n_baskets])[:, basket_of_cell]
    return np.stack([of_baskets[0], cells % known.n_sales, *of_baskets[1:]])


def fit_bpr(known: Histories, settings: Settings) -> Scores:
    """Return scores by factors of users and sales learnt by pairwise ranking, of the library `implicit`.

    Source:
        Rendle et al. 2009, "BPR: Bayesian Personalized Ranking from Implicit Feedback". A user without events has no
        order, a sale without events is last: their factors are random.
    """
    counts = event_counts(known)
    factors, iterations = int(settings["factors"]), int(settings["iterations"])
    model = BayesianPersonalizedRanking(
        factors, settings["rate"], settings["l2"], iterations=iterations, random_state=0, num_threads=1
    )
    model.fit(counts, show_progress=False)
    is_known, has_events = np.diff(counts.indptr) > 0, np.bincount(counts.indices, minlength=known.n_sales) > 0
    users, lowest = model.user_factors * is_known[:, None], np.finfo(np.float32).min
    return lambda rows: np.where(has_events, users[rows] @ model.item_factors.T, lowest).astype(np.float32)


def _values(known: Histories, half_life: float) -> csr_matrix:
    """Return the decayed number of events of each user and sale, at most 1, shape (n_users, n_sales)."""
    values = known.matrix(known.decay(half_life)).copy()  # sum_duplicates sorts in place
    values.sum_duplicates()
    values.data = np.minimum(values.data, 1)
    return values


def _best_first(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the columns of each row by descending value, ties by column."""
    return np.argsort(-values, axis=1, kind="stable")


def _sparse(values: NDArray[np.floating], columns: NDArray[np.int64], shape: tuple[int, int]) -> csr_matrix:
    rows = np.repeat(np.arange(len(columns)), columns.shape[1])
    return csr_matrix((values.ravel(), (rows, columns.ravel())), shape)


FREQUENCY = Kind("personal frequency", fit_frequency, {"half_life": (7, 14, 30, 60, 90, 180, 365, np.inf)})
_EASE = {"half_life": (14, 30, 60, np.inf), "l2": (20, 100, 500)}
MODERN = (
    FREQUENCY,
    Kind("EASE", fit_ease, _EASE),
    Kind("EASE + own", fit_ease, _EASE | {"own": (0.1, 0.3, 1, 3), "own_half_life": (30, 90, 365, np.inf)}),
    Kind(
        "user-kNN",
        fit_user_neighbours,
        {"half_life": (7, 14, 30, 90, np.inf), "k": (20, 50, 200, 1000), "own": (0, 1, 10, 100)},
    ),
    Kind(
        "TIFU-kNN",
        fit_tifu_knn,
        {
            "m": (3, 7),
            "within": (0.9, 1),
            "between": (0.3, 0.6, 0.9),
            "alpha": (0.1, 0.3, 0.5, 0.7, 0.9),
            "k": (10, 30, 100, 300),
        },
    ),
    Kind(
        "BPR",
        fit_bpr,
        {"days": (60, 400), "factors": (64,), "rate": (0.05,), "l2": (0.001, 0.01), "iterations": (100,)},
    ),
)
