"""The steps of a backtest: variants of the model trained on the same examples, and metrics of all on each page."""

import time
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from pydantic import TypeAdapter
from threadpoolctl import threadpool_limits

from demo_shop.oracle import oracle_pages
from jobs.backtest.measure_peers import measure_peers
from jobs.engine.run import Run, Step
from jobs.night.build_histories import BUILD_HISTORIES
from jobs.night.build_training_set import sampled_histories
from jobs.night.fit_recommenders import FIT_RECOMMENDERS
from jobs.night.train_meta_model import TRAIN_META_MODEL, as_the_shop_is_now, read_trained_model
from jobs.registry import tracking
from recsys.backtest.ablation import ablated_features, drawn, learning_days, of_last_days
from recsys.errors import ConfigurationError
from recsys.meta_model import (
    META,
    MetaModel,
    MetaModelSettings,
    meta_models_from_json,
    meta_models_to_json,
    policy_of,
)
from recsys.meta_model.training import Examples, predict, train
from recsys.pipeline.data_profile import times_of_day
from recsys.pipeline.evaluation import known_users, page_metrics
from recsys.pipeline.example_arrays import examples_of, read_examples
from recsys.pipeline.examples import training_examples
from recsys.recommenders import OVER_PHOTOS
from recsys.recommenders.towers import TOWERS
from recsys.storage.places import Place
from recsys.tables.event_parts import parts_of_days
from recsys.tables.night import EVENTS, KNOWN_USERS, PAGE_METRICS, TRAINING_EXAMPLES, USER_HISTORIES, Table
from recsys.wording import plural

META_WITHOUT = "meta_without_"
META_WITHOUT_IMAGES = f"{META_WITHOUT}images"
META_BOOSTED = "meta_boosted"
WINDOW_EXAMPLES = Table(
    "window_examples", TRAINING_EXAMPLES.grain, TRAINING_EXAMPLES.described, further=TRAINING_EXAMPLES.further
)
ORACLE_PAGES = Table("oracle_pages", PAGE_METRICS.grain, PAGE_METRICS.described)
VARIANTS = "variants"
_MODELS, _TRAINING = "models.json", "training.json"
_TIMED_EXAMPLES = 50_000  # number of examples whose scoring is timed


class Sample(NamedTuple):
    """The sample of pages that is measured."""

    users: float
    """Share of the users sampled on each day, in (0, 1]."""
    seed: int
    """Seed of that sample."""
    new_only: bool
    """Whether repeat purchases are left out: sales that the user bought before."""


class Cost(NamedTuple):
    """Cost of a meta-model that was trained only for a backtest."""

    examples: int
    """Number of training examples."""
    seconds: float
    """Training time on one core, in seconds."""
    microseconds_per_score: float
    """Time to score one sale for one user on one core with given features, in microseconds."""


_COSTS = TypeAdapter(dict[str, Cost])


def train_variants(run: Run, out: Place) -> str:
    """Train boosted trees, a model without images, and the models of the ablation and of the learning curve."""
    table, settings = read_examples(run.outputs / TRAINING_EXAMPLES.name), run.settings.meta_model
    examples, days = examples_of(table), run.open_training_days
    training_sets = {}
    if set(OVER_PHOTOS) & set(examples.names):  # the towers then read themes of photos too
        others = [name for name in examples.names if name not in (*OVER_PHOTOS, TOWERS)]
        training_sets[META_WITHOUT_IMAGES] = examples.over(others)
    training_sets[META_BOOSTED] = examples
    for n_days in learning_days(len(days)):
        latest = examples_of(table.filter(pc.field("as_of") >= days[-n_days]))
        if 0 < latest.bought.sum() < len(latest.bought):  # a model needs both classes
            training_sets[of_last_days(n_days)] = latest
    draw = drawn(examples, settings.seed)
    training_sets |= {policy: draw.over(features) for policy, features in ablated_features(examples.names).items()}
    with threadpool_limits(1, "blas"):  # with matrices this narrow, threads mostly wait: 20 s of CPU time instead of 3
        trained = {
            policy: _train_and_time(each, _settings_of_variant(policy, run)) for policy, each in training_sets.items()
        }
    (out / VARIANTS).mkdir()
    models = {policy: model for policy, (model, _) in trained.items()}
    (out / VARIANTS / _MODELS).write_text(meta_models_to_json(models))
    (out / VARIANTS / _TRAINING).write_bytes(_COSTS.dump_json({policy: cost for policy, (_, cost) in trained.items()}))
    return f"{plural(len(models), 'model')}: boosted trees, and models with fewer features or days"


def _settings_of_variant(policy: str, run: Run) -> MetaModelSettings:
    settings = run.settings.meta_model
    return settings.model_copy(update={"kind": "boosted"}) if policy == META_BOOSTED else settings


def _train_and_time(examples: Examples, settings: MetaModelSettings) -> tuple[MetaModel, Cost]:
    start = time.perf_counter()
    model = train(examples, settings, ranks_only=True)
    trained = time.perf_counter()
    some = examples.where(np.arange(len(examples.bought)) < _TIMED_EXAMPLES)
    predict(model, some)
    per_score = (time.perf_counter() - trained) / len(some.bought) * 1e6
    return model, Cost(len(examples.bought), round(trained - start, 3), round(per_score, 4))


def read_variants(run: Run) -> dict[str, MetaModel]:
    """Return the models that were trained only for this backtest, by the name of their policy."""
    return meta_models_from_json((run.outputs / VARIANTS / _MODELS).read_bytes())


def read_costs(run: Run) -> dict[str, Cost]:
    """Return the cost of these models, by the name of their policy."""
    return _COSTS.validate_json((run.outputs / VARIANTS / _TRAINING).read_bytes())


def meta_models(run: Run, versions: list[str]) -> dict[str, MetaModel]:
    """Return the run's own meta-model, its variants, and the registered versions, by the name of their policy."""
    model, _ = read_trained_model(run)
    models = {META: model} | read_variants(run)
    for version in versions:
        registered = tracking.read_version(run.settings, version)
        models[policy_of(version)] = as_the_shop_is_now(run, registered, f"version {version}")
    return models


def steps(
    run: Run, sample: Sample, versions: list[str], lag: int | None = None, with_peers: bool = False
) -> tuple[Step, ...]:
    """Return the steps of a backtest in addition to those of a night; on a generated shop including the oracle.

    Args:
        run: The run of the backtest.
        sample: The pages to measure.
        versions: Registered versions to measure.
        lag: See `page_metrics`.
        with_peers: Also measure what one could pick instead.
    """
    oracle = (_measure_oracle(sample),) if knows_truth(run) else ()
    peers = (measure_peers(sample.new_only),) if with_peers else ()
    measured = TRAIN_VARIANTS, _measure_pages(sample, versions, lag), BUILD_WINDOW_EXAMPLES, COUNT_KNOWN_USERS
    return (*measured, *oracle, *peers)


def knows_truth(run: Run) -> bool:
    """Return whether the shop is a generated one that comes with the true tastes of its users."""
    return run.settings.demo_shop is not None and (run.settings.own_disk / "truth").exists()


def _measure_pages(sample: Sample, versions: list[str], lag: int | None) -> Step:
    def measure_pages(run: Run, out: Place) -> str:
        """Measure each policy on the pages of the window."""
        if lag is not None:
            _refuse_dates_without_times(run)
        histories, models = USER_HISTORIES.in_parts(run.spark, run.outputs), meta_models(run, versions)
        PAGE_METRICS.write(page_metrics(histories, run.shop, run.open_days, models, *sample, lag=lag), out)
        pages = PAGE_METRICS.read(run.spark, out)
        return plural(pages.where(pages["policy"] == META).count(), "page")

    return Step(
        "measure_pages",
        measure_pages,
        (PAGE_METRICS.name,),
        inputs=(TRAIN_VARIANTS,),
        depends_on=lambda run: [run.days, sample, versions, lag],
    )


def _refuse_dates_without_times(run: Run) -> None:
    """Raise an error if the events tell days only.

    Raises:
        ConfigurationError: If so.
    """
    days = parts_of_days(run.outputs / EVENTS.name, run.days)
    times = times_of_day(EVENTS.read(run.spark, run.outputs, days))
    if len(times) < 3:
        raise ConfigurationError(
            f"--live == True, but all events of the window are at {' or '.join(times)} UTC, must have times of "
            "day: their dates do not tell what was known when a page was shown; measure without --live"
        )


def _measure_oracle(sample: Sample) -> Step:
    def measure_oracle(run: Run, out: Place) -> str:
        """Measure the ranking of the same pages by the true tastes of the generated shop's users."""
        histories = USER_HISTORIES.read(run.spark, run.outputs)
        ORACLE_PAGES.write(oracle_pages(histories, run.shop, run.open_days, run.settings.own_disk, *sample), out)
        return f"{plural(ORACLE_PAGES.rows(out), 'page')} ranked by true taste"

    return Step(
        "measure_oracle",
        measure_oracle,
        (ORACLE_PAGES.name,),
        inputs=(FIT_RECOMMENDERS,),
        depends_on=lambda run: [run.days, sample, run.settings.demo_shop],
    )


def _build_window_examples(run: Run, out: Place) -> str:
    histories = sampled_histories(run, run.open_days)
    as_measured = run.settings.meta_model.model_copy(update={"moments": "midnight"})  # as policy `meta` ranks
    WINDOW_EXAMPLES.write(training_examples(histories, run.shop, run.open_days, as_measured), out)
    return f"{plural(WINDOW_EXAMPLES.rows(out), 'example')} to measure probabilities on"


def _count_known_users(run: Run, out: Place) -> str:
    histories = USER_HISTORIES.in_parts(run.spark, run.outputs)
    KNOWN_USERS.write(known_users(histories, run.shop, run.open_days), out)
    return f"{plural(KNOWN_USERS.rows(out), 'pair')} of sale and day with a known event"


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
