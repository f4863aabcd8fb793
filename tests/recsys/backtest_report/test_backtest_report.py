"""What the report says is read from its page; how it looks, a person has looked at, and a browser measures."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image
from results_of_a_shop import ATTACK, N_COVERS, estimate, result, write_covers

from recsys.backtest_report.writer import write_report

OPTIONAL = (
    "oracle",
    "ablation",
    "learning_curve",
    "slices",
    "slice_metrics",
    "calibration",
    "coefficients",
    "training",
    "scoring",
    "examples",
    "sales",
    "differences",
    "paired_ndcg@10",
)


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
    write_report(found, tmp_path / "report.html", tmp_path)
    return (tmp_path / "report.html").read_text("utf-8")


def titles(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def rows(page: str, caption: str) -> list[list[str]]:
    """The body of the table under a caption, cell by cell."""
    pattern = rf"<(?:caption|summary)>{re.escape(caption)}</.*?<tbody>(.*?)</tbody>"
    body = re.search(pattern, page, flags=re.DOTALL)[1]
    lines = re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL)
    return [[cell.replace("\xa0", " ") for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)] for line in lines]


def strips(page: str, user: str) -> dict[str, str]:
    """The rows of covers of a user by their label."""
    block = re.search(rf"<h3>User {user} .*?(?=<h3>|</section>)", page, flags=re.DOTALL)[0]
    return dict(re.findall(r'strip-name"><b>(.*?)</b>(.*?)(?=<p class="strip-name|\Z)', block, flags=re.DOTALL))


def test_parts_stand_in_the_order_of_reading(tmp_path):
    assert titles(report(tmp_path)) == [
        "Policies",
        "Policies against each other",
        "What each recommender is worth",
        *(f"By {title}" for title in ("history length", "sale age", "country", "category", "price")),
        "Do the probabilities come true?",
        "What the mix looks at",
        "Would more training days help?",
        "Would boosted trees be better?",
        "Example users",
        "What the words mean",
    ]


@pytest.mark.parametrize(
    ("key", "gone"),
    [
        ("ablation", "What each recommender is worth"),
        ("calibration", "Do the probabilities come true?"),
        ("coefficients", "What the mix looks at"),
        ("learning_curve", "Would more training days help?"),
        ("slices", "By country"),
        ("examples", "Example users"),
    ],
)
def test_part_that_is_absent_or_empty_is_left_out(tmp_path, key, gone):
    for empty in (None, [] if key != "slices" else {}):
        page = report(tmp_path, **{key: empty})
        assert gone not in titles(page)
        assert "Policies" in titles(page)


def test_result_with_policies_alone_is_a_report_too(tmp_path):
    found = result()
    policies = {name: found["policies"][name] for name in ("meta", "popularity")}
    page = report(tmp_path, **dict.fromkeys(OPTIONAL), policies=policies)
    assert titles(page) == ["Policies", "What the words mean"]
    assert "Measured, compared with nothing" in page
    assert not re.search(r"\bNone\b|\bnan\b", " ".join(Texts(page).texts))


def test_every_estimate_of_a_policy_stands_in_the_table(tmp_path):
    table = rows(report(tmp_path), "How well each policy ranks")
    assert table[0] == ["oracle", "0.3012 [0.2938, 0.3093]", "–", "–", "–"]
    assert table[2] == [
        "meta",
        "0.2143 [0.2072, 0.2221]",
        "0.3472 [0.3360, 0.3595]",
        "0.3665 [0.3548, 0.3793]",
        "0.1779 [0.1711, 0.1853]",
    ]
    assert [row[0] for row in table][1:5] == ["meta_boosted", "meta", "meta@7", "own_visits"]


def test_spread_of_what_is_shown_stands_in_a_table_and_is_explained(tmp_path):
    page = report(tmp_path)
    assert ["meta", "86.1%", "0.539", "8.03"] in rows(page, "What each policy shows")
    assert {"Coverage", "Gini", "Novelty"} <= set(re.findall(r"<dt>(.*?)</dt>", page))


def test_headline_figures_come_first_with_their_intervals(tmp_path):
    text = " ".join(Texts(report(tmp_path)).texts)
    top = text[: text.index("Every policy ranked")]
    for figure in ("0.2143", "0.2072 to 0.2221", "0.3472", "71.2%", "68.9% to 73.6%", "5,127 pages", "3,911 users"):
        assert figure in top
    assert "ndcg@10 over own_visits, the best alone +0.0623 +0.0590 to +0.0659 better" in top


@pytest.mark.parametrize(
    ("value", "half", "headline"),
    [
        (0.02, 0.001, "Better than each recommender alone"),
        (0.02, 0.05, "Not shown to be better than own_visits"),
        (-0.02, 0.001, "Worse than own_visits"),
    ],
)
def test_headline_rests_on_the_paired_interval(tmp_path, value, half, headline):
    paired = result()["paired_ndcg@10"] | {"meta - own_visits": estimate(value, half)}
    assert f"<h1>{headline}</h1>" in report(tmp_path, **{"paired_ndcg@10": paired})


def test_pair_is_found_whichever_policy_is_named_first(tmp_path):
    paired = result()["paired_ndcg@10"]
    del paired["meta - popularity"]
    paired["popularity - meta"] = {"value": -0.05, "low": -0.08, "high": -0.01}
    table = rows(report(tmp_path, **{"paired_ndcg@10": paired}), "Every two policies: ndcg@10 with intervals")
    assert ["meta", "popularity", "+0.0500 [+0.0100, +0.0800]", "better"] in table
    assert len(table) == 12 * 11 / 2


def test_matrix_says_by_a_mark_beside_its_colour_who_is_better(tmp_path):
    table = rows(report(tmp_path), "ndcg@10, row minus column")
    boosted, meta, seventh = table[:3]
    assert meta == ["meta", "-0.002", "", "▲ +0.004", *meta[4:]]
    assert seventh[1:3] == ["▼ -0.006", "▼ -0.004"]
    assert boosted[2] == "+0.002"


def test_registered_versions_and_boosted_trees_are_judged_at_the_top(tmp_path):
    text = " ".join(Texts(report(tmp_path)).texts)
    assert "Against version 7: ndcg@10 +0.0042 [+0.0009, +0.0078], better." in text
    assert "boosted trees over the same features: ndcg@10 -0.0022 [-0.0055, +0.0014], no difference shown." in text
    assert "boosted trees over the same features reach ndcg@10 +0.0022 [-0.0014, +0.0055], no difference shown." in text
    assert "They take 15 times as long to train and 55 times as long to score." in text


def test_recommender_whose_removal_shows_no_loss_is_named(tmp_path):
    page = report(tmp_path)
    assert page.count("Leaving out content_text and price_fit alone, one at a time, shows no loss") == 2
    needed = {row[0]: row[4] for row in rows(page, "ndcg@10 by recommender")}
    assert [name for name, said in needed.items() if said == "not shown"] == ["content_text", "price_fit"]
    assert needed["own_visits"] == "yes"


def test_recommender_that_harms_is_named(tmp_path):
    ablation = result()["ablation"]
    ablation[0]["removed"] = {"value": -0.02, "low": -0.03, "high": -0.01}
    page = report(tmp_path, ablation=ablation)
    assert "The mix is better without popularity." in page
    assert rows(page, "ndcg@10 by recommender")[0][4] == "better without"


def test_new_users_and_young_sales_are_plain_to_see(tmp_path):
    page = report(tmp_path)
    text = " ".join(Texts(page).texts)
    assert text.count("New users (412 pages): ndcg@10 of meta 0.1543 [0.1395, 0.1706], of collaborative, the best") == 2
    assert text.count("Youngest sales (390 purchases): recall@10 of meta 0.1843 [0.1691, 0.2010]") == 2
    assert "0 (new users)" in text
    assert "under 12 hours (youngest)" in text


def test_slice_has_its_count_and_every_policy(tmp_path):
    page = report(tmp_path, slices={"country": result()["slices"]["country"]})
    france = rows(page, "recall@10")[1]
    assert france[:3] == ["France", "1,322", "0.2093 [0.2010, 0.2184]"]
    assert len(france) == 6


def test_relative_error_stands_where_a_hundred_were_bought(tmp_path):
    table = rows(report(tmp_path), "By tenth of predicted probability")
    errors = {row[0]: row[-1] for row in table}
    assert errors["4"] == "too few"  # 94
    assert errors["5"] == "-9.09%"  # 0.0041 / 0.00451 - 1
    assert errors["10"] == "+13.6%"  # 1 / 0.88 - 1
    assert [row[4] for row in table if row[0] in "45"] == ["94", "180"]


def test_calibration_is_summed_up_in_a_sentence(tmp_path):
    text = " ".join(Texts(report(tmp_path)).texts)
    assert "Of 6 tenths with 100 or more purchases, 4 have the predicted probability within the interval" in text
    assert "the one farthest off predicts 13.6% too much" in text
    assert "1.07 purchases are predicted per purchase made; AUC 0.8312, log-loss 0.02114" in text


def test_coefficients_are_told_in_words_and_odds(tmp_path):
    page = report(tmp_path)
    collaborative = rows(page, "Coefficients, log-odds")[1]
    assert collaborative == [
        "collaborative",
        "Users of the same sales also looked at it",
        *("+0.62", "1.86", "+0.21", "1.23"),
    ]
    assert "multiplies the odds of a purchase by 1.86" in " ".join(Texts(page).texts)


def test_coefficients_that_know_no_second_purchase_have_one_column(tmp_path):
    coefficients = [{key: row[key] for key in ("feature", "words", "first")} for row in result()["coefficients"]]
    table = rows(report(tmp_path, coefficients=coefficients), "Coefficients, log-odds")
    assert table[0][2:] == ["+0.41", "1.51"]


def test_learning_curve_is_a_table_too(tmp_path):
    table = rows(report(tmp_path), "By training days")
    assert table[0] == ["1", "610", "0.1950 [0.1889, 0.2017]"]
    assert [row[0] for row in table] == ["1", "3", "7", "14", "28"]


def test_notes_and_limits_of_the_measurement_are_marked(tmp_path):
    cautions = re.findall(r'<p class="caution">(.*?)</p>', report(tmp_path))
    assert cautions == [
        "A generated shop: its users choose by a known taste.",
        "Only 50% of the users were looked at, drawn by seed 0.",
    ]
    window = result()["window"] | {"note": "", "users_sampled": 1.0, "new_only": True}
    [only] = re.findall(r'<p class="caution">(.*?)</p>', report(tmp_path, window=window))
    assert only == "Sales that a user had bought before are neither ranked nor counted."


# Example users


def test_user_is_shown_with_his_visits_and_a_page_a_policy(tmp_path):
    write_covers(tmp_path)
    shown = strips(report(tmp_path), "user-103")
    assert [label.split(",")[0] for label in shown] == [
        "Visited before",
        "Bought that day",
        "collaborative",
        "content_images",
        "meta",
    ]
    assert [strip.count('<figure class="cover') for strip in shown.values()] == [5, 2, 10, 10, 10]


def test_bought_sales_are_framed_with_a_word_and_their_place(tmp_path):
    shown = strips(report(tmp_path), "user-100")
    meta = shown["meta, the mix of all recommenders"]
    marked = re.findall(r'<figure class="cover marked bought">.*?</figure>', meta, flags=re.DOTALL)
    assert len(marked) == meta.count('<span class="mark">bought</span>') == 2
    assert "bought: place 3 and 10" in meta
    collaborative = next(strip for label, strip in shown.items() if label.startswith("collaborative"))
    assert "bought: place 7, 1 not shown" in collaborative
    other = strips(report(tmp_path), "user-101")
    assert "does not show what was bought" in next(s for label, s in other.items() if label.startswith("coll"))
    assert other["Visited before, newest first"].count("bought then") == 1


def test_user_without_events_is_a_new_one(tmp_path):
    page = report(tmp_path)
    assert "a new user: no event was known" in page
    assert not any(label.startswith("Visited") for label in strips(page, "user-109"))


def test_cover_is_made_small_once_however_often_it_is_shown(tmp_path):
    write_covers(tmp_path)
    page = report(tmp_path)
    photos = re.findall(r'<image id="photo-\d+" [^>]*href="data:image/jpeg;base64,([^"]+)"', page)
    assert len(photos) == len(set(photos)) <= N_COVERS
    assert page.count('<use href="#photo-') > 2 * len(photos)
    small = Image.open(io.BytesIO(base64.b64decode(photos[0])))
    assert (small.format, small.size) == ("JPEG", (160, 160))


def test_cover_shows_the_sale_that_stands_under_it(tmp_path):
    write_covers(tmp_path)
    page = report(tmp_path)
    title = "Spa week 6"
    number = re.search(rf'aria-label="{title}"><use href="#photo-(\d+)"', page)[1]
    photo = re.search(rf'id="photo-{number}" [^>]*base64,([^"]+)"', page)[1]
    corner = Image.open(io.BytesIO(base64.b64decode(photo))).getpixel((2, 2))
    assert corner == pytest.approx((40 + 8 * 6, 120, 240 - 8 * 6), abs=6)
    assert re.search(rf"<b>{title}</b>France · spa · 157</figcaption>", page)


@pytest.mark.parametrize("broken", ["missing.jpg", "http://shop.example/cover.jpg", "damaged.jpg", "", None, "."])
def test_cover_that_cannot_be_shown_is_a_tile_with_the_title(tmp_path, broken):
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8 no photo")
    sales = {key: {**told, "cover": broken} for key, told in result()["sales"].items()}
    page = report(tmp_path, sales=sales)
    assert "<image" not in page
    assert '<div class="tile">Spa week 6</div>' in page


def test_cover_behind_a_url_is_not_fetched(tmp_path):
    write_covers(tmp_path)
    elsewhere = fsspec.filesystem("memory")
    elsewhere.pipe("/cover.jpg", (tmp_path / "photos/1.jpg").read_bytes())
    sales = {key: {**told, "cover": "memory://cover.jpg"} for key, told in result()["sales"].items()}
    assert "<image" not in report(tmp_path, sales=sales)


def test_sale_that_nothing_is_known_of_is_shown_by_its_id(tmp_path):
    page = report(tmp_path, sales=None)
    assert '<div class="tile">sale-2</div>' in page


# The file


def test_report_before_is_replaced_and_never_half_written(tmp_path, monkeypatch):
    before = report(tmp_path)
    whole = Path.write_text

    def torn(self, text, *args, **kwargs):
        whole(self, text[: len(text) // 2], *args, **kwargs)
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", torn)
    with pytest.raises(OSError, match="no space"):
        report(tmp_path, examples=None)
    assert (tmp_path / "report.html").read_text("utf-8") == before


def test_same_result_gives_the_same_bytes_in_a_new_folder(tmp_path):
    write_covers(tmp_path)
    for name in ("a", "b"):
        write_report(result(), tmp_path / "new" / name / "report.html", tmp_path)
    assert (tmp_path / "new/a/report.html").read_bytes() == (tmp_path / "new/b/report.html").read_bytes()


def test_page_asks_for_nothing_else(tmp_path):
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


def test_every_plot_has_words_for_who_cannot_see_it(tmp_path):
    page = report(tmp_path, examples=None)
    words = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(words) == 11
    assert "own_visits: one alone 0.1520" in words[0]


# The page in a browser


@pytest.mark.parametrize("width", [375, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_shows_the_page_without_overflow_or_complaint(browser, tmp_path, width, scheme):
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
    if width == 1200:  # nothing has to be scrolled to
        inner = "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        assert browser.execute_script(inner) == 0
    assert browser.get_log("browser") == []


def test_printed_page_fits_its_paper_and_keeps_what_colours_say(browser, tmp_path):
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
