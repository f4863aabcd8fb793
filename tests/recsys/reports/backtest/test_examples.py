"""Example users, covers and marks in the report's HTML."""

import base64
import io
import re
import socket
import time

import fsspec
import pytest
from PIL import Image

from tests.helpers.read_backtest_reports import report
from tests.helpers.results_of_a_shop import N_COVERS, result, write_covers


def strips(page: str, user: str) -> dict[str, str]:
    """Return the HTML of each strip of covers of a user by its label."""
    block = re.search(rf"<h3>User {user} .*?(?=<h3>|</section>)", page, flags=re.DOTALL)[0]
    return dict(re.findall(r'strip-name"><b>(.*?)</b>(.*?)(?=<p class="strip-name|\Z)', block, flags=re.DOTALL))


def test_user_is_shown_with_visits_purchases_and_one_page_per_policy(tmp_path):
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


def test_bought_sales_are_framed_and_their_positions_are_named(tmp_path):
    shown = strips(report(tmp_path), "user-100")
    meta = shown["meta, the meta-model over all recommenders"]
    marked = re.findall(r'<figure class="cover marked bought">.*?</figure>', meta, flags=re.DOTALL)
    assert len(marked) == meta.count('<span class="mark">bought</span>') == 2
    assert "bought: positions 3 and 10" in meta
    collaborative = next(strip for label, strip in shown.items() if label.startswith("collaborative"))
    assert "bought: position 7, 1 not shown" in collaborative
    other = strips(report(tmp_path), "user-101")
    assert "shows no bought sale" in next(s for label, s in other.items() if label.startswith("coll"))
    assert other["Visited before, newest first"].count("bought before") == 1


def test_user_without_known_events_is_called_new(tmp_path):
    page = report(tmp_path)
    assert "a new user, without known events" in page
    assert "2026-02-15, 3 known events" in page
    assert not any(label.startswith("Visited") for label in strips(page, "user-109"))


def test_cover_is_embedded_once_as_a_thumbnail_however_often_it_is_shown(tmp_path):
    write_covers(tmp_path)
    page = report(tmp_path)
    photos = re.findall(r'<image id="photo-\d+" [^>]*href="data:image/jpeg;base64,([^"]+)"', page)
    assert len(photos) == len(set(photos)) <= N_COVERS
    assert page.count('<use href="#photo-') > 2 * len(photos)
    small = Image.open(io.BytesIO(base64.b64decode(photos[0])))
    assert (small.format, small.size) == ("JPEG", (160, 160))


def test_cover_shows_the_sale_that_is_named_below_it(tmp_path):
    write_covers(tmp_path)
    page = report(tmp_path)
    title = "Spa week 6"
    number = re.search(rf'aria-label="{title}"><use href="#photo-(\d+)"', page)[1]
    photo = re.search(rf'id="photo-{number}" [^>]*base64,([^"]+)"', page)[1]
    corner = Image.open(io.BytesIO(base64.b64decode(photo))).getpixel((2, 2))
    assert corner == pytest.approx((40 + 8 * 6, 120, 240 - 8 * 6), abs=6)
    assert re.search(rf"<b>{title}</b>France · spa · price 157</figcaption>", page)


@pytest.mark.parametrize("broken", ["missing.jpg", "http://127.0.0.1:9/cover.jpg", "damaged.jpg", "", None, "."])
def test_cover_that_cannot_be_shown_is_a_tile_with_the_title(tmp_path, broken):
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8 no photo")
    sales = {key: {**sale, "cover": broken} for key, sale in result()["sales"].items()}
    page = report(tmp_path, sales=sales)
    assert "<image" not in page
    assert '<div class="tile">Spa week 6</div>' in page


def test_cover_behind_a_url_is_shown(tmp_path):
    write_covers(tmp_path)
    elsewhere = fsspec.filesystem("memory")
    elsewhere.pipe("/cover.jpg", (tmp_path / "photos/1.jpg").read_bytes())
    sales = {key: {**sale, "cover": "memory://cover.jpg"} for key, sale in result()["sales"].items()}
    assert report(tmp_path, below_root=False, sales=sales).count('id="photo-') == 1


def test_cover_outside_of_the_root_is_not_shown(tmp_path):
    write_covers(tmp_path)
    sales = {key: {**sale, "cover": "memory://cover.jpg"} for key, sale in result()["sales"].items()}
    assert report(tmp_path, sales=sales).count('id="photo-') == 0


def test_cover_that_is_not_read_before_the_timeout_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("recsys.reports.album.SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        slow = f"http://127.0.0.1:{silent.getsockname()[1]}/cover.jpg"
        write_covers(tmp_path)
        whole = report(tmp_path).count('id="photo-')
        known = result()["sales"]
        sales = {key: sale | ({"cover": slow} if sale["title"] == "Spa week 6" else {}) for key, sale in known.items()}
        start = time.monotonic()
        page = report(tmp_path, below_root=False, sales=sales)
        assert 0.3 <= time.monotonic() - start < 10
    assert page.count('id="photo-') == whole - 1
    assert '<div class="tile">Spa week 6</div>' in page


def test_unknown_sale_is_shown_by_its_id(tmp_path):
    page = report(tmp_path, sales=None)
    assert '<div class="tile">sale-2</div>' in page
