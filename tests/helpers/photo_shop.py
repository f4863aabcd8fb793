"""A small shop whose photos are already tagged: their tags are given, so no network runs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.engine.nights import night
from jobs.night.tag_images import taggers_of
from recsys.images.tagging.files import content_hash
from recsys.images.tagging.tag_store import OUTPUTS
from recsys.pipeline.photo_tags import photo_store
from recsys.tables.parts import write_table
from tests.helpers.small_shop import Row, SmallShop

KINDS = {
    "pool": ["pool", "sun lounger", "palm"],
    "ski": ["ski slope", "snow", "chalet"],
    "city": ["street", "skyscraper", "bridge"],
    "food": ["restaurant", "plate", "wine"],
}
LABELS = [*(tag for tags in KINDS.values() for tag in tags), "strange", *(f"strange {number}" for number in range(30))]
"""The tagger's labels; others that photos show are added, which makes another version of the tagger."""
Photo = tuple[str, int, str]
"""Sale, position, file name."""
Shown = Mapping[str, float] | str | None
"""Tags with probabilities, or the reason why a photo was rejected; None if the file is missing."""
_IMAGES = pa.schema([("sale_id", pa.string()), ("image_uri", pa.string()), ("position", pa.int32())])


class PhotoShop(SmallShop):
    """A shop with photos in a folder; the content of each file is its name."""

    def raw_settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings, with the table of photos and four themes."""
        images = {"root": str(self.folder / "pictures"), "themes": {"themes": 4}, "tagging": {"engine": "process"}}
        images["taggers"] = [{"name": "efficientnet_lite0", "labels": str(self.folder / "labels.txt")}]
        settings = {"images": images, **super().raw_settings(**changes)}
        settings["source"]["raw"]["raw_sale_images"] = {"path": str(self.folder / "raw/sale_images.parquet")}
        return settings

    def write_photos(self, photos: Iterable[Photo], shown: Mapping[str, Shown]) -> "PhotoShop":
        """Write the raw table of photos, the photo files, and their tags in the store."""
        (self.folder / "pictures").mkdir(exist_ok=True)
        rows = [{"sale_id": sale, "image_uri": name, "position": position} for sale, position, name in photos]
        pq.write_table(pa.Table.from_pylist(rows, _IMAGES), self.folder / "raw/sale_images.parquet")
        self.write_sql("sale_images", "select * from {raw_sale_images}")
        for name, content in shown.items():
            if content is not None:
                (self.folder / "pictures" / name).write_text(name)
        tags = {tag for content in shown.values() if isinstance(content, Mapping) for tag in content}
        labels = [*LABELS, *sorted(tags.difference(LABELS))]
        (self.folder / "labels.txt").write_text("\n".join(labels))
        stored = [_outputs(name, content, labels) for name, content in shown.items() if content is not None]
        run = night(self.settings())
        (tagger,) = taggers_of(run)
        with photo_store(Path(run.settings.folder), tagger.files).new_outputs() as folder:
            write_table(pa.Table.from_pylist(stored, OUTPUTS), folder)
        return self


def _outputs(name: str, content: Mapping[str, float] | str, labels: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"image_hash": content_hash(name.encode())}
    if isinstance(content, str):
        return row | {"reason": content, "detail": f"{name} is {content}"}
    outputs = [labels.index(tag) for tag in content]
    return row | {"outputs": outputs, "probabilities": list(content.values()), "embedding": [1.0, 2.0]}


def random_photos(sales: Iterable[Row], seed: int = 0) -> tuple[list[Photo], dict[str, Shown]]:
    """Draw one to four photos per sale, mostly of one kind; 1 sale in 8 has none, some photos have two sales."""
    rng = np.random.default_rng(seed)
    pool = {f"{kind}-{number}.jpg": _random_tags(rng, kind) for kind in KINDS for number in range(12)}
    photos = []
    for number, row in enumerate(sorted(sales, key=lambda each: str(each["sale_id"]))):
        if number % 8 != 5:
            likely = np.array([0.7 if name.startswith(list(KINDS)[number % 4]) else 0.1 for name in pool])
            names = rng.choice(list(pool), rng.integers(1, 5), replace=False, p=likely / likely.sum())
            photos += [(row["sale_id"], position, str(name)) for position, name in enumerate(names)]
    return photos, pool


def _random_tags(rng: np.random.Generator, kind: str) -> dict[str, float]:
    """Draw probabilities of the tags of a kind, and of one tag of another kind."""
    other = str(rng.choice([tag for each in KINDS if each != kind for tag in KINDS[each]]))
    tags = {**dict(zip(KINDS[kind], rng.uniform(0.1, 0.3, 3), strict=True)), other: float(rng.uniform(0.01, 0.1))}
    return {tag: float(share) for tag, share in sorted(tags.items(), key=lambda each: -each[1])}
