"""image_tags → the theme model, image_themes, sale_themes."""

from typing import Any

import numpy as np
import pandas as pd

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.tag_images import TAG_IMAGES, tagger_version
from recsys.images.themes.theme_store import read, themes_as_of
from recsys.images.themes.themes import (
    THEME_MODEL,
    ThemeModel,
    fit_themes,
    no_themes,
    renamed,
    sale_weights,
    tag_matrix,
    translated,
)
from recsys.instants import DAY, HOUR, from_micros
from recsys.pipeline import sources
from recsys.settings import digest
from recsys.shop.catalogue import Catalogue
from recsys.storage.outputs import newest_runs
from recsys.storage.places import Place
from recsys.tables.night import IMAGE_TAGS, IMAGE_THEMES, REJECTED_IMAGES, SALE_IMAGES, SALE_THEMES
from recsys.tables.parts import read_arrow
from recsys.wording import plural

THEMES = "themes"
"""Subfolder of a shop's folder with its theme models."""


def build_themes(run: Run, out: Place) -> str:
    """Fit themes, or use the latest fit if it is recent enough, and project the photos of all sales onto them."""
    photos, rejected, catalogue = read_tagged(run)
    model = _themes_of_run(run, photos, catalogue) if len(photos) else no_themes()
    model = renamed(model, run.settings.images.themes.names)
    n_projected = write_projected(run, photos, rejected, model, catalogue, out)
    _note_missing_themes(run, model, photos, rejected, catalogue)
    themes = plural(len(model.ids), "theme")
    if model.ids:
        themes += f" fitted as of {from_micros(model.as_of):%Y-%m-%d}"
    return f"{themes}, version {model.version}; {plural(n_projected, 'photo')} projected"


def read_tagged(run: Run) -> tuple[pd.DataFrame, pd.DataFrame, Catalogue]:
    """Return the tagged photos, those that could not be tagged, and the sales of a run."""
    photos = read_arrow(run.outputs / IMAGE_TAGS.name).to_pandas()
    photos = photos.sort_values(["sale_id", "position"])  # Spark's row order varies, and sums of floats depend on it
    rejected = read_arrow(run.outputs / REJECTED_IMAGES.name).to_pandas()
    return photos, rejected, Catalogue.from_table(read_arrow(run.outputs / "sales"))


def write_projected(
    run: Run, photos: pd.DataFrame, rejected: pd.DataFrame, model: ThemeModel, catalogue: Catalogue, out: Place
) -> int:
    """Write a theme model and the themes of photos and sales by it; return the number of different photos.

    Args:
        run: The run.
        photos: The tagged photos, in order of sale and position.
        rejected: Those that could not be tagged.
        model: The themes.
        catalogue: The sales of the photos.
        out: The folder to write into.
    """
    (out / THEME_MODEL).write_text(model.to_json(), "utf-8")
    contents = photos.drop_duplicates("image_hash")
    activations = model.activations(tag_matrix(contents["tags"], contents["weights"], model.tags))
    row_by_hash = pd.Series(np.arange(len(contents)), index=contents["image_hash"])
    weights = model.balanced(activations)[row_by_hash.loc[photos["image_hash"]]]
    _write_photos(photos, rejected, weights, out)
    _write_sales(run, photos, weights, model, catalogue, out)
    return len(contents)


def _themes_of_run(run: Run, photos: pd.DataFrame, catalogue: Catalogue) -> ThemeModel:
    """Return the themes as of the first instant of the run, so that no day uses photos of sales that open later."""
    settings, version = run.settings.images, tagger_version(run)
    instants = catalogue.with_open_sales([*run.training_days, *run.days], run.settings.horizon_hours)
    as_of = min(instants, default=run.as_of)
    until = as_of + int(run.settings.horizon_hours * HOUR)
    known_photos = photos[catalogue.opens_at[photos["sale_id"].map(catalogue.position)] < until]
    known_photos = known_photos.drop_duplicates("image_hash")

    def fit(previous: ThemeModel | None) -> ThemeModel:
        tags = sorted(set().union(*known_photos["tags"]).difference(settings.themes.ignored_tags))
        matrix = tag_matrix(known_photos["tags"], known_photos["weights"], tags)
        if not matrix.nnz:
            return no_themes()
        return fit_themes(
            matrix,
            tags,
            settings.themes.themes,
            previous,
            as_of=as_of,
            tagger_version=version,
            fingerprint=_fingerprint(run),
            seed=settings.themes.seed,
        )

    def translate(model: ThemeModel) -> ThemeModel | None:
        old_photos = _photos_tagged_by(run, model.tagger_version)
        both = known_photos[known_photos["image_hash"].isin(old_photos.index)]
        if both.empty:
            return None
        old = old_photos.loc[both["image_hash"]]
        tags = sorted(set().union(*both["tags"]).difference(settings.themes.ignored_tags))
        old_tags = tag_matrix(old["tags"], old["weights"], model.tags)
        return translated(model, old_tags, tag_matrix(both["tags"], both["weights"], tags), tags)

    folder = run.settings.place / THEMES
    return themes_as_of(folder, as_of, version, _fingerprint(run), settings.themes.refit_days, fit, translate)


def _photos_tagged_by(run: Run, version: str) -> pd.DataFrame:
    """Return tags and weights, by image_hash, of the last run whose tags are of a version; no row if its tables are
    gone."""
    for outputs in newest_runs(run.settings.place, ("nights", "backtests", "refreshes")):
        model = outputs / THEME_MODEL
        if outputs.folder != str(run.folder) and model.exists() and read(model).tagger_version == version:
            photos = read_arrow(outputs / IMAGE_TAGS.name, columns=["image_hash", "tags", "weights"]).to_pandas()
            return photos.drop_duplicates("image_hash").set_index("image_hash")
    return pd.DataFrame({"tags": [], "weights": []})


def _note_missing_themes(
    run: Run, model: ThemeModel, photos: pd.DataFrame, rejected: pd.DataFrame, catalogue: Catalogue
) -> None:
    """Record why a shop with a table of photos has no themes."""
    if model.ids or not sources.has_table(SALE_IMAGES, run.settings.source):
        return
    ignored = run.settings.images.themes.ignored_tags
    useful = photos[[not set(tags).issubset(ignored) for tags in photos["tags"]]]
    if len(useful):
        first = int(catalogue.opens_at[useful["sale_id"].map(catalogue.position)].min())
        known = first + run.settings.meta_model.days * DAY - int(run.settings.horizon_hours * HOUR)
        why = "no sale that was known on the first training day has a photo"
        until = f"the first night after {from_micros(known):%Y-%m-%d %H:%M} UTC at the latest"
    elif len(photos):
        why = f"all tags of {plural(len(photos), 'photo')} are in images.themes.ignored_tags"
        until = "one of them is taken out"
    else:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected["reason"].value_counts().items())
        why = f"{len(rejected):,} photos, of which none could be tagged" + (f" ({reasons})" if reasons else "")
        until = "photos can be read: see tables sale_images and rejected_images, and images.root"
    run.leave_out("themes of photos", why, until)


def _fingerprint(run: Run) -> str:
    settings, images = run.settings, run.settings.images
    theme_settings = [images.themes.themes, images.themes.seed, sorted(images.themes.ignored_tags), images.tagging.tags]
    return digest([theme_settings, settings.horizon_hours])[:16]


def _write_photos(photos: pd.DataFrame, rejected: pd.DataFrame, weights: np.ndarray, out: Place) -> None:
    tagged = photos.assign(weights=list(weights))
    rows = pd.concat([tagged, rejected.assign(weights=None)]) if len(rejected) else tagged
    IMAGE_THEMES.write_rows(rows, out)


def _write_sales(
    run: Run, photos: pd.DataFrame, weights: np.ndarray, model: ThemeModel, catalogue: Catalogue, out: Place
) -> None:
    positions = photos["sale_id"].map(catalogue.position).to_numpy().astype(np.int64)
    is_cover = (photos["position"] == photos.groupby("sale_id")["position"].transform("min")).to_numpy()
    theme_weights = sale_weights(weights, positions, is_cover, len(catalogue), run.settings.images.themes.cover_weight)
    sales, themes = np.nonzero(theme_weights)
    rows: dict[str, Any] = {
        "sale_id": np.array(catalogue.sale_ids, object)[sales],
        "theme": np.array(model.names, object)[themes] if model.names else [],
        "weight": theme_weights[sales, themes],
    }
    SALE_THEMES.write_rows(pd.DataFrame(rows), out)


BUILD_THEMES = Step(
    "build_themes",
    build_themes,
    (THEME_MODEL, IMAGE_THEMES.name, SALE_THEMES.name),
    inputs=(TAG_IMAGES,),
    depends_on=lambda run: [run.settings.images.themes, run.settings.horizon_hours, run.training_days, run.days],
)

if __name__ == "__main__":
    main(BUILD_THEMES)
