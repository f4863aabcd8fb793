"""The theme models of a shop, a file each: a night takes the last one, or fits the next."""

import os
from collections.abc import Callable
from pathlib import Path

from recsys.images.themes import ThemeModel
from recsys.instants import DAY

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
        fit: Fits a new model, given the last one of the same tagger, whose ids and names it keeps.
    """
    earlier = [model for model in _models(folder, tagger_version) if model.as_of <= as_of]
    fresh = [model for model in earlier if model.fingerprint == fingerprint and model.as_of > as_of - refit_days * DAY]
    if fresh:
        return fresh[-1]
    model = fit(earlier[-1] if earlier else None)
    if model.ids:
        save(model, folder / f"{model.version}.json")
    return model


def save(model: ThemeModel, path: Path) -> None:
    """Write a model; half a file is never seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}.new")
    new.write_text(model.to_json(), "utf-8")
    new.replace(path)


def _models(folder: Path, tagger_version: str) -> list[ThemeModel]:
    """Return the models of a tagger, the last one last."""
    models = [ThemeModel.from_json(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return sorted((model for model in models if model.tagger_version == tagger_version), key=lambda model: model.as_of)
