"""What every recommender is: additive statistics over users, a fit, and plain arrays that score blocks."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recsys.shop.catalogue import Horizon
from recsys.shop.histories import Histories

Statistics = dict[str, NDArray[np.float32]]
"""Sums over users: the statistics of two groups of users add up to those of both."""


DENSE = "dense"
"""A further array of a model that scores by similarities, shape (n_sales, n_horizon); made of the others if absent.

The service gets it written out, so that its processes share one copy.
"""


def sparse_arrays(matrix: csr_matrix) -> dict[str, np.ndarray]:
    """Return a matrix of sales and features, row by row, as the arrays that `sparse_matrix` reads."""
    parts = {"data": matrix.data, "features": matrix.indices, "offsets": matrix.indptr}
    return {**parts, "shape": np.array(matrix.shape)}


def sparse_matrix(arrays: Mapping[str, np.ndarray]) -> csr_matrix:
    """Return the matrix of such arrays, which are not copied."""
    return csr_matrix((arrays["data"], arrays["features"], arrays["offsets"]), shape=tuple(arrays["shape"]))


class Model(Protocol):
    """A recommender fitted as of an instant."""

    def score(self, histories: Histories) -> NDArray[np.float32]:
        """Score the sales of the horizon for each user; higher is better, never nan.

        Returns:
            float32 that broadcasts to (n_users, n_horizon): one row where all users have the same scores, one
            column where all sales have.
        """
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything that `Recommender.load` needs, as arrays without objects."""
        ...


@runtime_checkable
class Traceable(Protocol):
    """A model that can say in words what a score comes from."""

    @property
    def details(self) -> Sequence[str]:
        """What a score can be traced to; empty where there is nothing to name."""
        ...

    def trace(self, histories: Histories, users: NDArray[np.int64], sales: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for pairs of a user and a column of the horizon which of `details` adds most to the score, or -1."""
        ...


class Recommender(Protocol):
    """One kind of evidence of what a user will buy; its score makes one feature of the meta-model.

    The feature is log(1 + gain * score), which tames heavy tails, or the score itself where gain is 0.
    """

    @property
    def name(self) -> str:
        """Name of recommender, feature and policy."""
        ...

    @property
    def gain(self) -> float:
        """At least 0; scores of a recommender with a gain must not be negative."""
        ...

    @property
    def counted_by(self) -> str:
        """Name of the recommender whose statistics it is fitted to: its own, or that of one that counts the same."""
        ...

    @property
    def is_personal(self) -> bool:
        """Whether scores differ from user to user."""
        ...

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Return the statistics of some users; empty if the recommender learns from the sales alone."""
        ...

    def fit(self, statistics: Statistics, horizon: Horizon) -> Model:
        """Fit to the statistics of all users."""
        ...

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> Model:
        """Return the model that `Model.arrays` came from."""
        ...
