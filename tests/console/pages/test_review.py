"""The pages and data of the console: who is let in, what is stored, which photos are sent."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from console.pages.review import review_app
from recsys.images.lab.label_store import LabelStore
from recsys.images.lab.review import Review
from recsys.images.tagging.files import PhotoFiles, content_hash
from tests.helpers.reviewed_photos import AT, photos, tagger
from tests.helpers.small_photos import write_photo

TOKENS = {"token-of-ann": "ann", "token-of-bob": "<i>bob</i>"}
HERE = "http://127.0.0.1:8000"


class Shop:
    """Seven photos on disk, of which photo 0 is sure."""

    def __init__(self, folder: Path, **options: Any):
        self.folder = folder
        self.uris = [write_photo(folder / f"{n}.bmp", (30 * n, 100, 200), 40) for n in range(7)]
        self.hashes = [content_hash(Path(uri).read_bytes()) for uri in self.uris]
        self.labels = LabelStore(folder / "labels", "rooms")
        shown = replace(photos(self.hashes), image_uris=np.array([f"{n}.bmp" for n in range(7)]))
        self.review = Review(shown, tagger(), self.labels, **options)
        files = PhotoFiles(str(folder))
        self.app = review_app(self.review, files, TOKENS, ["127.0.0.1"], lambda: AT)

    def visitor(self, token: str | None = "token-of-ann") -> TestClient:
        client = TestClient(self.app, HERE, headers={"origin": HERE})
        if token:
            assert client.get(f"/?token={token}").url == f"{HERE}/"
        return client


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def decide(client: TestClient, labels: dict[str, list[str] | None], **headers: str) -> Any:
    decisions = [{"photo": photo, "labels": each} for photo, each in labels.items()]
    return client.post("/api/review/decisions", json={"decisions": decisions}, headers=headers)


def test_only_who_opened_an_address_with_a_token_is_let_in(shop):
    stranger = shop.visitor(None)
    for path in (
        "/",
        "/?token=guess",
        "/agreement",
        "/api/review",
        f"/photos/{shop.hashes[0]}/small",
    ):
        assert stranger.get(path).status_code == 401, path
    assert decide(stranger, {shop.hashes[6]: ["pool"]}).status_code == 401
    assert stranger.get("/static/console.css").status_code == 200  # the page that asks for a token has it too
    entered = stranger.get("/?token=token-of-ann", follow_redirects=False)
    assert entered.headers["location"] == "/"  # the token is not in the address of the page
    cookie = entered.headers["set-cookie"]
    assert all(each in cookie for each in ("HttpOnly", "SameSite=strict"))


def test_other_sites_and_other_names_of_this_host_are_refused(shop):
    ann = shop.visitor()
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8001", ""):
        assert decide(ann, {shop.hashes[6]: ["pool"]}, origin=origin).status_code == 403, origin
    assert ann.get("/api/review", headers={"host": "evil.example"}).status_code == 421
    assert ann.get("/api/review", headers={"host": "[::1"}).status_code == 421
    assert ann.post("/api/review/decisions", data={"decisions": "1"}).status_code == 422  # a form of another site
    assert shop.labels.history().num_rows == 0


def test_pages_run_no_script_but_their_own_and_show_data_as_text(shop):
    page = shop.visitor("token-of-bob").get("/")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"]
    assert "&lt;i&gt;bob&lt;/i&gt;" in page.text
    assert "<i>bob" not in page.text
    assert page.headers["cache-control"] == "no-store"


def test_hand_decisions_undo_and_progress_are_of_the_visitor(shop):
    ann, bob = shop.visitor(), shop.visitor("token-of-bob")
    hand = ann.get("/api/review/hand").json()
    assert [photo["image_hash"] for photo in hand["photos"]] == shop.hashes[:0:-1]
    assert hand["left"] == 6
    assert bob.get("/api/review/hand").json() == {"photos": [], "left": 0}  # ann holds all
    assert decide(ann, {shop.hashes[6]: ["pool"], shop.hashes[5]: []}).json() == {"decided": 2}
    assert decide(ann, {shop.hashes[4]: None}).json() == {"decided": 2}
    current = shop.labels.current().to_pylist()
    assert {(row["image_hash"], *row["labels"], row["by"]) for row in current} == {
        (shop.hashes[6], "pool", "ann"),
        (shop.hashes[5], "ann"),
    }
    assert bob.post("/api/review/undo").json() == {"photos": [], "decided": 0}
    assert ann.post("/api/review/undo").json()["photos"] == [shop.hashes[4]]
    assert ann.post("/api/review/undo").json() == {"photos": [shop.hashes[6], shop.hashes[5]], "decided": 0}
    description = ann.get("/api/review").json()
    assert description["labels"][0] == {"id": "suite", "name": "<b>suite</b>"}
    assert description["sure"] == [{"name": "<b>suite</b>", "photos": 1}]


def test_wrong_decision_says_the_rule_and_stores_nothing(shop):
    answer = decide(shop.visitor(), {shop.hashes[6]: ["pool"], shop.hashes[5]: ["poool"]})
    assert answer.status_code == 409
    assert "did you mean 'pool'" in answer.json()["detail"]
    assert shop.labels.history().num_rows == 0


def test_photos_are_sent_by_content_alone(shop):
    ann = shop.visitor()
    small, large = (ann.get(f"/photos/{shop.hashes[1]}/{size}") for size in ("small", "large"))
    assert [Image.open(io.BytesIO(each.content)).size for each in (small, large)] == [(176, 176), (40, 40)]
    assert small.headers["content-type"] == "image/jpeg"
    for path in (
        "/photos/0.bmp/small",
        f"/photos/{'0' * 32}/small",
        "/photos/..%2F0.bmp/small",
        f"/photos/{shop.hashes[1]}/x",
    ):
        assert ann.get(path).status_code in (404, 422), path
    Path(shop.uris[2]).write_bytes(Path(shop.uris[3]).read_bytes())
    assert ann.get(f"/photos/{shop.hashes[2]}/small").status_code == 404  # another photo now
    Path(shop.uris[1]).unlink()
    assert ann.get(f"/photos/{shop.hashes[1]}/small").content == small.content  # made once


def test_agreement_page_shows_kappa_and_the_photos_on_which_two_people_differ(tmp_path):
    shop = Shop(tmp_path, double=True)
    ann, bob = shop.visitor(), shop.visitor("token-of-bob")
    assert "No photo has labels of two people" in ann.get("/agreement").text
    decide(ann, {each: ["pool"] for each in shop.hashes[3:]})
    decide(bob, dict(zip(shop.hashes[3:], [["pool"], ["suite"], ["pool"], ["suite"]], strict=True)))
    page = ann.get("/agreement").text
    assert "50.0% of 4 photos" in page
    assert "0.00 (" in page  # pool always against half: no more than by chance
    assert [each in page for each in shop.hashes] == [False, False, False, False, True, False, True]
