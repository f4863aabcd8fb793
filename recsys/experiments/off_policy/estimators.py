"""Off-policy evaluation: the value of a candidate policy, estimated from pages that were drawn at random."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

from recsys.errors import ConfigurationError, InputError
from recsys.experiments.off_policy.logged_pages import CandidatePages, LoggedPages, PagePositions, shown_probability
from recsys.experiments.off_policy.reward_model import cross_fitted_rewards
from recsys.metrics import Estimate
from recsys.wording import plural

IPS, SNIPS, DOUBLY_ROBUST = "ips", "snips", "doubly_robust"

FEWEST_REWARDED = 20
"""Fewest rewarded positions for an interval that can be relied on; see `evaluate`."""

Predict = Callable[[PagePositions], NDArray[np.float64]]
"""Returns the expected reward of each row, for `DOUBLY_ROBUST`; fitted on other users or on earlier pages."""


@dataclass(frozen=True)
class Evaluation:
    """The value of a candidate policy in reward per page, with diagnostics of the estimates."""

    logged: Estimate
    """Mean reward of the logged pages."""
    values: dict[str, Estimate]
    """Estimated mean reward under the candidate policy, by estimator: `IPS`, `SNIPS` and `DOUBLY_ROBUST`."""
    differences: dict[str, Estimate]
    """`values` minus `logged`; the interval accounts for both being from the same pages."""
    pages: int
    users: int
    rewarded: int
    """Number of logged positions with a reward at which the candidate might show the same sale; the estimates rest on
    these alone."""
    effective_places: float
    """Effective sample size: the number of positions of equal weight that would give the same precision; Kish 1965."""
    max_weight: float
    """Largest weight before clipping."""
    clipped: float
    """Share of the logged positions whose weight was clipped."""
    support: Estimate
    """Overlap: share of the candidate's sales that the logging policy could have shown. `IPS` misses the rest, and what
    clipping removes. An interval above 1 shows that propensities are wrong."""

    @property
    def is_enough(self) -> bool:
        """Whether there are enough rewards to rely on the intervals."""
        return self.rewarded >= FEWEST_REWARDED


def evaluate(
    pages: LoggedPages, candidate: CandidatePages, predict: Predict | None = None, clip: float = np.inf
) -> Evaluation:
    """Estimate the mean reward per page of a candidate policy on logged pages, with 95 % intervals.

    The item-position model is assumed: the reward of a sale depends on the user, the sale and its position, not on the
    other sales of the page. Each position then is a trial of its own; its weight is the candidate's probability of
    showing the logged sale there, divided by the propensity. Weights of whole pages would nearly always be 0: a page of
    ten sales hardly ever equals the candidate's.

    `IPS`, inverse propensity score, is unbiased. `SNIPS`, self-normalised, divides by the sum of the weights at each
    position instead of the number of pages, and has a smaller variance. `DOUBLY_ROBUST` adds weighted residuals to
    predicted rewards, and is unbiased if the propensities or the predictions are right.

    Intervals are Student's t, clustered by user. Their degrees of freedom are the effective number of users who carry
    the variance, which is small if few are rewarded. In simulated logs the coverage was 93 to 97 % with `rewarded` of
    about 15 or more, and 88 to 96 % with 4.

    Args:
        pages: The logged pages with their rewards.
        candidate: The pages that the candidate policy would show.
        predict: Predicts rewards; by default a ridge regression on sale and position, fitted on other users.
        clip: Upper limit of the weights: reduces the variance, and biases the value downwards.

    Raises:
        InputError: If the log is too small or lacks overlap, or a logged value breaks a rule.
        ConfigurationError: If the candidate's probabilities or `clip` break a rule.

    Source:
        Li et al. 2018 (item-position model); Swaminathan and Joachims 2015 (SNIPS); Dudík et al. 2014
        (doubly robust); Carter, Schnepel and Steigerwald 2017 (effective number of clusters).
    """
    if not clip > 0:
        raise ConfigurationError(f"clip == {clip}, must be above 0: give the largest weight allowed, or leave it out")
    ratio = shown_probability(pages, candidate) / pages.propensity
    weight = np.minimum(ratio, clip)
    user = pd.factorize(pages.users, use_na_sentinel=False)[0]
    _require_users(pages, user)
    _require_overlap(pages, candidate, weight)
    earned = _sum_by_page(pages, pages, pages.reward)
    values = _page_values(pages, candidate, weight, user, predict)
    return Evaluation(
        logged=_clustered_mean(earned, user),
        values={name: _clustered_mean(value, user) for name, value in values.items()},
        differences={name: _clustered_mean(value - earned, user) for name, value in values.items()},
        pages=len(earned),
        users=int(user.max()) + 1,
        rewarded=int(np.count_nonzero(weight * pages.reward)),
        effective_places=float(weight.sum() ** 2 / (weight @ weight)),
        max_weight=float(ratio.max()),
        clipped=float((ratio > clip).mean()),
        support=_clustered_mean(_sum_by_page(pages, pages, weight) * len(earned) / candidate.probability.sum(), user),
    )


def _page_values(
    pages: LoggedPages,
    candidate: CandidatePages,
    weight: NDArray[np.float64],
    user: NDArray[np.int64],
    predict: Predict | None,
) -> dict[str, NDArray[np.float64]]:
    """Return a value per page for each estimator, whose mean is the estimate and whose variance gives its error."""
    if predict is None:
        of_shown, of_candidate = cross_fitted_rewards(pages, candidate, user)
    else:
        of_shown, of_candidate = predict(pages), predict(candidate)
    predicted = _sum_by_page(pages, candidate, candidate.probability * of_candidate)
    return {
        IPS: _sum_by_page(pages, pages, weight * pages.reward),
        SNIPS: _self_normalised(pages, candidate, weight),
        DOUBLY_ROBUST: predicted + _sum_by_page(pages, pages, weight * (pages.reward - of_shown)),
    }


def _self_normalised(pages: LoggedPages, candidate: CandidatePages, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return linearised values by the delta method: a ratio of two sums has the variance of its residuals."""
    n_positions = int(max(pages.position.max(), candidate.position.max())) + 1
    expected = np.bincount(candidate.position, weights=candidate.probability, minlength=n_positions)
    weights = np.bincount(pages.position, weights=weight, minlength=n_positions)
    rewards = np.bincount(pages.position, weights=weight * pages.reward, minlength=n_positions)
    shown = weights > 0
    rate = np.divide(rewards, weights, where=shown, out=np.zeros(n_positions))
    scale = np.divide(expected, weights, where=shown, out=np.zeros(n_positions))
    residuals = scale[pages.position] * weight * (pages.reward - rate[pages.position])
    estimated = candidate.probability * rate[candidate.position]
    return _sum_by_page(pages, pages, residuals) + _sum_by_page(pages, candidate, estimated)


def _sum_by_page(pages: LoggedPages, rows: PagePositions, values: NDArray) -> NDArray[np.float64]:
    return np.bincount(rows.page, weights=values, minlength=len(pages.users)).astype(np.float64)


def _clustered_mean(values: NDArray[np.float64], user: NDArray[np.int64]) -> Estimate:
    """Return the mean over pages with its interval, clustered by user; `user` numbers the user of each page."""
    mean = float(values.mean())
    squares = np.bincount(user, weights=values - mean) ** 2
    total = squares.sum()
    if total == 0:
        return Estimate(mean, mean, mean)
    # With the normal quantile 1.96, coverage was 87 % in simulated logs with 17 rewards, and 77 % with 4.
    freedom = max(total**2 / (squares @ squares) - 1, 1)
    error = np.sqrt(total * len(squares) / (len(squares) - 1)) / len(values)
    half_width = float(student_t.ppf(0.975, freedom) * error)
    return Estimate(mean, mean - half_width, mean + half_width)


def _require_users(pages: LoggedPages, user: NDArray[np.int64]) -> None:
    n_users = len(np.unique(user))
    if n_users < 2:
        raise InputError(
            f"the log has {plural(len(pages.users), 'page')} of {plural(n_users, 'user')}, needs 2 users or more for "
            "an interval: wait for more pages of the exploring variant"
        )


def _require_overlap(pages: LoggedPages, candidate: CandidatePages, weight: NDArray[np.float64]) -> None:
    matched = np.unique(pages.position[weight > 0])
    missing = np.setdiff1d(candidate.position[candidate.probability > 0], matched)
    if len(missing) or not len(matched):
        raise InputError(
            f"no overlap: the candidate's sales were shown by none of {plural(len(pages.request_ids), 'page')} at "
            f"position {', '.join(map(str, missing)) or 0}, needs 1 page or more for each position: explore with a "
            "higher temperature or floor, wait for more pages, or check that both have the same sale ids"
        )
    if not np.any(weight * pages.reward):
        raise InputError(
            f"rewarded positions == 0 of {np.count_nonzero(weight):,} at which the candidate shows the logged sale, "
            "must be 1 or more: wait for more pages, or count visits instead of purchases"
        )
