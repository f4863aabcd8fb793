"""training_examples → a model version in MLflow, and a copy of it in the run's folder."""

from pathlib import Path

from pyspark.sql import DataFrame

from jobs import tracking
from jobs.build_training_set import BUILD_TRAINING_SET
from jobs.run import Run, Step, main
from recsys.images.themes import THEME_MODEL
from recsys.meta_model import MetaModel
from recsys.meta_training import Examples, evaluate, train
from recsys.tables import TRAINING_EXAMPLES

META_MODEL = "meta_model"


def train_meta_model(run: Run, out: Path) -> str:
    """Fit the meta-model and register it; the version that the same data and settings gave before is taken again."""
    examples = examples_of(TRAINING_EXAMPLES.read(run.spark, run.folder))
    model = train(examples, run.settings.meta_model)
    fingerprint = run.fingerprint(TRAIN_META_MODEL)
    metrics = evaluate(model, examples)
    themes = (run.folder / THEME_MODEL).read_text("utf-8")
    version = tracking.register(
        run.settings, model, metrics, len(examples.bought), fingerprint, run.is_night, {THEME_MODEL: themes}
    )
    _save(model, version, out)
    return f"{run.settings.mlflow.model_name} version {version}"


def take_champion(run: Run, out: Path) -> str:
    """Take the champion instead of training."""
    model, version = tracking.champion(run.settings)
    _save(model, version, out)
    return f"{run.settings.mlflow.model_name} version {version}, the champion"


def examples_of(table: DataFrame) -> Examples:
    """Read rows of table `training_examples` into memory."""
    frame = table.orderBy("as_of", "user_id", "sale_id").toPandas()
    names = [name for name in frame.columns if name not in TRAINING_EXAMPLES.columns]
    return Examples(names, frame[names].to_numpy(), frame["bought"].to_numpy(), frame["sampling_rate"].to_numpy())


def read_model(run: Run) -> tuple[MetaModel, str]:
    """Return the run's meta-model and its version."""
    folder = run.folder / META_MODEL
    return MetaModel.from_json((folder / "model.json").read_text()), (folder / "version").read_text()


def _save(model: MetaModel, version: str, out: Path) -> None:
    (out / META_MODEL).mkdir()
    (out / META_MODEL / "model.json").write_text(model.to_json())
    (out / META_MODEL / "version").write_text(version)


TRAIN_META_MODEL = Step(
    "train_meta_model",
    train_meta_model,
    (META_MODEL,),
    inputs=(BUILD_TRAINING_SET,),
    depends_on=lambda run: [run.settings.meta_model, run.settings.mlflow],
)

TAKE_CHAMPION = Step(
    "take_champion", take_champion, (META_MODEL,), depends_on=lambda run: tracking.champion(run.settings)[1]
)

if __name__ == "__main__":
    main(TRAIN_META_MODEL)
