"""The steps of a backtest: further models on the same examples, and each page of the window ranked by all of them."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter
from pyspark.sql import functions as f
from threadpoolctl import threadpool_limits

from jobs import tracking
from jobs.build_histories import BUILD_HISTORIES
from jobs.fit_recommenders import FIT_RECOMMENDERS
from jobs.run import Run, Step
from jobs.train_meta_model import TRAIN_META_MODEL, as_the_shop_is_now, examples_of, read_trained_model
from recsys.backtest.ablation import ablated_features, drawn, learning_days, of_last_days
from recsys.backtest.oracle import oracle_pages
from recsys.meta_model import META, MetaModel, policy_of
from recsys.meta_training import Examples, train
from recsys.pipeline.evaluation import known_users, page_metrics
from recsys.pipeline.examples import training_examples
from recsys.recommenders.content import IMAGES
from recsys.tables import KNOWN_USERS, PAGE_METRICS, TRAINING_EXAMPLES, USER_HISTORIES, Table

META_WITHOUT_IMAGES = "meta_without_images"
WINDOW_EXAMPLES = Table("window_examples", TRAINING_EXAMPLES.grain, TRAINING_EXAMPLES.columns, open_ended=True)
ORACLE_PAGES = Table("oracle_pages", PAGE_METRICS.grain, PAGE_METRICS.columns)
VARIANTS = "variants"


class Sample(NamedTuple):
    """Which pages are measured."""

    users: float
    """Share of the users looked at on each day, in (0, 1]."""
    seed: int
    """Seed of that sample."""
    new_only: bool
    """Leave out what the user had bought before."""


@dataclass(frozen=True)
class Variant:
    """A meta-model that is trained for a backtest alone."""

    model: MetaModel
    examples: int
    seconds: float


_VARIANTS = TypeAdapter(dict[str, Variant])


def train_variants(run: Run, out: Path) -> str:
    """Train models without some features or days: without images, those of the ablation and of the learning curve."""
    table, settings = TRAINING_EXAMPLES.read(run.spark, run.folder), run.settings.meta_model
    examples, days = examples_of(table), run.open_training_days
    learnt_from = {META_WITHOUT_IMAGES: examples.without(IMAGES)} if IMAGES in examples.names else {}
    for n_days in learning_days(len(days)):
        latest = examples_of(table.where(f.col("as_of") >= days[-n_days]))
        if 0 < latest.bought.sum() < len(latest.bought):  # else nothing to learn from
            learnt_from[of_last_days(n_days)] = latest
    draw = drawn(examples, settings.seed)
    learnt_from |= {policy: draw.over(features) for policy, features in ablated_features(examples.names).items()}
    with threadpool_limits(1, "blas"):  # matrices so narrow make threads wait for each other: 20 s of CPU instead of 3
        variants = {policy: _trained(run, each) for policy, each in learnt_from.items()}
    (out / VARIANTS).mkdir()
    (out / VARIANTS / "models.json").write_bytes(_VARIANTS.dump_json(variants))
    return f"{len(variants)} models without some features or days"


def _trained(run: Run, examples: Examples) -> Variant:
    start = time.perf_counter()
    model = train(examples, run.settings.meta_model)
    return Variant(model, len(examples.bought), round(time.perf_counter() - start, 3))


def read_variants(run: Run) -> dict[str, Variant]:
    """Return the models that were trained for this backtest alone, by the name of their policy."""
    return _VARIANTS.validate_json((run.folder / VARIANTS / "models.json").read_bytes())


def meta_models(run: Run, versions: list[str]) -> dict[str, MetaModel]:
    """Return the run's own meta-model, its variants, and the registered versions, by the name of their policy."""
    model, _ = read_trained_model(run)
    models = {META: model} | {policy: variant.model for policy, variant in read_variants(run).items()}
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
        return f"{ORACLE_PAGES.read(run.spark, out).count():,} pages ranked by the truth"

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
    return f"{WINDOW_EXAMPLES.read(run.spark, out).count():,} examples, to measure probabilities on"


def _count_known_users(run: Run, out: Path) -> str:
    KNOWN_USERS.write(known_users(USER_HISTORIES.read(run.spark, run.folder), run.shop, run.open_days), out)
    return f"{KNOWN_USERS.read(run.spark, out).count():,} sales and days of which anybody knew"


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
