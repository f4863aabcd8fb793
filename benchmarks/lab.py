"""The tagger laboratory, each part beside its peer, on photos of scenes and of clothes whose labels are known.

    python -m benchmarks.lab [active | heads | cleaning | fine_tuning | all] [--photos FOLDER] [--sets NAME ...]

FOLDER holds a folder for each set, and that one a folder of photos for each label. Embeddings are made once by the
product's own network, and kept in build/lab. What is measured is said in `benchmarks.lab_<part>`.
"""

import argparse
import importlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks import machine
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.splits import groups_of, parts_of
from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging.files import content_hash
from recsys.images.tagging.tagging import Worker, best_device, tag_photos

PARTS = ("active", "heads", "cleaning", "fine_tuning")
PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "photos"
CACHE = Path("build/lab")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", default=["sun8", "clothing"], help="folders of labelled photos")
    arguments = parser.parse_args()
    print(machine.describe())
    datasets = {name: found for name in arguments.sets if (found := dataset(arguments.photos / name)) is not None}
    for part in PARTS if arguments.part == "all" else (arguments.part,):
        importlib.import_module(f"benchmarks.lab_{part}").measure(datasets)


def dataset(folder: Path) -> Dataset | None:
    """Return the photos of a folder, labelled by the names of its folders; None, said on the terminal, without it."""
    paths = sorted(folder.rglob("*.jpg"))
    if not paths:
        print(f"{folder} has no photo: what is measured on it is left out")
        return None
    hashes, kept, embeddings = _embedded(folder.name, paths)
    names = sorted({path.parent.name for path in paths})
    targets = np.array([paths[row].parent.name for row in kept])[:, None] == np.array(names)
    groups = groups_of(hashes, embeddings, [()] * len(hashes))
    uris = np.array([str(paths[row]) for row in kept])
    return Dataset(names, "single", hashes, uris, embeddings, targets, groups, parts_of(hashes, groups))


def _embedded(name: str, paths: list[Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return content hashes in order, the row of the photo of each, and embeddings; made once."""
    hashes, rows = np.unique([content_hash(path.read_bytes()) for path in paths], return_index=True)
    cache = CACHE / f"{name}.npz"
    if cache.exists() and np.array_equal((kept := np.load(cache))["hashes"], hashes):
        return hashes, rows, kept["embeddings"]
    print(f"{name}: embeddings of {len(rows):,} photos", flush=True)
    table = pa.table({"image_hash": pa.nulls(len(rows), pa.string()), "image_uri": [str(paths[row]) for row in rows]})
    worker = Worker(best_device(), 2)
    batches = tag_photos(table.to_batches(256), ImageSettings(), TaggerSettings(), worker, below_root=False)
    embeddings = np.array([row["embedding"] for batch in batches for row in batch.to_pylist()], np.float32)
    CACHE.mkdir(parents=True, exist_ok=True)
    np.savez(cache, hashes=hashes, embeddings=embeddings)
    return hashes, rows, embeddings


if __name__ == "__main__":
    main()
