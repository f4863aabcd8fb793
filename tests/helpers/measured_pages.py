"""Small tables of pages of a backtest."""

import pandas as pd

from recsys.backtest.pages import Pages
from recsys.instants import DAY
from recsys.metrics import ranking_metrics
from recsys.testing.shops import AS_OF


def row(policy: str, user: str, ranks: list[int], bought: list[int], *, day: int = 0, **others) -> dict:
    """Return a row of table `page_metrics` with sales as positions; by default without known events."""
    page = {"as_of": AS_OF + day * DAY, "user_id": user, "policy": policy, "bought": bought, "ranks": ranks}
    return {
        **page,
        "known_events": 0,
        "has_order": True,
        "shown": [],
        **ranking_metrics(pd.Series(ranks).to_numpy()),
        **others,
    }


def measured(rows: list[dict]) -> Pages:
    return Pages.of(pd.DataFrame(rows))
