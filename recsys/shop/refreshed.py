"""The catalogue and the horizon of a night with the sales of the moment, at the positions that the night gave them.

Users' histories and rankings hold the positions of the night: of sales in its catalogue and in its horizon, of photos
in their sales. So all of these stay, also those that the source has no more, and new ones follow them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.settings import digest
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.gallery import Gallery
from recsys.snapshot.format import MAX_IMAGES

Value = TypeVar("Value")


def refreshed_catalogue(night: Catalogue, now: Catalogue, as_of: int) -> Catalogue:
    """Return the sales of a night as they are now, followed by the new ones.

    A sale that is there no more stays as it was, and closes at `as_of` at the latest, so that it is not open.

    Args:
        night: The sales of the night.
        now: The sales of the moment, with the themes of the night.
        as_of: The instant of the night, microseconds UTC.
    """
    sale_ids = [*night.sale_ids, *(sale_id for sale_id in now.sale_ids if sale_id not in night.position)]
    rows = [now.position.get(sale_id, -1) for sale_id in sale_ids]
    is_there = np.array(rows) >= 0
    from_now = np.where(is_there, rows, 0)
    from_night = np.minimum(np.arange(len(sale_ids)), len(night) - 1)

    def merged(of_night: NDArray, of_now: NDArray) -> NDArray:
        return np.where(is_there, of_now[from_now], of_night[from_night])

    def merged_lists(of_night: Sequence[Value], of_now: Sequence[Value]) -> list[Value]:
        return [of_night[place] if row < 0 else of_now[row] for place, row in enumerate(rows)]

    opens_at, closes_at = merged(night.opens_at, now.opens_at), merged(night.closes_at, now.closes_at)
    closes_at = np.where(is_there, closes_at, np.minimum(closes_at, as_of))
    return Catalogue(
        sale_ids=sale_ids,
        opens_at=np.minimum(opens_at, closes_at - 1),
        closes_at=closes_at,
        prices=merged(night.prices, now.prices),
        texts=merged_lists(night.texts, now.texts),
        titles=merged_lists(night.titles, now.titles),
        attributes=merged_lists(night.attributes, now.attributes),
        gallery=_refreshed_gallery(night, now, rows),
    )


def refreshed_horizon(night: Horizon, catalogue: Catalogue) -> tuple[Catalogue, Horizon]:
    """Return the horizon of a night, followed by the other sales that are open in it now.

    Returns:
        The catalogue, in which a sale of the night's horizon that ended earlier ends with its beginning, as one that is
        there no more; and the horizon.
    """
    closes_at = catalogue.closes_at.copy()
    closes_at[night.sales] = np.maximum(closes_at[night.sales], night.as_of)
    catalogue = replace(catalogue, closes_at=closes_at)
    others = np.setdiff1d(catalogue.open_within(night.as_of, night.until), night.sales)
    sales = np.concatenate((night.sales, others)).astype(np.int32)
    return catalogue, catalogue.horizon_of(night.as_of, night.until, sales)


def content_digest(catalogue: Catalogue) -> str:
    """Return a digest of everything that a catalogue says of its sales and photos."""
    gallery = catalogue.gallery
    texts = [
        catalogue.sale_ids,
        catalogue.texts,
        catalogue.titles,
        [sorted(each.items()) for each in catalogue.attributes],
    ]
    arrays: list[np.ndarray] = [catalogue.opens_at, catalogue.closes_at, catalogue.prices]
    if gallery is not None:
        texts += [gallery.uris, gallery.theme_names]
        arrays += [gallery.first, gallery.photo_themes, gallery.sale_themes]
    found = hashlib.sha256(digest(texts).encode())
    for values in arrays:
        found.update(str(values.shape).encode() + np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def _refreshed_gallery(night: Catalogue, now: Catalogue, rows: Sequence[int]) -> Gallery | None:
    """Return the photos of refreshed sales.

    Args:
        night: The sales of the night.
        now: The sales of the moment.
        rows: The position in `now` of each sale, -1 for one that is there no more.
    """
    if night.gallery is None and now.gallery is None:
        return None
    names = (night.gallery or now.gallery).theme_names  # type: ignore[union-attr]
    before, after = (each.gallery or _no_photos(len(each), names) for each in (night, now))
    photos, themes = [], []
    for place, row in enumerate(rows):
        known = range(*before.first[place : place + 2]) if place < len(night) else range(0)
        present = range(*after.first[row : row + 2]) if row >= 0 else range(0)
        photos.append(_kept_in_place(before, known, after, present))
        themes.append(
            after.sale_themes[row] if present else before.sale_themes[place] if known else np.zeros(len(names))
        )
    uris, numbers = before.uris + after.uris, list(chain(*photos))
    return Gallery(
        first=np.cumsum([0, *map(len, photos)]),
        uris=[uris[number] for number in numbers],
        theme_names=names,
        photo_themes=np.concatenate((before.photo_themes, after.photo_themes))[np.array(numbers, np.int64)],
        sale_themes=np.array(themes, np.float32).reshape(len(rows), len(names)),
    )


def _kept_in_place(before: Gallery, known: range, after: Gallery, present: range) -> list[int]:
    """Return the photos of a sale, such that a photo that was at a position is still there.

    The cover is the present one. It also takes the position of each photo that is there no more, since users' records
    may name it. Photos that were not there before follow. A sale without photos keeps those that it had.

    Returns:
        Numbers of the photos of `before`, followed by those of `after`.
    """
    if not present:
        return list(known)
    row_of = {after.uris[row]: row for row in reversed(present)}
    kept = [present[0]]
    for place, row in enumerate(known[1:], 1):
        uri = before.uris[row]
        is_unmoved = place < len(present) and after.uris[present[place]] == uri
        kept.append(present[place] if is_unmoved else row_of.get(uri, present[0]))
    kept += [row for row in present if row not in kept]
    return [len(before.uris) + row for row in kept[: max(len(known), MAX_IMAGES)]]


def _no_photos(n_sales: int, theme_names: list[str]) -> Gallery:
    n_themes = len(theme_names)
    nothing = np.zeros((0, n_themes), np.float32)
    return Gallery(np.zeros(n_sales + 1, np.int64), [], theme_names, nothing, np.zeros((n_sales, n_themes), np.float32))
