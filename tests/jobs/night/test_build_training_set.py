"""The bound of the training set: which users' examples are made, and that nothing changes below it."""

import shutil
from datetime import timedelta
from itertools import accumulate
from types import SimpleNamespace

import pytest

from jobs.engine.nights import night
from jobs.engine.run import Run
from jobs.night.build_training_set import examples, sampled_histories
from jobs.night.train_meta_model import read_trained_model
from recsys.meta_model.training import train
from recsys.pipeline.example_arrays import examples_of, in_order, read_examples
from recsys.pipeline.examples import bucket_of_user
from recsys.tables.event_parts import parts_of_days
from recsys.tables.night import EVENTS, TRAINING_EXAMPLES, USER_HISTORIES
from recsys.tables.parts import parts_of
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop

pytestmark = MLFLOW_WARNS

KEY = ["as_of", "user_id", "sale_id"]


def run_within(shop: SmallShop, max_examples: int) -> Run:
    return night(shop.settings(meta_model={"days": 3, "max_examples": max_examples}))


@pytest.fixture(scope="module")
def most_of_user(published_shop) -> dict[str, int]:
    """At most that many examples of each buyer of the three days, in the order of their buckets: 21 per purchase."""
    run = run_within(published_shop, 1)
    events = EVENTS.read(run.spark, run.outputs).toPandas()
    recent = events["occurred_at"] >= (AS_OF - timedelta(days=3)).replace(tzinfo=None)
    purchases = events[recent & (events["kind"] == "purchase")]["user_id"].value_counts()
    users = USER_HISTORIES.read(run.spark, run.outputs).select("user_id", bucket_of_user(0).alias("bucket")).collect()
    ordered = sorted((row["bucket"], row["user_id"]) for row in users if row["user_id"] in purchases)
    assert len({bucket for bucket, _ in ordered}) == len(ordered)  # one user each
    return {user: 21 * int(purchases[user]) for _, user in ordered}


def test_beyond_the_bound_all_examples_of_the_users_of_the_first_buckets_are_made(published_shop, most_of_user):
    totals = list(accumulate(most_of_user.values()))
    bound = totals[len(totals) // 2]
    users = list(most_of_user)[: len(totals) // 2 + 1]
    run = run_within(published_shop, bound)
    made = TRAINING_EXAMPLES.read(run.spark, run.outputs).orderBy(*KEY).collect()
    expected = [row for row in made if row["user_id"] in users]
    found = examples(run, run.open_training_days).orderBy(*KEY).collect()
    assert found == expected
    assert 0 < len(found) < len(made)
    one_less = run_within(published_shop, bound - 1)
    kept = {row["user_id"] for row in examples(one_less, one_less.open_training_days).collect()}
    assert kept == {row["user_id"] for row in found} - {users[-1]}


def test_within_the_bound_the_model_is_that_of_all_examples_in_the_order_of_their_key(published_shop, most_of_user):
    run = run_within(published_shop, sum(most_of_user.values()))
    by_spark = examples(run, run.open_training_days).orderBy(*KEY)
    model, _ = read_trained_model(run)
    again = train(examples_of(in_order(by_spark.repartition(3).toArrow())), run.settings.meta_model)
    assert again.to_json() == model.to_json()
    frame, read = by_spark.toPandas(), examples_of(read_examples(run.outputs / TRAINING_EXAMPLES.name))
    assert (read.features == frame[read.names].to_numpy()).all()
    for name in ("bought", "sampling_rate", "repeat", "position"):
        assert (getattr(read, name) == frame[name]).all()
    assert (read.page == frame.groupby(["as_of", "user_id"]).ngroup()).all()


def test_examples_are_bounded_by_the_events_of_their_days_alone(published_shop, tmp_path):
    run = run_within(published_shop, 100)
    day = run.open_training_days[-1]
    table = run.outputs / EVENTS.name
    of_day = parts_of_days(table, [day])
    without = tmp_path / "outputs"
    for name in (EVENTS.name, USER_HISTORIES.name):
        shutil.copytree(run.outputs / name, without / name)
    for part in parts_of(table)[1:]:  # the first one has the columns
        if part.name not in of_day:
            (without / EVENTS.name / part.name).write_bytes(bytes(part.bytes))  # no Parquet file
    assert 0 < len(of_day) < len(parts_of(table))
    other = SimpleNamespace(spark=run.spark, settings=run.settings, outputs=without)
    of_all, of_few = (sampled_histories(each, [day]).select("user_id") for each in (run, other))
    assert of_few.collect() == of_all.collect()
    assert 0 < of_few.count() < USER_HISTORIES.rows(without)
