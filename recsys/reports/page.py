"""Common parts of the reports: sections of notes, plots and tables, in one HTML file that opens from disk."""

from dataclasses import dataclass
from typing import Any

import jinja2

from recsys.reports.charts import Chart
from recsys.wording import visible

_SHARED = "recsys.reports"


@dataclass(frozen=True)
class ReportTable:
    """Cells as text; the first `labels` columns are labels, a long table is folded."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    is_long: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a report under its own title."""

    title: str
    notes: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[ReportTable, ...] = ()


def render(package: str, **values: Any) -> str:
    """Return the HTML of template `report.html` of a package, which extends `base.html` of this one.

    Args:
        package: Full name of the package.
        values: The variables of the template; texts are escaped, and what is invisible in them is written out.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name, ".") for name in (package, _SHARED)]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,  # not what is HTML already
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(values)
