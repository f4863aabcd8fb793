"""Logistic regression, the default meta-model: fast, and its coefficients can be interpreted."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, Field

from recsys.compiled import compiled
from recsys.meta_model.base import Cells, Features, MetaModel, probability
from recsys.meta_model.basket import Basket
from recsys.meta_model.calibration import Calibration


@dataclass(frozen=True)
class Weights:
    """Coefficients and intercept of a logistic regression over standardised features."""

    coefficients: list[float]
    intercept: float


@dataclass(frozen=True)
class LogisticModel(MetaModel):
    """Logistic regression: log-odds = intercept + sum of coefficient * (feature - mean) / scale.

    The intercept is corrected for the sampling of negative examples; King and Zeng 2001, eq. 7. Repeat purchases, of
    sales that the user bought before, follow other laws: where `repeat` is given, it holds the weights for them.
    """

    coefficients: list[float]
    intercept: float
    repeat: Annotated[Weights | None, Field(validation_alias=AliasChoices("repeat", "again"))] = None
    """Weights for repeat purchases; `again` in models of earlier versions."""
    calibration: Calibration | None = None
    """The calibration curve of the log-odds, which are seldom right at their extremes; None for none."""

    def log_odds(self, features: Features, repeat: Cells | None = None) -> NDArray[np.float32]:
        """Return the log-odds of each cell, not calibrated."""
        by_row = np.ascontiguousarray(features.swapaxes(0, 1))  # no copy of the features of a block of users
        n_rows, n_features, *columns = by_row.shape
        by_row = by_row.reshape(n_rows, n_features, math.prod(columns))
        total = np.empty((n_rows, by_row.shape[2]), np.float32)
        _write_sums(by_row, self.slopes, self._constant, total)
        if self.repeat and repeat is not None:
            rows, places = repeat if columns else (*repeat, np.zeros_like(repeat[0]))
            _overwrite_sums(by_row, self.repeat_slopes, self._repeat_constant, rows, places, total)
        return total.reshape(n_rows, *columns)

    def calibrated(self, log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated log-odds, in the same order."""
        return self.calibration(log_odds) if self.calibration else log_odds

    def contributions(self, values: NDArray[np.float32], is_repeat: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return coefficient * (feature - mean) / scale of each feature."""
        added = np.empty(values.shape, np.float32)
        cells = np.ascontiguousarray(values).reshape(len(values), -1)
        _write_contributions(
            cells, is_repeat.reshape(-1), self._means, self.slopes, self.repeat_slopes, added.reshape(cells.shape)
        )
        return added

    def effects(self, changes: Features) -> NDArray[np.float64]:
        """Return by how much log-odds change with features, of sales new to a user and of repeat purchases.

        Args:
            changes: The features after the change less those before it, shape (n_features, n_sales).

        Returns:
            Shape (2, n_sales); add them to log-odds that are not calibrated.
        """
        return np.stack((self.slopes, self.repeat_slopes)).astype(np.float64) @ changes

    def moved(
        self, log_odds: NDArray[np.float32], effects: NDArray[np.float64], open_share: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return a user's calibrated log-odds of some sales after those before calibration have changed.

        Exact for a model without a basket. The shift that a basket has added is not known from the result: the curve of
        calibration is applied as if it were 0, and the sum of the probabilities changes as if there were no other sale.

        Args:
            log_odds: Calibrated, with the shift to the user's basket, shape (n_sales,).
            effects: What is added to each before calibration, shape (n_sales,).
            open_share: For which share of the day each sale is open, shape (n_sales,).
        """
        curve = self.calibration
        before = log_odds if curve is None else np.interp(log_odds, curve.true, curve.said)
        moved = self.calibrated((before + effects).astype(np.float32))
        if self.basket is None:
            return moved
        level = np.log(np.maximum(open_share @ probability(log_odds), 1e-12)) * (1 - self.basket.exponent)
        return moved + Basket(float(level), self.basket.exponent).shifts(moved[None], open_share)[0]

    @property
    def coefficients_by_feature(self) -> dict[str, float]:
        """The coefficient of each feature for sales that are new to the user."""
        return dict(zip(self.features, self.coefficients, strict=True))

    @cached_property
    def slopes(self) -> NDArray[np.float32]:
        """Coefficients of the features before standardisation, shape (n_features,)."""
        return np.divide(self.coefficients, self.scales).astype(np.float32)

    @cached_property
    def repeat_slopes(self) -> NDArray[np.float32]:
        """The same coefficients for repeat purchases; those of new sales if there are none."""
        return np.divide(self.repeat.coefficients, self.scales).astype(np.float32) if self.repeat else self.slopes

    @cached_property
    def _means(self) -> NDArray[np.float32]:
        return np.array(self.means, np.float32)

    @cached_property
    def _constant(self) -> np.float32:
        return np.float32(self.intercept - float(np.divide(self.coefficients, self.scales) @ self.means))

    @cached_property
    def _repeat_constant(self) -> np.float32:
        if self.repeat is None:
            return self._constant
        return np.float32(self.repeat.intercept - float(np.divide(self.repeat.coefficients, self.scales) @ self.means))

    def over(self, names: list[str]) -> "LogisticModel":
        """Return the same model over other features."""
        column_of = {name: column for column, name in enumerate(self.features)}

        def reordered(values: list[float], default: float) -> list[float]:
            return [values[column_of[name]] if name in column_of else default for name in names]

        repeat = self.repeat and Weights(reordered(self.repeat.coefficients, 0.0), self.repeat.intercept)
        means, scales = reordered(self.means, 0.0), reordered(self.scales, 1.0)
        coefficients = reordered(self.coefficients, 0.0)
        return replace(self, features=list(names), means=means, scales=scales, coefficients=coefficients, repeat=repeat)


@compiled
def _write_sums(
    features: NDArray[np.float32], slopes: NDArray[np.float32], constant: np.float32, sums: NDArray[np.float32]
) -> None:
    """Write constant + sum of slope * feature for each cell."""
    for row in range(len(features)):
        total = sums[row]
        total[:] = constant
        for number in range(len(slopes)):
            slope, feature = slopes[number], features[row, number]
            if slope != 0:
                for column in range(len(total)):
                    total[column] += slope * feature[column]


@compiled
def _overwrite_sums(
    features: NDArray[np.float32],
    slopes: NDArray[np.float32],
    constant: np.float32,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    sums: NDArray[np.float32],
) -> None:
    """Write the same for some cells, by other slopes."""
    for cell in range(len(rows)):
        total = constant
        for number in range(len(slopes)):
            total += slopes[number] * features[rows[cell], number, columns[cell]]
        sums[rows[cell], columns[cell]] = total


@compiled
def _write_contributions(
    values: NDArray[np.float32],
    is_repeat: NDArray[np.bool_],
    means: NDArray[np.float32],
    slopes: NDArray[np.float32],
    repeat_slopes: NDArray[np.float32],
    added: NDArray[np.float32],
) -> None:
    """Write slope * (value - mean) for each feature and cell."""
    for number in range(len(values)):
        mean, slope, repeat_slope = means[number], slopes[number], repeat_slopes[number]
        for cell in range(len(is_repeat)):
            added[number, cell] = (values[number, cell] - mean) * (repeat_slope if is_repeat[cell] else slope)
