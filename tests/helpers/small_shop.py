"""Small shops on disk: raw tables as Parquet, SQL files that select them, and settings that name both."""

import atexit
import hashlib
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from recsys.config.settings import Settings
from tests.helpers.yaml_text import yaml_text

MLFLOW_WARNS = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
"""For tests that use MLflow, which causes a warning of SQLAlchemy 2.1."""

SHORT_LIVED_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Java options of test sessions: the optimising compiler and the parallel collector take 1/3 of the CPU time."""
SMALL_SPARK = {
    "master": "local[2]",
    "driver_memory": "1g",
    "conf": {
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.extraJavaOptions": SHORT_LIVED_JAVA,
        "spark.sql.codegen.wholeStage": "false",  # for few rows, compiling takes longer than running
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    },
}
"""Spark settings of a process for a small shop."""

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
INSTANT = pa.timestamp("us", tz="UTC")
RAW_TYPES = {
    "sales": pa.schema(
        [
            ("sale_id", pa.string()),
            ("opens_at", INSTANT),
            ("closes_at", INSTANT),
            ("title", pa.string()),
            ("description", pa.string()),
            ("price", pa.float64()),
            ("attributes", pa.map_(pa.string(), pa.string())),
        ]
    ),
    "events": pa.schema(
        [
            ("user_id", pa.string()),
            ("sale_id", pa.string()),
            ("kind", pa.string()),
            ("occurred_at", INSTANT),
            ("recorded_at", INSTANT),
            ("revenue", pa.float64()),
        ]
    ),
}
Row = Mapping[str, Any]


def at(hours: float) -> datetime:
    """Return the instant some hours after AS_OF."""
    return AS_OF + timedelta(hours=hours)


def sale(sale_id: str | None, opens: float | None = -48, closes: float | None = 48, **others: Any) -> Row:
    """Return a raw row of a sale; its window is in hours after AS_OF."""
    window = {"opens_at": None if opens is None else at(opens), "closes_at": None if closes is None else at(closes)}
    return {"sale_id": sale_id, "title": f"Title of {sale_id}", "price": 20.0, "attributes": {}, **window, **others}


def event(user_id: str | None, sale_id: str | None, hours: float | None, kind: str = "visit", **others: Any) -> Row:
    """Return a raw row of an event, some hours after AS_OF."""
    occurred_at = None if hours is None else at(hours)
    return {"user_id": user_id, "sale_id": sale_id, "kind": kind, "occurred_at": occurred_at, **others}


def raw_table(name: str, rows: Iterable[Row]) -> pa.Table:
    kinds = RAW_TYPES[name]
    rows = [{**row, "attributes": list(row["attributes"].items())} if "attributes" in row else row for row in rows]
    return pa.Table.from_pylist(rows, kinds)


@cache
def empty_registry() -> Path:
    """Return an empty MLflow database; created once, since that takes a second."""
    folder = Path(tempfile.mkdtemp(prefix="registry-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@dataclass
class SmallShop:
    """A shop in a folder."""

    folder: Path
    settings_changes: dict[str, Any] = field(default_factory=dict)
    source: Path | None = None
    """Folder of another shop, whose raw tables and SQL files this one reads."""

    def write(self, sales: Iterable[Row], events: Iterable[Row]) -> "SmallShop":
        """Write the raw tables and, unless they exist, SQL files that select all columns."""
        for folder in ("raw", "sql", "var"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        if not (self.folder / "var/mlflow.db").exists():
            shutil.copy(empty_registry(), self.folder / "var/mlflow.db")
        for name, rows in (("sales", sales), ("events", events)):
            pq.write_table(raw_table(name, rows), self.folder / f"raw/{name}.parquet")
            if not (self.folder / f"sql/{name}.sql").exists():
                self.write_sql(name, f"select * from {{raw_{name}}}")
        return self

    def write_sql(self, name: str, text: str) -> None:
        (self.folder / f"sql/{name}.sql").write_text(text)

    def raw_settings(self, **changes: Any) -> dict[str, Any]:
        source = self.source or self.folder
        raw = {f"raw_{name}": {"path": str(source / f"raw/{name}.parquet")} for name in ("sales", "events")}
        settings = {
            "folder": str(self.folder / "var"),
            "as_of": AS_OF,
            "source": {"sql": str(source / "sql"), "raw": raw, "max_rejected_share": 0.5},
            "meta_model": {"days": 3},
            "rankings": {"top_k": 10},
        }
        return {**settings, **self.settings_changes, **changes}

    def settings(self, **changes: Any) -> Settings:
        return Settings.model_validate(self.raw_settings(**changes))

    def configuration(self, **changes: Any) -> Path:
        """Write the settings to a configuration file and return its path."""
        path = self.folder / "shop.yaml"
        path.write_text(yaml_text(self.raw_settings(**changes)))
        return path


def random_rows(seed: int, users: int = 40, sales: int = 14, events: int = 600) -> tuple[list[Row], list[Row]]:
    """Draw sales from eight days before AS_OF to one day after it, and events: some late, some at the same instant.

    A few sales are always open, so that every day has open sales; a few purchases are outside their sale's window.
    """
    rng = np.random.default_rng(seed)
    opens = np.where(np.arange(sales) < 4, -200, rng.integers(-190, 20, sales))
    closes = np.where(np.arange(sales) < 4, 60, opens + rng.integers(12, 100, sales))
    countries = ["France", "Italy", "Spain"]
    sale_rows = [
        sale(
            f"s{number:02d}",
            float(opens[number]),
            float(closes[number]),
            title=f"{rng.choice(['Beach', 'City', 'Ski'])} {rng.choice(['hotel', 'villa'])}",
            price=None if number % 7 == 3 else float(rng.integers(10, 500)),
            attributes={"country": str(rng.choice(countries)), "category": str(rng.choice(["sea", "snow"]))},
        )
        for number in rng.permutation(sales)
    ]
    event_rows = []
    for _ in range(events):
        number = int(rng.integers(sales))
        hour = float(np.clip(rng.uniform(opens[number], closes[number]) + rng.choice([0, 0, 0, 30]), -199, -0.01))
        hour = float(np.round(hour)) if rng.random() < 0.3 else hour
        late = float(rng.choice([0, 0, 0.5, 20]))
        kind = "purchase" if rng.random() < 0.25 else "visit"
        user = f"u{int(users * rng.random() ** 2):02d}"
        event_rows.append(event(user, f"s{number:02d}", min(hour, -0.01), kind, recorded_at=at(hour + late)))
    return sale_rows, event_rows


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of each file below a folder, except logs."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
