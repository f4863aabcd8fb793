from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import InputError, SnapshotError
from recsys.snapshot.format import Snapshot, SnapshotSale
from recsys.snapshot.refreshed import Changes, changes, write_refreshed
from tests.helpers.snapshots import AS_OF, CONTENTS, NAME, SALES, write

NOON = AS_OF + timedelta(hours=12)
NEW = SnapshotSale("a-new", "Azores", NOON, AS_OF + timedelta(days=2), images=("1.jpg", "2.jpg"))
REFRESHED = replace(CONTENTS, sales=[*SALES, NEW], fingerprint="99999999")


def refreshed(root: Path, before: Path, n_known: int = 5, **others: object) -> Snapshot:
    contents = replace(REFRESHED, **others)
    return Snapshot.open(root / write_refreshed(root, Snapshot.open(before), contents, NAME, n_known))


def test_refreshed_snapshot_has_other_sales_and_the_same_users(tmp_path):
    before = write(tmp_path)
    found = refreshed(tmp_path, before)
    assert found.name == f"{NAME}.r0001"
    assert [each.sale_id for each in found.sales] == ["a", "b", "c", "d", "e", "a-new"]
    assert (found.as_of, found.manifest.n_sales, found.manifest.n_users, found.fingerprint) == (AS_OF, 6, 3, "99999999")
    night = Snapshot.open(before)
    for user in ("ann", "bob", "eve"):
        for policy in night.policies:
            assert list(found.users.find(user).places(policy)) == list(night.users.find(user).places(policy))
        np.testing.assert_array_equal(found.users.find(user).history(), night.users.find(user).history())
    assert (found.path / "user_ids.bin").samefile(before / "user_ids.bin")


def test_each_refresh_has_the_next_number_and_names_the_night_that_its_users_are_of(tmp_path):
    before = write(tmp_path)
    first = refreshed(tmp_path, before)
    second = refreshed(tmp_path, first.path, sales=SALES)
    assert (first.manifest.users_of, second.manifest.users_of) == (NAME, NAME)
    assert second.name == f"{NAME}.r0002"
    assert refreshed(tmp_path, before, sales=SALES).name == second.name  # as after a kill before it was published
    assert refreshed(tmp_path, before).name == f"{NAME}.r0003"


@pytest.mark.parametrize(
    ("change", "n_known", "said"),
    [
        ({"sales": [NEW, *SALES]}, 5, "sale 0 of .*, 'a', must keep its place, is 'a-new'"),
        ({"sales": [*SALES[:4], NEW]}, 5, "sale 4 of .*, 'e', must keep its place, is 'a-new'"),
        ({}, 6, "sale 5 of .*, None, must keep its place, is 'a-new'"),
        ({"reasons": ("own_visits", "popularity", "collaborative")}, 5, "policies and reasons must be those of"),
        ({"policies": ("meta",)}, 5, "policies and reasons must be those of"),
        (
            {"sales": [*SALES, *(replace(NEW, sale_id=f"n{number}") for number in range(65_532))]},
            5,
            "65,537 sales do not fit into the users' records",
        ),
    ],
)
def test_contents_that_the_users_records_do_not_mean_are_refused(tmp_path, change, n_known, said):
    before = write(tmp_path)
    with pytest.raises(SnapshotError, match=said):
        refreshed(tmp_path, before, n_known, **change)


def test_contents_are_checked_as_the_nights(tmp_path):
    with pytest.raises(InputError, match="'a-new' is there 2 times"):
        refreshed(tmp_path, write(tmp_path), sales=[*SALES, NEW, NEW])


def test_changes_are_counted_and_said():
    a, b, c, d, e = SALES
    withdrawn = replace(a, closes_at=AS_OF)
    moved = replace(b, closes_at=AS_OF + timedelta(days=3), title="Basel")
    priced = replace(d, price=4.0)
    found = changes(SALES, [withdrawn, moved, c, priced, e, NEW], AS_OF)
    assert found == Changes(new=1, windows=1, withdrawn=1, others=1, photos=2)
    assert str(found) == "1 new sale, 1 changed window, 1 sale withdrawn, 1 sale described anew, 2 new photos"
    assert str(changes(SALES, SALES, AS_OF)) == ""
    assert str(changes([withdrawn, *SALES[1:]], [withdrawn, *SALES[1:]], AS_OF)) == ""
    assert str(changes(SALES, [replace(a, images=("new.jpg", *a.images)), *SALES[1:]], AS_OF)) == (
        "1 sale described anew, 1 new photo"
    )
