"""The preference of users between two interleaved policies: a paired comparison within each user."""

import math

from scipy.stats import t as student

from recsys.experiments.analysis.outcomes import credit, nonzero
from recsys.experiments.analysis.results import AlwaysValid, Difference, Interleaving, Interval
from recsys.experiments.analysis.sequential import always_valid
from recsys.experiments.analysis.skewness import FEWEST_NONZERO
from recsys.experiments.phase_summary import Sums
from recsys.experiments.settings import Experiment


def preference(experiment: Experiment, users: Sums) -> Interleaving:
    """Compare the credits of the two teams by a paired t-test over users.

    Args:
        experiment: An interleaving experiment, with two variants.
        users: Sums of the credits over all its users.
    """
    control, treatment = (variant.key for variant in experiment.variants)
    credits = {key: users.sums.get(credit(key), 0.0) for key in (control, treatment)}
    difference, sequential = _paired_test(experiment, users, credit(control), credit(treatment)) or (None, None)
    # If users have no preference, their differences are symmetric around 0: skewness needs no correction.
    buyers = sum(users.sums.get(nonzero(credit(key)), users.n) for key in (control, treatment))
    return Interleaving(treatment, users.n, credits, difference, sequential, buyers >= 2 * FEWEST_NONZERO)


def _paired_test(
    experiment: Experiment, users: Sums, control: str, treatment: str
) -> tuple[Difference, AlwaysValid] | None:
    """Test the mean over users of treatment's minus control's credits; None with fewer than two users."""
    if users.n < 2:
        return None
    analysis = experiment.analysis
    mean = (users.sums[treatment] - users.sums[control]) / users.n
    squares = (
        users.product(treatment, treatment) - 2 * users.product(control, treatment) + users.product(control, control)
    )
    error = math.sqrt(max(0.0, squares / users.n - mean * mean) / (users.n - 1))
    half_width = float(student.ppf(1 - analysis.alpha / 2, users.n - 1)) * error
    p = 2 * float(student.sf(abs(mean) / error, users.n - 1)) if error else float(mean == 0)
    sequential = always_valid(mean, error, users.n, analysis.alpha, analysis.sequential.tune_n)
    return Difference(mean, Interval(mean - half_width, mean + half_width), p), sequential
