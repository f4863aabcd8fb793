import csv
import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ConfigurationError, InputError, SchemaError
from recsys.images.lab import label_files as files
from recsys.images.lab import label_studio, label_words
from recsys.images.lab.head import Head
from recsys.images.lab.label_store import LabelStore
from recsys.images.lab.label_words import Speaker
from recsys.images.tagging.decoding import PhotoError
from tests.helpers.labelled_photos import NOON, taxonomy, word

SPEAKER = Speaker("ann", "person", NOON)
MULTI = taxonomy(kind="multi")


def write(path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def labels_of(reading) -> dict[str, tuple[str, ...]]:
    return {each.image_uri.rsplit("/", 1)[-1]: each.labels for each in reading.words}


def reasons(rejected) -> list[tuple[str, str]]:
    return [(each.where, each.reason) for each in rejected]


def test_folders_are_labels_by_id_or_name_and_the_nearest_counts(tmp_path):
    for path in ("suite/1.jpg", "suite/2024/2.jpg", "suite/suite_sea/3.jpg", "La Suite/4.jpg", "none_of_these/5.jpg"):
        write(tmp_path / path, "photo")
    write(tmp_path / "suite/.hidden.jpg", "")
    write(tmp_path / ".cache/suite/7.jpg", "")
    write(tmp_path / "6.jpg", "")
    reading = files.read_folders(tmp_path, taxonomy(), SPEAKER)
    assert labels_of(reading) == {
        "1.jpg": ("suite",),
        "2.jpg": ("suite",),
        "3.jpg": ("suite_sea",),
        "4.jpg": ("suite",),
        "5.jpg": (),
    }
    assert reasons(reading.rejected) == [("folder", "no_label")]


def test_unknown_folders_are_all_named_with_the_label_that_was_meant(tmp_path):
    write(tmp_path / "pools/1.jpg", "")
    write(tmp_path / "beach/2.jpg", "")
    with pytest.raises(ConfigurationError) as error:
        files.read_folders(tmp_path, taxonomy(), SPEAKER)
    assert "'pools' (1 file); did you mean 'pool'?" in str(error.value)
    assert "'beach' (1 file)" in str(error.value)


def test_csv_is_read_with_any_delimiter_and_each_bad_row_is_put_aside_with_its_reason(tmp_path):
    path = write(
        tmp_path / "labels.csv",
        "﻿photo;label;taxonomy;source;by;at;colour\n"
        "1.jpg;La suite;;;;;\n"
        "2.jpg;;;api;vision;2026-11-01T10:00:00Z;\n"
        ";pool;;;;;\n"
        "4.jpg;poool;;;;;\n"
        "5.jpg;pool;beds;;;;\n"
        "6.jpg;pool;;oracle;;;\n"
        "7.jpg;pool;;;;2026-11-30;\n"
        "8.jpg;pool;;;;soon;\n"
        "9.jpg\n",
    )
    reading = files.read_csv(path, taxonomy(), SPEAKER)
    assert labels_of(reading) == {"1.jpg": ("suite",), "2.jpg": ()}
    assert (reading.words[1].source, reading.words[1].by, reading.words[1].at.day) == ("api", "vision", 1)
    assert [reason for _, reason in reasons(reading.rejected)] == [
        "no_photo",
        "unknown_label",
        "other_taxonomy",
        "bad_source",
        "bad_time",
        "bad_time",
        "no_label",
    ]
    assert "did you mean 'pool'?" in reading.rejected[1].detail
    assert reading.rejected[1].where == "line 5"
    assert reading.notes == ["columns colour are not read"]


def test_csv_of_kind_multi_divides_labels_and_of_kind_single_does_not(tmp_path):
    path = write(tmp_path / "labels.csv", "image_uri,labels\n1.jpg,pool| suite\n2.jpg,pool\n")
    assert labels_of(files.read_csv(path, MULTI, SPEAKER)) == {"1.jpg": ("suite", "pool"), "2.jpg": ("pool",)}
    assert reasons(files.read_csv(path, taxonomy(), SPEAKER).rejected) == [("line 2", "unknown_label")]


def test_no_label_is_put_aside_where_a_photo_must_have_one(tmp_path):
    path = write(tmp_path / "labels.csv", "image_uri,labels\n1.jpg,\n")
    assert reasons(files.read_csv(path, taxonomy(other=None), SPEAKER).rejected) == [("line 2", "no_label")]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"image_uri,lables\n", SchemaError, "'labels' is missing; did you mean 'lables'"),
        (b"", SchemaError, "is missing"),
        (b"image_uri,labels\n\xff.jpg,pool\n", InputError, "UTF-8"),
        (b'image_uri,labels\n"1.jpg,pool\n', InputError, "line 2 is no CSV"),
    ],
)
def test_a_file_that_is_no_csv_is_refused_with_the_reason(tmp_path, content, error, message):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(error, match=message):
        files.read_csv(tmp_path / "labels.csv", taxonomy(), SPEAKER)


def annotation(*choices: str, name: str = "rooms", **others) -> dict:
    result = {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": list(choices)}}
    return {"result": [result], "completed_by": {"email": "eve@x.y"}, "created_at": "2026-11-02T00:00:00Z", **others}


def test_label_studio_annotations_are_words_of_their_authors(tmp_path):
    tasks = [
        {"id": 7, "data": {"image": "s3://b/1.jpg"}, "annotations": [annotation("pool")], "predictions": [{}]},
        {"id": 8, "data": {"photo": "/data/local-files/?d=a%20b/2.jpg"}, "annotations": [annotation("La suite")]},
        {"id": 9, "data": {"image": "3.jpg"}, "annotations": [{"result": [], "completed_by": 4}]},
        {"id": 10, "data": {"image": "4.jpg"}, "annotations": [annotation("pool", was_cancelled=True)]},
        {"id": 11, "data": {"image": "5.jpg"}, "annotations": [annotation("sky")]},
        {"id": 12, "data": {"image": "6.jpg"}, "annotations": []},
        {"image": "7.jpg", "rooms": "pool", "annotator": 3, "id": 13},  # JSON-MIN
    ]
    path = write(tmp_path / "export.json", json.dumps(tasks))
    reading = label_studio.read_label_studio(path, taxonomy(), SPEAKER)
    assert [(each.image_uri, each.labels, each.by) for each in reading.words] == [
        ("s3://b/1.jpg", ("pool",), "eve@x.y"),
        ("a b/2.jpg", ("suite",), "eve@x.y"),
        ("3.jpg", (), "label studio 4"),
        ("7.jpg", ("pool",), "label studio 3"),
    ]
    assert reasons(reading.rejected) == [("task 10", "skipped"), ("task 11", "unknown_label")]
    assert reading.notes == ["1 prediction left out: only annotations are labels"]


def test_label_studio_choices_of_another_question_are_not_read(tmp_path):
    both = annotation("pool")
    both["result"] += annotation("sunny", name="weather")["result"]
    path = write(tmp_path / "export.json", json.dumps([{"data": {"image": "1.jpg"}, "annotations": [both]}]))
    assert labels_of(label_studio.read_label_studio(path, taxonomy(), SPEAKER)) == {"1.jpg": ("pool",)}


@pytest.mark.parametrize("content", ["{}", "[1]", "[" * 100_000, "no"])
def test_a_file_that_is_no_list_of_tasks_is_refused(tmp_path, content):
    with pytest.raises(InputError, match="Label Studio"):
        label_studio.read_label_studio(write(tmp_path / "export.json", content), taxonomy(), SPEAKER)


@given(st.lists(st.lists(st.sampled_from(MULTI.ids), unique=True), max_size=4), st.sampled_from(["csv", "json"]))
def test_what_is_written_is_read_again(tmp_path_factory, said, kind):
    path = tmp_path_factory.mktemp("labels") / f"labels.{kind}"
    rows = [word(str(number), *sorted(labels, key=MULTI.ids.index)) for number, labels in enumerate(said)]
    if kind == "csv":
        files.write_csv(rows, path)
        reading = files.read_csv(path, MULTI, replace(SPEAKER, by="other"))
    else:
        path.write_text(json.dumps(label_studio.label_studio_tasks(rows, MULTI)))
        reading = label_studio.read_label_studio(path, MULTI, replace(SPEAKER, by="other"))
    found = [(each.image_uri, list(each.labels), each.source, each.by, each.at) for each in reading.words]
    if kind == "json":  # a path relative to the disk's root where the file is absent
        found = [(f"/{uri}", *others) for uri, *others in found]
    assert found == [(row["image_uri"], row["labels"], "person", "ann", NOON) for row in rows]


def test_label_studio_tasks_have_predictions_and_photos_to_be_labelled():
    tasks = label_studio.label_studio_tasks([word("a") | {"labels": None}], taxonomy(), {"a": (["pool"], 0.75)}, "v1")
    assert "annotations" not in tasks[0]
    assert tasks[0]["predictions"][0]["score"] == 0.75
    assert tasks[0]["predictions"][0]["model_version"] == "v1"
    assert tasks[0]["predictions"][0]["result"][0]["value"] == {"choices": ["pool"]}
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=p/a.jpg"


def test_label_studio_shows_names_and_says_ids():
    config = label_studio.label_studio_config(taxonomy())
    assert '<Choice value="suite with a sea view" alias="suite_sea"/>' in config
    assert 'choice="single"' in config
    assert 'choice="multiple"' in label_studio.label_studio_config(MULTI)


def test_predictions_are_labels_with_their_probability():
    single = Head("single", ["a", "b"], [np.eye(3, dtype=np.float32)], [np.zeros(3, np.float32)])
    multi = Head("multi", ["a", "b"], [np.eye(3, 2, dtype=np.float32)], [np.full(2, -0.5, np.float32)])
    embeddings = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
    names = np.array(["x", "none"])
    assert {name: said for name, (said, _) in label_studio.predictions_of(single, names, embeddings).items()} == {
        "x": ["b"],
        "none": [],
    }
    found = label_studio.predictions_of(multi, names, embeddings)
    assert found["x"][0] == ["b"]
    assert found["x"][1] == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert found["none"][0] == []


def test_a_label_with_the_separator_or_a_slash_is_refused_rather_than_written_wrong(tmp_path):
    with pytest.raises(ConfigurationError, match="separator"):
        files.write_csv([word("a", "x|y")], tmp_path / "labels.csv")
    with pytest.raises(ConfigurationError, match="cannot name a folder"):
        files.write_folders([word("a", "x/../y")], tmp_path / "labels", lambda uri: b"")


def test_folders_are_written_by_label_and_missing_photos_are_told(tmp_path):
    def read(uri: str) -> bytes:
        if uri == "/p/c.jpg":
            raise PhotoError("missing", uri)
        return uri.encode()

    problems = files.write_folders([word("a", "pool", "suite"), word("b"), word("c", "pool")], tmp_path, read)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.jpg"))
    assert found == ["none_of_these/b.jpg", "pool/a.jpg", "suite/a.jpg"]
    assert problems == ["missing: /p/c.jpg"]


class Saying:
    """Says words about photos whose content is that of `contents`, by URI."""

    def __init__(self, folder, rooms, **contents: str):
        self.store, self.rooms, self.contents = LabelStore(folder, "rooms"), rooms, contents

    def say(self, *words: label_words.Word) -> label_words.Said:
        seen = [{"image_uri": uri, "image_hash": content, "reason": None} for uri, content in self.contents.items()]
        seen += [{"image_uri": "bad", "image_hash": None, "reason": "missing", "detail": "gone"}]
        return label_words.say(label_words.Reading(list(words)), seen, self.rooms, self.store)

    def current(self) -> dict[str, list[str]]:
        return {row["image_hash"]: row["labels"] for row in self.store.current().to_pylist()}


def said(uri: str, *labels: str, **others) -> label_words.Word:
    return label_words.Word(uri, labels, "person", others.pop("by", "ann"), others.pop("at", NOON), "line 2", **others)


def test_two_labels_for_the_same_content_are_put_aside_of_kind_single_and_joined_of_kind_multi(tmp_path):
    single = Saying(tmp_path / "single", taxonomy(), x="1", copy="1", y="2")
    found = single.say(said("x", "pool"), said("copy", "suite"), said("y", "pool"), said("bad", "pool"))
    assert sorted(each.reason for each in found.rejected) == ["missing", "two_labels", "two_labels"]
    assert "'pool' (x) and 'suite' (copy)" in found.rejected[1].detail
    assert single.current() == {"2": ["pool"]}
    multi = Saying(tmp_path / "multi", MULTI, x="1", copy="1")
    multi.say(said("x", "pool"), said("copy", "suite"))
    assert multi.current() == {"1": ["suite", "pool"]}


def test_the_same_label_for_two_copies_is_said_once(tmp_path):
    shop = Saying(tmp_path, taxonomy(), x="1", copy="1")
    assert shop.say(said("x", "pool"), said("copy", "pool")).n_added == 1


def test_what_was_said_before_is_not_said_again_unless_it_was_taken_back(tmp_path):
    shop = Saying(tmp_path, taxonomy(), x="1")
    shop.say(said("x", "pool"))
    shop.say(said("x", "suite", by="bob"))  # a correction
    again = shop.say(said("x", "pool", at=NOON + timedelta(1)))
    assert (again.n_added, again.n_known) == (0, 1)
    assert shop.current() == {"1": ["suite"]}
    shop.store.undo_last("bob", NOON)
    shop.store.undo_last("bob", NOON)
    assert shop.say(said("x", "pool")).n_added == 1


def test_people_are_heard_in_the_order_of_time_and_an_older_word_does_not_take_back_a_later_one(tmp_path):
    shop = Saying(tmp_path, taxonomy(), x="1")
    shop.say(
        said("x", "suite", by="bob", at=NOON - timedelta(1), is_dated=True),
        said("x", "pool", at=NOON - timedelta(2), is_dated=True),
    )
    assert shop.current() == {"1": ["suite"]}
    found = shop.say(said("x", "pool", by="eve", at=NOON - timedelta(3), is_dated=True))
    assert [each.reason for each in found.rejected] == ["older_word"]
    assert shop.current() == {"1": ["suite"]}


def test_rows_put_aside_are_csv_that_can_be_corrected_and_imported(tmp_path):
    source = write(tmp_path / "labels.csv", "image_uri,labels\n1.jpg,poool\n")
    file = files.write_rejected(files.read_csv(source, taxonomy(), SPEAKER).rejected, tmp_path, "rooms", NOON)
    row = next(csv.DictReader(file.read_text().splitlines()))
    assert (row["reason"], row["where"], row["taxonomy"]) == ("unknown_label", "line 2", "rooms")
    file.write_text(file.read_text().replace("poool,", "pool,"))
    assert labels_of(files.read_csv(file, taxonomy(), SPEAKER)) == {"1.jpg": ("pool",)}
