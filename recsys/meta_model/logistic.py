"""The logistic regression, the default: fast, and its coefficients can be read."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.meta_model.base import Cells, Features, MetaModel
from recsys.meta_model.calibration import Calibration


@dataclass(frozen=True)
class Weights:
    """What a logistic regression over standardised features has learnt."""

    coefficients: list[float]
    intercept: float


@dataclass(frozen=True)
class LogisticModel(MetaModel):
    """A logistic regression: log-odds = intercept + sum of coefficient * (feature - mean) / scale.

    The intercept is corrected for the sampling of the sales not bought; King and Zeng 2001, eq. 7. A sale that the
    user bought before is not like one that is new to him: where `again` is known, it has the weights of such sales.
    """

    coefficients: list[float]
    intercept: float
    again: Weights | None = None
    calibration: Calibration | None = None
    """What its log-odds come true as: purchases seldom follow a straight line to its ends."""

    def log_odds(self, features: Features, shape: tuple[int, ...], again: Cells | None = None) -> NDArray[np.float32]:
        """Return the log-odds of each cell; features in one array are summed at once."""
        if isinstance(features, np.ndarray):
            total = np.tensordot(self.slopes, features, axes=1) + np.float32(self._constant)
        else:
            total = np.full(shape, self._constant, np.float32)
            for slope, feature in zip(self.slopes, features, strict=True):
                if slope:
                    total += feature * slope
        if self.again and again is not None and len(again[0]):
            total[again] = self._log_odds_again(features, shape, again)
        return total

    def calibrated(self, log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log-odds that come true, in the same order."""
        return self.calibration(log_odds) if self.calibration else log_odds

    def _log_odds_again(self, features: Features, shape: tuple[int, ...], cells: Cells) -> NDArray[np.float32]:
        total = np.full(len(cells[0]), self._constant_again, np.float32)
        for slope, feature in zip(self.slopes_again, features, strict=True):
            if slope:
                total += np.broadcast_to(feature, shape)[cells] * slope
        return total

    def contributions(self, values: NDArray[np.float32], is_again: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return coefficient * (feature - mean) / scale."""
        each = (slice(None), *(None for _ in is_again.shape))
        added = values - np.array(self.means, np.float32)[each]
        if self.again:
            added *= np.where(is_again, self.slopes_again[each], self.slopes[each])
        else:
            added *= self.slopes[each]
        return added

    @property
    def strengths(self) -> dict[str, float]:
        """The coefficient of each feature for a sale that is new to the user."""
        return dict(zip(self.features, self.coefficients, strict=True))

    @cached_property
    def slopes(self) -> NDArray[np.float32]:
        """Log-odds for each unit of each feature."""
        return np.divide(self.coefficients, self.scales).astype(np.float32)

    @cached_property
    def slopes_again(self) -> NDArray[np.float32]:
        """The same for sales that the user bought before."""
        return np.divide(self.again.coefficients, self.scales).astype(np.float32) if self.again else self.slopes

    @cached_property
    def _constant(self) -> float:
        return self.intercept - float(np.divide(self.coefficients, self.scales) @ self.means)

    @cached_property
    def _constant_again(self) -> float:
        if self.again is None:
            return self._constant
        return self.again.intercept - float(np.divide(self.again.coefficients, self.scales) @ self.means)

    def over(self, names: list[str]) -> "LogisticModel":
        """Return the same model over these features."""
        own = {name: place for place, name in enumerate(self.features)}

        def spread(values: list[float], otherwise: float) -> list[float]:
            return [values[own[name]] if name in own else otherwise for name in names]

        again = self.again and Weights(spread(self.again.coefficients, 0.0), self.again.intercept)
        means, scales, coefficients = spread(self.means, 0.0), spread(self.scales, 1.0), spread(self.coefficients, 0.0)
        return replace(self, features=list(names), means=means, scales=scales, coefficients=coefficients, again=again)
