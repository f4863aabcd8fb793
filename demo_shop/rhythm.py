"""When things happen: the seasons, the week and the hours of the day, all in UTC."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Seconds = NDArray[np.int64]

HOUR = 3_600
DAY = 24 * HOUR

# Relative traffic of each hour: quiet nights, a bump at lunch, most people on the sofa in the evening.
_HOURS = np.array([8, 4, 2, 2, 2, 5, 14, 30, 42, 46, 48, 50, 58, 54, 46, 44, 46, 52, 66, 86, 100, 92, 58, 24])
# Monday to Sunday.
_VISIT_WEEK = np.array([1.05, 1.1, 1.05, 1.0, 0.85, 0.8, 1.15])
_OPENING_WEEK = np.array([1.1, 1.15, 1.1, 1.1, 1.05, 0.8, 0.7])
_PEAK_DAY, _VISIT_SWING, _OPENING_SWING = 20, 0.2, 0.1


def season(days: NDArray[np.int64], peak_day: int) -> NDArray[np.float64]:
    """Tell how near each day (since 1970) is to the yearly peak: 1 at `peak_day`, -1 half a year later."""
    day_of_year = pd.to_datetime(days, unit="D").dayofyear.to_numpy()
    return np.cos(2 * np.pi * (day_of_year - peak_day) / 365.25)


def _weekday(days: NDArray[np.int64]) -> NDArray[np.int64]:
    return (days + 3) % 7  # 1970-01-01 was a Thursday


def openings(days: NDArray[np.int64]) -> NDArray[np.float64]:
    """Openings of each day (since 1970), against the mean day."""
    return _OPENING_WEEK[_weekday(days)] * (1 + _OPENING_SWING * season(days, _PEAK_DAY))


def session_starts(positions: NDArray[np.float64], starts_at: int, ends_at: int) -> Seconds:
    """Place positions in [0, 1) of the period's traffic on the clock, in seconds since 1970."""
    edges = np.arange(starts_at, ends_at + 1, HOUR)
    days = edges[:-1] // DAY
    traffic = _HOURS[edges[:-1] // HOUR % 24] * _VISIT_WEEK[_weekday(days)]
    traffic = traffic * (1 + _VISIT_SWING * season(days, _PEAK_DAY))
    cumulated = np.concatenate([[0.0], np.cumsum(traffic)])
    return np.interp(positions * cumulated[-1], cumulated, edges).astype(np.int64)
