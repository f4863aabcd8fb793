"""Functions that parse the page of a backtest report."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from recsys.images.tagging.files import PhotoFiles
from recsys.reports.backtest.writer import write_report
from tests.helpers.results_of_a_shop import result


class Texts(HTMLParser):
    """The texts of a page's elements outside of its plots, and the names of its tags."""

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


def report(tmp_path: Path, below_root: bool = True, **changed: Any) -> str:
    """Return the page of the complete result with some parts changed; None removes a part.

    Photos are read below the folder only, unless `below_root` is false.
    """
    changed_result = {key: value for key, value in (result() | changed).items() if value is not None}
    write_report(changed_result, tmp_path / "report.html", PhotoFiles(str(tmp_path), below_root=below_root))
    return (tmp_path / "report.html").read_text("utf-8")


def titles(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def columns(page: str, caption: str) -> list[str]:
    """Return the column names of the table under a caption."""
    pattern = rf"<(?:caption|summary)>{re.escape(caption)}</.*?<thead>(.*?)</thead>"
    return re.findall(r"<th[^>]*>(.*?)</th>", re.search(pattern, page, flags=re.DOTALL)[1])


def rows(page: str, caption: str) -> list[list[str]]:
    """Return the cells of the body of the table with a caption."""
    pattern = rf"<(?:caption|summary)>{re.escape(caption)}</.*?<tbody>(.*?)</tbody>"
    body = re.search(pattern, page, flags=re.DOTALL)[1]
    lines = re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL)
    return [[cell.replace("\xa0", " ") for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)] for line in lines]
