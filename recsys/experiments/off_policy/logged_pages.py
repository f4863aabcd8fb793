"""Pages that were drawn at random, what they earned, and what another policy would have shown in their stead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.errors import ConfigurationError, InputError


@dataclass(frozen=True)
class Places:
    """Sales at places of pages, one row each."""

    page: NDArray[np.int64]
    """Number of the page, from 0."""
    place: NDArray[np.int64]
    """0 is the top."""
    sale: NDArray[np.object_]
    """Ids."""


@dataclass(frozen=True)
class LoggedPages(Places):
    """What was shown: at most one sale at each place of a page."""

    propensity: NDArray[np.float64]
    """In (0, 1]; as `recsys.experiments.exploration.draw_page` defines it."""
    reward: NDArray[np.float64]
    """What the sale earned at this place, such as its attributed purchases."""
    request_ids: NDArray[np.object_]
    """By page."""
    users: NDArray[np.object_]
    """By page; what the pages of a user earn may depend on one another."""


@dataclass(frozen=True)
class CandidatePages(Places):
    """What a policy would show on the same pages; several rows a place where it draws, none where it shows nothing."""

    probability: NDArray[np.float64]
    """That the policy shows the sale at this place of this page."""


def logged_pages(exposures: pa.Table, rewards: pa.Table) -> LoggedPages:
    """Read the pages of a variant that explores.

    Args:
        exposures: Rows of table `exposures_compacted`: columns `request_id`, `user_id`, `sale_ids`, `propensities`.
            Pages without propensities, such as fallbacks, are left out: the variant did not draw them. Copies of a
            page count once.
        rewards: Columns `request_id`, `sale_id`, `reward`; those of a sale on a page are summed, others ignored.

    Raises:
        InputError: If no page has propensities, or one not as many as sales.
    """
    drawn = exposures.filter(pc.is_valid(exposures["propensities"]))
    drawn = drawn.filter(pa.array(~drawn["request_id"].to_pandas().duplicated())).combine_chunks()
    sizes = _require_propensities(exposures, drawn)
    page = np.repeat(np.arange(len(sizes)), sizes)
    sale_ids = pc.list_flatten(drawn["sale_ids"]).cast(pa.string()).combine_chunks().dictionary_encode()
    sale, sales = sale_ids.indices.to_numpy(), sale_ids.dictionary
    of_page = pc.index_in(rewards["request_id"].cast(pa.string()), drawn["request_id"])
    of_sale = pc.index_in(rewards["sale_id"].cast(pa.string()), sales)
    spot = pc.add(pc.multiply(of_page.cast(pa.int64()), len(sales)), of_sale)  # null: of no sale of these pages
    earned = rewards["reward"].to_pandas().groupby(spot.to_pandas()).sum()
    return LoggedPages(
        page,
        np.arange(len(page)) - np.repeat(np.cumsum(sizes) - sizes, sizes),
        sales.to_numpy(zero_copy_only=False)[sale],
        pc.list_flatten(drawn["propensities"]).to_numpy(),
        earned.reindex(page * len(sales) + sale, fill_value=0.0).to_numpy(),
        drawn["request_id"].to_numpy(),
        drawn["user_id"].to_numpy(),
    )


def ranked_pages(pages: LoggedPages, ranking_of: Callable[[str], Sequence[str]]) -> CandidatePages:
    """Return the pages of a policy that always shows its best sales, as many as the logged page had.

    Args:
        pages: What was logged.
        ranking_of: The policy's sales for a request_id, best first, none twice; all open at the time of the page.
    """
    sizes = np.bincount(pages.page, minlength=len(pages.request_ids))
    rankings = [ranking_of(request)[:size] for request, size in zip(pages.request_ids, sizes, strict=True)]
    lengths = [len(ranking) for ranking in rankings]
    page = np.repeat(np.arange(len(rankings)), lengths)
    place = np.concatenate([np.arange(length) for length in lengths])
    sale = np.concatenate([np.asarray(ranking, object) for ranking in rankings])
    return CandidatePages(page, place, sale, np.ones(len(page)))


def shown_probability(pages: LoggedPages, candidate: CandidatePages) -> NDArray[np.float64]:
    """Return the probability with which the candidate shows each logged sale at its place.

    Raises:
        InputError: If a propensity is not in (0, 1], a reward no number, or two sales share a logged place.
        ConfigurationError: If the candidate's probabilities are none: below 0, or of a place above 1 in all.
    """
    n_places = max(pages.place.max(initial=0), candidate.place.max(initial=0)) + 1
    _check_logged(pages, n_places)
    _check_candidate(candidate, n_places)
    codes, sales = pd.factorize(np.concatenate([candidate.sale, pages.sale]))
    at = np.concatenate([_spot(candidate, n_places), _spot(pages, n_places)])
    cells, cell = np.unique(at * len(sales) + codes, return_inverse=True)
    n_candidate = len(candidate.page)
    probability = np.bincount(cell[:n_candidate], weights=candidate.probability, minlength=len(cells))
    return probability[cell[n_candidate:]].astype(np.float64)


def _spot(places: Places, n_places: int) -> NDArray[np.int64]:
    return places.page * n_places + places.place


def _require_propensities(exposures: pa.Table, drawn: pa.Table) -> NDArray[np.int64]:
    """Return how many sales, each with its propensity, each page has."""
    if not len(drawn):
        raise InputError(
            f"propensities is missing on all of {len(exposures):,} pages, needed on at least 1: what another policy "
            "would have earned can be told only from pages drawn at random; give a variant 'exploration'"
        )
    sizes, given = (pc.list_value_length(drawn[name]).to_numpy() for name in ("sale_ids", "propensities"))
    unequal = np.flatnonzero(sizes != given)
    if len(unequal):
        page = unequal[0]
        raise InputError(
            f"page '{drawn['request_id'][page]}' has {given[page]} propensities and {sizes[page]} sales, must "
            "have one for each: leave out the pages of the service version that logged them"
        )
    return sizes.astype(np.int64)


def _check_logged(pages: LoggedPages, n_places: int) -> None:
    wrong = np.flatnonzero(~((pages.propensity > 0) & (pages.propensity <= 1)))
    if len(wrong):
        row = wrong[0]
        raise InputError(
            f"propensity == {pages.propensity[row]} of sale '{pages.sale[row]}' at place {pages.place[row]} of page "
            f"'{pages.request_ids[pages.page[row]]}' and {len(wrong) - 1:,} more, must be in (0, 1]: leave out pages "
            "that were not drawn at random"
        )
    if not np.isfinite(pages.reward).all():
        raise InputError(
            f"reward has {(~np.isfinite(pages.reward)).sum():,} that are no numbers, must have 0: fill them"
        )
    if len(np.unique(_spot(pages, n_places))) < len(pages.page):
        raise InputError("two sales at the same place of a logged page, must be one: number pages by request")


def _check_candidate(candidate: CandidatePages, n_places: int) -> None:
    lowest = candidate.probability.min(initial=0)
    highest = np.bincount(_spot(candidate, n_places), weights=candidate.probability).max(initial=0)
    for name, value in (("lowest probability", lowest), ("highest sum of probabilities of a place", highest)):
        if not -1e-9 <= value <= 1 + 1e-9:
            raise ConfigurationError(
                f"{name} of the candidate policy == {value}, must be in [0, 1]: give the probabilities of what it "
                "shows, each sale of a place once"
            )
