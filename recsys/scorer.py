"""The one scoring path: training set, nightly pass and service all get their features here."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue import Horizon
from recsys.histories import Histories
from recsys.recommenders import Model, Recommender


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

    def score(self, name: str, histories: Histories) -> NDArray[np.float32]:
        """Score by one recommender alone, shape (n_users, n_horizon)."""
        scores = self.models[self.names.index(name)].score(histories)
        return np.broadcast_to(scores, (len(histories), len(self.horizon)))

    def features(self, histories: Histories) -> list[NDArray[np.float32]]:
        """Return the features of the meta-model in the order of `names`.

        Returns:
            For each feature float32 that broadcasts to (n_users, n_horizon). A feature that differs from sale to
            sale is relative to its mean over the horizon: a heavy user's scores are all high, and that says nothing
            of any one sale.
        """
        pairs = zip(self.recommenders, self.models, strict=True)
        return [_feature(model.score(histories), recommender.gain) for recommender, model in pairs]


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
        scores = scores - scores.mean(axis=1, keepdims=True)
    return scores
