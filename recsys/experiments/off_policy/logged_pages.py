"""Pages that were drawn at random, their rewards, and the pages that a candidate policy would have shown instead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.errors import ConfigurationError, InputError
from recsys.wording import plural


@dataclass(frozen=True)
class PagePositions:
    """Sales at positions of pages, one row per sale; every array has shape (n_rows,)."""

    page: NDArray[np.int64]
    """Number of the page, from 0."""
    position: NDArray[np.int64]
    """Position on the page; 0 is the top."""
    sale: NDArray[np.object_]
    """Sale id."""


@dataclass(frozen=True)
class LoggedPages(PagePositions):
    """The logged pages; at most one sale at each position of a page."""

    propensity: NDArray[np.float64]
    """In (0, 1]; as `recsys.experiments.exploration.draw_page` defines it."""
    reward: NDArray[np.float64]
    """The reward of the sale at this position, such as its attributed purchases."""
    request_ids: NDArray[np.object_]
    """By page; shape (n_pages,)."""
    users: NDArray[np.object_]
    """User id by page; shape (n_pages,). Rewards of the same user's pages may be correlated."""


@dataclass(frozen=True)
class CandidatePages(PagePositions):
    """A policy's choices for the same pages: several rows per position where it is random, none where it shows none."""

    probability: NDArray[np.float64]
    """The probability that the policy shows the sale at this position of this page."""


def logged_pages(exposures: pa.Table, rewards: pa.Table) -> LoggedPages:
    """Read the pages of a variant with exploration.

    Args:
        exposures: Rows of table `exposures_compacted`: columns `request_id`, `user_id`, `sale_ids`, `propensities`.
            Pages without propensities, such as fallbacks, were not drawn and are left out. Copies of a page count once.
        rewards: Columns `request_id`, `sale_id`, `reward`; rewards of the same sale and page are summed, those of no
            logged page or sale are ignored.

    Raises:
        InputError: If no page has propensities, or a page has more or fewer propensities than sales.
    """
    drawn = exposures.filter(pc.is_valid(exposures["propensities"]))
    drawn = drawn.filter(pa.array(~drawn["request_id"].to_pandas().duplicated())).combine_chunks()
    sizes = _require_propensities(exposures, drawn)
    page = np.repeat(np.arange(len(sizes)), sizes)
    sale_ids = pc.list_flatten(drawn["sale_ids"]).cast(pa.string()).combine_chunks().dictionary_encode()
    sale, sales = sale_ids.indices.to_numpy(), sale_ids.dictionary
    page_of_reward = pc.index_in(rewards["request_id"].cast(pa.string()), drawn["request_id"])
    sale_of_reward = pc.index_in(rewards["sale_id"].cast(pa.string()), sales)
    # Null for a reward of no logged page or sale, which groupby then leaves out.
    cell = pc.add(pc.multiply(page_of_reward.cast(pa.int64()), len(sales)), sale_of_reward)
    earned = rewards["reward"].to_pandas().groupby(cell.to_pandas()).sum()
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
    """Return the pages of a deterministic policy: its best sales, as many as the logged page has.

    Args:
        pages: The logged pages.
        ranking_of: Returns the policy's sales for a request_id, best first, each at most once; all open at the time of
            the page.
    """
    sizes = np.bincount(pages.page, minlength=len(pages.request_ids))
    rankings = [ranking_of(request)[:size] for request, size in zip(pages.request_ids, sizes, strict=True)]
    lengths = [len(ranking) for ranking in rankings]
    page = np.repeat(np.arange(len(rankings)), lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    sale = np.concatenate([np.asarray(ranking, object) for ranking in rankings])
    return CandidatePages(page, position, sale, np.ones(len(page)))


def shown_probability(pages: LoggedPages, candidate: CandidatePages) -> NDArray[np.float64]:
    """Return the candidate's probability of each logged sale at its position; one value per row of `pages`.

    Raises:
        InputError: If a propensity is not in (0, 1], a reward is not finite, or two sales share a logged position.
        ConfigurationError: If a probability of the candidate is below 0, or those of a position sum to more than 1.
    """
    n_positions = max(pages.position.max(initial=0), candidate.position.max(initial=0)) + 1
    _check_logged(pages, n_positions)
    _check_candidate(candidate, n_positions)
    codes, sales = pd.factorize(np.concatenate([candidate.sale, pages.sale]))
    flat = np.concatenate([_flat_position(candidate, n_positions), _flat_position(pages, n_positions)])
    cells, cell = np.unique(flat * len(sales) + codes, return_inverse=True)
    n_candidate = len(candidate.page)
    probability = np.bincount(cell[:n_candidate], weights=candidate.probability, minlength=len(cells))
    return probability[cell[n_candidate:]].astype(np.float64)


def _flat_position(rows: PagePositions, n_positions: int) -> NDArray[np.int64]:
    """Return one number for each pair of page and position."""
    return rows.page * n_positions + rows.position


def _require_propensities(exposures: pa.Table, drawn: pa.Table) -> NDArray[np.int64]:
    """Return the number of sales on each page, after checking that each sale has a propensity."""
    if not len(drawn):
        raise InputError(
            f"propensities is missing on all of {plural(len(exposures), 'page')}, needed on at least 1: another policy "
            "can be evaluated only on pages drawn at random; give a variant 'exploration'"
        )
    sizes, given = (pc.list_value_length(drawn[name]).to_numpy() for name in ("sale_ids", "propensities"))
    unequal = np.flatnonzero(sizes != given)
    if len(unequal):
        page = unequal[0]
        raise InputError(
            f"page '{drawn['request_id'][page]}': number of propensities == {given[page]}, must be the number of "
            f"sales, {sizes[page]}: leave out the pages of the service version that logged it"
        )
    return sizes.astype(np.int64)


def _check_logged(pages: LoggedPages, n_positions: int) -> None:
    wrong = np.flatnonzero(~((pages.propensity > 0) & (pages.propensity <= 1)))
    if len(wrong):
        row = wrong[0]
        raise InputError(
            f"propensity == {pages.propensity[row]} of sale '{pages.sale[row]}' at position {pages.position[row]} of "
            f"page '{pages.request_ids[pages.page[row]]}' and {len(wrong) - 1:,} more, must be in (0, 1]: leave out "
            "pages that were not drawn at random"
        )
    if not np.isfinite(pages.reward).all():
        missing = int((~np.isfinite(pages.reward)).sum())
        raise InputError(
            f"reward is not finite in {plural(missing, 'row')}, must be finite in all: fill missing values"
        )
    if len(np.unique(_flat_position(pages, n_positions))) < len(pages.page):
        raise InputError("two sales at the same position of a logged page, must be one: number pages by request")


def _check_candidate(candidate: CandidatePages, n_positions: int) -> None:
    lowest = candidate.probability.min(initial=0)
    highest = np.bincount(_flat_position(candidate, n_positions), weights=candidate.probability).max(initial=0)
    for name, value in (("lowest probability", lowest), ("highest sum of probabilities of a position", highest)):
        if not -1e-9 <= value <= 1 + 1e-9:
            raise ConfigurationError(
                f"{name} of the candidate policy == {value}, must be in [0, 1]: give probabilities, with each sale of "
                "a position once"
            )
