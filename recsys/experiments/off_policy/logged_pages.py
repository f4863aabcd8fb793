"""Pages that were drawn at random, what they earned, and what another policy would have shown in their stead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
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


def logged_pages(exposures: pd.DataFrame, rewards: pd.DataFrame) -> LoggedPages:
    """Read the pages of a variant that explores.

    Args:
        exposures: Rows of table `exposures_compacted`: columns `request_id`, `user_id`, `sale_ids`, `propensities`.
            Pages without propensities, such as fallbacks, are left out: the variant did not draw them. Copies of a
            page count once.
        rewards: Columns `request_id`, `sale_id`, `reward`; those of a sale on a page are summed, others ignored.

    Raises:
        InputError: If no page has propensities, or one not as many as sales.
    """
    drawn = exposures[exposures["propensities"].notna()].drop_duplicates("request_id", ignore_index=True)
    _require_propensities(exposures, drawn)
    shown = drawn[["request_id", "sale_ids", "propensities"]].assign(page=drawn.index)
    shown = shown.explode(["sale_ids", "propensities"]).dropna(subset=["sale_ids"])
    shown = shown.rename(columns={"sale_ids": "sale_id"})
    earned = rewards.groupby(["request_id", "sale_id"], as_index=False)["reward"].sum()
    shown = shown.merge(earned, how="left", on=["request_id", "sale_id"])
    return LoggedPages(
        shown["page"].to_numpy(np.int64),
        shown.groupby("page").cumcount().to_numpy().astype(np.int64),
        shown["sale_id"].to_numpy(object),
        shown["propensities"].to_numpy(np.float64),
        shown["reward"].fillna(0).to_numpy(np.float64),
        drawn["request_id"].to_numpy(object),
        drawn["user_id"].to_numpy(object),
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
    sale = np.array([sale for ranking in rankings for sale in ranking], object)
    return CandidatePages(page, place, sale, np.ones(len(page)))


def best_scored_pages(pages: LoggedPages, scores: pd.DataFrame) -> CandidatePages:
    """Return the pages of a policy that always shows the sales with the highest scores, ties by sale_id.

    Args:
        pages: What was logged.
        scores: Columns `request_id`, `sale_id`, `score`: all sales that the policy could show on each page.
    """
    ordered = scores.sort_values(["score", "sale_id"], ascending=[False, True])
    rankings = ordered.groupby("request_id")["sale_id"].agg(list).to_dict()
    return ranked_pages(pages, lambda request: rankings.get(request, []))


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


def _require_propensities(exposures: pd.DataFrame, drawn: pd.DataFrame) -> None:
    if drawn.empty:
        raise InputError(
            f"propensities is missing on all of {len(exposures):,} pages, needed on at least 1: what another policy "
            "would have earned can be told only from pages drawn at random; give a variant 'exploration'"
        )
    unequal = drawn[drawn["sale_ids"].str.len() != drawn["propensities"].str.len()]
    if not unequal.empty:
        page = unequal.iloc[0]
        raise InputError(
            f"page '{page.request_id}' has {len(page.propensities)} propensities and {len(page.sale_ids)} sales, must "
            "have one for each: leave out the pages of the service version that logged them"
        )


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
