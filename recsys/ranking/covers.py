"""Choice of the photo of a sale to show to a user: the most similar one to the user's profile of themes."""

import numpy as np
from numpy.typing import NDArray

from recsys.compiled import compiled
from recsys.shop.catalogue import Horizon
from recsys.shop.gallery import Gallery

SAME = 1e-5
"""Relative tolerance of ties: photos whose similarities to a user differ by less are tied, since the same product may
be rounded differently from one block of users to the next."""
CHOICES = 8
"""Number of photos of a sale among which one is chosen: the first ones by position."""


class Covers:
    """Chooses for each user the photo of a sale that is most similar to the user's profile of themes."""

    def __init__(self, gallery: Gallery, horizon: Horizon) -> None:
        starts = gallery.first[horizon.sales]
        counts = np.minimum(gallery.first[horizon.sales + 1] - starts, CHOICES)
        self.choices = max(1, int(counts.max(initial=1)))
        photos = starts[:, None] + np.arange(self.choices)
        exists = np.arange(self.choices) < counts[:, None]
        lengths = np.linalg.norm(gallery.photo_themes, axis=1, keepdims=True)
        unit = gallery.photo_themes / np.where(lengths > 0, lengths, 1)
        chosen = np.zeros((*photos.shape, len(gallery.theme_names)), np.float32)
        chosen[exists] = unit[photos[exists]]
        self._photos = np.ascontiguousarray(chosen.swapaxes(1, 2))  # (n_horizon, n_themes, choices)

    def choose(self, user_themes: NDArray[np.float32], sales: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the position of the photo of some sales to show to each user.

        Args:
            user_themes: Shape (n_users, n_themes), the users' profiles.
            sales: Shape (n_users, k), columns of the horizon.

        Returns:
            Shape (n_users, k), positions of photos in their sales, ties by position; 0, the cover, for a user without a
            profile and a sale without photos.
        """
        chosen = np.empty(sales.shape, np.uint8)
        _write_choices(user_themes, sales, self._photos, chosen)
        return chosen


@compiled
def _write_choices(
    user_themes: NDArray[np.float32],
    sales: NDArray[np.int64],
    photos: NDArray[np.float32],
    chosen: NDArray[np.uint8],
) -> None:
    n_users, k = sales.shape
    n_themes, choices = photos.shape[1:]
    similarity = np.empty(choices, np.float32)
    for user in range(n_users):
        for place in range(k):
            similarity[:] = 0
            for theme in range(n_themes):
                weight, photo = user_themes[user, theme], photos[sales[user, place], theme]
                for choice in range(choices):
                    similarity[choice] += weight * photo[choice]
            enough = np.float32(1 - SAME) * similarity.max()
            choice = 0
            while similarity[choice] < enough:
                choice += 1
            chosen[user, place] = choice
