"""The themes of the last night's photos: their tags, their shares, and photos that show them."""

from typing import NamedTuple

import numpy as np

from recsys.images.themes.themes import THEME_MODEL, ThemeModel
from recsys.snapshot.format import Snapshot
from recsys.storage.outputs import Outputs
from recsys.tables.parts import read_batches

_TAGS_SHOWN = 8
_PHOTOS_SHOWN = 6


class Photo(NamedTuple):
    """A photo of a sale of the snapshot."""

    sale_id: str
    title: str
    position: int


class Theme(NamedTuple):
    """What many photos have in common."""

    id: int
    """The same in later versions of the themes, whatever its name."""
    name: str
    tags: tuple[tuple[str, float], ...]
    """The strongest tags, with their shares of the theme."""
    share_of_photos: float
    """Share of the photos that the themes were found in whose strongest theme it is, in [0, 1]."""
    sales: int
    """Number of sales of the snapshot whose strongest theme it is."""
    photos: tuple[Photo, ...]
    """Photos of the snapshot's sales that show it most, each of another sale."""


def read_themes(outputs: Outputs, snapshot: Snapshot) -> tuple[str, list[Theme]]:
    """Return the version of the themes of a night, and the themes, those of most sales first; none without photos."""
    path = outputs / THEME_MODEL
    model = ThemeModel.from_json(path.read_text("utf-8")) if path.exists() else None
    if model is None or not model.ids:
        return "", []
    photos = _best_photos(outputs, snapshot, len(model.ids))
    of_sales = [sale.theme for sale in snapshot.sales]
    themes = [
        Theme(
            number,
            name,
            tuple(model.strongest_tags(at, _TAGS_SHOWN)),
            model.shares[at],
            of_sales.count(name),
            photos[at],
        )
        for at, (number, name) in enumerate(zip(model.ids, model.names, strict=True))
    ]
    return model.version, sorted(themes, key=lambda theme: -theme.sales)


def _best_photos(outputs: Outputs, snapshot: Snapshot, n_themes: int) -> list[tuple[Photo, ...]]:
    """Return for each theme the photos of the snapshot's sales in which it weighs most."""
    sales = {sale.sale_id: sale for sale in snapshot.sales}
    found: list[list[tuple[float, Photo]]] = [[] for _ in range(n_themes)]
    for batch in read_batches(outputs / "image_themes"):
        columns = (batch.column(name).to_pylist() for name in ("sale_id", "position", "weights"))
        for sale_id, position, weights in zip(*columns, strict=True):
            sale = sales.get(sale_id)
            if sale is None or weights is None or position >= len(sale.images) or not any(weights):
                continue
            theme = int(np.argmax(weights))
            found[theme].append((weights[theme], Photo(sale_id, sale.title or sale_id, position)))
    return [_of_several_sales(photos) for photos in found]


def _of_several_sales(photos: list[tuple[float, Photo]]) -> tuple[Photo, ...]:
    best: dict[str, Photo] = {}
    for _, photo in sorted(photos, key=lambda each: (-each[0], each[1])):
        best.setdefault(photo.sale_id, photo)
    return tuple(list(best.values())[:_PHOTOS_SHOWN])
