import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import InputError
from recsys.images.lab import label_studio
from recsys.images.lab.head import Head
from tests.helpers.label_readings import MULTI, SPEAKER, labels_of, reasons, write
from tests.helpers.labelled_photos import NOON, taxonomy, word

SAID = st.lists(st.lists(st.sampled_from(MULTI.ids), unique=True), max_size=4)


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


@given(SAID)
def test_what_is_written_is_read_again(tmp_path_factory, said):
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    rows = [word(str(number), *sorted(labels, key=MULTI.ids.index)) for number, labels in enumerate(said)]
    path.write_text(json.dumps(label_studio.label_studio_tasks(rows, MULTI)))
    reading = label_studio.read_label_studio(path, MULTI, replace(SPEAKER, by="other"))
    found = [(each.image_uri, list(each.labels), each.source, each.by, each.at) for each in reading.words]
    # an absent file is taken as relative to the disk's root
    assert found == [(row["image_uri"].lstrip("/"), row["labels"], "person", "ann", NOON) for row in rows]


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
