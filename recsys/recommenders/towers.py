"""Towers: a learned recommender, whose vectors of a user and of a sale agree on the sales that users look at.

Its weights are no sums over users: `recsys/pipeline/tower_training.py` learns them, and here they are arrays.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_matrix, hstack

from recsys.compiled import compiled, logarithm
from recsys.errors import ModelError
from recsys.recommenders.base import Model, Statistics, sparse_arrays, sparse_matrix
from recsys.recommenders.content import Content, Features
from recsys.settings import StepSettings
from recsys.shop.catalogue import Horizon
from recsys.shop.histories import Histories
from recsys.storage.places import Place

TOWERS = "towers"
"""Name of the recommender."""
TOWERS_FILE = "towers.json"
"""File in a run's folder with the weights; empty where the run has none."""
_LAYERS = ("user", "sale")


class TowersSettings(StepSettings):
    """Settings of the two towers and of their training."""

    enabled: bool = True
    """Whether runs that train the meta-model train towers too; without, there is no such recommender."""
    half_life_days: float = Field(30.0, gt=0)
    """Half-life of the weight of an event in a user's history, in days."""
    purchase_weight: float = Field(3.0, ge=0)
    """Weight of a purchase in a user's history; a visit has weight 1."""
    prior_events: float = Field(1.0, gt=0)
    """Strength of the prior, in events: it is added to the seen and to the expected number of each feature."""
    min_sales: int = Field(5, ge=1)
    """Features that fewer sales have that are known at the end of training are left out."""
    dims: int = Field(32, ge=1)
    """Number of dimensions of the vectors."""
    days: int = Field(60, ge=2)
    """Number of days whose events are learnt from; they end before the first day that the meta-model is trained on."""
    stopping_days: int = Field(7, ge=1)
    """The last of these days are not learnt from: training stops when it no longer predicts them better."""
    min_events: int = Field(1000, ge=1)
    """Fewest events of open sales on the days to learn from, and on the days after them; with fewer, no towers are
    trained."""
    max_users: int = Field(250_000, ge=1)
    """Number of users that are learnt from; of more, that many are drawn."""
    epochs: int = Field(30, ge=1)
    """Largest number of passes over the days."""
    seconds: float = Field(600.0, gt=0)
    """Training stops after this time at the latest, in seconds. If that happens, two runs may differ."""
    learning_rate: float = Field(0.002, gt=0)
    """Step size of Adam."""
    weight_decay: float = Field(0.0001, ge=0)
    """Decoupled weight decay of Adam."""
    seed: int = 0
    """Seed of the initial weights, of the order of the users and of the draw of users."""


class Layer(NamedTuple):
    """A linear layer: y = x @ weights + bias."""

    weights: NDArray[np.float32]
    """Shape (n_inputs, n_outputs)."""
    bias: NDArray[np.float32]
    """Shape (n_outputs,)."""


@dataclass(frozen=True, eq=False)
class TowerWeights:
    """What was learnt: each tower is a linear layer."""

    features: list[str]
    """The names of the features of sales, as in `tower_features`."""
    user: Layer
    """From the features' logarithms and the logarithm of the weight of the history, (n_features + 1, n_dims)."""
    sale: Layer
    """From the features of the sale, (n_features, n_dims)."""

    def to_json(self) -> str:
        """Return the weights as JSON, to the last bit."""
        layers = {name: [values.tolist() for values in getattr(self, name)] for name in _LAYERS}
        return json.dumps({"features": self.features, **layers})

    @classmethod
    def from_json(cls, text: str) -> "TowerWeights":
        """Return the weights that `to_json` wrote.

        Raises:
            ModelError: If the text is no such weights.
        """
        try:
            content = json.loads(text)
            layers = [Layer(*(np.array(values, np.float32) for values in content[name])) for name in _LAYERS]
            return cls(content["features"], *layers)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"these are no weights of towers ({error}): train them again with 'recsys nightly'"
            ) from error


NO_TOWERS = TowerWeights([], *(Layer(np.zeros((0, 1), np.float32), np.zeros(1, np.float32)) for _ in range(2)))
"""Weights of no feature, for where only the name of the recommender matters, or what it loads."""


def read_towers(path: Place) -> TowerWeights | None:
    """Return the towers of a run from TOWERS_FILE; None where there is no file, or an empty one.

    Raises:
        ModelError: If the file cannot be read.
    """
    text = path.read_text("utf-8") if path.exists() else ""
    try:
        return TowerWeights.from_json(text) if text else None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def tower_features(families: Sequence[Content]) -> Features:
    """Return the features of all sales that both towers read, named `family/feature`.

    The value is 1 for an attribute or a price band that a sale has, and the share of each theme of its photos.
    """
    names = [f"{family.name}/{name}" for family in families for name in family.features.names]
    values = [_shares(family.features.counts) if family.details else family.features.counts for family in families]
    return Features(names, hstack(values, "csr", np.float32))


def _shares(counts: csr_matrix) -> csr_matrix:
    """Return each row divided by its sum; an empty row stays empty."""
    sums = np.asarray(counts.sum(axis=1)).ravel()
    shares = counts.copy()
    shares.data /= np.repeat(np.where(sums > 0, sums, 1), np.diff(counts.indptr))
    return shares


@dataclass(frozen=True)
class Towers:
    """The product of two learned vectors: of what a user looked at, over expected, and of what a sale is.

    The input of the user tower is log((seen(f) + a) / (expected(f) + a)) for each feature f, a being `prior_events`, as
    in `Taste`, and log(1 + weight of the history). So a user of today has a vector, and a sale that nobody has seen.

    Source:
        Huang et al. 2013, sec. 3, and Covington et al. 2016, sec. 3, for two networks of content and history trained by
        a softmax over items; unlike theirs, over all sales that were open at the moment, so that nothing is sampled and
        corrected, and without a hidden layer, which learnt more of the days at hand and less of later ones.
    """

    settings: TowersSettings
    families: Sequence[Content]
    weights: TowerWeights
    """What was learnt; not used by a model that is loaded."""
    name: str = TOWERS
    scale: float = 0.0
    is_personal: bool = True
    is_relative: bool = True

    @property
    def counted_by(self) -> str:
        """Its own name."""
        return self.name

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Return the decayed number of `events` of each sale, shape (n_sales,)."""
        weights = histories.weights(self.settings.half_life_days, self.settings.purchase_weight)
        events = np.bincount(histories.sales, weights, minlength=histories.n_sales)
        return {"events": events.astype(np.float32)}

    def fit(self, statistics: Statistics, horizon: Horizon) -> "TowersModel":
        """Return the model with the vectors of the sales of the horizon, and each feature's share of all events."""
        values, learnt = self.values, self.weights
        vectors = values[horizon.sales] @ learnt.sale.weights + learnt.sale.bias
        shares = feature_shares(values, statistics["events"])
        return TowersModel(self.settings, values, shares, learnt.user, vectors.T.copy())

    @cached_property
    def values(self) -> csr_matrix:
        """The features that were learnt, of all sales: (n_sales, n_features); zeros where the shop has none of it."""
        found = tower_features(self.families)
        column_of = {name: column for column, name in enumerate(found.names)}
        columns = np.array([column_of.get(name, -1) for name in self.weights.features], np.int64)
        is_known = np.flatnonzero(columns >= 0)
        place = csr_matrix(
            (np.ones(len(is_known), np.float32), (columns[is_known], is_known)),
            shape=(len(found.names), len(columns)),
        )
        return (found.counts @ place).tocsr()

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> "TowersModel":
        """Return the model of saved arrays."""
        user = Layer(arrays["user_weights"], arrays["user_bias"])
        return TowersModel(self.settings, sparse_matrix(arrays), arrays["shares"], user, arrays["vectors"])


def feature_shares(values: csr_matrix, events: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the sum of each feature per event, over the events of all users.

    Args:
        values: Shape (n_sales, n_features).
        events: Weighted number of events of each sale, shape (n_sales,).
    """
    events = events.astype(np.float64)
    return ((values.T @ events) / max(events.sum(), 1e-9)).astype(np.float32)


class TowersModel(Model):
    """The user tower, the features of all sales and the vectors of those of the horizon, as arrays."""

    def __init__(
        self,
        settings: TowersSettings,
        values: csr_matrix,
        shares: NDArray[np.float32],
        user: Layer,
        vectors: NDArray[np.float32],
    ) -> None:
        self.settings = settings
        self.values = values  # (n_sales, n_features)
        self.shares = shares  # (n_features,)
        self.user = user
        self.vectors = vectors  # (n_dims, n_horizon)

    @property
    def n_horizon(self) -> int:
        """Number of sales of the horizon."""
        return self.vectors.shape[1]

    def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:
        """Write the product of the vectors of user and sale."""
        _write_products(
            histories.offsets,
            histories.sales,
            histories.weights(self.settings.half_life_days, self.settings.purchase_weight),
            self.values.data,
            self.values.indices,
            self.values.indptr,
            self.shares,
            np.float32(self.settings.prior_events),
            *self.user,
            self.vectors,
            features,
            number,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything that scores users; the sale tower is not needed again."""
        return {
            **sparse_arrays(self.values),
            "shares": self.shares,
            "user_weights": self.user.weights,
            "user_bias": self.user.bias,
            "vectors": self.vectors,
        }


def user_inputs(
    histories: Histories, settings: TowersSettings, values: csr_matrix, shares: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the inputs of the user tower, shape (n_users, n_features + 1).

    Args:
        histories: Of a block of users.
        settings: Half-life, weights and prior.
        values: The features of sales, shape (n_sales, n_features).
        shares: See `feature_shares`, shape (n_features,).
    """
    inputs = np.empty((len(histories), len(shares) + 1), np.float32)
    _write_inputs(
        histories.offsets,
        histories.sales,
        histories.weights(settings.half_life_days, settings.purchase_weight),
        values.data,
        values.indices,
        values.indptr,
        shares,
        np.float32(settings.prior_events),
        inputs,
    )
    return inputs


@compiled
def _write_inputs(
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    weights: NDArray[np.float32],
    data: NDArray[np.float32],
    indices: NDArray[np.int32],
    starts: NDArray[np.int32],
    shares: NDArray[np.float32],
    prior: np.float32,
    inputs: NDArray[np.float32],
) -> None:
    for user in range(len(offsets) - 1):
        start, end = offsets[user], offsets[user + 1]
        _write_input(sales[start:end], weights[start:end], data, indices, starts, shares, prior, inputs[user])


@compiled
def _write_input(
    sales: NDArray[np.int32],
    weights: NDArray[np.float32],
    data: NDArray[np.float32],
    indices: NDArray[np.int32],
    starts: NDArray[np.int32],
    shares: NDArray[np.float32],
    prior: np.float32,
    inputs: NDArray[np.float32],
) -> None:
    """Write the inputs of one user, from their events in order of time."""
    inputs[:] = 0
    total = np.float32(0)
    for event in range(len(sales)):
        total += weights[event]
        for entry in range(starts[sales[event]], starts[sales[event] + 1]):
            inputs[indices[entry]] += weights[event] * data[entry]
    for feature in range(len(shares)):
        inputs[feature] = logarithm((inputs[feature] + prior) / (total * shares[feature] + prior))
    inputs[len(shares)] = logarithm(np.float32(1) + total)


@compiled
def _write_products(
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    weights: NDArray[np.float32],
    data: NDArray[np.float32],
    indices: NDArray[np.int32],
    starts: NDArray[np.int32],
    shares: NDArray[np.float32],
    prior: np.float32,
    user_weights: NDArray[np.float32],
    user_bias: NDArray[np.float32],
    vectors: NDArray[np.float32],
    features: NDArray[np.float32],
    number: int,
) -> None:
    inputs = np.empty(len(shares) + 1, np.float32)
    vector = np.empty_like(user_bias)
    for user in range(len(offsets) - 1):
        start, end = offsets[user], offsets[user + 1]
        _write_input(sales[start:end], weights[start:end], data, indices, starts, shares, prior, inputs)
        vector[:] = user_bias
        _add_weighted_rows(inputs, user_weights, vector)
        scores = features[user, number]
        scores[:] = 0
        _add_weighted_rows(vector, vectors, scores)


@compiled
def _add_weighted_rows(weights: NDArray[np.float32], rows: NDArray[np.float32], sums: NDArray[np.float32]) -> None:
    """Add weights @ rows to the sums, row by row: the additions of a row do not wait for each other."""
    for number in range(len(weights)):
        weight = weights[number]
        if weight != 0:
            row = rows[number]
            for column in range(len(sums)):
                sums[column] += weight * row[column]
