"""The sales of the demo shop: opening hours, region, category, price, amenities and pictures."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo_shop import rhythm
from demo_shop.rhythm import DAY, HOUR
from demo_shop.vocabulary import (
    AMENITIES,
    CATEGORIES,
    COUNTRIES,
    PICTURE_LANDSCAPES,
    PICTURES,
    REGIONS,
)
from recsys.config.demo_shop import DemoShopSettings

PLANNED_DAYS = 3
# Share of the sales that live 1, 2, ... 7 days: median 3, 95th percentile 5.
_LIFE_SHARES = np.array([0.08, 0.22, 0.34, 0.19, 0.13, 0.025, 0.015])
_MEAN_LIFE = float(_LIFE_SHARES @ np.arange(1, 8))
_MORNING_SHARE = 0.88
_MEDIAN_PRICE, _PRICE_SPREAD = 260.0, 0.4
_MEDIAN_DISCOUNT, _DISCOUNT_SPREAD = 53.0, 10.0
_DISCOUNT_QUALITY, _HIDDEN_QUALITY = 0.25, 0.4
# A sale shows two or three kinds of picture, which depend only weakly on its category.
_PICTURE_CONCENTRATION, _CATEGORY_PICTURES = 4.0, 0.25


class Catalogue(NamedTuple):
    """All sales, in order of opening; row i of every part is the same sale."""

    sales: pd.DataFrame
    """sale_id, opens_at and closes_at (seconds since 1970), region, category (positions in the vocabulary),
    price (euros per person), discount (percent), nights."""
    amenities: NDArray[np.bool_]
    """Shape (n_sales, n_amenities)."""
    pictures: NDArray[np.float64]
    """Shape (n_sales, n_picture_kinds); a row sums to 1. First the shares that are wanted; once photos are chosen, the
    shares that they show."""
    quality: NDArray[np.float64]
    """The part of a sale's utility that is the same for all users, partly due to its discount; shape (n_sales,)."""


def build_catalogue(rng: np.random.Generator, settings: DemoShopSettings) -> Catalogue:
    """Draw all sales that are open at any instant of the period or open in the three days after it."""
    windows = _sale_windows(rng, settings)
    n_sales = len(windows)
    category = _draw_categories(rng, windows["opens_at"].to_numpy() // DAY)
    region = _draw_regions(rng, category)
    discount = np.rint(np.clip(rng.normal(_MEDIAN_DISCOUNT, _DISCOUNT_SPREAD, n_sales), 20, 80))
    shortest, longest = np.array([c.nights for c in CATEGORIES])[category].T
    sales = windows.assign(
        sale_id=[f"s-{number:06d}" for number in range(1, n_sales + 1)],
        region=region,
        category=category,
        price=_draw_prices(rng, region, category),
        discount=discount.astype(np.int64),
        nights=rng.integers(shortest, longest, endpoint=True),
    )
    hidden = rng.normal(0, _HIDDEN_QUALITY, n_sales)
    quality = hidden + _DISCOUNT_QUALITY * (discount - _MEDIAN_DISCOUNT) / _DISCOUNT_SPREAD
    return Catalogue(sales, _draw_amenities(rng, n_sales), _draw_pictures(rng, region, category), quality)


def period(settings: DemoShopSettings) -> tuple[int, int]:
    """Return the period's half-open bounds in seconds since 1970."""
    ends_at = int(settings.ends_at.timestamp())
    return ends_at - settings.days * DAY, ends_at


def possible_pictures(region: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which kinds of picture can be taken in each of some regions, shape (len(region), n_picture_kinds)."""
    possible = [
        [kind not in PICTURE_LANDSCAPES or bool(PICTURE_LANDSCAPES[kind] & r.landscapes) for kind in PICTURES]
        for r in REGIONS
    ]
    return np.array(possible)[region]


def _sale_windows(rng: np.random.Generator, settings: DemoShopSettings) -> pd.DataFrame:
    starts_at, ends_at = period(settings)
    # Sales open on the first day of the period opened up to the longest life before it.
    days = np.arange(starts_at // DAY - len(_LIFE_SHARES), ends_at // DAY + PLANNED_DAYS)
    planned = settings.open_sales / _MEAN_LIFE * rhythm.openings(days) * rng.lognormal(0, 0.06, len(days))
    day = np.repeat(days, np.floor(planned + rng.random(len(days))).astype(np.int64))
    morning = rng.random(len(day)) < _MORNING_SHARE
    first_hour, hours = np.where(morning, 6, 16), np.where(morning, 3, 2)
    quarter = np.floor(rng.random(len(day)) * hours * 4).astype(np.int64)
    opens_at = day * DAY + first_hour * HOUR + quarter * HOUR // 4
    life = rng.choice(np.arange(1, len(_LIFE_SHARES) + 1), len(day), p=_LIFE_SHARES)
    windows = pd.DataFrame({"opens_at": opens_at, "closes_at": opens_at + life * DAY})
    windows = windows[windows["closes_at"] > starts_at]
    return windows.sort_values(["opens_at", "closes_at"], kind="stable", ignore_index=True)


def _draw_columns(rng: np.random.Generator, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Draw one column of each row, with probabilities in proportion to the row's weights."""
    cumulated = np.cumsum(weights, axis=1)
    return (rng.random((len(weights), 1)) * cumulated[:, -1:] >= cumulated).sum(axis=1)


def _draw_categories(rng: np.random.Generator, days: NDArray[np.int64]) -> NDArray[np.int64]:
    weights = [c.weight * np.exp(c.swing * rhythm.season(days, c.peak_day)) for c in CATEGORIES]
    return _draw_columns(rng, np.stack(weights, axis=1))


def _draw_regions(rng: np.random.Generator, category: NDArray[np.int64]) -> NDArray[np.int64]:
    popularity = rng.lognormal(0, 0.4, len(REGIONS))
    offered = np.array([[bool(c.landscapes & r.landscapes) for r in REGIONS] for c in CATEGORIES])
    return _draw_columns(rng, (offered * popularity)[category])


def _draw_prices(
    rng: np.random.Generator, region: NDArray[np.int64], category: NDArray[np.int64]
) -> NDArray[np.float64]:
    country_factor = np.array([COUNTRIES[r.country] for r in REGIONS])[region]
    category_factor = np.array([c.price_factor for c in CATEGORIES])[category]
    factor = country_factor * category_factor * rng.lognormal(0, _PRICE_SPREAD, len(region))
    return np.rint(_MEDIAN_PRICE * factor)


def _draw_amenities(rng: np.random.Generator, n_sales: int) -> NDArray[np.bool_]:
    rank = rng.random((n_sales, len(AMENITIES))).argsort(axis=1).argsort(axis=1)
    return rank < rng.integers(2, 5, (n_sales, 1))


def _draw_pictures(
    rng: np.random.Generator, region: NDArray[np.int64], category: NDArray[np.int64]
) -> NDArray[np.float64]:
    usual = np.array([[kind in c.pictures for kind in PICTURES] for c in CATEGORIES], dtype=np.float64)
    usual /= usual.sum(axis=1, keepdims=True)
    expected = _CATEGORY_PICTURES * usual + (1 - _CATEGORY_PICTURES) / len(PICTURES)
    shares = rng.gamma(_PICTURE_CONCENTRATION * expected[category] * possible_pictures(region))
    return shares / shares.sum(axis=1, keepdims=True)
