"""Ranking metrics of each policy, paired differences between policies, and how much of the shop their pages show."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.backtest.pages import Pages, estimated, micros_of, positions_of
from recsys.metrics import NDCG, RANKING_METRICS, coverage, gini, novelty
from recsys.registry.versions import pairs
from recsys.shop.catalogue import Catalogue

_HOURS_OF_A_DAY = 24


def summaries(pages: Pages, policies: list[str], seed: int) -> dict[str, dict[str, Any]]:
    """Return the metrics of each policy with their intervals, and the number of users measured."""
    values = {(policy, name): pages.metric(name, [policy])[policy] for policy in policies for name in RANKING_METRICS}
    found = estimated(values, pages.users, seed)
    users = len(np.unique(pages.users))
    return {policy: {name: found[policy, name] for name in RANKING_METRICS} | {"users": users} for policy in policies}


def differences(pages: Pages, compared: list[tuple[str, str]], seed: int) -> dict[str, dict[str, Any]]:
    """Return the paired difference of two policies on the same pages in each metric, for each pair."""
    return {
        f"{one} - {other}": estimated(
            {name: np.subtract(*pages.metric(name, (one, other)).values()) for name in RANKING_METRICS},
            pages.users,
            seed,
        )
        for one, other in compared
    }


def paired_ndcg(pages: Pages, policies: list[str], seed: int) -> dict[str, Any]:
    """Return the paired difference in ndcg@10 of each policy and each one after it on the same pages."""
    ndcg = pages.metric(NDCG, policies)
    values = {name: ndcg[one] - ndcg[other] for name, (one, other) in pairs(policies).items()}
    return estimated(values, pages.users, seed)


def variety(
    pages: Pages, policies: list[str], catalogue: Catalogue, known_users: pa.Table, n_users: int
) -> dict[str, dict[str, float]]:
    """Return how much of the shop each policy shows: coverage, Gini coefficient, novelty in bits; see `recsys.metrics`.

    Args:
        pages: The pages.
        policies: The policies to describe.
        catalogue: All sales; a sale could be shown if it is open at any instant of a measured day.
        known_users: Table `known_users`.
        n_users: Number of all users of the shop.
    """
    as_ofs = sorted(pages.any["as_of"].unique().tolist())
    showable = np.unique(np.concatenate([catalogue.horizon(as_of, _HOURS_OF_A_DAY).sales for as_of in as_ofs]))
    users = _users_by_day_and_sale(known_users, as_ofs, catalogue)
    return {policy: _variety_of(pages.by_policy[policy], as_ofs, showable, users, n_users) for policy in policies}


def _variety_of(
    rows: pd.DataFrame, as_ofs: list[int], showable: NDArray[np.int32], users: NDArray[np.int64], n_users: int
) -> dict[str, float]:
    times = np.zeros_like(users)
    days = np.repeat(np.searchsorted(as_ofs, rows["as_of"].to_numpy()), rows["shown"].map(len))
    np.add.at(times, (days, np.concatenate(rows["shown"].to_list())), 1)
    shown = times.sum(axis=0)[showable]
    return {
        "coverage": coverage(shown),
        "gini": gini(shown) if len(shown) > 1 else 0.0,
        "novelty": novelty(times.ravel(), users.ravel(), n_users),
    }


def _users_by_day_and_sale(known_users: pa.Table, as_ofs: list[int], catalogue: Catalogue) -> NDArray[np.int64]:
    """Return the number of users who knew each sale on each day, shape (n_days, n_sales)."""
    instants, sales = micros_of(known_users["as_of"]), positions_of(known_users["sale_id"], catalogue).to_numpy()
    inside = np.isin(instants, as_ofs)
    users = np.zeros((len(as_ofs), len(catalogue)), np.int64)
    users[np.searchsorted(as_ofs, instants[inside]), sales[inside]] = known_users["users"].to_numpy()[inside]
    return users
