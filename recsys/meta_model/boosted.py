"""Gradient-boosted trees, the challenger: they learn interactions of features, and cost more to train and to score."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.meta_model.base import Cells, Features, MetaModel

if TYPE_CHECKING:
    from lightgbm import Booster

CELLS_AT_ONCE = 1 << 18
"""Trees need their features side by side, in batches of this number of cells: 24 MB at a time."""


@dataclass(frozen=True)
class BoostedModel(MetaModel):
    """Gradient-boosted trees over the features and whether the user bought the sale before.

    Source:
        Ke et al. 2017, LightGBM; contributions are those of Lundberg et al. 2020, TreeSHAP. Stored as LightGBM's text,
        which is read without executing code.
    """

    trained_on: list[str]
    """The features that the trees were trained on, in order; the columns of repeat purchase and of `held` follow."""
    usual: list[float]
    """Their means in training: the value of a feature that is not among `features`."""
    trees: str
    held: list[float]
    """The fixed values of further columns that only training knows: the position on a page."""
    correction: float
    """Added to the log-odds of the trees, to correct for the sampling of negative examples."""

    def log_odds(self, features: Features, repeat: Cells | None = None) -> NDArray[np.float32]:
        """Return the log-odds of each cell."""
        shape = features.shape[1:]
        is_repeat = np.zeros(shape, bool)
        if repeat is not None:
            is_repeat[repeat] = True
        cells = [feature.reshape(-1) for feature in features]
        return self._predict_in_batches(cells, is_repeat.reshape(-1)).reshape(shape)

    def _predict_in_batches(
        self, cells: list[NDArray[np.float32]], is_repeat: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        total = np.empty(len(is_repeat), np.float32)
        for start in range(0, len(total), CELLS_AT_ONCE):
            part = slice(start, start + CELLS_AT_ONCE)
            inputs = self._tree_inputs([each[part] for each in cells], is_repeat[part])
            total[part] = self.booster.predict(inputs, raw_score=True, num_threads=1)
        return total + np.float32(self.correction)

    def contributions(self, values: NDArray[np.float32], is_repeat: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the Shapley value of each feature; that of the repeat purchase counts towards the expectation."""
        inputs = self._tree_inputs(list(values.reshape(len(values), -1)), is_repeat.reshape(-1))
        shapley = np.asarray(self.booster.predict(inputs, pred_contrib=True, num_threads=1))
        column_of = {name: column for column, name in enumerate(self.trained_on)}
        nothing = np.zeros(len(inputs))
        added = [shapley[:, column_of[name]] if name in column_of else nothing for name in self.features]
        return np.array(added, np.float32).reshape(values.shape)

    def _tree_inputs(self, cells: list[NDArray[np.float32]], is_repeat: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the columns that the trees were trained on, shape (n_cells, n_trained_on + 1 + n_held)."""
        given = dict(zip(self.features, cells, strict=True))
        known = len(self.trained_on)
        inputs = np.empty((len(is_repeat), known + 1 + len(self.held)), np.float32)
        for column, (name, usual) in enumerate(zip(self.trained_on, self.usual, strict=True)):
            inputs[:, column] = given.get(name, usual)
        inputs[:, known] = is_repeat
        inputs[:, known + 1 :] = self.held
        return inputs

    @property
    def coefficients_by_feature(self) -> dict[str, float]:
        """The importance of each feature: its share of the loss reduction of all splits."""
        gains = self.booster.feature_importance("gain")
        shares = dict(zip(self.trained_on, gains / max(gains.sum(), 1e-12), strict=False))
        return {name: float(shares.get(name, 0.0)) for name in self.features}

    @cached_property
    def booster(self) -> "Booster":
        """The trees, read at first use."""
        from lightgbm import Booster  # here: a service that ranks by no trees starts without LightGBM

        return Booster(model_str=self.trees)

    def over(self, names: list[str]) -> "BoostedModel":
        """Return the same model over other features."""
        column_of = {name: column for column, name in enumerate(self.trained_on)}
        means = [self.usual[column_of[name]] if name in column_of else 0.0 for name in names]
        known = dict(zip(self.features, self.scales, strict=True))
        scales = [known.get(name, 1.0) for name in names]
        return replace(self, features=list(names), means=means, scales=scales)
