"""What a night learns, drawn at random: as expensive to apply as what is learnt, for benchmarks that train nothing."""

import numpy as np

from recsys.meta_model import LogisticModel, Weights
from recsys.recommenders import RecommenderSettings, tower_families
from recsys.recommenders.towers import Layer, TowersSettings, TowerWeights, tower_features
from recsys.shop.catalogue import Catalogue

_KNOTS = [-0.1, 0.5, 1.5]


def random_meta_model(names: list[str]) -> LogisticModel:
    """Return a meta-model with bends, and with weights of its own for repeat purchases."""
    n, rng = len(names), np.random.default_rng(0)
    knots = [_KNOTS] * n

    def bends() -> list[list[float]]:
        return rng.normal(0, 0.1, (n, len(_KNOTS))).tolist()

    repeat = Weights([0.4] * n, -4.0, knots, bends())
    return LogisticModel(names, [0.0] * n, [1.0] * n, [0.5] * n, -5.0, repeat, knots=knots, bends=bends())


def random_towers(catalogue: Catalogue) -> TowerWeights:
    """Return towers of the usual size over all features of a catalogue."""
    rng, dims = np.random.default_rng(0), TowersSettings().dims
    names = tower_features(tower_families(RecommenderSettings(), catalogue)).names

    def layer(n_inputs: int) -> Layer:
        weights = rng.normal(0, n_inputs**-0.5, (n_inputs, dims))
        return Layer(weights.astype(np.float32), rng.normal(0, 1, dims).astype(np.float32))

    return TowerWeights(names, layer(len(names) + 1), layer(len(names)))
