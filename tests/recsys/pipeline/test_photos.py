"""Both engines write the same rows."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys.images.settings import ImageSettings
from recsys.images.tagging.files import content_hash
from recsys.images.tagging.inference import load_tagger
from recsys.images.tagging.tag_store import HASHES, OUTPUTS, TagStore
from recsys.pipeline import photos
from recsys.pipeline.photos import Engine, ProcessEngine, SparkEngine, choose_engine
from recsys.testing.closeness import assert_no_near_ties, assert_same_tags, rounding, terms_of
from tests.helpers.small_photos import own_tagger, write_photo


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(photos.os, "cpu_count", lambda: 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def uris(tmp_path) -> list[str]:
    """Five photos, one of which is none, and one that is not there."""
    rng = np.random.default_rng(0)
    found = [
        write_photo(tmp_path / f"{number}.bmp", tuple(int(level) for level in rng.integers(0, 256, 3)))
        for number in range(5)
    ]
    Path(found[2]).write_text("<html></html>")
    return [*found, str(tmp_path / "none.bmp")]


def written(engine: Engine, uris: list[str], settings: ImageSettings, folder: Path) -> tuple[pa.Table, pa.Table]:
    """The rows of HASHES and of OUTPUTS that an engine writes, read as the next night reads them."""
    store = TagStore(folder, "tagger")
    with store.new_hashes() as part:
        engine.hash_photos(
            pa.table({"image_uri": uris, "known_stamp": pa.nulls(len(uris), pa.string())}), settings, part
        )
    hashes = store.hashes().sort_by("image_uri")
    hashed = hashes.filter(hashes["image_hash"].is_valid())
    with store.new_outputs() as part:
        engine.tag_photos(hashed.select(["image_hash", "image_uri"]), settings, settings.taggers[0], part)
    assert hashes.schema == HASHES
    tagged = store.outputs(OUTPUTS.names).sort_by("image_hash")
    assert tagged.schema == OUTPUTS
    return hashes, tagged


def test_spark_writes_the_same_rows_as_one_process(spark, uris, tmp_path):
    settings = ImageSettings(taggers=(own_tagger(tmp_path / "tagger"),), root=str(tmp_path))
    hashes, tagged = written(ProcessEngine(), uris, settings, tmp_path / "process")
    assert hashes["reason"].to_pylist() == [None] * 5 + ["missing"]
    assert hashes["image_hash"].to_pylist()[:5] == [content_hash(Path(uri).read_bytes()) for uri in uris[:5]]
    assert sorted(row or "" for row in tagged["reason"].to_pylist()) == [""] * 4 + ["not_an_image"]
    spark_hashes, spark_tagged = written(SparkEngine(spark), uris, settings, tmp_path / "spark")
    assert spark_hashes == hashes
    without_numbers = ["image_hash", "reason", "detail", "outputs"]
    assert spark_tagged.select(without_numbers) == tagged.select(without_numbers)
    terms = terms_of(load_tagger(settings.taggers[0]).network)
    for found, expected in zip(spark_tagged.to_pylist(), tagged.to_pylist(), strict=True):
        of_expected = expected["probabilities"], expected["embedding"]
        assert (found["probabilities"] is None) == (expected["probabilities"] is None)
        if expected["probabilities"] is not None:
            near = 2 * rounding(expected["embedding"], terms, dtype=np.float32).item()
            assert_no_near_ties(np.log(expected["probabilities"]), near)
            assert_same_tags(found["probabilities"], found["embedding"], of_expected, terms)


def test_nothing_to_do_leaves_no_part(spark, tmp_path, uris):
    settings = ImageSettings(taggers=(own_tagger(tmp_path / "tagger"),), root=str(tmp_path))
    for name, engine in (("process", ProcessEngine()), ("spark", SparkEngine(spark))):
        store = TagStore(tmp_path / name, "tagger")
        for _ in range(2):
            known = {row["image_uri"]: row["stamp"] for row in store.hashes().to_pylist()}
            stamps = pa.array([known.get(uri) for uri in uris[:2]], pa.string())
            with store.new_hashes() as part:
                engine.hash_photos(pa.table({"image_uri": uris[:2], "known_stamp": stamps}), settings, part)
        assert len(list((tmp_path / name / "hashes").glob("part-*"))) == 1


def test_one_process_tags_where_it_is_asked_for_and_where_spark_is_local(spark):
    assert type(choose_engine("auto", spark)) is ProcessEngine
    assert type(choose_engine("spark", spark)) is SparkEngine
    cluster = SimpleNamespace(conf={"spark.master": "yarn"})
    assert type(choose_engine("auto", cluster)) is SparkEngine
    assert type(choose_engine("process", cluster)) is ProcessEngine
