import csv
import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import ConfigurationError, EmptyInputError
from recsys.images.lab.label_files import read_csv
from recsys.images.lab.label_queue import Queue, label_queue, write_queue
from recsys.images.lab.label_studio import read_label_studio
from recsys.images.lab.label_words import Speaker
from tests.helpers.labelled_photos import NOON, photo_shop, taxonomy, word

SPEAKER = Speaker("ann", "person", NOON)


def on_a_circle(*degrees: int) -> dict[str, list[float]]:
    radians = np.radians(degrees)
    return {
        f"p{each:03}": [float(np.cos(angle)), float(np.sin(angle))]
        for each, angle in zip(degrees, radians, strict=True)
    }


@pytest.fixture
def shop(tmp_path):
    shop = photo_shop(tmp_path)
    shop.see(on_a_circle(*range(0, 360, 20)))
    return shop


def test_queue_of_a_shop_without_labels_has_no_neighbours_and_no_advice(shop):
    queue = label_queue(shop.photos, 4)
    assert [row["rank"] for row in queue.rows] == [1, 2, 3, 4]
    assert all(row["nearest"] == [] for row in queue.rows)
    assert (queue.n_open, queue.n_labelled, queue.changed) == (18, 0, [])
    assert "0 labels: too few" in queue.advice


def test_queue_holds_photos_without_a_label_beside_their_nearest_labelled_ones_outside_the_test_part(tmp_path):
    shop = photo_shop(tmp_path)
    shop.see({f"p{number:02}": row for number, row in enumerate(np.eye(40) + 0.1)})
    shop.say(*(word(f"p{n:02}", ("pool", "suite")[n % 2], at=NOON + timedelta(hours=n)) for n in range(30)))
    dataset = shop.photos.dataset()
    learnt = set(dataset.image_uris[dataset.parts != "test"].tolist())
    assert 0 < len(learnt) < 30
    queue = label_queue(shop.photos, 2)
    assert all(row["image_hash"] >= "p30" for row in queue.rows)
    shown = [each for row in queue.rows for each in row["nearest"]]
    assert len(shown) == 6
    assert {each["image_uri"] for each in shown} <= learnt
    assert all(each["labels"] in (["pool"], ["suite"]) for each in shown)
    assert len(queue.changed) == 3


def test_queue_needs_a_photo_without_a_label(shop):
    shop.say(*(word(each, "pool") for each in on_a_circle(*range(0, 360, 20))))
    with pytest.raises(EmptyInputError, match=r"18 photos of the shop were seen .* and none is without a label"):
        label_queue(shop.photos, 2)


def test_csv_is_imported_after_its_labels_are_filled_in_and_says_nothing_before(shop, tmp_path):
    file = tmp_path / "next.csv"
    rows = label_queue(shop.photos, 3).rows
    write_queue(rows, taxonomy(), file)
    untouched = read_csv(file, taxonomy(), SPEAKER)
    assert untouched.words == []
    assert [each.reason for each in untouched.rejected] == ["unknown_label"] * 3
    filled = file.read_text().replace(",?,", ",pool,")
    Path(file).write_text(filled)
    words = read_csv(file, taxonomy(), SPEAKER).words
    assert [(each.image_uri, each.labels) for each in words] == [(row["image_uri"], ("pool",)) for row in rows]
    assert next(csv.DictReader(filled.splitlines()))["score"] == str(rows[0]["score"])


def test_json_is_a_list_of_tasks_for_label_studio_in_the_order_of_the_queue(shop, tmp_path):
    file = tmp_path / "next.json"
    rows = label_queue(shop.photos, 3).rows
    write_queue(rows, taxonomy(), file)
    tasks = json.loads(file.read_text())
    assert [task["data"]["image_hash"] for task in tasks] == [row["image_hash"] for row in rows]
    assert [task["data"]["rank"] for task in tasks] == [1, 2, 3]
    assert read_label_studio(file, taxonomy(), SPEAKER).words == []


def test_a_queue_of_another_suffix_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"ends in '.txt', must end in .csv, or in .json"):
        write_queue([], taxonomy(), tmp_path / "next.txt")


def test_advice_tells_to_stop_when_three_batches_change_next_to_nothing():
    assert "go on" in Queue([], 5, 90, [0.2, 0.02, 0.004]).advice
    assert "labelling can stop" in Queue([], 5, 90, [0.012, 0.009, 0.004]).advice
