"""Comparisons of floats that were summed: each processor, library and number of threads adds in its own order.

Every addition rounds by up to half a unit in the last place, and the errors of n additions add up as a random walk
does, to about sqrt(n) units; Higham and Mary 2019. So a test says how many terms were summed, and its tolerance
follows from the type and the size of the numbers; one that is chosen by eye holds on the processor that it was chosen
on.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

SAFETY = 8
"""Times the length that a random walk of rounding errors has on average."""


def rounding(
    values: ArrayLike, terms: int, *, dtype: DTypeLike | None = None, scale: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return how far sums may be from the same sums in another order, for each row of values.

    Args:
        values: Shape (..., n), sums.
        terms: How many products each of them adds up; of a network, the sum over its layers.
        dtype: What they were computed in; of the values by default, which for a list is float64.
        scale: The size of what was summed, where terms cancel; by default the largest absolute value of each row.
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
    """Assert that sums are the same but for their rounding; arguments as of `rounding`.

    Args:
        dtype: By default the coarser of the two types.
        about: What the message starts with, such as "scores:".
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    if dtype is None:
        dtype = max(
            (np.result_type(each, np.float16) for each in (actual, expected)), key=lambda each: np.finfo(each).eps
        )
    assert actual.shape == expected.shape, f"{about} shapes {actual.shape} and {expected.shape}"
    within = np.broadcast_to(rounding(expected, terms, dtype=dtype, scale=scale), expected.shape)
    apart = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    far = ~(apart <= within)  # what is no number is far from everything
    assert not far.any(), (
        f"{about} {far.sum()} of {far.size} differ by more than rounding; the first at "
        f"{tuple(np.argwhere(far)[0].tolist())}: {actual[far][0]!r}, must be within {within[far][0]:.3g} of "
        f"{expected[far][0]!r}"
    )


def assert_same_order(scores: ArrayLike, found: Sequence[int], expected: Sequence[int], within: float) -> None:
    """Assert that two orders of the same scores differ by no more than swaps of near ties.

    Args:
        scores: Shape (n,).
        found: Positions of scores, best first.
        expected: As many.
        within: How far apart scores may be that stand in one another's place, of `rounding`.
    """
    scores, found, expected = np.asarray(scores, np.float64), np.asarray(found, int), np.asarray(expected, int)
    assert len(found) == len(expected) == len(set(found.tolist())) == len(set(expected.tolist()))
    gaps = np.abs(scores[found] - scores[expected])
    swapped = np.flatnonzero(~(gaps <= within))
    assert not len(swapped), (
        f"place {swapped[0]}: {found[swapped[0]]}, must be {expected[swapped[0]]}: their scores are "
        f"{gaps[swapped[0]]:.3g} apart, near ties at most {within:.3g}"
    )


def assert_no_near_ties(scores: ArrayLike, within: float) -> None:
    """Assert that no two of these scores are so near that their order depends on the processor."""
    gaps = np.diff(np.sort(np.asarray(scores, np.float64), axis=None))
    assert gaps.min(initial=np.inf) > within, f"two scores are {gaps.min():.3g} apart, must be more than {within:.3g}"


def terms_of(network: Any) -> int:
    """Return how many products a network of PyTorch adds up from a photo to an output, over all of its layers."""
    return sum(weights[0].numel() for weights in network.parameters() if weights.dim() > 1)


def assert_same_tags(
    probabilities: ArrayLike, embedding: ArrayLike, expected: tuple[ArrayLike, ArrayLike], terms: int
) -> None:
    """Assert that probabilities and embeddings of photos are the expected ones but for the rounding of the network.

    Logits are taken to be no larger than the embedding that they are read off; where they move by d, the logarithm of
    a probability moves by 2 d at most.
    """
    expected_probabilities, expected_embedding = (np.asarray(each) for each in expected)
    assert_close(embedding, expected_embedding, terms=terms, dtype=np.float32, about="embedding:")
    size = np.abs(expected_embedding).max(axis=-1, keepdims=True)
    scale = 2 * size * expected_probabilities + np.finfo(np.float32).tiny  # what is below that is rounded to steps
    assert_close(
        probabilities, expected_probabilities, terms=terms, dtype=np.float32, scale=scale, about="probabilities:"
    )
