"""Spark frames as pandas frames."""

import pandas as pd
from pyspark.sql import DataFrame


def in_memory(frame: DataFrame, *order: str) -> pd.DataFrame:
    """Return all rows in the order of some columns, instants in UTC: Spark returns them without a zone."""
    rows = frame.toPandas().sort_values(list(order), ignore_index=True)
    for name in rows.select_dtypes("datetime64"):
        rows[name] = rows[name].dt.tz_localize("UTC")
    return rows
