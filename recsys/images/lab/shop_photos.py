"""A shop's photos and labels for the laboratory: from the store of photos, with no photo read that has been seen."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.config.settings import Settings
from recsys.errors import EmptyInputError
from recsys.images.lab.dataset import Dataset, Part
from recsys.images.lab.label_store import LABELS_FOLDER, LabelStore
from recsys.images.lab.splits import groups_of, parts_of, remember_parts, remembered_parts
from recsys.images.lab.taxonomy import Taxonomy
from recsys.images.settings import ImageSettings
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.tag_store import HASHES, OUTPUTS, TagStore
from recsys.images.tagging.taggers import tagger_files
from recsys.storage.local import held
from recsys.storage.locks import locked
from recsys.storage.outputs import newest_runs
from recsys.storage.places import Place
from recsys.tables.parts import read_arrow, write_batches

PHOTOS_FOLDER = "photos"
PART_PHOTOS = 256
"""Photos per part that `embed` saves: a run that is killed loses at most one part."""

EMBEDDED = pa.schema([HASHES.field(name) for name in ("image_uri", "image_hash", "reason", "detail")])
"""What `embed` returns."""
Progress = Callable[[str, int, int], None]
"""Is told what is done, such as "read", how many photos of it are, and how many there are in all."""


@dataclass(frozen=True)
class Photos:
    """Photos with embeddings, sorted by content hash; all arrays have a row per photo."""

    image_hashes: NDArray[np.str_]  # (n_photos,)
    image_uris: NDArray[np.str_]  # (n_photos,), absolute
    embeddings: NDArray[np.float32]  # (n_photos, n_features)

    def __len__(self) -> int:
        return len(self.image_hashes)


@dataclass(frozen=True)
class ShopPhotos:
    """The photos of a shop, seen by the base network of a taxonomy, and the labels of that taxonomy."""

    folder: Place
    """The shop's folder."""
    own_disk: Path
    """Folder of this machine's disk, with the labels."""
    images: ImageSettings
    taxonomy: Taxonomy
    version: str
    """The key of the embeddings."""

    @classmethod
    def of(cls, settings: Settings, taxonomy: Taxonomy) -> "ShopPhotos":
        """Return the photos in the folder of a shop.

        Raises:
            ConfigurationError: If the base network is unknown, or a setting that it needs is missing.
            ModelError: If its weights cannot be found.
        """
        version = tagger_files(taxonomy.base).network_version
        return cls(settings.place, settings.own_disk, settings.images, taxonomy, version)

    @property
    def labels(self) -> LabelStore:
        """The labels of the taxonomy."""
        return LabelStore(self.own_disk / LABELS_FOLDER, self.taxonomy.name)

    @property
    def store(self) -> TagStore:
        """The store of photos that all nights share."""
        return TagStore(self.folder / PHOTOS_FOLDER, self.version)

    def files(self, root: str | None = None) -> PhotoFiles:
        """Return the photos below a folder or URL; images.root by default."""
        return PhotoFiles.of(self._images(root))

    def read(self, image_uri: str) -> bytes:
        """Return the content of a photo that the store of photos knows, wherever it lies.

        Raises:
            PhotoError: If it cannot be read now.
        """
        return PhotoFiles.of(self.images, below_root=False).read(image_uri)

    def photos(self) -> Photos:
        """Return all photos that have an embedding, labelled or not, one per content."""
        rows = self.store.hashes()
        rows = rows.filter(rows["image_hash"].is_valid()).sort_by("image_uri")
        first = dict(zip(rows["image_hash"].to_pylist()[::-1], rows["image_uri"].to_pylist()[::-1], strict=True))
        hashes, embeddings = self._embeddings(first)
        return Photos(hashes, np.array([first[each] for each in hashes.tolist()], np.str_), embeddings)

    def dataset(self) -> Dataset:
        """Return the labelled photos that have an embedding; parts of photos that are new are remembered from now on.

        Left out are photos with labels that the taxonomy does not have (any more) only, and, of kind single, photos
        without a label where the taxonomy does not say `other: reject`. Of kind multi a photo has the parents of its
        labels too.

        Raises:
            EmptyInputError: If no such photo is left.
        """
        words = {row["image_hash"]: row for row in self.labels.current().to_pylist()}
        hashes, embeddings = self._embeddings(words)
        targets = targets_of([words[each]["labels"] for each in hashes.tolist()], self.taxonomy)
        keep = [number for number, target in enumerate(targets) if target is not None]
        if not keep:
            name = self.taxonomy.name
            raise EmptyInputError(
                f"taxonomy '{name}' has 0 labelled photos that can be learnt from, needs at least 1: give it some with "
                f"'recsys tagger label import {name} FOLDER', see 'recsys tagger label check {name}'"
            )
        hashes, embeddings = hashes[keep], embeddings[keep]
        chosen = np.array([targets[number] for number in keep], np.bool_)
        groups = groups_of(hashes, embeddings, self.sales_of(hashes.tolist()))
        uris = np.array([words[each]["image_uri"] for each in hashes.tolist()], np.str_)
        parts = self._parts(hashes, groups, chosen)
        return Dataset(self.taxonomy.ids, self.taxonomy.kind, hashes, uris, embeddings, chosen, groups, parts)

    def sales_of(self, image_hashes: Sequence[str]) -> list[set[str]]:
        """Return the sales that showed each photo in the latest night; none without a night."""
        sales: dict[str, set[str]] = {each: set() for each in image_hashes}
        tables = (outputs / "sale_images" for outputs in newest_runs(self.folder))
        photos = next((table for table in tables if table.exists()), None)
        if photos is not None:
            files, rows = PhotoFiles.of(self.images), self.store.hashes()
            hash_of = dict(zip(rows["image_uri"].to_pylist(), rows["image_hash"].to_pylist(), strict=True))
            shown = read_arrow(photos, columns=["sale_id", "image_uri"]).to_pydict()
            for sale, uri in zip(shown["sale_id"], shown["image_uri"], strict=True):
                if (image_hash := hash_of.get(files.absolute(uri))) in sales:
                    sales[image_hash].add(sale)
        return list(sales.values())

    def embed(self, uris: Iterable[str], root: str | None = None, on_progress: Progress = lambda *_: None) -> pa.Table:
        """Hash photos that are new or have changed, and run the base network on those without an embedding.

        What is done is kept if the process is killed, except the last PART_PHOTOS photos at most.

        Args:
            uris: Paths or URLs, relative to `root`.
            root: The folder or URL below which the photos must lie; images.root by default.
            on_progress: Is called after every few photos.

        Returns:
            A row per different URI: `image_uri` (absolute), `image_hash`, and `reason` and `detail` (else null) of a
            photo that could not be read, or has no embedding.

        Raises:
            BusyError: If a night works on the photos of the shop at this moment.
        """
        images, files = self._images(root), self.files(root)
        absolute = sorted({files.absolute(uri) for uri in uris})
        with locked(self.store.folder, wait=False):
            hashes = self._hash(absolute, images, on_progress)
            read = hashes.filter(hashes["image_hash"].is_valid())
            failed = self._run_network(read, images, on_progress)
        rows = [row | failed.get(row["image_hash"], {}) for row in hashes.to_pylist()]
        return pa.Table.from_pylist(rows, EMBEDDED)

    def _images(self, root: str | None) -> ImageSettings:
        return self.images.model_copy(update={"root": self.images.root if root is None else root})

    def _hash(self, uris: list[str], images: ImageSettings, on_progress: Progress) -> pa.Table:
        from recsys.images.tagging.tagging import hash_photos

        known = {row["image_uri"]: row for row in self.store.hashes().to_pylist()}
        for start in range(0, len(uris), 8 * PART_PHOTOS):
            part = uris[start : start + 8 * PART_PHOTOS]
            stamps = [known[uri]["stamp"] if uri in known else None for uri in part]
            rows = pa.table({"image_uri": part, "known_stamp": pa.array(stamps, pa.string())})
            with self.store.new_hashes() as folder:
                write_batches(hash_photos(rows.to_batches(), images), HASHES, folder)
            on_progress("read", start + len(part), len(uris))
        hashes = self.store.hashes()
        return hashes.filter(pc.is_in(hashes["image_uri"], pa.array(uris, pa.string())))

    def _run_network(self, read: pa.Table, images: ImageSettings, on_progress: Progress) -> dict[str, dict[str, str]]:
        """Embed the contents that the store does not have; return reason and detail of those that cannot be."""
        finished = self.store.finished()
        uri_of = dict(zip(read["image_hash"].to_pylist(), read["image_uri"].to_pylist(), strict=True))
        for image_hash in finished.to_pylist():
            uri_of.pop(image_hash, None)
        todo = sorted(uri_of)
        for start in range(0, len(todo), PART_PHOTOS):
            from recsys.images.tagging.tagging import Worker, best_device, tag_photos

            part = todo[start : start + PART_PHOTOS]
            rows = pa.table({"image_hash": part, "image_uri": [uri_of[each] for each in part]})
            worker = Worker(best_device(), os.cpu_count() or 1)
            with self.store.new_outputs() as folder:
                write_batches(tag_photos(rows.to_batches(), images, self.taxonomy.base, worker), OUTPUTS, folder)
            on_progress("seen by the network", start + len(part), len(todo))
        tagged = self.store.outputs(["image_hash", "reason", "detail"])
        is_wanted = pc.is_in(tagged["image_hash"], read["image_hash"].combine_chunks())
        wanted = pc.and_(tagged["reason"].is_valid(), is_wanted)
        return {row.pop("image_hash"): row for row in tagged.filter(wanted).to_pylist()}

    def _embeddings(self, image_hashes: Iterable[str]) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        """Return the hashes, sorted, that have an embedding, and the embeddings, shape (n_photos, n_features)."""
        rows = self.store.embeddings(pa.array(list(image_hashes), pa.string())).sort_by("image_hash")
        values = rows["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        hashes = np.array(rows["image_hash"].to_pylist(), np.str_)
        return hashes, values.astype(np.float32, copy=False).reshape(len(hashes), -1 if len(hashes) else 0)

    def _parts(
        self, hashes: NDArray[np.str_], groups: NDArray[np.int64], targets: NDArray[np.bool_]
    ) -> NDArray[np.str_]:
        folder = self.labels.folder / self.taxonomy.name
        with held(folder):
            before = remembered_parts(folder)
            parts = parts_of(hashes, groups, targets, before)
            after = before | cast("dict[str, Part]", dict(zip(hashes.tolist(), parts.tolist(), strict=True)))
            if after != before:
                remember_parts(folder, after)
        return parts


def targets_of(labels: Iterable[Sequence[str]], taxonomy: Taxonomy) -> list[list[bool] | None]:
    """Return a row of shape (n_labels,) per photo, or None where its labels cannot be learnt from; see `dataset`."""
    ids, parents = taxonomy.ids, {label.id: label.parent for label in taxonomy.labels}
    return [_target(of_photo, ids, parents, taxonomy) for of_photo in labels]


def _target(
    labels: Sequence[str], ids: list[str], parents: dict[str, str | None], taxonomy: Taxonomy
) -> list[bool] | None:
    known = {each for each in labels if each in parents}
    if taxonomy.kind == "single" and (len(known) > 1 or (not known and taxonomy.other is None)):
        return None
    if labels and not known:
        return None
    if taxonomy.kind == "multi":
        for each in tuple(known):
            above = parents[each]
            while above is not None:
                known.add(above)
                above = parents[above]
    return [each in known for each in ids]
