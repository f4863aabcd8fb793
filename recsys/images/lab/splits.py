"""Groups of photos that must not be torn apart, and the part of each: training, validation or test.

A test part says how good a tagger is on photos that it has never seen. A photo whose twin was learnt from *has* been
seen, so what is divided is not photos but groups: photos that are the same or nearly so, and photos of one sale.

A group has no name of its own: it grows, and two groups become one when a photo belongs to both. Therefore the part of
a photo is chosen once, by a hash of the smallest content hash of its group, and remembered (`remembered_parts`). After
that a photo moves in one direction only, from training to validation to test, where a new photo joins its group with
one of that part. No test photo is ever learnt from later; at worst, an earlier version has seen a photo that it is
measured by now, which is in favour of the version in use.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from recsys.images.lab.dataset import Part
from recsys.images.lab.neighbours import near_duplicate_pairs
from recsys.storage.local import held, put_in_place, scratch_folder

MOST_SALES_OF_A_PHOTO = 20
"""A photo shown by more sales, such as a logo or a placeholder, does not tie them together."""
SHARES: dict[Part, float] = {"test": 0.2, "validation": 0.1, "train": 0.7}
"""Expected share of the groups; a group is in the first part of these that one of its photos is in."""
ENOUGH_GROUPS = 5
"""A label with so many groups or more has at least one in each part."""
_SPLIT_FILE = "split.parquet"
_SPLIT = pa.schema([("image_hash", pa.string()), ("part", pa.string())])


def groups_of(
    image_hashes: NDArray[np.str_], embeddings: NDArray[np.float32], sale_ids: Sequence[Iterable[str]]
) -> NDArray[np.int64]:
    """Return the group of each photo, shape (n_photos,): photos of one group must be in one part.

    Args:
        image_hashes: Shape (n_photos,).
        embeddings: Shape (n_photos, n_features); near duplicates are of one group.
        sale_ids: The sales that show each photo.
    """
    same_as = {image_hash: row for row, image_hash in enumerate(image_hashes.tolist())}
    pairs = [(row, same_as[image_hash]) for row, image_hash in enumerate(image_hashes.tolist())]
    pairs += near_duplicate_pairs(embeddings).tolist()
    first_of_sale: dict[str, int] = {}
    for row, sales in enumerate(map(set, sale_ids)):
        if len(sales) <= MOST_SALES_OF_A_PHOTO:
            pairs += [(row, first_of_sale.setdefault(sale, row)) for sale in sales]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    edges = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(len(image_hashes),) * 2)
    return connected_components(edges.tocsr(), directed=False)[1].astype(np.int64)


def parts_of(
    image_hashes: NDArray[np.str_],
    groups: NDArray[np.int64],
    targets: NDArray[np.bool_] | None = None,
    remembered: Mapping[str, Part] | None = None,
) -> NDArray[np.str_]:
    """Return the part of each photo, shape (n_photos,); all photos of a group have the same.

    Args:
        image_hashes: Shape (n_photos,).
        groups: Shape (n_photos,), see `groups_of`.
        targets: Shape (n_photos, n_labels). Where given, a label with ENOUGH_GROUPS that would lack a part gets a new
            group moved there.
        remembered: Parts of photos by image_hash, from an earlier call. Their groups stay, or move towards test where
            they have become one with another.
    """
    members: dict[int, list[str]] = {}
    for image_hash, group in zip(image_hashes.tolist(), groups.tolist(), strict=True):
        members.setdefault(group, []).append(image_hash)
    parts: dict[int, Part] = {}
    places: dict[int, float] = {}  # of new groups
    for group, hashes in members.items():
        known = {remembered[each] for each in hashes if each in remembered} if remembered else set()
        if known:
            parts[group] = next(part for part in SHARES if part in known)
        else:
            places[group] = _place(min(hashes))
            parts[group] = _part_at(places[group])
    if targets is not None:
        _give_each_label_each_part(parts, groups, targets, places)
    return np.array([parts[group] for group in groups.tolist()], dtype="<U10")


def remembered_parts(folder: Path) -> dict[str, Part]:
    """Return the parts by image_hash that `remember_parts` wrote; none before."""
    file = folder / _SPLIT_FILE
    if not file.exists():
        return {}
    rows = pq.read_table(file, schema=_SPLIT)
    return dict(zip(rows["image_hash"].to_pylist(), rows["part"].to_pylist(), strict=True))


def remember_parts(folder: Path, parts: Mapping[str, Part]) -> None:
    """Write parts by image_hash into the folder of a taxonomy's labels, which the caller has locked."""
    with scratch_folder(folder) as new:
        rows = pa.table({"image_hash": sorted(parts), "part": [parts[each] for each in sorted(parts)]}, _SPLIT)
        pq.write_table(rows, new / _SPLIT_FILE)
        put_in_place(new / _SPLIT_FILE, folder / _SPLIT_FILE)


def forget_parts(folder: Path, image_hashes: Iterable[str]) -> None:
    """Remove photos that are erased from the remembered parts."""
    with held(folder):
        gone = set(image_hashes)
        remember_parts(folder, {each: part for each, part in remembered_parts(folder).items() if each not in gone})


def _place(image_hash: str) -> float:
    """Return a number in [0, 1) that has nothing to do with the content."""
    return int.from_bytes(hashlib.sha256(f"part of {image_hash}".encode()).digest()[:6], "big") / 2**48


def _part_at(place: float) -> Part:
    for part, share in SHARES.items():
        if place < share:
            return part
        place -= share
    return "train"


def _give_each_label_each_part(
    parts: dict[int, Part], groups: NDArray[np.int64], targets: NDArray[np.bool_], places: Mapping[int, float]
) -> None:
    """Move new groups, those with a place, to the parts that a label with enough groups lacks."""
    for column in targets.T:
        of_label = np.unique(groups[column]).tolist()
        if len(of_label) < ENOUGH_GROUPS:
            continue
        for lacking in get_args(Part):
            found: dict[Part, list[int]] = {part: [each for each in of_label if parts[each] == part] for part in SHARES}
            new = [group for group in max(found.values(), key=len) if group in places]
            if not found[lacking] and new:
                parts[min(new, key=places.__getitem__)] = lacking
