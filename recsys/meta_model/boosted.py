"""Gradient-boosted trees, the challenger: they find by themselves which features belong together, and cost more."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.meta_model.base import Cells, Features, MetaModel

if TYPE_CHECKING:
    from lightgbm import Booster

CELLS_AT_ONCE = 1 << 18
"""Trees take their features side by side: 24 MB of them at a time."""


@dataclass(frozen=True)
class BoostedModel(MetaModel):
    """Trees over the features and whether the user bought the sale before.

    Source:
        Ke et al. 2017, LightGBM; contributions are those of Lundberg et al. 2020, TreeSHAP. Kept as LightGBM's text,
        which is read without running anything.
    """

    trained_on: list[str]
    """The features that the trees know, in their order; after them come whether the sale was bought before, and what
    is held."""
    usual: list[float]
    """Their means in training: what one that is not among `features` stands at."""
    trees: str
    held: list[float]
    """The values of further columns that only training knows, the place on a page."""
    correction: float
    """Added to the log-odds of the trees, for the sampling of the sales not bought."""

    def log_odds(self, features: Features, shape: tuple[int, ...], again: Cells | None = None) -> NDArray[np.float32]:
        """Return the log-odds of each cell."""
        is_again = np.zeros(shape, bool)
        if again is not None:
            is_again[again] = True
        cells = [np.broadcast_to(feature, shape).reshape(-1) for feature in features]
        return self._of_trees(cells, is_again.reshape(-1)).reshape(shape)

    def _of_trees(self, cells: list[NDArray[np.float32]], is_again: NDArray[np.bool_]) -> NDArray[np.float32]:
        total = np.empty(len(is_again), np.float32)
        for start in range(0, len(total), CELLS_AT_ONCE):
            part = slice(start, start + CELLS_AT_ONCE)
            rows = self._rows([each[part] for each in cells], is_again[part])
            total[part] = self.booster.predict(rows, raw_score=True, num_threads=1)
        return total + np.float32(self.correction)

    def contributions(self, values: NDArray[np.float32], is_again: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the Shapley value of each feature; that of having been bought before goes to the expectation."""
        rows = self._rows(list(values.reshape(len(values), -1)), is_again.reshape(-1))
        found = np.asarray(self.booster.predict(rows, pred_contrib=True, num_threads=1))
        own = {name: place for place, name in enumerate(self.trained_on)}
        nothing = np.zeros(len(rows))
        added = [found[:, own[name]] if name in own else nothing for name in self.features]
        return np.array(added, np.float32).reshape(values.shape)

    def _rows(self, cells: list[NDArray[np.float32]], is_again: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Put features side by side as the trees know them, shape (n_cells, n_trained_on + 1 + n_held)."""
        given = dict(zip(self.features, cells, strict=True))
        known = len(self.trained_on)
        rows = np.empty((len(is_again), known + 1 + len(self.held)), np.float32)
        for column, (name, usual) in enumerate(zip(self.trained_on, self.usual, strict=True)):
            rows[:, column] = given.get(name, usual)
        rows[:, known] = is_again
        rows[:, known + 1 :] = self.held
        return rows

    @property
    def strengths(self) -> dict[str, float]:
        """The share of each feature in what the trees gained by splitting."""
        gains = self.booster.feature_importance("gain")
        shares = dict(zip(self.trained_on, gains / max(gains.sum(), 1e-12), strict=False))
        return {name: float(shares.get(name, 0.0)) for name in self.features}

    @cached_property
    def booster(self) -> "Booster":
        """The trees, read when they are first needed."""
        from lightgbm import Booster  # here: a service that ranks by no trees starts without

        return Booster(model_str=self.trees)

    def over(self, names: list[str]) -> "BoostedModel":
        """Return the same model over these features."""
        own = {name: place for place, name in enumerate(self.trained_on)}
        means = [self.usual[own[name]] if name in own else 0.0 for name in names]
        known = dict(zip(self.features, self.scales, strict=True))
        scales = [known.get(name, 1.0) for name in names]
        return replace(self, features=list(names), means=means, scales=scales)
