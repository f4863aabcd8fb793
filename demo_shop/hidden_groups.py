"""The second law of taste: mixtures over hidden groups of sales, which no attribute names, and fashions that pass.

A group is what region, category and pictures have in common only together, so that no feature over single attributes
is the truth. A user's taste is a mixture of few groups; some users come for one group alone.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo_shop.catalogue import Catalogue
from demo_shop.rhythm import DAY
from demo_shop.traffic import Fading
from demo_shop.vocabulary import CATEGORIES, REGIONS

N_GROUPS = 16
ONE_THING_SHARE = 0.2
"""Share of the users who come for one group alone."""
_GROUPS = [f"group={number}" for number in range(N_GROUPS)]
# Spread, in logits, of what makes a sale a member of a group: the pair of region and category, pictures, and chance.
_PAIR, _PICTURES, _CHANCE = 2.0, 1.2, 0.7
# Concentration of the groups of a user: most like two or three.
_FEW = 0.2
# Size, in logits, and period, in days, of the two waves by which a group is in fashion.
_FASHION, _SHORTEST, _LONGEST = 0.5, 10, 60
_STRENGTH, _STRENGTH_SPREAD, _DAYS_SPREAD = 1.0, 0.5, 0.8


def group_traits(rng: np.random.Generator, catalogue: Catalogue) -> pd.DataFrame:
    """Return one row per sale: its share of each group, and `quality`, which depends on the fashion when it opens."""
    sales = catalogue.sales
    pairs = rng.normal(0, _PAIR, (len(REGIONS), len(CATEGORIES), N_GROUPS))
    shown = rng.normal(0, _PICTURES, (catalogue.pictures.shape[1], N_GROUPS))
    logits = pairs[sales["region"], sales["category"]] + catalogue.pictures @ shown
    logits += rng.normal(0, _CHANCE, logits.shape)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    fashion = _fashion(rng, sales["opens_at"].to_numpy() / DAY)
    quality = catalogue.quality + (shares * fashion).sum(axis=1)
    return pd.DataFrame(shares, columns=_GROUPS).assign(quality=quality, constant=1.0)


def group_tastes(rng: np.random.Generator, n_users: int) -> tuple[list[str], NDArray[np.float64]]:
    """Return the names of the groups, and how much of each user's taste is for each, rows that sum to 1."""
    tastes = rng.dirichlet(np.full(N_GROUPS, _FEW), n_users)
    comes_for_one = rng.random(n_users) < ONE_THING_SHARE
    tastes[comes_for_one] = np.eye(N_GROUPS)[rng.integers(0, N_GROUPS, np.count_nonzero(comes_for_one))]
    return _GROUPS, tastes


def fading(rng: np.random.Generator, n_sales: int) -> Fading:
    """Draw how fast each sale becomes old: some within hours, others hardly."""
    strength = rng.normal(_STRENGTH, _STRENGTH_SPREAD, n_sales)
    return Fading(strength, rng.lognormal(0, _DAYS_SPREAD, n_sales))


def _fashion(rng: np.random.Generator, days: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return how much each group is in fashion at some instants, in days since 1970, shape (n, n_groups)."""
    periods = rng.uniform(_SHORTEST, _LONGEST, (2, N_GROUPS))
    phases = rng.random((2, N_GROUPS))
    return _FASHION * np.cos(2 * np.pi * (days[:, None, None] / periods + phases)).sum(axis=1)
