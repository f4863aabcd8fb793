"""What another policy would have earned on pages that were drawn at random."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

from recsys.errors import ConfigurationError, InputError
from recsys.experiments.off_policy.logged_pages import CandidatePages, LoggedPages, Places, shown_probability
from recsys.experiments.off_policy.reward_model import cross_fitted_rewards
from recsys.metrics import Estimate

IPS, SNIPS, DOUBLY_ROBUST = "ips", "snips", "doubly_robust"

Predict = Callable[[Places], NDArray[np.float64]]
"""Gives the expected reward of each sale at its place; for `doubly_robust`, fitted on other users or earlier pages."""


@dataclass(frozen=True)
class Evaluation:
    """A candidate policy's value, a page, and how far the log can tell it."""

    logged: Estimate
    """What the pages earned as they were."""
    values: dict[str, Estimate]
    """What they would have earned, by estimator: `IPS`, `SNIPS` and `DOUBLY_ROBUST`."""
    differences: dict[str, Estimate]
    """By how much that is more than `logged`; the interval knows that both are of the same pages."""
    pages: int
    users: int
    rewarded: int
    """Places with a reward at which the candidate might show the same sale: all that an estimate rests on."""
    effective_places: float
    """Logged places of equal weight that would tell as much; Kish 1965."""
    max_weight: float
    """Before clipping."""
    clipped: float
    """Share of the places whose weight was cut."""
    support: Estimate
    """Share of what the candidate shows that the log could have shown; `IPS` misses the rest, and what clipping cuts.
    An interval above 1 tells that propensities are wrong."""


def evaluate(
    pages: LoggedPages, candidate: CandidatePages, predict: Predict | None = None, clip: float = np.inf
) -> Evaluation:
    """Estimate what a candidate policy would have earned on logged pages, with 95 % intervals.

    The item-position model: what a sale earns depends on the user, the sale and its place, not on the other sales of
    the page. Each place then is a trial of its own, weighted by the candidate's probability of showing the sale there,
    over the propensity. With weights of whole pages none of ten sales would ever match a candidate's.

    `IPS` is unbiased; `SNIPS` divides by the weights of each place instead of by the pages, and is steadier;
    `DOUBLY_ROBUST` adds weighted residuals to a predicted reward, and is right where either weights or predictions are.

    Intervals are Student's t on the pages of a user taken together, with as many degrees of freedom as there are users
    who carry the variance: few, where few are rewarded. From some 15 `rewarded` on they hold the truth in 93 to 97 %
    of simulated logs, at 4 in 88 to 96 %.

    Args:
        pages: What was shown and earned.
        candidate: What would be shown.
        predict: Expected rewards; by default a ridge regression on sale and place, fitted on other users.
        clip: Weights above are cut to it: less noise, and a value that is too small by what they lose.

    Raises:
        InputError: If the log has too little for any estimate, or what it has breaks a rule.
        ConfigurationError: If the candidate's probabilities or the clip break a rule.

    Source:
        Li et al. 2018 (item-position model); Swaminathan and Joachims 2015 (SNIPS); Dudík et al. 2014
        (doubly robust); Carter, Schnepel and Steigerwald 2017 (effective number of clusters).
    """
    if not clip > 0:
        raise ConfigurationError(f"clip == {clip}, must be above 0: give the largest weight, or leave it out")
    ratio = shown_probability(pages, candidate) / pages.propensity
    weight = np.minimum(ratio, clip)
    user = pd.factorize(pages.users, use_na_sentinel=False)[0]
    _require_users(pages, user)
    _require_overlap(pages, candidate, weight)
    earned = _by_page(pages, pages, pages.reward)
    values = _values(pages, candidate, weight, user, predict)
    return Evaluation(
        logged=_mean(earned, user),
        values={name: _mean(value, user) for name, value in values.items()},
        differences={name: _mean(value - earned, user) for name, value in values.items()},
        pages=len(earned),
        users=int(user.max()) + 1,
        rewarded=int(np.count_nonzero(weight * pages.reward)),
        effective_places=float(weight.sum() ** 2 / (weight @ weight)),
        max_weight=float(ratio.max()),
        clipped=float((ratio > clip).mean()),
        support=_mean(_by_page(pages, pages, weight) * len(earned) / candidate.probability.sum(), user),
    )


def _values(
    pages: LoggedPages,
    candidate: CandidatePages,
    weight: NDArray[np.float64],
    user: NDArray[np.int64],
    predict: Predict | None,
) -> dict[str, NDArray[np.float64]]:
    """Return for each estimator values of pages: their mean is the estimate, their spread its error."""
    if predict is None:
        of_shown, of_candidate = cross_fitted_rewards(pages, candidate, user)
    else:
        of_shown, of_candidate = predict(pages), predict(candidate)
    predicted = _by_page(pages, candidate, candidate.probability * of_candidate)
    return {
        IPS: _by_page(pages, pages, weight * pages.reward),
        SNIPS: _self_normalised(pages, candidate, weight),
        DOUBLY_ROBUST: predicted + _by_page(pages, pages, weight * (pages.reward - of_shown)),
    }


def _self_normalised(pages: LoggedPages, candidate: CandidatePages, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linearise: a ratio of two sums has the spread of its residuals."""
    n_places = int(max(pages.place.max(), candidate.place.max())) + 1
    expected = np.bincount(candidate.place, weights=candidate.probability, minlength=n_places)
    weights = np.bincount(pages.place, weights=weight, minlength=n_places)
    rewards = np.bincount(pages.place, weights=weight * pages.reward, minlength=n_places)
    shown = weights > 0
    rate = np.divide(rewards, weights, where=shown, out=np.zeros(n_places))
    scale = np.divide(expected, weights, where=shown, out=np.zeros(n_places))
    residuals = scale[pages.place] * weight * (pages.reward - rate[pages.place])
    return _by_page(pages, pages, residuals) + _by_page(pages, candidate, candidate.probability * rate[candidate.place])


def _by_page(pages: LoggedPages, places: Places, values: NDArray) -> NDArray[np.float64]:
    return np.bincount(places.page, weights=values, minlength=len(pages.users)).astype(np.float64)


def _mean(values: NDArray[np.float64], user: NDArray[np.int64]) -> Estimate:
    """Return the mean over pages; `user` numbers the user of each page."""
    mean = float(values.mean())
    squares = np.bincount(user, weights=values - mean) ** 2
    total = squares.sum()
    if total == 0:
        return Estimate(mean, mean, mean)
    # with a normal's 1.96, intervals would hold the truth in 87 % of logs with 17 rewards, in 77 % with 4
    freedom = max(total**2 / (squares @ squares) - 1, 1)
    error = np.sqrt(total * len(squares) / (len(squares) - 1)) / len(values)
    half_width = float(student_t.ppf(0.975, freedom) * error)
    return Estimate(mean, mean - half_width, mean + half_width)


def _require_users(pages: LoggedPages, user: NDArray[np.int64]) -> None:
    if len(np.unique(user)) < 2:
        raise InputError(
            f"the log has {len(pages.users):,} pages of {len(np.unique(user))} user, needs 2 or more for an interval: "
            "wait for more pages of the exploring variant"
        )


def _require_overlap(pages: LoggedPages, candidate: CandidatePages, weight: NDArray[np.float64]) -> None:
    matched = np.unique(pages.place[weight > 0])
    missing = np.setdiff1d(candidate.place[candidate.probability > 0], matched)
    if len(missing) or not len(matched):
        raise InputError(
            f"the candidate's sales were shown by none of {len(pages.request_ids):,} pages at place "
            f"{', '.join(map(str, missing)) or 0}, needs 1 page or more for each place: explore with a higher "
            "temperature or floor, wait for more pages, or check that both mean the same sales"
        )
    if not np.any(weight * pages.reward):
        raise InputError(
            f"0 of {np.count_nonzero(weight):,} places at which the candidate shows the sale that was shown had a "
            "reward, needs 1 or more: wait for more pages, or count visits instead of purchases"
        )
