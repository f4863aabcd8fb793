"""Intervals that stay valid however often one looks: the asymptotic confidence sequence.

Under attribution windows the users of yesterday go on buying. Their later sums correlate with the earlier ones more
than those of a martingale would, so that looks differ less than the sequence allows for.

Source: Waudby-Smith et al. 2021, Time-uniform central limit theory and asymptotic confidence sequences: eq. 9, and the
choice of rho of its appendix.
"""

import math

from recsys.experiments.analysis.results import AlwaysValid, Interval


def always_valid(difference: float, standard_error: float, n: int, alpha: float, tune_n: int) -> AlwaysValid:
    """Return the interval that holds at all looks together, and its p value.

    Args:
        difference: Of the two variants.
        standard_error: Of the difference; at least 0.
        n: Users of both.
        alpha: One minus the level.
        tune_n: The number of users at which the interval is tightest.
    """
    half = standard_error * critical_value(n, alpha, tune_n)
    interval = Interval(difference - half, difference + half)
    return AlwaysValid(interval, _p(difference, standard_error, n * _mixing(alpha, tune_n)))


def critical_value(n: int, alpha: float, tune_n: int) -> float:
    """Return so many standard errors the interval reaches to each side; 1.96 would hold at one look."""
    spread = n * _mixing(alpha, tune_n)
    return math.sqrt(2 * (spread + 1) / spread * math.log(math.sqrt(spread + 1) / alpha))


def _mixing(alpha: float, tune_n: int) -> float:
    """Return rho squared: the variance of the mixture, for the tightest interval at `tune_n`."""
    return (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tune_n


def _p(difference: float, standard_error: float, spread: float) -> float:
    """Return the alpha at which the interval of this mixture would end at zero."""
    if standard_error == 0:
        return float(difference == 0)
    z = difference / standard_error
    return min(1.0, math.sqrt(spread + 1) * math.exp(-z * z * spread / (2 * (spread + 1))))
