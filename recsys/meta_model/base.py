"""The interface of meta-models: features of a user and a sale → log-odds that the user buys the sale."""

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit

from recsys.errors import ModelError
from recsys.meta_model.basket import Basket
from recsys.settings import StepSettings

META = "meta"
"""The policy that ranks by the night's own version of the meta-model. `meta@7` ranks by version 7; any other policy is
the name of a recommender."""
PURCHASES_PER_FEATURE = 10
"""Fewest purchases per feature for coefficients that can be relied on: Peduzzi et al. 1996."""


def policy_of(version: str) -> str:
    """Return the name of the policy that ranks by a given version of the meta-model."""
    return f"{META}@{version}"


def version_in(policy: str) -> str:
    """Return the version in a policy's name, such as `7` in `meta@7`; empty for any other policy."""
    return policy.removeprefix(f"{META}@") if policy.startswith(f"{META}@") else ""


def is_meta(policy: str) -> bool:
    """Return whether a policy ranks by a version of the meta-model; if so, its scores are log-odds."""
    return policy == META or bool(version_in(policy))


class BoostedSettings(StepSettings):
    """Settings of gradient-boosted trees."""

    trees: int = Field(200, ge=1)
    """Number of trees, each fitted to the error of those before it."""
    leaves: int = Field(15, ge=2)
    """Maximum number of leaves of a tree."""
    learning_rate: float = Field(0.05, gt=0, le=1)
    """Learning rate: the share of its fit that each tree adds."""
    min_examples: int = Field(100, ge=1)
    """Minimum number of examples in a leaf."""


class MetaModelSettings(StepSettings):
    """Settings of the training set and of the model."""

    renamed_keys = {"min_again": "min_repeats"}

    kind: Literal["conditional", "logistic", "boosted"] = "conditional"
    """`conditional`: a logistic regression with the coefficients of a conditional logit, by which the sales bought come
    first on their pages; `logistic`: one fitted to single sales; `boosted`: gradient-boosted trees."""
    bends: bool = True
    """Whether what a feature adds may be a bent line, for `conditional` and `logistic`: its coefficient may change at
    its median, at its upper fifth and its upper twentieth."""
    days: int = Field(14, ge=1)
    """Number of days before as_of whose purchases form the training set."""
    moments: Literal["session", "midnight"] = "session"
    """As of when the training set has the features that are the same for all users, such as popularity: `session`: as
    of the quarter of an hour in which the session of the purchase began, as pages are ranked that are live; `midnight`:
    as of the midnight before, as the night ranks."""
    retrain_days: int = Field(7, ge=1, exclude=True)  # excluded: it is no part of what a model is
    """A night trains a new version if the newest one of the same configuration is at least this old, in days."""
    min_purchases: int = Field(10, ge=1, exclude=True)
    """Minimum number of purchases in the training set; with fewer, a night trains no new version."""
    negatives: int = Field(20, ge=1)
    """Number of open sales drawn per purchase as negative examples, from those that the user did not buy."""
    max_examples: int = Field(2_000_000, ge=1)
    """Upper bound of the number of training examples: training takes about 1.4 kB of memory for each. If purchases
    times (1 + negatives), plus the sales that pages showed to buyers, are more, users are drawn by a hash of their ids,
    and only their examples are made."""
    regularization: float = Field(1.0, gt=0)
    """Inverse strength C of the L2 penalty on standardised features, for `conditional` and `logistic`."""
    seed: int = 0
    """Seed of the draw of negative examples."""
    min_repeats: int = Field(200, ge=1)
    """Repeat purchases get coefficients of their own if the training set has at least this number of examples of sales
    that the user had bought before and bought once more, and of such sales that they did not."""
    boosted: BoostedSettings = BoostedSettings()


Cells = tuple[NDArray[np.int64], ...]
"""Some cells of an array: their indices along each axis."""
Features = NDArray[np.float32]
"""An array whose first axis is the features."""


@dataclass(frozen=True)
class MetaModel(ABC):
    """P(a user buys a sale on the day from as_of | the user buys on that day, the sale is open)."""

    features: list[str]
    means: list[float]
    """Mean of each feature in training."""
    scales: list[float]
    """Standard deviation of each feature in training."""
    basket: Basket | None = field(default=None, kw_only=True)
    """What a user's probabilities sum to; None for a model that was trained without."""

    @abstractmethod
    def log_odds(self, features: Features, repeat: Cells | None = None) -> NDArray[np.float32]:
        """Return the log-odds of each cell, not calibrated; they rank, see `calibrated` for probabilities.

        Args:
            features: In the order of `self.features`, shape (n_features, ...); that of the result is what follows.
            repeat: The cells of repeat purchases: sales that the user bought before.
        """

    def calibrated(self, log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated log-odds, in the same order; unchanged for a model without a calibration curve."""
        return log_odds

    def shifts(self, log_odds: NDArray[np.float32], is_open: NDArray[Any]) -> NDArray[np.float32]:
        """Return what to add to each user's calibrated log-odds, so that the probabilities sum to the user's basket.

        Args:
            log_odds: Shape (n_users, n_sales), calibrated.
            is_open: Whether each sale is open, or for which share of the day, broadcasting to that shape.

        Returns:
            Shape (n_users,); zeros for a model without a basket.
        """
        return np.zeros(len(log_odds), np.float32) if self.basket is None else self.basket.shifts(log_odds, is_open)

    @abstractmethod
    def contributions(self, values: NDArray[np.float32], is_repeat: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the contribution of each feature to the log-odds, relative to its mean, shape as `values`.

        Args:
            values: The features, shape (n_features, ...).
            is_repeat: Whether the user bought the sale before, shape (...).
        """

    @property
    @abstractmethod
    def coefficients_by_feature(self) -> dict[str, float]:
        """The coefficient, or importance, of each feature; 0 for one that has no influence."""

    @abstractmethod
    def over(self, names: list[str]) -> Self:
        """Return the same model over other features.

        Features that it was not trained on have no influence; features of its training that are not among `names` are
        fixed at their mean in training.
        """

    def require_features(self, names: list[str]) -> None:
        """Check that the model was trained on these features, in this order.

        Raises:
            ModelError: If it was not.
        """
        if names != self.features:
            raise ModelError(
                f"the model was trained on features {', '.join(self.features)}; the configuration gives "
                f"{', '.join(names)}: train again, or correct 'recommenders.without'"
            )

    def to_json(self) -> str:
        """Return the model as JSON."""
        return json.dumps(asdict(self), indent=2)


def probability(log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities in [0, 1] of log-odds."""
    return expit(log_odds)
