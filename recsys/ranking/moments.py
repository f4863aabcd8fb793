"""The features of a past day as of the moments of its pages, for training and the backtest."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.instants import QUARTER
from recsys.meta_model import Features
from recsys.ranking.scorer import Scorer
from recsys.recommenders.popularity import N_QUARTERS, PopularityModel


def quarters(moments: NDArray[np.int64], as_of: int) -> NDArray[np.int64]:
    """Return the number of the quarter of an hour, from as_of on, in which each moment is; those of a day."""
    return np.clip((moments - as_of) // QUARTER, 0, N_QUARTERS - 1)


@dataclass(frozen=True)
class Moments:
    """The features that are the same for all users, as of the beginning of each quarter of an hour of a day.

    They are what the service ranks by at that moment, see `Scorer.at`; all others are as of the scorer's instant.
    """

    scorer: Scorer
    _known: dict[int, NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)

    def update_pages(self, features: Features, page_quarters: NDArray[np.int64]) -> Features:
        """Return the features of all sales of the horizon with the shared ones as of each user's quarter.

        Args:
            features: As of the scorer's instant, shape (n_features, n_users, n_horizon).
            page_quarters: Shape (n_users,).
        """
        shared, at = self._shared(page_quarters)
        found = features.copy()
        found[self.scorer.shared_features[0]] = shared[at].transpose(1, 0, 2)
        return found

    def update_cells(
        self, features: Features, columns: NDArray[np.int64], cell_quarters: NDArray[np.int64]
    ) -> Features:
        """Return the features of some sales with the shared ones as of the quarter of each.

        Args:
            features: As of the scorer's instant, shape (n_features, n_cells).
            columns: The column of the horizon of each cell, shape (n_cells,).
            cell_quarters: Shape (n_cells,).
        """
        shared, at = self._shared(cell_quarters)
        found = features.copy()
        found[self.scorer.shared_features[0]] = shared[at, :, columns].T
        return found

    def _shared(self, wanted: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the features of each different quarter, (n_different, n_shared, n_horizon), and the place of each."""
        different, at = np.unique(wanted, return_inverse=True)
        found = np.empty((len(different), len(self.scorer.shared_features[0]), len(self.scorer.horizon)), np.float32)
        for place, quarter in enumerate(different.tolist()):
            found[place] = self._at(quarter)
        return found, at

    def _at(self, quarter: int) -> NDArray[np.float32]:
        """Return the shared features as of the beginning of a quarter, shape (n_shared, n_horizon)."""
        if quarter not in self._known:
            instant = self.scorer.horizon.as_of + quarter * QUARTER
            self._known[quarter] = self.scorer.at(instant, _Counted(self.scorer, quarter)).shared_features[1]
        return self._known[quarter]


class _Counted(NamedTuple):
    """The events between the scorer's instant and the beginning of a quarter, as popularity counts them."""

    scorer: Scorer
    quarter: int

    def decayed(self, half_life_days: float, purchase_weight: float) -> NDArray[np.float64]:
        """Return the events of each sale, from the model that counts with this half-life and weight, (n_sales,)."""
        models = (each for each in self.scorer.models if isinstance(each, PopularityModel))
        wanted = half_life_days, purchase_weight
        model = next(each for each in models if (each.settings.half_life_days, each.settings.purchase_weight) == wanted)
        return model.counted_by(self.quarter)
