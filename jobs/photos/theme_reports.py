"""What people look at: themes with their tags and photos, how many themes to choose, and the map of photos."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.engine.run import Run, with_inputs
from jobs.night.build_themes import BUILD_THEMES
from jobs.night.tag_images import tag_store
from recsys.errors import EmptyInputError
from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.thumbnails import thumbnail
from recsys.images.themes.theme_choice import ThemeCount, compare_counts
from recsys.images.themes.theme_map import MapPhotos, Treatment, map_page, theme_map
from recsys.images.themes.themes import THEME_MODEL, ThemeModel, embedding_themes, tag_matrix
from recsys.storage.local import write_whole
from recsys.tables.night import IMAGE_TAGS, SALE_THEMES

EXAMPLES = 3
TREATMENTS = ("Embedding", "NMF of the best tags", "NMF of the embedding")


def theme_rows(run: Run) -> list[dict[str, Any]]:
    """Return for each theme id, name, strongest tags with weights, shares of photos and sales, and example photos."""
    photos, model = tagged_photos(run), _model(run)
    activations = _activations(photos, model)
    strongest = _strongest(activations)
    of_sales = pq.read_table(run.folder / SALE_THEMES.name).to_pandas()
    first = of_sales.sort_values("weight", ascending=False).drop_duplicates("sale_id")["theme"].value_counts()
    return [
        {
            "id": model.ids[theme],
            "name": name,
            "share_of_photos": float(np.mean(strongest == theme)),
            "share_of_sales": float(first.get(name, 0) / max(first.sum(), 1)),
            "tags": _weighted_tags(model, theme),
            "examples": photos["image_uri"].iloc[np.argsort(-activations[:, theme], kind="stable")[:EXAMPLES]].tolist(),
        }
        for theme, name in enumerate(model.names)
    ]


def shown_themes(run: Run) -> pd.DataFrame:
    """Return one row a sale and theme that is the strongest of one of its photos: sale_id, family, feature."""
    photos, model = pq.read_table(run.folder / IMAGE_TAGS.name).to_pandas(), _model(run)
    strongest = _strongest(_activations(photos, model))
    some = strongest >= 0
    names = [model.names[theme] for theme in strongest[some]]
    shown = pd.DataFrame({"sale_id": photos["sale_id"][some], "family": "theme", "feature": names})
    return shown.drop_duplicates()


def theme_counts(run: Run, counts: Iterable[int]) -> Iterator[ThemeCount]:
    """Compare numbers of themes on the photos of the shop."""
    photos = tagged_photos(run)
    settings = run.settings.images.themes
    tags = sorted(set().union(*photos["tags"]).difference(settings.ignored_tags))
    matrix = tag_matrix(photos["tags"], photos["probabilities"], tags)
    yield from compare_counts(matrix, tags, counts, settings.seed)


def write_map(run: Run, path: Path, n_photos: int, seed: int = 0) -> tuple[int, list[Treatment]]:
    """Write the map of photos as one HTML page; return how many photos it shows, and each treatment's quality."""
    photos, model = tagged_photos(run), _model(run)
    photos = photos.sample(min(n_photos, len(photos)), random_state=seed).sort_values("image_hash")
    found = tag_store(run).embeddings(pa.array(photos["image_hash"])).to_pandas().set_index("image_hash")["embedding"]
    embeddings = np.stack(list(found.loc[photos["image_hash"]]))
    activations = _activations(photos, model)
    features = (embeddings, activations, embedding_themes(embeddings, len(model.ids), seed))
    shown = MapPhotos(
        names=photos["title"].tolist(),
        tags=[list(tags) for tags in photos["tags"]],
        thumbnails=_thumbnails(run, photos["image_uri"]),
        themes=_strongest(activations),
        theme_names=model.names,
        groups=photos["category"].tolist() if photos["category"].any() else None,
    )
    treatments = theme_map(shown, dict(zip(TREATMENTS, features, strict=True)), seed)
    write_whole(path, map_page(shown, treatments, f"Photos by theme, {model.version}"))
    return len(photos), treatments


def tagged_photos(run: Run) -> pd.DataFrame:
    """Return the tagged photos, each content once, with title and category of a sale that shows it.

    Raises:
        EmptyInputError: If there is none.
    """
    run.do(with_inputs(BUILD_THEMES))
    photos = pq.read_table(run.folder / IMAGE_TAGS.name).to_pandas().sort_values(["sale_id", "position"])
    if photos.empty:
        raise EmptyInputError(
            "table image_tags has 0 rows, needs at least 1: give the source a sale_images.sql, or look at table "
            f"rejected_images in {run.folder}"
        )
    sales = pq.read_table(run.folder / "sales", columns=["sale_id", "title", "attributes"]).to_pandas()
    sales["category"] = [dict(attributes or []).get("category", "") for attributes in sales["attributes"]]
    return photos.drop_duplicates("image_hash").merge(sales[["sale_id", "title", "category"]], on="sale_id")


def _model(run: Run) -> ThemeModel:
    return ThemeModel.from_json((run.folder / THEME_MODEL).read_text("utf-8"))


def _activations(photos: pd.DataFrame, model: ThemeModel) -> NDArray[np.float32]:
    return model.activations(tag_matrix(photos["tags"], photos["probabilities"], model.tags))


def _strongest(activations: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the strongest theme of each photo; -1 for one that shows none."""
    return np.where(activations.any(axis=1), activations.argmax(axis=1), -1)


def _weighted_tags(model: ThemeModel, theme: int, n_tags: int = 6) -> list[dict[str, Any]]:
    weights = model.matrix[theme] / model.matrix[theme].sum()
    order = np.argsort(-weights, kind="stable")[:n_tags]
    return [{"tag": model.tags[tag], "weight": float(weights[tag])} for tag in order if weights[tag] >= 0.005]


def _thumbnails(run: Run, uris: Iterable[str]) -> list[bytes]:
    files = PhotoFiles.of(run.settings.images)
    return [_thumbnail(files, uri) for uri in uris]


def _thumbnail(files: PhotoFiles, uri: str) -> bytes:
    try:
        return thumbnail(files.read(files.absolute(uri)))
    except PhotoError:  # it was there when it was tagged
        return b""
