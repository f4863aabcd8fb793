"""Nights with a small shop's photos: which are tagged, which are not tagged again, and which are rejected."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from jobs.engine.nights import night
from jobs.engine.run import Run, with_inputs
from jobs.night import tag_images as job
from jobs.night.tag_images import TAG_IMAGES, tag_images, taggers_of
from jobs.registry.taggers import register_tagger
from recsys.errors import ConfigurationError
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.instants import DAY, to_micros
from recsys.pipeline.photo_tags import photo_store
from recsys.pipeline.photos import ProcessEngine
from recsys.storage.journal import steps_of
from recsys.tables.parts import read_arrow, whole_tables
from tests.helpers.paths import ROOT
from tests.helpers.small_photos import own_tagger, write_photo
from tests.helpers.small_shop import AS_OF, SmallShop, event, sale
from tests.helpers.trained_taggers import taxonomy, trained

SALE_IMAGES = pa.schema([("sale_id", pa.string()), ("image_uri", pa.string()), ("position", pa.int32())])
RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (100, 100, 100)


class Engine(ProcessEngine):
    """Records which photos it was asked to tag."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.before_tagging: Callable[[], Any] = lambda: None

    def tag_photos(self, photos: pa.Table, settings: ImageSettings, network: TaggerSettings, folder: Path) -> None:
        self.before_tagging()
        self.asked += [Path(uri).name for uri in photos["image_uri"].to_pylist()]
        super().tag_photos(photos, settings, network, folder)


@dataclass
class Night:
    """The results of a night."""

    summary: str
    tags: dict[tuple[str, int], dict]
    rejected: dict[tuple[str, int], dict]
    asked: list[str]
    messages: list[str]


@contextmanager
def collect_messages(messages: list[str]) -> Iterator[None]:
    """Append the job's log messages to a list."""
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("jobs.night.tag_images")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@dataclass
class PhotoShop:
    """A shop in a folder, with its photos in `photos`."""

    shop: SmallShop
    engine: Engine
    images: dict[str, Any] = field(default_factory=dict)

    @property
    def photos(self) -> Path:
        return self.shop.folder / "photos"

    def run(self, day: int = 0, **tagging: Any) -> Run:
        images = {"root": str(self.photos), "tagging": tagging, **self.images}
        run = night(self.shop.settings(images=images), to_micros(AS_OF) + day * DAY)
        run.folder.mkdir(parents=True, exist_ok=True)
        return run

    def night(self, *names: str, day: int = 0, **tagging: Any) -> Night:
        """Tag photos of one sale; their order gives their positions."""
        run, rows = self.run(day, **tagging), [("s1", name, position) for position, name in enumerate(names)]
        write_sale_images(run.folder / "sale_images", rows)
        out, self.engine.asked = run.folder / "out", []
        messages: list[str] = []
        with collect_messages(messages):
            summary = tag_images(run, out)
        return Night(
            summary,
            by_photo(out / "image_tags"),
            by_photo(out / "rejected_images"),
            sorted(self.engine.asked),
            messages,
        )


def outputs_folder(run: Run) -> Path:
    (tagger,) = taggers_of(run)
    return Path(run.settings.folder) / "photos/networks" / tagger.files.network_version


def write_sale_images(folder: Path, rows: list[tuple[str, str, int]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([dict(zip(SALE_IMAGES.names, row, strict=True)) for row in rows], SALE_IMAGES)
    pq.write_table(table, folder / "part.parquet")


def by_photo(folder: Path) -> dict[tuple[str, int], dict]:
    return {(row["sale_id"], row["position"]): row for row in pq.read_table(folder).to_pylist()}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def photo_shop(spark, tmp_path, monkeypatch) -> PhotoShop:
    engine = Engine()
    monkeypatch.setattr(job, "choose_engine", lambda *_: engine)
    shop = SmallShop(tmp_path).write([sale("s1"), sale("s2")], [event("u1", "s1", -1)])
    tagger = own_tagger(tmp_path / "tagger").model_dump(exclude_none=True)
    found = PhotoShop(shop, engine, {"taggers": [tagger]})
    for name, colour in (("red.bmp", RED), ("green.bmp", GREEN), ("blue.bmp", BLUE)):
        write_photo(found.photos / name, colour)
    return found


def test_photos_are_tagged_once_and_a_later_night_tags_nothing(photo_shop):
    first = photo_shop.night("red.bmp", "green.bmp")
    assert first.asked == ["green.bmp", "red.bmp"]
    assert first.summary.startswith("2 photos of sales, 2 different, 2 new for own-")
    assert first.summary.endswith("; 0 set aside")
    repeated, later = photo_shop.night("red.bmp", "green.bmp"), photo_shop.night("red.bmp", "green.bmp", day=1)
    assert repeated.asked == later.asked == []
    assert " 0 new " in repeated.summary
    assert " 0 new " in later.summary
    assert first.tags == repeated.tags == later.tags
    row = first.tags["s1", 1]
    assert row["image_uri"] == "green.bmp"
    assert len(row["tags"]) == len(row["probabilities"]) == 5
    assert row["probabilities"] == sorted(row["probabilities"], reverse=True)
    assert first.rejected == {}


def test_only_new_and_changed_photos_are_tagged(photo_shop):
    before = photo_shop.night("red.bmp", "green.bmp")
    write_photo(photo_shop.photos / "green.bmp", GREY)
    after = photo_shop.night("red.bmp", "green.bmp", "blue.bmp", day=1)
    assert after.asked == ["blue.bmp", "green.bmp"]
    assert " 3 different, 2 new " in after.summary
    assert after.tags["s1", 0] == before.tags["s1", 0]
    assert after.tags["s1", 1]["image_hash"] != before.tags["s1", 1]["image_hash"]
    assert after.tags["s1", 1]["probabilities"] != before.tags["s1", 1]["probabilities"]


def test_content_that_was_tagged_before_is_not_tagged_again(photo_shop):
    first = photo_shop.night("red.bmp")
    write_photo(photo_shop.photos / "red.bmp", GREY)
    photo_shop.night("red.bmp", day=1)
    write_photo(photo_shop.photos / "red.bmp", RED)
    third = photo_shop.night("red.bmp", day=2)
    assert third.asked == []
    assert third.tags == first.tags


def test_same_content_under_two_names_is_tagged_once(photo_shop):
    write_photo(photo_shop.photos / "copy.bmp", RED)
    found = photo_shop.night("red.bmp", "copy.bmp", "red.bmp")
    assert len(found.asked) == 1
    assert found.summary.startswith("3 photos of sales, 1 different, 1 new ")
    rows = [{**found.tags["s1", position], "position": 0, "image_uri": ""} for position in range(3)]
    assert rows[0] == rows[1] == rows[2]


def test_each_photo_keeps_its_own_tags_among_bad_ones(photo_shop):
    alone = {
        name: photo_shop.night(name).tags["s1", 0]["probabilities"] for name in ("red.bmp", "green.bmp", "blue.bmp")
    }
    assert len({tuple(each) for each in alone.values()}) == 3
    (photo_shop.photos / "page.jpg").write_text("<html></html>")
    photo_shop.images["taggers"][0]["mean"] = [
        0.4851,
        0.456,
        0.406,
    ]  # another network: all are tagged again
    found = photo_shop.night("page.jpg", "blue.bmp", "none.bmp", "red.bmp", "green.bmp")
    for position, name in ((1, "blue.bmp"), (3, "red.bmp"), (4, "green.bmp")):
        assert found.tags["s1", position]["probabilities"] == pytest.approx(alone[name], rel=1e-2)


def test_bad_photos_are_set_aside_with_their_reasons_and_counted(photo_shop):
    (photo_shop.photos / "page.jpg").write_text("<html></html>")
    (photo_shop.photos / "empty.jpg").write_bytes(b"")
    (photo_shop.photos / "half.bmp").write_bytes((photo_shop.photos / "red.bmp").read_bytes()[:60])
    (photo_shop.photos / "heavy.bmp").write_bytes(bytes(5000))
    names = ("red.bmp", "page.jpg", "none.bmp", "empty.jpg", "half.bmp", "heavy.bmp", "none-either.bmp")
    found = photo_shop.night(*names, max_megabytes=0.004)
    reasons = {names[position]: row["reason"] for (_, position), row in found.rejected.items()}
    assert reasons == {
        "page.jpg": "not_an_image",
        "none.bmp": "missing",
        "none-either.bmp": "missing",
        "empty.jpg": "empty",
        "half.bmp": "truncated",
        "heavy.bmp": "too_large",
    }
    assert set(found.tags) == {("s1", 0)}
    assert found.summary.startswith("7 photos of sales, 4 different, 4 new for own-")
    assert "6 set aside (2 missing, 1 " in found.summary
    assert "none.bmp" in found.rejected["s1", 2]["detail"]
    assert found.rejected["s1", 5]["detail"] == "more than 0.004 megabytes"
    assert all(row["detail"] for row in found.rejected.values())
    again = photo_shop.night(*names, day=1, max_megabytes=0.004)
    assert (again.asked, again.rejected) == ([], found.rejected)
    assert " 0 new " in again.summary


def test_missing_photo_is_tagged_once_it_appears_and_set_aside_once_it_vanishes(photo_shop):
    assert photo_shop.night("late.bmp").rejected["s1", 0]["reason"] == "missing"
    write_photo(photo_shop.photos / "late.bmp", GREY)
    second = photo_shop.night("late.bmp", day=1)
    assert (second.asked, set(second.tags), second.rejected) == (["late.bmp"], {("s1", 0)}, {})
    (photo_shop.photos / "late.bmp").unlink()
    third = photo_shop.night("late.bmp", day=2)
    assert (third.tags, third.rejected["s1", 0]["reason"]) == ({}, "missing")
    write_photo(photo_shop.photos / "late.bmp", GREY)
    fourth = photo_shop.night("late.bmp", day=3)
    assert (fourth.asked, fourth.tags) == ([], second.tags)


def test_photo_that_changes_while_the_night_tags_is_tagged_the_next_night(photo_shop):
    photo_shop.engine.before_tagging = lambda: write_photo(photo_shop.photos / "red.bmp", GREY)
    first = photo_shop.night("red.bmp", "green.bmp")
    assert set(first.tags) == {("s1", 1)}
    assert "has changed since it was hashed" in first.rejected["s1", 0]["detail"]
    second = photo_shop.night("red.bmp", "green.bmp", day=1)
    assert (second.asked, set(second.tags)) == (["red.bmp"], {("s1", 0), ("s1", 1)})
    write_photo(photo_shop.photos / "red.bmp", RED)  # the content that could not be tagged the first time
    photo_shop.engine.before_tagging = lambda: None
    third = photo_shop.night("red.bmp", "green.bmp", day=2)
    assert (third.asked, set(third.tags)) == (["red.bmp"], {("s1", 0), ("s1", 1)})


def test_raised_limit_and_changed_number_of_tags_apply_to_photos_seen_before(photo_shop):
    write_photo(photo_shop.photos / "large.bmp", GREY, side=200)
    assert photo_shop.night("large.bmp", max_megapixels=0.03).rejected["s1", 0]["reason"] == "too_large"
    raised = photo_shop.night("large.bmp", max_megapixels=0.04)
    assert len(raised.tags["s1", 0]["tags"]) == 5
    more = photo_shop.night("large.bmp", max_megapixels=0.04, tags=7)
    assert len(more.tags["s1", 0]["tags"]) == 7
    assert more.tags["s1", 0]["tags"][:5] == raised.tags["s1", 0]["tags"]


def test_another_tagger_tags_all_photos_and_the_first_taggers_tags_remain_stored(photo_shop, tmp_path):
    first = photo_shop.night("red.bmp")
    other = own_tagger(tmp_path / "tagger", seed=1).model_dump(exclude_none=True)
    mine, photo_shop.images["taggers"] = photo_shop.images["taggers"], [other]
    second = photo_shop.night("red.bmp")
    assert second.asked == ["red.bmp"]
    assert second.tags["s1", 0]["probabilities"] != first.tags["s1", 0]["probabilities"]
    photo_shop.images["taggers"] = mine
    third = photo_shop.night("red.bmp")
    assert (third.asked, third.tags) == ([], first.tags)


def test_many_photos_are_saved_in_parts_and_progress_is_logged(photo_shop):
    found = photo_shop.night("red.bmp", "green.bmp", "blue.bmp", part_photos=2)
    assert len(list(outputs_folder(photo_shop.run()).glob("part-*"))) == 2
    assert [line.split(", ")[0].strip() for line in found.messages] == ["2 of 3 photos tagged", "3 of 3 photos tagged"]
    write_photo(photo_shop.photos / "red.bmp", GREY)
    assert photo_shop.night("red.bmp", "green.bmp", part_photos=2).messages == []


def test_shop_without_photos_has_empty_tables_and_needs_no_tagger(photo_shop):
    photo_shop.images["taggers"] = [{"name": "own"}]
    found = photo_shop.night()
    assert (found.summary, found.tags, found.rejected) == ("the shop has no photos", {}, {})
    run = photo_shop.run()
    assert TAG_IMAGES.depends_on(run) == []
    run.do(with_inputs(TAG_IMAGES))
    assert read_arrow(run.outputs / "image_tags").num_rows == 0


def test_photos_of_a_url_are_tagged(photo_shop):
    files = fsspec.filesystem("memory")
    files.pipe_file("/shop/a.bmp", (photo_shop.photos / "red.bmp").read_bytes())
    expected = photo_shop.night("red.bmp").tags["s1", 0]
    photo_shop.images["root"] = "memory://shop"
    found = photo_shop.night("a.bmp", "none.bmp")
    assert found.tags["s1", 0]["image_hash"] == expected["image_hash"]
    assert found.rejected["s1", 1]["reason"] == "missing"
    files.rm("/shop", recursive=True)


# Taggers of the shop's own labels.


def register_rooms(photo_shop: PhotoShop, seed: int) -> TrainedTagger:
    """Register a tagger with a random head on the embeddings of the shop's network."""
    network, *_ = taggers_of(photo_shop.run())
    weights = 30 * np.random.default_rng(seed).standard_normal((512, 3))
    base, version = network.network, network.files.network_version
    tagger = trained(taxonomy(), weights.tolist(), base, version, sure=0.01)
    folder = photo_shop.shop.folder / f"trained-{seed}"
    tagger.save(folder)
    register_tagger(photo_shop.run().settings, tagger, folder)
    return tagger


def test_new_version_of_a_tagger_tags_all_photos_anew_without_reading_one(photo_shop):
    first = photo_shop.night("red.bmp", "green.bmp", "blue.bmp")
    register_rooms(photo_shop, seed=0)
    named = photo_shop.images["taggers"]
    photo_shop.images["taggers"] = [*named, {"taxonomy": "rooms"}]
    joined = photo_shop.night("red.bmp", "green.bmp", "blue.bmp")
    assert joined.asked == []
    assert {"suite", "pool"} & set(joined.tags["s1", 0]["tags"])
    for photo, row in joined.tags.items():
        things = [tag.startswith("thing") for tag in row["tags"]]
        assert sorted(np.array(row["tags"])[things]) == sorted(first.tags[photo]["tags"])
        assert sum(np.array(row["weights"])[things]) == pytest.approx(1)
        assert sum(row["weights"]) == pytest.approx(1 if all(things) else 2)
    register_rooms(photo_shop, seed=1)
    pinned = photo_shop.night("red.bmp", "green.bmp", "blue.bmp")
    photo_shop.images["taggers"] = [*named, {"taxonomy": "rooms", "version": "challenger"}]
    other = photo_shop.night("red.bmp", "green.bmp", "blue.bmp")
    assert (pinned.asked, pinned.tags, other.asked) == ([], joined.tags, [])
    assert other.tags != joined.tags


def test_sale_has_an_attribute_of_what_its_photos_show_for_sure(photo_shop):
    with_sql(photo_shop, "red.bmp")
    photo_shop.night("red.bmp")
    tagger = register_rooms(photo_shop, seed=0)
    photo_shop.images["taggers"] = [{"taxonomy": "rooms"}]
    run = photo_shop.run()
    run.do(with_inputs(TAG_IMAGES))
    (network,) = taggers_of(run)
    store = photo_store(Path(run.settings.folder), network.files)
    (image_hash,) = read_arrow(run.outputs / "image_tags")["image_hash"].to_pylist()
    embedding = np.array(store.embeddings(pa.array([image_hash]))["embedding"].to_pylist(), np.float32)
    likeliest = [*tagger.head.labels, None][tagger.head.probabilities(embedding).argmax()]
    assert run.shop.catalogue.attributes[0].get("photo_rooms") == likeliest


def test_tagger_without_a_version_is_left_out_and_the_others_tag(photo_shop):
    with_sql(photo_shop, "red.bmp")
    photo_shop.images["taggers"] = [*photo_shop.images["taggers"], {"taxonomy": "rooms"}]
    run = photo_shop.run()
    run.do(with_inputs(TAG_IMAGES))
    (left_out,) = run.left_out((TAG_IMAGES,))
    assert left_out.what == "tags of taxonomy rooms"
    assert left_out.why.startswith("tagger 'rooms' has no alias 'champion': train one with 'recsys tagger train rooms'")
    assert read_arrow(run.outputs / "image_tags").num_rows == 1


# The step.


def with_sql(photo_shop: PhotoShop, *names: str) -> None:
    """Add photos to the source, as raw rows and a SQL file."""
    shop = photo_shop.shop
    rows = [("s1", name, position) for position, name in enumerate(names)]
    write_sale_images(shop.folder / "raw/sale_images", [*rows, ("unknown", "red.bmp", 0)])
    shop.write_sql("sale_images", "select * from {raw_sale_images}")
    source = shop.raw_settings()["source"]
    raw = source["raw"] | {"raw_sale_images": {"path": str(shop.folder / "raw/sale_images")}}
    shop.settings_changes["source"] = source | {"raw": raw}


def test_step_is_repeated_only_if_a_photo_or_the_tagger_has_changed(photo_shop):
    with_sql(photo_shop, "red.bmp", "late.bmp")

    def done(**tagging: Any) -> str | None:
        """Return the summary, or None if the step was skipped."""
        run = photo_shop.run(**tagging)
        before = steps_of(run.folder).get("tag_images")
        run.do(with_inputs(TAG_IMAGES))
        now = steps_of(run.folder)["tag_images"]
        return now["summary"] if now != before else None

    assert "2 photos of sales, 1 different, 1 new for own-" in done()
    assert done(batch=3, part_photos=7) is None
    write_photo(photo_shop.photos / "late.bmp", GREY)
    assert "2 different, 1 new" in done()
    write_photo(photo_shop.photos / "red.bmp", BLUE)
    assert "2 different, 1 new" in done()


def test_unknown_tagger_stops_the_step_before_anything_is_tagged(photo_shop):
    with_sql(photo_shop, "red.bmp")
    photo_shop.images["taggers"] = [{"name": "places365"}]
    with pytest.raises(ConfigurationError, match=r"tagger\.name == 'places365', must be one of"):
        photo_shop.run().do(with_inputs(TAG_IMAGES))


# Killing the night.

TAG_SLOWLY = """
import sys, time
from pathlib import Path
import torch
from jobs.night import tag_images as job
from jobs.engine.nights import night
from recsys.config.settings import load_settings
from recsys.pipeline.photo_tags import photo_store
from recsys.pipeline.photos import ProcessEngine
from recsys.storage.local import held

class SlowEngine(ProcessEngine):
    def tag_photos(self, photos, settings, network, folder):
        folder.mkdir(parents=True)
        (folder / "part-00000.parquet").write_bytes(b"PAR1")
        time.sleep(0.3)  # if killed here, a part is begun
        super().tag_photos(photos, settings, network, folder)

run = night(load_settings(Path(sys.argv[1])))
engine, settings, (tagger,) = SlowEngine(), run.settings.images, job.taggers_of(run)
store = photo_store(run.settings.place, tagger.files)
with held(store.folder, wait=False):
    hashes = job._hash_photos(store, engine, sorted(sys.argv[2:]), settings)
    job._tag_new(run, store, engine, tagger.network, hashes)
"""


def test_night_killed_while_tagging_is_completed_by_the_next_which_tags_only_the_rest(photo_shop, tmp_path):
    names = [f"{number}.bmp" for number in range(8)]
    uris = [write_photo(photo_shop.photos / name, (30 * number, 10, 200)) for number, name in enumerate(names)]
    run = photo_shop.run(part_photos=1)
    images = {"root": str(photo_shop.photos), **photo_shop.images, "tagging": {"part_photos": 1}}
    conf = photo_shop.shop.configuration(images=images)
    folder = outputs_folder(run)
    log = tmp_path / "log"
    with log.open("w") as output:
        command = [sys.executable, "-c", TAG_SLOWLY, str(conf), *uris]
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)
        while not 3 <= len(whole_tables(folder)) < len(list(folder.glob("part-*"))):
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    saved = len(whole_tables(folder))
    assert 3 <= saved < 8
    found = photo_shop.night(*names, part_photos=1)
    assert len(found.asked) == 8 - saved
    assert f" {8 - saved} new " in found.summary
    assert len(found.tags) == 8
    assert len({tuple(row["probabilities"]) for row in found.tags.values()}) == 8
    assert not list(folder.glob(".tmp-*"))
