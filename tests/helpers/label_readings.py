"""What files of labels are read by in tests, and what was read."""

from pathlib import Path

from recsys.images.lab.label_words import Reading, Rejected, Speaker
from tests.helpers.labelled_photos import NOON, taxonomy

SPEAKER = Speaker("ann", "person", NOON)
MULTI = taxonomy(kind="multi")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def labels_of(reading: Reading) -> dict[str, tuple[str, ...]]:
    return {each.image_uri.rsplit("/", 1)[-1]: each.labels for each in reading.words}


def reasons(rejected: list[Rejected]) -> list[tuple[str, str]]:
    return [(each.where, each.reason) for each in rejected]
