"""Sums over the events of each user, as compiled loops: what recommenders apply their arrays to histories by."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recsys.compiled import compiled


@compiled
def write_sparse_sums(
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    weights: NDArray[np.float32],
    data: NDArray[np.float32],
    columns: NDArray[np.int32],
    starts: NDArray[np.int32],
    features: NDArray[np.float32],
    number: int,
) -> None:
    """Write for each user the weighted sum of the sparse rows of the sales in their events to features[:, number].

    Args:
        offsets: Of users' events, shape (n_users + 1,).
        sales: Of events, shape (n_events,).
        weights: Of events, shape (n_events,).
        data: The values of the rows, one row per sale.
        columns: The column of each value.
        starts: The first value of each row, shape (n_sales + 1,).
        features: Shape (n_users, n_features, n_columns).
        number: The place to write to.
    """
    for user in range(len(offsets) - 1):
        sums = features[user, number]
        sums[:] = 0
        for event in range(offsets[user], offsets[user + 1]):
            weight = weights[event]
            for entry in range(starts[sales[event]], starts[sales[event] + 1]):
                sums[columns[entry]] += weight * data[entry]


@compiled
def _write_sum(
    start: int,
    end: int,
    sales: NDArray[np.int32],
    weights: NDArray[np.float32],
    rows: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """Write the weighted sum of the rows of some events, added in their order: four rows per pass over the sums."""
    sums[:] = 0
    fours = end - (end - start) % 4
    for event in range(start, fours, 4):
        first, second, third, fourth = weights[event], weights[event + 1], weights[event + 2], weights[event + 3]
        row_1, row_2, row_3 = rows[sales[event]], rows[sales[event + 1]], rows[sales[event + 2]]
        row_4 = rows[sales[event + 3]]
        for column in range(len(sums)):
            total = sums[column] + first * row_1[column]
            total += second * row_2[column]
            total += third * row_3[column]
            sums[column] = total + fourth * row_4[column]
    for event in range(fours, end):
        weight, row = weights[event], rows[sales[event]]
        for column in range(len(sums)):
            sums[column] += weight * row[column]


def user_sums(
    offsets: NDArray[np.int64], sales: NDArray[np.int32], weights: NDArray[np.float32], matrix: csr_matrix
) -> NDArray[np.float32]:
    """Return for each user the weighted sum of the rows of a sparse matrix (n_sales, n_columns), (n_users, n_columns).

    The result is dense: call it only where columns are few.
    """
    sums = np.empty((len(offsets) - 1, 1, matrix.shape[1]), np.float32)
    write_sparse_sums(offsets, sales, weights, matrix.data, matrix.indices, matrix.indptr, sums, 0)
    return sums[:, 0]


@compiled
def write_cosines(
    offsets: NDArray[np.int64],
    sales: NDArray[np.int32],
    weights: NDArray[np.float32],
    rows: NDArray[np.float32],
    data: NDArray[np.float32],
    indices: NDArray[np.int32],
    starts: NDArray[np.int32],
    n_columns: int,
    features: NDArray[np.float32],
    number: int,
) -> None:
    """Write the cosine of each user's weighted sum of profiles and the profiles of the horizon; 0 where either is 0.

    Args:
        offsets: Of users' events, shape (n_users + 1,).
        sales: Of events, shape (n_events,).
        weights: Of events, shape (n_events,).
        rows: The products of the profiles of all sales and those of the horizon, shape (n_sales, n_horizon).
        data: The values of the profiles, sparse rows of length 1, one per sale.
        indices: The column of each value.
        starts: The first value of each row, shape (n_sales + 1,).
        n_columns: Of the sparse rows.
        features: Shape (n_users, n_features, n_horizon).
        number: The place to write to.
    """
    profile = np.zeros(n_columns, np.float32)
    for user in range(len(offsets) - 1):
        for event in range(offsets[user], offsets[user + 1]):
            weight = weights[event]
            for entry in range(starts[sales[event]], starts[sales[event] + 1]):
                profile[indices[entry]] += weight * data[entry]
        square = 0.0
        for event in range(offsets[user], offsets[user + 1]):
            for entry in range(starts[sales[event]], starts[sales[event] + 1]):
                square += np.float64(profile[indices[entry]]) ** 2
                profile[indices[entry]] = 0  # counted once, and ready for the next user
        factor = np.float32(1 / np.sqrt(square)) if square > 0 else np.float32(0)
        scores = features[user, number]
        _write_sum(offsets[user], offsets[user + 1], sales, weights, rows, scores)
        for column in range(len(scores)):
            scores[column] *= factor


def largest_products(
    users_values: NDArray[np.floating],
    sales_values: NDArray[np.float32],
    users: NDArray[np.int64],
    sales: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return for each pair of user and sale the column whose product of values is largest, -1 if none is above 0.

    Args:
        users_values: Shape (n_users, n_columns).
        sales_values: Shape (n_horizon, n_columns).
        users: Of the pairs, shape (n_pairs,).
        sales: Of the pairs, columns of the horizon, shape (n_pairs,).
    """
    largest = np.empty(len(users), np.int64)
    _write_largest(users_values, sales_values, users, sales, largest)
    return largest


@compiled
def _write_largest(
    users_values: NDArray[np.floating],
    sales_values: NDArray[np.float32],
    users: NDArray[np.int64],
    sales: NDArray[np.int64],
    largest: NDArray[np.int64],
) -> None:
    for pair in range(len(users)):
        values, others = users_values[users[pair]], sales_values[sales[pair]]
        largest[pair], most = -1, 0.0
        for column in range(len(values)):
            product = values[column] * others[column]
            if product > most:
                largest[pair], most = column, product
