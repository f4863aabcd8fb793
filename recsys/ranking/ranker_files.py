"""The files of a ranker inside a snapshot: arrays that the service maps into memory, shared by its processes."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from recsys.errors import SnapshotError
from recsys.meta_model import META, meta_models_from_json, meta_models_to_json
from recsys.ranking.covers import Covers
from recsys.ranking.ranker import Ranker
from recsys.ranking.scorer import Scorer
from recsys.recommenders import RecommenderSettings, recommenders
from recsys.recommenders.towers import NO_TOWERS, TOWERS
from recsys.shop.catalogue import Catalogue
from recsys.shop.gallery import Gallery

RANKER = "ranker"
"""Name of the ranker's folder in a snapshot."""

_DESCRIPTION = "ranker.json"
_META_MODELS = "meta_models.json"
_ADVICE = "write the snapshot again with 'recsys nightly'"


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: int
    until: int
    recommenders: RecommenderSettings
    features: list[str]
    sale_ids: list[str]
    themes: list[str]
    arrays: dict[str, tuple[str, tuple[int, ...]]]
    """Type and shape of each array by path."""


_Parts = Mapping[str, Mapping[str, np.ndarray]]
"""Arrays by name, of each part: `sales`, `photos`, and each recommender by name."""


def write_ranker(folder: Path, ranker: Ranker, catalogue: Catalogue, settings: RecommenderSettings) -> None:
    """Write a ranker into an empty folder."""
    scorer, gallery = ranker.scorer, catalogue.gallery
    parts = _arrays_by_part(scorer, catalogue)
    arrays = {f"{part}/{name}": values for part, some in parts.items() for name, values in some.items()}
    description = _Description(
        as_of=scorer.horizon.as_of,
        until=scorer.horizon.until,
        recommenders=settings,
        features=scorer.names,
        sale_ids=catalogue.sale_ids,
        themes=gallery.theme_names if gallery else [],
        arrays={path: (values.dtype.str, values.shape) for path, values in arrays.items()},
    )
    (folder / _DESCRIPTION).write_text(description.model_dump_json(), "utf-8")
    versions = {**({META: ranker.meta_model} if ranker.meta_model else {}), **ranker.other_versions}
    (folder / _META_MODELS).write_text(meta_models_to_json(versions), "utf-8")
    for path, values in arrays.items():
        file = _array_file(folder, path)
        file.parent.mkdir(exist_ok=True)
        np.save(file, values, allow_pickle=False)


def read_settings(folder: Path) -> RecommenderSettings:
    """Return the settings of the recommenders of a ranker's files.

    Raises:
        SnapshotError: If they cannot be read.
    """
    return _read_description(folder).recommenders


def read_sale_ids(folder: Path) -> list[str]:
    """Return the ids of the sales of a ranker's files, in the order in which users' histories refer to them.

    Raises:
        SnapshotError: If they cannot be read.
    """
    return _read_description(folder).sale_ids


def _read_description(folder: Path) -> _Description:
    try:
        return _Description.model_validate_json((folder / _DESCRIPTION).read_bytes(), strict=False)
    except (OSError, ValueError) as error:
        raise SnapshotError(f"{folder} holds no ranker ({error}): {_ADVICE}") from None


def read_ranker(folder: Path) -> tuple[Ranker, Catalogue]:
    """Return a ranker and the catalogue that users' histories refer to; the catalogue is without texts and attributes.

    Raises:
        SnapshotError: If a file is missing, damaged or of another version of the recommenders.
    """
    try:
        description = _Description.model_validate_json((folder / _DESCRIPTION).read_bytes(), strict=False)
        meta_models = meta_models_from_json((folder / _META_MODELS).read_bytes())
        parts = _read_parts(folder, description)
        catalogue = _catalogue_of_parts(parts, description)
        horizon = catalogue.horizon_of(description.as_of, description.until, parts["sales"]["horizon"])
        towers = NO_TOWERS if TOWERS in description.features else None  # their arrays hold all that scores
        found = recommenders(description.recommenders, catalogue, towers)
        names = [recommender.name for recommender in found]
        for features in (description.features, *(each.features for each in meta_models.values())):
            if features != names:
                raise SnapshotError(f"{folder}: features are {features}, must be {names}: {_ADVICE}")
        models = [each.load(parts.get(each.name, {}), horizon) for each in found]
        covers = Covers(catalogue.gallery, horizon) if catalogue.gallery else None
        meta_model = meta_models.pop(META, None)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise SnapshotError(f"{folder} holds no ranker ({error}): {_ADVICE}") from None
    return Ranker(Scorer(horizon, found, models), meta_model, covers, meta_models), catalogue


def _arrays_by_part(scorer: Scorer, catalogue: Catalogue) -> _Parts:
    parts: dict[str, Mapping[str, np.ndarray]] = {
        "sales": {
            "opens_at": catalogue.opens_at,
            "closes_at": catalogue.closes_at,
            "prices": catalogue.prices,
            "horizon": scorer.horizon.sales,
        }
    }
    if catalogue.gallery:
        parts["photos"] = {"first": catalogue.gallery.first, "themes": catalogue.gallery.photo_themes}
    for name, model in zip(scorer.names, scorer.models, strict=True):
        parts[name] = model.served_arrays()
    return parts


def _catalogue_of_parts(parts: _Parts, description: _Description) -> Catalogue:
    sales = parts["sales"]
    nothing: list[str] = []
    without_photos = Catalogue(
        description.sale_ids, sales["opens_at"], sales["closes_at"], sales["prices"], nothing, nothing, []
    )
    if "photos" not in parts:
        return without_photos
    photos = parts["photos"]
    of_sales = np.zeros((len(without_photos), len(description.themes)), np.float32)
    gallery = Gallery(photos["first"], nothing, description.themes, photos["themes"], of_sales)
    return replace(without_photos, gallery=gallery)


def _read_parts(folder: Path, description: _Description) -> _Parts:
    parts: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for path, (kind, shape) in description.arrays.items():
        part, _, name = path.partition("/")
        values = parts[part][name] = _read_array(_array_file(folder, path))
        if (values.dtype.str, values.shape) != (kind, shape):
            raise ValueError(f"{path} is {values.dtype.str} {values.shape}, must be {kind} {shape}")
    return parts


def _read_array(file: Path) -> np.ndarray:
    # Not np.load, which accepts archives and pickles too.
    if file.stat().st_size < 1 << 16:
        with file.open("rb") as stream:
            values = np.lib.format.read_array(stream, allow_pickle=False)
        values.setflags(write=False)  # as those that are mapped: loops are compiled once for both
        return values
    return np.lib.format.open_memmap(file, mode="r").view(np.ndarray)  # indexing a np.memmap costs 10 times as much


def _array_file(folder: Path, path: str) -> Path:
    return folder / f"{path}.npy"
