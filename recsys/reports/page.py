"""What reports have in common: sections of notes, plots and tables, and one page that opens from disk."""

from dataclasses import dataclass
from typing import Any

import jinja2

from recsys.reports.charts import Chart

_SHARED = "recsys.reports"


@dataclass(frozen=True)
class Table:
    """Cells as text, the first columns are labels."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    is_long: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a report under one title."""

    title: str
    notes: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()


def page(package: str, **values: Any) -> str:
    """Fill the template `report.html` of a package, which extends `base.html` of this one.

    Args:
        package: Its full name.
        values: What the template names; texts are escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name, ".") for name in (package, _SHARED)]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(values)
