"""Writes answers in protobuf's wire format, from parts that were serialised when the snapshot was loaded.

The concatenation of serialised messages parses as their merge, with fields in any order. A sale on a page is therefore
the concatenation of its static part, its reason, its photo, and the fields that differ from page to page.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import exp

from recommendations.v1 import recommendations_pb2 as pb

from serving.answers.pages import Pick

# A tag is field number * 8 + wire type: 0 varint, 2 length-delimited, 5 four bytes.
_RANK = 2 * 8
_SCORE = 3 * 8 + 5
_PROBABILITY = 11 * 8 + 5
_LEVEL = 6 * 8
_ANSWER_TIME = 8 * 8 + 2
_REQUEST_ID = 10 * 8 + 2
_SALES = bytes([1 * 8 + 2])
_RESPONSES = bytes([1 * 8 + 2])

_UNSCORED = struct.Struct("<BB").pack
_SCORED = struct.Struct("<BBBf").pack
_WITH_PROBABILITY = struct.Struct("<BBBfBf").pack


def end(level: int, request_id: str, now: int) -> bytes:
    """Write the fields that differ between responses: fallback level, request id of 1..64 bytes, answer time."""
    seconds, micros = divmod(now, 1_000_000)
    instant = _second(seconds) + (b"\x10" + _varint(micros * 1000) if micros else b"")
    name = request_id.encode()
    return b"%b%b%b%b" % (
        bytes((_LEVEL, level, _REQUEST_ID, len(name))),
        name,
        bytes((_ANSWER_TIME, len(instant))),
        instant,
    )


def response(parts: Iterable[bytes]) -> bytes:
    """Join the parts of a `GetTopSalesResponse`."""
    return b"".join(parts)


class SaleWriter:
    """Writes the `RankedSale`s of pages from parts that are already serialised.

    Args:
        sales: The static part of each sale.
        images: The photos of each sale, at least one part per sale.
        reasons: Each reason.
    """

    def __init__(self, sales: Sequence[bytes], images: Sequence[Sequence[bytes]], reasons: Sequence[bytes]):
        self._sales = sales
        self._images = images
        self._reasons = reasons

    def written(self, picks: Iterable[Pick], is_log_odds: bool, extras: Sequence[bytes] = ()) -> list[bytes]:
        """Return the parts of a page's sales, each sale preceded by its tag and length.

        Args:
            picks: The sales, best first, at most 127.
            is_log_odds: Whether scores are the log-odds of a probability.
            extras: Further serialised fields of each sale; empty for none.

        Raises:
            IndexError: If there is no such sale, reason or photo.
            ArithmeticError: If a score is not a valid log-odds.
        """
        sales, images, reasons = self._sales, self._images, self._reasons
        short, n_short = _SHORT, len(_SHORT)  # _varint, inlined to save a call per sale
        parts: list[bytes] = []
        for rank, (sale, score, reason, cover) in enumerate(picks, 1):
            if score is None:
                own = _UNSCORED(_RANK, rank)
            elif is_log_odds:
                own = _WITH_PROBABILITY(_RANK, rank, _SCORE, score, _PROBABILITY, 1 / (1 + exp(-score)))
            else:
                own = _SCORED(_RANK, rank, _SCORE, score)
            if extras:
                own += extras[rank - 1]
            static, image, why = sales[sale], images[sale][cover], reasons[reason]
            length = len(static) + len(image) + len(why) + len(own)
            parts += (_SALES, short[length] if length < n_short else _encode(length), static, image, why, own)
        return parts


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


@lru_cache(maxsize=2)
def _second(seconds: int) -> bytes:
    return b"\x08" + _encode(seconds)


_SHORT = [_encode(length) for length in range(4096)]


def _varint(length: int) -> bytes:
    return _SHORT[length] if length < 4096 else _encode(length)
