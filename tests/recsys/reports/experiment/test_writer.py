"""The report of an experiment, read from its files and in a browser; its looks are checked by eye."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from recsys.experiments.analysis.results import Result, SegmentResult, VariantSummary, Verdict
from recsys.reports.experiment.writer import ReportFiles, write_report
from tests.helpers.reported_experiments import (
    ATTACK,
    LOOKS,
    PURCHASES,
    interleaved,
    invalid,
    result,
    untold,
)

DECISIVE = ["0.412", "0.446", "+0.0306 [+0.0076, +0.0536]", "+7.42% [+1.81%, +13.3%]", "0.00912", "0.0182"]
CUPED = ["5,013", "4,987", "+0.0334 [+0.0031, +0.0637]", "0.0311", "28.7%"]
SENSITIVITY = ["[-0.0099, +0.0711]", "0.213", "0.426", "0.0329", "7.98%"]
OTHERS = ["-2.5 [-9.25, +4.12]", "1,234", "0.47", "+0.0068 [+0.0061, +0.0075]", "0.005", "violated", "< 0.001"]
HEALTH = ["0.793", "7 (0.07%)", "2 of 9,990 checked", "18,021", "441", "2.39%", "ab12cd34ef56", "36,453", "17,992"]
DAYS = ["2026-11-25", "25,000", "24,975", "+0.02", "[+0.016, +0.024]", "[-0.012, +0.052]"]
ELSEWHERE = ["country=DE", "811", "61.7%", "3,101", "3,089", "0.777", "popularity", "2026-12-16 03:00 UTC"]


class Texts(HTMLParser):
    """The texts and tags of a page outside its plots, cell by cell."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: list[str] = []
        self.feed(re.sub(r"<svg.*?</svg>|<style.*?</style>", "", page, flags=re.DOTALL))

    def handle_starttag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.cells.append(data.strip())


def report(found: Result, folder: Path) -> tuple[str, str]:
    """Return the report in markdown and HTML."""
    written = write_report(found, folder)
    return written.markdown.read_text("utf-8"), written.html.read_text("utf-8")


def markdown_cells(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [cell.strip() for line in lines for cell in re.split(r"(?<!\\)\|", line)]


def test_report_is_three_files_and_the_result_can_be_read_again(tmp_path):
    folder = tmp_path / "new" / "folder"
    written = write_report(result(), folder)
    assert written == ReportFiles(folder / "result.json", folder / "report.md", folder / "report.html")
    assert Result.from_json(written.result.read_text("utf-8")) == result()
    assert {path.name for path in folder.iterdir()} == {"result.json", "report.md", "report.html"}


def test_report_is_replaced_atomically(tmp_path, monkeypatch):
    write_report(invalid(), tmp_path)
    before = (tmp_path / "result.json").read_text("utf-8")
    whole = Path.write_bytes

    def torn(self, content):
        whole(self, content[: len(content) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(OSError, match="no space"):
        write_report(result(), tmp_path)
    assert (tmp_path / "result.json").read_text("utf-8") == before
    monkeypatch.undo()
    write_report(result(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("figures", [DECISIVE, CUPED, SENSITIVITY, OTHERS, HEALTH, DAYS])
def test_each_figure_is_in_a_cell_of_both_reports(tmp_path, figures):
    markdown, page = report(result(), tmp_path)
    in_markdown, in_page = markdown_cells(markdown), Texts(page).cells
    assert [figure for figure in figures if figure not in in_markdown] == []
    assert [figure for figure in figures if figure not in in_page] == []


def test_plain_and_cuped_differences_are_side_by_side(tmp_path):
    cells = markdown_cells(report(result(comparisons=(PURCHASES,)), tmp_path)[0])
    plain = cells.index("+0.0334 [+0.0031, +0.0637]")
    assert cells[plain : plain + 5] == [*CUPED[2:4], "+0.0306 [+0.0076, +0.0536]", "0.00912", "28.7%"]


def test_segments_triggered_users_and_window_are_described(tmp_path):
    markdown, page = report(result(), tmp_path)
    text = " ".join(Texts(page).cells)
    assert [figure for figure in ELSEWHERE if figure not in markdown] == []
    assert [figure for figure in ELSEWHERE if figure not in text] == []


@pytest.mark.parametrize(
    ("name", "variant", "head"),
    [
        ("ship", "themes", "Ship themes"),
        ("no-ship", None, "Do not ship"),
        ("inconclusive", None, "Inconclusive"),
        ("running", None, "Still running"),
        ("invalid", None, "Invalid"),
    ],
)
def test_verdict_comes_first_with_its_reasons(tmp_path, name, variant, head):
    markdown, page = report(result(verdict=Verdict(name, ("First.", "Second."), variant)), tmp_path)
    assert markdown.startswith(f"# {head}\n")
    assert markdown.index("- First.\n- Second.") < markdown.index("## What was compared")
    assert f'class="verdict {name}"' in page
    assert page.index(f"<h1>{head}</h1>") < page.index("<li>First.</li>") < page.index("<li>Second.</li>")
    assert page.index("<li>Second.</li>") < page.index("<section")


def test_invalid_result_greys_out_all_differences_and_nothing_else(tmp_path):
    markdown, page = report(invalid(), tmp_path)
    greyed = re.findall(r"<section class=\"doubtful\">\s*<h2>(.*?)</h2>", page)
    assert page.count('<p class="doubt">Not to be trusted') == len(greyed)
    assert greyed == ["What differs", "Day by day", "Segments", "Users who saw a difference"]
    assert re.findall(r"## (.*)\n\n> \*\*Not to be trusted", markdown) == greyed
    assert ".doubtful :is(.charts, .tables) { filter: grayscale(1)" in page
    assert "do not use the differences" in page


def test_valid_result_greys_out_nothing(tmp_path):
    markdown, page = report(result(), tmp_path)
    assert 'class="doubtful"' not in page
    assert "Not to be trusted" not in page + markdown


def test_sound_aa_test_has_nothing_to_ship(tmp_path):
    markdown, _ = report(result(type="aa", verdict=Verdict("inconclusive", ("The set-up is sound.",))), tmp_path)
    assert "nothing to ship" in markdown
    assert "A/A test" in markdown


def test_running_experiment_says_that_findings_may_change(tmp_path):
    running = result(window=replace(result().window, ended=False))
    assert "a finding may change" in report(running, tmp_path)[0]
    assert "a finding may change" not in report(result(), tmp_path)[0]


def test_correction_for_multiplicity_is_named_where_there_is_one(tmp_path):
    sentence = "The p values of the 2 primary comparisons are adjusted by the method of Holm."
    assert sentence in report(result(), tmp_path)[0]
    uncorrected = result(conventions=replace(result().conventions, multiplicity="none"))
    assert "the method of" not in report(uncorrected, tmp_path)[0]
    assert "the method of" not in report(result(comparisons=(PURCHASES,)), tmp_path)[0]


def test_interleaving_shows_the_purchases_by_variant(tmp_path):
    markdown, page = report(interleaved(), tmp_path)
    for cell in ("812", "901", "+0.0044 [+0.0005, +0.0083]", "0.028", "9,871"):
        assert cell in markdown_cells(markdown)
        assert cell in Texts(page).cells
    assert "What differs" not in page
    assert page.count("<svg") == 1


def test_result_without_comparisons_gives_a_report(tmp_path):
    for found in (untold(), interleaved(None), result(comparisons=(), segments=(), daily=(), triggered=None)):
        markdown, page = report(found, tmp_path)
        assert "None" not in re.sub(r"None\.", "", markdown)
        assert "nan" not in Texts(page).cells
        assert "Health" in page


def test_only_primary_metrics_are_drawn_day_by_day(tmp_path):
    other = tuple(replace(look, metric="visit_rate") for look in LOOKS)
    markdown, _ = report(result(daily=(*LOOKS, *other)), tmp_path)
    assert "purchases_per_user of themes, day by day" in markdown
    assert "visit_rate of themes, day by day" not in markdown


def test_glossary_uses_the_settings_of_the_experiment(tmp_path):
    settings = replace(result().conventions, alpha=0.1, power=0.9, lookback_days=None)
    markdown, page = report(result(conventions=settings), tmp_path)
    assert "90% of intervals made this way contain the true difference" in markdown
    assert "a power of 90%" in markdown
    assert "<dt>CUPED</dt>" not in page
    assert "28 days before" in report(result(), tmp_path)[0]


def test_counts_of_one_are_singular(tmp_path):
    found = result(health=replace(result().health, users={"themes": 1}))
    conventions = replace(found.conventions, attribution_days=1.0, lookback_days=1)
    markdown, _ = report(replace(found, conventions=conventions), tmp_path)
    assert "1 user entered from" in markdown
    assert "Events within 1 day of a user's first page are counted." in markdown
    assert "1 day before." in markdown
    markdown, _ = report(result(), tmp_path)
    assert "10,000 users entered from" in markdown
    assert "Events within 7 days of a user's first page are counted." in markdown


def test_names_are_text_whatever_they_hold(tmp_path):
    attacked = replace(PURCHASES, metric=ATTACK, variant=ATTACK)
    found = result(
        experiment=ATTACK,
        variants=(VariantSummary(ATTACK, 1.0, ATTACK),),
        verdict=Verdict("ship", (ATTACK,), ATTACK),
        comparisons=(attacked,),
        segments=(SegmentResult(f"name={ATTACK}", {}, (attacked,)),),
        daily=tuple(replace(look, metric=ATTACK, variant=ATTACK) for look in LOOKS),
        health=replace(result().health, configuration_shas={ATTACK: 1}, warnings=(ATTACK,)),
    )
    markdown, page = report(found, tmp_path)
    assert "<script" not in page + markdown
    assert "script" not in Texts(page).tags
    assert ATTACK in Texts(page).cells
    rows = [line for line in markdown.splitlines() if "script" in line and line.startswith("|")]
    assert rows
    assert all(re.search(r"alert\('\\\|'\)", row) for row in rows)


def test_page_loads_nothing_else(tmp_path):
    _, page = report(result(), tmp_path)
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "default-src 'none'" in page
    assert "<script" not in page


def test_same_result_gives_the_same_bytes(tmp_path):
    first, second = write_report(result(), tmp_path / "a"), write_report(result(), tmp_path / "b")
    for a, b in zip(vars(first).values(), vars(second).values(), strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_no_two_elements_of_the_page_share_an_id(tmp_path):
    _, page = report(result(), tmp_path)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert ids
    assert len(ids) == len(set(ids))


def test_every_plot_has_a_text_alternative(tmp_path):
    _, page = report(result(), tmp_path)
    words = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(words) == page.count("<svg") == 4
    assert "+0.0306 [+0.0076, +0.0536], better" in words[0]
    assert "margin 0.005" in words[0]


# The page in a browser


@pytest.mark.parametrize("width", [375, 1200])
def test_browser_shows_the_page_without_overflow_or_warning(browser, tmp_path, width):
    written = write_report(result(), tmp_path)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("browser")
    browser.get(written.html.as_uri())
    wide, seen = browser.execute_script("const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
    assert seen <= width
    assert wide == seen
    assert browser.find_element("css selector", "h1").text == "Ship themes"
    assert browser.execute_script("return document.querySelectorAll('svg text').length") > 20
    assert browser.get_log("browser") == []
