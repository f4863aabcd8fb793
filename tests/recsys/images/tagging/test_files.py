import http.server
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from recsys.images.settings import ImageSettings
from recsys.images.tagging.decoding import PhotoError
from recsys.images.tagging.files import PhotoFiles, content_hash

LARGE = os.urandom(3_000_000)  # more than a server sends in one piece

TICK = 0.02  # the clock of a file system ticks every 4 ms


@pytest.fixture
def memory() -> Iterator[str]:
    """URL of an empty folder in memory."""
    files = fsspec.filesystem("memory")
    yield "memory://photo_files"
    if files.exists("/photo_files"):
        files.rm("/photo_files", recursive=True)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/photos/large.jpg"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(LARGE) if found else 0))
        self.end_headers()
        if found:
            for start in range(0, len(LARGE), 1_000_000):
                self.wfile.write(LARGE[start : start + 1_000_000])
                time.sleep(0.01)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    """URL of a folder on an HTTP server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/photos"
        served.shutdown()


def refusal(files: PhotoFiles, uri: str) -> PhotoError:
    with pytest.raises(PhotoError) as error:
        files.read(uri)
    return error.value


def test_relative_path_is_below_the_root_and_other_paths_are_unchanged(tmp_path, monkeypatch):
    assert PhotoFiles(str(tmp_path)).absolute("a/b c é.jpg") == f"{tmp_path}/a/b c é.jpg"
    assert PhotoFiles(str(tmp_path)).absolute("/elsewhere/a.jpg") == "/elsewhere/a.jpg"
    assert PhotoFiles(str(tmp_path)).absolute("s3://bucket/a.jpg") == "s3://bucket/a.jpg"
    assert PhotoFiles("s3://bucket/photos/").absolute("a/b.jpg") == "s3://bucket/photos/a/b.jpg"
    monkeypatch.chdir(tmp_path)
    assert PhotoFiles().absolute("a.jpg") == PhotoFiles(".").absolute("x/../a.jpg") == f"{tmp_path}/a.jpg"


def test_location_of_photos_is_that_of_the_settings():
    settings = ImageSettings.model_validate(
        {"root": "s3://b", "storage_options": {"key": "k"}, "tagging": {"max_megabytes": 2.0}}
    )
    assert PhotoFiles.of(settings) == PhotoFiles("s3://b", {"key": "k"}, 2.0)


def test_content_is_read_from_a_path_and_from_a_url(tmp_path, memory, server):
    (tmp_path / "a b.jpg").write_bytes(b"of a path")
    fsspec.filesystem("memory").pipe_file("/photo_files/x/a.jpg", b"in memory")
    for root, uri, content in [
        (str(tmp_path), "a b.jpg", b"of a path"),
        (f"file://{tmp_path}", "a b.jpg", b"of a path"),
        (memory, "x/a.jpg", b"in memory"),
        (server, "large.jpg", LARGE),
    ]:
        files = PhotoFiles(root)
        assert files.read(files.absolute(uri)) == content


def test_absent_photo_is_missing_and_the_error_names_it(tmp_path, memory, server):
    (tmp_path / "folder").mkdir()
    for uri in (
        f"{tmp_path}/none.jpg",
        f"{tmp_path}/folder",
        f"{tmp_path}/nul\0.jpg",
        f"{memory}/none.jpg",
        f"{server}/none.jpg",
        "http://127.0.0.1:9/none.jpg",
        "nosuchprotocol://bucket/none.jpg",
    ):
        error = refusal(PhotoFiles(), uri)
        assert error.reason == "missing"
        assert uri in error.detail
        assert len(error.detail.splitlines()) == 1


def test_absent_photo_has_no_stamp(tmp_path, memory):
    for uri in (f"{tmp_path}/none.jpg", f"{memory}/none.jpg"):
        with pytest.raises(PhotoError, match=r"missing: .*none\.jpg"):
            PhotoFiles().stamp(uri)


def test_file_as_large_as_the_limit_is_read_and_a_larger_one_is_not(tmp_path, memory):
    for uri in (f"{tmp_path}/a.jpg", f"{memory}/a.jpg"):
        for size in (1000, 1001):
            with fsspec.open(uri, "wb") as file:
                file.write(bytes(size))
            files = PhotoFiles(max_megabytes=0.001)
            if size == 1000:
                assert files.read(uri) == bytes(1000)
            else:
                assert refusal(files, uri).args == ("too_large: more than 0.001 megabytes",)


def test_stamp_changes_only_with_the_content_even_if_its_length_is_equal(tmp_path):
    path, files = tmp_path / "a.jpg", PhotoFiles()
    path.write_bytes(b"before")
    first = files.stamp(str(path))
    assert files.stamp(str(path)) == first
    time.sleep(TICK)
    path.write_bytes(b"after!")
    second = files.stamp(str(path))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert len({first, second, files.stamp(str(path))}) == 3


def test_stamp_changes_if_the_file_is_replaced_by_another_of_the_same_time_and_size(tmp_path):
    path, other = tmp_path / "a.jpg", tmp_path / "b.jpg"
    for each, content in ((path, b"before"), (other, b"after!")):
        each.write_bytes(content)
        os.utime(each, ns=(10**18, 10**18))
    before = PhotoFiles().stamp(str(path))
    other.replace(path)
    assert PhotoFiles().stamp(str(path)) != before


def test_stamp_of_a_link_is_that_of_its_target(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"before")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    before = PhotoFiles().stamp(str(tmp_path / "link.jpg"))
    time.sleep(TICK)
    (tmp_path / "a.jpg").write_bytes(b"after!")
    assert PhotoFiles().stamp(str(tmp_path / "link.jpg")) != before


def test_stamp_of_a_url_changes_with_its_content(memory):
    files, stamps = fsspec.filesystem("memory"), set()
    for content in (b"before", b"after!"):
        files.pipe_file("/photo_files/a.jpg", content)
        stamps |= {PhotoFiles().stamp(f"{memory}/a.jpg") for _ in range(2)}
    assert len(stamps) == 2


def test_content_hash_is_the_first_half_of_sha_256():
    assert content_hash(b"") == "e3b0c44298fc1c149afbf4c8996fb924"
    assert content_hash(b"a") != content_hash(b"b")


def test_files_are_closed_after_reading(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"content")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        PhotoFiles().read(str(tmp_path / "a.jpg"))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
