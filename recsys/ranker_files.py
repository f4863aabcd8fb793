"""A ranker as files that a snapshot carries: arrays that the service maps into memory, and its processes share."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.catalogue import Catalogue, Horizon
from recsys.errors import SnapshotError
from recsys.images.covers import Covers
from recsys.images.gallery import Gallery
from recsys.meta_model import MetaModel
from recsys.ranker import Ranker
from recsys.recommenders import RecommenderSettings, recommenders
from recsys.recommenders.base import DENSE
from recsys.scorer import Scorer

RANKER = "ranker"
"""The name of the folder in a snapshot."""

_DESCRIPTION = "ranker.json"
_META_MODEL = "meta_model.json"
_AGAIN = "write the snapshot again with 'recsys nightly'"


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: int
    until: int
    recommenders: RecommenderSettings
    features: list[str]
    sale_ids: list[str]
    themes: list[str]


def write_ranker(folder: Path, ranker: Ranker, catalogue: Catalogue, settings: RecommenderSettings) -> None:
    """Write a ranker into an empty folder."""
    scorer, gallery = ranker.scorer, catalogue.gallery
    description = _Description(
        as_of=scorer.horizon.as_of,
        until=scorer.horizon.until,
        recommenders=settings,
        features=scorer.names,
        sale_ids=catalogue.sale_ids,
        themes=gallery.theme_names if gallery else [],
    )
    (folder / _DESCRIPTION).write_text(description.model_dump_json(), "utf-8")
    (folder / _META_MODEL).write_text(ranker.meta_model.to_json(), "utf-8")
    sales = {"opens_at": catalogue.opens_at, "closes_at": catalogue.closes_at, "prices": catalogue.prices}
    _save(folder / "sales", sales | {"horizon": scorer.horizon.sales})
    if gallery:
        _save(folder / "photos", {"first": gallery.first, "themes": gallery.photo_themes})
    for name, model in zip(scorer.names, scorer.models, strict=True):
        dense = getattr(model, DENSE, None)
        _save(folder / name, model.arrays() | ({} if dense is None else {DENSE: dense}))


def read_ranker(folder: Path) -> tuple[Ranker, Catalogue]:
    """Read a ranker, and the sales that its users' histories tell of; of these without words.

    Raises:
        SnapshotError: If a file is missing, damaged or of another version of the recommenders.
    """
    try:
        description = _Description.model_validate_json((folder / _DESCRIPTION).read_bytes(), strict=False)
        meta_model = MetaModel.from_json((folder / _META_MODEL).read_text("utf-8"))
        catalogue, horizon = _catalogue(folder, description)
        found = recommenders(description.recommenders, catalogue)
        names = [recommender.name for recommender in found]
        if names != description.features or names != meta_model.features:
            raise SnapshotError(f"{folder}: features are {description.features}, must be {names}: {_AGAIN}")
        models = [each.load(_load(folder / each.name), horizon) for each in found]
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise SnapshotError(f"{folder} holds no ranker ({error}): {_AGAIN}") from None
    covers = Covers(catalogue.gallery, horizon) if catalogue.gallery else None
    return Ranker(Scorer(horizon, found, models), meta_model, covers), catalogue


def _catalogue(folder: Path, description: _Description) -> tuple[Catalogue, Horizon]:
    sales = _load(folder / "sales")
    horizon = Horizon(description.as_of, description.until, sales["horizon"])
    nothing: list[str] = []
    without_photos = Catalogue(
        description.sale_ids, sales["opens_at"], sales["closes_at"], sales["prices"], nothing, nothing, []
    )
    if not (folder / "photos").exists():
        return without_photos, horizon
    photos = _load(folder / "photos")
    of_sales = np.zeros((len(without_photos), len(description.themes)), np.float32)
    gallery = Gallery(photos["first"], nothing, description.themes, photos["themes"], of_sales)
    return replace(without_photos, gallery=gallery), horizon


def _save(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    folder.mkdir()
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values, allow_pickle=False)


def _load(folder: Path) -> dict[str, np.ndarray]:
    return {file.stem: _array(file) for file in folder.glob("*.npy")}


def _array(file: Path) -> np.ndarray:
    if file.stat().st_size < 1 << 16:
        return np.load(file, allow_pickle=False)
    return np.load(file, mmap_mode="r", allow_pickle=False).view(np.ndarray)  # indexing a np.memmap costs 10 times as much
