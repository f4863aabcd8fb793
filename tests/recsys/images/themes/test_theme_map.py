"""Maps of artificial clusters, and the page in a real browser."""

import io
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recsys.errors import EmptyInputError, InputError
from recsys.images.themes.theme_map import (
    NO_THEME,
    MapPhotos,
    Quality,
    Treatment,
    _rotate_to,
    _unit_rows,
    map_page,
    map_quality,
    theme_map,
)
from tests.helpers.waiting import PATIENCE

CLUSTERS = np.repeat([0, 1, 2], [20, 15, 30])
UNKNOWN = Quality(None, None, None, None, None, None)
ATTACK = '</script><script>window.pwned=1</script><img src=x onerror="window.pwned=1"><!--'


def jpeg(width: int = 8) -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (width, 6), (200, 80, 40)).save(picture, "JPEG")
    return picture.getvalue()


def photos_of(themes: Any, groups: list[str] | None = None) -> MapPhotos:
    themes = np.asarray(themes, np.int64)
    names = [f"sale {i}, photo 0" for i in range(len(themes))]
    theme_names = [f"theme {k}" for k in range(max(1, themes.max() + 1))]
    return MapPhotos(names, [["beach"]] * len(names), [jpeg()] * len(names), themes, theme_names, groups)


def features_of(clusters: Any, n_features: int = 12, noise: float = 0.05, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(clusters) + 1, n_features))
    return (centres[clusters] + random.normal(scale=noise, size=(len(clusters), n_features))).astype(np.float32)


def corners_of(clusters: Any, seed: int = 2) -> np.ndarray:
    return np.array([[-1, 0], [1, 0], [0, 1]])[clusters] + np.random.default_rng(seed).normal(
        scale=0.02, size=(len(clusters), 2)
    )


def smallest_gap(positions: np.ndarray) -> float:
    return (np.linalg.norm(positions[:, None] - positions, axis=2) + 9 * np.eye(len(positions))).min()


# Quality measures, as arithmetic


def test_separated_clusters_have_only_neighbours_of_their_theme():
    quality = map_quality(photos_of(CLUSTERS), features_of(CLUSTERS), corners_of(CLUSTERS))
    assert quality.same_theme == 1.0
    assert quality.same_theme_by_chance == pytest.approx((20 * 19 + 15 * 14 + 30 * 29) / (65 * 64))
    assert quality.silhouette is not None
    assert quality.silhouette > 0.9


def test_shuffled_themes_agree_only_by_chance():
    clusters = np.tile(CLUSTERS, 12)
    shuffled = np.random.default_rng(3).permutation(clusters)
    quality = map_quality(photos_of(shuffled), features_of(clusters), corners_of(clusters))
    assert quality.same_theme == pytest.approx(quality.same_theme_by_chance, abs=0.03)
    assert quality.silhouette == pytest.approx(0, abs=0.05)


def test_groups_are_measured_independently_of_themes():
    groups = ["inland" if k == 2 else "coast" for k in CLUSTERS]
    themes = np.random.default_rng(4).permutation(CLUSTERS)
    quality = map_quality(photos_of(themes, groups), features_of(CLUSTERS), corners_of(CLUSTERS))
    assert quality.same_group == 1.0
    assert quality.same_group_by_chance == pytest.approx((35 * 34 + 30 * 29) / (65 * 64))
    assert quality.same_theme is not None
    assert quality.same_theme < 0.6


def test_without_groups_their_measures_are_none():
    quality = map_quality(photos_of(CLUSTERS), features_of(CLUSTERS), corners_of(CLUSTERS))
    assert quality.same_group is None
    assert quality.same_group_by_chance is None


def test_agreement_is_that_of_a_brute_force_search():
    random = np.random.default_rng(5)
    themes, positions = random.integers(-1, 4, size=47), random.normal(size=(47, 2))
    shares = []
    for i in np.flatnonzero(themes != NO_THEME):
        others = sorted((j for j in range(47) if j != i), key=lambda j: np.linalg.norm(positions[i] - positions[j]))
        shares.append(np.mean([themes[j] == themes[i] for j in others[:10]]))
    quality = map_quality(photos_of(themes), random.normal(size=(47, 5)), positions)
    assert quality.same_theme == pytest.approx(np.mean(shares))


def test_photo_without_theme_is_left_out_of_the_mean_but_is_a_neighbour():
    positions = np.array([[0.0, 0], [1, 0], [2, 0], [10, 0]])
    quality = map_quality(photos_of([0, 0, 1, NO_THEME]), np.eye(4), positions)
    assert quality.same_theme == pytest.approx((1 / 3 + 1 / 3 + 0) / 3)
    assert quality.same_theme_by_chance == pytest.approx((1 / 3 + 1 / 3 + 0) / 3)


def test_silhouette_is_rousseeuws():
    positions = np.array([[0.0, 0], [1, 0], [10, 0], [11, 0], [5, 0]])
    quality = map_quality(photos_of([0, 0, 1, 1, NO_THEME]), np.eye(5), positions)
    outer, inner = 1 - 1 / ((10 + 11) / 2), 1 - 1 / ((9 + 10) / 2)
    assert quality.silhouette == pytest.approx((outer + inner + inner + outer) / 4)


def test_trustworthiness_is_venna_and_kaskis():
    features = np.array([[1.0], [2], [4], [8]])
    positions = np.array([[1.0, 0], [8, 0], [4, 0], [2, 0]])
    ranks_of_the_nearest = [
        3,
        2,
        3,
        3,
    ]  # rank in the features of each photo's nearest neighbour in the map: photos 3, 2, 3, 0
    n, k = 4, 1
    expected = 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * sum(rank - k for rank in ranks_of_the_nearest)
    assert map_quality(photos_of([0, 0, 0, 0]), features, positions).trustworthiness == pytest.approx(expected)


def test_photos_without_features_are_left_out_of_trustworthiness():
    features, positions = features_of(CLUSTERS), corners_of(CLUSTERS)
    featureless = np.vstack([features, np.zeros((7, 12))])
    scattered = np.vstack([positions, np.random.default_rng(6).normal(size=(7, 2))])
    photos = photos_of([*CLUSTERS, *[NO_THEME] * 7])
    assert (
        map_quality(photos, featureless, scattered).trustworthiness
        == map_quality(photos_of(CLUSTERS), features, positions).trustworthiness
    )


# Layouts


def test_map_preserves_clusters():
    (treatment,) = theme_map(photos_of(CLUSTERS), {"embedding": features_of(CLUSTERS)})
    assert treatment.name == "embedding"
    assert treatment.quality.same_theme == 1.0
    assert treatment.quality.trustworthiness is not None
    assert treatment.quality.trustworthiness > 0.85


def test_map_of_many_features_preserves_clusters():
    (treatment,) = theme_map(photos_of(CLUSTERS), {"embedding": features_of(CLUSTERS, n_features=600)})
    assert treatment.quality.same_theme == 1.0


def test_same_input_gives_the_same_map_and_another_seed_another():
    photos, treatments = photos_of(CLUSTERS), {"embedding": features_of(CLUSTERS, noise=0.8)}
    first, repeated, other = (theme_map(photos, treatments, seed)[0].positions for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, repeated)
    assert not np.array_equal(first, other)


def test_map_does_not_depend_on_the_scale_of_a_photos_features():
    features = features_of(CLUSTERS)
    scales = 2.0 ** np.arange(-32, 33)[:, None]
    plain, scaled = theme_map(photos_of(CLUSTERS), {"plain": features, "scaled": features * scales})
    np.testing.assert_allclose(plain.positions, scaled.positions, atol=1e-6)


def test_features_are_scaled_to_length_1_and_zeros_stay():
    rows = _unit_rows("tags", np.array([[3.0, 4], [0, 0], [1e-200, 0]]), 3)
    np.testing.assert_allclose(rows, [[3 / 5, 4 / 5], [0, 0], [1, 0]])


def test_positions_are_centred_and_reach_one():
    for treatment in theme_map(photos_of(CLUSTERS), {"a": features_of(CLUSTERS), "b": features_of(CLUSTERS, seed=8)}):
        np.testing.assert_allclose(treatment.positions.mean(axis=0), 0, atol=1e-9)
        assert np.linalg.norm(treatment.positions, axis=1).max() == pytest.approx(1)


def test_map_is_rotated_and_reflected_to_match_the_first():
    positions = corners_of(CLUSTERS)
    turned_and_mirrored = positions @ np.array([[0.6, 0.8], [0.8, -0.6]])
    np.testing.assert_allclose(_rotate_to(turned_and_mirrored, positions), positions, atol=1e-9)


@pytest.mark.parametrize("n_photos", [1, 2, 3, 4, 5, 11, 40])
def test_few_photos_have_a_map(n_photos):
    features = np.random.default_rng(9).random((n_photos, 6)).astype(np.float32)
    (treatment,) = theme_map(photos_of(np.arange(n_photos) % 2), {"tags": features})
    assert treatment.positions.shape == (n_photos, 2)
    assert len(np.unique(treatment.positions, axis=0)) == n_photos


def test_one_photo_has_no_quality_measures():
    (treatment,) = theme_map(photos_of([0], ["coast"]), {"tags": np.ones((1, 3), np.float32)})
    assert treatment.quality == UNKNOWN


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_constant_features_give_a_regular_pattern(value):
    (treatment,) = theme_map(photos_of(CLUSTERS), {"tags": np.full((65, 4), value, np.float32)})
    assert treatment.quality.trustworthiness is None
    assert smallest_gap(treatment.positions) > 0.1


def test_photos_of_equal_features_are_close_but_do_not_overlap():
    one_theme_each = np.eye(3, dtype=np.float32)[CLUSTERS]
    one_theme_each[:12] = 0
    (treatment,) = theme_map(photos_of(np.where(np.arange(65) < 12, 3, CLUSTERS)), {"tags": one_theme_each})
    assert smallest_gap(treatment.positions) > 0.8 * 0.02
    eight_left_have_seven_of_their_own = (12 * 1 + 8 * 7 / 10 + 15 * 1 + 30 * 1) / 65
    assert treatment.quality.same_theme == pytest.approx(eight_left_have_seven_of_their_own, abs=0.01)


def test_a_single_feature_is_enough():
    (treatment,) = theme_map(photos_of([0, 1] * 6), {"tags": np.tile([[1], [0]], (6, 1)).astype(np.float32)})
    assert np.isfinite(treatment.positions).all()


# Input that is refused


def test_nan_is_an_error_that_names_treatment_row_and_next_step():
    features = features_of(CLUSTERS)
    features[[7, 9], 3] = np.nan
    with pytest.raises(InputError, match=r"'tags' hold nan in row 7, must be finite \(not finite: 2 of 65 rows\)"):
        theme_map(photos_of(CLUSTERS), {"embedding": features_of(CLUSTERS), "tags": features})


@pytest.mark.parametrize("shape", [(64, 3), (65,), (65, 0)])
def test_features_of_another_shape_are_an_error(shape):
    with pytest.raises(InputError, match=r"must be \(65, at least 1\)"):
        theme_map(photos_of(CLUSTERS), {"tags": np.ones(shape, np.float32)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tags": []}, r"len\(tags\) == 0, must be 3"),
        ({"groups": ["coast"]}, r"len\(groups\) == 1, must be 3"),
        ({"themes": np.array([0, 1, 5])}, r"'sale 2, photo 0' is 5, must be in -1..1"),
        ({"themes": np.array([0, -2, 1])}, r"'sale 1, photo 0' is -2, must be in -1..1"),
        ({"thumbnails": [jpeg(), b"\x89PNG", b""]}, r"'sale 1, photo 0' starts with b'\\x89PNG', must be a JPEG"),
    ],
)
def test_photos_of_inconsistent_lengths_or_themes_are_an_error(change, message):
    photos = replace(photos_of([0, 1, 1]), **change)
    with pytest.raises(InputError, match=message):
        theme_map(photos, {"tags": np.eye(3, dtype=np.float32)})
    with pytest.raises(InputError, match=message):
        map_page(photos, [Treatment("tags", np.zeros((3, 2)), UNKNOWN)], "Map")


def test_nothing_to_draw_is_an_error():
    nothing = MapPhotos([], [], [], np.empty(0, np.int64), [])
    with pytest.raises(EmptyInputError, match="0 photos"):
        theme_map(nothing, {"tags": np.empty((0, 3), np.float32)})
    with pytest.raises(EmptyInputError, match="0 treatments"):
        theme_map(photos_of([0]), {})
    with pytest.raises(EmptyInputError, match="0 treatments"):
        map_page(photos_of([0]), [], "Map")


def test_positions_of_another_number_of_photos_are_an_error():
    with pytest.raises(InputError, match="positions of treatment 'tags'"):
        map_page(photos_of([0, 0]), [Treatment("tags", np.zeros((3, 2)), UNKNOWN)], "Map")


# The page as text


def embedded(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_page_embeds_every_text_unchanged():
    photos = replace(photos_of([0, NO_THEME]), names=[ATTACK, "{{data}} \u2028 \ud800 é"], theme_names=[ATTACK])
    page = map_page(photos, [Treatment(ATTACK, np.array([[0.0, 1], [1 / 3, 0]]), UNKNOWN)], ATTACK)
    data = embedded(page)
    assert data["title"] == data["names"][0] == data["themeNames"][0] == data["treatments"][0]["name"] == ATTACK
    assert data["names"][1] == photos.names[1]
    assert data["treatments"][0]["positions"] == [[0, 1], [0.3333, 0]]
    assert "onerror" not in page.replace(json.dumps(ATTACK)[1:-1].replace("<", "\\u003c"), "")


def test_page_loads_nothing_else():
    page = map_page(photos_of([0]), [Treatment("tags", np.zeros((1, 2)), UNKNOWN)], "Map")
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


# The page in a browser


class Page:
    """The map in a browser."""

    def __init__(self, browser: Any, page: str, path: Path) -> None:
        path.write_text(page, encoding="utf-8")
        self.browser = browser
        browser.get_log("browser")
        browser.get(path.as_uri())
        self.canvas = self.find("canvas")

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def screen(self, photo: int) -> tuple[float, float]:
        return tuple(self.run("return window.themeMap.screen(arguments[0])", photo))

    def state(self, name: str) -> str:
        self.browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        return str(self.canvas.get_attribute(f"data-{name}"))

    def wait(self, name: str, value: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.state(name) != value:
            assert time.monotonic() < deadline, f"{name} is {self.state(name)}, not {value}"

    def point_at(self, photo: int, click: bool = False) -> None:
        from selenium.webdriver import ActionChains

        x, y = self.screen(photo)
        size = self.canvas.size
        hand = ActionChains(self.browser).move_to_element_with_offset(
            self.canvas, round(x - size["width"] / 2), round(y - size["height"] / 2)
        )
        (hand.click() if click else hand).perform()
        self.state("points")

    def press(self, key: str) -> None:
        self.canvas.send_keys(key)
        self.state("points")


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Page]:
    """Seven photos of three themes or none, under two treatments; the texts of photo 0 and its theme are markup."""
    photos = MapPhotos(
        names=[ATTACK, *(f"sale {i}, photo 0" for i in range(1, 7))],
        tags=[[ATTACK, "beach"], *([["beach", "palm tree"]] * 6)],
        thumbnails=[jpeg(8 + i) for i in range(6)] + [b""],
        themes=np.array([0, 0, 0, 1, 1, 2, NO_THEME]),
        theme_names=[ATTACK, "ski slope", "vineyard", "never seen"],
        groups=["coast", "coast", "inland", "inland", ATTACK, "coast", "coast"],
    )
    circle = np.column_stack([np.cos(np.arange(7) * 0.9), np.sin(np.arange(7) * 0.9)])
    quality = Quality(0.91, 0.5, 0.25, -0.125, None, None)
    treatments = [
        Treatment("embedding", circle, quality),
        Treatment(ATTACK, circle[::-1], replace(quality, same_theme=0.75)),
    ]
    opened = Page(browser, map_page(photos, treatments, ATTACK), tmp_path / "map.html")
    yield opened
    assert browser.get_log("browser") == []
    assert opened.run("return window.pwned") is None
    assert opened.run("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:'))") == []


def test_browser_draws_every_photo(page):
    assert page.state("points") == page.state("shown") == "7"
    drawn = "return new Set(arguments[0].getContext('2d').getImageData(0, 0, 900, 600).data).size"
    assert page.run(drawn, page.canvas) > 20


def test_browser_shows_markup_in_names_as_text(page):
    assert page.find("h1").text == page.browser.title == ATTACK
    page.point_at(0)
    assert page.find("#card .name").get_attribute("textContent") == ATTACK
    assert page.find("#card .theme").text == ATTACK
    assert page.find("#card .tags li").get_attribute("textContent") == ATTACK
    assert page.find(".entry .name").get_attribute("textContent") == ATTACK
    assert page.all("#switch label")[1].text == ATTACK
    assert page.all("img[src=x]") == []


def test_hovering_a_photo_shows_its_picture_name_tags_theme_and_group(page):
    page.point_at(3)
    picture = page.find("#card img")
    page.browser.execute_async_script("arguments[0].decode().then(arguments[1])", picture)
    assert picture.get_property("naturalWidth") == 8 + 3
    assert page.find("#card .name").text == "sale 3, photo 0"
    assert page.find("#card .theme").text == "ski slope"
    assert page.find("#card .group").text == "inland"
    assert [tag.text for tag in page.all("#card .tags li")] == ["beach", "palm tree"]


def test_photo_without_theme_or_thumbnail_says_so(page):
    page.point_at(6)
    assert page.find("#card .theme").text == "no theme"
    assert not page.find("#card img").is_displayed()


def test_switching_by_keyboard_moves_the_photos_and_a_selected_photo_keeps_its_card(page):
    page.point_at(1, click=True)
    before = [page.screen(i) for i in range(7)]
    page.find("#switch input").send_keys("\ue014")  # arrow right
    assert page.state("treatment") == ATTACK
    page.wait("moving", "false")
    after = [page.screen(i) for i in range(7)]
    np.testing.assert_allclose(after, before[::-1], atol=0.5)
    assert page.find("#card .name").text == "sale 1, photo 0"
    assert page.find(".bars .value.shown").text == "0.91"


def test_quality_of_all_treatments_is_shown_with_explanations(page):
    figures = {section.find_element("css selector", "h3").text: section for section in page.all("#figures section")}
    values = {
        name: [value.text for value in each.find_elements("css selector", ".value")] for name, each in figures.items()
    }
    assert values == {
        "Trustworthiness": ["0.91", "0.91"],
        "Neighbours of the same category": ["–", "–"],
        "Neighbours of the same theme": ["0.50", "0.75"],
        "Silhouette by theme": ["−0.13", "−0.13"],
    }
    assert "Circular" in figures["Neighbours of the same theme"].text
    ticks = figures["Neighbours of the same theme"].find_elements("css selector", ".tick")
    assert ticks[0].get_attribute("title") == "0.25 by chance"


def test_legend_counts_photos_and_hides_and_shows_them(page):
    assert [count.text for count in page.all(".entry .count")] == ["3", "2", "1", "1"]
    ski = page.all(".entry")[1]
    ski.click()
    assert ski.get_attribute("aria-pressed") == "false"
    assert page.state("shown") == str(7 - 2)
    page.point_at(3)
    assert not page.find("#card").is_displayed()
    page.find("#show-all").click()
    assert page.state("shown") == "7"


def test_legend_shows_one_theme_alone(page):
    page.run("arguments[0].click()", page.all(".only")[1])
    assert page.state("shown") == "2"


def test_photos_can_be_coloured_by_category(page):
    page.all("#colouring input")[1].click()
    assert page.find("#legend-title").text == "Categories"
    assert [count.text for count in page.all(".entry .count")] == ["4", "2", "1"]


def test_photos_can_be_shown_instead_of_dots(page):
    page.find("#as-photos").click()
    page.wait("photos", "6")


def test_wheel_and_keys_zoom_and_reset(page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    before = page.screen(0)
    ActionChains(page.browser).scroll_from_origin(ScrollOrigin.from_element(page.canvas), 0, -200).perform()
    assert float(page.state("zoom")) > 1.2
    page.press("0")
    assert page.state("zoom") == "1.000"
    assert page.screen(0) == before
    page.press("+")
    assert page.state("zoom") == "1.500"


def test_wheel_zooms_around_the_pointer(page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    x, y = page.screen(2)
    aside = round(x - page.canvas.size["width"] / 2), round(y - page.canvas.size["height"] / 2)
    origin = ScrollOrigin.from_element(page.canvas, *aside)
    ActionChains(page.browser).scroll_from_origin(origin, 0, -200).perform()
    assert float(page.state("zoom")) > 1.2
    np.testing.assert_allclose(page.screen(2), (x, y), atol=1)


def test_dragging_moves_the_map(page):
    from selenium.webdriver import ActionChains

    x, y = page.screen(2)
    ActionChains(page.browser).drag_and_drop_by_offset(page.canvas, 60, -25).perform()
    np.testing.assert_allclose(page.screen(2), (x + 60, y - 25), atol=1)


def test_arrow_keys_step_from_photo_to_photo(page):
    page.point_at(0, click=True)
    rightmost = page.find("#card .name").text
    page.press("\ue012")  # arrow left
    assert page.find("#card .name").text != rightmost
    assert page.find("#spoken").get_attribute("textContent") != ""


def test_page_works_with_one_photo_and_one_treatment(browser, tmp_path):
    photos = photos_of([NO_THEME])
    opened = Page(
        browser,
        map_page(photos, theme_map(photos, {"tags": np.zeros((1, 3), np.float32)}), "Map"),
        tmp_path / "one.html",
    )
    assert opened.state("points") == "1"
    opened.point_at(0)
    assert opened.find("#card .name").text == "sale 0, photo 0"
    assert {value.text for value in opened.all(".bars .value")} == {"–"}
    assert browser.get_log("browser") == []
