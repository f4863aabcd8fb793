"""Which of a sale's photos suits a user: the one most like the themes that he looks at."""

import numpy as np
from numpy.typing import NDArray

from recsys.shop.catalogue import Horizon
from recsys.shop.gallery import Gallery

SAME = 1e-5
"""Photos whose likeness to a user differs by a smaller share are equally like him: the same product is rounded
differently from page to page."""
CHOICES = 8
"""A user's photo of a sale is chosen among so many, the first ones."""


class Covers:
    """Chooses for each user the photo of a sale that is most like the themes that he looks at."""

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
        self._photos = chosen.reshape(-1, len(gallery.theme_names)).T  # (n_themes, n_horizon * choices)

    def choose(self, user_themes: NDArray[np.float32], sales: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Choose a photo of some sales for each user.

        Args:
            user_themes: Shape (n_users, n_themes), the user's profile.
            sales: Shape (n_users, k), columns of the horizon.

        Returns:
            Shape (n_users, k), positions of photos in their sales, the first where several are equally like the user;
            0, the cover, for a user without a profile and a sale without photos.
        """
        if len(user_themes) == 1:  # a block of users looks at all photos, a single one at those of his sales
            photos = (sales[0][:, None] * self.choices + np.arange(self.choices)).ravel()
            likeness = (user_themes @ self._photos[:, photos]).reshape(1, -1, self.choices)
        else:
            likeness = (user_themes @ self._photos).reshape(len(user_themes), -1, self.choices)
            likeness = np.take_along_axis(likeness, sales[:, :, None], axis=1)
        return (likeness >= (1 - SAME) * likeness.max(axis=2, keepdims=True)).argmax(axis=2).astype(np.uint8)
