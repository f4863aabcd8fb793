"""Logistic regression, the default meta-model: fast, and its coefficients can be interpreted."""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, NamedTuple

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
    knots: list[list[float]] = field(default_factory=list)
    """For each feature the values, not standardised, above which its coefficient changes; empty if none does."""
    bends: list[list[float]] = field(default_factory=list)
    """By how much it changes at each of them."""


@dataclass(frozen=True)
class LogisticModel(MetaModel):
    """Logistic regression: log-odds = intercept + sum of coefficient * (feature - mean) / scale.

    A coefficient may change at some values of its feature, its knots: a feature then adds a continuous, piecewise
    linear function of its value, which is 0 at the mean.

    The intercept is corrected for the sampling of negative examples; King and Zeng 2001, eq. 7. Repeat purchases, of
    sales that the user bought before, follow other laws: where `repeat` is given, it holds the weights for them.
    """

    coefficients: list[float]
    intercept: float
    repeat: Annotated[Weights | None, Field(validation_alias=AliasChoices("repeat", "again"))] = None
    """Weights for repeat purchases; `again` in models of earlier versions."""
    calibration: Calibration | None = None
    """The calibration curve of the log-odds, which are seldom right at their extremes; None for none."""
    knots: list[list[float]] = field(default_factory=list)
    """As in `Weights`, for sales that are new to the user; also `bends`."""
    bends: list[list[float]] = field(default_factory=list)

    def log_odds(self, features: Features, repeat: Cells | None = None) -> NDArray[np.float32]:
        """Return the log-odds of each cell, not calibrated."""
        by_row = np.ascontiguousarray(features.swapaxes(0, 1))  # no copy of the features of a block of users
        n_rows, n_features, *columns = by_row.shape
        by_row = by_row.reshape(n_rows, n_features, math.prod(columns))
        total = np.empty((n_rows, by_row.shape[2]), np.float32)
        _write_sums(by_row, *self._new_curves, total)
        if self.repeat and repeat is not None:
            rows, places = repeat if columns else (*repeat, np.zeros_like(repeat[0]))
            _overwrite_sums(by_row, *self._repeat_curves, rows, places, total)
        return total.reshape(n_rows, *columns)

    def calibrated(self, log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated log-odds, in the same order."""
        return self.calibration(log_odds) if self.calibration else log_odds

    def contributions(self, values: NDArray[np.float32], is_repeat: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return what each feature adds: coefficient * (feature - mean) / scale, if no coefficient changes."""
        added = np.empty(values.shape, np.float32)
        cells = np.ascontiguousarray(values).reshape(len(values), -1)
        _write_contributions(cells, is_repeat.reshape(-1), self._means, *self._both, added.reshape(cells.shape))
        return added

    def effects(self, before: Features, after: Features) -> NDArray[np.float64]:
        """Return by how much log-odds change with features, of sales new to a user and of repeat purchases.

        Args:
            before: The features before the change, shape (n_features, n_sales).
            after: Those after it.

        Returns:
            Shape (2, n_sales); add them to log-odds that are not calibrated.
        """
        cases = [np.full(before.shape[1], is_repeat) for is_repeat in (False, True)]
        changes = [self.contributions(after, case) - self.contributions(before, case) for case in cases]
        return np.stack([change.sum(axis=0, dtype=np.float64) for change in changes])

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
        """What each feature adds to the log-odds of a sale new to the user, one standard deviation above its mean.

        That is the feature's coefficient, if it does not change.
        """
        return self._one_deviation_up(is_repeat=False)

    @property
    def repeat_coefficients_by_feature(self) -> dict[str, float]:
        """The same for repeat purchases."""
        return self._one_deviation_up(is_repeat=True)

    def _one_deviation_up(self, is_repeat: bool) -> dict[str, float]:
        weights = self.repeat if is_repeat and self.repeat else self._weights
        above = np.add(self.means, self.scales)
        added = [
            coefficient
            + sum(
                bend * (max(up - knot, 0) - max(mean - knot, 0)) / scale
                for knot, bend in zip(knots, bends, strict=True)
            )
            for coefficient, mean, up, scale, knots, bends in zip(
                weights.coefficients, self.means, above.tolist(), self.scales, *_by_feature(weights), strict=True
            )
        ]
        return dict(zip(self.features, added, strict=True))

    @property
    def _weights(self) -> Weights:
        return Weights(self.coefficients, self.intercept, self.knots, self.bends)

    @cached_property
    def _new_curves(self) -> "_Curves":
        return self._curves(self._weights)

    @cached_property
    def _repeat_curves(self) -> "_Curves":
        """Those of new sales if there are no others."""
        return self._curves(self.repeat) if self.repeat else self._new_curves

    @cached_property
    def _both(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Slopes, knots and bends of both curves, (2, n_features) and (2, n_features, n_knots)."""
        first, repeat = self._new_curves, self._repeat_curves
        most = max(first.knots.shape[1], repeat.knots.shape[1])

        def padded(values: NDArray[np.float32], nothing: float) -> NDArray[np.float32]:
            return np.pad(values, ((0, 0), (0, most - values.shape[1])), constant_values=nothing)

        knots = np.stack([padded(each.knots, np.inf) for each in (first, repeat)])
        bends = np.stack([padded(each.bends, 0) for each in (first, repeat)])
        return np.stack([first.slopes, repeat.slopes]), knots, bends

    @cached_property
    def _means(self) -> NDArray[np.float32]:
        return np.array(self.means, np.float32)

    def _curves(self, weights: Weights) -> "_Curves":
        slopes, means = np.divide(weights.coefficients, self.scales), np.array(self.means)
        most = max(map(len, weights.knots), default=0)
        knots, bends = np.full((len(slopes), most), np.inf), np.zeros((len(slopes), most))
        for number, (own_knots, own_bends) in enumerate(zip(weights.knots, weights.bends, strict=True)):
            knots[number, : len(own_knots)] = own_knots
            bends[number, : len(own_bends)] = np.divide(own_bends, self.scales[number])
        at_means = slopes @ means + (bends * np.maximum(means[:, None] - knots, 0)).sum()
        single = np.float32
        return _Curves(
            slopes.astype(single), knots.astype(single), bends.astype(single), single(weights.intercept - at_means)
        )

    def over(self, names: list[str]) -> "LogisticModel":
        """Return the same model over other features."""
        column_of = {name: column for column, name in enumerate(self.features)}

        def reordered(values: list[float], default: float) -> list[float]:
            return [values[column_of[name]] if name in column_of else default for name in names]

        def of_others(weights: Weights) -> Weights:
            knots, bends = (
                [values[column_of[name]] if name in column_of else [] for name in names] if any(values) else []
                for values in (weights.knots, weights.bends)
            )
            return Weights(reordered(weights.coefficients, 0.0), weights.intercept, knots, bends)

        first, repeat = of_others(self._weights), self.repeat and of_others(self.repeat)
        means, scales = reordered(self.means, 0.0), reordered(self.scales, 1.0)
        return replace(
            self,
            features=list(names),
            means=means,
            scales=scales,
            coefficients=first.coefficients,
            repeat=repeat,
            knots=first.knots,
            bends=first.bends,
        )


class _Curves(NamedTuple):
    """What features add to log-odds, not standardised: the arguments of the compiled loops."""

    slopes: NDArray[np.float32]
    """Below the first knot, shape (n_features,)."""
    knots: NDArray[np.float32]
    """Ascending, shape (n_features, n_knots); infinite for a feature with fewer."""
    bends: NDArray[np.float32]
    """By how much the slope changes at each knot, shape (n_features, n_knots)."""
    constant: np.float32
    """The log-odds where all features are 0."""


def _by_feature(weights: Weights) -> tuple[list[list[float]], list[list[float]]]:
    """Return knots and bends, empty lists for features without."""
    nothing: list[list[float]] = [[] for _ in weights.coefficients]
    return weights.knots or nothing, weights.bends or nothing


@compiled
def _write_sums(
    features: NDArray[np.float32],
    slopes: NDArray[np.float32],
    knots: NDArray[np.float32],
    bends: NDArray[np.float32],
    constant: np.float32,
    sums: NDArray[np.float32],
) -> None:
    """Write constant + sum of what each feature adds, for each cell."""
    for row in range(len(features)):
        total = sums[row]
        total[:] = constant
        for number in range(len(slopes)):
            slope, feature = slopes[number], features[row, number]
            if slope != 0:
                for column in range(len(total)):
                    total[column] += slope * feature[column]
            for place in range(knots.shape[1]):
                knot, bend = knots[number, place], bends[number, place]
                if bend != 0:
                    for column in range(len(total)):
                        total[column] += bend * max(feature[column] - knot, np.float32(0))


@compiled
def _overwrite_sums(
    features: NDArray[np.float32],
    slopes: NDArray[np.float32],
    knots: NDArray[np.float32],
    bends: NDArray[np.float32],
    constant: np.float32,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    sums: NDArray[np.float32],
) -> None:
    """Write the same for some cells, by other curves."""
    for cell in range(len(rows)):
        total = constant
        for number in range(len(slopes)):
            value = features[rows[cell], number, columns[cell]]
            total += slopes[number] * value
            for place in range(knots.shape[1]):
                if bends[number, place] != 0:
                    total += bends[number, place] * max(value - knots[number, place], np.float32(0))
        sums[rows[cell], columns[cell]] = total


@compiled
def _write_contributions(
    values: NDArray[np.float32],
    is_repeat: NDArray[np.bool_],
    means: NDArray[np.float32],
    slopes: NDArray[np.float32],
    knots: NDArray[np.float32],
    bends: NDArray[np.float32],
    added: NDArray[np.float32],
) -> None:
    """Write what each feature adds to each cell, less what it adds at its mean."""
    for number in range(len(values)):
        mean = means[number]
        for cell in range(len(is_repeat)):
            curve, value = np.int64(is_repeat[cell]), values[number, cell]
            total = (value - mean) * slopes[curve, number]
            for place in range(knots.shape[2]):
                knot, bend = knots[curve, number, place], bends[curve, number, place]
                total += bend * (max(value - knot, np.float32(0)) - max(mean - knot, np.float32(0)))
            added[number, cell] = total
