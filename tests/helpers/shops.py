"""Shops for tests with photos, fitted rankers and pages to check them by."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.images.themes import theme_store
from recsys.images.themes.themes import THEME_MODEL, no_themes, sale_weights
from recsys.meta_model import Calibration, LogisticModel, MetaModel, Weights
from recsys.ranking.covers import Covers
from recsys.ranking.ranker import Ranker
from recsys.ranking.scorer import Scorer
from recsys.recommenders import RecommenderSettings, recommenders
from recsys.recommenders.towers import TowerWeights
from recsys.shop.catalogue import Catalogue
from recsys.shop.gallery import Gallery
from recsys.shop.histories import Histories
from recsys.testing.shops import AS_OF, HISTORY, ShopData, sale

RECOMMENDERS = RecommenderSettings()

_IMAGE_THEMES = pa.schema(
    [
        ("sale_id", pa.string()),
        ("position", pa.int32()),
        ("image_uri", pa.string()),
        ("weights", pa.list_(pa.float32())),
    ]
)
_SALE_THEMES = pa.schema([("sale_id", pa.string()), ("theme", pa.string()), ("weight", pa.float32())])


def with_photos(shop: ShopData, n_themes: int = 5) -> ShopData:
    """Return a shop with photos: those of a sale depend only on its id, and one sale in six has none.

    A photo shows some of the themes; one photo in ten could not be tagged.
    """
    photos = [_random_photos(sale_id, n_themes) for sale_id in shop.catalogue.sale_ids]
    first = np.cumsum([0, *map(len, photos)])
    weights = np.concatenate([*photos, np.zeros((0, n_themes), np.float32)])
    owners = np.repeat(np.arange(len(photos)), np.diff(first))
    of_sales = sale_weights(weights, owners, np.isin(np.arange(len(owners)), first), len(photos), 2.0)
    uris = [f"{shop.catalogue.sale_ids[owner]}-{number}.jpg" for number, owner in enumerate(owners)]
    names = [f"theme {number}" for number in range(n_themes)]
    return replace(shop, catalogue=replace(shop.catalogue, gallery=Gallery(first, uris, names, weights, of_sales)))


SALES_OF_TWO_COUNTRIES = [
    sale("a", -9, -2, country="FR"),  # closed: its visits show the users' taste
    sale("b", country="FR", category="spa"),
    sale("c", country="IT"),
    sale("d", 0.5, 3, country="FR"),  # opens tomorrow
    sale("e"),
    sale("f", 1.5, 3, category="spa", country="IT"),  # opens after the horizon: unknown to the night
]


CALIBRATION = Calibration([-60.0, -4.0, -1.0, 60.0], [-90.0, -3.5, -2.0, 20.0])
"""A calibration that is neither the identity nor a straight line, for all models of tests."""


def fitted_ranker(
    shop: ShopData, settings: RecommenderSettings = RECOMMENDERS, towers: TowerWeights | None = None
) -> Ranker:
    """Fit every recommender to all users of a shop; the meta-model has random coefficients, some negative."""
    horizon, known = shop.horizon(), shop.histories()
    everything = recommenders(settings, shop.catalogue, towers)
    models = [each.fit(each.count(known, horizon), horizon) for each in everything]
    means, scales, coefficients, repeat = np.random.default_rng(0).normal(size=(4, len(everything)))
    means *= 0.2  # with larger means, they would determine every reason
    names = [each.name for each in everything]
    of_both = list(coefficients), -3.0, Weights(list(repeat), -1.0)
    meta_model = LogisticModel(names, list(means), list(np.abs(scales) + 0.5), *of_both, CALIBRATION)
    covers = Covers(shop.catalogue.gallery, horizon) if shop.catalogue.gallery else None
    return Ranker(Scorer(horizon, everything, models), meta_model, covers)


def log_odds_one_by_one(scorer: Scorer, model: MetaModel, known: Histories) -> np.ndarray:
    """Return the log-odds of each sale of the horizon for one user, summed in plain Python."""
    bought = {int(sale) for sale, is_purchase in zip(known.sales, known.purchases, strict=True) if is_purchase}
    features = scorer.features(known)[:, 0]
    found = []
    for column, sale_row in enumerate(scorer.horizon.sales):
        repeat = model.repeat if int(sale_row) in bought else None
        weights, total = (repeat.coefficients, repeat.intercept) if repeat else (model.coefficients, model.intercept)
        for feature, mean, scale, weight in zip(features, model.means, model.scales, weights, strict=True):
            total += weight * (feature[column] - mean) / scale
        found.append(total)
    return np.array(found, np.float32)


def history_of(shop: ShopData, row: int) -> Histories:
    """Return the history of one user as of AS_OF."""
    return shop.block.take(np.array([row])).as_of(AS_OF, HISTORY)


def _random_photos(sale_id: str, n_themes: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(sale_id.encode()))
    n_photos = 0 if rng.random() < 1 / 6 else int(rng.integers(1, 12))
    shown = rng.random((n_photos, n_themes)) < 0.4
    tagged = rng.random((n_photos, 1)) < 0.9
    return (rng.gamma(2, 1, (n_photos, n_themes)) * shown * tagged).astype(np.float32)


def write_photos(folder: Path, catalogue: Catalogue) -> None:
    """Write a catalogue's gallery in the format of `build_themes` to a run's folder."""
    gallery = catalogue.gallery
    assert gallery is not None
    names = gallery.theme_names
    theme_store.save(replace(no_themes(), ids=list(range(1, len(names) + 1)), names=names), folder / THEME_MODEL)
    photos = [
        {
            "sale_id": sale_id,
            "position": number,
            "image_uri": gallery.uris[row],
            "weights": gallery.photo_themes[row].tolist() if gallery.photo_themes[row].any() else None,
        }
        for sale, sale_id in enumerate(catalogue.sale_ids)
        for number, row in enumerate(range(gallery.first[sale], gallery.first[sale + 1]))
    ]
    themes = [
        {"sale_id": catalogue.sale_ids[sale], "theme": names[theme], "weight": gallery.sale_themes[sale, theme]}
        for sale, theme in zip(*np.nonzero(gallery.sale_themes), strict=True)
    ]
    for name, rows, schema in (("image_themes", photos, _IMAGE_THEMES), ("sale_themes", themes, _SALE_THEMES)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / name / "part.parquet")
