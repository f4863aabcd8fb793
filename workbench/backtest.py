"""The result of a backtest, as frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame

from jobs.backtest.backtest import report_of
from jobs.backtest.measure_peers import PEER_PAGES
from jobs.engine.run import Run
from recsys.storage.places import Place
from recsys.tables.night import PAGE_METRICS
from workbench.frames import in_memory

_ESTIMATE = {"value", "low", "high"}


@dataclass(frozen=True, eq=False)
class Backtest:
    """The result of a backtest.

    Args:
        result: From `jobs.backtest.backtest.backtest`, which describes it: everything that the report shows.
        run: The run.
    """

    result: Mapping[str, Any]
    run: Run

    @property
    def report(self) -> Place:
        """The report, an HTML file."""
        return report_of(self.run)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The metrics of each policy, best first; those with a 95 % interval have columns `<metric>_low`, `_high`."""
        rows = {policy: dict(_flat(values)) for policy, values in self.result["policies"].items()}
        return pd.DataFrame.from_dict(rows, "index").rename_axis("policy").sort_values("ndcg@10", ascending=False)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """The differences between selected pairs of policies on the same pages, with their 95 % intervals."""
        rows = {pair: dict(_flat(values)) for pair, values in self.result["differences"].items()}
        return pd.DataFrame.from_dict(rows, "index").rename_axis("pair")

    @cached_property
    def coefficients(self) -> pd.DataFrame:
        """The coefficients of the meta-model by feature, with a sentence about each."""
        return pd.DataFrame(self.result["coefficients"]).set_index("feature")

    @cached_property
    def pages(self) -> pd.DataFrame:
        """The ranked pages: one row per user, day, policy, and sale that was among the first ten or was bought.

        Columns: user_id, as_of (the midnight whose knowledge ranks), first_purchase_at (the sales are those open then),
        policy, sale_id, rank from 1, score (of the first ten; log-odds by a meta-model), bought.
        """
        columns = ("user_id", "as_of", "first_purchase_at", "policy", "shown", "scores", "bought", "ranks")
        tables = [PAGE_METRICS, *([PEER_PAGES] if "peers" in self.result else [])]
        first, *others = (table.read(self.run.spark, self.run.outputs).select(*columns) for table in tables)
        table = in_memory(reduce(DataFrame.unionByName, others, first), *columns[:2], "policy")
        rows = [
            (*key, sale, rank, score, sale in set(bought))
            for *key, shown, scores, bought, ranks in table.itertuples(index=False)
            for sale, rank, score in (
                *zip(shown, range(1, len(shown) + 1), scores, strict=True),
                *((sale, rank, None) for sale, rank in zip(bought, ranks, strict=True) if sale not in set(shown)),
            )
        ]
        return pd.DataFrame(rows, columns=[*columns[:4], "sale_id", "rank", "score", "bought"])

    def __repr__(self) -> str:
        """Say what was measured, and how good the best policies are."""
        return f"{self._title}\n{self.metrics[['ndcg@10']].head(10)}"

    def _repr_html_(self) -> str:
        """Show the metrics of each policy, and where the report is."""
        shown = self.metrics[[name for name in ("ndcg@10", "recall@10", "hit_rate@10", "mrr") if name in self.metrics]]
        return shown.style.format("{:.4f}").set_caption(self._title).to_html()

    @property
    def _title(self) -> str:
        window = self.result["window"]
        return f"{window['from']} to {window['to']}: {window['pages']:,} pages; report: {self.report}"


def _flat(values: Mapping[str, Any]) -> Any:
    """Yield each metric, and the ends of its interval where it has one."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value.keys() >= _ESTIMATE:
            yield from ((name, value["value"]), (f"{name}_low", value["low"]), (f"{name}_high", value["high"]))
        elif not isinstance(value, Mapping):
            yield name, value
