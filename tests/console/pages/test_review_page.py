"""The page of a review in a browser: keys, groups, undo, who gets which photos."""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from console.server import serve_review
from recsys.images.lab.label_store import LabelStore
from recsys.images.lab.review import Review
from recsys.images.tagging.files import PhotoFiles, content_hash
from tests.helpers.reviewed_photos import Photos, embeddings, tagger
from tests.helpers.small_photos import write_photo

N_PHOTOS = 100


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelStore, str, list[str]]:
    """A review of 100 photos, of which the first is sure; its labels, its address and the photos' hashes."""
    folder = tmp_path_factory.mktemp("reviewed")
    uris = [write_photo(folder / f"{n}.bmp", (2 * n, 255 - 2 * n, 90), 24) for n in range(N_PHOTOS)]
    hashes = [content_hash(Path(uri).read_bytes()) for uri in uris]
    labels = LabelStore(folder / "labels", "rooms")
    review = Review(Photos(np.array(hashes), np.array(uris), embeddings(N_PHOTOS)), tagger(), labels)
    told: list[str] = []
    arguments = (review, PhotoFiles(str(folder)), ["ann"], "127.0.0.1", 0, lambda told_: told.extend(told_.values()))
    Thread(target=serve_review, args=arguments, daemon=True).start()
    wait_for(lambda: told)
    return labels, told[0], hashes


def wait_for(is_so: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_fifty_photos_are_labelled_by_keys_confirmed_by_group_and_taken_back(served, browser):
    from selenium.webdriver import ActionChains, Keys

    labels, address, hashes = served
    browser.get(address)
    assert "token" not in browser.current_url

    def all_(selector: str) -> list[Any]:
        return browser.find_elements("css selector", selector)

    def press(*keys: str) -> None:
        ActionChains(browser).send_keys(*keys).perform()

    def stored() -> dict[str, list[str]]:
        return {row["image_hash"]: row["labels"] for row in labels.current().to_pylist()}

    def shown() -> list[str]:
        script = "return [...document.querySelectorAll('#grid .card')].map(card => card.dataset.photo)"
        return list(browser.execute_script(script))

    def chosen() -> str:
        return str(browser.execute_script("return document.querySelector('.card.chosen')?.dataset.photo"))

    wait_for(lambda: len(all_(".card.chosen")) == 1)
    groups = [title.text for title in all_(".group h2")]
    assert [title.split(" ·")[0] for title in groups] == ["<b>suite</b>", "<b>pool</b>", "<b>bathroom</b>"]
    cards = shown()
    assert sorted(cards) == sorted(hashes[:-41:-1])  # the 40 least sure
    first, second = cards[:2]

    press("2")  # the first photo is of the second label
    wait_for(lambda: stored() == {first: ["pool"]})
    assert all_(".card.changed")[0].text == "<b>pool</b>"
    assert chosen() == second
    press("0")
    wait_for(lambda: stored() == {first: ["pool"], second: []})
    press("u")
    wait_for(lambda: stored() == {first: ["pool"]})
    wait_for(lambda: len(all_(".card.decided")) == 1 and chosen() == second)
    press("s")
    wait_for(lambda: "skipped" in [each.text for each in all_(".card.decided")])

    press(Keys.ENTER)  # the rest of the group
    n_suite = len(all_(".group:first-child .card"))
    wait_for(lambda: len(stored()) == n_suite - 1)
    assert set(map(tuple, stored().values())) == {("pool",), ("suite",)}
    press(Keys.ENTER, Keys.ENTER)  # the other two groups: the next page is there without being loaded
    wait_for(lambda: len(stored()) == 39)
    wait_for(lambda: len(all_(".card.decided")) == 0 and len(all_("#grid .card")) == 40)
    second_page = shown()
    assert sorted(second_page) == sorted(hashes[-41:-81:-1])
    press(Keys.ARROW_RIGHT)
    assert chosen() == second_page[1]
    press("u")  # back to the first page, whose last group is open again
    wait_for(lambda: shown() == cards)
    assert len(stored()) == 39 - len(all_(".group:last-child .card"))
    press(Keys.ENTER)
    wait_for(lambda: browser.find_element("id", "progress").text.startswith("39 labelled"))
    assert len(stored()) == 39
    assert shown() == second_page
    wait_for(lambda: browser.execute_script("return document.getElementById('large').naturalWidth") > 0)
    press(" ")
    assert browser.find_element("id", "overlay").get_attribute("open") is not None
    press(" ")
    assert browser.get_log("browser") == []
