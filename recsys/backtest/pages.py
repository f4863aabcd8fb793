"""The pages of a backtest: table `page_metrics` in memory, by policy."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.metrics import bootstrap


@dataclass(frozen=True)
class Pages:
    """The same pages in the same order for every policy."""

    by_policy: Mapping[str, pd.DataFrame]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Pages":
        """Sort the rows of table `page_metrics` by day and user, and group them by policy."""
        ordered = rows.sort_values(["as_of", "user_id"])
        return cls({str(policy): each for policy, each in ordered.groupby("policy", sort=False)})

    def __len__(self) -> int:
        """Number of pages."""
        return len(self.any)

    @property
    def any(self) -> pd.DataFrame:
        """The rows of one policy, for the columns that are equal for all: as_of, user_id, known_events, bought."""
        return next(iter(self.by_policy.values()))

    @property
    def users(self) -> NDArray:
        """The user of each page."""
        return self.any["user_id"].to_numpy()

    def metric(self, name: str, policies: Iterable[str]) -> dict[str, NDArray[np.float64]]:
        """Return a metric by policy, one value per page."""
        return {policy: self.by_policy[policy][name].to_numpy() for policy in policies}


def estimated(values: Mapping[Any, NDArray[np.float64]], users: NDArray, seed: int) -> dict[Any, dict[str, float]]:
    """Return the mean of each column with its bootstrap interval over users, as plain values for JSON."""
    return {name: estimate._asdict() for name, estimate in bootstrap(values, users, seed).items()}
