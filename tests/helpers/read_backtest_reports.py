"""A report's page, taken apart."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from recsys.images.tagging.files import PhotoFiles
from recsys.reports.backtest.writer import write_report
from tests.helpers.results_of_a_shop import result


class Texts(HTMLParser):
    """What a page says outside of its plots, element by element, and which tags it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(re.sub(r"<svg role.*?</svg>|<style.*?</style>\s*", "", page, flags=re.DOTALL))

    def handle_starttag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(" ".join(data.split()))


def report(tmp_path: Path, **changed: Any) -> str:
    """The page of a whole result in which some parts are others; None takes a part away."""
    found = {key: value for key, value in (result() | changed).items() if value is not None}
    write_report(found, tmp_path / "report.html", PhotoFiles(str(tmp_path)))
    return (tmp_path / "report.html").read_text("utf-8")


def titles(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def columns(page: str, caption: str) -> list[str]:
    """Return the column names of the table under a caption."""
    pattern = rf"<(?:caption|summary)>{re.escape(caption)}</.*?<thead>(.*?)</thead>"
    return re.findall(r"<th[^>]*>(.*?)</th>", re.search(pattern, page, flags=re.DOTALL)[1])


def rows(page: str, caption: str) -> list[list[str]]:
    """The body of the table under a caption, cell by cell."""
    pattern = rf"<(?:caption|summary)>{re.escape(caption)}</.*?<tbody>(.*?)</tbody>"
    body = re.search(pattern, page, flags=re.DOTALL)[1]
    lines = re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL)
    return [[cell.replace("\xa0", " ") for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)] for line in lines]
