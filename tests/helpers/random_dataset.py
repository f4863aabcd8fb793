"""Labelled photos as random embeddings around a centre for each label."""

import numpy as np

from recsys.images.lab.dataset import Dataset


def labelled_photos(
    counts: tuple[int, ...] = (40, 30, 50), spread: float = 0.4, others: int = 0, n_features: int = 16, seed: int = 0
) -> Dataset:
    """Photos of kind single, `counts` of each label, `others` that show none; parts by turns of ten, groups of one."""
    random = np.random.default_rng(seed)
    centres = np.abs(random.normal(size=(len(counts) + 1, n_features)))
    classes = random.permutation(np.repeat(np.arange(len(counts) + 1), [*counts, others]))
    n = len(classes)
    embeddings = np.abs(centres[classes] + spread * random.normal(size=(n, n_features))).astype(np.float32)
    targets = classes[:, None] == np.arange(len(counts))
    parts = np.array(["test", "validation", "train", "train", "train", "test", "train", "train", "train", "train"])
    names = np.array([f"{row:04d}" for row in range(n)])
    return Dataset(
        [f"label {n}" for n in range(len(counts))],
        "single",
        names,
        np.char.add("/photos/", names),
        embeddings,
        targets,
        np.arange(n),
        parts[np.arange(n) % 10],
    )
