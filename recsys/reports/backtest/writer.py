"""The report of a backtest, for the decision whether to promote a version: one HTML file that opens from disk."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from recsys.images.tagging.files import PhotoFiles
from recsys.reports.album import Album
from recsys.reports.backtest.examples import examples
from recsys.reports.backtest.model_sections import boosted, calibration, coefficients, learning_curve
from recsys.reports.backtest.sections import Section, ablation, differences, policies, slices
from recsys.reports.backtest.summary import summary
from recsys.reports.backtest.terms import terms
from recsys.reports.page import render
from recsys.storage.places import Place, put

_PARTS = (policies, differences, ablation, slices, calibration, coefficients, learning_curve, boosted)


def write_report(result: Mapping[str, Any], file: Place, photos: PhotoFiles) -> None:
    """Write the report atomically, replacing the previous one; the same result and photos give the same bytes.

    Args:
        result: As `jobs.backtest.backtest` returns it; sections of absent parts are left out.
        file: Its folder is created if missing.
        photos: Reads the covers. A cover that cannot be read in time becomes a tile with the title.
    """
    sales = (result.get("sales") or {}).values()
    album = Album(photos, (sale["cover"] for sale in sales if sale.get("cover")))
    shown = examples(result, album)
    text = render(
        __package__,
        window=result["window"],
        summary=summary(result),
        sections=list(_sections(result)),
        examples=shown,
        photos=album.photos,
        terms=terms(result),
    )
    put(file, text)


def _sections(result: Mapping[str, Any]) -> Iterator[Section]:
    """Return the sections of the report in order."""
    return chain.from_iterable(part(result) for part in _PARTS)
