import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from recsys.errors import DamagedRecordError, InputError, SchemaError, SnapshotError
from recsys.snapshot.format import Snapshot
from recsys.snapshot.users import (
    MappedUsers,
    Ranking,
    RankingCodec,
    RecordLayout,
    UserPacking,
    pack_history,
    pack_rankings,
    ranking_type,
    unpack_history,
    unpack_ranking,
)
from tests.helpers.snapshots import ANN, BOB, CONTENTS, EVE, HISTORIES, SALES, batch, with_histories, write

YEAR = 365 * 24 * 3600
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
LAYOUT = RecordLayout(CONTENTS.policies, 2, len(CONTENTS.reasons), [max(len(sale.images), 1) for sale in SALES])
"""The layout of the snapshots that `write` writes."""


def rankings_of(scores: np.ndarray, n_sales: int = 1_000) -> Ranking:
    """Return rankings with the given scores; the other arrays differ from cell to cell."""
    cells = np.arange(scores.size).reshape(scores.shape)
    return Ranking(cells % n_sales, scores, (3 * cells % 256).astype(np.uint8), (cells % 7).astype(np.uint8))


# Packing of rankings.


@given(arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=FLOATS))
def test_scores_come_back_within_a_65535th_of_their_range_and_other_arrays_exactly(scores: np.ndarray) -> None:
    rankings = rankings_of(scores)
    for row, record in enumerate(pack_rankings(rankings, 1_000)):
        found = unpack_ranking(record)
        range_ = float(scores[row].max()) - float(scores[row].min())
        error = np.abs(found.scores.astype(np.float64) - scores[row])
        assert error.max() <= range_ / 65_535 * (1 + 1e-9)
        assert error[scores[row].argmin()] == 0
        assert error[scores[row].argmax()] <= range_ * 1e-15  # 0, except for a tiny highest score
        ordered = found.scores[np.argsort(scores[row])]
        assert (ordered[1:] >= ordered[:-1]).all()
        assert found.scores.dtype == np.float32
        for name in ("sales", "reasons", "covers"):
            assert_array_equal(getattr(found, name), getattr(rankings, name)[row])


def test_highest_and_lowest_score_come_back_exactly() -> None:
    scores = -np.sort(-np.random.default_rng(0).normal(-4, 2, (500, 30)).astype(np.float32), axis=1)
    found = np.array([unpack_ranking(record).scores for record in pack_rankings(rankings_of(scores), 1_000)])
    assert_array_equal(found[:, [0, -1]], scores[:, [0, -1]])
    assert (found != scores).any()
    assert_allclose(found, scores, atol=np.ptp(scores, axis=1).max() / 65_535 / 2 * 1.01)


def test_score_is_rounded_to_the_nearest_step() -> None:
    scores = np.array([[65_535, 65_534.4, 3.6, 0.4, 0]], np.float32)
    assert unpack_ranking(pack_rankings(rankings_of(scores), 9)[0]).scores.tolist() == [65_535, 65_534, 4, 0, 0]


@pytest.mark.parametrize("score", [0.0, -3.25, 1e-40, 3e38])
@pytest.mark.parametrize("k", [1, 2, 30])
def test_equal_scores_come_back_exactly(score: float, k: int) -> None:
    scores = np.full((2, k), score, np.float32)
    for record in pack_rankings(rankings_of(scores), 1_000):
        assert_array_equal(unpack_ranking(record).scores, scores[0])


def test_ranking_without_sales_is_packed_too() -> None:
    records = pack_rankings(rankings_of(np.empty((3, 0), np.float32)), 1_000)
    assert len(records) == 3
    assert [values.tolist() for values in unpack_ranking(records[1])] == [[], [], [], []]


def test_positions_take_two_bytes_up_to_65536_sales_and_four_beyond() -> None:
    assert [ranking_type(n_sales, 30).itemsize for n_sales in (1, 65_536, 65_537)] == [188, 188, 188 + 30 * 2]
    for n_sales in (65_536, 65_537, 3_000_000_000):
        rankings = rankings_of(np.array([[2.0, 1.0]]))._replace(sales=np.array([[n_sales - 1, 0]]))
        assert unpack_ranking(pack_rankings(rankings, n_sales)[0]).sales.tolist() == [n_sales - 1, 0]


# Packing of histories.


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.booleans()), max_size=9))
def test_events_come_back_as_they_were_up_to_68_years_old(events: list[tuple[int, int, bool]]) -> None:
    sales, ages, purchases = (np.array([event[field] for event in events], kind) for field, kind in enumerate("iq?"))
    packed = pack_history(sales, ages, purchases)
    assert packed.nbytes == 8 * len(events)
    found = unpack_history(packed)
    assert (found.sales.dtype, found.ages.dtype, found.purchases.dtype) == (np.int32, np.int32, np.bool_)
    assert [tuple(event) for event in zip(*(values.tolist() for values in found), strict=True)] == events


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_age_below_0_is_0_and_does_not_look_like_a_purchase(kind: type) -> None:
    ages = np.array([-1, 0, -(2**31), 5], kind)
    found = unpack_history(pack_history(np.arange(4), ages, np.array([False, False, True, True])))
    assert found.ages.tolist() == [0, 0, 0, 5]
    assert found.purchases.tolist() == [False, False, True, True]


def test_age_above_68_years_is_68_years() -> None:
    ages = np.array([60 * YEAR, 2**31 - 1, 2**31, 100 * YEAR])
    found = unpack_history(pack_history(np.arange(4), ages, np.array([False, False, False, True])))
    assert found.ages.tolist() == [60 * YEAR, 2**31 - 1, 2**31 - 1, 2**31 - 1]
    assert found.purchases.tolist() == [False, False, False, True]


# Reading of users.


@given(
    scores=arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(0, 12)), elements=FLOATS),
    n_sales=st.sampled_from([65_536, 65_537]),
)
def test_ranked_sales_are_those_of_the_ranking_one_by_one(scores: np.ndarray, n_sales: int) -> None:
    rankings = rankings_of(scores, n_sales)
    records = pack_rankings(rankings, n_sales)
    codec = RankingCodec(RecordLayout(("als",), scores.shape[1], 256, [7] * n_sales), "als")
    assert codec.size == records.itemsize
    for row, record in enumerate(records):
        found, expected = list(codec.places(records.tobytes(), row * codec.size)), unpack_ranking(record)
        for field, name in enumerate(("sales", "scores", "reasons", "covers")):
            values = np.array([each[field] for each in found], getattr(expected, name).dtype)
            assert_array_equal(values, getattr(expected, name), err_msg=name)


N_PHOTOS = [1, 2, 3, 1, 1, 1, 1, 1, 1]
GOOD = {"low": 0, "high": 2, "sales": [2, 7, 1], "reasons": [0, 4, 4], "covers": [2, 0, 1]}
"""A valid record of a snapshot of nine sales and five reasons."""


def places_of(policy: str = "als", **changes: object) -> list:
    layout = RecordLayout((policy,), 3, 5, N_PHOTOS)
    record = np.zeros((), layout.record)
    for name, value in {**GOOD, **changes}.items():
        record[name] = value
    return list(RankingCodec(layout, policy).places(record.tobytes(), 0))


def test_record_with_the_largest_valid_values_is_read() -> None:
    assert [place[0] for place in places_of()] == [2, 7, 1]
    assert places_of(sales=[8, 0, 1], reasons=[4, 4, 4], covers=[0, 0, 1])[0] == (8, 0.0, 4, 0)
    assert places_of(low=-3e38, high=3e38)[0][1] == np.float32(-3e38)
    assert [places_of("meta", low=low, high=700)[0][1] for low in (-700, 700)] == [-700, 700]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sales": [2, 7, 2]}, "a sale twice, must hold each once"),
        ({"sales": [2, 9, 1]}, "sale 9, must be below 9"),
        ({"reasons": [0, 4, 5]}, "reason 5, must be below 5"),
        ({"covers": [3, 0, 0]}, "photo 3 of sale 2, must be below 3"),
        ({"covers": [0, 0, 2]}, "photo 2 of sale 1, must be below 2"),
        ({"low": np.nan}, "scores from nan to 2, must ascend within"),
        ({"high": np.inf}, "scores from 0 to inf, must ascend within"),
        ({"low": -np.inf}, "scores from -inf to 2, must ascend within"),
        ({"low": 3}, "scores from 3 to 2, must ascend within"),
        ({"policy": "meta", "low": -701}, r"scores from -701 to 2, must ascend within -700\.\.700"),
        ({"policy": "meta@7", "high": 701}, r"scores from 0 to 701, must ascend within -700\.\.700"),
    ],
)
def test_record_with_an_impossible_value_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(DamagedRecordError, match=f"a user's ranking by .* holds {message}"):
        places_of(**changes)


@pytest.mark.parametrize(
    ("file", "kind", "number", "value", "message"),
    [
        ("user_rows.bin", "<u4", slice(None), 3, "a user's row == 3, must be below 3"),
        ("history_offsets.bin", "<u8", 1, 4, "events start at 0 and end at 4, must ascend up to 3"),
        ("history_offsets.bin", "<u8", 0, 4, "events start at 4 and end at 3, must ascend up to 3"),
    ],
)
def test_user_whose_data_is_outside_the_files_is_a_damaged_record(tmp_path, file, kind, number, value, message):
    path = write(tmp_path)
    np.memmap(path / file, kind, "r+")[number] = value
    with pytest.raises(DamagedRecordError, match=message):
        MappedUsers(path, LAYOUT).find("ann").history()


@pytest.mark.parametrize("policies", [CONTENTS.policies, ("meta",)])
def test_packed_user_has_the_rankings_and_the_history_of_the_files(tmp_path, policies):
    path = write(tmp_path, policies=policies)
    layout = LAYOUT._replace(policies=policies)
    users, packing = MappedUsers(path, layout), UserPacking(layout)
    for row in range(3):
        user, found = users.at(row), packing.unpack(packing.pack(users, row))
        for policy in policies:
            assert list(found.places(policy)) == list(user.places(policy))
            for values, expected in zip(found.ranking(policy), user.ranking(policy), strict=True):
                assert_array_equal(values, expected)
        assert [values.tolist() for values in found.history()] == [values.tolist() for values in user.history()]
    assert [len(users.at(row).history().sales) for row in range(3)] == [3, 0, 0]


def test_damaged_packed_user_is_refused(tmp_path):
    users, packing = MappedUsers(write(tmp_path), LAYOUT), UserPacking(LAYOUT)
    good = packing.pack(users, 0)
    flipped = (good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(len(good)))
    for damaged in (*flipped, good[:-1], good[:-8], good + bytes(8), b""):
        with pytest.raises(DamagedRecordError, match="a user's record is damaged"):
            packing.unpack(damaged)


# Look-up of users.


def test_each_user_has_the_right_history_from_whichever_batch(tmp_path):
    more = with_histories(batch(EVE), sales=[[3, 4]], ages=[[9, 8]], purchases=[[True, False]])
    last = with_histories(batch(("zoe", *EVE[1:])), sales=[[5]], ages=[[7]], purchases=[[True]])
    users = Snapshot.open(write(tmp_path, with_histories(batch(ANN, BOB)), more, last)).users
    assert [values.tolist() for values in users.find("ann").history()] == [values[0] for values in HISTORIES.values()]
    assert [values.tolist() for values in users.find("bob").history()] == [[], [], []]
    assert [values.tolist() for values in users.find("eve").history()] == [[3, 4], [9, 8], [True, False]]
    assert [values.tolist() for values in users.find("zoe").history()] == [[5], [7], [True]]
    assert users.find("nobody") is None


def test_users_have_no_history_where_the_columns_are_absent(tmp_path):
    users = Snapshot.open(
        write(
            tmp_path,
            batch(ANN),
            with_histories(batch(BOB), **{name: [values[0]] for name, values in HISTORIES.items()}),
            batch(EVE),
        )
    ).users
    assert [len(users.find(user).history().sales) for user in ("ann", "bob", "eve")] == [0, 3, 0]


def test_histories_of_a_slice_of_a_batch_are_those_of_its_users(tmp_path):
    rankings = with_histories(
        batch(ANN, BOB, EVE),
        sales=[[1], [2, 3], [4]],
        ages=[[10], [20, 30], [40]],
        purchases=[[True], [False, True], [False]],
    )
    users = Snapshot.open(write(tmp_path, rankings.slice(1, 1))).users
    assert [values.tolist() for values in users.find("bob").history()] == [[2, 3], [20, 30], [False, True]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ages": [[1, 2], []]}, "history_sales, history_ages and history_purchases differ in length"),
        ({"purchases": [[True], [True, False]]}, "history_sales, history_ages and history_purchases differ in length"),
        ({"sales": [[7, None, 7], []]}, "the lists of histories have 1 nulls, must have none"),
        ({"ages": [[1, 2, 3], None]}, "the lists of histories have 1 nulls, must have none"),
        ({"purchases": [[None, True, None], []]}, "the lists of histories have 2 nulls, must have none"),
    ],
)
def test_incomplete_history_is_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path, with_histories(batch(ANN, BOB), **changes))


def test_all_wrong_columns_of_histories_are_listed(tmp_path):
    rankings = batch(ANN, BOB).append_column("history_sales", pa.array([1, 2]))
    rankings = rankings.append_column("history_purchases", pa.array([[1, 0, 0], []], pa.list_(pa.int8())))
    with pytest.raises(SchemaError) as error:
        write(tmp_path, rankings)
    assert "history_sales is int64, must be list<int32>" in str(error.value)
    assert "history_ages is missing" in str(error.value)
    assert "history_purchases is list<item: int8>, must be list<bool>" in str(error.value)


def test_snapshot_whose_users_are_stored_elsewhere_needs_none_of_their_files(tmp_path):
    path, users = write(tmp_path, batch(ANN)), Snapshot.open(write(tmp_path / "others", batch(EVE))).users
    for file in [*path.glob("user_*"), *path.glob("ranking_*"), *path.glob("history_*")]:
        file.unlink()
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", "sales.json", "shared_rankings.json"]
    with pytest.raises(SnapshotError, match="cannot be read"):
        Snapshot.open(path)
    snapshot = Snapshot.open(path, users=lambda _: users)
    assert snapshot.ranking("meta", "ann") is None
    assert snapshot.ranking("meta", "eve").sales.tolist() == EVE[1]
    assert snapshot.ranking("popularity", "ann") is not None
    (path / "sales.json").write_text("[]")
    with pytest.raises(SnapshotError, match=r"sales.json has 2 bytes"):
        Snapshot.open(path, users=lambda _: users)


def test_users_of_rows_are_those_of_the_index(tmp_path):
    path = write(tmp_path)
    users = MappedUsers(path, LAYOUT)
    assert [users.index.user_id(row) for row in range(len(users.index))] == [b"ann", b"bob", b"eve"]
    assert users.at(2).ranking("meta").sales.tolist() == EVE[1]


@pytest.mark.parametrize(
    "user_id", ["é", "e\u0301", "用户", "🙂", "a'b\"c", "../../etc/passwd", "a\x00b", "\n", " ", "x" * 10_000, "\ud800"]
)
def test_unusual_user_id_is_found_if_it_exists_and_not_otherwise(tmp_path, user_id):
    without = Snapshot.open(write(tmp_path))
    assert without.ranking("meta", user_id) is None
    if user_id == "\ud800":  # half a character: no table can hold it
        return
    snapshot = Snapshot.open(write(tmp_path, batch(ANN, (user_id, *BOB[1:]), EVE)))
    assert snapshot.ranking("meta", user_id).sales.tolist() == BOB[1]
    assert snapshot.ranking("meta", user_id + "x") is None


def test_users_with_the_same_hash_are_distinguished(tmp_path, monkeypatch):
    monkeypatch.setattr("recsys.snapshot.users.user_hash", lambda _: 7)
    monkeypatch.setattr("recsys.snapshot.writer.user_hash", lambda _: 7)
    snapshot = Snapshot.open(write(tmp_path))
    for user_id, sales, *_ in (ANN, BOB, EVE):
        assert snapshot.ranking("meta", user_id).sales.tolist() == sales
    assert snapshot.ranking("meta", "nobody") is None


def test_hash_at_the_upper_end_is_found(tmp_path, monkeypatch):
    largest = (1 << 64) - 1
    monkeypatch.setattr("recsys.snapshot.users.user_hash", lambda _: largest)
    monkeypatch.setattr("recsys.snapshot.writer.user_hash", lambda _: largest)
    assert Snapshot.open(write(tmp_path, batch(ANN))).ranking("meta", "ann") is not None


def test_many_users_are_each_found_in_their_own_row(tmp_path):
    random = np.random.default_rng(3)
    rows = [
        (f"u{user}", random.permutation(5)[:2].tolist(), random.random(2, np.float32).tolist(), [0, 2])
        for user in range(3_001)
    ]
    snapshot = Snapshot.open(write(tmp_path, batch(*rows[:1_700]), batch(*rows[1_700:])))
    for user_id, sales, scores, _ in rows:
        ranking = snapshot.ranking("meta", user_id)
        assert (ranking.sales.tolist(), ranking.scores.tolist()) == (sales, scores)


def test_user_takes_40_bytes_188_for_each_policy_of_30_sales_and_8_for_each_event(tmp_path):
    def n_bytes(n_users: int, n_policies: int, n_events: int = 0) -> int:
        policies = ("meta", "collaborative")[:n_policies]
        rows = batch(*((f"user{user:08d}", list(range(30)), [0.5] * 30, [1] * 30) for user in range(n_users)))
        events = {name: [values[0][:1] * n_events] * n_users for name, values in HISTORIES.items()}
        sales = [replace(SALES[0], sale_id=f"{sale:04d}") for sale in range(400)]
        path = write(tmp_path, with_histories(rows, **events), policies=policies, sales=sales)
        return Snapshot.open(path).manifest.n_bytes

    assert n_bytes(1_100, 1) - n_bytes(100, 1) == 1_000 * (40 + 188)
    assert n_bytes(1_100, 2) - n_bytes(100, 2) == 1_000 * (40 + 2 * 188)
    assert n_bytes(1_100, 1, n_events=20) - n_bytes(100, 1, n_events=20) == 1_000 * (40 + 188 + 20 * 8)


def test_more_sales_than_two_bytes_can_number_are_distinguished(tmp_path):
    sales = [replace(SALES[0], sale_id=f"{sale:06d}") for sale in range(70_000)]
    path = write(tmp_path, batch(("ann", [69_999, 65_536], [1.0, 0.5], [0, 0])), sales=sales)
    assert Snapshot.open(path).ranking("meta", "ann").sales.tolist() == [69_999, 65_536]


def test_look_up_takes_microseconds(tmp_path):
    snapshot = Snapshot.open(write(tmp_path, batch(*((f"u{user}", *ANN[1:]) for user in range(5_000)))))
    start = time.process_time()
    for user in range(5_000):
        snapshot.ranking("meta", f"u{user}")
    assert (time.process_time() - start) / 5_000 < 100e-6  # about 4 on an idle machine
