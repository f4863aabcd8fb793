"""Validated tables → what they hold: the profile that `recsys validate` prints."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

from jobs.engine.run import Run
from recsys.data_profile.frames import Photos
from recsys.data_profile.profile import DataProfile, odd_ids, profile_of
from recsys.data_profile.rule_counts import RULE_COUNTS
from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.thumbnails import thumbnail
from recsys.pipeline.data_profile import profile_frames
from recsys.tables.night import EVENTS, SALE_IMAGES, SALES

_SOON_HOURS = 72.0
_MOST_PHOTOS = 200
_SECONDS = 5.0
"""All photos of the sample are read in this time, and those that are not are left out of it."""
_READERS = 16


def profile_tables(run: Run) -> DataProfile:
    """Return the profile of the tables that `validate_tables` has written."""
    hours = run.settings.serving.pages.just_bought_hours or _SOON_HOURS
    sales, images, events = (table.read(run.spark, run.outputs) for table in (SALES, SALE_IMAGES, EVENTS))
    frames = profile_frames(sales, images, events, hours)
    covers = frames.sales["cover"].dropna().tolist()
    sample = covers[:: -(-len(covers) // _MOST_PHOTOS) or 1]
    photos = try_photos(PhotoFiles.of(run.settings.images), sample) if sample else None
    counts = json.loads((run.outputs / RULE_COUNTS).read_text())
    return profile_of(frames, run.as_of, odd_ids(counts), photos)


def try_photos(files: PhotoFiles, uris: Sequence[str]) -> Photos:
    """Return how many photos can be read and decoded, of those for which there is time."""
    files = replace(files, max_seconds=min(files.max_seconds, _SECONDS))
    pool = ThreadPoolExecutor(_READERS)
    done, _ = wait([pool.submit(_can_be_read, files, uri) for uri in uris], timeout=_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    return Photos(len(done), sum(each.result() for each in done))


def _can_be_read(files: PhotoFiles, uri: str) -> bool:
    try:
        thumbnail(files.read(files.absolute(uri)))
    except PhotoError:
        return False
    return True
