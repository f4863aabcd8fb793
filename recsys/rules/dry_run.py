"""What rules would change: pages of some users with and without them, compared and summed up."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recsys.rules.draft import ArrangedPage


@dataclass(frozen=True)
class PlaceChange:
    """A place that shows another sale with the rules than without."""

    place: int
    """Counted from 1."""
    before: str | None
    """The sale without the rules; None beyond the end of the page."""
    after: str | None
    """The sale with the rules; None beyond the end of the page."""
    rule: str | None
    """The rule that put the sale there; None where it only makes room for others."""


@dataclass(frozen=True)
class PageChange:
    """One user's page with and without the rules."""

    user_id: str
    places: tuple[PlaceChange, ...]
    """The places that differ, in order; none if the page stays as it is."""
    entered: tuple[str, ...]
    """Sales that the rules bring onto the page, in its order."""
    left: tuple[str, ...]
    """Sales that they take from it, in its order."""
    applied: tuple[str, ...]
    """The rules that changed the page."""
    notes: tuple[str, ...]
    """What could not be met."""


@dataclass(frozen=True)
class Trial:
    """Rules tried on the pages of some users."""

    pages: int
    changed: tuple[PageChange, ...]
    """The pages that differ."""
    rules: dict[str, int]
    """Pages that each rule changed, most first."""
    entered: dict[str, int]
    """Pages that each sale comes onto, most first."""
    left: dict[str, int]
    """Pages that each sale leaves, most first."""
    notes: dict[str, int]
    """How often each was made, most first."""

    @property
    def changed_share(self) -> float:
        """Share of the pages that differ; 0 of no page."""
        return len(self.changed) / self.pages if self.pages else 0.0


def compare(user_id: str, before: Sequence[int], page: ArrangedPage, sale_ids: Sequence[str]) -> PageChange:
    """Compare a page without rules with the same page with them.

    Args:
        user_id: Whose page.
        before: Positions of the sales without rules, best first, as many as the page has places.
        page: The page with rules.
        sale_ids: The id of each sale of the snapshot.
    """
    old, new = ([sale_ids[sale] for sale in sales] for sales in (before, page.sales))
    n_places = max(len(old), len(new))
    padded = zip(*(_padded(each, n_places) for each in (old, new, page.rules)), strict=True)
    return PageChange(
        user_id=user_id,
        places=tuple(
            PlaceChange(place, was, now, rule) for place, (was, now, rule) in enumerate(padded, start=1) if was != now
        ),
        entered=tuple(sale for sale in new if sale not in old),
        left=tuple(sale for sale in old if sale not in new),
        applied=tuple(page.applied),
        notes=tuple(page.notes),
    )


def summed_up(pages: Iterable[PageChange]) -> Trial:
    """Sum up the pages of a trial; where counts are equal, names are in ascending order."""
    pages = list(pages)
    return Trial(
        pages=len(pages),
        changed=tuple(page for page in pages if page.places),
        rules=_counts(name for page in pages for name in page.applied),
        entered=_counts(sale for page in pages for sale in page.entered),
        left=_counts(sale for page in pages for sale in page.left),
        notes=_counts(note for page in pages for note in page.notes),
    )


def _padded(values: Sequence[str | None], length: int) -> list[str | None]:
    return [*values, *[None] * (length - len(values))]


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))
