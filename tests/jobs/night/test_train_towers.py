"""Which towers a run has: new ones, those of an earlier night, or none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.engine.run import Run
from jobs.night import train_towers
from jobs.night.train_towers import TRAIN_TOWERS
from recsys.config.settings import Settings
from recsys.instants import DAY
from recsys.recommenders import RecommenderSettings
from recsys.recommenders.towers import TOWERS_FILE, TowerWeights, read_towers
from recsys.testing.shops import AS_OF
from tests.helpers.two_tastes import TOWERS, shop_of_two_tastes

SHOP = shop_of_two_tastes()
NIGHT = AS_OF + 2 * DAY
"""As of which nights train on the two days before, and towers on the days before those."""


@pytest.fixture
def run_of(tmp_path, monkeypatch) -> Callable[..., Run]:
    """Return a function that makes the run of a night, whose folder has the tables of the shop."""
    monkeypatch.setattr(train_towers, "_users", lambda *_: SHOP.block)

    def make(as_of: int = NIGHT, trains: bool = True, **changes: object) -> Run:
        folder = tmp_path / "nights" / str(as_of)
        (folder / "sales").mkdir(parents=True, exist_ok=True)
        pq.write_table(SHOP.sales, folder / "sales/part.parquet")
        settings = Settings.model_validate(
            {"folder": str(tmp_path), "source": {"sql": "sql", "raw": {}}, "recommenders": RecommenderSettings()}
        )
        towers = TOWERS.model_copy(update=changes)
        recommenders = settings.recommenders.model_copy(update={"towers": towers})
        days = [as_of - 2 * DAY, as_of - DAY] if trains else [as_of - DAY]
        return Run(settings.model_copy(update={"recommenders": recommenders}), folder, as_of, days, [as_of], trains)

    return make


def towers_of(run: Run) -> TowerWeights | None:
    """Do the step and return its towers."""
    TRAIN_TOWERS.run(run, run.folder)
    return read_towers(run.folder / TOWERS_FILE)


def test_night_that_trains_has_new_towers_of_the_days_before_its_training_days(run_of):
    run = run_of()
    summary = TRAIN_TOWERS.run(run, run.folder)
    assert "before 2026-03-01, the first day that the meta-model is trained on" in summary
    assert [each.name for each in run.shop.recommenders if each.name == "towers"] == ["towers"]


def test_nights_after_it_use_them_until_the_next_training(run_of):
    first = towers_of(run_of())
    later = towers_of(run_of(NIGHT + DAY, trains=False))
    assert first is not None
    assert later is not None
    assert later.to_json() == first.to_json()


def test_towers_that_know_later_days_are_not_used(run_of):
    assert towers_of(run_of()) is not None
    assert towers_of(run_of(NIGHT - 2 * DAY, trains=False)) is None
    assert towers_of(run_of(NIGHT - DAY, trains=False)) is not None  # its only training day is the first unknown one


def test_towers_of_other_settings_are_not_used(run_of):
    assert towers_of(run_of()) is not None
    assert towers_of(run_of(NIGHT + DAY, trains=False, half_life_days=9.0)) is None


def test_backtest_keeps_its_towers_for_itself(run_of):
    assert towers_of(replace(run_of(), days=[NIGHT, NIGHT + DAY])) is not None
    assert towers_of(run_of(NIGHT + DAY, trains=False)) is None


def test_shop_with_too_little_goes_on_without_and_says_why(run_of):
    run = run_of(min_events=5000)
    assert TRAIN_TOWERS.run(run, run.folder) == (
        "no towers: fewer than 5,000 visits and purchases of open sales (recommenders.towers.min_events) in the 10 "
        "days to learn from or the 2 after them, before 2026-03-01, the first day that the meta-model is trained on, "
        "or no attribute, word or price that 5 sales have"
    )
    assert read_towers(run.folder / TOWERS_FILE) is None
    assert not run._left_out  # its snapshot is as it would be without the recommender


def test_shop_whose_configuration_wants_no_towers_has_none(run_of):
    run = run_of(enabled=False)
    assert towers_of(run) is None
    assert "towers" not in [each.name for each in run.shop.recommenders]


def test_of_many_users_some_are_drawn_in_order_of_their_ids(spark, tmp_path):
    block = SHOP.block
    lists = {
        name: [
            getattr(block, name)[block.offsets[user] : block.offsets[user + 1]].tolist() for user in range(len(block))
        ]
        for name in ("sales", "purchases", "occurred_at", "recorded_at")
    }
    types = {"sales": pa.int32(), "purchases": pa.bool_()}
    table = pa.table(
        {"user_id": block.user_ids}
        | {name: pa.array(values, pa.list_(types.get(name, pa.int64()))) for name, values in lists.items()}
    )
    (tmp_path / "user_histories").mkdir()
    pq.write_table(table.take(pa.array(range(len(block) - 1, -1, -1))), tmp_path / "user_histories/part.parquet")
    assert _drawn(spark, tmp_path, 1000) == block.user_ids.to_pylist()
    some = _drawn(spark, tmp_path, 15)
    assert some == sorted(some)
    assert 5 < len(some) < 25


def _drawn(spark: object, folder: Path, max_users: int) -> list[str]:
    settings = Settings.model_validate({"folder": str(folder), "source": {"sql": "sql", "raw": {}}})
    towers = settings.recommenders.towers.model_copy(update={"max_users": max_users})
    recommenders = settings.recommenders.model_copy(update={"towers": towers})
    (folder / "sales").mkdir(exist_ok=True)
    pq.write_table(SHOP.sales, folder / "sales/part.parquet")
    run = Run(settings.model_copy(update={"recommenders": recommenders}), folder, NIGHT, [AS_OF], [NIGHT])
    run.__dict__["spark"] = spark
    return train_towers._users(run, folder).user_ids.to_pylist()
