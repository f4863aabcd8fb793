import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import InputError, SchemaError, SnapshotError
from recsys.snapshot.format import LeftOut, Snapshot, read_manifest
from recsys.snapshot.store import listing, publish
from recsys.snapshot.users import Ranking
from recsys.snapshot.writer import write_snapshot
from tests.helpers.snapshots import (
    ANN,
    AS_OF,
    BOB,
    CONTENTS,
    EVE,
    NAME,
    REASONS,
    SALES,
    SHARED,
    batch,
    change,
    with_covers,
    write,
)


def test_each_user_has_the_right_rankings_from_whichever_batch(tmp_path):
    snapshot = Snapshot.open(write(tmp_path))
    for user_id, sales, scores, reasons in (ANN, BOB, EVE):
        for policy, step in (("meta", 1), ("collaborative", -1)):
            ranking = snapshot.ranking(policy, user_id)
            assert ranking.sales.tolist() == sales[::step]
            assert ranking.scores.tolist() == scores[::step]
            assert ranking.reasons.tolist() == reasons[::step]


def test_photos_are_stored_for_each_policy_and_are_covers_where_the_column_is_missing(tmp_path):
    rankings = with_covers(batch(ANN, BOB), meta=[[0, 0], [1, 0]])  # bob's first sale is 'a', which has two photos
    snapshot = Snapshot.open(write(tmp_path, rankings, batch(EVE)))
    assert snapshot.ranking("meta", "bob").covers.tolist() == [1, 0]
    for policy, user_id in (("meta", "ann"), ("collaborative", "bob"), ("meta", "eve")):
        assert snapshot.ranking(policy, user_id).covers.tolist() == [0, 0]


def test_shared_ranking_has_its_photos_or_covers_without_them(tmp_path):
    covers = np.array([0, 0, 1, 0, 0])  # the third sale is 'a'
    shared = {"popularity": Ranking(*SHARED, covers), "recent": Ranking(*SHARED), "newest": SHARED}
    snapshot = Snapshot.open(write(tmp_path, shared_rankings=shared))
    assert snapshot.ranking("popularity", "ann").covers.tolist() == [0, 0, 1, 0, 0]
    for policy in ("recent", "newest"):
        assert snapshot.ranking(policy, "ann").covers.tolist() == [0] * 5


def test_segments_come_back_with_their_sales_scores_reasons_and_photos(tmp_path):
    segments = {
        "country": {
            "FR": Ranking(*SHARED, np.array([0, 0, 1, 0, 0])),
            "é=\"'\\": (np.array([1]), np.array([0.1], np.float32), np.array([2])),  # may be short of some sales
        },
        "channel": {"": SHARED},
    }
    found = Snapshot.open(write(tmp_path, segments=segments)).segments
    assert {attribute: list(rankings) for attribute, rankings in found.items()} == {
        "country": ["FR", "é=\"'\\"],
        "channel": [""],
    }
    for attribute, rankings in segments.items():
        for value, ranking in rankings.items():
            for values, expected in zip(found[attribute][value], Ranking(*ranking), strict=True):
                np.testing.assert_array_equal(values, expected)
    assert found["country"]["FR"].scores.dtype == np.float32


def test_snapshot_may_have_no_segments(tmp_path):
    assert Snapshot.open(write(tmp_path)).segments == {}


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        (Ranking(np.array([7, 2]), np.ones(2), np.zeros(2)), "segment country=FR_sales holds 7, must be in 0..4"),
        (Ranking(np.array([2, 2]), np.ones(2), np.zeros(2)), "segment country=FR_sales holds 2 twice"),
        (Ranking(np.array([2]), np.array([np.nan]), np.zeros(1)), "segment country=FR_scores holds nan, must be a fin"),
        (Ranking(np.array([2]), np.ones(1), np.array([3])), "segment country=FR_reasons holds 3, must be in 0..2"),
        (Ranking(np.array([1]), np.ones(1), np.zeros(1), np.array([1])), "segment country=FR_covers holds 1 for 'b'"),
        (Ranking(np.array([1, 0]), np.ones(1), np.zeros(2)), "segment country=FR has 2 sales, 1 scores, 2 reasons"),
    ],
)
def test_segment_that_breaks_a_rule_is_refused_by_its_attribute_and_value(tmp_path, ranking, message):
    segments = {"country": {"IT": SHARED, "FR": ranking}, "channel": {"app": SHARED}}
    with pytest.raises(InputError, match=message):
        write(tmp_path, segments=segments)


def test_segments_whose_names_read_alike_are_both_checked(tmp_path):
    bad = Ranking(np.array([7]), np.ones(1), np.zeros(1))
    for segments in ({"a=b": {"c": bad}, "a": {"b=c": SHARED}}, {"a": {"b=c": SHARED}, "a=b": {"c": bad}}):
        with pytest.raises(InputError, match="segment a=b=c_sales holds 7"):
            write(tmp_path, segments=segments)


@st.composite
def photo_shops(draw):
    """Photos of up to 6 sales, and rankings of up to 5 users with the photo to show of each sale."""
    n_images = draw(st.lists(st.sampled_from([0, 1, 2, 5, 256]), min_size=1, max_size=6))
    k = draw(st.integers(1, len(n_images)))
    rankings = []
    for _ in range(draw(st.integers(1, 5))):
        sales = draw(st.permutations(range(len(n_images))))[:k]
        rankings.append((sales, [draw(st.integers(0, max(n_images[sale] - 1, 0))) for sale in sales]))
    return n_images, rankings


@settings(max_examples=60, deadline=None)
@given(case=photo_shops())
def test_any_photos_come_back_with_the_sales_that_they_belong_to(case):
    n_images, rankings = case
    sales = [
        replace(SALES[0], sale_id=f"s{sale}", images=tuple(f"s{sale}/{photo}.jpg" for photo in range(images)))
        for sale, images in enumerate(n_images)
    ]
    rows = [(f"u{user}", order, [0.5] * len(order), [1] * len(order)) for user, (order, _) in enumerate(rankings)]
    users = with_covers(batch(*rows), meta=[covers for _, covers in rankings])
    nothing = Ranking(np.array([], np.int32), np.array([], np.float32), np.array([], np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        snapshot = Snapshot.open(write(Path(folder), users, sales=sales, shared_rankings={"popularity": nothing}))
        assert list(snapshot.sales) == sales
        for user, (order, covers) in enumerate(rankings):
            ranking = snapshot.ranking("meta", f"u{user}")
            assert (ranking.sales.tolist(), ranking.covers.tolist()) == (order, covers)
            assert (ranking.scores.tolist(), ranking.reasons.tolist()) == ([0.5] * len(order), [1] * len(order))


def test_user_without_row_has_only_the_shared_ranking(tmp_path):
    snapshot = Snapshot.open(write(tmp_path))
    assert snapshot.ranking("meta", "nobody") is None
    assert snapshot.ranking("popularity", "nobody").sales.tolist() == [4, 2, 0, 1, 3]
    assert snapshot.ranking("popularity", "nobody").scores.tolist() == [9, 7, 5, 3, 1]


def test_unknown_policy_is_an_error_that_lists_the_known_ones(tmp_path):
    with pytest.raises(SnapshotError, match=r"policy == 'als', must be one of .*collaborative, meta, popularity"):
        Snapshot.open(write(tmp_path)).ranking("als", "ann")


def test_sales_and_manifest_come_back_as_written(tmp_path):
    snapshot = Snapshot.open(write(tmp_path))
    assert list(snapshot.sales) == SALES
    assert snapshot.opens_at[1] - snapshot.opens_at[0] == 1  # a microsecond is kept
    assert snapshot.closes_at[2] - snapshot.opens_at[2] == (3 * 24 + 1) * 3_600_000_000
    assert (snapshot.as_of, snapshot.horizon_end) == (CONTENTS.as_of, CONTENTS.horizon_end)
    assert (snapshot.policies, snapshot.reasons, snapshot.versions) == (CONTENTS.policies, REASONS, CONTENTS.versions)
    assert (snapshot.k, snapshot.manifest.n_users, snapshot.manifest.n_sales) == (2, 3, 5)


def test_ranking_except_its_scores_consists_of_read_only_views(tmp_path):
    ranking = Snapshot.open(write(tmp_path)).ranking("meta", "ann")
    for values in (ranking.sales, ranking.reasons, ranking.covers):
        assert not values.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1


def test_snapshot_without_users_answers_with_the_shared_ranking(tmp_path):
    snapshot = Snapshot.open(tmp_path / write_snapshot(tmp_path, CONTENTS, []))
    assert snapshot.ranking("meta", "ann") is None
    assert len(snapshot.ranking("popularity", "ann").sales) == 5


def test_rankings_without_sales_are_empty_and_not_absent(tmp_path):
    nothing = (np.array([], np.int32), np.array([], np.float32), np.array([], np.uint8))
    snapshot = Snapshot.open(write(tmp_path, batch(("ann", [], [], [])), shared_rankings={"popularity": nothing}))
    assert len(snapshot.ranking("meta", "ann").sales) == 0
    assert len(snapshot.ranking("popularity", "ann").sales) == 0
    assert snapshot.ranking("meta", "bob") is None


def test_lists_of_bytes_from_spark_and_large_lists_are_taken(tmp_path):
    rankings = change("meta_reasons", [[0, 1], [2, 2]], kind=pa.large_list(pa.int8()))
    snapshot = Snapshot.open(write(tmp_path, rankings))
    assert snapshot.ranking("meta", "bob").reasons.tolist() == [2, 2]


def test_slices_of_a_batch_keep_their_own_rows(tmp_path):
    snapshot = Snapshot.open(write(tmp_path, batch(ANN, BOB, EVE).slice(1, 1)))
    assert snapshot.ranking("meta", "bob").sales.tolist() == [0, 4]
    assert snapshot.ranking("meta", "ann") is None


def test_user_with_two_rows_is_refused_in_one_batch_and_in_two(tmp_path):
    for batches in ([batch(ANN, BOB, ANN)], [batch(ANN, BOB), batch(ANN)]):
        with pytest.raises(InputError, match="user_id of row 2 == that of row 0, each user must have one row"):
            write(tmp_path, *batches)
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("meta_sales", [[3, 1], [0, 5]], "meta_sales holds 5, must be in 0..4"),
        ("meta_sales", [[3, 1], [-1, 4]], "meta_sales holds -1, must be in 0..4"),
        ("meta_sales", [[3, 1], [4, 4]], "meta_sales holds 4 twice in a row"),
        ("meta_sales", [[3, 1], [4]], "meta_sales has 1 values in a row, must have 2"),
        ("meta_sales", [[3, 1], None], "meta_sales has 1 nulls"),
        ("meta_sales", [[3, 1], [4, None]], "meta_sales has 1 nulls"),
        ("collaborative_reasons", [[0, 1], [3, 0]], "collaborative_reasons holds 3, must be in 0..2"),
        ("meta_scores", [[0.5, 0.25], [float("nan"), 0.0]], "meta_scores holds nan, must be a finite number"),
        ("user_id", ["ann", ""], "user_id == b'' in row 1"),
        ("user_id", ["ann", None], "user_id == None in row 1"),
    ],
)
def test_value_that_breaks_a_rule_is_refused(tmp_path, column, values, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path, change(column, values))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("covers", "message"),
    [
        ([[0, 0], [2, 0]], "meta_covers holds 2 for 'a', must be 0 or a position in its 2 images"),
        ([[0, 0], [-1, 0]], "meta_covers holds -1 for 'a', must be 0 or a position in its 2 images"),
        ([[0, 0], [256, 0]], "meta_covers holds 256 for 'a'"),  # 0 as a byte
        ([[0, 1], [1, 0]], "meta_covers holds 1 for 'b', must be 0 or a position in its 0 images"),
        ([[0, 0], [1]], "meta_covers has 1 values in a row, must have 2"),
        ([[0, 0], None], "meta_covers has 1 nulls"),
    ],
)
def test_photo_that_the_sale_does_not_have_is_refused(tmp_path, covers, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path, with_covers(batch(ANN, BOB), meta=covers))  # sales: d, b and a, e
    assert list(tmp_path.iterdir()) == []


def test_all_problems_of_rankings_are_listed(tmp_path):
    rankings = with_covers(batch(ANN, ("bob", [0, 5], [0.5, float("inf")], [3, 0])), meta=[[0, 0], [7, 9]])
    with pytest.raises(InputError) as error:
        write(tmp_path, rankings)
    for part in ("meta_sales holds 5", "meta_reasons holds 3", "meta_scores holds inf", "meta_covers holds 7 for 'a'"):
        assert part in str(error.value)


def test_all_wrong_columns_are_listed(tmp_path):
    rankings = change("meta_scores", ["high", "low"]).drop_columns(["collaborative_sales"])
    rankings = rankings.append_column("collaborative_covers", pa.array([1, 2]))
    with pytest.raises(SchemaError) as error:
        write(tmp_path, rankings)
    assert "meta_scores is string, must be list<float32>" in str(error.value)
    assert "collaborative_sales is missing" in str(error.value)
    assert "collaborative_covers is int64, must be list<uint8>" in str(error.value)


def test_all_problems_of_the_contents_are_listed(tmp_path):
    with pytest.raises(InputError) as error:
        write(
            tmp_path,
            sales=[
                SALES[1],
                replace(SALES[0], images=("a.jpg",) * 257),
                replace(SALES[2], opens_at=SALES[2].closes_at, price=float("nan")),
                SALES[1],
            ],
            reasons=["own_visits", "/pool"],
            policies=("meta", "Meta!"),
            shared_rankings={
                "recent": Ranking(np.array([7, 2]), np.ones(2), np.zeros(2), np.array([0, 1])),
                "short": Ranking(np.array([0]), np.ones(1), np.zeros(1), np.array([], np.uint8)),
            },
            fingerprint="../x",
            horizon_end=AS_OF,
        )
    for part in (
        "'b' is there 2 times",
        "'c' opens_at",
        "'c' price",
        "'Meta!'",
        "no 'popularity'",
        "recent_sales holds 7",
    ):
        assert part in str(error.value)
    for part in ("'a' has 257 images, must have at most 256", "recent_covers holds 1 for 'c'", "1 reasons, 0 covers"):
        assert part in str(error.value)
    assert "reason == '/pool', must start with" in str(error.value)
    assert "fingerprint == '../x'" in str(error.value)
    assert "must be before horizon_end" in str(error.value)


def test_snapshot_says_what_it_was_published_without(tmp_path):
    line = LeftOut(what="policy als", why="0 purchases", until="there is 1", degrades_pages=False)
    snapshot = Snapshot.open(write(tmp_path, missing_policies=("als",), left_out=[line]))
    assert snapshot.manifest.left_out == (line,)
    assert str(line) == "policy als: 0 purchases; until there is 1"
    assert snapshot.answered_policies == ("als", "collaborative", "meta", "popularity")
    assert "als" not in snapshot.all_policies


def test_model_data_is_included(tmp_path):
    (tmp_path / "themes").mkdir()
    (tmp_path / "themes" / "weights.json").write_text("[1, 2]")
    (tmp_path / "model.json").write_text("{}")
    files = {"model.json": tmp_path / "model.json", "themes": tmp_path / "themes"}
    snapshot = Snapshot.open(write(tmp_path / "snapshots", files=files))
    assert snapshot.file("model.json").read_text() == "{}"
    assert (snapshot.file("themes") / "weights.json").read_text() == "[1, 2]"
    assert "files/themes/weights.json" in snapshot.manifest.files
    with pytest.raises(SnapshotError, match=r"other.json is missing"):
        snapshot.file("other.json")


def test_folders_within_a_folder_are_included(tmp_path):
    (tmp_path / "ranker" / "collaborative").mkdir(parents=True)
    (tmp_path / "ranker" / "collaborative" / "dense.npy").write_bytes(b"123")
    snapshot = Snapshot.open(write(tmp_path / "snapshots", files={"ranker": tmp_path / "ranker"}))
    assert (snapshot.file("ranker") / "collaborative" / "dense.npy").read_bytes() == b"123"
    assert snapshot.manifest.files["files/ranker/collaborative/dense.npy"].size == 3


def test_missing_file_to_include_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone.json is missing, the snapshot must carry it as 'model.json'"):
        write(tmp_path, files={"model.json": tmp_path / "gone.json"})


def test_name_is_as_of_and_fingerprint(tmp_path):
    assert write(tmp_path).name == NAME


def test_writing_the_same_again_changes_nothing(tmp_path):
    path = write(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    assert write(tmp_path) == path
    assert {file: file.stat().st_mtime_ns for file in path.iterdir()} == before
    assert [listed.name for listed in listing(tmp_path)] == [NAME]


def test_other_content_under_the_same_name_gets_another_name(tmp_path):
    first, second, third = write(tmp_path), write(tmp_path, batch(ANN)), write(tmp_path, batch(BOB))
    assert [path.name for path in (first, second, third)] == [NAME, f"{NAME}-2", f"{NAME}-3"]
    assert write(tmp_path, batch(ANN)) == second
    assert Snapshot.open(first).manifest.n_users == 3


def test_damaged_snapshot_does_not_count_as_the_same(tmp_path):
    flip_bit(write(tmp_path) / "ranking_meta.bin")
    assert Snapshot.open(write(tmp_path)).name == f"{NAME}-2"


def flip_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def file_names() -> list[str]:
    rankings = [f"ranking_{policy}.bin" for policy in CONTENTS.policies]
    users = ["user_hashes.bin", "user_rows.bin", "user_id_offsets.bin", "user_ids.bin"]
    histories = ["history_offsets.bin", "history_events.bin"]
    return ["sales.json", "shared_rankings.json", *rankings, *users, *histories]


def test_the_tests_below_damage_every_file(tmp_path):
    assert {file.name for file in write(tmp_path).iterdir()} == {*file_names(), "manifest.json"}


@pytest.mark.parametrize("name", [*file_names(), "manifest.json"])
def test_flipped_bit_is_refused_and_the_file_named(tmp_path, name):
    path = write(tmp_path)
    flip_bit(path / name)
    with pytest.raises(SnapshotError, match=f"{name}.*must be .*'recsys nightly'"):
        Snapshot.open(path)


@pytest.mark.parametrize("name", file_names())
def test_truncated_longer_and_missing_files_are_refused_even_without_checksums(tmp_path, name):
    file = write(tmp_path) / name
    content = file.read_bytes()
    for damaged in (content[:-1], b"", content + b"x"):
        file.write_bytes(damaged)
        with pytest.raises(SnapshotError, match=f"{name} has {len(damaged)} bytes, must have {len(content)}"):
            Snapshot.open(file.parent, verify=False)
    file.unlink()
    with pytest.raises(SnapshotError, match=f"{name} cannot be read"):
        Snapshot.open(file.parent, verify=False)


def test_snapshot_that_is_pruned_while_it_is_opened_is_a_snapshot_error(tmp_path, monkeypatch):
    path = write(tmp_path)
    manifest = read_manifest(path)
    (path / "user_rows.bin").unlink()
    monkeypatch.setattr("recsys.snapshot.format.read_manifest", lambda _, **__: manifest)
    with pytest.raises(SnapshotError, match=r"user_rows.bin.*choose another snapshot"):
        Snapshot.open(path, verify=False)


def test_checksums_are_compared_only_on_request(tmp_path):
    path = write(tmp_path)
    flip_bit(path / "ranking_meta.bin")
    assert Snapshot.open(path, verify=False).name == NAME


def test_missing_manifest_and_missing_snapshot_are_named(tmp_path):
    path = write(tmp_path)
    (path / "manifest.json").unlink()
    for absent in (path, tmp_path / "nowhere"):
        with pytest.raises(SnapshotError, match=r"manifest.json is missing, a snapshot must have one"):
            Snapshot.open(absent)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\xff"])
def test_manifest_other_than_a_json_object_is_refused(tmp_path, text):
    path = write(tmp_path)
    (path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SnapshotError, match=r"manifest.json must be a JSON object"):
        Snapshot.open(path)


def test_other_format_version_is_refused_by_its_number(tmp_path):
    path = write(tmp_path)
    values = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**values, "format": 2}))
    with pytest.raises(SnapshotError, match=r"manifest.json: format == 2, must be 3: write the snapshot again"):
        Snapshot.open(path)


def test_changed_value_in_the_manifest_is_refused(tmp_path):
    path = write(tmp_path)
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"home_ranker": "3"', '"home_ranker": "4"'))
    with pytest.raises(SnapshotError, match=r"manifest.json: sha256 == .* must be that of its content"):
        Snapshot.open(path)


def test_failed_writer_leaves_no_files(tmp_path):
    def batches():
        yield batch(ANN)
        raise OSError("the cluster is gone")

    with pytest.raises(OSError, match="the cluster is gone"):
        write_snapshot(tmp_path, CONTENTS, batches())
    assert list(tmp_path.iterdir()) == []


KILLED = """
    import sys, time
    from pathlib import Path
    from tests.helpers.snapshots import ANN, CONTENTS, batch
    from recsys.snapshot.writer import write_snapshot

    def batches():
        yield batch(ANN)
        print("writing", flush=True)
        time.sleep(60)

    write_snapshot(Path(sys.argv[1]), CONTENTS, batches())
"""


def test_killed_writer_leaves_no_snapshot_and_the_next_one_cleans_up(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"writing\n"
        writer.send_signal(signal.SIGKILL)
    assert sorted(path.is_dir() for path in tmp_path.iterdir()) == [False, True]  # with its lock
    assert listing(tmp_path) == []

    path = write(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {".lock", NAME}
    assert Snapshot.open(path).ranking("meta", "eve") is not None


def test_writer_does_not_disturb_another_one(tmp_path):
    def batches():
        yield batch(ANN)
        write(tmp_path, fingerprint="ffffffff")
        publish(tmp_path, "20260301T000000Z-ffffffff", AS_OF)
        yield batch(BOB)

    name = write_snapshot(tmp_path, CONTENTS, batches())
    assert Snapshot.open(tmp_path / name).manifest.n_users == 2
    assert [listed.name for listed in listing(tmp_path)] == ["20260301T000000Z-ffffffff", name]


def test_batches_are_taken_one_by_one(tmp_path):
    at_once = []

    def batches():
        for user in range(3):
            (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
            at_once.append(sum(file.stat().st_size for file in folder.iterdir()))
            yield batch((f"{user:0>100000}", *ANN[1:]))

    write_snapshot(tmp_path, CONTENTS, batches())
    assert at_once[2] - at_once[1] >= 90_000  # the first two batches are not held in memory any more
