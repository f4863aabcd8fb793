"""Tags of photos that are given as bytes or by address: one run of the network for all photos of a request."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

import numpy as np

from recsys.errors import ConfigurationError, ModelError
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.settings import ImageSettings
from recsys.images.tagging.decoding import PhotoError, decode
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.inference import Tagger, load_tagger
from recsys.images.tagging.tagging import best_device
from recsys.wording import visible

_Photo = TypeVar("_Photo")


@dataclass(frozen=True)
class Tag:
    """A label and its calibrated probability."""

    label: str | None  # None: none of these
    probability: float


@dataclass(frozen=True)
class TaggedPhoto:
    """The tags of a photo, or why it has none."""

    photo: str  # its name or address, as the caller gave it
    tags: list[Tag]  # the most probable first
    said: list[str]  # labels that the tagger says: at most one of kind single
    margin: float | None  # see Head.margins
    sure: bool
    reason: str | None = None  # one of decoding.REASONS
    detail: str | None = None


class PhotoTagger:
    """Tags photos; safe to call from several threads, of which one runs the network at a time.

    Args:
        tagger: The tagger of the taxonomy.
        images: The root of photos given by address, and the limits of a photo.
        base: The base network of the tagger, on a device.
    """

    def __init__(self, tagger: TrainedTagger, images: ImageSettings, base: Tagger):
        self.tagger = tagger
        self._limit = images.tagging.max_megapixels
        self._files = PhotoFiles.of(images)
        self._base = base
        self._pool = ThreadPoolExecutor(thread_name_prefix="decode")
        self._network = Lock()
        self.classes: list[str | None] = [*tagger.head.labels, *([None] if tagger.head.has_other else [])]

    @classmethod
    def load(cls, tagger: TrainedTagger, images: ImageSettings) -> "PhotoTagger":
        """Load the base network of a tagger.

        Raises:
            ModelError: If its weights cannot be found, or give embeddings of another width than the head takes.
        """
        tagger.network_files()
        found = cls(tagger, images, load_tagger(tagger.base, best_device()))
        side = found._base.preprocessing.crop
        width = found._base.tag(np.zeros((1, side, side, 3), np.uint8), 1).embeddings.shape[1]
        expected = len(tagger.head.weights[0])
        if width != expected:
            raise ModelError(
                f"base network {tagger.base.name!r} gives embeddings of {width} numbers, the head of {tagger.version} "
                f"takes {expected}: train it again with 'recsys tagger train {tagger.taxonomy.name}'"
            )
        return found

    def tag_bytes(self, photos: Sequence[tuple[str, bytes]], n: int) -> list[TaggedPhoto]:
        """Return the n most probable tags of photos given as pairs of name and content."""
        return self._tag([name for name, _ in photos], [data for _, data in photos], bytes, n)

    def tag_uris(self, uris: Sequence[str], n: int) -> list[TaggedPhoto]:
        """Return the n most probable tags of photos below images.root."""
        return self._tag(uris, uris, lambda uri: self._files.read(self._files.absolute(uri)), n)

    def _tag(
        self, names: Sequence[str], photos: Sequence[_Photo], read: Callable[[_Photo], bytes], n: int
    ) -> list[TaggedPhoto]:
        shape = self._base.preprocessing

        def pixels(photo: _Photo) -> np.ndarray | PhotoError:
            try:
                return decode(read(photo), shape.resize, shape.crop, self._limit)
            except PhotoError as error:
                return error

        decoded = list(self._pool.map(pixels, photos))
        stacked = [each for each in decoded if not isinstance(each, PhotoError)]
        rows = iter(self._rows(np.stack(stacked), n) if stacked else [])
        return [
            TaggedPhoto(name, [], [], None, False, each.reason, each.detail)
            if isinstance(each, PhotoError)
            else TaggedPhoto(name, *next(rows))
            for name, each in zip(names, decoded, strict=True)
        ]

    def _rows(self, photos: np.ndarray, n: int) -> list[tuple[list[Tag], list[str], float, bool]]:
        with self._network:
            embeddings = self._base.tag(photos, 1).embeddings
        head = self.tagger.head
        probabilities = head.probabilities(embeddings)
        margins = head.margins(probabilities)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :n]
        return [
            (
                [Tag(self.classes[each], round(float(row[each]), 6)) for each in order],
                said,
                round(float(margin), 6),
                bool(margin >= self.tagger.sure),
            )
            for row, order, said, margin in zip(probabilities, best, head.said(probabilities), margins, strict=True)
        ]


def number_of_tags(text: str, n_classes: int, version: str) -> int:
    """Return how many tags a caller asks for: a whole number, or a share of the classes such as 0.1.

    Raises:
        ConfigurationError: If it is neither, or more than there are.
    """
    try:
        n = int(text)
    except ValueError:
        try:
            share = float(text)
        except ValueError:
            share = math.nan
        n = math.ceil(share * n_classes) if 0 < share <= 1 else 0
    if n < 1:
        raise ConfigurationError(
            f"n == {visible(text)[:50]!r}, must be a number in 1..{n_classes}, or a share of the classes in (0, 1] "
            "such as 0.1"
        )
    if n > n_classes:
        raise ConfigurationError(
            f"n == {n}, must be at most {n_classes}, the number of classes of tagger {version}: ask for fewer"
        )
    return n
