from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.images.lab.answers import Answers, Rejected, label_rows, read_answers, write_rejected
from recsys.images.lab.label_store import LABELS
from recsys.images.lab.taxonomy import LabelSettings, Taxonomy

ROOMS = Taxonomy(
    schema_version=1,
    name="rooms",
    kind="multi",
    labels=(LabelSettings(id="pool", names={"en": "swimming pool"}), LabelSettings(id="suite")),
)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def read(folder: Path, text: str, min_confidence: float = 0.0) -> Answers:
    file = folder / "answers.csv"
    file.write_text(text, "utf-8")
    return read_answers(file, ROOMS, "/photos/{}".format, min_confidence)


def test_several_rows_of_a_photo_and_lists_say_the_same(tmp_path):
    rows = read(tmp_path, "image_uri,label\na.jpg,pool\nb.jpg,\na.jpg,Suite\n")
    lists = read(tmp_path, "image_uri,labels\na.jpg,pool|suite\nb.jpg,\n")
    as_json = read(tmp_path, 'image_uri,labels\na.jpg,"[""Swimming Pool"", ""suite""]"\nb.jpg,[]\n')
    expected = {"/photos/a.jpg": {"pool", "suite"}, "/photos/b.jpg": set()}
    assert rows.labels == lists.labels == as_json.labels == expected
    assert rows.rejected == lists.rejected == as_json.rejected == []


def test_a_label_below_the_confidence_leaves_the_photo_answered_for(tmp_path):
    text = "image_uri,label,confidence\na.jpg,pool,.019\na.jpg,suite,.02\n"
    assert read(tmp_path, text, 0.02).labels == {"/photos/a.jpg": {"suite"}}


def test_what_cannot_be_used_is_left_aside_with_line_and_reason(tmp_path):
    rows = "a.jpg,poool,1", ",pool,1", "b.jpg,pool,97", "b.jpg,pool,nan", "c.jpg,pool,sure", "d.jpg,pool"
    found = read(tmp_path, "\n".join(["image_uri,label,confidence", *rows]))
    assert found.labels == {"/photos/a.jpg": set(), "/photos/d.jpg": {"pool"}}
    assert [(each.line, each.image_uri, each.reason) for each in found.rejected] == [
        (2, "a.jpg", "unknown label: must be one of the taxonomy; did you mean 'pool'?"),
        (3, "", "image_uri is empty"),
        (4, "b.jpg", "confidence == '97', must be a number in [0, 1]"),
        (5, "b.jpg", "confidence == 'nan', must be a number in [0, 1]"),
        (6, "c.jpg", "confidence == 'sure', must be a number in [0, 1]"),
    ]


def test_a_file_without_the_columns_or_of_another_encoding_is_an_error(tmp_path):
    with pytest.raises(InputError, match="must name image_uri and label or labels, found \\['photo'\\]"):
        read(tmp_path, "photo\na.jpg\n")
    (tmp_path / "answers.csv").write_bytes(b"image_uri,label\n\xff,pool\n")
    with pytest.raises(InputError, match="no CSV in UTF-8"):
        read_answers(tmp_path / "answers.csv", ROOMS)


def row(image_hash: str, labels: list[str], source: str, by: str) -> dict:
    told = {"image_hash": image_hash, "image_uri": f"{image_hash}.jpg", "taxonomy": "rooms", "labels": labels}
    return told | {"source": source, "by": by, "at": NOW}


def test_answers_are_stored_but_on_photos_of_a_person_and_only_once():
    labels = {f"{each}.jpg": frozenset({"pool"}) for each in "abcde"} | {"a2.jpg": frozenset({"suite"})}
    hashes = {f"{each}.jpg": each for each in "abcd"} | {"a2.jpg": "a"}  # a2 is a copy of a; e could not be read
    current = pa.Table.from_pylist(
        [
            row("b", ["suite"], "person", "ann"),
            row("c", ["pool"], "api", "service"),
            row("d", ["suite"], "api", "service"),
        ],
        LABELS,
    )
    rows = label_rows(Answers(labels), hashes, ROOMS, current, "service", NOW)
    assert rows.to_pylist() == [row("a", ["pool", "suite"], "api", "service"), row("d", ["pool"], "api", "service")]


def test_rows_left_aside_are_written_as_a_table(tmp_path):
    write_rejected(
        [Rejected(2, "a, b.jpg", "poool", "unknown label"), Rejected(None, "c.jpg", "", "missing")], tmp_path / "r.csv"
    )
    assert (tmp_path / "r.csv").read_text().splitlines() == [
        "line,image_uri,label,reason",
        '2,"a, b.jpg",poool,unknown label',
        ",c.jpg,,missing",
    ]


@pytest.mark.parametrize(
    ("rows", "why"), [("", "0 of 0 rows"), ("\n,pool", "0 of 1 row .* line 2: image_uri is empty")]
)
def test_a_file_without_a_row_that_can_be_used_is_refused(tmp_path, rows, why):
    with pytest.raises(InputError, match=why):
        read(tmp_path, f"image_uri,label{rows}\n")
