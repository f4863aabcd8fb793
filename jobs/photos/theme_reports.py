"""Reports for staff: themes with their tags and photos, comparison of numbers of themes, and the map of photos."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from jobs.engine.run import Run, with_inputs
from jobs.night.build_themes import BUILD_THEMES
from jobs.night.tag_images import taggers_of
from recsys.errors import EmptyInputError
from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.thumbnails import thumbnail
from recsys.images.themes.theme_choice import ThemeCount, compare_counts
from recsys.images.themes.theme_map import MapPhotos, Treatment, map_page, theme_map
from recsys.images.themes.themes import THEME_MODEL, ThemeModel, embedding_themes, tag_matrix
from recsys.pipeline.photo_tags import photo_store
from recsys.storage.local import write_whole
from recsys.tables.night import IMAGE_TAGS, SALE_THEMES
from recsys.tables.parts import read_arrow

EXAMPLES = 3
TAGS = 6
TREATMENTS = ("Embedding", "NMF of the best tags", "NMF of the embedding")


def theme_rows(run: Run) -> list[dict[str, Any]]:
    """Return each theme's id, name, strongest tags with weights, shares of photos and sales, and example photos."""
    photos, model = tagged_photos(run), _read_model(run)
    activations = _activations(photos, model)
    strongest = _strongest_themes(activations)
    sale_themes = read_arrow(run.outputs / SALE_THEMES.name).to_pandas()
    strongest_of_sales = sale_themes.sort_values("weight", ascending=False).drop_duplicates("sale_id")
    sales_per_theme = strongest_of_sales["theme"].value_counts()
    return [
        {
            "id": model.ids[theme],
            "name": name,
            "share_of_photos": float(np.mean(strongest == theme)),
            "share_of_sales": float(sales_per_theme.get(name, 0) / max(sales_per_theme.sum(), 1)),
            "tags": [{"tag": tag, "weight": share} for tag, share in model.strongest_tags(theme, TAGS)],
            "examples": photos["image_uri"].iloc[np.argsort(-activations[:, theme], kind="stable")[:EXAMPLES]].tolist(),
        }
        for theme, name in enumerate(model.names)
    ]


def shown_themes(run: Run) -> pd.DataFrame:
    """Return one row per sale and strongest theme of one of its photos: sale_id, family, feature."""
    photos, model = read_arrow(run.outputs / IMAGE_TAGS.name).to_pandas(), _read_model(run)
    strongest = _strongest_themes(_activations(photos, model))
    has_theme = strongest >= 0
    names = [model.names[theme] for theme in strongest[has_theme]]
    shown = pd.DataFrame({"sale_id": photos["sale_id"][has_theme], "family": "theme", "feature": names})
    return shown.drop_duplicates()


def theme_counts(run: Run, counts: Iterable[int]) -> Iterator[ThemeCount]:
    """Compare numbers of themes on the shop's photos."""
    photos = tagged_photos(run)
    settings = run.settings.images.themes
    tags = sorted(set().union(*photos["tags"]).difference(settings.ignored_tags))
    matrix = tag_matrix(photos["tags"], photos["weights"], tags)
    yield from compare_counts(matrix, tags, counts, settings.seed)


def write_map(run: Run, path: Path, n_photos: int, seed: int = 0) -> tuple[int, list[Treatment]]:
    """Write the map of at most n_photos photos as one HTML page; return the number of photos and the maps."""
    photos, model = tagged_photos(run), _read_model(run)
    photos = photos.sample(min(n_photos, len(photos)), random_state=seed).sort_values("image_hash")
    store = photo_store(run.settings.place, taggers_of(run)[0].files)
    stored = store.embeddings(pa.array(photos["image_hash"])).to_pandas().set_index("image_hash")["embedding"]
    embeddings = np.stack(list(stored.loc[photos["image_hash"]]))
    activations = _activations(photos, model)
    features = (embeddings, activations, embedding_themes(embeddings, len(model.ids), seed))
    map_photos = MapPhotos(
        names=photos["title"].tolist(),
        tags=[list(tags) for tags in photos["tags"]],
        thumbnails=_thumbnails(run, photos["image_uri"]),
        themes=_strongest_themes(activations),
        theme_names=model.names,
        groups=photos["category"].tolist() if photos["category"].any() else None,
    )
    treatments = theme_map(map_photos, dict(zip(TREATMENTS, features, strict=True)), seed)
    write_whole(path, map_page(map_photos, treatments, f"Photos by theme, {model.version}"))
    return len(photos), treatments


def tagged_photos(run: Run) -> pd.DataFrame:
    """Return the tagged photos, one row per content, with title and category of the first sale that has the photo.

    Raises:
        EmptyInputError: If there is no tagged photo.
    """
    run.do(with_inputs(BUILD_THEMES))
    photos = read_arrow(run.outputs / IMAGE_TAGS.name).to_pandas().sort_values(["sale_id", "position"])
    if photos.empty:
        raise EmptyInputError(
            "table image_tags has 0 rows, needs at least 1: give the source a sale_images.sql, or look at table "
            f"rejected_images in {run.folder}"
        )
    sales = read_arrow(run.outputs / "sales", columns=["sale_id", "title", "attributes"]).to_pandas()
    sales["category"] = [dict(attributes or []).get("category", "") for attributes in sales["attributes"]]
    return photos.drop_duplicates("image_hash").merge(sales[["sale_id", "title", "category"]], on="sale_id")


def _read_model(run: Run) -> ThemeModel:
    return ThemeModel.from_json((run.outputs / THEME_MODEL).read_text("utf-8"))


def _activations(photos: pd.DataFrame, model: ThemeModel) -> NDArray[np.float32]:
    return model.activations(tag_matrix(photos["tags"], photos["weights"], model.tags))


def _strongest_themes(activations: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the position of each photo's strongest theme; -1 for a photo without a theme."""
    return np.where(activations.any(axis=1), activations.argmax(axis=1), -1)


def _thumbnails(run: Run, uris: Iterable[str]) -> list[bytes]:
    files = PhotoFiles.of(run.settings.images)
    return [_thumbnail(files, uri) for uri in uris]


def _thumbnail(files: PhotoFiles, uri: str) -> bytes:
    try:
        return thumbnail(files.read(files.absolute(uri)))
    except PhotoError:  # removed since it was tagged
        return b""
