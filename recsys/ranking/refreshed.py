"""A night's recommenders for a horizon with further sales, without counting its users' events again."""

from collections.abc import Mapping

import numpy as np

from recsys.ranking.scorer import Scorer, unpack
from recsys.recommenders import Model, Recommender, Statistics
from recsys.recommenders.collaborative import Collaborative
from recsys.shop.catalogue import Horizon

_STATISTICS = "statistics/"


def kept_statistics(statistics: Statistics) -> Statistics:
    """Return what a night keeps of the statistics of a recommender beside its arrays: sums by sale alone.

    A sale without an event has the sum 0, so that a model for further sales can be fitted to them. Sums by pairs of
    sales would be large.
    """
    if any(values.ndim != 1 for values in statistics.values()):
        return {}
    return {f"{_STATISTICS}{name}": values for name, values in statistics.items()}


def refreshed_scorer(
    recommenders: list[Recommender], arrays: Mapping[str, bytes], horizon: Horizon, n_sales: int
) -> Scorer:
    """Return the recommenders of a night for a horizon that has further sales behind those of the night.

    What learns from sales alone, and what is learnt from sums by sale, is fitted anew: a new sale has its own profiles
    and features, and the popularity of its attributes. No user has seen a new sale with another one, so that it is
    similar to none yet.

    Args:
        recommenders: Of the sales of the moment.
        arrays: By recommender, as table `fitted_recommenders` of the night has them.
        horizon: The horizon with the further sales.
        n_sales: Number of sales in the catalogue of the moment.

    Raises:
        KeyError: If the night kept no statistics, since an earlier version fitted it.
    """
    models = [_refreshed_model(each, unpack(arrays[each.name]), horizon, n_sales) for each in recommenders]
    return Scorer(horizon, recommenders, models)


def _refreshed_model(
    recommender: Recommender, arrays: Mapping[str, np.ndarray], horizon: Horizon, n_sales: int
) -> Model:
    if isinstance(recommender, Collaborative):
        offsets = arrays["offsets"]
        further = np.full(len(horizon) + 1 - len(offsets), offsets[-1], offsets.dtype)
        return recommender.load({**arrays, "offsets": np.concatenate((offsets, further))}, horizon)
    statistics = {
        name.removeprefix(_STATISTICS): np.pad(values, (0, n_sales - len(values)))
        for name, values in arrays.items()
        if name.startswith(_STATISTICS)
    }
    return recommender.fit(statistics, horizon)
