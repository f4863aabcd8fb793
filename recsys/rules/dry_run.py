"""A dry run of rules: compares the pages of some users with and without rules, and summarises the changes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recsys.rules.draft import ArrangedPage


@dataclass(frozen=True)
class PositionChange:
    """A position that shows another sale with the rules than without."""

    place: int
    """The position, counted from 1."""
    before: str | None
    """The sale without the rules; None beyond the end of the page."""
    after: str | None
    """The sale with the rules; None beyond the end of the page."""
    rule: str | None
    """The rule that put the sale there; None if the sale only moved to make room for others."""


@dataclass(frozen=True)
class PageChange:
    """One user's page with and without the rules."""

    user_id: str
    places: tuple[PositionChange, ...]
    """The positions that differ, from the top; empty if the page does not change."""
    entered: tuple[str, ...]
    """Sales that only the page with rules has, in its order."""
    left: tuple[str, ...]
    """Sales that only the page without rules has, in its order."""
    applied: tuple[str, ...]
    """The rules that changed the page."""
    notes: tuple[str, ...]
    """A sentence for each rule that could not be met."""


@dataclass(frozen=True)
class Trial:
    """The summary of a dry run. Counts are in descending order."""

    pages: int
    changed: tuple[PageChange, ...]
    """The pages that differ."""
    rules: dict[str, int]
    """Number of pages that each rule changed."""
    entered: dict[str, int]
    """Number of pages that each sale is added to."""
    left: dict[str, int]
    """Number of pages that each sale is removed from."""
    notes: dict[str, int]
    """Number of pages with each note."""

    @property
    def changed_share(self) -> float:
        """Share of the pages that differ; 0 without pages."""
        return len(self.changed) / self.pages if self.pages else 0.0


def compare(user_id: str, before: Sequence[int], page: ArrangedPage, sale_ids: Sequence[str]) -> PageChange:
    """Compare a page without rules with the same page with them.

    Args:
        user_id: The user of the page.
        before: Indices in the snapshot of the sales on the page without rules, best first.
        page: The page with rules.
        sale_ids: The id of each sale of the snapshot.
    """
    old, new = ([sale_ids[sale] for sale in sales] for sales in (before, page.sales))
    length = max(len(old), len(new))
    padded = zip(*(_pad(each, length) for each in (old, new, page.rules)), strict=True)
    return PageChange(
        user_id=user_id,
        places=tuple(
            PositionChange(position, was, now, rule)
            for position, (was, now, rule) in enumerate(padded, start=1)
            if was != now
        ),
        entered=tuple(sale for sale in new if sale not in old),
        left=tuple(sale for sale in old if sale not in new),
        applied=tuple(page.applied),
        notes=tuple(page.notes),
    )


def summed_up(pages: Iterable[PageChange]) -> Trial:
    """Summarise the pages of a dry run; ties of counts are in ascending order of the name."""
    pages = list(pages)
    return Trial(
        pages=len(pages),
        changed=tuple(page for page in pages if page.places),
        rules=_count_names(name for page in pages for name in page.applied),
        entered=_count_names(sale for page in pages for sale in page.entered),
        left=_count_names(sale for page in pages for sale in page.left),
        notes=_count_names(note for page in pages for note in page.notes),
    )


def _pad(values: Sequence[str | None], length: int) -> list[str | None]:
    return [*values, *[None] * (length - len(values))]


def _count_names(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))
