"""The report of a backtest as a file and in a browser; its looks are checked by eye."""

import re
from pathlib import Path

import pytest

from recsys.images.tagging.files import PhotoFiles
from recsys.reports.backtest.writer import write_report
from tests.helpers.read_backtest_reports import Texts, report
from tests.helpers.results_of_a_shop import ATTACK, estimate, result, write_covers


def test_report_is_replaced_atomically(tmp_path, monkeypatch):
    before = report(tmp_path)
    whole = Path.write_bytes

    def torn(self, content):
        whole(self, content[: len(content) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(OSError, match="no space"):
        report(tmp_path, examples=None)
    assert (tmp_path / "report.html").read_text("utf-8") == before


def test_same_result_gives_the_same_bytes_in_a_new_folder(tmp_path):
    write_covers(tmp_path)
    for name in ("a", "b"):
        write_report(result(), tmp_path / "new" / name / "report.html", PhotoFiles(str(tmp_path)))
    assert (tmp_path / "new/a/report.html").read_bytes() == (tmp_path / "new/b/report.html").read_bytes()


def test_page_loads_nothing_else(tmp_path):
    write_covers(tmp_path)
    page = report(tmp_path)
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "default-src 'none'" in page
    assert "<script" not in page


def test_no_two_elements_of_the_page_share_an_id(tmp_path):
    write_covers(tmp_path)
    ids = re.findall(r'\bid="([^"]+)"', report(tmp_path))
    assert len(ids) == len(set(ids)) > 20


def test_names_are_text_whatever_they_hold(tmp_path):
    found = result()
    attacked = {
        "window": found["window"] | {"note": ATTACK, "model": ATTACK},
        "policies": found["policies"] | {ATTACK: found["policies"]["popularity"]},
        "differences": {ATTACK: found["differences"]["meta - meta@7"]},
        "ablation": [{**found["ablation"][0], "feature": ATTACK}],
        "coefficients": [{"feature": ATTACK, "words": ATTACK, "first": 0.1}],
        "slices": {ATTACK: [{"name": ATTACK, "pages": 1, "policies": {"meta": estimate(0.1, 0.1)}}]},
        "examples": [{**found["examples"][0], "user_id": ATTACK, "pages": {ATTACK: ["sale-0"]}}],
        "sales": {"sale-0": {"title": ATTACK, "country": ATTACK, "category": ATTACK, "cover": ATTACK}},
    }
    page = report(tmp_path, **attacked)
    assert "<script" not in page
    assert "script" not in Texts(page).tags
    assert Texts(page).texts.count(ATTACK) >= 8


def test_what_is_invisible_in_a_name_is_written_out_in_texts_and_plots(tmp_path):
    known = result()["sales"]
    sales = {key: sale | {"title": "a\x1b[2J\u202eb", "cover": None} for key, sale in known.items()}
    slices = result()["slices"]
    country = [row | {"name": f"{row['name']}\x1b\u202e"} for row in slices["country"]]
    page = report(tmp_path, sales=sales, slices=slices | {"country": country})
    assert not {"\x1b", "\u202e"} & set(page)
    assert r'<div class="tile">a\x1b[2J\u202eb</div>' in page
    assert page.count(r"Italy\x1b\u202e") >= 3  # in the table, the plot, and its text alternative


def test_every_plot_has_a_text_alternative(tmp_path):
    page = report(tmp_path, examples=None)
    words = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(words) == 11
    assert "own_visits: single recommender 0.1520" in words[0]


# The page in a browser


@pytest.mark.parametrize("width", [375, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_shows_the_page_without_overflow_or_warning(browser, tmp_path, width, scheme):
    write_covers(tmp_path)
    report(tmp_path)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get_log("browser")
    browser.get((tmp_path / "report.html").as_uri())
    wide, seen = browser.execute_script("const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
    assert wide == seen <= width
    assert browser.find_element("css selector", "h1").text == "Better than each recommender alone"
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(251, 250, 248)", "dark": "rgb(20, 22, 26)"}[scheme]
    if width == 1200:  # no table or plot needs scrolling
        inner = "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        assert browser.execute_script(inner) == 0
    assert browser.get_log("browser") == []


def test_mark_of_a_tile_leaves_its_title_readable(browser, tmp_path):
    report(tmp_path)  # without any photo
    browser.get((tmp_path / "report.html").as_uri())
    overlap = """
        return [...document.querySelectorAll('.marked .tile')].filter(tile => {
            const title = document.createRange();
            title.selectNodeContents(tile);
            const mark = tile.parentElement.querySelector('.mark').getBoundingClientRect();
            return title.getBoundingClientRect().top < mark.bottom;
        }).length
    """
    assert browser.execute_script("return document.querySelectorAll('.marked .tile').length") > 5
    assert browser.execute_script(overlap) == 0


def test_printed_page_fits_the_paper_and_keeps_its_colours(browser, tmp_path):
    write_covers(tmp_path)
    report(tmp_path)
    size = {"width": 720, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.get((tmp_path / "report.html").as_uri())
    wide, adjusted = browser.execute_script(
        "return [document.documentElement.scrollWidth,"
        " getComputedStyle(document.querySelector('.mark')).printColorAdjust]"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert wide <= 720
    assert adjusted == "exact"
