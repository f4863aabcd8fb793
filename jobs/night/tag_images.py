"""sale_images → image_tags, rejected_images; photos that the tagger has already tagged are not tagged again."""

import hashlib
import logging
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.images.settings import ImageSettings
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.tag_store import TagStore
from recsys.images.tagging.taggers import tagger_files
from recsys.pipeline import sources
from recsys.pipeline.photos import Engine, choose_engine
from recsys.storage.local import held
from recsys.tables.night import IMAGE_TAGS, REJECTED_IMAGES, SALE_IMAGES
from recsys.wording import plural

PHOTOS = "photos"
"""Subfolder of a shop's folder with the tags of all nights."""
_log = logging.getLogger(__name__)

_RESULT_COLUMNS = ["image_hash", "tags", "probabilities", "reason", "detail"]


def tag_images(run: Run, out: Path) -> str:
    """Tag the photos that are new since the last run; photos that cannot be tagged are written to rejected_images."""
    images = SALE_IMAGES.read(run.spark, run.folder).toPandas()
    if images.empty:
        _write_tables(images.reindex(columns=[*images.columns, *_RESULT_COLUMNS]), out)
        return "the shop has no photos"
    store, settings = tag_store(run), run.settings.images
    engine = choose_engine(settings.tagging.engine, run.spark)
    images["absolute"] = images["image_uri"].map(PhotoFiles.of(settings).absolute)
    with held(store.folder, wait=False):
        hashes = _hash_photos(store, engine, sorted(set(images["absolute"])), settings)
        new = _tag_new(run, store, engine, hashes)
    tags = store.tagged().to_pandas().set_index("image_hash")
    results = images.join(hashes, on="absolute").join(tags, on="image_hash")
    for column in ("reason", "detail"):
        results[column] = results[column].where(results["image_hash"].notna(), results[f"unread_{column}"])
    _write_tables(results, out)
    return _summary(results, new, store.tagger_version)


def tag_store(run: Run) -> TagStore:
    """Return the store of tags of the configured tagger and number of tags."""
    images = run.settings.images
    version = f"{tagger_files(images.tagger).version}-{images.tagging.tags}"
    return TagStore(Path(run.settings.folder) / PHOTOS, version)


def _hash_photos(store: TagStore, engine: Engine, uris: list[str], settings: ImageSettings) -> pd.DataFrame:
    """Return the image_hash, or the reason of a failure, of each URI; only new and changed photos are read."""
    known_stamps = store.hashes().to_pandas().set_index("image_uri")["stamp"].reindex(uris)
    rows = pa.table({"image_uri": uris, "known_stamp": pa.array(known_stamps, pa.string(), from_pandas=True)})
    with store.new_hashes() as folder:
        engine.hash_photos(rows, settings, folder)
    hashes = store.hashes().to_pandas().set_index("image_uri").reindex(uris)
    return hashes[["image_hash", "reason", "detail"]].rename(
        columns={"reason": "unread_reason", "detail": "unread_detail"}
    )


def _tag_new(run: Run, store: TagStore, engine: Engine, hashes: pd.DataFrame) -> int:
    """Tag each content without a final result, saving part by part; return the number of contents not seen before."""
    photos = hashes.reset_index().dropna(subset="image_hash").drop_duplicates("image_hash")
    is_known = photos["image_hash"].isin(store.tagged(["image_hash"])["image_hash"].to_pandas())
    photos = photos[~photos["image_hash"].isin(store.finished().to_pandas())]
    settings, started_at = run.settings.images, time.monotonic()
    for start_row in range(0, len(photos), settings.tagging.part_photos):
        part = photos.iloc[start_row : start_row + settings.tagging.part_photos]
        with store.new_tags() as folder:
            engine.tag_photos(
                pa.table({name: part[name].tolist() for name in ("image_hash", "image_uri")}), settings, folder
            )
        if len(photos) > settings.tagging.part_photos:
            n_done = start_row + len(part)
            rate = n_done / (time.monotonic() - started_at)
            _log.info(f"    {n_done:,} of {len(photos):,} photos tagged, {rate:,.0f} per second")
    return len(is_known) - int(is_known.sum())


def _write_tables(results: pd.DataFrame, out: Path) -> None:
    is_tagged = results["reason"].isna() & results["image_hash"].notna()
    for table, rows in ((IMAGE_TAGS, results[is_tagged]), (REJECTED_IMAGES, results[~is_tagged])):
        table.write_rows(rows, out)


def _summary(results: pd.DataFrame, new: int, version: str) -> str:
    rejected = Counter(results["reason"].dropna())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
    photos = results["image_hash"].nunique()
    return (
        f"{plural(len(results), 'photo')} of sales, {photos:,} different, {new:,} new for {version}; "
        f"{sum(rejected.values()):,} set aside{f' ({reasons})' if reasons else ''}"
    )


def _depends_on(run: Run) -> list:
    """Return the tagger's version, the limits, and a digest of the photos' names and, if local, sizes and times."""
    if not sources.has_table(SALE_IMAGES, run.settings.source):
        return []
    tagging = run.settings.images.tagging.model_dump(exclude={"engine", "batch", "part_photos"})
    photos = _digest_of_photos(run.folder, PhotoFiles.of(run.settings.images))
    return [tagger_files(run.settings.images.tagger).version, tagging, photos]


def _digest_of_photos(folder: Path, files: PhotoFiles) -> str:
    """Return a digest of the names of all photos of the run and, for local files, of their sizes and times."""
    uris = pq.read_table(folder / SALE_IMAGES.name, columns=["image_uri"])["image_uri"].unique().to_pylist()
    digest = hashlib.sha256()
    for path in sorted(files.absolute(uri) for uri in uris):
        try:
            status = Path(path).stat()
            digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        except (OSError, ValueError):  # a URL, missing, or a name that no file can have
            digest.update(path.encode(errors="surrogatepass"))
    return digest.hexdigest()


TAG_IMAGES = Step(
    "tag_images",
    tag_images,
    (IMAGE_TAGS.name, REJECTED_IMAGES.name),
    inputs=(VALIDATE_TABLES,),
    depends_on=_depends_on,
)

if __name__ == "__main__":
    main(TAG_IMAGES)
