from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from demo_shop.shop import build_shop
from demo_shop.truth import true_utilities
from recsys.config.demo_shop import DemoShopSettings
from recsys.errors import InputError

EVALUATED_DAYS = 14


def mean_ndcg_at_10(shop, score: Callable[[pd.DataFrame], np.ndarray]) -> float:
    """Score each user's purchases of a day among the sales open at the first of them.

    `score` receives one row per candidate: member_id, offer_id and day, the day's midnight.
    """
    bookings = shop.events[shop.events["action"] == "booking"].assign(
        day=lambda rows: rows["happened_at"].dt.floor("D")
    )
    since = pd.Timestamp(shop.settings.ends_at) - pd.Timedelta(days=EVALUATED_DAYS)
    bookings = bookings[bookings["day"] >= since]
    instants = bookings.groupby(["member_id", "day"])["happened_at"].min().reset_index()
    rows = instants.merge(shop.sales[["offer_id", "starts", "ends"]], how="cross")
    rows = rows[(rows["starts"] <= rows["happened_at"]) & (rows["happened_at"] < rows["ends"])]
    bought = pd.MultiIndex.from_frame(bookings[["member_id", "day", "offer_id"]])
    rows["relevant"] = pd.MultiIndex.from_frame(rows[["member_id", "day", "offer_id"]]).isin(bought)
    rows["score"] = score(rows)
    rows = rows.sort_values(["score", "offer_id"], ascending=[False, True])
    lists = rows.groupby(["member_id", "day"])
    rank = lists.cumcount()
    gain = (rows["relevant"] / np.log2(rank + 2)).where(rank < 10, 0.0)
    n_relevant = lists["relevant"].sum().clip(upper=10)
    ideal = np.cumsum(1 / np.log2(np.arange(10) + 2))
    per_list = gain.groupby([rows["member_id"], rows["day"]]).sum()
    return float((per_list / ideal[n_relevant.to_numpy(dtype=int) - 1]).mean())


def test_an_oracle_of_the_true_utilities_beats_popularity_more_than_three_times(shop):
    def oracle(rows: pd.DataFrame) -> np.ndarray:
        users, sales = pd.Index(rows["member_id"].unique()), pd.Index(rows["offer_id"].unique())
        utilities = true_utilities(shop.folder, users, sales)
        return utilities[users.get_indexer(rows["member_id"]), sales.get_indexer(rows["offer_id"])]

    def popularity_of_three_days(rows: pd.DataFrame) -> np.ndarray:
        counts = {
            day: shop.events.loc[
                (shop.events["happened_at"] >= day - pd.Timedelta(days=3)) & (shop.events["happened_at"] < day),
                "offer_id",
            ].value_counts()
            for day in rows["day"].unique()
        }
        table = pd.concat(counts, names=["day", "offer_id"])
        return table.reindex(pd.MultiIndex.from_frame(rows[["day", "offer_id"]]), fill_value=0).to_numpy()

    best, popular = mean_ndcg_at_10(shop, oracle), mean_ndcg_at_10(shop, popularity_of_three_days)
    assert 0.45 < best < 0.7
    assert 0.06 < popular < 0.18
    assert best > 3 * popular


def test_utilities_have_a_row_per_user_and_a_column_per_sale_in_the_order_asked(shop):
    users, sales = shop.users["member_id"][[5, 2]].tolist(), shop.sales["offer_id"][[9, 1, 4]].tolist()
    utilities = true_utilities(shop.folder, users, sales)
    assert utilities.shape == (2, 3)
    for i, user in enumerate(users):
        for j, sale in enumerate(sales):
            assert true_utilities(shop.folder, [user], [sale])[0, 0] == pytest.approx(utilities[i, j])


def test_an_unknown_sale_is_an_error_that_names_it(shop):
    with pytest.raises(InputError, match="s-none"):
        true_utilities(shop.folder, shop.users["member_id"][:1].tolist(), ["s-none"])


@pytest.mark.parametrize(("share", "matters"), [(0.0, False), (1 / 3, True)])
def test_pictures_matter_to_utilities_only_if_they_have_a_share_of_taste(tmp_path, share, matters):
    build_shop(DemoShopSettings(users=50, days=7, photos=60, picture_taste_share=share), tmp_path)
    path = tmp_path / "truth/sale_pictures.parquet"
    pictures = pd.read_parquet(path)
    users = pd.read_parquet(tmp_path / "raw/users.parquet")["member_id"].tolist()
    sales = pictures["sale_id"].tolist()
    before = true_utilities(tmp_path, users, sales)
    pictures.iloc[:, 1:] = pictures.iloc[::-1, 1:].to_numpy()
    pictures.to_parquet(path, index=False)
    assert np.allclose(before, true_utilities(tmp_path, users, sales)) is not matters
