"""What every meta-model is: features of a user and a sale → the log-odds that he buys it."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
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


class BoostedSettings(StepSettings):
    """Gradient-boosted trees."""

    trees: int = Field(200, ge=1)
    """So many trees, each mending what those before it got wrong."""
    leaves: int = Field(15, ge=2)
    """Of a tree at most."""
    learning_rate: float = Field(0.05, gt=0, le=1)
    """A tree mends this share of the error."""
    min_examples: int = Field(100, ge=1)
    """In a leaf at least."""


class MetaModelSettings(StepSettings):
    """Training set and model."""

    kind: Literal["logistic", "boosted"] = "logistic"
    """A logistic regression, or gradient-boosted trees."""
    days: int = Field(14, ge=1)
    """Purchases of so many days before as_of are the training set."""
    retrain_days: int = Field(7, ge=1, exclude=True)  # excluded: it is no part of what a model is
    """A night trains a new version once the newest one of the same configuration is so old."""
    negatives: int = Field(20, ge=1)
    """So many sales open and not bought are drawn for each purchase."""
    regularization: float = Field(1.0, gt=0)
    """Inverse strength C of the L2 penalty on standardised features, for the logistic regression."""
    seed: int = 0
    """Seed of the draw of sales not bought."""
    min_again: int = Field(200, ge=1)
    """Sales that a user bought before get coefficients of their own where the training set has so many of them that
    were bought again, and as many that were not."""
    boosted: BoostedSettings = BoostedSettings()


Cells = tuple[NDArray[np.integer], ...]
"""Some cells of an array: their indices along each axis."""
Features = Sequence[NDArray[np.float32]] | NDArray[np.float32]
"""One array a feature, each broadcasting to the same shape, or one array of all, whose first axis is the features."""


@dataclass(frozen=True)
class MetaModel(ABC):
    """P(a user buys a sale on the day from as_of | he buys on that day, the sale is open)."""

    features: list[str]
    means: list[float]
    """Of each feature in training."""
    scales: list[float]
    """Standard deviation of each feature in training."""

    @abstractmethod
    def log_odds(self, features: Features, shape: tuple[int, ...], again: Cells | None = None) -> NDArray[np.float32]:
        """Return the log-odds of each cell, which rank; `calibrated` makes those that come true of them.

        Args:
            features: In the order of `self.features`.
            shape: Of what is returned.
            again: The cells of sales that the user bought before.
        """

    def calibrated(self, log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log-odds that come true, in the same order: those given, unless a model knows better."""
        return log_odds

    @abstractmethod
    def contributions(self, values: NDArray[np.float32], is_again: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return what each feature adds to the log-odds, against its usual value, shape as `values`.

        Args:
            values: The features, shape (n_features, ...).
            is_again: Whether the user bought the sale before, shape (...).
        """

    @property
    @abstractmethod
    def strengths(self) -> dict[str, float]:
        """How much each feature weighs; 0 where it counts nothing."""

    @abstractmethod
    def over(self, names: list[str]) -> Self:
        """Return the same model over these features.

        A feature that it was trained without counts nothing, and one of its own that is not among them stands at its
        mean in training.
        """

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

    def to_json(self) -> str:
        """Write the model as JSON."""
        return json.dumps(asdict(self), indent=2)


def probability(log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn log-odds into probabilities in [0, 1]."""
    return expit(log_odds)
