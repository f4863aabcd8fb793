"""Builds the demo shop and writes its raw tables and photos, and its truth separately."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo_shop import hidden_groups, photos, purchases, traffic
from demo_shop.catalogue import Catalogue, build_catalogue, period
from demo_shop.descriptions import describe
from demo_shop.rhythm import DAY
from demo_shop.truth import sale_traits, write_truth
from demo_shop.users import Population, build_population
from demo_shop.vocabulary import CATEGORIES, PICTURES, REGIONS
from recsys.config.demo_shop import DemoShopSettings
from recsys.storage.local import put_in_place, remove_folder, scratch_folder

_PARTS = (photos.FOLDER, "truth", "raw")


class ShopSummary(NamedTuple):
    """Counts of a built shop."""

    users: int
    sales: int
    """Including planned sales."""
    visits: int
    purchases: int
    median_open_sales: int
    """Median over the days of the number of sales open at noon UTC."""
    one_time_users: int
    photos: int
    """Number of different photos."""


class _Shop(NamedTuple):
    catalogue: Catalogue
    mixtures: NDArray[np.float64]
    """Shape (n_photos, n_picture_kinds)."""
    galleries: pd.DataFrame
    texts: pd.DataFrame
    traits: pd.DataFrame
    """One row per sale, what utilities depend on."""
    population: Population
    events: pd.DataFrame


def build_shop(
    settings: DemoShopSettings, folder: Path, progress: Callable[[int, int], None] | None = None
) -> ShopSummary:
    """Build the shop and write it under `folder`, replacing `raw`, `truth` and `photos` there.

    Everything is written into a scratch folder first: no reader sees half-written data. Other files under `folder` stay
    as they are.

    Args:
        settings: The shop to build.
        folder: Where it is written.
        progress: Called after each photo with the number painted and the number in all.
    """
    shop, for_paint = _draw_shop(settings)
    with scratch_folder(folder) as scratch:
        for part in _PARTS:
            (scratch / part).mkdir()
        _write_raw(shop, scratch / "raw")
        users, tastes = shop.population.users["user_id"], shop.population.tastes
        write_truth(scratch / "truth", shop.catalogue, shop.traits, users, tastes, _photo_pictures(shop))
        photos.write_photos(for_paint, shop.mixtures, scratch, progress)
        for part in _PARTS:
            remove_folder(folder / part)
            put_in_place(scratch / part, folder / part)
    return _summarize(shop, settings)


def _draw_shop(settings: DemoShopSettings) -> tuple[_Shop, np.random.Generator]:
    # One generator per part: a change to one part leaves the draws of the others as they are.
    generators = np.random.default_rng(settings.seed).spawn(10)
    for_sales, for_texts, for_users, for_sessions, for_visits, for_purchases = generators[:6]
    for_photos, for_galleries, for_paint, for_groups = generators[6:]
    starts_at, ends_at = period(settings)
    catalogue = build_catalogue(for_sales, settings)
    mixtures = photos.draw_mixtures(for_photos, settings.photos)
    galleries = photos.draw_galleries(for_galleries, catalogue, mixtures)
    catalogue = catalogue._replace(pictures=photos.mean_mixtures(galleries, mixtures))
    traits, fading = sale_traits(catalogue), traffic.Fading.alike(len(catalogue.sales))
    if settings.law == "groups":
        traits = hidden_groups.group_traits(for_groups, catalogue)
        fading = hidden_groups.fading(for_groups, len(traits))
    population = build_population(for_users, settings, traits)
    tastes = population.tastes[traits.columns].to_numpy()
    session_user, session_start = traffic.sessions(for_sessions, population.users, starts_at, ends_at)
    visits = traffic.visits(for_visits, session_user, session_start, catalogue.sales, tastes, traits.to_numpy(), fading)
    events = purchases.events(
        for_purchases,
        visits,
        population.users,
        catalogue.sales,
        ends_at,
        purchases_per_visit=settings.purchases_per_visit,
        late_share=settings.late_share,
    )
    return _Shop(catalogue, mixtures, galleries, describe(for_texts, catalogue), traits, population, events), for_paint


def _write_raw(shop: _Shop, folder: Path) -> None:
    tables = {
        "sales": _raw_sales(shop),
        "events": _raw_events(shop),
        "users": _raw_users(shop),
        "sale_images": _raw_sale_images(shop),
    }
    for name, table in tables.items():
        # Spark reads a UTC-adjusted microsecond column as a timestamp.
        table.to_parquet(folder / f"{name}.parquet", index=False, coerce_timestamps="us")


def _raw_sales(shop: _Shop) -> pd.DataFrame:
    sales = shop.catalogue.sales
    return pd.DataFrame(
        {
            "offer_id": sales["sale_id"],
            "starts": _to_instants(sales["opens_at"]),
            "ends": _to_instants(sales["closes_at"]),
            "headline": shop.texts["title"],
            "body_text": shop.texts["description"],
            "country": [REGIONS[region].country for region in sales["region"]],
            "region": [REGIONS[region].name for region in sales["region"]],
            "kind_of_stay": [CATEGORIES[category].name for category in sales["category"]],
            "price_eur": sales["price"],
            "discount_percent": sales["discount"],
        }
    )


def _raw_events(shop: _Shop) -> pd.DataFrame:
    events = shop.events
    return pd.DataFrame(
        {
            "member_id": shop.population.users["user_id"].to_numpy()[events["user"]],
            "offer_id": shop.catalogue.sales["sale_id"].to_numpy()[events["sale"]],
            "action": np.where(events["is_purchase"], "booking", "view"),
            "happened_at": _to_instants(events["occurred_at"]),
            "logged_at": _to_instants(events["recorded_at"]),
            "amount_eur": events["revenue"],
        }
    )


def _raw_users(shop: _Shop) -> pd.DataFrame:
    return shop.population.users[["user_id", "market", "channel"]].rename(columns={"user_id": "member_id"})


def _raw_sale_images(shop: _Shop) -> pd.DataFrame:
    galleries, paths = shop.galleries, np.array(photos.photo_paths(len(shop.mixtures)))
    return pd.DataFrame(
        {
            "offer_id": shop.catalogue.sales["sale_id"].to_numpy()[galleries["sale"]],
            "photo": paths[galleries["photo"]],
            "place_in_gallery": galleries["position"] + 1,
        }
    )


def _photo_pictures(shop: _Shop) -> pd.DataFrame:
    pictures = pd.DataFrame(shop.mixtures, columns=list(PICTURES))
    pictures.insert(0, "photo", photos.photo_paths(len(pictures)))
    return pictures


def _to_instants(seconds: pd.Series) -> pd.Series:
    return pd.to_datetime(seconds, unit="s", utc=True).astype("datetime64[us, UTC]")


def _summarize(shop: _Shop, settings: DemoShopSettings) -> ShopSummary:
    starts_at, ends_at = period(settings)
    noons = np.arange(starts_at // DAY * DAY + DAY // 2, ends_at, DAY)
    sales = shop.catalogue.sales
    opened = np.searchsorted(np.sort(sales["opens_at"]), noons, side="right")
    closed = np.searchsorted(np.sort(sales["closes_at"]), noons, side="right")
    n_purchases = int(shop.events["is_purchase"].sum())
    return ShopSummary(
        users=len(shop.population.users),
        sales=len(sales),
        visits=len(shop.events) - n_purchases,
        purchases=n_purchases,
        median_open_sales=int(np.median(opened - closed)),
        one_time_users=int(shop.population.users["one_time"].sum()),
        photos=len(shop.mixtures),
    )
