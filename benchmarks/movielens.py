"""Reproduction of a published table by our metrics: leave-one-out on MovieLens-1M, with TopPopular and EASE.

    python -m benchmarks.movielens FOLDER        # with ml-1m.train.rating, .test.rating and .test.negative

The files are those of He et al. 2017, "Neural Collaborative Filtering": each user's latest rating is the test, ranked
among 99 movies that the user did not rate. Published by Ferrari Dacrema et al., "A Troubling Analysis of
Reproducibility and Progress in Recommender Systems Research", TOIS 2021, additional material, tables 55 to 59.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from benchmarks.modern_baselines import ease_weights
from recsys.console import TextTable, wide_console
from recsys.metrics import ranking_metrics, ranks

PUBLISHED = {"TopPopular": (0.4533, 0.2542), "EASE": (0.7192, 0.4494)}
EASE_L2 = 1320.0


class LeaveOneOut(NamedTuple):
    """The training ratings of each user, and the candidates that are ranked for the user."""

    train: csr_matrix  # (n_users, n_movies), 1 where the user rated the movie
    candidates: NDArray[np.int64]  # (n_users, 100), the movie left out first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="ml-1m", help="prefix of the files' names")
    arguments = parser.parse_args()
    data = read(arguments.folder, arguments.name)
    table = TextTable("model", "HR@10", "published", "NDCG@10", "published")
    for name, fit in MODELS.items():
        hit_rate, ndcg = measure(data, fit(data.train))
        published = PUBLISHED[name]
        table.add_row(name, f"{hit_rate:.4f}", f"{published[0]:.4f}", f"{ndcg:.4f}", f"{published[1]:.4f}")
    wide_console().print(table)


def read(folder: Path, name: str) -> LeaveOneOut:
    """Return the content of the three files of the protocol.

    A line of `.train.rating` and `.test.rating` is user, movie, rating, seconds; one of `.test.negative` is
    `(user,movie)` and the 99 movies that the user did not rate, in the order of `.test.rating`. Columns are separated
    by tabs.
    """
    users, movies = np.loadtxt(folder / f"{name}.train.rating", np.int64, usecols=(0, 1), unpack=True, ndmin=2)
    tests = np.loadtxt(folder / f"{name}.test.rating", np.int64, usecols=(0, 1), ndmin=2)
    lines = (folder / f"{name}.test.negative").read_text().splitlines()
    others = np.array([line.split("\t")[1:] for line in lines], np.int64)
    by_user = np.argsort(tests[:, 0])  # row u of the candidates is that of user u
    candidates = np.column_stack((tests[:, 1], others))[by_user]
    shape = (len(tests), 1 + int(max(movies.max(), candidates.max())))
    return LeaveOneOut(csr_matrix((np.ones(len(users), np.float32), (users, movies)), shape), candidates)


def measure(data: LeaveOneOut, scores: NDArray[np.float32]) -> tuple[float, float]:
    """Return HR@10 and NDCG@10 of scores of shape (n_users, n_movies), or (1, n_movies) if all users have the same."""
    users = np.arange(len(data.candidates))[:, None]
    scores = np.broadcast_to(scores, data.train.shape)
    candidates = np.zeros(data.train.shape, bool)
    candidates[users, data.candidates] = True
    left_out = ranks(scores, candidates)[users, data.candidates[:, :1]]
    pages = [ranking_metrics(rank) for rank in left_out]
    return tuple(float(np.mean([page[name] for page in pages])) for name in ("hit_rate@10", "ndcg@10"))


def top_popular(train: csr_matrix) -> NDArray[np.float32]:
    """Return each movie's number of ratings, shape (1, n_movies)."""
    return np.asarray(train.sum(axis=0), np.float32)


def ease(train: csr_matrix, l2: float = EASE_L2) -> NDArray[np.float32]:
    """Return the scores of the linear item-item model with a zero diagonal; Steck 2019, eq. 8."""
    return (train @ ease_weights(train, l2)).astype(np.float32)


MODELS: dict[str, Callable[[csr_matrix], NDArray[np.float32]]] = {"TopPopular": top_popular, "EASE": ease}


if __name__ == "__main__":
    main()
