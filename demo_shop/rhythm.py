"""Seasonality of traffic and openings: by season, day of the week and hour of the day, all in UTC."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Seconds = NDArray[np.int64]

HOUR = 3_600
DAY = 24 * HOUR

# Relative traffic of each hour: low at night, a small peak at lunch, the main peak in the evening.
_HOURS = np.array([8, 4, 2, 2, 2, 5, 14, 30, 42, 46, 48, 50, 58, 54, 46, 44, 46, 52, 66, 86, 100, 92, 58, 24])
# Monday to Sunday.
_VISIT_WEEK = np.array([1.05, 1.1, 1.05, 1.0, 0.85, 0.8, 1.15])
_OPENING_WEEK = np.array([1.1, 1.15, 1.1, 1.1, 1.05, 0.8, 0.7])
_PEAK_DAY, _VISIT_SWING, _OPENING_SWING = 20, 0.2, 0.1


def season(days: NDArray[np.int64], peak_day: int) -> NDArray[np.float64]:
    """Return the season of each day (since 1970), a cosine of one year: 1 at `peak_day`, -1 half a year later."""
    day_of_year = pd.to_datetime(days, unit="D").dayofyear.to_numpy()
    return np.cos(2 * np.pi * (day_of_year - peak_day) / 365.25)


def _weekday(days: NDArray[np.int64]) -> NDArray[np.int64]:
    return (days + 3) % 7  # 1970-01-01 was a Thursday


def openings(days: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the number of openings of each day (since 1970) relative to the mean day."""
    return _OPENING_WEEK[_weekday(days)] * (1 + _OPENING_SWING * season(days, _PEAK_DAY))


def session_starts(positions: NDArray[np.float64], starts_at: int, ends_at: int) -> Seconds:
    """Return the instants (seconds since 1970) at which given shares, in [0, 1), of all traffic have passed."""
    edges = np.arange(starts_at, ends_at + 1, HOUR)
    days = edges[:-1] // DAY
    traffic = _HOURS[edges[:-1] // HOUR % 24] * _VISIT_WEEK[_weekday(days)]
    traffic = traffic * (1 + _VISIT_SWING * season(days, _PEAK_DAY))
    cumulated = np.concatenate([[0.0], np.cumsum(traffic)])
    return np.interp(positions * cumulated[-1], cumulated, edges).astype(np.int64)
