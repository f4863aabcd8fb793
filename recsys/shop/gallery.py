"""The photos of all sales as arrays, with the weights of their themes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Gallery:
    """Photos in order of sale and position; those of sale s are rows first[s] <= row < first[s + 1]."""

    first: NDArray[np.int64]  # (n_sales + 1,)
    uris: list[str]
    theme_names: list[str]
    photo_themes: NDArray[np.float32]  # (n_photos, n_themes), balanced; 0 for a photo that could not be tagged
    sale_themes: NDArray[np.float32]  # (n_sales, n_themes)

    @classmethod
    def from_tables(
        cls, photos: pa.Table, sale_themes: pa.Table, theme_names: list[str], position: Mapping[str, int]
    ) -> "Gallery":
        """Return the gallery of the rows of tables `image_themes` and `sale_themes`.

        Args:
            photos: Table `image_themes`.
            sale_themes: Table `sale_themes`.
            theme_names: The themes in the order of the weights in `photos`.
            position: Index of each sale id in the catalogue.
        """
        photos = photos.sort_by([("sale_id", "ascending"), ("position", "ascending")])
        n_sales, n_themes = len(position), len(theme_names)
        owners = [position[sale_id] for sale_id in photos["sale_id"].to_pylist()]
        column = {name: number for number, name in enumerate(theme_names)}
        of_sales = np.zeros((n_sales, n_themes), np.float32)
        rows = [position[sale_id] for sale_id in sale_themes["sale_id"].to_pylist()]
        of_sales[rows, [column[name] for name in sale_themes["theme"].to_pylist()]] = sale_themes["weight"].to_numpy()
        none = [0.0] * n_themes
        weights = [row or none for row in photos["weights"].to_pylist()]
        return cls(
            first=np.searchsorted(owners, np.arange(n_sales + 1)),
            uris=photos["image_uri"].to_pylist(),
            theme_names=theme_names,
            photo_themes=np.array(weights, np.float32).reshape(len(weights), n_themes),
            sale_themes=of_sales,
        )

    def main_theme(self, sale: int) -> str | None:
        """Return the theme with the largest weight in a sale's photos; None if they have no theme."""
        themes = self.sale_themes[sale]
        return self.theme_names[int(themes.argmax())] if themes.any() else None

    def photos(self, sale: int) -> tuple[str, ...]:
        """Return the URIs of a sale's photos, its cover first."""
        return tuple(self.uris[self.first[sale] : self.first[sale + 1]])
