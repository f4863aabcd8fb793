"""Photos of one colour, tagged by a network that returns the colour, so that each row identifies its photo."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging import tagging
from recsys.images.tagging.files import content_hash
from recsys.images.tagging.inference import Tagger, load_tagger
from recsys.images.tagging.tag_store import HASHES, OUTPUTS
from recsys.images.tagging.taggers import Preprocessing
from recsys.images.tagging.tagging import Worker, best_device, hash_photos, tag_photos
from recsys.testing.closeness import assert_close, assert_no_near_ties, assert_same_tags, rounding, terms_of
from tests.helpers.small_photos import N_LABELS, own_tagger, write_photo

BAD = {b"": "empty", b"<html></html>": "not_an_image", b"\x89PNG\r\n\x1a\n": "not_an_image", b"GIF89a": "not_an_image"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Colours(nn.Module):
    """A network whose logits and embedding are a photo's mean colours in [0, 1]."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        colours = images.mean((2, 3))
        return 100 * colours, colours


@pytest.fixture
def colours(monkeypatch) -> None:
    preparation = Preprocessing(resize=8, crop=8, mean=(0, 0, 0), std=(1, 1, 1))
    tagger = Tagger(Colours(), ["red", "green", "blue"], preparation)
    monkeypatch.setattr(tagging, "_cached_tagger", lambda *_: tagger)


def images(**tagging_settings) -> ImageSettings:
    return ImageSettings.model_validate({"tagging": tagging_settings, "root": "/"})


def batches(pairs: list[tuple[str | None, str]], rows: int = 256) -> list[pa.RecordBatch]:
    schema = pa.schema([("image_hash", pa.string()), ("image_uri", pa.string())])
    table = pa.Table.from_pylist([{"image_hash": each, "image_uri": uri} for each, uri in pairs], schema)
    return table.to_batches(max_chunksize=rows)


def tagged(
    pairs: list[tuple[str | None, str]], settings: ImageSettings, rows: int = 256, threads: int = 1
) -> list[dict]:
    found = list(tag_photos(batches(pairs, rows), settings, settings.taggers[0], Worker("cpu", threads)))
    assert all(batch.schema == OUTPUTS for batch in found)
    return [row for batch in found for row in batch.to_pylist()]


def hashed(path: Path) -> tuple[str, str]:
    return content_hash(path.read_bytes()), str(path)


@pytest.fixture
def mixed(tmp_path) -> dict[tuple[str, str], tuple[int, int, int] | str]:
    """Photos of random colours and invalid photos, by hash and path: the colour, or the reason of the failure."""
    rng, found = np.random.default_rng(0), {}
    for number in range(50):
        path = tmp_path / f"{number}.bmp"
        if number % 3 == 1 or 20 <= number < 30:  # including a whole batch of invalid photos
            content = [*BAD][number % len(BAD)]
            path.write_bytes(content)
            found[hashed(path)] = BAD[content]
        else:
            colour = tuple(int(level) for level in rng.integers(0, 256, 3))
            write_photo(path, colour)
            found[hashed(path)] = colour
    return found


@pytest.mark.parametrize(("batch", "rows", "threads"), [(1, 256, 1), (4, 7, 3), (32, 256, 2), (100, 1, 1)])
def test_each_row_describes_its_own_photo_with_invalid_photos_at_any_position(mixed, colours, batch, rows, threads):
    found = tagged([*mixed], images(batch=batch, tags=2), rows, threads)
    assert [row["image_hash"] for row in found] == [image_hash for image_hash, _ in mixed]
    for row, expected in zip(found, mixed.values(), strict=True):
        if isinstance(expected, str):
            assert (row["reason"], row["outputs"], row["embedding"]) == (expected, None, None)
            assert row["detail"]
        else:
            shares = np.array(expected) / 255
            assert_close(row["embedding"], shares, terms=8 * 8, dtype=np.float32)
            best = np.argsort(-shares)
            assert row["outputs"] == best.tolist()
            probabilities = np.exp(100 * shares[best]) / np.exp(100 * shares).sum()
            moved = 2 * 100 * shares.max() * probabilities  # twice as far as the logits, 100 times the shares
            assert_close(row["probabilities"], probabilities, terms=8 * 8, dtype=np.float32, scale=moved)
            assert (row["reason"], row["detail"]) == (None, None)


def test_tags_depend_neither_on_the_batch_nor_on_the_order(tmp_path):
    settings = ImageSettings(taggers=(own_tagger(tmp_path / "tagger"),), root=str(tmp_path))
    rng = np.random.default_rng(0)
    for number in range(11):
        write_photo(tmp_path / f"{number}.bmp", tuple(int(level) for level in rng.integers(0, 256, 3)))
    pairs = [hashed(tmp_path / f"{number}.bmp") for number in range(11)]
    one_by_one = settings.model_copy(update={"tagging": images(batch=1, tags=N_LABELS).tagging})
    expected = {row["image_hash"]: row for row in tagged(pairs, one_by_one)}
    terms = terms_of(load_tagger(settings.taggers[0]).network)
    for row in expected.values():
        assert_no_near_ties(
            np.log(row["probabilities"]), 2 * rounding(row["embedding"], terms, dtype=np.float32).item()
        )
    assert len({tuple(row["outputs"]) for row in expected.values()}) > 2
    for batch, order in ((4, rng.permutation(11)), (32, range(11))):
        some = settings.model_copy(update={"tagging": images(batch=batch, tags=N_LABELS).tagging})
        for row in tagged([pairs[number] for number in order], some, threads=2):
            wanted = expected[row["image_hash"]]
            assert row["outputs"] == wanted["outputs"]
            of_wanted = wanted["probabilities"], wanted["embedding"]
            assert_same_tags(row["probabilities"], row["embedding"], of_wanted, terms)


def test_photo_that_changed_since_it_was_hashed_is_rejected_and_not_tagged_under_the_old_hash(tmp_path, colours):
    path = tmp_path / "a.bmp"
    write_photo(path, (255, 0, 0))
    pair = hashed(path)
    write_photo(path, (0, 0, 255))
    (row,) = tagged([pair], images())
    assert (row["image_hash"], row["reason"], row["outputs"]) == (pair[0], "missing", None)
    assert "has changed since it was hashed" in row["detail"]
    (row,) = tagged([(None, str(path))], images())
    assert row["outputs"][0] == 2


def test_photo_that_vanished_since_it_was_hashed_is_missing(tmp_path, colours):
    (row,) = tagged([("0" * 32, str(tmp_path / "none.bmp"))], images())
    assert (row["reason"], row["outputs"]) == ("missing", None)


def test_configured_limits_hold(tmp_path, colours):
    pair = hashed(Path(write_photo(tmp_path / "a.bmp", (255, 0, 0), side=100)))
    for limits, reason in (({"max_megapixels": 0.01}, None), ({"max_megapixels": 0.0099}, "too_large")):
        assert tagged([pair], images(**limits))[0]["reason"] == reason
    assert tagged([pair], images(max_megabytes=1e-5))[0]["reason"] == "too_large"


def test_no_photos_give_no_rows(colours):
    assert tagged([], images()) == []
    assert tagged([("0" * 32, "/no/such.bmp")] * 3, images(batch=2))[2]["reason"] == "missing"


def test_tagger_is_loaded_once_per_process(tmp_path):
    settings = ImageSettings(taggers=(own_tagger(tmp_path / "tagger"),), root=str(tmp_path))
    same_settings = ImageSettings(taggers=(own_tagger(tmp_path / "tagger"),), root=str(tmp_path))
    assert tagging._cached_tagger(settings.taggers[0], "cpu") is tagging._cached_tagger(same_settings.taggers[0], "cpu")


def test_best_device_is_a_gpu_if_there_is_one(monkeypatch):
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert best_device() == device


# Memory.


class Counter:
    def __init__(self) -> None:
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, item):
        with self._lock:
            self.calls += 1
        return item


def test_results_are_in_order_and_at_most_the_limit_ahead():
    counter, most = Counter(), 0
    with ThreadPoolExecutor(4) as pool:
        for taken, item in enumerate(tagging._map_ahead(pool, counter, range(200), limit=10)):
            assert item == taken
            most = max(most, counter.calls - taken)
    assert counter.calls == 200
    assert most <= 10


def test_photos_of_an_endless_stream_are_decoded_only_as_needed(tmp_path, colours, monkeypatch):
    image_hash, uri = hashed(Path(write_photo(tmp_path / "a.bmp", (255, 0, 0))))
    counter = Counter()
    decode = tagging.decode
    monkeypatch.setattr(tagging, "decode", lambda data, *limits: decode(counter(data), *limits))
    endless = (batches([(image_hash, uri)] * 3)[0] for _ in count())
    rows, found = 0, tag_photos(endless, images(batch=5), TaggerSettings(), Worker("cpu", 3))
    for _ in range(20):
        rows += next(found).num_rows
        assert counter.calls <= rows + 5 + 2 * 5  # the batch being tagged, and two batches ahead
    found.close()


# Hashes.


def hashes(pairs: list[tuple[str, str | None]], settings: ImageSettings | None = None) -> dict[str, dict]:
    schema = pa.schema([("image_uri", pa.string()), ("known_stamp", pa.string())])
    table = pa.Table.from_pylist([{"image_uri": uri, "known_stamp": stamp} for uri, stamp in pairs], schema)
    found = list(hash_photos(table.to_batches(max_chunksize=2), settings or images()))
    assert all(batch.schema == HASHES for batch in found)
    return {row["image_uri"]: row for batch in found for row in batch.to_pylist()}


def test_only_new_and_changed_photos_are_hashed(tmp_path):
    paths = [tmp_path / name for name in ("new.bmp", "same.bmp", "changed.bmp")]
    for path in paths:
        path.write_bytes(path.name.encode())
    first = hashes([(str(path), None) for path in paths])
    assert {row["image_hash"] for row in first.values()} == {content_hash(path.name.encode()) for path in paths}
    paths[2].write_bytes(b"something else")
    second = hashes([(str(path), first[str(path)]["stamp"] if path != paths[0] else None) for path in paths])
    assert set(second) == {str(paths[0]), str(paths[2])}
    assert second[str(paths[2])]["image_hash"] == content_hash(b"something else")
    assert second[str(paths[2])]["stamp"] != first[str(paths[2])]["stamp"]
    assert {(row["reason"], row["detail"]) for row in second.values()} == {(None, None)}


def test_photo_that_cannot_be_hashed_has_a_reason_and_no_stamp_so_that_it_is_retried(tmp_path):
    (tmp_path / "large.bmp").write_bytes(bytes(2000))
    uris = [str(tmp_path / "none.bmp"), str(tmp_path / "large.bmp")]
    found = hashes([(uri, "a stamp") for uri in uris], images(max_megabytes=0.001))
    assert [found[uri]["reason"] for uri in uris] == ["missing", "too_large"]
    assert {(row["stamp"], row["image_hash"]) for row in found.values()} == {(None, None)}
    assert found[uris[1]]["detail"] == "more than 0.001 megabytes"


def test_hashing_nothing_gives_nothing():
    assert hashes([]) == {}
