"""Splits users by hash as GrowthBook's SDKs do (hash version 2), bit for bit.

    bucket = fnv1a32(decimal(fnv1a32(seed + unit))) mod 10,000

over UTF-16 code units, the characters of JavaScript's strings: a website, SQL or Spark can reproduce a split. With the
inner hash alone, the splits of similar seeds would be correlated.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BUCKETS = 10_000
_START = 0x811C9DC5
_PRIME = 0x01000193
_LOW_32_BITS = 0xFFFFFFFF
_HIGHEST_POWER = 10**9  # of ten below 2**32


class Column(Protocol):
    """A column of strings without nulls, such as an Arrow array."""

    def to_pylist(self) -> list[str]:
        """Return the strings as a Python list."""


def code_units(text: str) -> Sequence[int]:
    """Return a text's UTF-16 code units."""
    if text.isascii():
        return text.encode("ascii")
    encoded = text.encode("utf-16-le", "surrogatepass")
    return struct.unpack(f"<{len(encoded) // 2}H", encoded)


def fnv1a32(codes: Iterable[int], state: int = _START) -> int:
    """Return the 32-bit FNV-1a hash of code units; `state` is the hash of the text before them."""
    for code in codes:
        state = (state ^ code) * _PRIME & _LOW_32_BITS
    return state


class Split:
    """A split of all units over 10,000 buckets by a seed."""

    __slots__ = ("_state",)

    def __init__(self, seed: str):
        self._state = fnv1a32(code_units(seed))

    def bucket(self, codes: Iterable[int]) -> int:
        """Return the bucket of a unit, in 0..9999, from the unit's code units."""
        return fnv1a32(b"%d" % fnv1a32(codes, self._state)) % BUCKETS


def bucket(seed: str, unit: str) -> int:
    """Return the bucket of a unit, in 0..9999."""
    return Split(seed).bucket(code_units(unit))


def buckets(seed: str, units: Sequence[str] | Column) -> NDArray[np.uint16]:
    """Return the bucket of each unit, the same as `bucket` of one unit; shape (n_units,)."""
    inner = _hash_texts(fnv1a32(code_units(seed)), units if isinstance(units, Sequence) else units.to_pylist())
    return (_hash_decimals(inner) % BUCKETS).astype(np.uint16)


def _hash_texts(state: int, texts: Sequence[str]) -> NDArray[np.uint32]:
    """Hash texts in parallel, one code unit at a time.

    Texts are sorted by length, longest first, so that those with a k-th code unit form a prefix.
    """
    codes, starts, lengths = _concatenate_code_units(texts)
    order = np.argsort(-lengths, kind="stable")
    starts, ascending = starts[order], lengths[order][::-1]
    hashes = np.full(len(texts), state, np.uint32)
    for k in range(lengths.max(initial=0)):
        longer = hashes[: len(texts) - np.searchsorted(ascending, k, side="right")]
        longer ^= codes[starts[: len(longer)] + k]
        longer *= np.uint32(_PRIME)
    result = np.empty_like(hashes)
    result[order] = hashes
    return result


def _concatenate_code_units(
    texts: Sequence[str],
) -> tuple[NDArray[np.uint16], NDArray[np.int64], NDArray[np.int64]]:
    """Return the code units of all texts, and the start and the number of each text's code units."""
    text = "".join(texts)
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    if not text.isascii():
        is_pair = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32) > 0xFFFF
        ends += np.concatenate([[0], np.cumsum(is_pair)])[ends]
    lengths = np.diff(ends, prepend=0)
    return np.frombuffer(text.encode("utf-16-le", "surrogatepass"), np.uint16), ends - lengths, lengths


def _hash_decimals(numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Hash the decimal digits of numbers, without leading zeros."""
    hashes = np.full(len(numbers), _START, np.uint32)
    power = _HIGHEST_POWER
    while power:
        digits = (numbers // np.uint32(power) % np.uint32(10)).astype(np.uint32)
        longer = (hashes ^ (digits + np.uint32(ord("0")))) * np.uint32(_PRIME)
        hashes = np.where((numbers >= power) | (power == 1), longer, hashes)
        power //= 10
    return hashes
