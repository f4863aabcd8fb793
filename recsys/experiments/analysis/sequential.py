"""Always-valid intervals: the asymptotic confidence sequence, whose coverage holds over all looks together.

The theory assumes a martingale, whose increments are uncorrelated. With attribution windows, the outcomes of users
included earlier still change: successive estimates are correlated more strongly, which makes the sequence conservative.

Source: Waudby-Smith et al. 2021, Time-uniform central limit theory and asymptotic confidence sequences: eq. 9, and the
choice of rho of its appendix.
"""

import math

from recsys.experiments.analysis.results import AlwaysValid, Interval
from recsys.experiments.analysis.skewness import skewed_score, symmetric_score


def always_valid(
    difference: float, standard_error: float, n: int, alpha: float, tune_n: int, skewness: float = 0.0
) -> AlwaysValid:
    """Return the always-valid interval and p value of a difference.

    Args:
        difference: The difference of the two variants.
        standard_error: Its standard error; at least 0.
        n: Number of users in both variants.
        alpha: One minus the confidence level.
        tune_n: The number of users at which the interval is tightest.
        skewness: Of the difference's sampling distribution, for which the interval is corrected.
    """
    reach = critical_value(n, alpha, tune_n)
    low, high = (difference - standard_error * skewed_score(score, skewness) for score in (reach, -reach))
    if standard_error == 0:
        return AlwaysValid(Interval(low, high), float(difference == 0))
    score = symmetric_score(difference / standard_error, skewness)
    return AlwaysValid(Interval(low, high), _p_value(score, n * _rho_squared(alpha, tune_n)))


def critical_value(n: int, alpha: float, tune_n: int) -> float:
    """Return the half-width of the interval in standard errors; for a single look it would be 1.96 at alpha 0.05."""
    n_rho_squared = n * _rho_squared(alpha, tune_n)
    return math.sqrt(2 * (n_rho_squared + 1) / n_rho_squared * math.log(math.sqrt(n_rho_squared + 1) / alpha))


def _rho_squared(alpha: float, tune_n: int) -> float:
    """Return rho squared, the variance of the mixing distribution, that makes the interval tightest at `tune_n`."""
    return (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tune_n


def _p_value(score: float, n_rho_squared: float) -> float:
    """Return the alpha at which the interval with this rho would have an end at zero."""
    return min(1.0, math.sqrt(n_rho_squared + 1) * math.exp(-score * score * n_rho_squared / (2 * (n_rho_squared + 1))))
