"""Writes answers in protobuf's wire format, from parts that were written when the snapshot was loaded.

Protobuf merges the fields of messages that are written one after the other, in any order: so a sale is its own part,
its reason, its photo, and what only this page knows.
"""

import struct
from collections.abc import Iterable
from math import exp

from recommendations.v1 import recommendations_pb2 as pb

Parts = tuple[bytes, bytes, bytes, bytes, bytes]
"""A `RankedSale`, in five pieces."""

# Tags are field number * 8 + wire type: 0 varint, 2 length, 5 four bytes.
_RANK = 2 * 8
_SCORE = 3 * 8 + 5
_PROBABILITY = 11 * 8 + 5
_LEVEL = 6 * 8
_ANSWER_TIME = 8 * 8 + 2
_REQUEST_ID = 10 * 8 + 2
_SALES = bytes([1 * 8 + 2])
_RESPONSES = bytes([1 * 8 + 2])

_UNSCORED = struct.Struct("<BB")
_SCORED = struct.Struct("<BBBf")
_WITH_PROBABILITY = struct.Struct("<BBBfBf")


def place(rank: int, score: float | None, is_log_odds: bool) -> bytes:
    """Write rank (1..127), score, and the probability where the score is its log-odds, of a `RankedSale`."""
    if score is None:
        return _UNSCORED.pack(_RANK, rank)
    if is_log_odds:
        return _WITH_PROBABILITY.pack(_RANK, rank, _SCORE, score, _PROBABILITY, 1 / (1 + exp(-score)))
    return _SCORED.pack(_RANK, rank, _SCORE, score)


def end(level: int, request_id: str, now: int) -> bytes:
    """Write what every `GetTopSalesResponse` has of its own: fallback level, request id of 1..64 bytes, answer time."""
    seconds, micros = divmod(now, 1_000_000)
    instant = b"\x08" + _varint(seconds) + (b"\x10" + _varint(micros * 1000) if micros else b"")
    name = request_id.encode()
    return b"".join(
        (bytes((_LEVEL, level, _REQUEST_ID, len(name))), name, bytes((_ANSWER_TIME, len(instant))), instant)
    )


def response(head: bytes, sales: Iterable[Parts], end: bytes) -> bytes:
    """Write a `GetTopSalesResponse`: its parts, and each `RankedSale` behind tag and length."""
    parts = [head]
    for sale in sales:
        a, b, c, d, e = sale
        parts += (_SALES, _varint(len(a) + len(b) + len(c) + len(d) + len(e)), *sale)
    parts.append(end)
    return b"".join(parts)


def batch(responses: Iterable[bytes]) -> bytes:
    """Write a `BatchGetTopSalesResponse`."""
    return b"".join(part for each in responses for part in (_RESPONSES, _varint(len(each)), each))


def image(uri: str) -> bytes:
    """Write the photo of a `RankedSale`."""
    return pb.RankedSale(image_uri=uri).SerializeToString()


def reason(kind: str, text: str) -> bytes:
    """Write the reason of a `RankedSale`."""
    return pb.RankedSale(reason=kind, reason_text=text).SerializeToString()


def _encode(length: int) -> bytes:
    encoded = bytearray()
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)


_SHORT = [_encode(length) for length in range(4096)]


def _varint(length: int) -> bytes:
    return _SHORT[length] if length < 4096 else _encode(length)
