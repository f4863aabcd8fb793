"""Versions of taggers of a shop's own labels: `tagger_<taxonomy>` in MLflow, with copies on each machine's disk.

A version is known by its number in MLflow and by `TrainedTagger.version`, the name of its folder there;
see `local_taggers`. While MLflow does not answer, nights go on with the champion that they last saw.

Every function raises RegistryError, of one line, where MLflow, its database or its files do not answer.
"""

import logging
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as Registered
from mlflow.exceptions import MlflowException

from jobs.registry.connection import ABSENT, client_of, experiment_id, in_one_line, log_values
from jobs.registry.promote_model import Asked
from recsys.config.settings import Settings
from recsys.errors import ConfigurationError, ModelError, RegistryError
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.registry.log import Change, ModelLog
from recsys.registry.versions import CHALLENGER, CHAMPION
from recsys.storage.local import put_in_place, scratch_folder, write_whole

LEAST_DIFFERENCE = -0.01
"""Least lower end of the interval of the difference in accuracy for a version that is promoted without force."""
_FILES = "tagger"
_VERSION = "tagger_version"

_log = logging.getLogger(__name__)


class TaggerVersion(NamedTuple):
    """Metadata of a registered version."""

    number: str
    version: str
    """Digest of all that determines its tags."""
    aliases: tuple[str, ...]
    created_at: datetime
    metrics: Mapping[str, float]


class TaggerEvidence(NamedTuple):
    """Accuracy of a version minus that of the champion, on the same photos of the test part, with a 95 % interval."""

    difference: float
    low: float
    high: float
    photos: int

    def __str__(self) -> str:
        """Return the difference and its interval in one line."""
        return (
            f"accuracy {self.difference:+.3f}, 95 % interval {self.low:+.3f} to {self.high:+.3f}, on the same "
            f"{self.photos:,} test photos"
        )


def model_name(taxonomy: str) -> str:
    """Return the name of a taxonomy's registered model."""
    return f"tagger_{taxonomy}"


@in_one_line
def register_tagger(settings: Settings, tagger: TrainedTagger, folder: Path) -> str:
    """Register a trained tagger: the first version becomes the champion, later ones the challenger.

    Args:
        settings: The shop.
        tagger: The tagger; if a version with the same tags is registered already, that version is returned. The numbers
            of its card become metrics.
        folder: Its files, written by `TrainedTagger.save`.

    Returns:
        The number of the version.
    """
    client, name = client_of(settings), _registered_name(settings, tagger.taxonomy.name)
    known = client.search_model_versions(f"name = '{name}' and tags.{_VERSION} = '{tagger.version}'")
    if known:
        return str(known[0].version)
    run_id = client.create_run(experiment_id(client, settings.mlflow), run_name="train_tagger").info.run_id
    parameters = {"taxonomy": tagger.taxonomy.name, "base": tagger.base.name, "base_version": tagger.base_version}
    log_values(client, run_id, _metrics_of(tagger.card), parameters, {_VERSION: tagger.version})
    client.log_artifacts(run_id, str(folder), _FILES)
    client.set_terminated(run_id)
    source = f"{client.get_run(run_id).info.artifact_uri}/{_FILES}"
    number = str(client.create_model_version(name, source, run_id, tags={_VERSION: tagger.version}).version)
    if CHAMPION in client.get_registered_model(name).aliases:
        client.set_registered_model_alias(name, CHALLENGER, number)
    else:
        first = Asked(datetime.now(UTC), "train", "the first version")
        _move_champion(settings, tagger.taxonomy.name, None, number, "first", first)
    return number


@in_one_line
def tagger_versions(settings: Settings, taxonomy: str) -> list[TaggerVersion]:
    """Return the metadata of all versions, newest first."""
    client, name = client_of(settings), _registered_name(settings, taxonomy)
    aliases = client.get_registered_model(name).aliases
    return [
        TaggerVersion(
            number=str(found.version),
            version=found.tags.get(_VERSION, ""),
            aliases=tuple(sorted(each for each, of in aliases.items() if str(of) == str(found.version))),
            created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            metrics=client.get_run(str(found.run_id)).data.metrics,
        )
        for found in client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
    ]


def version_of(settings: Settings, taxonomy: str, name: str) -> str:
    """Return the version of a number or an alias; the champion that was last seen if MLflow does not answer.

    Raises:
        ModelError: If there is no such version.
        RegistryError: If MLflow does not answer and no champion was ever seen.
    """
    champion = _folder(settings, taxonomy) / CHAMPION
    try:
        version = _registered(settings, taxonomy, name).tags[_VERSION]
    except RegistryError as error:
        if name != CHAMPION or not champion.exists():
            raise
        version = champion.read_text()
        _log.warning(f"    tagger {version}, the champion that was last seen, is used: {error}")
        return version
    if name == CHAMPION:
        write_whole(champion, version)
    return version


@in_one_line
def read_tagger(settings: Settings, taxonomy: str, version: str) -> TrainedTagger:
    """Return a registered version, whose files are fetched from MLflow if the shop's folder does not have them.

    Args:
        settings: The shop.
        taxonomy: Name of the taxonomy.
        version: From `version_of`.

    Raises:
        ModelError: If there is no such version, or its files are damaged.
    """
    folder = _folder(settings, taxonomy) / version
    if not folder.exists():
        client, name = client_of(settings), model_name(taxonomy)
        (found,) = client.search_model_versions(f"name = '{name}' and tags.{_VERSION} = '{version}'")
        with scratch_folder(folder.parent) as new:
            fetched = Path(client.download_artifacts(str(found.run_id), _FILES, str(new)))
            put_in_place(fetched, folder)
    return TrainedTagger.load(folder)


def promote_tagger(
    settings: Settings, taxonomy: str, version: str, asked: Asked, evidence: TaggerEvidence | None, force: bool = False
) -> Change:
    """Make a version the champion where it is not worse than the champion.

    Args:
        settings: The shop.
        taxonomy: Name of the taxonomy.
        version: A number, or an alias such as challenger.
        asked: Time, author and reason.
        evidence: The version beside the champion; None if they cannot be compared.
        force: Promote in any case; needs a reason.

    Raises:
        ConfigurationError: If `force` is given without a reason.
        ModelError: If there is no such version, it is the champion, or it may be worse by more than a point.
    """
    if force and not asked.why:
        raise ConfigurationError("--why == '', must give the reason where --force overrules the evidence")
    with _log_of(settings, taxonomy).locked():
        number, champion = str(_registered(settings, taxonomy, version).version), champion_number(settings, taxonomy)
        if number == champion:
            raise ModelError(
                f"version {number} is the champion already: 'recsys tagger versions {taxonomy}' lists others"
            )
        if champion is not None and not force and (evidence is None or evidence.low <= LEAST_DIFFERENCE):
            found = str(evidence) if evidence else "cannot be compared on test photos"
            raise ModelError(
                f"version {number} against the champion, version {champion}: {found}; the lower end must be above "
                f"{LEAST_DIFFERENCE:+.2f}: label more photos for a narrower interval, or overrule it with --force --why"
            )
        why = "; ".join(text for text in (asked.why, str(evidence or "")) if text)
        return _move_champion(settings, taxonomy, champion, number, "promote", asked._replace(why=why), force)


def rollback_tagger(settings: Settings, taxonomy: str, asked: Asked) -> Change:
    """Make the previous champion the champion again; each further call goes one champion back.

    Raises:
        ModelError: If there was no earlier champion.
    """
    log = _log_of(settings, taxonomy)
    with log.locked():
        champion = champion_number(settings, taxonomy)
        earlier = next(iter(log.rollback_targets()), None)
        if earlier is None:
            raise ModelError(
                f"tagger {taxonomy} has no earlier champion: promote another version of 'recsys tagger versions "
                f"{taxonomy}'"
            )
        return _move_champion(settings, taxonomy, champion, earlier, "rollback", asked)


def _metrics_of(card: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a card; of an estimate, which is value, low and high, the value."""
    values = {name: each[0] if isinstance(each, list | tuple) and each else each for name, each in card.items()}
    return {name: each for name, each in values.items() if isinstance(each, float)}


def _move_champion(
    settings: Settings, taxonomy: str, before: str | None, after: str, action: Any, asked: Asked, forced: bool = False
) -> Change:
    log = _log_of(settings, taxonomy)
    change = Change.model_validate(
        {
            "id": secrets.token_hex(8),
            "model": model_name(taxonomy),
            **{"at": asked.at, "action": action, "by": asked.by, "why": asked.why},
            **{"from": before, "to": after, "forced": forced},
        }
    )
    log.begin(change)
    _point(settings, taxonomy, after)
    log.end(change, asked.at, "done")
    return change


@in_one_line
def _point(settings: Settings, taxonomy: str, number: str) -> None:
    client, name = client_of(settings), model_name(taxonomy)
    client.set_registered_model_alias(name, CHAMPION, number)
    write_whole(_folder(settings, taxonomy) / CHAMPION, client.get_model_version(name, number).tags[_VERSION])
    if str(client.get_registered_model(name).aliases.get(CHALLENGER)) == number:
        client.delete_registered_model_alias(name, CHALLENGER)


@in_one_line
def champion_number(settings: Settings, taxonomy: str) -> str | None:
    """Return the number of the champion; None if there is none."""
    found = client_of(settings).get_registered_model(_registered_name(settings, taxonomy)).aliases.get(CHAMPION)
    return None if found is None else str(found)


@in_one_line
def _registered(settings: Settings, taxonomy: str, version: str) -> Registered:
    client, name = client_of(settings), _registered_name(settings, taxonomy)
    try:
        if version.isdecimal():
            return client.get_model_version(name, version)
        return client.get_model_version_by_alias(name, version)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        kind = "version" if version.isdecimal() else "alias"
        raise ModelError(
            f"tagger '{taxonomy}' has no {kind} '{version}': train one with 'recsys tagger train {taxonomy}', or name "
            f"one of 'recsys tagger versions {taxonomy}'"
        ) from error


def _registered_name(settings: Settings, taxonomy: str) -> str:
    """Return the name of the registered model, which is created if absent."""
    client: MlflowClient = client_of(settings)
    name = model_name(taxonomy)
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        client.create_registered_model(name, description=f"Labels of the taxonomy {taxonomy}, from photos.")
    return name


def _log_of(settings: Settings, taxonomy: str) -> ModelLog:
    return ModelLog(settings.place, model_name(taxonomy))


def _folder(settings: Settings, taxonomy: str) -> Path:
    return settings.own_disk / "taggers" / taxonomy
