"""Comparison of sums of floats, which depend on the order of addition: on processor, library and number of threads.

Every addition has a rounding error of up to half a unit in the last place, and the errors of n additions accumulate
like a random walk, to about sqrt(n) units; Higham and Mary 2019. So a test gives the number of terms, and the tolerance
follows from the type and magnitude of the numbers. A tolerance chosen by trial can fail on another processor.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

SAFETY = 8
"""Safety factor on the expected length of the random walk of rounding errors."""


def rounding(
    values: ArrayLike, terms: int, *, dtype: DTypeLike | None = None, scale: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return the maximum difference between sums and the same sums in another order, for each row of values.

    Args:
        values: Shape (..., n), sums.
        terms: Number of products in each sum; for a network, the total over its layers.
        dtype: Type of the computation; by default that of the values, float64 for a list.
        scale: Magnitude of the terms, to be given if terms cancel; by default the largest absolute value of each row.
    """
    values = np.asarray(values)
    eps = np.finfo(values.dtype if dtype is None else dtype).eps
    if scale is None:
        scale = np.abs(values).max(axis=-1, keepdims=True, initial=0) if values.ndim else np.abs(values)
    return SAFETY * np.sqrt(terms) * float(eps) * np.asarray(scale, np.float64)


def assert_close(
    actual: ArrayLike,
    expected: ArrayLike,
    *,
    terms: int,
    dtype: DTypeLike | None = None,
    scale: ArrayLike | None = None,
    about: str = "",
) -> None:
    """Assert that sums are equal except for rounding; arguments as for `rounding`.

    Args:
        dtype: By default the coarser of the two types.
        about: Start of the message, such as "scores:".
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    if dtype is None:
        dtype = max(
            (np.result_type(each, np.float16) for each in (actual, expected)), key=lambda each: np.finfo(each).eps
        )
    assert actual.shape == expected.shape, f"{about} shapes {actual.shape} and {expected.shape}"
    within = np.broadcast_to(rounding(expected, terms, dtype=dtype, scale=scale), expected.shape)
    differences = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    is_far = ~(differences <= within)  # nan is far from everything
    assert not is_far.any(), (
        f"{about} {is_far.sum()} of {is_far.size} differ by more than rounding; the first at "
        f"{tuple(np.argwhere(is_far)[0].tolist())}: {actual[is_far][0]!r}, must be within {within[is_far][0]:.3g} of "
        f"{expected[is_far][0]!r}"
    )


def assert_same_order(scores: ArrayLike, found: Sequence[int], expected: Sequence[int], within: float) -> None:
    """Assert that two orders of the same scores differ only by swaps of near ties.

    Args:
        scores: Shape (n,).
        found: Positions of scores, best first.
        expected: Positions of the same length, best first.
        within: Maximum difference of scores that may be swapped, from `rounding`.
    """
    values, mine, theirs = np.asarray(scores, np.float64), np.asarray(found, int), np.asarray(expected, int)
    assert len(mine) == len(theirs) == len(set(mine.tolist())) == len(set(theirs.tolist()))
    gaps = np.abs(values[mine] - values[theirs])
    swapped = np.flatnonzero(~(gaps <= within))
    assert not len(swapped), (
        f"position {swapped[0]}: {mine[swapped[0]]}, must be {theirs[swapped[0]]}: their scores are "
        f"{gaps[swapped[0]]:.3g} apart, near ties at most {within:.3g}"
    )


def assert_no_near_ties(scores: ArrayLike, within: float) -> None:
    """Assert that no two scores differ by so little that their order may depend on the processor."""
    gaps = np.diff(np.sort(np.asarray(scores, np.float64), axis=None))
    assert gaps.min(initial=np.inf) > within, f"two scores are {gaps.min():.3g} apart, must be more than {within:.3g}"


def terms_of(network: Any) -> int:
    """Return the number of products per output of a PyTorch network, summed over its layers."""
    return sum(weights[0].numel() for weights in network.parameters() if weights.dim() > 1)


def assert_same_tags(
    probabilities: ArrayLike, embedding: ArrayLike, expected: tuple[ArrayLike, ArrayLike], terms: int
) -> None:
    """Assert that probabilities and embeddings of photos are the expected ones except for rounding in the network.

    Logits are assumed to be at most as large as the embedding. If logits change by d, the log of a probability changes
    by at most 2 d.
    """
    expected_probabilities, expected_embedding = (np.asarray(each) for each in expected)
    assert_close(embedding, expected_embedding, terms=terms, dtype=np.float32, about="embedding:")
    size = np.abs(expected_embedding).max(axis=-1, keepdims=True)
    scale = 2 * size * expected_probabilities + np.finfo(np.float32).tiny  # smaller numbers are subnormal
    assert_close(
        probabilities, expected_probabilities, terms=terms, dtype=np.float32, scale=scale, about="probabilities:"
    )
