"""Towers for tests that train none."""

import numpy as np

from recsys.recommenders import RecommenderSettings, tower_families
from recsys.recommenders.towers import Layer, TowerWeights, tower_features
from recsys.shop.catalogue import Catalogue

DIMS = 5


def random_towers(catalogue: Catalogue, seed: int = 0) -> TowerWeights:
    """Return random weights over all features of a catalogue."""
    rng = np.random.default_rng(seed)
    names = tower_features(tower_families(RecommenderSettings(), catalogue)).names

    def layer(n_inputs: int, n_outputs: int) -> Layer:
        weights = rng.normal(size=(n_inputs, n_outputs)) / np.sqrt(n_inputs)
        return Layer(weights.astype(np.float32), rng.normal(size=n_outputs).astype(np.float32))

    return TowerWeights(names, layer(len(names) + 1, DIMS), layer(len(names), DIMS))
