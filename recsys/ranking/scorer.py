"""The scoring path shared by training set, night and service: histories → features of the meta-model."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.compiled import compiled, logarithm, total
from recsys.meta_model import Features
from recsys.recommenders import Model, Recommender
from recsys.recommenders.base import Counted, Traceable
from recsys.recommenders.context import LOW_IS_EVIDENCE
from recsys.shop.catalogue import Horizon
from recsys.shop.histories import Histories
from recsys.snapshot.format import OPEN


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

    @cached_property
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

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """1 for each feature of which a high value speaks for a sale, -1 where a low one does, 0 where none does.

        High and low are in comparison with the user's other sales: a feature that is the same for all sales of a user,
        such as the user's activity, speaks for none. The shape is (n_features,).
        """
        directions = [
            (-1 if each.name in LOW_IS_EVIDENCE else 1) if each.is_relative else 0 for each in self.recommenders
        ]
        return np.array(directions, np.float32)

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
            is_traced = reasons == number
            if is_traced.any():
                users = is_traced.nonzero()[0]
                traced = model.trace(histories, users, sales[is_traced])
                reasons[is_traced] = np.where(traced >= 0, first + traced, number)
            first += len(details)

    def at(self, instant: int, counted: Counted) -> "Scorer":
        """Return the scorer with the features that are the same for all users as of a later instant.

        Args:
            instant: Microseconds since 1970 UTC.
            counted: What all users did since the instant of the horizon.
        """
        pairs = zip(self.recommenders, self.models, strict=True)
        return replace(
            self, models=[model if each.is_personal else model.at(instant, counted) for each, model in pairs]
        )

    def score(self, name: str, histories: Histories) -> NDArray[np.float32]:
        """Return the scores of one recommender, shape (n_users, n_horizon)."""
        return self.models[self.names.index(name)].score(histories)

    def features(self, histories: Histories) -> Features:
        """Return the features of the meta-model in the order of `names`, for one user or thousands.

        A feature is log(1 + scale * score), or the score itself where the scale is 0. A feature that differs between
        sales is centred on its mean over the horizon: a heavy user's scores are all high, which distinguishes no sale.

        Returns:
            Shape (n_features, n_users, n_horizon); in memory, the features of a user are side by side.
        """
        features = np.empty((len(histories), len(self.models), len(self.horizon)), np.float32)
        for number, model in self._personal:
            model.write(histories, features, number)
        _finish(features, self._scales, self._is_relative, *self.shared_features)
        return features.transpose(1, 0, 2)

    @cached_property
    def _personal(self) -> list[tuple[int, Model]]:
        """The features that differ between users, by number."""
        pairs = enumerate(zip(self.recommenders, self.models, strict=True))
        return [(number, model) for number, (recommender, model) in pairs if recommender.is_personal]

    @cached_property
    def _scales(self) -> NDArray[np.float32]:
        return np.array([each.scale for each in self.recommenders], np.float32)

    @cached_property
    def _is_relative(self) -> NDArray[np.bool_]:
        return np.array([each.is_relative for each in self.recommenders], bool)

    @cached_property
    def shared_features(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The numbers of the features that are the same for all users, and their values, shape (n, n_horizon)."""
        numbers = [number for number, each in enumerate(self.recommenders) if not each.is_personal]
        features = np.empty((1, len(numbers), len(self.horizon)), np.float32)
        nobody = Histories.of_unknown_user(self.horizon.as_of, 1)
        for place, number in enumerate(numbers):
            self.models[number].write(nobody, features, place)
        nothing = np.empty((0, len(self.horizon)), np.float32)
        _finish(features, self._scales[numbers], self._is_relative[numbers], np.empty(0, np.int64), nothing)
        return np.array(numbers, np.int64), features[0]


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays that `pack` wrote; arrays of Python objects are refused, since unpickling may execute code."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


@compiled
def _finish(
    features: NDArray[np.float32],
    scales: NDArray[np.float32],
    is_relative: NDArray[np.bool_],
    shared: NDArray[np.int64],
    shared_features: NDArray[np.float32],
) -> None:
    """Turn scores into features, in place, and copy those that are the same for all users to their places.

    Args:
        features: Shape (n_users, n_features, n_horizon); the places of shared features may hold anything.
        scales: Shape (n_features,).
        is_relative: Shape (n_features,).
        shared: The numbers of the shared features, ascending.
        shared_features: Shape (n_shared, n_horizon), finished.
    """
    n_users, n_features, n_horizon = features.shape
    for user in range(n_users):
        place = 0
        for number in range(n_features):
            row = features[user, number]
            if place < len(shared) and shared[place] == number:
                row[:] = shared_features[place]
                place += 1
                continue
            scale = scales[number]
            if scale > 0:
                for column in range(n_horizon):
                    row[column] = logarithm(np.float32(1) + scale * row[column])
            if is_relative[number]:
                mean = np.float32(total(row) / n_horizon)
                for column in range(n_horizon):
                    row[column] -= mean
