"""Fetching from a server of our own, which may break off or change its mind."""

import hashlib
import http.server
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from recsys.errors import ConfigurationError, ModelError
from recsys.images.tagging import model_files
from recsys.images.tagging.model_files import cache_folder, check_hash, fetched, hash_of, local, read_labels, readable
from tests.helpers.paths import SHARED_DATA

CATEGORIES = SHARED_DATA / "places365/categories_places365.txt"
WEIGHTS = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@dataclass
class Server:
    content: bytes = WEIGHTS
    promised: int = len(WEIGHTS)
    status: int = 200
    requests: int = 0
    silence: float = 0
    url: str = field(default="", init=False)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests += 1
            time.sleep(state.silence)
            self.send_response(state.status)
            self.send_header("Content-Length", str(state.promised))
            self.end_headers()
            self.wfile.write(state.content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{served.server_port}/models/tiny.pth.tar"
        yield state
        served.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/flash-sale-recsys"


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def test_file_is_fetched_once_and_then_found_without_network(server, cache):
    assert fetched(server.url, SHA256) == cache / "tiny.pth.tar"
    server.status = 500
    assert fetched(server.url, SHA256).read_bytes() == WEIGHTS
    assert fetched(server.url, None).read_bytes() == WEIGHTS
    assert server.requests == 1
    assert kept(cache) == ["tiny.pth.tar", "tiny.pth.tar.sha256"]


def test_wrong_checksum_is_refused_and_nothing_is_kept(server, cache):
    with pytest.raises(ModelError) as error:
        fetched(server.url, "0" * 64)
    for part in (server.url, f"sha256 == {SHA256}", f"must be {'0' * 64}", "images.tagger.weights"):
        assert part in str(error.value)
    assert kept(cache) == []


def test_half_a_file_is_refused_and_nothing_is_kept_even_where_no_checksum_is_known(server, cache):
    server.content = WEIGHTS[: len(WEIGHTS) // 2]
    with pytest.raises(ModelError, match=r"128,000 of 256,000 bytes came.*try again"):
        fetched(server.url, None)
    assert kept(cache) == []
    server.content = WEIGHTS
    assert fetched(server.url, None).read_bytes() == WEIGHTS


@pytest.mark.parametrize("status", [404, 500])
def test_refusing_server_is_an_error_that_names_the_address(server, cache, status):
    server.status = status
    with pytest.raises(ModelError, match=rf"{server.url} cannot be fetched \(HTTP Error {status}"):
        fetched(server.url, SHA256)
    assert kept(cache) == []


def test_server_that_is_not_there_or_says_nothing_is_an_error(server, monkeypatch):
    with pytest.raises(ModelError, match="cannot be fetched"):
        fetched("http://127.0.0.1:9/tiny.pth", SHA256)
    monkeypatch.setattr(model_files, "_SILENCE", 0.1)
    server.silence = 0.3
    with pytest.raises(ModelError, match="timed out"):
        fetched(server.url, SHA256)


def test_file_of_the_cache_that_changes_later_is_refused_by_its_first_checksum(server, cache):
    fetched(server.url, None)
    (cache / "tiny.pth.tar").write_bytes(b"something else")
    with pytest.raises(
        ModelError, match=rf"sha256 == {hashlib.sha256(b'something else').hexdigest()}, must be {SHA256}"
    ):
        fetched(server.url, None)


def test_fetch_that_was_killed_leaves_nothing_that_is_taken_for_the_file(server, cache):
    cache.mkdir(parents=True)
    (cache / "tiny.pth.tar.sha256").write_text("half a check")  # of the run that was killed
    left = cache / f".tmp-{'0' * 16}"
    left.mkdir()
    (left / "tiny.pth.tar").write_bytes(WEIGHTS[:10])
    assert fetched(server.url, None).read_bytes() == WEIGHTS
    assert fetched(server.url, None).read_bytes() == WEIGHTS


def test_address_of_a_file_is_fetched_too(tmp_path):
    (tmp_path / "tiny.npz").write_bytes(WEIGHTS)
    assert fetched(f"file://{tmp_path}/tiny.npz", SHA256).read_bytes() == WEIGHTS


def test_cache_is_where_the_desktop_standard_says(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache/flash-sale-recsys"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/flash-sale-recsys")


def test_local_file_must_be_there_and_hash_to_what_is_configured(tmp_path):
    path = tmp_path / "own.pth"
    with pytest.raises(ConfigurationError, match=r"images\.tagger\.weights == '.*own\.pth': there is no such file"):
        local(str(path), None, "weights")
    path.write_bytes(WEIGHTS)
    assert local(str(path), SHA256, "weights") == path
    with pytest.raises(ModelError, match=f"sha256 == {SHA256}, must be {'1' * 64}"):
        local(str(path), "1" * 64, "weights")


def test_hash_is_taken_anew_where_the_file_has_changed(tmp_path):
    path = tmp_path / "own.pth"
    path.write_bytes(b"first")
    assert hash_of(path) == hash_of(path) == hashlib.sha256(b"first").hexdigest()
    path.write_bytes(b"later")  # as many bytes
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert hash_of(path) == hashlib.sha256(b"later").hexdigest()
    check_hash(path, hash_of(path))


def test_labels_are_read_as_people_write_them(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("/b/beach_house 51\n/a/apartment_building/outdoor 8\n", "utf-8")
    assert read_labels(path) == ["beach house", "apartment building outdoor"]
    path.write_text("\ufeffsea_side\r\n  Boeing 747 \r\nBoeing 707\r\nréfrigérateur\r\non/off\r\n", "utf-8")
    assert read_labels(path) == ["sea side", "Boeing 747", "Boeing 707", "réfrigérateur", "on/off"]
    assert readable("/f/field/wild 140") == "field wild"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\nb\n", "line 2 must hold a label that stands once"),
        (b"a\nb\na\n", "line 3 must hold"),
        (b"a_b\na b\n", "line 2 must hold"),
        (b"", "line 1 must hold"),
        ("réfrigérateur".encode("latin-1"), "is not UTF-8"),
    ],
)
def test_wrong_labels_are_an_error_that_names_the_line(tmp_path, content, message):
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        read_labels(path)


@pytest.mark.real_data
def test_labels_of_places365_are_365():
    if not CATEGORIES.exists():
        pytest.skip(f"{CATEGORIES} is not there: it comes with the shared real data sets")
    labels = read_labels(CATEGORIES)
    assert len(labels) == 365
    assert labels[:3] == ["airfield", "airplane cabin", "airport terminal"]
    assert {"field wild", "field road", "beach house"} < set(labels)
