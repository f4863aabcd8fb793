import csv
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ConfigurationError, InputError, SchemaError
from recsys.images.lab import label_files as files
from recsys.images.tagging.decoding import PhotoError
from tests.helpers.label_readings import MULTI, SPEAKER, labels_of, reasons, write
from tests.helpers.labelled_photos import NOON, taxonomy, word

SAID = st.lists(st.lists(st.sampled_from(MULTI.ids), unique=True), max_size=4)


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


@given(SAID)
def test_what_is_written_is_read_again(tmp_path_factory, said):
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    rows = [word(str(number), *sorted(labels, key=MULTI.ids.index)) for number, labels in enumerate(said)]
    files.write_csv(rows, path)
    reading = files.read_csv(path, MULTI, replace(SPEAKER, by="other"))
    found = [(each.image_uri, list(each.labels), each.source, each.by, each.at) for each in reading.words]
    assert found == [(row["image_uri"], row["labels"], "person", "ann", NOON) for row in rows]


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


def test_rows_put_aside_are_csv_that_can_be_corrected_and_imported(tmp_path):
    source = write(tmp_path / "labels.csv", "image_uri,labels\n1.jpg,poool\n")
    file = files.write_rejected(files.read_csv(source, taxonomy(), SPEAKER).rejected, tmp_path, "rooms", NOON)
    row = next(csv.DictReader(file.read_text().splitlines()))
    assert (row["reason"], row["where"], row["taxonomy"]) == ("unknown_label", "line 2", "rooms")
    file.write_text(file.read_text().replace("poool,", "pool,"))
    assert labels_of(files.read_csv(file, taxonomy(), SPEAKER)) == {"1.jpg": ("pool",)}
