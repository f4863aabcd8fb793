"""How well each policy ranks, by how much one is better than another, and what its pages show of the shop."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.backtest.pages import Pages, estimated
from recsys.metrics import NDCG, RANKING_METRICS, coverage, gini, novelty
from recsys.registry.versions import pairs
from recsys.shop.catalogue import Catalogue

_HOURS_OF_A_DAY = 24


def summaries(pages: Pages, policies: list[str], seed: int) -> dict[str, dict[str, Any]]:
    """Return the metrics of each policy with their intervals, and how many users they are of."""
    values = {(policy, name): pages.metric(name, [policy])[policy] for policy in policies for name in RANKING_METRICS}
    found = estimated(values, pages.users, seed)
    users = len(np.unique(pages.users))
    return {policy: {name: found[policy, name] for name in RANKING_METRICS} | {"users": users} for policy in policies}


def differences(pages: Pages, compared: list[tuple[str, str]], seed: int) -> dict[str, dict[str, Any]]:
    """Return by how much one policy of each pair is better than the other on the same pages, in each metric."""
    return {
        f"{one} - {other}": estimated(
            {name: np.subtract(*pages.metric(name, (one, other)).values()) for name in RANKING_METRICS},
            pages.users,
            seed,
        )
        for one, other in compared
    }


def paired_ndcg(pages: Pages, policies: list[str], seed: int) -> dict[str, Any]:
    """Return by how much each policy is better than each one after it on the same pages."""
    ndcg = pages.metric(NDCG, policies)
    values = {name: ndcg[one] - ndcg[other] for name, (one, other) in pairs(policies).items()}
    return estimated(values, pages.users, seed)


def variety(
    pages: Pages, policies: list[str], catalogue: Catalogue, known_users: pd.DataFrame, n_users: int
) -> dict[str, dict[str, float]]:
    """Return how much of the shop each policy shows: coverage, gini and novelty in bits; see `recsys.metrics`.

    Args:
        pages: The pages.
        policies: Those asked for.
        catalogue: All sales; those that are open at any instant of a measured day could be shown.
        known_users: Table `known_users`.
        n_users: All users of the shop.
    """
    as_ofs = sorted(pages.any["as_of"].unique().tolist())
    could = np.unique(np.concatenate([catalogue.horizon(as_of, _HOURS_OF_A_DAY).sales for as_of in as_ofs]))
    users = _by_day_and_sale(known_users, as_ofs, len(catalogue))
    return {policy: _variety(pages.by_policy[policy], as_ofs, could, users, n_users) for policy in policies}


def _variety(
    rows: pd.DataFrame, as_ofs: list[int], could: NDArray[np.int32], users: NDArray[np.int64], n_users: int
) -> dict[str, float]:
    times = np.zeros_like(users)
    days = np.repeat(np.searchsorted(as_ofs, rows["as_of"].to_numpy()), rows["shown"].map(len))
    np.add.at(times, (days, np.concatenate(rows["shown"].to_list())), 1)
    shown = times.sum(axis=0)[could]
    return {
        "coverage": coverage(shown),
        "gini": gini(shown) if len(shown) > 1 else 0.0,
        "novelty": novelty(times.ravel(), users.ravel(), n_users),
    }


def _by_day_and_sale(known_users: pd.DataFrame, as_ofs: list[int], n_sales: int) -> NDArray[np.int64]:
    """Return how many users knew each sale on each day, shape (n_days, n_sales)."""
    rows: Mapping[str, NDArray] = {name: known_users[name].to_numpy() for name in ("as_of", "sale", "users")}
    inside = np.isin(rows["as_of"], as_ofs)
    users = np.zeros((len(as_ofs), n_sales), np.int64)
    users[np.searchsorted(as_ofs, rows["as_of"][inside]), rows["sale"][inside]] = rows["users"][inside]
    return users
