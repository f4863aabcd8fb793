"""The report of a backtest, for who decides whether to promote: one page that opens from disk."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from recsys.images.tagging.files import PhotoFiles
from recsys.reports.backtest.examples import Album, examples
from recsys.reports.backtest.model_sections import boosted, calibration, coefficients, learning_curve
from recsys.reports.backtest.sections import Section, ablation, differences, policies, slices
from recsys.reports.backtest.summary import summary
from recsys.reports.backtest.terms import terms
from recsys.reports.page import page
from recsys.storage.local import write_whole

_PARTS = (policies, differences, ablation, slices, calibration, coefficients, learning_curve, boosted)


def write_report(result: Mapping[str, Any], file: Path, photos: PhotoFiles) -> None:
    """Write the report at once, in the place of the one before; the same result and photos give the same bytes.

    Args:
        result: As `jobs.backtest.backtest` returns it; a part that it lacks is left out.
        file: Its folder is made where it is missing.
        photos: Where the covers lie. One that cannot be read in time is a tile with the title.
    """
    sales = (result.get("sales") or {}).values()
    album = Album(photos, (sale["cover"] for sale in sales if sale.get("cover")))
    shown = examples(result, album)
    text = page(
        __package__,
        window=result["window"],
        summary=summary(result),
        sections=list(_sections(result)),
        examples=shown,
        photos=album.photos,
        terms=terms(result),
    )
    write_whole(file, text)


def _sections(result: Mapping[str, Any]) -> Iterator[Section]:
    """Return the parts of the report, in the order in which they are read."""
    return chain.from_iterable(part(result) for part in _PARTS)
