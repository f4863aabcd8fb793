"""Downloads from a local server that may break the connection or change the file."""

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
from recsys.images.tagging.model_files import (
    cache_folder,
    check_hash,
    fetch_file,
    hash_of,
    local_file,
    read_labels,
    readable,
)
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


def cached_files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def test_file_is_fetched_once_and_then_found_without_network(server, cache):
    assert fetch_file(server.url, SHA256) == cache / "tiny.pth.tar"
    server.status = 500
    assert fetch_file(server.url, SHA256).read_bytes() == WEIGHTS
    assert fetch_file(server.url, None).read_bytes() == WEIGHTS
    assert server.requests == 1
    assert cached_files(cache) == ["tiny.pth.tar", "tiny.pth.tar.sha256"]


def test_wrong_checksum_is_refused_and_nothing_is_stored(server, cache):
    with pytest.raises(ModelError) as error:
        fetch_file(server.url, "0" * 64)
    for part in (server.url, f"sha256 == {SHA256}", f"must be {'0' * 64}", "tagger.weights"):
        assert part in str(error.value)
    assert cached_files(cache) == []


def test_incomplete_file_is_refused_and_nothing_is_stored_even_without_a_checksum(server, cache):
    server.content = WEIGHTS[: len(WEIGHTS) // 2]
    with pytest.raises(ModelError, match=r"128,000 of 256,000 bytes received.*try again"):
        fetch_file(server.url, None)
    assert cached_files(cache) == []
    server.content = WEIGHTS
    assert fetch_file(server.url, None).read_bytes() == WEIGHTS


@pytest.mark.parametrize("status", [404, 500])
def test_status_of_failure_is_an_error_that_names_the_address(server, cache, status):
    server.status = status
    with pytest.raises(ModelError, match=rf"{server.url} cannot be fetched \(HTTP Error {status}"):
        fetch_file(server.url, SHA256)
    assert cached_files(cache) == []


def test_unreachable_or_silent_server_is_an_error(server, monkeypatch):
    with pytest.raises(ModelError, match="cannot be fetched"):
        fetch_file("http://127.0.0.1:9/tiny.pth", SHA256)
    monkeypatch.setattr(model_files, "_TIMEOUT_SECONDS", 0.1)
    server.silence = 0.3
    with pytest.raises(ModelError, match="timed out"):
        fetch_file(server.url, SHA256)


def test_cached_file_that_changes_is_refused_by_its_first_checksum(server, cache):
    fetch_file(server.url, None)
    (cache / "tiny.pth.tar").write_bytes(b"something else")
    with pytest.raises(
        ModelError, match=rf"sha256 == {hashlib.sha256(b'something else').hexdigest()}, must be {SHA256}"
    ):
        fetch_file(server.url, None)


def test_killed_download_leaves_nothing_that_is_used_as_the_file(server, cache):
    cache.mkdir(parents=True)
    (cache / "tiny.pth.tar.sha256").write_text("half a check")  # written by the killed run
    left = cache / f".tmp-{'0' * 16}"
    left.mkdir()
    (left / "tiny.pth.tar").write_bytes(WEIGHTS[:10])
    assert fetch_file(server.url, None).read_bytes() == WEIGHTS
    assert fetch_file(server.url, None).read_bytes() == WEIGHTS


def test_file_url_is_fetched_too(tmp_path):
    (tmp_path / "tiny.npz").write_bytes(WEIGHTS)
    assert fetch_file(f"file://{tmp_path}/tiny.npz", SHA256).read_bytes() == WEIGHTS


def test_cache_folder_follows_the_xdg_standard(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache/flash-sale-recsys"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/flash-sale-recsys")


def test_local_file_must_exist_and_have_the_configured_checksum(tmp_path):
    path = tmp_path / "own.pth"
    with pytest.raises(ConfigurationError, match=r"tagger\.weights == '.*own\.pth': there is no such file"):
        local_file(str(path), None, "weights")
    path.write_bytes(WEIGHTS)
    assert local_file(str(path), SHA256, "weights") == path
    with pytest.raises(ModelError, match=f"sha256 == {SHA256}, must be {'1' * 64}"):
        local_file(str(path), "1" * 64, "weights")


def test_hash_is_recomputed_if_the_file_has_changed(tmp_path):
    path = tmp_path / "own.pth"
    path.write_bytes(b"first")
    assert hash_of(path) == hash_of(path) == hashlib.sha256(b"first").hexdigest()
    path.write_bytes(b"later")  # the same length
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert hash_of(path) == hashlib.sha256(b"later").hexdigest()
    check_hash(path, hash_of(path))


def test_labels_are_read_in_readable_form(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("/b/beach_house 51\n/a/apartment_building/outdoor 8\n", "utf-8")
    assert read_labels(path) == ["beach house", "apartment building outdoor"]
    path.write_text("\ufeffsea_side\r\n  Boeing 747 \r\nBoeing 707\r\nréfrigérateur\r\non/off\r\n", "utf-8")
    assert read_labels(path) == ["sea side", "Boeing 747", "Boeing 707", "réfrigérateur", "on/off"]
    assert readable("/f/field/wild 140") == "field wild"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\nb\n", "line 2 must hold a label that occurs once"),
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
