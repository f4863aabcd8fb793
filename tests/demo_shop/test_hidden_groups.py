import numpy as np
import pandas as pd
import pytest

from demo_shop import hidden_groups
from demo_shop.catalogue import build_catalogue
from demo_shop.shop import build_shop
from demo_shop.truth import true_utilities
from demo_shop.vocabulary import CATEGORIES
from recsys.config.demo_shop import DemoShopSettings

SETTINGS = DemoShopSettings(law="groups", users=600, days=30, photos=60)


@pytest.fixture(scope="module")
def catalogue():
    return build_catalogue(np.random.default_rng(0), DemoShopSettings(days=120))


def explained(values: np.ndarray, groups: np.ndarray) -> float:
    """Return the share of the variance that the means of groups explain, corrected for their number."""
    means = pd.DataFrame(values).groupby(groups).transform("mean").to_numpy()
    n, k = len(values), len(np.unique(groups))
    within = ((values - means) ** 2).sum() / (n - k)
    return 1 - within / (((values - values.mean(axis=0)) ** 2).sum() / (n - 1))


def test_a_sale_belongs_to_groups_by_region_and_category_together_more_than_by_both_apart(catalogue):
    traits = hidden_groups.group_traits(np.random.default_rng(1), catalogue)
    shares = traits.filter(like="group=").to_numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    region, category = catalogue.sales["region"].to_numpy(), catalogue.sales["category"].to_numpy()
    by_pair = explained(shares, region * len(CATEGORIES) + category)
    apart = explained(shares, region) + explained(shares, category)
    assert by_pair > 0.5 > apart


def test_groups_are_in_fashion_for_some_weeks(catalogue):
    mornings = np.arange(20_000.0, 20_120.0)
    fashion = hidden_groups._fashion(np.random.default_rng(2), mornings)
    assert fashion.shape == (120, hidden_groups.N_GROUPS)
    assert np.abs(np.diff(fashion, axis=0)).max() < 0.7  # no leap from day to day
    assert (fashion.max(axis=0) - fashion.min(axis=0)).min() > 0.5
    assert set(fashion.argmax(axis=1)) > {*fashion[:1].argmax(axis=1)}


def test_some_users_come_for_one_group_alone_and_others_for_few():
    _, tastes = hidden_groups.group_tastes(np.random.default_rng(3), 4_000)
    np.testing.assert_allclose(tastes.sum(axis=1), 1)
    assert (tastes.max(axis=1) == 1).mean() == pytest.approx(hidden_groups.ONE_THING_SHARE, abs=0.02)
    of_others = -np.sort(-tastes[tastes.max(axis=1) < 1])
    assert of_others[:, :3].sum(axis=1).mean() > 0.7


def test_some_sales_are_old_within_hours_and_others_hardly():
    strength, days = hidden_groups.fading(np.random.default_rng(4), 2_000)
    assert np.mean(strength > 0) > 0.95
    assert np.quantile(days, 0.1) < 0.5 < 2 < np.quantile(days, 0.9)


def test_purchases_follow_the_true_utilities_of_the_groups(tmp_path):
    build_shop(SETTINGS, tmp_path)
    events = pd.read_parquet(tmp_path / "raw/events.parquet")
    traits = pd.read_parquet(tmp_path / "truth/sale_traits.parquet")
    assert {*traits.columns} == {"sale_id", "quality", "constant"} | {f"group={number}" for number in range(16)}
    users, sales = events["member_id"].unique(), traits["sale_id"]
    utilities = true_utilities(tmp_path, users.tolist(), sales.tolist())
    assert utilities.mean() == pytest.approx(0, abs=0.1)
    rows, columns = pd.Index(users).get_indexer(events["member_id"]), pd.Index(sales).get_indexer(events["offer_id"])
    bought = (events["action"] == "booking").to_numpy()
    looked_at, wanted = (utilities[rows[part], columns[part]].mean() for part in (~bought, bought))
    assert 0.3 < looked_at < wanted - 0.2
