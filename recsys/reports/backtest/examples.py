"""Example users for a person to judge: the sales that each visited, and those that each policy would have shown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from recsys.reports.album import Album
from recsys.reports.backtest.wording import join_names, policy_in_words
from recsys.wording import amount, plural

_ATTRIBUTES = ("country", "category")


@dataclass(frozen=True)
class Cover:
    """A sale as shown on the page: its photo, or a tile with its title."""

    title: str
    details: str
    """Country, category and price."""
    photo: int | None
    """Index into `Album.photos`; None for a tile."""
    mark: str
    """The word on a frame around the cover; empty for no frame."""


@dataclass(frozen=True)
class Strip:
    """Sales side by side."""

    label: str
    note: str
    covers: tuple[Cover, ...]
    kind: Literal["bought", "before"] = "bought"
    """What a mark means: bought on that day, or bought before."""


@dataclass(frozen=True)
class Example:
    """A user, the sales visited and bought, and one page per policy."""

    title: str
    note: str
    visited: Strip
    bought: Strip
    pages: tuple[Strip, ...]


def examples(result: Mapping[str, Any], album: Album) -> list[Example]:
    """Return the example users of a result."""
    sales = result.get("sales") or {}
    return [_example(row, sales, album) for row in result.get("examples") or ()]


def _example(row: Mapping[str, Any], sales: Mapping[str, Any], album: Album) -> Example:
    def covers(shown: Sequence[str], marked: Sequence[str], mark: str) -> tuple[Cover, ...]:
        return tuple(_cover(sales.get(sale) or {}, sale, mark if sale in marked else "", album) for sale in shown)

    bought = row["bought"]
    events = plural(row["events"], "known event") if row["events"] else "a new user, without known events"
    return Example(
        f"User {row['user_id']}",
        f"{row['as_of']}, {events}",
        Strip("Visited before, newest first", "", covers(row["visited"], row["purchased"], "bought before"), "before"),
        Strip("Bought that day", "", covers(bought, bought, "bought")),
        tuple(
            Strip(policy_in_words(policy), _positions(page, bought), covers(page, bought, "bought"))
            for policy, page in row["pages"].items()
        ),
    )


def _cover(sale: Mapping[str, Any], sale_id: str, mark: str, album: Album) -> Cover:
    return Cover(sale.get("title") or sale_id, " · ".join(_details(sale)), album.index(sale.get("cover")), mark)


def _details(sale: Mapping[str, Any]) -> Iterator[str]:
    yield from (str(sale[key]) for key in _ATTRIBUTES if sale.get(key))
    if sale.get("price") is not None:
        yield f"price {amount(sale['price'])}"


def _positions(page: Sequence[str], bought: Sequence[str]) -> str:
    """Write at which positions of a page, from 1, the bought sales are."""
    positions = sorted(page.index(sale) + 1 for sale in bought if sale in page)
    if not positions:
        return "shows no bought sale"
    missing = f", {len(bought) - len(positions)} not shown" if len(positions) < len(bought) else ""
    word = "position" if len(positions) == 1 else "positions"
    return f"bought: {word} {join_names([str(position) for position in positions])}{missing}"
