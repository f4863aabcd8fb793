"""Snapshots with the sales of the moment and the users of a night, whose files are taken over as they are.

What the night wrote of a user holds positions: in the snapshot's sales, in the reasons, in a sale's photos. So the
sales of the night keep their places, each with at least as many photos as it had, and new ones follow.
"""

import os
from collections.abc import Sequence
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from recsys.errors import SnapshotError
from recsys.snapshot import store
from recsys.snapshot.checks import check_contents
from recsys.snapshot.format import MANIFEST, Snapshot, SnapshotContents, SnapshotSale, is_of_users
from recsys.snapshot.users import ranking_type
from recsys.snapshot.writer import described_files, is_same, write_what_all_share
from recsys.storage.local import held, put_in_place, scratch_folder, tree_to_disk
from recsys.wording import plural


class Changes(NamedTuple):
    """What a refresh changes for pages."""

    new: int = 0
    """Number of sales that the snapshot before did not have."""
    windows: int = 0
    """Number of sales that open or close at another instant."""
    withdrawn: int = 0
    """Number of sales that are open no more: the source has lost them, or they ended before the night."""
    others: int = 0
    """Number of further sales with another title, price, attribute, photo or theme."""
    photos: int = 0
    """Number of photos of sales that the snapshot before did not have."""

    def __str__(self) -> str:
        """Return the changes in one line; empty without any."""
        parts = [
            plural(self.new, "new sale"),
            plural(self.windows, "changed window"),
            f"{plural(self.withdrawn, 'sale')} withdrawn",
            f"{plural(self.others, 'sale')} described anew",
            plural(self.photos, "new photo"),
        ]
        return ", ".join(part for part, count in zip(parts, self, strict=True) if count)


def changes(before: Sequence[SnapshotSale], after: Sequence[SnapshotSale], as_of: datetime) -> Changes:
    """Return what distinguishes the sales of two snapshots of a night.

    Args:
        before: The sales of the earlier snapshot.
        after: Those of the later one; a withdrawn sale closes at `as_of` at the latest.
        as_of: The instant of the night.
    """
    known = {sale.sale_id: sale for sale in before}
    pairs = [(known[sale.sale_id], sale) for sale in after if sale.sale_id in known]
    withdrawn = {new.sale_id for old, new in pairs if new.closes_at <= as_of < old.closes_at}
    moved = {new.sale_id for old, new in pairs if (new.opens_at, new.closes_at) != (old.opens_at, old.closes_at)}
    differ = {new.sale_id for old, new in pairs if new != old}
    photos = sum(
        len({*sale.images}.difference(known[sale.sale_id].images if sale.sale_id in known else ())) for sale in after
    )
    return Changes(len(after) - len(pairs), len(moved - withdrawn), len(withdrawn), len(differ - moved), photos)


def write_refreshed(root: Path, before: Snapshot, contents: SnapshotContents, night: str, n_known: int) -> str:
    """Write a snapshot with other sales and the users of an earlier one, and return its name.

    The name is that of the night's snapshot with the next number. If the last one has the same content, its name is
    returned: a refresh that was killed before it published is not written twice.

    Args:
        root: The folder of snapshots.
        before: The snapshot whose users' files are linked: the night's, or a refreshed one of it.
        contents: Everything except the users; its policies and reasons are those of `before`.
        night: The name of the night's snapshot.
        n_known: Number of sales that the night's snapshot has, the first ones of `before` and of `contents`.

    Raises:
        InputError: If a value breaks a rule.
        SnapshotError: If the users' files of `before` would mean something else beside these contents.
    """
    check_contents(contents)
    _check_users_stay_valid(before, contents, n_known)
    with scratch_folder(root) as folder:
        write_what_all_share(folder, contents)
        shared = described_files(folder)
        of_users = {name: entry for name, entry in before.manifest.files.items() if is_of_users(name)}
        for name in of_users:
            os.link(before.path / name, folder / name)
        changed = {
            "fingerprint": contents.fingerprint,
            "n_sales": len(contents.sales),
            "shared_policies": tuple(contents.shared_rankings),
            "files": shared | of_users,
            "users_of": before.manifest.users_of or before.name,
        }
        (folder / MANIFEST).write_text(before.manifest.model_copy(update=changed).to_json(), "utf-8")
        tree_to_disk(folder)
        with held(root):
            return _put_under_next_name(folder, root, night)


def _put_under_next_name(folder: Path, root: Path, night: str) -> str:
    last = max(store.refreshes(root, night), default=0)
    if last and is_same(root / store.refreshed_name(night, last), folder):
        return store.refreshed_name(night, last)
    name = store.refreshed_name(night, last + 1)
    put_in_place(folder, root / name)
    return name


def _check_users_stay_valid(before: Snapshot, contents: SnapshotContents, n_known: int) -> None:
    n_sales, advice = len(contents.sales), "run 'recsys nightly'"
    if (contents.policies, list(contents.reasons)) != (before.policies, list(before.reasons)):
        raise SnapshotError(f"policies and reasons must be those of snapshot {before.name}: {advice}")
    if ranking_type(n_sales, before.k) != ranking_type(len(before.sales), before.k):
        raise SnapshotError(f"{n_sales:,} sales do not fit into the users' records of {before.name}: {advice}")
    places = zip_longest(before.sales[:n_known], contents.sales[:n_known])
    for place, (old, new) in enumerate(places):
        if old is None or new is None or old.sale_id != new.sale_id:
            ids = [sale and sale.sale_id for sale in (old, new)]
            raise SnapshotError(
                f"sale {place} of {before.name}, {ids[0]!r}, must keep its place, is {ids[1]!r}: {advice}"
            )
