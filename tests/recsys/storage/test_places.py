import pickle
import threading
import time
from pathlib import Path

import pytest

from recsys.errors import BusyError, ConfigurationError, StoreError
from recsys.storage import places
from recsys.storage.places import (
    contents,
    create,
    files_in,
    link,
    modified,
    place,
    put,
    remove,
    sizes_below,
    store_errors,
)
from tests.helpers.object_store import CUT, LOST, REFUSED, SLOW


def test_file_is_created_once_with_the_first_content(folder):
    create(folder / "a" / "file", b"first")
    with pytest.raises(FileExistsError):
        create(folder / "a" / "file", b"second")
    create(folder / "a" / "file", b"first")  # as after an answer that was lost
    assert (folder / "a" / "file").read_bytes() == b"first"
    assert sizes_below(folder) == {"a/file": 5}


def test_of_many_who_create_a_file_one_succeeds(folder):
    made = []

    def make(number: int) -> None:
        try:
            create(folder / "file", b"by %d" % number)
        except FileExistsError:
            return
        made.append(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (folder / "file").read_bytes() == b"by %d" % made[0]


def test_second_name_of_a_file_outlives_the_first(folder, tmp_path):
    put(folder / "a" / "x", b"rows")
    link(folder / "a" / "x", folder / "b" / "y")
    remove(folder / "a")
    assert sizes_below(folder) == {"b/y": 4}
    link(folder / "b" / "y", tmp_path / "elsewhere" / "z")  # from a store to a disk it is a copy
    assert (tmp_path / "elsewhere" / "z").read_bytes() == b"rows"


def test_put_replaces_and_remove_forgets(folder):
    put(folder / "b" / "x", "old")
    put(folder / "b" / "x", "new!")
    put(folder / "c", b"1")
    assert sizes_below(folder) == {"b/x": 4, "c": 1}
    remove(folder / "b")
    remove(folder / "b")
    assert sizes_below(folder) == {"c": 1}
    remove(folder)
    assert sizes_below(folder) == {}
    assert not folder.exists()


def test_files_of_a_folder_are_listed_by_name_without_those_below(folder):
    assert files_in(folder) == []
    for name in ("b.json", "a.json", "c.txt", "below/d.json"):
        put(folder / name, name)
    assert [file.name for file in files_in(folder)] == ["a.json", "b.json", "c.txt"]
    assert contents(files_in(folder, ".json")) == [b"a.json", b"b.json"]
    assert contents([]) == []
    with pytest.raises(FileNotFoundError):
        contents([folder / "a.json", folder / "gone.json"])


def test_what_a_store_refuses_is_one_line_with_the_next_step(object_store):
    absent = place("s3://no-such-bucket/shop")
    with (
        pytest.raises(
            StoreError, match=r"^s3://no-such-bucket/shop: .*bucket.*: check that the store answers, the bucket"
        ),
        store_errors(absent),
    ):
        put(absent / "file", b"")


def test_error_of_ours_that_a_refusal_led_to_stays_as_it_is(object_store):
    taken = object_store("taken")
    create(taken / "1", b"first")

    def second() -> None:
        try:
            create(taken / "1", b"second")
        except FileExistsError:
            raise BusyError("another one was first") from None

    with pytest.raises(BusyError, match=r"^another one was first$"), store_errors(taken):
        second()


def test_errors_that_are_not_of_a_store_stay_as_they_are(tmp_path):
    for where in (tmp_path, place("s3://shop/x")):
        with pytest.raises(FileNotFoundError), store_errors(where):
            (tmp_path / "nowhere").read_bytes()


def test_time_of_a_file_is_that_of_its_store(folder):
    before = time.time() - 2  # S3 tells whole seconds
    put(folder / "x", b"")
    assert before <= modified(folder / "x") <= time.time() + 2
    with pytest.raises(FileNotFoundError):
        modified(folder / "y")


def test_place_travels_to_other_processes(folder):
    put(folder / "x", "text")
    assert (pickle.loads(pickle.dumps(folder)) / "x").read_text() == "text"
    assert place(str(folder)) == folder


@pytest.mark.parametrize("kind", [SLOW, REFUSED, CUT, LOST])
def test_file_is_created_whatever_happens_to_the_request(object_store, tmp_path, kind):
    file = object_store(tmp_path.name) / "file"
    object_store.requests.clear()
    object_store.fail_once(kind, "PUT", "/file")
    create(file, b"content")
    assert file.read_bytes() == b"content"
    tried = object_store.requests.count(("PUT", f"/shop/{tmp_path.name}/file"))
    assert tried == (1 if kind == SLOW else 2)


def test_killed_writer_leaves_no_file_of_that_name(tmp_path, monkeypatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(places.os, "link", killed)
    with pytest.raises(KeyboardInterrupt):
        create(tmp_path / "file", b"content")
    assert sizes_below(tmp_path) == {}


def test_local_paths_and_urls_of_files_are_paths():
    assert place("var/shop") == Path("var/shop")
    assert place("file:///var/shop") == Path("/var/shop")
    assert str(place("s3a://bucket/shop")) == "s3://bucket/shop"


def test_unknown_scheme_is_refused_with_those_that_are_known():
    with pytest.raises(ConfigurationError) as error:
        place("ftp://host/shop")
    assert str(error.value) == (
        "'ftp://host/shop' is no place known here, must be a local path or a URL of s3, s3a, gs, gcs, abfs, abfss, az"
    )


def test_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch):
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr(places, "UPath", missing)
    with pytest.raises(ConfigurationError, match=r"pip install 'flash-sale-recsys\[gcs\]'"):
        place("gs://bucket/shop")
