"""The tagging service: photos in, tags out; what it refuses, and Label Studio's messages."""

import base64
import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from recsys.config.serving import ServingSettings
from recsys.errors import ConfigurationError
from recsys.images.settings import ImageSettings
from recsys.images.tagging.inference import Tags
from recsys.images.tagging.taggers import Preprocessing
from serving.tagging.app import tagging_app
from serving.tagging.gate import Gate
from serving.tagging.label_studio import LabelConfig, label_config
from serving.tagging.metrics import TaggingMetrics
from serving.tagging.photo_tags import PhotoTagger, number_of_tags
from tests.helpers.reviewed_photos import tagger

TOKEN = "secret"
INTERFACE = (
    '<View><Image name="photo" value="$uri"/><Choices name="room" toName="photo"><Choice value="x"/></Choices></View>'
)


class Colours:
    """A base network whose embedding of a photo is its mean colour, and 0."""

    preprocessing = Preprocessing(resize=8, crop=8)
    runs = 0

    def tag(self, photos: NDArray[np.uint8], n_tags: int) -> Tags:
        self.runs += 1
        colours = photos.mean((1, 2)).astype(np.float32)
        none = np.zeros((len(photos), n_tags))
        return Tags(none.astype(np.int64), none.astype(np.float32), np.pad(colours, ((0, 0), (0, 1))))


def photo(*colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return buffer.getvalue()


class Service:
    """The service with a tagger of labels suite (red), pool (green), bathroom (blue)."""

    def __init__(self, root: Path, callers: tuple[dict[str, str], ...] = (), **limits: Any):
        settings = ServingSettings.model_validate({"access": {"callers": callers}, "tagging": limits})
        self.network, self.metrics, self.tagger = Colours(), TaggingMetrics(), replace(tagger(), sure=0.9)
        tags = PhotoTagger(self.tagger, ImageSettings(root=str(root)), self.network)  # type: ignore[arg-type]
        self.app = tagging_app(tags, settings, self.metrics)
        self.client = TestClient(self.app)

    def upload(self, *photos: bytes, n: str | None = None, **headers: str) -> Any:
        files = [("photo", (f"{number}.png", data)) for number, data in enumerate(photos)]
        return self.client.post("/v1/tags", files=files, params={} if n is None else {"n": n}, headers=headers)

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def test_uploaded_photos_get_tags_or_the_reason_in_one_run_of_the_network(service):
    answer = service.upload(photo(0, 250, 0), b"no photo", photo(200, 190, 0), n="2").json()
    assert (answer["tagger"], answer["taxonomy"]) == (service.tagger.version, "rooms")
    green, broken, mixed = answer["photos"]
    assert (green["photo"], [tag["label"] for tag in green["tags"]]) == ("0.png", ["pool", "suite"])
    expected = np.exp([8, 0, 0, 0]) / np.exp([8, 0, 0, 0]).sum()  # the head multiplies by 8
    assert [tag["probability"] for tag in green["tags"]] == pytest.approx(expected[:2], abs=1e-6)
    assert green["tags"][0]["name"] == "<b>pool</b>"
    assert (green["sure"], green["labels"]) == (True, ["pool"])
    assert (mixed["sure"], mixed["labels"]) == (False, ["suite"])
    assert mixed["margin"] == pytest.approx(mixed["tags"][0]["probability"] - mixed["tags"][1]["probability"], abs=2e-6)
    assert (broken["reason"], "tags" in broken) == ("not_an_image", False)
    assert service.network.runs == 1
    for outcome in ("sure", "unsure", "not_an_image"):
        assert service.count("recsys_tagging_photos_total", outcome=outcome) == 1
    assert service.count("recsys_tagging_requests_total", path="/v1/tags", status="200") == 1


def test_addresses_below_the_root_are_tagged_and_others_refused(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    (root / "a.png").write_bytes(photo(250, 0, 0))
    (tmp_path / "b.png").write_bytes(photo(250, 0, 0))
    uris = ["a.png", "../b.png", str(tmp_path / "b.png"), "http://127.0.0.1/a.png", "none.png"]
    found = Service(root).client.post("/v1/tags", json={"uris": uris}).json()["photos"]
    assert [each.get("reason") for each in found] == [None, "refused", "refused", "refused", "missing"]
    assert found[0]["labels"] == ["suite"]


@pytest.mark.parametrize(("text", "n"), [("1", 1), ("4", 4), ("0.5", 2), ("0.01", 1), ("1.0", 4)])
def test_n_is_a_number_or_a_share_of_the_classes(text, n):
    assert number_of_tags(text, 4, "v") == n


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "nan", "inf", "many", "", "-0.5"])
def test_n_that_is_neither_says_the_rule(text):
    with pytest.raises(ConfigurationError, match=r"must be a number in 1\.\.4, or a share"):
        number_of_tags(text, 4, "v")


def test_more_tags_than_classes_is_an_error(service):
    answer = service.upload(photo(1, 2, 3), n="5")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("n == 5, must be at most 4, the number of classes of tagger rooms-")
    assert len(service.upload(photo(1, 2, 3)).json()["photos"][0]["tags"]) == 4  # 5 by default, or all


def test_requests_of_wrong_shapes_say_the_rule(tmp_path):
    service = Service(tmp_path, max_photos=2)
    for answer in (
        service.upload(*[photo(1, 2, 3)] * 3),
        service.client.post("/v1/tags", json={"uris": ["a"] * 3}),
        service.client.post("/v1/tags", json={"uris": []}),
        service.client.post("/v1/tags", json={"uris": [1]}),
        service.client.post("/v1/tags", json=[]),
        service.client.post("/v1/tags", content=b"{"),
        service.client.post("/predict", json={"tasks": [{"id": 1, "data": {}}]}),
        service.client.post("/predict", json={"tasks": "all"}),
    ):
        assert answer.status_code == 400, answer.text
        assert "must be" in answer.json()["error"] or "no JSON" in answer.json()["error"] or "must have" in answer.text


def test_caller_without_a_known_token_is_refused_but_health_is_told(tmp_path):
    caller = {"name": "shop", "role": "website", "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
    service = Service(tmp_path, (caller,))
    password = base64.b64encode(f"label-studio:{TOKEN}".encode()).decode()
    statuses = [
        service.upload(photo(1, 2, 3), **headers).status_code
        for headers in (
            {},
            {"authorization": "Bearer guess"},
            {"authorization": "Basic ?"},
            {"authorization": f"Bearer {TOKEN}"},
            {"authorization": f"Basic {password}"},
        )
    ]
    assert statuses == [401, 401, 401, 200, 200]
    assert service.count("recsys_tagging_requests_refused_total", reason="unauthenticated") == 3
    assert service.client.get("/health").json()["status"] == "UP"


async def _ask(app: Any, headers: dict[str, str], chunks: list[bytes]) -> tuple[int, int]:
    """Send a request chunk by chunk; return the status and how many chunks were read."""
    status, read = 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": chunks[read - 1], "more_body": read < len(chunks)}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/v1/tags", "query_string": b"", "headers": encoded}
    await app(scope | {"http_version": "1.1", "scheme": "http", "root_path": ""}, receive, send)
    return status, read


def test_huge_request_is_refused_before_it_is_read(tmp_path):
    import anyio

    service = Service(tmp_path, max_bytes=2048)
    assert anyio.run(_ask, service.app, {"content-length": "2049"}, [b"x" * 2049]) == (413, 0)
    # one that does not say how large it is, only as far as it may be
    assert anyio.run(_ask, service.app, {}, [b"x" * 1000] * 9) == (413, 3)
    assert service.count("recsys_tagging_requests_refused_total", reason="too_large") == 2


def test_more_concurrent_requests_than_allowed_and_slow_bodies_are_refused():
    import anyio

    settings = ServingSettings.model_validate({"tagging": {"max_concurrent": 1, "body_seconds": 0.02}})
    metrics, statuses = TaggingMetrics(), []

    async def read_body(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    gate = Gate(read_body, settings, metrics)

    async def ask() -> None:
        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await gate({"type": "http", "method": "POST", "path": "/v1/tags", "headers": []}, anyio.sleep_forever, send)

    async def ask_twice() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(ask)

    anyio.run(ask_twice)
    assert statuses == [429, 408]


def test_label_studio_gets_a_prediction_per_task_in_the_names_of_the_project(tmp_path):
    for name, colour in (("a", (250, 0, 0)), ("b c", (0, 250, 0))):
        (tmp_path / f"{name}.png").write_bytes(photo(*colour))
    service = Service(tmp_path)
    uris = ["a.png", "/data/local-files/?d=b%20c.png", "http://elsewhere/x.png"]
    tasks = [{"id": number, "data": {"uri": uri}} for number, uri in enumerate(uris)]
    answer = service.client.post("/predict", json={"tasks": tasks, "label_config": INTERFACE}).json()
    first, second, refused = answer["results"]
    assert first["result"] == [
        {
            "from_name": "room",
            "to_name": "photo",
            "type": "choices",
            "value": {"choices": ["suite"]},
            "score": first["score"],
        }
    ]
    assert first["score"] > 0.99
    assert second["result"][0]["value"] == {"choices": ["pool"]}
    assert (refused["result"], refused["score"], refused["error"][:8]) == ([], 0.0, "refused:")
    assert {each["model_version"] for each in answer["results"]} == {service.tagger.version}
    assert service.client.post("/setup", json={"schema": INTERFACE}).json() == {"model_version": service.tagger.version}
    assert service.client.get("/health").json()["model_version"] == service.tagger.version


def test_label_config_is_read_without_entities():
    assert label_config(INTERFACE) == LabelConfig("room", "photo", "uri", ("x",))
    assert label_config(None) == LabelConfig()
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb">]><View>&b;</View>'
    for xml, rule in ((bomb, "has a declaration"), ("<View>", "no XML"), ("<View/>", "has no <Choices")):
        with pytest.raises(ConfigurationError, match=rule):
            label_config(xml)
