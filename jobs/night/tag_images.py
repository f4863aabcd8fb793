"""sale_images → image_tags, rejected_images, sale_photo_labels; no network sees a photo twice."""

import hashlib
import json
import logging
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.validate_tables import VALIDATE_TABLES
from jobs.registry.taggers import read_tagger, version_of
from recsys.errors import ModelError, RegistryError
from recsys.images.settings import ImageSettings, TaggerSettings, TaxonomyTaggerSettings
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.tag_store import TagStore
from recsys.pipeline import sources
from recsys.pipeline.photo_tags import ShopTagger, joined_tags, photo_store, sale_labels
from recsys.pipeline.photos import Engine, choose_engine
from recsys.settings import digest
from recsys.storage.locks import locked
from recsys.storage.outputs import Outputs
from recsys.storage.places import Place
from recsys.tables.night import IMAGE_TAGS, REJECTED_IMAGES, SALE_IMAGES, SALE_PHOTO_LABELS
from recsys.tables.parts import read_arrow
from recsys.wording import listed, plural

TAGGERS = "taggers.json"
"""File in a run's folder with the version of each tagger of the run."""
_log = logging.getLogger(__name__)

_RESULT_COLUMNS = ["image_hash", "tags", "probabilities", "weights", "reason", "detail"]


def tag_images(run: Run, out: Place) -> str:
    """Run the networks on photos that are new to them, and tag all photos of sales with each tagger.

    Photos that cannot be read are written to rejected_images.
    """
    images = SALE_IMAGES.read(run.spark, run.outputs).toPandas()
    taggers = [] if images.empty else taggers_of(run)
    _note_missing_taggers(run)
    if not taggers:
        _write_tables(images.reindex(columns=[*images.columns, *_RESULT_COLUMNS]), [], [], out)
        return "the shop has no photos" if images.empty else "no tagger"
    settings = run.settings.images
    engine = choose_engine(settings.tagging.engine, run.spark)
    images["absolute"] = images["image_uri"].map(PhotoFiles.of(settings).absolute)
    stores = {tagger.files.network_version: photo_store(run.settings.place, tagger.files) for tagger in taggers}
    networks = {tagger.files.network_version: tagger.network for tagger in taggers}
    first = next(iter(stores.values()))
    with locked(first.folder, wait=False):
        hashes = _hash_photos(first, engine, sorted(set(images["absolute"])), settings)
        new = {version: _tag_new(run, store, engine, networks[version], hashes) for version, store in stores.items()}
    contents = pa.array(hashes["image_hash"].dropna().unique(), pa.string())
    tags = [tagger.tags(stores[tagger.files.network_version], contents, settings.tagging.tags) for tagger in taggers]
    outcomes = pd.concat(store.outputs(["image_hash", "reason", "detail"]).to_pandas() for store in stores.values())
    rejected = outcomes.dropna(subset="reason").drop_duplicates("image_hash").set_index("image_hash")
    results = images.join(hashes, on="absolute").join(joined_tags(tags), on="image_hash")
    results = results.join(rejected[~rejected.index.isin(tags[0].index)], on="image_hash")
    for column in ("reason", "detail"):
        results[column] = results[column].where(results["image_hash"].notna(), results[f"unread_{column}"])
    labels = [
        sale_labels(results.dropna(subset="image_hash"), found["label"], tagger.trained.taxonomy.name, cover_weight)
        for tagger, found in zip(taggers, tags, strict=True)
        if tagger.trained is not None and (cover_weight := settings.themes.cover_weight)
    ]
    versions = [tagger.version for tagger in taggers]
    _write_tables(results, labels, versions, out)
    return _summary(results, max(new.values()), listed(versions, "and"))


def taggers_of(run: Run) -> list[ShopTagger]:
    """Return the taggers of a run, without those of which no version can be had.

    Raises:
        ConfigurationError: If a tagger's name is unknown, or a setting that it needs is missing.
        ModelError: If a network's weights cannot be fetched, or the files of a version are damaged.
    """
    found = []
    for each in run.settings.images.taggers:
        if isinstance(each, TaggerSettings):
            found.append(ShopTagger.named(each))
        elif version := _pinned_version(run, each):
            found.append(ShopTagger.of_taxonomy(read_tagger(run.settings, each.taxonomy, version)))
    return found


def tagger_version(run: Run) -> str:
    """Return the version of the tags of a run: that of its tagger, or of all its taggers together."""
    versions = sorted(json.loads((run.outputs / TAGGERS).read_text()))
    return versions[0] if len(versions) == 1 else f"{len(versions)}-taggers-{digest(versions)[:12]}"


def _pinned_version(run: Run, tagger: TaxonomyTaggerSettings) -> str:
    """Return the version of a tagger, the same during the whole run; empty if there is none."""
    key = f"tagger {tagger.taxonomy} {tagger.version}"
    if key not in run.pinned:
        try:
            run.pinned[key] = version_of(run.settings, tagger.taxonomy, tagger.version)
        except (ModelError, RegistryError) as error:
            run.pinned[key], run.unknown[key] = "", str(error)
    return run.pinned[key]


def _note_missing_taggers(run: Run) -> None:
    for each in run.settings.images.taggers:
        if isinstance(each, TaxonomyTaggerSettings) and not _pinned_version(run, each):
            why = run.unknown[f"tagger {each.taxonomy} {each.version}"]
            run.leave_out(f"tags of taxonomy {each.taxonomy}", why, "the first night after a version is registered")


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


def _tag_new(run: Run, store: TagStore, engine: Engine, network: TaggerSettings, hashes: pd.DataFrame) -> int:
    """Run the network on each content without a final result, saving part by part; return how many are new to it."""
    photos = hashes.reset_index().dropna(subset="image_hash").drop_duplicates("image_hash")
    is_known = photos["image_hash"].isin(store.outputs(["image_hash"])["image_hash"].to_pandas())
    photos = photos[~photos["image_hash"].isin(store.finished().to_pandas())]
    settings, started_at = run.settings.images, time.monotonic()
    for start_row in range(0, len(photos), settings.tagging.part_photos):
        part = photos.iloc[start_row : start_row + settings.tagging.part_photos]
        with store.new_outputs() as folder:
            rows = pa.table({name: part[name].tolist() for name in ("image_hash", "image_uri")})
            engine.tag_photos(rows, settings, network, folder)
        if len(photos) > settings.tagging.part_photos:
            n_done = start_row + len(part)
            rate = n_done / (time.monotonic() - started_at)
            _log.info(f"    {n_done:,} of {len(photos):,} photos tagged, {rate:,.0f} per second")
    return len(is_known) - int(is_known.sum())


def _write_tables(results: pd.DataFrame, labels: list[pd.DataFrame], versions: list[str], out: Place) -> None:
    is_tagged = results["reason"].isna() & results["image_hash"].notna()
    for table, rows in ((IMAGE_TAGS, results[is_tagged]), (REJECTED_IMAGES, results[~is_tagged])):
        table.write_rows(rows, out)
    none = pd.DataFrame(columns=list(SALE_PHOTO_LABELS.columns))
    SALE_PHOTO_LABELS.write_rows(pd.concat(labels, ignore_index=True) if labels else none, out)
    (out / TAGGERS).write_text(json.dumps(versions))


def _summary(results: pd.DataFrame, new: int, version: str) -> str:
    rejected = Counter(results["reason"].dropna())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
    photos = results["image_hash"].nunique()
    return (
        f"{plural(len(results), 'photo')} of sales, {photos:,} different, {new:,} new for {version}; "
        f"{sum(rejected.values()):,} set aside{f' ({reasons})' if reasons else ''}"
    )


def _depends_on(run: Run) -> list:
    """Return the taggers' versions, the limits, and a digest of the photos' names and, if local, sizes and times."""
    if not sources.has_table(SALE_IMAGES, run.settings.source):
        return []
    tagging = run.settings.images.tagging.model_dump(exclude={"engine", "batch", "part_photos"})
    photos = _digest_of_photos(run.outputs, PhotoFiles.of(run.settings.images))
    images = run.settings.images
    return [[tagger.version for tagger in taggers_of(run)], images.themes.cover_weight, tagging, photos]


def _digest_of_photos(outputs: Outputs, files: PhotoFiles) -> str:
    """Return a digest of the names of all photos of the run and, for local files, of their sizes and times."""
    uris = read_arrow(outputs / SALE_IMAGES.name, columns=["image_uri"])["image_uri"].unique().to_pylist()
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
    (IMAGE_TAGS.name, REJECTED_IMAGES.name, SALE_PHOTO_LABELS.name, TAGGERS),
    inputs=(VALIDATE_TABLES,),
    depends_on=_depends_on,
)

if __name__ == "__main__":
    main(TAG_IMAGES)
