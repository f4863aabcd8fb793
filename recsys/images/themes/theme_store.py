"""The theme models of a shop, one file each; a run uses the latest one, or fits the next."""

from collections.abc import Callable
from dataclasses import replace

from recsys.errors import ModelError
from recsys.images.themes.themes import ThemeModel, no_themes
from recsys.instants import DAY
from recsys.storage.places import Place, files_in, put

Fit = Callable[[ThemeModel | None], ThemeModel]
Translate = Callable[[ThemeModel], ThemeModel | None]


def themes_as_of(
    folder: Place, as_of: int, tagger_version: str, fingerprint: str, refit_days: int, fit: Fit, translate: Translate
) -> ThemeModel:
    """Return the theme model to use from `as_of` on: a stored one if it is recent enough, otherwise a new fit.

    Models fitted as of a later instant are ignored, so that a backtest uses only what was known on its first day.

    Args:
        folder: Folder of the theme models.
        as_of: Instant, microseconds UTC.
        tagger_version: Version of the tagger that tagged the photos.
        fingerprint: Fingerprint of the settings of the fit.
        refit_days: Age in days from which a model is not used.
        fit: Fits a new model, given the previous one, whose ids and names it keeps: the latest of the same tagger and
            settings if there is one, so that a backtest with other settings renames nothing, else the latest of the
            same tagger, else the latest of another tagger, translated.
        translate: Returns a model of another tagger with the tags of this one, so that a change of tagger renames
            nothing; None if the tags that the other tagger gave are gone.

    Raises:
        ModelError: If a file of the folder cannot be read.
    """
    models = [model for model in _models(folder) if model.as_of <= as_of]
    earlier = [model for model in models if model.tagger_version == tagger_version]
    same_settings = [model for model in earlier if model.fingerprint == fingerprint]
    if same_settings and same_settings[-1].as_of > as_of - refit_days * DAY:
        return same_settings[-1]
    next_id = max((model.next_id for model in models), default=1)
    if models and not earlier:
        translated = translate(models[-1])
        earlier = [translated or no_themes()]  # without a translation all ids are new, and none is used twice
    model = fit(replace((same_settings or earlier)[-1], next_id=next_id) if earlier else None)
    if model.ids:
        save(model, folder / f"{model.version}.json")
    return model


def save(model: ThemeModel, path: Place) -> None:
    """Write a model atomically."""
    put(path, model.to_json())


def read(path: Place) -> ThemeModel:
    """Read a model that `save` wrote.

    Raises:
        ModelError: If the file does not contain one.
    """
    try:
        return ThemeModel.from_json(path.read_text("utf-8"))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _models(folder: Place) -> list[ThemeModel]:
    """Return the models by as_of; ties by version, so that the order is reproducible."""
    return sorted(map(read, files_in(folder, ".json")), key=lambda model: (model.as_of, model.version))
