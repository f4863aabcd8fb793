"""A holdout as an experiment: its users against all others, which shows what all experiments together have changed."""

from datetime import datetime

from recsys.experiments.settings import AnalysisSettings, Experiment, ExperimentFile, Holdout, Variant
from recsys.logs.records import HOLDOUT

OUTSIDE = "outside"
"""The variant of the users outside of a holdout; that of its users is `HOLDOUT`, as in the logs."""

DEFAULT_ANALYSIS = AnalysisSettings.model_validate(
    {
        "attribution_days": 28,
        "primary": [{"name": "purchases_per_user", "type": "mean", "column": "purchases"}],
        "secondary": [
            {"name": "revenue_per_user", "type": "mean", "column": "revenue", "winsorize": 0.999},
            {"name": "visits_per_user", "type": "mean", "column": "visits"},
        ],
    }
)
"""How a holdout without an `analysis` is judged."""


def holdout_of(file: ExperimentFile, key: str) -> Holdout | None:
    """Return a file's holdout by its key; None if it has no such holdout."""
    return next((each for each in file.holdouts if each.key == key), None)


def earlier_holdouts(file: ExperimentFile, holdout: Holdout) -> list[str]:
    """Return the keys of the holdouts before this one, whose users never reach it."""
    keys = [each.key for each in file.holdouts]
    return keys[: keys.index(holdout.key)]


def as_experiment(file: ExperimentFile, holdout: Holdout, start: datetime, end: datetime) -> Experiment:
    """Return the comparison of a holdout with everybody outside of it as an experiment, with the holdout as control.

    Its variants assign the same users as the holdout's share.

    Args:
        file: The holdout's file.
        holdout: The holdout.
        start: Pages from this instant on count.
        end: Users who come before this instant count.
    """
    inside = Variant(key=HOLDOUT, weight=holdout.share, **dict(holdout.serve))
    outside = Variant(key=OUTSIDE, weight=1 - holdout.share, **dict(file.default))
    return Experiment(
        key=holdout.key,
        status="running",
        seed=holdout.seed,
        start=start,
        end=end,
        variants=(inside, outside),
        analysis=holdout.analysis or DEFAULT_ANALYSIS,
    )
