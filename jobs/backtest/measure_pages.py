"""The steps of a backtest: further models on the same examples, and each page of the window ranked by all of them."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import TypeAdapter
from pyspark.sql import functions as f
from threadpoolctl import threadpool_limits

from demo_shop.oracle import oracle_pages
from jobs.engine.run import Run, Step
from jobs.night.build_histories import BUILD_HISTORIES
from jobs.night.fit_recommenders import FIT_RECOMMENDERS
from jobs.night.train_meta_model import TRAIN_META_MODEL, as_the_shop_is_now, examples_of, read_trained_model
from jobs.registry import tracking
from recsys.backtest.ablation import ablated_features, drawn, learning_days, of_last_days
from recsys.meta_model import (
    META,
    MetaModel,
    MetaModelSettings,
    meta_models_from_json,
    meta_models_to_json,
    policy_of,
)
from recsys.meta_model.training import Examples, predict, train
from recsys.pipeline.evaluation import known_users, page_metrics
from recsys.pipeline.examples import training_examples
from recsys.recommenders import OVER_PHOTOS
from recsys.tables.night import KNOWN_USERS, PAGE_METRICS, TRAINING_EXAMPLES, USER_HISTORIES, Table

META_WITHOUT_IMAGES = "meta_without_images"
META_BOOSTED = "meta_boosted"
WINDOW_EXAMPLES = Table("window_examples", TRAINING_EXAMPLES.grain, TRAINING_EXAMPLES.columns, open_ended=True)
ORACLE_PAGES = Table("oracle_pages", PAGE_METRICS.grain, PAGE_METRICS.columns)
VARIANTS = "variants"
_MODELS, _TRAINING = "models.json", "training.json"
_SCORED = 50_000  # examples whose scoring is timed


class Sample(NamedTuple):
    """Which pages are measured."""

    users: float
    """Share of the users looked at on each day, in (0, 1]."""
    seed: int
    """Seed of that sample."""
    new_only: bool
    """Leave out what the user had bought before."""


class Cost(NamedTuple):
    """What a meta-model took that was trained for a backtest alone."""

    examples: int
    seconds: float
    """To train it, on one core."""
    microseconds_per_score: float
    """To score one sale for one user, on one core, the features given."""


_COSTS = TypeAdapter(dict[str, Cost])


def train_variants(run: Run, out: Path) -> str:
    """Train boosted trees, and models without images, for the ablation and for the learning curve."""
    table, settings = TRAINING_EXAMPLES.read(run.spark, run.folder), run.settings.meta_model
    examples, days = examples_of(table), run.open_training_days
    others = [name for name in examples.names if name not in OVER_PHOTOS]
    learnt_from = {META_WITHOUT_IMAGES: examples.over(others)} if others != examples.names else {}
    learnt_from[META_BOOSTED] = examples
    for n_days in learning_days(len(days)):
        latest = examples_of(table.where(f.col("as_of") >= days[-n_days]))
        if 0 < latest.bought.sum() < len(latest.bought):  # else nothing to learn from
            learnt_from[of_last_days(n_days)] = latest
    draw = drawn(examples, settings.seed)
    learnt_from |= {policy: draw.over(features) for policy, features in ablated_features(examples.names).items()}
    with threadpool_limits(1, "blas"):  # matrices so narrow make threads wait for each other: 20 s of CPU instead of 3
        trained = {policy: _trained(each, _settings(policy, run)) for policy, each in learnt_from.items()}
    (out / VARIANTS).mkdir()
    models = {policy: model for policy, (model, _) in trained.items()}
    (out / VARIANTS / _MODELS).write_text(meta_models_to_json(models))
    (out / VARIANTS / _TRAINING).write_bytes(_COSTS.dump_json({policy: cost for policy, (_, cost) in trained.items()}))
    return f"{len(models)} models: boosted trees, and without some features or days"


def _settings(policy: str, run: Run) -> MetaModelSettings:
    settings = run.settings.meta_model
    return settings.model_copy(update={"kind": "boosted"}) if policy == META_BOOSTED else settings


def _trained(examples: Examples, settings: MetaModelSettings) -> tuple[MetaModel, Cost]:
    start = time.perf_counter()
    model = train(examples, settings)
    trained = time.perf_counter()
    some = examples.where(np.arange(len(examples.bought)) < _SCORED)
    predict(model, some)
    per_score = (time.perf_counter() - trained) / len(some.bought) * 1e6
    return model, Cost(len(examples.bought), round(trained - start, 3), round(per_score, 4))


def read_variants(run: Run) -> dict[str, MetaModel]:
    """Return the models that were trained for this backtest alone, by the name of their policy."""
    return meta_models_from_json((run.folder / VARIANTS / _MODELS).read_bytes())


def read_costs(run: Run) -> dict[str, Cost]:
    """Return what the training and the scores of these models took."""
    return _COSTS.validate_json((run.folder / VARIANTS / _TRAINING).read_bytes())


def meta_models(run: Run, versions: list[str]) -> dict[str, MetaModel]:
    """Return the run's own meta-model, its variants, and the registered versions, by the name of their policy."""
    model, _ = read_trained_model(run)
    models = {META: model} | read_variants(run)
    for version in versions:
        registered = tracking.read_version(run.settings, version)
        models[policy_of(version)] = as_the_shop_is_now(run, registered, f"version {version}")
    return models


def steps(run: Run, sample: Sample, versions: list[str]) -> tuple[Step, ...]:
    """Return the steps that a backtest needs beside those of a night; a generated shop's truth is one of them."""
    oracle = (_measure_oracle(sample),) if knows_truth(run) else ()
    return (TRAIN_VARIANTS, _measure_pages(sample, versions), BUILD_WINDOW_EXAMPLES, COUNT_KNOWN_USERS, *oracle)


def knows_truth(run: Run) -> bool:
    """Tell whether the shop is a generated one, with the taste of its users beside it."""
    return run.settings.demo_shop is not None and (Path(run.settings.folder) / "truth").exists()


def _measure_pages(sample: Sample, versions: list[str]) -> Step:
    def measure_pages(run: Run, out: Path) -> str:
        """Rank the pages of the window by each policy."""
        histories = USER_HISTORIES.read(run.spark, run.folder)
        PAGE_METRICS.write(page_metrics(histories, run.shop, run.open_days, meta_models(run, versions), *sample), out)
        pages = PAGE_METRICS.read(run.spark, out)
        return f"{pages.where(pages['policy'] == META).count():,} pages"

    return Step(
        "measure_pages",
        measure_pages,
        (PAGE_METRICS.name,),
        inputs=(TRAIN_VARIANTS,),
        depends_on=lambda run: [run.days, sample, versions],
    )


def _measure_oracle(sample: Sample) -> Step:
    def measure_oracle(run: Run, out: Path) -> str:
        """Rank the same pages by the true taste of the generated shop's users."""
        histories = USER_HISTORIES.read(run.spark, run.folder)
        ORACLE_PAGES.write(oracle_pages(histories, run.shop, run.open_days, Path(run.settings.folder), *sample), out)
        return f"{ORACLE_PAGES.rows(out):,} pages ranked by the truth"

    return Step(
        "measure_oracle",
        measure_oracle,
        (ORACLE_PAGES.name,),
        inputs=(FIT_RECOMMENDERS,),
        depends_on=lambda run: [run.days, sample, run.settings.demo_shop],
    )


def _build_window_examples(run: Run, out: Path) -> str:
    histories = USER_HISTORIES.read(run.spark, run.folder)
    WINDOW_EXAMPLES.write(training_examples(histories, run.shop, run.open_days, run.settings.meta_model), out)
    return f"{WINDOW_EXAMPLES.rows(out):,} examples, to measure probabilities on"


def _count_known_users(run: Run, out: Path) -> str:
    KNOWN_USERS.write(known_users(USER_HISTORIES.read(run.spark, run.folder), run.shop, run.open_days), out)
    return f"{KNOWN_USERS.rows(out):,} sales and days of which anybody knew"


TRAIN_VARIANTS = Step(
    "train_variants",
    train_variants,
    (VARIANTS,),
    inputs=(TRAIN_META_MODEL,),
    depends_on=lambda run: run.settings.meta_model,
)

BUILD_WINDOW_EXAMPLES = Step(
    "build_window_examples",
    _build_window_examples,
    (WINDOW_EXAMPLES.name,),
    inputs=(FIT_RECOMMENDERS,),
    depends_on=lambda run: run.settings.meta_model,
)

COUNT_KNOWN_USERS = Step(
    "count_known_users",
    _count_known_users,
    (KNOWN_USERS.name,),
    inputs=(BUILD_HISTORIES,),
    depends_on=lambda run: [run.days, run.settings.history],
)
