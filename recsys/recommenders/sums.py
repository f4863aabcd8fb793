"""Sums over the events of each user, as compiled loops: what recommenders apply their arrays to histories by."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recsys.compiled import compiled


@compiled
def write_sums(
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    weights: NDArray[np.float32],
    rows: NDArray[np.float32],
    features: NDArray[np.float32],
    number: int,
) -> None:
    """Write for each user the weighted sum of the rows of the sales in the user's events to features[:, number].

    Args:
        offsets: Of users' events, shape (n_users + 1,).
        sales: Of events, shape (n_events,).
        weights: Of events, shape (n_events,).
        rows: Shape (n_sales, n_horizon).
        features: Shape (n_users, n_features, n_horizon).
        number: The place to write to.
    """
    for user in range(len(offsets) - 1):
        sums = features[user, number]
        sums[:] = 0
        for event in range(offsets[user], offsets[user + 1]):
            weight, row = weights[event], rows[sales[event]]
            for column in range(len(sums)):
                sums[column] += weight * row[column]


def user_sums(
    offsets: NDArray[np.int64], sales: NDArray[np.int32], weights: NDArray[np.float32], matrix: csr_matrix
) -> NDArray[np.float32]:
    """Return for each user the weighted sum of the rows of a sparse matrix (n_sales, n_columns), (n_users, n_columns).

    The result is dense: call it only where columns are few.
    """
    sums = np.zeros((len(offsets) - 1, matrix.shape[1]), np.float32)
    _add_sparse_rows(offsets, sales, weights, matrix.data, matrix.indices, matrix.indptr, sums)
    return sums


@compiled
def _add_sparse_rows(
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    weights: NDArray[np.float32],
    data: NDArray[np.float32],
    indices: NDArray[np.int32],
    starts: NDArray[np.int32],
    sums: NDArray[np.float32],
) -> None:
    for user in range(len(offsets) - 1):
        for event in range(offsets[user], offsets[user + 1]):
            weight = weights[event]
            for entry in range(starts[sales[event]], starts[sales[event] + 1]):
                sums[user, indices[entry]] += weight * data[entry]


@compiled
def divide_by_norms(
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    weights: NDArray[np.float32],
    data: NDArray[np.float32],
    indices: NDArray[np.int32],
    starts: NDArray[np.int32],
    n_columns: int,
    features: NDArray[np.float32],
    number: int,
) -> None:
    """Divide features[:, number] by the length of each user's weighted sum of sparse rows; 0 where that is 0.

    Args:
        offsets: Of users' events, shape (n_users + 1,).
        sales: Of events, shape (n_events,).
        weights: Of events, shape (n_events,).
        data: The values of the sparse rows, one row per sale.
        indices: The column of each value.
        starts: The first value of each row, shape (n_sales + 1,).
        n_columns: Of the sparse rows.
        features: Shape (n_users, n_features, n_horizon).
        number: The place of what is divided.
    """
    sums = np.zeros(n_columns, np.float32)
    for user in range(len(offsets) - 1):
        for event in range(offsets[user], offsets[user + 1]):
            weight = weights[event]
            for entry in range(starts[sales[event]], starts[sales[event] + 1]):
                sums[indices[entry]] += weight * data[entry]
        square = 0.0
        for event in range(offsets[user], offsets[user + 1]):
            for entry in range(starts[sales[event]], starts[sales[event] + 1]):
                square += np.float64(sums[indices[entry]]) ** 2
                sums[indices[entry]] = 0  # counted once, and ready for the next user
        factor = np.float32(1 / np.sqrt(square)) if square > 0 else np.float32(0)
        scores = features[user, number]
        for column in range(len(scores)):
            scores[column] *= factor
