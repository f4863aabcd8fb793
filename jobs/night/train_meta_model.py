"""training_examples → a model version in MLflow; the champion → the model that the night ranks by."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame
from threadpoolctl import threadpool_limits

from jobs.engine.code_version import code_version
from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.build_themes import BUILD_THEMES
from jobs.night.build_training_set import BUILD_TRAINING_SET
from jobs.night.validate_tables import VALIDATE_TABLES
from jobs.registry import tracking
from jobs.registry.promote_model import NIGHTLY, appoint
from recsys.images.themes.themes import THEME_MODEL
from recsys.instants import DAY, from_micros
from recsys.meta_model import MetaModel, meta_model_from_json
from recsys.meta_model.training import Examples, evaluate, train
from recsys.registry.versions import CHAMPION, model_configuration
from recsys.settings import digest
from recsys.tables.night import TRAINING_EXAMPLES

TRAINED_MODEL = "trained_model"
META_MODEL = "meta_model"

_log = logging.getLogger(__name__)


def train_meta_model(run: Run, out: Path) -> str:
    """Train the meta-model and register it, unless a version of the same data, settings and code exists."""
    examples = examples_of(TRAINING_EXAMPLES.read(run.spark, run.folder))
    with threadpool_limits(1, "blas"):  # with matrices this narrow, threads mostly wait
        model = train(examples, run.settings.meta_model)
    metrics = evaluate(model, examples)
    themes = (run.folder / THEME_MODEL).read_text("utf-8")
    as_of = run.training_days[-1] + DAY
    lineage = {
        tracking.AS_OF: from_micros(as_of).isoformat(),
        tracking.MADE_BY: NIGHTLY if run.is_night else "backtest",
        tracking.CODE_VERSION: code_version(train_meta_model),
        tracking.DATA_FINGERPRINT: run.fingerprint(VALIDATE_TABLES),
        tracking.CONFIGURATION: digest(model_configuration(run.settings)),
    }
    fingerprint = run.fingerprint(TRAIN_META_MODEL)
    version = tracking.register(
        run.settings, model, metrics, len(examples.bought), fingerprint, lineage, {THEME_MODEL: themes}
    )
    alias = appoint(run.settings, version, as_of, datetime.now(UTC)) if run.is_night else None
    _save_model(model, version, out / TRAINED_MODEL)
    return f"{run.settings.mlflow.model_name} version {version}{f', the {alias}' if alias else ''}"


def take_champion(run: Run, out: Path) -> str:
    """Write the champion, limited to the features that the shop has now, as the model that the night ranks by."""
    version = _pinned_champion(run)
    model = as_the_shop_is_now(run, tracking.read_version(run.settings, version), f"version {version}")
    _save_model(model, version, out / META_MODEL)
    return f"{run.settings.mlflow.model_name} version {version}, the champion"


def as_the_shop_is_now(run: Run, model: MetaModel, name: str) -> MetaModel:
    """Return a model limited to the features that the shop has now; log a warning for those that are missing."""
    features = [recommender.name for recommender in run.shop.recommenders]
    if missing := [feature for feature in model.features if feature not in features]:
        _log.warning(f"    {name} ranks without {', '.join(missing)}, which the shop does not have")
    return model.over(features)


def examples_of(table: DataFrame) -> Examples:
    """Return table `training_examples` in memory, ordered by its key."""
    frame = table.orderBy("as_of", "user_id", "sale_id").toPandas()
    names = [name for name in frame.columns if name not in TRAINING_EXAMPLES.columns]
    return Examples(
        names,
        features=frame[names].to_numpy(),
        bought=frame["bought"].to_numpy(),
        sampling_rate=frame["sampling_rate"].to_numpy(),
        repeat=frame["repeat"].to_numpy(),
        position=frame["position"].to_numpy(),
        page=frame.groupby(["as_of", "user_id"]).ngroup().to_numpy().astype(np.int64),
    )


def read_model(run: Run) -> tuple[MetaModel, str]:
    """Return the model that a night ranks by, and its version."""
    return _read_saved_model(run.folder / META_MODEL)


def read_trained_model(run: Run) -> tuple[MetaModel, str]:
    """Return the model that the run trained, and its version."""
    return _read_saved_model(run.folder / TRAINED_MODEL)


def _read_saved_model(folder: Path) -> tuple[MetaModel, str]:
    return meta_model_from_json((folder / "model.json").read_text()), (folder / "version").read_text()


def _pinned_champion(run: Run) -> str:
    """Return the version that was the champion when the run first looked."""
    if CHAMPION not in run.pinned:
        run.pinned[CHAMPION] = tracking.version_of(run.settings, CHAMPION)
    return run.pinned[CHAMPION]


def _save_model(model: MetaModel, version: str, folder: Path) -> None:
    folder.mkdir()
    (folder / "model.json").write_text(model.to_json())
    (folder / "version").write_text(version)


TRAIN_META_MODEL = Step(
    "train_meta_model",
    train_meta_model,
    (TRAINED_MODEL,),
    inputs=(BUILD_TRAINING_SET,),
    depends_on=lambda run: [run.settings.meta_model, run.settings.mlflow],
)

TAKE_CHAMPION = Step(
    "take_champion",
    take_champion,
    (META_MODEL,),
    inputs=(BUILD_THEMES,),
    depends_on=lambda run: [run.settings.mlflow, _pinned_champion(run), run.settings.recommenders],
)

if __name__ == "__main__":
    main(TRAIN_META_MODEL)
