"""Ten users as a person can judge them: what each visited, and what each policy would have shown, with covers."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.thumbnails import thumbnail
from recsys.reports.backtest.wording import listed, policy_in_words

SECONDS = 60.0
"""So long covers are waited for: a server may never answer."""
_READERS = 16
_SIDE = 160
_SHOWN = ("country", "category")


@dataclass(frozen=True)
class Cover:
    """A sale as it is shown: its photo, or a tile with its title."""

    title: str
    told: str
    """Country, category, price."""
    photo: int | None
    """Which photo of the page; None: a tile."""
    mark: str
    """A word on a frame; none where it is empty."""


@dataclass(frozen=True)
class Strip:
    """Sales side by side."""

    label: str
    note: str
    covers: tuple[Cover, ...]
    kind: Literal["bought", "before"] = "bought"
    """What a mark means."""


@dataclass(frozen=True)
class Example:
    """A user, what he visited, and a page a policy."""

    title: str
    note: str
    visited: Strip
    bought: Strip
    pages: tuple[Strip, ...]


class Album:
    """The covers of a page; each photo is made small and kept once, however often it is shown."""

    def __init__(self, files: PhotoFiles, uris: Iterable[str]):
        """Read the covers wherever they lie, all at once; those that take too long are not waited for."""
        self._thumbnails = _thumbnails(files, sorted(set(uris)))
        self._places: dict[str, int] = {}

    def place(self, uri: str | None) -> int | None:
        """Return which photo of the page it is; None where there is none that can be shown."""
        if not uri or self._thumbnails.get(uri) is None:
            return None
        return self._places.setdefault(uri, len(self._places))

    @property
    def photos(self) -> list[str]:
        """As data URIs."""
        jpegs = (self._thumbnails[uri] or b"" for uri in self._places)
        return [f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}" for jpeg in jpegs]


def _thumbnails(files: PhotoFiles, uris: Sequence[str]) -> dict[str, bytes | None]:
    pool = ThreadPoolExecutor(_READERS)
    reading = {uri: pool.submit(_thumbnail, files, uri) for uri in uris}
    wait(reading.values(), timeout=SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    return {uri: future.result() for uri, future in reading.items() if future.done() and not future.cancelled()}


def _thumbnail(files: PhotoFiles, uri: str) -> bytes | None:
    try:
        return thumbnail(files.read(files.absolute(uri)), _SIDE)
    except PhotoError:
        return None


def examples(result: Mapping[str, Any], album: Album) -> list[Example]:
    """Return the users that the result shows."""
    sales = result.get("sales") or {}
    return [_example(row, sales, album) for row in result.get("examples") or ()]


def _example(row: Mapping[str, Any], sales: Mapping[str, Any], album: Album) -> Example:
    def covers(shown: Sequence[str], marked: Sequence[str], mark: str) -> tuple[Cover, ...]:
        return tuple(_cover(sales.get(sale) or {}, sale, mark if sale in marked else "", album) for sale in shown)

    bought = row["bought"]
    events = f"{row['events']:,} events known" if row["events"] else "a new user: no event was known"
    return Example(
        f"User {row['user_id']}",
        f"{row['as_of']}, {events}",
        Strip("Visited before, newest first", "", covers(row["visited"], row["purchased"], "bought then"), "before"),
        Strip("Bought that day", "", covers(bought, bought, "bought")),
        tuple(
            Strip(policy_in_words(policy), _found(page, bought), covers(page, bought, "bought"))
            for policy, page in row["pages"].items()
        ),
    )


def _cover(sale: Mapping[str, Any], sale_id: str, mark: str, album: Album) -> Cover:
    return Cover(sale.get("title") or sale_id, " · ".join(_told(sale)), album.place(sale.get("cover")), mark)


def _told(sale: Mapping[str, Any]) -> Iterator[str]:
    yield from (str(sale[key]) for key in _SHOWN if sale.get(key))
    if sale.get("price") is not None:
        yield f"{sale['price']:,.0f}"


def _found(page: Sequence[str], bought: Sequence[str]) -> str:
    places = sorted(page.index(sale) + 1 for sale in bought if sale in page)
    if not places:
        return "does not show what was bought"
    missed = f", {len(bought) - len(places)} not shown" if len(places) < len(bought) else ""
    return f"bought: place {listed([str(place) for place in places])}{missed}"
