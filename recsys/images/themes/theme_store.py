"""The theme models of a shop, a file each: a night takes the last one, or fits the next."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from recsys.errors import ModelError
from recsys.images.themes.themes import ThemeModel
from recsys.instants import DAY
from recsys.storage.local import write_whole

Fit = Callable[[ThemeModel | None], ThemeModel]


def themes_as_of(
    folder: Path, as_of: int, tagger_version: str, fingerprint: str, refit_days: int, fit: Fit
) -> ThemeModel:
    """Return the themes to use for everything from an instant on.

    A model that was fitted as of a later instant is never looked at: a backtest knows what its first day knew.

    Args:
        folder: Of the theme models.
        as_of: The instant, microseconds.
        tagger_version: What tagged the photos.
        fingerprint: Of the settings of the fit.
        refit_days: A model so old is not used any more.
        fit: Fits a new model, given the last one of the same tagger, whose ids and names it keeps; the last one of the
            same settings where there is any, so that a backtest of other settings renames nothing.

    Raises:
        ModelError: If a file of the folder cannot be read.
    """
    earlier = [model for model in _models(folder, tagger_version) if model.as_of <= as_of]
    alike = [model for model in earlier if model.fingerprint == fingerprint]
    if alike and alike[-1].as_of > as_of - refit_days * DAY:
        return alike[-1]
    next_id = max((model.next_id for model in earlier), default=1)
    model = fit(replace((alike or earlier)[-1], next_id=next_id) if earlier else None)
    if model.ids:
        save(model, folder / f"{model.version}.json")
    return model


def save(model: ThemeModel, path: Path) -> None:
    """Write a model; half a file is never seen."""
    write_whole(path, model.to_json())


def read(path: Path) -> ThemeModel:
    """Read a model that `save` wrote.

    Raises:
        ModelError: If it is not one.
    """
    try:
        return ThemeModel.from_json(path.read_text("utf-8"))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _models(folder: Path, tagger_version: str) -> list[ThemeModel]:
    """Return the models of a tagger, the last one last; those of the same instant in the same order every time."""
    models = [model for model in map(read, folder.glob("*.json")) if model.tagger_version == tagger_version]
    return sorted(models, key=lambda model: (model.as_of, model.version))
