"""The scoring path shared by training set, night and service: histories → features of the meta-model."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.meta_model import Features
from recsys.recommenders import Model, Recommender
from recsys.recommenders.base import Traceable
from recsys.recommenders.context import LOW_IS_EVIDENCE
from recsys.shop.catalogue import Horizon
from recsys.shop.histories import Histories
from recsys.snapshot.format import OPEN

_SAME = 1e-4
"""Values of a feature that differ by less are the same: its mean over the horizon is rounded."""


@dataclass(frozen=True)
class Scorer:
    """All recommenders, fitted as of the same instant."""

    horizon: Horizon
    recommenders: list[Recommender]
    models: list[Model]

    @classmethod
    def load(cls, recommenders: list[Recommender], arrays: Mapping[str, bytes], horizon: Horizon) -> "Scorer":
        """Return the scorer of saved arrays by recommender name; a recommender without arrays may be absent."""
        models = [each.load(unpack(arrays[each.name]) if each.name in arrays else {}, horizon) for each in recommenders]
        return cls(horizon, recommenders, models)

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return [recommender.name for recommender in self.recommenders]

    @cached_property
    def reasons(self) -> list[str]:
        """All reasons for a sale.

        Every feature, then `feature/detail` for each detail that one can be traced to, and last OPEN, for a sale that
        no evidence speaks for.
        """
        details = (f"{self.names[number]}/{detail}" for number, _, details in self._traceable for detail in details)
        return [*self.names, *details, OPEN]

    def evidence(self, features: Features, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return whether each feature speaks for some sales of each user: more than for the user's other sales.

        A feature that is the same for all sales of a user, such as the user's activity, speaks for none.

        Args:
            features: As `features` returns them.
            values: Those of the sales, shape (n_features, n_users, k).
        """
        if isinstance(features, np.ndarray):
            varies = np.ptp(features, axis=2, keepdims=True) > _SAME
        else:
            varies = np.array([feature.shape[1] > 1 for feature in features])[:, None, None]
        return (values * self._directions > _SAME) & varies

    @cached_property
    def _directions(self) -> NDArray[np.float32]:
        """1 for each feature of which a high value speaks for a sale, -1 for the others; shape (n_features, 1, 1)."""
        directions = [-1 if name in LOW_IS_EVIDENCE else 1 for name in self.names]
        return np.array(directions, np.float32)[:, None, None]

    @cached_property
    def _traceable(self) -> list[tuple[int, Traceable, Sequence[str]]]:
        """The number, the model and the details of each feature that can be traced to a detail."""
        pairs = ((number, model) for number, model in enumerate(self.models) if isinstance(model, Traceable))
        return [(number, model, model.details) for number, model in pairs if model.details]

    def with_details(self, reasons: NDArray[np.int16], histories: Histories, sales: NDArray[np.int64]) -> None:
        """Replace features that can be traced to a detail by that detail, in place.

        Args:
            reasons: Shape (n_users, k), numbers of features; numbers in `self.reasons` afterwards.
            histories: Of the users.
            sales: Shape (n_users, k), columns of the horizon.
        """
        first = len(self.recommenders)
        for number, model, details in self._traceable:
            users, positions = np.nonzero(reasons == number)
            traced = model.trace(histories, users, sales[users, positions])
            reasons[users, positions] = np.where(traced >= 0, first + traced, number)
            first += len(details)

    def score(self, name: str, histories: Histories) -> NDArray[np.float32]:
        """Return the scores of one recommender, shape (n_users, n_horizon)."""
        scores = self.models[self.names.index(name)].score(histories)
        return np.broadcast_to(scores, (len(histories), len(self.horizon)))

    def features(self, histories: Histories) -> Features:
        """Return the features of the meta-model in the order of `names`.

        Returns:
            float32 per feature that broadcasts to (n_users, n_horizon). A feature that differs between sales is centred
            on its mean over the horizon: a heavy user's scores are all high, which distinguishes no sale.
        """
        if len(histories) == 1:
            return self._features_of_one(histories)
        return [
            self._shared_features[number]
            if number in self._shared_features
            else _feature_of_scores(model.score(histories), self.recommenders[number])
            for number, model in enumerate(self.models)
        ]

    def _features_of_one(self, histories: Histories) -> NDArray[np.float32]:
        """Return the features of a single user as one array, (n_features, 1, n_horizon): a fifth of the numpy calls."""
        features = np.empty((len(self.models), len(self.horizon)), np.float32)
        centred = []
        for number, model in enumerate(self.models):
            if number in self._shared_features:
                features[number] = self._shared_features[number]
            else:
                scores = model.score(histories)
                features[number] = scores
                if self.recommenders[number].is_relative:
                    centred.append(number)
        rows, scales = self._scales
        features[rows] = np.log1p(features[rows] * scales)
        features[centred] -= np.add.reduce(features[centred], axis=1, keepdims=True) / np.float32(len(self.horizon))
        return features[:, None, :]

    @cached_property
    def _scales(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The numbers of the personal features that have a scale, and their scales, shape (n, 1)."""
        pairs = enumerate(self.recommenders)
        scales = {number: each.scale for number, each in pairs if each.is_personal and each.scale}
        return np.array(list(scales), np.intp), np.array(list(scales.values()), np.float32)[:, None]

    @cached_property
    def _shared_features(self) -> dict[int, NDArray[np.float32]]:
        """The features that are the same for all users, by number."""
        nobody = Histories.of_unknown_user(self.horizon.as_of, 1)
        pairs = enumerate(zip(self.recommenders, self.models, strict=True))
        return {
            number: _feature_of_scores(model.score(nobody), recommender)
            for number, (recommender, model) in pairs
            if not recommender.is_personal
        }


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays that `pack` wrote; arrays of Python objects are refused, since unpickling may execute code."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def _feature_of_scores(scores: NDArray[np.float32], recommender: Recommender) -> NDArray[np.float32]:
    if recommender.scale:
        scores = scores * np.float32(recommender.scale)
        scores += 1
        np.log(scores, out=scores)
    if recommender.is_relative:
        sums: NDArray[np.float32] = np.add.reduce(scores, axis=1, keepdims=True)
        scores = scores - sums / np.float32(scores.shape[1])
    return scores
