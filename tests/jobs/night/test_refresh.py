"""A refresh at noon: the sales and photos of the moment, the users of the night."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.engine.nights import night
from jobs.night.nightly import nightly
from jobs.night.refresh import Refreshed, refresh
from recsys.errors import BusyError, EmptyInputError, RejectedRowsError, SnapshotError
from recsys.instants import SECOND, to_micros
from recsys.pipeline.shop import read_gallery
from recsys.ranking.ranker import Ranker
from recsys.ranking.ranker_files import RANKER, read_ranker
from recsys.ranking.scorer import Scorer
from recsys.recommenders import recommenders
from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import Block, Histories
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import Snapshot, SnapshotSale
from recsys.storage.local import held
from serving.answers.top_sales import TopSales
from tests.helpers.asking import answered, shown
from tests.helpers.photo_shop import Photo, PhotoShop, random_photos
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, Row, SmallShop, at, contents, random_rows, sale

pytestmark = [MLFLOW_WARNS, pytest.mark.usefixtures("spark")]

SALES, EVENTS = random_rows(1, sales=24)
PHOTOS, SHOWN = random_photos(SALES)
NOON = to_micros(at(12))
USERS = [f"u{number:02d}" for number in range(40)]
NEW = [
    sale("a-new", 11, 60, title="Beach villa", price=90.0, attributes={"country": "Italy", "category": "sea"}),
    sale("s05-new", 9, 30, title="Ski hut", attributes={"country": "Norway"}),
]
"""Sales that staff add: their ids are before and among those of the night."""
NEW_PHOTOS: list[Photo] = [("a-new", 0, "pool-0.jpg"), ("a-new", 1, "pool-new.jpg")]
POOL = {"pool": 0.3, "sun lounger": 0.2, "palm": 0.1}


@dataclass
class Noon:
    """A shop whose tables changed twice after its night, each time followed by a refresh."""

    shop: PhotoShop
    night: Snapshot
    added: Snapshot
    """After new sales with photos, and a changed title."""
    said: str
    changed: Snapshot
    """After changed windows, a withdrawn sale and other photos of a known one."""
    said_then: str


def write_sales(shop: SmallShop, sales: Sequence[Row]) -> None:
    shop.write(sales, EVENTS)


def in_use(shop: SmallShop) -> Snapshot:
    root = shop.settings().snapshots_folder
    return Snapshot.open(root / snapshot_store.current(root))


def of(snapshot: Snapshot, sale_id: str) -> SnapshotSale:
    return next(each for each in snapshot.sales if each.sale_id == sale_id)


@pytest.fixture(scope="module")
def before_noon(tmp_path_factory) -> PhotoShop:
    """A shop after its night; tests must not change it."""
    shop = PhotoShop(tmp_path_factory.mktemp("noon") / "shop")
    shop.write(SALES, EVENTS)
    shop.write_photos(PHOTOS, SHOWN)
    nightly(night(shop.settings()))
    return shop


def test_x(before_noon):
    shop = before_noon
    print(in_use(shop).name, len(in_use(shop).sales))
    print(refresh(shop.settings()))
    for s in in_use(shop).sales: print(s.sale_id, s.opens_at, s.closes_at, s.images)
    shop.write([*SALES, *NEW], EVENTS)
    shop.write_photos([*PHOTOS, *NEW_PHOTOS], {**SHOWN, "pool-new.jpg": POOL})
    print(refresh(shop.settings()))
    print(refresh(shop.settings()))
    for s in in_use(shop).sales: print(s.sale_id, s.opens_at, s.closes_at, s.images, s.theme)
