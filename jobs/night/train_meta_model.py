"""training_examples → a model version in MLflow; the champion → the model that the night ranks by."""

import logging
from datetime import UTC, datetime

from threadpoolctl import threadpool_limits

from jobs.engine.code_version import code_version
from jobs.engine.nights import main
from jobs.engine.run import LOG, Run, Step
from jobs.night.build_themes import BUILD_THEMES
from jobs.night.build_training_set import BUILD_TRAINING_SET
from jobs.night.validate_tables import VALIDATE_TABLES
from jobs.registry import copies, tracking
from jobs.registry.promote_model import NIGHTLY, appoint
from recsys.errors import RegistryError
from recsys.images.themes.themes import THEME_MODEL
from recsys.instants import DAY, from_micros
from recsys.meta_model import PURCHASES_PER_FEATURE, MetaModel, meta_model_from_json
from recsys.meta_model.training import Examples, evaluate, train
from recsys.pipeline.example_arrays import examples_of, read_examples
from recsys.recommenders.towers import TOWERS_FILE
from recsys.registry.versions import CHAMPION, model_configuration
from recsys.settings import digest
from recsys.storage.places import Place
from recsys.tables.night import TRAINING_EXAMPLES
from recsys.wording import plural

TRAINED_MODEL = "trained_model"
META_MODEL = "meta_model"

_log = logging.getLogger(__name__)


def train_meta_model(run: Run, out: Place) -> str:
    """Train the meta-model and register it, unless a version of the same data, settings and code exists.

    A night that cannot train goes on with the champion; a backtest has nothing to measure then, and stops.
    """
    examples = examples_of(read_examples(run.outputs / TRAINING_EXAMPLES.name))
    if run.is_night and not _has_enough(run, examples):
        return _no_new_version(out)
    try:
        with threadpool_limits(1, "blas"):  # with matrices this narrow, threads mostly wait
            model = train(examples, run.settings.meta_model)
    except Exception as error:
        if not run.is_night:
            raise
        _log.debug("training failed", exc_info=True)
        until = f"the cause is corrected: the stack trace is in {run.folder / LOG}"
        run.leave_out("a new version of the model", f"training failed ({error!r})", until)
        return _no_new_version(out)
    metrics = evaluate(model, examples)
    texts = {name: (run.outputs / name).read_text("utf-8") for name in (THEME_MODEL, TOWERS_FILE)}
    files = {name: text for name, text in texts.items() if text}
    as_of = run.training_days[-1] + DAY
    lineage = {
        tracking.AS_OF: from_micros(as_of).isoformat(),
        tracking.MADE_BY: NIGHTLY if run.is_night else "backtest",
        tracking.CODE_VERSION: code_version(train_meta_model),
        tracking.DATA_FINGERPRINT: run.fingerprint(VALIDATE_TABLES),
        tracking.CONFIGURATION: digest(model_configuration(run.settings)),
    }
    fingerprint = run.fingerprint(TRAIN_META_MODEL)
    try:
        version = tracking.register(run.settings, model, metrics, len(examples.bought), fingerprint, lineage, files)
        alias = appoint(run.settings, version, as_of, datetime.now(UTC)) if run.is_night else None
    except RegistryError as error:
        if not run.is_night:
            raise
        run.leave_out("a new version of the model", str(error), "the next night, which trains again")
        return _no_new_version(out)
    _note_little_data(run, examples, version)
    _save_model(model, version, out / TRAINED_MODEL)
    return f"{run.settings.mlflow.model_name} version {version}{f', the {alias}' if alias else ''}"


def _has_enough(run: Run, examples: Examples) -> bool:
    """Return whether a model can be trained on examples; record why not."""
    settings, purchases = run.settings.meta_model, int(examples.bought.sum())
    why = f"{plural(purchases, 'purchase')} of open sales in the {plural(settings.days, 'day')} before as_of"
    if purchases < settings.min_purchases:
        why += f", fewer than {settings.min_purchases:,} (meta_model.min_purchases)"
        run.leave_out("a new version of the model", why, "there are as many")
    elif examples.bought.all():
        why += ", and no other sale was open then to compare with"
        run.leave_out("a new version of the model", why, "several sales are open at the same time")
    else:
        return True
    return False


def _no_new_version(out: Place) -> str:
    (out / TRAINED_MODEL).mkdir()
    return "no new version"


def _note_little_data(run: Run, examples: Examples, version: str) -> None:
    """Record that a version was trained on too few purchases for its number of features."""
    purchases, features = int(examples.bought.sum()), len(examples.names)
    needed = PURCHASES_PER_FEATURE * features
    if run.is_night and purchases < needed:
        why = (
            f"{plural(purchases, 'purchase')} for {plural(features, 'feature')}, fewer than {PURCHASES_PER_FEATURE} "
            "for each: too little data to tell whether it ranks better than popularity"
        )
        until = f"a version is trained on {needed:,} purchases, or a backtest shows that it is better"
        run.leave_out(f"certainty about version {version} of the model", why, until, degrades_pages=False)


def take_champion(run: Run, out: Place) -> str:
    """Write the champion, limited to the features that the shop has now, as the model that the night ranks by.

    Without a champion the night ranks by no model.
    """
    version, name = _pinned_champion(run), run.settings.mlflow.model_name
    if not version:
        (out / META_MODEL).mkdir()
        return f"the champion of {name} is not known" if CHAMPION in run.unknown else f"{name} has no champion"
    try:
        registered = copies.read_version(run.settings, version)
    except RegistryError as error:
        run.leave_out(f"version {version} of the model, the champion", str(error), "MLflow answers again")
        (out / META_MODEL).mkdir()
        return f"{name} version {version} cannot be read"
    model = as_the_shop_is_now(run, registered, f"version {version}")
    if missing := [feature for feature in registered.features if feature not in model.features]:
        why = f"version {version} was trained with them, and the shop does not have them"
        run.leave_out(
            f"features {', '.join(missing)} of the model", why, "the shop has them, or another version is promoted"
        )
    _save_model(model, version, out / META_MODEL)
    return f"{name} version {version}, the champion"


def as_the_shop_is_now(run: Run, model: MetaModel, name: str) -> MetaModel:
    """Return a model limited to the features that the shop has now; log a warning for those that are missing."""
    features = [recommender.name for recommender in run.shop.recommenders]
    if missing := [feature for feature in model.features if feature not in features]:
        _log.warning(f"    {name} ranks without {', '.join(missing)}, which the shop does not have")
    return model.over(features)


def read_model(run: Run) -> tuple[MetaModel, str] | tuple[None, str]:
    """Return the model that a night ranks by, and its version; None and an empty version if there is no champion."""
    folder = run.outputs / META_MODEL
    return _read_saved_model(folder) if (folder / "version").exists() else (None, "")


def read_trained_model(run: Run) -> tuple[MetaModel, str]:
    """Return the model that the run trained, and its version."""
    return _read_saved_model(run.outputs / TRAINED_MODEL)


def _read_saved_model(folder: Place) -> tuple[MetaModel, str]:
    return meta_model_from_json((folder / "model.json").read_text()), (folder / "version").read_text()


def _pinned_champion(run: Run) -> str:
    """Return the version that was the champion when the run first looked; empty if there was none or none is known."""
    if CHAMPION not in run.pinned:
        try:
            run.pinned[CHAMPION] = copies.champion_version(run.settings)
        except RegistryError as error:
            run.pinned[CHAMPION], run.unknown[CHAMPION] = "", str(error)
    return run.pinned[CHAMPION]


def _save_model(model: MetaModel, version: str, folder: Place) -> None:
    folder.mkdir()
    (folder / "model.json").write_text(model.to_json())
    (folder / "version").write_text(version)


TRAIN_META_MODEL = Step(
    "train_meta_model",
    train_meta_model,
    (TRAINED_MODEL,),
    inputs=(BUILD_TRAINING_SET,),
    depends_on=lambda run: [run.settings.meta_model, run.settings.meta_model.min_purchases, run.settings.mlflow],
)

TAKE_CHAMPION = Step(
    "take_champion",
    take_champion,
    (META_MODEL,),
    inputs=(BUILD_THEMES,),
    depends_on=lambda run: [run.settings.mlflow, _pinned_champion(run), run.unknown, run.settings.recommenders],
)

if __name__ == "__main__":
    main(TRAIN_META_MODEL, only_if_trains=True)
