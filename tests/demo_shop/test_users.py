import numpy as np
import pandas as pd
import pytest

from demo_shop.users import build_population
from recsys.config.demo_shop import DemoShopSettings


def test_about_a_third_of_the_users_come_in_exactly_one_session(shop):
    times = shop.events.groupby("member_id")["happened_at"]
    within_three_hours = (times.max() - times.min()) < pd.Timedelta(hours=3)
    assert within_three_hours.mean() == pytest.approx(1 / 3, abs=0.05)


def test_activity_is_heavy_tailed(shop):
    events_per_user = shop.events.groupby("member_id").size().sort_values(ascending=False)
    assert events_per_user.head(len(events_per_user) // 10).sum() > 0.4 * events_per_user.sum()
    assert events_per_user.mean() > 2 * events_per_user.median()


def test_every_user_of_the_table_comes_at_least_once(shop):
    assert set(shop.events["member_id"]) == set(shop.users["member_id"])
    assert shop.users["member_id"].is_unique


def test_some_users_appear_for_the_first_time_in_the_last_three_days(shop):
    first = shop.events.groupby("member_id")["happened_at"].min()
    late = first >= pd.Timestamp(shop.settings.ends_at) - pd.Timedelta(days=3)
    assert 0.01 < late.mean() < 0.08


@pytest.mark.parametrize("share", [0.0, 1 / 3, 1.0])
def test_pictures_hold_the_configured_share_of_the_variance_of_taste(share):
    rng = np.random.default_rng(0)
    families = {"country": 3, "region": 4, "category": 2, "amenity": 2, "price": 2, "picture": 3}
    names = [f"{family}={value}" for family, n_values in families.items() for value in range(n_values)]
    traits = pd.DataFrame(rng.random((400, len(names))), columns=names).assign(quality=0.0, constant=1.0)
    tastes = build_population(rng, DemoShopSettings(users=3_000, picture_taste_share=share), traits).tastes
    pictures = [name for name in names if name.startswith("picture=")]
    by_pictures = (tastes[pictures] @ traits[pictures].T).to_numpy()
    utilities = (tastes[traits.columns] @ traits.T).to_numpy()
    assert by_pictures.var(axis=1).mean() / utilities.var(axis=1).mean() == pytest.approx(share, abs=0.03)
    assert utilities.mean(axis=1) == pytest.approx(0, abs=1e-9)
