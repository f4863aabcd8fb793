"""sale_images → image_tags, rejected_images; photos that a tagger has seen before are not tagged again."""

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

PHOTOS = "photos"
"""The folder of a shop that keeps tags from night to night."""
_log = logging.getLogger(__name__)

_FOUND = ["image_hash", "tags", "probabilities", "reason", "detail"]


def tag_images(run: Run, out: Path) -> str:
    """Tag the photos that are new since the last run, and set aside those that cannot be."""
    images = SALE_IMAGES.read(run.spark, run.folder).toPandas()
    if images.empty:
        _write_tables(images.reindex(columns=[*images.columns, *_FOUND]), out)
        return "the shop has no photos"
    store, settings = tag_store(run), run.settings.images
    engine = choose_engine(settings.tagging.engine, run.spark)
    images["absolute"] = images["image_uri"].map(PhotoFiles.of(settings).absolute)
    with held(store.folder, wait=False):
        hashes = _hashed(store, engine, sorted(set(images["absolute"])), settings)
        new = _tag_new(run, store, engine, hashes)
    tags = store.tagged().to_pandas().set_index("image_hash")
    found = images.join(hashes, on="absolute").join(tags, on="image_hash")
    for column in ("reason", "detail"):
        found[column] = found[column].where(found["image_hash"].notna(), found[f"unread_{column}"])
    _write_tables(found, out)
    return _summary(found, new, store.tagger_version)


def tag_store(run: Run) -> TagStore:
    """Return what the shop's tagger knows of photos: its best tags, as many as the settings say."""
    images = run.settings.images
    version = f"{tagger_files(images.tagger).version}-{images.tagging.tags}"
    return TagStore(Path(run.settings.folder) / PHOTOS, version)


def _hashed(store: TagStore, engine: Engine, uris: list[str], settings: ImageSettings) -> pd.DataFrame:
    """Return image_hash, or why there is none, of each URI; reads what is new or has changed."""
    stamps = store.hashes().to_pandas().set_index("image_uri")["stamp"].reindex(uris)
    rows = pa.table({"image_uri": uris, "known_stamp": pa.array(stamps, pa.string(), from_pandas=True)})
    with store.new_hashes() as folder:
        engine.hash_photos(rows, settings, folder)
    known = store.hashes().to_pandas().set_index("image_uri").reindex(uris)
    return known[["image_hash", "reason", "detail"]].rename(
        columns={"reason": "unread_reason", "detail": "unread_detail"}
    )


def _tag_new(run: Run, store: TagStore, engine: Engine, hashes: pd.DataFrame) -> int:
    """Tag photos of which nothing is known, each content once, and return how many; every part of the work is kept."""
    photos = hashes.reset_index().dropna(subset="image_hash").drop_duplicates("image_hash")
    seen = photos["image_hash"].isin(store.tagged(["image_hash"])["image_hash"].to_pandas())
    photos = photos[~photos["image_hash"].isin(store.settled().to_pandas())]
    settings, start = run.settings.images, time.monotonic()
    for first in range(0, len(photos), settings.tagging.part_photos):
        part = photos.iloc[first : first + settings.tagging.part_photos]
        with store.new_tags() as folder:
            engine.tag_photos(
                pa.table({name: part[name].tolist() for name in ("image_hash", "image_uri")}), settings, folder
            )
        if len(photos) > settings.tagging.part_photos:
            done = first + len(part)
            rate = done / (time.monotonic() - start)
            _log.info(f"    {done:,} of {len(photos):,} photos tagged, {rate:,.0f} a second")
    return len(seen) - int(seen.sum())


def _write_tables(found: pd.DataFrame, out: Path) -> None:
    is_tagged = found["reason"].isna() & found["image_hash"].notna()
    for table, rows in ((IMAGE_TAGS, found[is_tagged]), (REJECTED_IMAGES, found[~is_tagged])):
        table.write_rows(rows, out)


def _summary(found: pd.DataFrame, new: int, version: str) -> str:
    rejected = Counter(found["reason"].dropna())
    aside = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
    photos = found["image_hash"].nunique()
    return (
        f"{len(found):,} photos of sales, {photos:,} different, {new:,} new for {version}; "
        f"{sum(rejected.values()):,} set aside{f' ({aside})' if aside else ''}"
    )


def _depends_on(run: Run) -> list:
    """Tagger, limits, and the names, sizes and times of the photos that are local files."""
    if not sources.has_table(SALE_IMAGES, run.settings.source):
        return []
    tagging = run.settings.images.tagging.model_dump(exclude={"engine", "batch", "part_photos"})
    stamps = _stamped(run.folder, PhotoFiles.of(run.settings.images))
    return [tagger_files(run.settings.images.tagger).version, tagging, stamps]


def _stamped(folder: Path, files: PhotoFiles) -> str:
    """Return a digest of the names, sizes and times of all photos of the run."""
    uris = pq.read_table(folder / SALE_IMAGES.name, columns=["image_uri"])["image_uri"].unique().to_pylist()
    digest = hashlib.sha256()
    for path in sorted(files.absolute(uri) for uri in uris):
        try:
            status = Path(path).stat()
            digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        except OSError:  # a URL, or missing
            digest.update(path.encode())
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
