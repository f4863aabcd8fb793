"""The one scoring path: training set, nightly pass and service all get their features here."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.meta_model import Features
from recsys.recommenders import Model, Recommender
from recsys.recommenders.base import Traceable
from recsys.shop.catalogue import Horizon
from recsys.shop.histories import Histories


@dataclass(frozen=True)
class Scorer:
    """Every recommender fitted as of the same instant."""

    horizon: Horizon
    recommenders: list[Recommender]
    models: list[Model]

    @classmethod
    def load(cls, recommenders: list[Recommender], arrays: Mapping[str, bytes], horizon: Horizon) -> "Scorer":
        """Make a scorer of the saved arrays of each recommender by name; one without any needs none."""
        models = [each.load(unpack(arrays[each.name]) if each.name in arrays else {}, horizon) for each in recommenders]
        return cls(horizon, recommenders, models)

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return [recommender.name for recommender in self.recommenders]

    @cached_property
    def reasons(self) -> list[str]:
        """What can speak for a sale: every feature, then `feature/detail` for each detail that one can be traced to."""
        return [
            *self.names,
            *(f"{self.names[number]}/{detail}" for number, _, details in self._traces for detail in details),
        ]

    @cached_property
    def _traces(self) -> list[tuple[int, Traceable, Sequence[str]]]:
        pairs = ((number, model) for number, model in enumerate(self.models) if isinstance(model, Traceable))
        return [(number, model, model.details) for number, model in pairs if model.details]

    def with_details(self, reasons: NDArray[np.int16], histories: Histories, sales: NDArray[np.int64]) -> None:
        """Put in place of features, where one can be traced to a detail, the number of that detail in `reasons`.

        Args:
            reasons: Shape (n_users, k), numbers of features; changed in place.
            histories: Of the users.
            sales: Shape (n_users, k), columns of the horizon.
        """
        first = len(self.recommenders)
        for number, model, details in self._traces:
            users, places = np.nonzero(reasons == number)
            traced = model.trace(histories, users, sales[users, places])
            reasons[users, places] = np.where(traced >= 0, first + traced, number)
            first += len(details)

    def score(self, name: str, histories: Histories) -> NDArray[np.float32]:
        """Score by one recommender alone, shape (n_users, n_horizon)."""
        scores = self.models[self.names.index(name)].score(histories)
        return np.broadcast_to(scores, (len(histories), len(self.horizon)))

    def features(self, histories: Histories) -> Features:
        """Return the features of the meta-model in the order of `names`.

        Returns:
            For each feature float32 that broadcasts to (n_users, n_horizon). A feature that differs from sale to
            sale is relative to its mean over the horizon: a heavy user's scores are all high, and that says nothing
            of any one sale.
        """
        if len(histories) == 1:
            return self._features_of_one(histories)
        return [
            self._shared_features[number]
            if number in self._shared_features
            else _feature(model.score(histories), self.recommenders[number].gain)
            for number, model in enumerate(self.models)
        ]

    def _features_of_one(self, histories: Histories) -> NDArray[np.float32]:
        """Return the features of a single user as one array: taken together, they take a fifth of the calls."""
        features = np.empty((len(self.models), len(self.horizon)), np.float32)
        centred = []
        for number, model in enumerate(self.models):
            if number in self._shared_features:
                features[number] = self._shared_features[number]
            else:
                scores = model.score(histories)
                features[number] = scores
                if scores.shape[1] > 1:
                    centred.append(number)
        rows, gains = self._gains
        features[rows] = np.log1p(features[rows] * gains)
        features[centred] -= np.add.reduce(features[centred], axis=1, keepdims=True) / np.float32(len(self.horizon))
        return features[:, None, :]

    @cached_property
    def _gains(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The personal features that have a gain, and their gains, shape (n, 1)."""
        pairs = enumerate(self.recommenders)
        gains = {number: each.gain for number, each in pairs if each.is_personal and each.gain}
        return np.array(list(gains), np.intp), np.array(list(gains.values()), np.float32)[:, None]

    @cached_property
    def _shared_features(self) -> dict[int, NDArray[np.float32]]:
        """The features that are the same for all users, computed once."""
        nobody = Histories.of_nobody_known(self.horizon.as_of, 1)
        pairs = enumerate(zip(self.recommenders, self.models, strict=True))
        return {
            number: _feature(model.score(nobody), recommender.gain)
            for number, (recommender, model) in pairs
            if not recommender.is_personal
        }


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Write arrays as an npz file in memory."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """Read arrays that `pack` wrote; an array of objects is refused, since it would run foreign code."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def _feature(scores: NDArray[np.float32], gain: float) -> NDArray[np.float32]:
    if gain:
        scores = scores * np.float32(gain)
        scores += 1
        np.log(scores, out=scores)
    if scores.shape[1] > 1:
        sums: NDArray[np.float32] = np.add.reduce(scores, axis=1, keepdims=True)
        scores = scores - sums / np.float32(scores.shape[1])
    return scores
