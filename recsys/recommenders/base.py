"""The interface of recommenders: additive statistics over users, a fit, and plain arrays that score blocks of users."""

from abc import ABC, abstractmethod
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
"""The name of a further array that the service gets of a model that scores by similarities, (n_sales, n_horizon)."""


class Counted(Protocol):
    """What all users did in the meantime: the events that popularity counts, see `Popularity`."""

    def decayed(self, half_life_days: float, purchase_weight: float) -> NDArray[np.float64]:
        """Return the decayed weighted number of events of each sale, shape (n_sales,).

        A visit weighs 1 and a purchase `purchase_weight`, times 2^(-age / half life).
        """
        ...


def sparse_arrays(matrix: csr_matrix) -> dict[str, np.ndarray]:
    """Return a matrix (n_sales, n_features), row by row, as the arrays that `sparse_matrix` reads."""
    parts = {"data": matrix.data, "features": matrix.indices, "offsets": matrix.indptr}
    return {**parts, "shape": np.array(matrix.shape)}


def sparse_matrix(arrays: Mapping[str, np.ndarray]) -> csr_matrix:
    """Return the matrix that `sparse_arrays` was given; the arrays are not copied."""
    return csr_matrix((arrays["data"], arrays["features"], arrays["offsets"]), shape=tuple(arrays["shape"]))


class Model(ABC):
    """A recommender fitted as of an instant."""

    @property
    @abstractmethod
    def n_horizon(self) -> int:
        """Number of sales of the horizon."""

    @abstractmethod
    def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:
        """Write the scores of all sales of the horizon for each user, higher is better, never nan.

        Args:
            histories: Of a block of users.
            features: Shape (n_users, n_features, n_horizon), contiguous; what `[:, number]` held is overwritten.
            number: The place of the recommender among the features.
        """

    def score(self, histories: Histories) -> NDArray[np.float32]:
        """Return the scores of all sales of the horizon for each user, shape (n_users, n_horizon)."""
        features = np.empty((len(histories), 1, self.n_horizon), np.float32)
        self.write(histories, features, 0)
        return features[:, 0]

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything that `Recommender.load` needs, as arrays without Python objects."""

    def served_arrays(self) -> dict[str, np.ndarray]:
        """Return what `Recommender.load` needs in the service, whose catalogue has no texts and attributes.

        It may hold further arrays that are computed from the others, so that the processes of a machine share one copy.
        """
        return self.arrays()

    def at(self, instant: int, counted: Counted) -> "Model":
        """Return the model as of a later instant, of a recommender whose scores are the same for every user.

        Args:
            instant: Microseconds since 1970 UTC.
            counted: What all users did since the model was fitted.
        """
        return self


def is_empty(model: Model) -> bool:
    """Return whether a model of features or similarities of sales has none, so that it scores all sales alike."""
    data = model.arrays().get("data")
    return data is not None and not data.size


@runtime_checkable
class Traceable(Protocol):
    """A model that can name the feature of a sale that contributes most to its score."""

    @property
    def details(self) -> Sequence[str]:
        """The names of the features that a score can be traced to; empty if they have no names for users to read."""
        ...

    def trace(self, histories: Histories, users: NDArray[np.int64], sales: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each pair of a user and a column of the horizon the number of the detail that contributes most.

        Returns:
            Numbers in `details`, -1 where none contributes.
        """
        ...


class Recommender(Protocol):
    """Scores sales for users from one kind of evidence; its score becomes one feature of the meta-model.

    The feature is log(1 + scale * score), which compresses heavy tails, or the score itself if the scale, `gain`, is 0.
    """

    @property
    def name(self) -> str:
        """Name of the recommender, of its feature and of its policy."""
        ...

    @property
    def scale(self) -> float:
        """The scale of scores in the logarithm, at least 0; if it is above 0, scores must not be negative."""
        ...

    @property
    def counted_by(self) -> str:
        """Name of the recommender whose statistics it is fitted to: its own, or one that counts the same."""
        ...

    @property
    def is_personal(self) -> bool:
        """Whether scores differ between users."""
        ...

    @property
    def is_relative(self) -> bool:
        """Whether scores differ between sales, so that the feature is their difference from the mean of the horizon."""
        ...

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Return the statistics of a block of users; empty if the recommender learns from the sales alone."""
        ...

    def fit(self, statistics: Statistics, horizon: Horizon) -> Model:
        """Return the model fitted to the statistics of all users."""
        ...

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> Model:
        """Return the model that `Model.arrays` came from."""
        ...
