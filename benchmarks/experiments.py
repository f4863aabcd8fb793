"""The sums of an experiment's analysis on Spark, compared with plain pandas on the same files.

    python -m benchmarks.experiments [--pages 5000000] [--users 2000000] [--events 6000000]

Both give users, sums and squares by variant as of the last day; these are compared. Ours does more: it drops duplicate
deliveries of a page, merges events that both shop and website reported, attributes by token, and gives all sums by day,
by segment, for triggered users, and with CUPED's products. Pandas holds all rows in memory.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import machine
from jobs.engine.session import spark_session
from jobs.experiments.analyze_experiment import gather_evidence
from recsys.config.settings import Settings
from recsys.experiments.evidence import Evidence
from recsys.experiments.hashing import buckets
from recsys.experiments.settings import Experiment, ExperimentFile
from recsys.instants import DAY, from_micros, parse_instant

START = parse_instant("2026-11-02")
DAYS = 14
AS_OF = START + 21 * DAY
SALES = 3_000
INSTANT = pa.timestamp("us", tz="UTC")
METRICS = [
    {"name": "purchases", "type": "mean", "column": "purchases"},
    {"name": "revenue", "type": "mean", "column": "revenue"},
    {"name": "capped", "type": "mean", "column": "revenue", "winsorize": 0.999},
    {"name": "rate", "type": "ratio", "numerator": "visits", "denominator": "exposures"},
    {"name": "fallbacks", "type": "ratio", "numerator": "fallbacks", "denominator": "exposures"},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=5_000_000)
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--events", type=int, default=6_000_000)
    arguments = parser.parse_args()
    print(machine.describe())
    folder = Path(tempfile.mkdtemp(prefix="experiments-"))
    try:
        compare(folder, arguments.pages, arguments.users, arguments.events)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compare(folder: Path, pages: int, users: int, events: int) -> None:
    write_shop(folder, pages, users, events, np.random.default_rng(7))
    settings = shop_settings(folder)
    print(f"{pages:,} pages, {users:,} users, {events:,} events; {settings.spark.master}")
    spark_session(settings).range(10).count()
    with machine.watched() as ours:
        evidence = gather_evidence(settings, experiment_file(), "image-themes", AS_OF)
    with machine.watched() as peer:
        expected = by_pandas(folder)
    check(evidence, expected)
    print(f"  ours    {ours.seconds:6.1f} s, {ours.peak_bytes / 2**30:4.1f} GiB: {len(evidence.sums):,} groups")
    print(f"  pandas  {peer.seconds:6.1f} s, {peer.peak_bytes / 2**30:4.1f} GiB, ours included: {len(expected)} groups")
    print(f"  ours takes {ours.seconds / peer.seconds:.1f} times as long")


def shop_settings(folder: Path) -> Settings:
    raw = {f"raw_{name}": {"path": str(folder / f"raw/{name}.parquet")} for name in ("sales", "events")}
    source = {"sql": str(folder / "sql"), "raw": raw}
    return Settings.model_validate({"folder": str(folder), "source": source, "spark": {"master": "local[2]"}})


def experiment_file() -> ExperimentFile:
    variants = [{"key": key, "weight": 0.5, "policy": "meta"} for key in ("control", "themes")]
    analysis = {"primary": METRICS, "segments": ["country"], "cuped": {"lookback_days": 28}}
    experiment = {
        "key": "image-themes",
        "status": "running",
        "start": from_micros(START),
        "end": from_micros(START + DAYS * DAY),
        "variants": variants,
        "analysis": analysis,
    }
    return ExperimentFile.model_validate(
        {"schema_version": 1, "default": {"policy": "meta"}, "experiments": [experiment]}
    )


def write_shop(folder: Path, pages: int, users: int, events: int, rng: np.random.Generator) -> None:
    """Write logs and raw tables; the numbers of pages per user are skewed."""
    for name in ("raw", "sql"):
        (folder / name).mkdir()
    names = np.char.add("user-", np.char.zfill(np.arange(users).astype(str), 8))
    (experiment,) = experiment_file().experiments
    variants = variants_of(experiment, names)
    who = np.concatenate([np.arange(users), (users * rng.random(max(0, pages - users)) ** 1.5).astype(np.int64)])[
        :pages
    ]
    at = START + (DAYS * DAY * rng.random(pages)).astype(np.int64)
    write_pages(folder, names[who], variants[who], at, rng)
    write_events(folder, names, who, at, events, rng)
    write_sales(folder)


def variants_of(experiment: Experiment, names: np.ndarray) -> np.ndarray:
    halves = buckets(experiment.hash_seed, names.tolist()) >= 5_000
    return np.array([variant.key for variant in experiment.variants])[halves.astype(int)]


def write_pages(
    folder: Path, users: np.ndarray, variants: np.ndarray, at: np.ndarray, rng: np.random.Generator
) -> None:
    n, numbers = len(users), np.arange(len(users))
    requests = request_ids(numbers)
    countries = pa.array(np.array(["DE", "FR", "IT", "ES", "NL"])[rng.integers(0, 5, n)])
    columns: dict[str, Any] = {
        "event_id": np.char.add("0123456789abcdef", requests),
        "exposed_at": pa.array(at, pa.int64()).cast(INSTANT),
        "request_id": requests,
        "user_id": users,
        "fallback_level": np.where(rng.random(n) < 0.01, "popular", "none"),
        "attributes": pa.MapArray.from_arrays(
            np.arange(n + 1, dtype=np.int32), pa.array(["country"]).take(pa.array(np.zeros(n, np.int32))), countries
        ),
        "experiment": np.full(n, "image-themes"),
        "phase": np.ones(n, np.int32),
        "variant": variants,
        "reason": np.full(n, "assigned"),
        "configuration_sha": np.full(n, "ab12cd34ef56"),
        "model_version": np.full(n, "3"),
        "overlap_at_10": rng.choice([0.4, 0.8, 1.0], n),
    }
    table, days = pa.table(columns), at // DAY
    for day in np.unique(days):
        day_folder = folder / f"exposures_compacted/day={from_micros(int(day) * DAY):%Y-%m-%d}"
        day_folder.mkdir(parents=True)
        pq.write_table(table.filter(days == day), day_folder / "part-0.parquet")


def write_events(
    folder: Path, names: np.ndarray, who: np.ndarray, at: np.ndarray, n: int, rng: np.random.Generator
) -> None:
    """Write events: half follow a page within three days, a third of these with its token; the rest came before."""
    page = rng.integers(0, len(who), n)
    follows = rng.random(n) < 0.5
    after = at[page] + (3 * DAY * rng.random(n) ** 3).astype(np.int64) + 1
    occurred_at = np.where(follows, after, START - (28 * DAY * rng.random(n)).astype(np.int64))
    buys = rng.random(n) < 0.05
    events = pa.table(
        {
            "user_id": names[who[page]],
            "sale_id": np.char.add("s", rng.integers(0, SALES, n).astype(str)),
            "kind": np.where(buys, "purchase", "visit"),
            "occurred_at": pa.array(occurred_at, pa.int64()).cast(INSTANT),
            "revenue": pa.array(np.where(buys, rng.lognormal(4, 1, n).round(2), np.nan), from_pandas=True),
        }
    )
    pq.write_table(events, folder / "raw/events.parquet")
    (folder / "sql/events.sql").write_text("select * from {raw_events}")
    write_recorded(folder, events, page, occurred_at, follows & (rng.random(n) < 1 / 3))


def write_recorded(folder: Path, events: pa.Table, page: np.ndarray, at: np.ndarray, is_recorded: np.ndarray) -> None:
    """Write the events that the website reported to the service, with the token of their page."""
    requests, at = request_ids(page[is_recorded]), at[is_recorded]
    recorded = events.filter(is_recorded).append_column("recorded_at", pa.array(at, pa.int64()).cast(INSTANT))
    recorded = recorded.append_column("attribution_token", pa.array(requests)).append_column(
        "event_id", pa.array(requests)
    )
    days = at // DAY
    for day in np.unique(days):
        day_folder = folder / f"recorded_events_compacted/day={from_micros(int(day) * DAY):%Y-%m-%d}"
        day_folder.mkdir(parents=True)
        pq.write_table(recorded.filter(days == day), day_folder / "part-0.parquet")


def request_ids(numbers: np.ndarray) -> np.ndarray:
    return np.char.add("req-", np.char.zfill(numbers.astype(str), 12))


def write_sales(folder: Path) -> None:
    window = {"opens_at": START - 40 * DAY, "closes_at": AS_OF + DAY}
    instants = {name: pa.array(np.full(SALES, at), pa.int64()).cast(INSTANT) for name, at in window.items()}
    names = [f"s{number}" for number in range(SALES)]
    pq.write_table(pa.table({"sale_id": names, "title": names, **instants}), folder / "raw/sales.parquet")
    (folder / "sql/sales.sql").write_text("select * from {raw_sales}")


def by_pandas(folder: Path) -> pd.DataFrame:
    """Return users, sums and squares by variant: each user's events within 7 days of the user's first page."""
    pages = pd.read_parquet(folder / "exposures_compacted", columns=["user_id", "exposed_at", "variant"])
    first = pages.sort_values("exposed_at").groupby("user_id").first()
    events = pd.read_parquet(folder / "raw/events.parquet").merge(first, left_on="user_id", right_index=True)
    since = events["occurred_at"] - events["exposed_at"]
    events = events[(since >= pd.Timedelta(0)) & (since < pd.Timedelta(days=7))]
    events = events.assign(purchases=(events["kind"] == "purchase").astype(float), revenue=events["revenue"].fillna(0))
    users = first.join(events.groupby("user_id")[["purchases", "revenue"]].sum()).fillna({"purchases": 0, "revenue": 0})
    users = users.assign(n=1, square=users["revenue"] ** 2)
    return users.groupby("variant")[["n", "purchases", "revenue", "square"]].sum()


def check(evidence: Evidence, expected: pd.DataFrame) -> None:
    for variant, row in expected.iterrows():
        sums = evidence.up_to(evidence.days[-1], str(variant))
        found = [sums.n, sums.sums["purchases"], sums.sums["revenue"], sums.product("revenue", "revenue")]
        np.testing.assert_allclose(
            found, row.to_numpy(float), rtol=1e-3
        )  # a few events are merged: told within a second
    assert evidence.health.mismatches == 0


if __name__ == "__main__":
    main()
