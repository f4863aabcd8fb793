"""Templates → HTML: whatever comes from data is text."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from console.web.people import Role
from recsys.reports.wording import number, percent
from recsys.wording import plural, visible

HERE = Path(__file__).parents[1]
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"


def _instant(value: datetime | None, form: str = "%Y-%m-%d %H:%M") -> str:
    return f"{value.astimezone(UTC):{form}}" if value is not None else "–"


def duration(seconds: float | None) -> str:
    """Return a duration as people write it: 41 s, 12 min, 3 h 5 min, 2 days 4 h."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} days {minutes // 60 % 24} h"


def lines(text: str) -> Markup:
    """Return a text of several lines as HTML that keeps them; what else is invisible in it is written out."""
    return Markup("\n").join(escape(visible(line)) for line in text.split("\n"))


_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=lambda value: visible(value) if type(value) is str else value,  # not what is HTML already
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"instant": _instant, "duration": duration, "lines": lines, "number": number, "percent": percent}
_templates.globals |= {"plural": plural, "Role": Role}


def html(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return what a template makes of values."""
    return HTMLResponse(_templates.get_template(template).render(values), status)


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page of the console, which knows its visitor and where they are."""
    is_part = request.headers.get("hx-request") == "true"
    common = {"visitor": request.state.visitor, "here": request.url.path, "is_part": is_part}
    return html(template, status, **common, **values)


def report_page(path: Path) -> HTMLResponse:
    """Return a report, one HTML file with its styles in it, which may run and load nothing."""
    return HTMLResponse(path.read_text("utf-8"), headers={"content-security-policy": _REPORT_POLICY})
