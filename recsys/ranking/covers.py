"""Choice of the photo of a sale to show to a user: the most similar one to the user's profile of themes."""

import numpy as np
from numpy.typing import NDArray

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
        self._n_sales = len(horizon)
        starts = gallery.first[horizon.sales]
        counts = np.minimum(gallery.first[horizon.sales + 1] - starts, CHOICES)
        self.choices = max(1, int(counts.max(initial=1)))
        photos = starts[:, None] + np.arange(self.choices)
        exists = np.arange(self.choices) < counts[:, None]
        lengths = np.linalg.norm(gallery.photo_themes, axis=1, keepdims=True)
        unit = gallery.photo_themes / np.where(lengths > 0, lengths, 1)
        chosen = np.zeros((*photos.shape, len(gallery.theme_names)), np.float32)
        chosen[exists] = unit[photos[exists]]
        self._photos = chosen.reshape(photos.size, len(gallery.theme_names)).T  # (n_themes, n_horizon * choices)

    def choose(self, user_themes: NDArray[np.float32], sales: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the position of the photo of some sales to show to each user.

        Args:
            user_themes: Shape (n_users, n_themes), the users' profiles.
            sales: Shape (n_users, k), columns of the horizon.

        Returns:
            Shape (n_users, k), positions of photos in their sales, ties by position; 0, the cover, for a user without a
            profile and a sale without photos.
        """
        if len(user_themes) == 1:  # a single user is compared with the photos of the given sales only
            photos = (sales[0][:, None] * self.choices + np.arange(self.choices)).ravel()
            similarity = (user_themes @ self._photos[:, photos]).reshape(1, sales.shape[1], self.choices)
        else:
            similarity = (user_themes @ self._photos).reshape(len(user_themes), self._n_sales, self.choices)
            similarity = np.take_along_axis(similarity, sales[:, :, None], axis=1)
        return (similarity >= (1 - SAME) * similarity.max(axis=2, keepdims=True)).argmax(axis=2).astype(np.uint8)
