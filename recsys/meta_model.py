"""The meta-model: a logistic regression over the features → purchase probability."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter
from scipy.special import expit

from recsys.errors import ModelError
from recsys.settings import StepSettings

META = "meta"
"""The policy that ranks by the night's own meta-model; `meta@7` is that of version 7, and every other policy is the
name of a recommender."""


def policy_of(version: str) -> str:
    """Return the name of the policy that ranks by a version of the meta-model other than the night's own."""
    return f"{META}@{version}"


def version_in(policy: str) -> str:
    """Return the version that such a policy ranks by; empty for every other policy."""
    return policy.removeprefix(f"{META}@") if policy.startswith(f"{META}@") else ""


def is_meta(policy: str) -> bool:
    """Tell whether a policy ranks by a version of the meta-model: then its scores are log-odds."""
    return policy == META or bool(version_in(policy))


class MetaModelSettings(StepSettings):
    """Training set and logistic regression."""

    days: int = Field(14, ge=1)
    """Purchases of so many days before as_of are the training set."""
    retrain_days: int = Field(7, ge=1, exclude=True)  # excluded: it is no part of what a model is
    """A night trains a new version once the newest one of the same configuration is so old."""
    negatives: int = Field(20, ge=1)
    """So many sales open and not bought are drawn for each purchase."""
    regularization: float = Field(1.0, gt=0)
    """Inverse strength C of the L2 penalty on standardised features."""
    seed: int = 0
    """Seed of the draw of sales not bought."""
    min_again: int = Field(200, ge=1)
    """Sales that a user bought before get coefficients of their own where the training set has so many of them that
    were bought again, and as many that were not."""


Cells = tuple[NDArray[np.integer], ...]
"""Some cells of an array: their indices along each axis."""


@dataclass(frozen=True)
class Weights:
    """What a logistic regression over standardised features has learnt."""

    coefficients: list[float]
    intercept: float


@dataclass(frozen=True)
class MetaModel:
    """P(a user buys a sale on the day from as_of | he buys on that day, the sale is open), by logistic regression.

    log-odds = intercept + sum of coefficient * (feature - mean) / scale. The intercept is corrected for the sampling
    of the sales not bought; King and Zeng 2001, eq. 7. A sale that the user bought before is not like one that is new
    to him: where `again` is known, it has the weights of such sales.
    """

    features: list[str]
    means: list[float]
    scales: list[float]
    coefficients: list[float]
    intercept: float
    again: Weights | None = None

    def log_odds(
        self,
        features: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        shape: tuple[int, ...],
        again: Cells | None = None,
    ) -> NDArray[np.float32]:
        """Return the log-odds of each cell.

        Args:
            features: One array a feature that broadcasts to the shape, or one of all, whose first axis is the
                features: they are summed at once.
            shape: Of what is returned.
            again: The cells of sales that the user bought before.
        """
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

    def _log_odds_again(
        self, features: Sequence[NDArray[np.float32]] | NDArray[np.float32], shape: tuple[int, ...], cells: Cells
    ) -> NDArray[np.float32]:
        total = np.full(len(cells[0]), self._constant_again, np.float32)
        for slope, feature in zip(self.slopes_again, features, strict=True):
            if slope:
                total += np.broadcast_to(feature, shape)[cells] * slope
        return total

    @cached_property
    def slopes(self) -> NDArray[np.float32]:
        """Log-odds for each unit of each feature."""
        return np.divide(self.coefficients, self.scales).astype(np.float32)

    @cached_property
    def slopes_again(self) -> NDArray[np.float32]:
        """The same for sales that the user bought before."""
        return np.divide(self.again.coefficients, self.scales).astype(np.float32) if self.again else self.slopes

    @cached_property
    def offsets(self) -> NDArray[np.float32]:
        """The mean of each feature."""
        return np.array(self.means, np.float32)

    @cached_property
    def _constant(self) -> float:
        return self.intercept - float(np.divide(self.coefficients, self.scales) @ self.means)

    @cached_property
    def _constant_again(self) -> float:
        if self.again is None:
            return self._constant
        return self.again.intercept - float(np.divide(self.again.coefficients, self.scales) @ self.means)

    def require_features(self, names: list[str]) -> None:
        """Check that the features are those that the model was trained on.

        Raises:
            ModelError: If they are not.
        """
        if names != self.features:
            raise ModelError(
                f"the model was trained on features {', '.join(self.features)}; the configuration gives "
                f"{', '.join(names)}: train again, or correct 'recommenders.without'"
            )

    def over(self, names: list[str]) -> "MetaModel":
        """Return the same model over these features.

        A feature that it was trained without counts nothing, and so does one of its own that is not among them: it
        stands at its mean in training.
        """
        own = {name: place for place, name in enumerate(self.features)}

        def spread(values: list[float], otherwise: float) -> list[float]:
            return [values[own[name]] if name in own else otherwise for name in names]

        again = self.again and Weights(spread(self.again.coefficients, 0.0), self.again.intercept)
        means, scales = spread(self.means, 0.0), spread(self.scales, 1.0)
        return MetaModel(list(names), means, scales, spread(self.coefficients, 0.0), self.intercept, again)

    def to_json(self) -> str:
        """Write the model as JSON."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "MetaModel":
        """Read a model that `to_json` wrote."""
        return _MODEL.validate_json(text)


_MODEL = TypeAdapter(MetaModel)


def probability(log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn log-odds into probabilities in [0, 1]."""
    return expit(log_odds)
