"""Exposures and recorded events as JSON lines."""

import hashlib
import json

import pytest

from recsys.logs.records import Assignment, Exposure, RecordedEvent, encode_event, encode_exposure, event_id
from recsys.tables.logs import EXPOSURES, RECORDED_EVENTS

SALE_IDS = ["s-beach", "s-city", "s-ski", "s-zoo"]
EXPOSURE = Exposure(
    exposed_at=1_772_323_200_000_001,
    request_id="r7",
    user_id="ann",
    surface="home",
    policy="meta",
    model_version="3",
    snapshot="20260301T000000Z-1a2b3c4d",
    fallback_level="NONE",
    n=10,
    shown=[(3, 0.75, 1, 0), (0, 0.5, 0, 2), (2, None, 4, 0)],
    sale_ids=SALE_IDS,
)
ASSIGNMENT = Assignment("image-themes", 2, "themes", 4711, "assigned", "ab12")


def test_id_is_the_start_of_the_digest_of_experiment_phase_unit_and_request():
    expected = hashlib.sha256(b"image-themes|2|ann|r7").hexdigest()[:32]
    assert event_id("image-themes", 2, "ann", "r7") == expected
    assert json.loads(encode_exposure(EXPOSURE._replace(assignment=ASSIGNMENT)))["event_id"] == expected


def test_id_without_experiment_has_empty_parts_for_it():
    assert event_id(None, None, "zoé", "r7") == hashlib.sha256("||zoé|r7".encode()).hexdigest()[:32]
    assert event_id("a", 0, "ann", "r7") == hashlib.sha256(b"a|0|ann|r7").hexdigest()[:32]


def test_indices_become_ids_in_the_order_of_the_page():
    line = json.loads(encode_exposure(EXPOSURE))
    assert line["sale_ids"] == ["s-zoo", "s-beach", "s-ski"]
    assert line["scores"] == [0.75, 0.5, None]
    assert line["exposed_at"] == 1_772_323_200_000_001


@pytest.mark.parametrize("exposure", [EXPOSURE, EXPOSURE._replace(assignment=ASSIGNMENT)])
def test_keys_are_the_columns_of_the_table(exposure):
    assert json.loads(encode_exposure(exposure)).keys() == EXPOSURES.compacted.columns.keys() - {"day"}
    event = RecordedEvent("ann", "s-ski", "visit", 1, 2)
    assert json.loads(encode_event(event)).keys() == RECORDED_EVENTS.compacted.columns.keys() - {"day"}


def test_assignment_is_part_of_the_line_and_null_without_experiment():
    line = json.loads(encode_exposure(EXPOSURE._replace(assignment=ASSIGNMENT, propensities=[0.5, 0.25, 0.25])))
    assert {name: line[name] for name in Assignment._fields} == ASSIGNMENT._asdict()
    assert line["propensities"] == [0.5, 0.25, 0.25]
    assert all(json.loads(encode_exposure(EXPOSURE))[name] is None for name in Assignment._fields)


def test_a_line_feed_in_a_value_does_not_end_the_line():
    line = encode_exposure(EXPOSURE._replace(user_id="a\nb", attributes={"country": "D\r\nE"}))
    assert line.endswith(b"\n")
    assert len(line.splitlines()) == 1
    assert json.loads(line)["user_id"] == "a\nb"


def test_event_id_is_a_digest_of_its_key_unless_the_event_has_one():
    visit = RecordedEvent("ann", "s-ski", "visit", 100, 200)
    ids = [json.loads(encode_event(event))["event_id"] for event in (visit, visit._replace(recorded_at=300))]
    assert ids == [hashlib.sha256(b"ann|s-ski|visit|100").hexdigest()[:32]] * 2
    assert json.loads(encode_event(visit._replace(event_id="e1")))["event_id"] == "e1"
