import contextlib
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
        if self.path.startswith("/photos/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/photos/to?"))
            self.end_headers()
            return
        if self.path.startswith("/photos/slow"):
            self._drip()
            return
        found = self.path == "/photos/large.jpg"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(LARGE) if found else 0))
        self.end_headers()
        if found:
            for start in range(0, len(LARGE), 1_000_000):
                self.wfile.write(LARGE[start : start + 1_000_000])
                time.sleep(0.01)

    def _drip(self) -> None:
        """Send a byte every 50 ms: of the headers or, for slow.jpg, of the content."""
        headers = b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n"
        if self.path == "/photos/slow.jpg":
            self.wfile.write(headers)
            headers = b""
        with contextlib.suppress(OSError):  # until the caller hangs up
            for byte in headers + bytes(1000):
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)

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
    assert PhotoFiles.of(settings) == PhotoFiles("s3://b", {"key": "k"}, 2.0, 30.0, below_root=True)
    assert not PhotoFiles.of(settings, below_root=False).below_root


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


@pytest.fixture
def shop(tmp_path) -> Path:
    """A folder of photos beside a file that is none of the shop's."""
    (tmp_path / "photos/spa").mkdir(parents=True)
    (tmp_path / "photos/spa/a.jpg").write_bytes(b"photo")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return tmp_path


@pytest.mark.parametrize("root", ["{}/photos", "file://{}/photos", "{}/photos/", "{}/./photos"])
def test_photo_below_the_root_is_read_by_each_of_its_addresses(shop, root):
    files = PhotoFiles(root.format(shop))
    for uri in ("spa/a.jpg", "spa/../spa/a.jpg", f"{root.format(shop)}/spa/a.jpg"):
        assert files.read(files.absolute(uri)) == b"photo"
        assert files.stamp(files.absolute(uri))


def test_local_photo_outside_the_root_is_refused_before_it_is_looked_at(shop):
    (shop / "photos/link.jpg").symlink_to(shop / "secret.txt")
    (shop / "photos/folder").symlink_to(shop)
    (shop / "photos-of-others").mkdir()
    (shop / "photos-of-others/a.jpg").write_bytes(b"other")
    files = PhotoFiles(str(shop / "photos"))
    for uri in (
        f"{shop}/secret.txt",
        "../secret.txt",
        "spa/../../secret.txt",
        "link.jpg",
        "folder/secret.txt",
        "../photos-of-others/a.jpg",
        f"file://{shop}/photos/spa/a.jpg",
        "ftp://other/a.jpg",
        "http://127.0.0.1:9/a.jpg",
        "simplecache::file:///etc/passwd",
        "/etc/passwd",
        "/dev/zero",
    ):
        for look in (files.read, files.stamp):
            with pytest.raises(PhotoError, match=rf"^refused: .* is not below images.root == '{shop}/photos'$"):
                look(files.absolute(uri))


def test_address_of_another_server_or_above_the_root_is_refused_before_it_is_asked():
    """No server listens here: an address that were asked would be missing."""
    for root, uri in [
        ("ftp://user@shop/photos", "ftp://other/photos/a.jpg"),  # would be sent the password of the root
        ("http://shop/photos", "https://shop/photos/a.jpg"),
        ("http://shop/photos", "http://shop:81/photos/a.jpg"),
        ("http://shop/photos", "http://shop.evil/photos/a.jpg"),
        ("http://shop/photos", "http://shop/photos-of-others/a.jpg"),
        ("http://shop/photos", "../a.jpg"),
        ("http://shop/photos", "%2e%2e/a.jpg"),
        ("http://shop/photos", "x\\..\\..\\a.jpg"),
        ("http://shop/photos", "/etc/passwd"),
        ("http://shop/photos", "file:///etc/passwd"),
        ("http://shop/photos", "a::file:///etc/passwd"),
        ("s3://bucket/photos", "s3://bucket/photos/x.zip::file:///etc/passwd"),
    ]:
        files = PhotoFiles(root)
        error = refusal(files, files.absolute(uri))
        assert (error.reason, uri in error.detail) == ("refused", True), uri
        assert f"is not below images.root == '{root}'" in error.detail


def test_redirect_is_followed_below_the_root_alone(server):
    files, address = PhotoFiles(server), server.removesuffix("/photos")
    assert files.read(f"{server}/to?large.jpg") == LARGE
    assert files.read(f"{server}/to?{server}/large.jpg") == LARGE
    for target in (
        f"{address}/large.jpg",
        "/other/large.jpg",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
    ):
        error = refusal(files, f"{server}/to?{target}")
        assert (error.reason, " redirects to " in error.detail) == ("refused", True), target
    circle = "/photos/to?/photos/to?/photos/to?/photos/to?/photos/large.jpg"
    assert "redirects more than 3 times" in refusal(files, f"{address}{circle}").detail


@pytest.mark.parametrize("name", ["slow.jpg", "slow_headers.jpg"])
def test_slow_server_is_left_after_the_time_limit(server, name):
    started = time.monotonic()
    error = refusal(PhotoFiles(server, max_seconds=0.3), f"{server}/{name}")
    assert (error.reason, error.detail) == ("too_slow", f"{server}/{name}: not read within 0.3 seconds")
    assert time.monotonic() - started < 30  # the whole takes 50 seconds


def test_pipe_and_device_are_no_photos_and_are_not_waited_for(shop):
    os.mkfifo(shop / "photos/pipe.jpg")
    assert refusal(PhotoFiles(str(shop / "photos")), f"{shop}/photos/pipe.jpg").detail.endswith("is no regular file")
    assert refusal(PhotoFiles("/dev"), "/dev/zero").reason == "refused"


def test_name_that_no_file_can_have_is_missing(shop):
    files = PhotoFiles(str(shop / "photos"))
    for uri in ("nul\0.jpg", "x" * 5000, "a/" * 3000):
        assert refusal(files, files.absolute(uri)).reason == "missing"
        with pytest.raises(PhotoError, match=r"^missing: "):
            files.stamp(files.absolute(uri))


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
        error = refusal(PhotoFiles(below_root=False), uri)
        assert error.reason == "missing"
        assert uri in error.detail
        assert len(error.detail.splitlines()) == 1


def test_absent_photo_has_no_stamp(tmp_path, memory):
    for uri in (f"{tmp_path}/none.jpg", f"{memory}/none.jpg"):
        with pytest.raises(PhotoError, match=r"missing: .*none\.jpg"):
            PhotoFiles(below_root=False).stamp(uri)


def test_file_as_large_as_the_limit_is_read_and_a_larger_one_is_not(tmp_path, memory):
    for uri in (f"{tmp_path}/a.jpg", f"{memory}/a.jpg"):
        for size in (1000, 1001):
            with fsspec.open(uri, "wb") as file:
                file.write(bytes(size))
            files = PhotoFiles(max_megabytes=0.001, below_root=False)
            if size == 1000:
                assert files.read(uri) == bytes(1000)
            else:
                assert refusal(files, uri).args == ("too_large: more than 0.001 megabytes",)


def test_stamp_changes_only_with_the_content_even_if_its_length_is_equal(tmp_path):
    path, files = tmp_path / "a.jpg", PhotoFiles(below_root=False)
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
    before = PhotoFiles(below_root=False).stamp(str(path))
    other.replace(path)
    assert PhotoFiles(below_root=False).stamp(str(path)) != before


def test_stamp_of_a_link_is_that_of_its_target(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"before")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    before = PhotoFiles(below_root=False).stamp(str(tmp_path / "link.jpg"))
    time.sleep(TICK)
    (tmp_path / "a.jpg").write_bytes(b"after!")
    assert PhotoFiles(below_root=False).stamp(str(tmp_path / "link.jpg")) != before


def test_stamp_of_a_url_changes_with_its_content(memory):
    files, stamps = fsspec.filesystem("memory"), set()
    for content in (b"before", b"after!"):
        files.pipe_file("/photo_files/a.jpg", content)
        stamps |= {PhotoFiles(below_root=False).stamp(f"{memory}/a.jpg") for _ in range(2)}
    assert len(stamps) == 2


def test_content_hash_is_the_first_half_of_sha_256():
    assert content_hash(b"") == "e3b0c44298fc1c149afbf4c8996fb924"
    assert content_hash(b"a") != content_hash(b"b")


def test_files_are_closed_after_reading(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"content")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        PhotoFiles(below_root=False).read(str(tmp_path / "a.jpg"))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
