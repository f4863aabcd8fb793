from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from demo_shop.catalogue import build_catalogue
from demo_shop.vocabulary import CATEGORIES
from recsys.config.demo_shop import DemoShopSettings


def test_a_sale_lives_a_median_of_three_days_and_a_95th_percentile_of_five(shop):
    days = (shop.sales["ends"] - shop.sales["starts"]) / pd.Timedelta(days=1)
    assert days.median() == 3
    assert days.quantile(0.95) == 5


def test_between_80_and_250_sales_are_open_at_every_hour(shop):
    hours = pd.date_range(end=shop.settings.ends_at, periods=shop.settings.days * 24, freq="h")
    is_open = (shop.sales["starts"].to_numpy() <= hours.to_numpy()[:, None]) & (
        hours.to_numpy()[:, None] < shop.sales["ends"].to_numpy()
    )
    assert is_open.sum(axis=1).min() >= 80
    assert is_open.sum(axis=1).max() <= 250


def test_there_are_13_categories_and_some_50_regions_in_a_dozen_countries(shop):
    assert shop.sales["kind_of_stay"].nunique() == 13
    assert 48 <= shop.sales["region"].nunique() <= 52
    assert shop.sales["country"].nunique() == 12
    assert shop.sales.groupby("region")["country"].nunique().max() == 1


def test_prices_are_log_normal_and_the_median_discount_is_53_percent(shop):
    log_price = np.log(shop.sales["price_eur"])
    assert abs(log_price.skew()) < 0.35
    assert shop.sales["price_eur"].skew() > 1
    assert shop.sales["discount_percent"].median() == pytest.approx(53, abs=2)


def test_most_sales_of_a_day_open_in_the_morning(shop):
    assert 0.8 < shop.sales["starts"].dt.hour.between(6, 8).mean() < 0.95


def test_sales_are_planned_for_each_of_the_three_days_after_the_end(shop):
    end = pd.Timestamp(shop.settings.ends_at)
    planned = shop.sales.loc[shop.sales["starts"] >= end, "starts"]
    assert sorted((planned - end).dt.days.unique()) == [0, 1, 2]


def test_the_first_day_is_as_full_as_the_others(shop):
    start = pd.Timestamp(shop.settings.ends_at) - pd.Timedelta(days=shop.settings.days)
    assert (shop.sales["ends"] > start).all()
    assert ((shop.sales["starts"] <= start) & (start < shop.sales["ends"])).sum() > 80


def test_ski_stays_are_sold_in_winter_and_beach_resorts_in_spring():
    def shares(month: int) -> dict[str, float]:
        settings = DemoShopSettings(days=30, ends_at=datetime(2026, month, 1, tzinfo=UTC))
        category = build_catalogue(np.random.default_rng(0), settings).sales["category"]
        names = category.map(lambda position: CATEGORIES[position].name)
        return names.value_counts(normalize=True).to_dict()

    january, june = shares(2), shares(6)
    assert january["ski stay"] > 3 * june["ski stay"]
    assert june["beach resort"] > 2 * january["beach resort"]


def test_another_number_of_open_sales_changes_the_number_of_sales_in_proportion():
    few, many = (
        len(build_catalogue(np.random.default_rng(0), DemoShopSettings(open_sales=n)).sales) for n in (40, 120)
    )
    assert many / few == pytest.approx(3, rel=0.05)


def test_metadata_explains_only_a_small_part_of_the_pictures(shop):
    traits = pd.read_parquet(shop.folder / "truth/sale_traits.parquet").drop(columns="sale_id").to_numpy()
    pictures = pd.read_parquet(shop.folder / "truth/sale_pictures.parquet").drop(columns="sale_id").to_numpy()
    explained = traits @ np.linalg.lstsq(traits, pictures, rcond=None)[0]
    total = ((pictures - pictures.mean(axis=0)) ** 2).sum()
    assert 0.05 < 1 - ((pictures - explained) ** 2).sum() / total < 0.3
    assert pictures.sum(axis=1) == pytest.approx(1)


def test_no_sale_far_from_the_sea_shows_a_beach(shop):
    pictures = pd.read_parquet(shop.folder / "truth/sale_pictures.parquet").set_index("sale_id")
    beach = shop.sales.set_index("offer_id").assign(beach=pictures["beach"]).groupby("region")["beach"].max()
    assert beach["Vienna"] == beach["Dolomites"] == 0
    assert beach["Sicily"] > 0.3
