"""Experiment files, versions in MLflow → the policies that running experiments need, and their models."""

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.train_meta_model import TAKE_CHAMPION, read_model
from jobs.registry import copies, tracking
from recsys.config.pipeline import RankingSettings
from recsys.errors import ModelError, RegistryError
from recsys.experiments.accepted import IN_FORCE, AcceptedFiles
from recsys.experiments.model_pins import PINS, ServedSlot, policies, served_slots
from recsys.experiments.settings import ExperimentFile
from recsys.instants import from_micros
from recsys.meta_model import META, MetaModel, meta_model_from_json, policy_of
from recsys.registry.versions import CHAMPION
from recsys.snapshot.format import POPULARITY
from recsys.storage.locks import locked
from recsys.storage.places import Place, put
from recsys.wording import plural

EXPERIMENTS = "experiments"
"""Name of the step's output folder, and of the folder in the shop's folder with the data of all experiments."""
_POLICIES = "policies.json"

_log = logging.getLogger(__name__)


def prepare_experiments(run: Run, out: Place) -> str:
    """Pin the model versions of variants whose phase begins, and fetch the models that the night must score.

    A policy that cannot be scored is left out with a warning: the service then refuses the experiment, which is better
    than a night without rankings.
    """
    files, notes = _read_experiments(run)
    model, own_version = read_model(run)
    features = [recommender.name for recommender in run.shop.recommenders] if model is None else model.features
    configured = run.settings.rankings.policies
    missing = [policy for policy in configured if policy not in features and not (policy == META and model)]
    _note_missing_policies(run, missing)
    found = _places(run, files)
    pins = _pinned(run, found, notes)
    needed = set(policies(found, pins, own_version))
    versions = {policy_of(version): version for version in pins.values() if policy_of(version) in needed}
    models = _read_models(run, versions, notes)
    known = [POPULARITY, *([META] if model else []), *features]
    scored = sorted(policy for policy in needed if _can_be_scored(policy, models, known, features, notes))
    folder = out / EXPERIMENTS
    folder.mkdir()
    for policy in models.keys() & scored:
        (folder / f"{policy}.json").write_text(models[policy].to_json())
    (folder / PINS).write_text(json.dumps(pins))
    (folder / _POLICIES).write_text(json.dumps({"scored": scored, "missing": missing}))
    for note in notes:
        _log.warning(f"    {note}")
    running = sum(place.is_pinned for place in found)
    return f"{plural(running, 'variant')} in running experiments; policies {', '.join(scored) or 'as configured'}"


def ranking_settings(run: Run) -> RankingSettings:
    """Return the settings of the rankings with the configured policies, except the missing ones, and those that
    experiments need."""
    settings, prepared = run.settings.rankings, json.loads((run.outputs / EXPERIMENTS / _POLICIES).read_text())
    configured = [policy for policy in settings.policies if policy not in prepared["missing"]]
    further = [policy for policy in prepared["scored"] if policy not in (*configured, POPULARITY)]
    return settings.model_copy(update={"policies": (*configured, *further)})


def missing_policies(run: Run) -> list[str]:
    """Return the configured policies that the night cannot rank by."""
    return json.loads((run.outputs / EXPERIMENTS / _POLICIES).read_text())["missing"]


def other_versions(run: Run) -> dict[str, MetaModel]:
    """Return the other versions of the meta-model that experiments need, by their policy."""
    found = {file.stem: file.read_text() for file in (run.outputs / EXPERIMENTS).iterdir() if _is_version(file.name)}
    return {policy: meta_model_from_json(found[policy]) for policy in sorted(found)}


def _is_version(name: str) -> bool:
    return name.startswith(f"{META}@") and name.endswith(".json")


def _read_experiments(run: Run) -> tuple[Mapping[str, ExperimentFile], list[str]]:
    source = run.settings.serving.experiments
    if source is None:
        return {}, []
    return AcceptedFiles(Path(source), run.settings.own_disk / IN_FORCE).as_written()


def _read_models(run: Run, versions: Mapping[str, str], notes: list[str]) -> dict[str, MetaModel]:
    """Return the model of each policy; note those that cannot be read."""
    models = {}
    for policy, version in versions.items():
        try:
            models[policy] = copies.read_version(run.settings, version)
        except RegistryError as error:
            notes.append(f"policy {policy} of an experiment is left out: {error}")
    return models


def _places(run: Run, files: Mapping[str, ExperimentFile]) -> list[ServedSlot]:
    since = from_micros(run.as_of)
    return served_slots(files, since, since + timedelta(hours=run.settings.horizon_hours))


def _note_missing_policies(run: Run, missing: list[str]) -> None:
    name, days = run.settings.mlflow.model_name, run.settings.meta_model.days
    for policy in missing:
        if policy == META and (champion := run.pinned.get(CHAMPION)):
            why, until = f"version {champion}, the champion, cannot be read", "a night is run while MLflow answers"
        elif policy == META and CHAMPION in run.unknown:
            why, until = run.unknown[CHAMPION], "a night is run while MLflow answers"
        elif policy == META:
            why = f"model '{name}' has no champion to rank by"
            enough = f"{plural(run.settings.meta_model.min_purchases, 'purchase')} in {plural(days, 'day')}"
            until = f"a night trains the first one, from {enough}, or 'recsys models promote' names one"
        else:
            why, until = "no photo shows a theme", "photos have themes: look at tables sale_images and rejected_images"
        run.leave_out(f"policy {policy}, whose users get the popular page", why, until)


def _can_be_scored(
    policy: str, models: Mapping[str, MetaModel], known: list[str], features: list[str], notes: list[str]
) -> bool:
    try:
        if policy in models:
            models[policy].require_features(features)
        elif policy == META and META not in known:
            raise ModelError("there is no champion to rank by")
        elif policy not in known:
            raise ModelError(f"no such recommender, must be one of {', '.join(features)}")
    except ModelError as error:
        notes.append(f"policy {policy} of an experiment is left out: {error}")
        return False
    return True


def _pinned(run: Run, found: Iterable[ServedSlot], notes: list[str]) -> dict[str, str]:
    """Return the version of each place that names a model; note the aliases that there are not, and that moved."""
    path = run.settings.place / EXPERIMENTS / PINS
    with locked(path.parent):  # runs of other nights add pins too, which must not be lost
        pins: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        for place in found:
            if place.model is None:
                continue
            try:
                version = tracking.version_of(run.settings, place.model)
            except (ModelError, RegistryError) as error:
                if isinstance(error, ModelError) or place.name not in pins:
                    notes.append(f"{place.name} has no model: {error}")
                    continue
                version = pins[place.name]
                notes.append(f"{place.name} stays with version {version}: {error}")
            pinned = pins.setdefault(place.name, version) if place.is_pinned else version
            if pinned != version:
                notes.append(f"{place.name} stays with version {pinned}; alias {place.model} is version {version} now")
            pins[place.name] = pinned
        put(path, json.dumps(pins, indent=1, sort_keys=True))
    return pins


def _depends_on(run: Run) -> object:
    files, problems = _read_experiments(run)
    found = _places(run, files)
    versions = {place.name: _version(run, place) for place in found if place.model is not None}
    served = [(place.name, place.served) for place in found]
    return [run.settings.mlflow, run.settings.rankings.policies, served, versions, problems]


def _version(run: Run, place: ServedSlot) -> str:
    try:
        return tracking.version_of(run.settings, str(place.model))
    except (ModelError, RegistryError) as error:
        return str(error)


PREPARE_EXPERIMENTS = Step(
    "prepare_experiments", prepare_experiments, (EXPERIMENTS,), inputs=(TAKE_CHAMPION,), depends_on=_depends_on
)

if __name__ == "__main__":
    main(PREPARE_EXPERIMENTS)
