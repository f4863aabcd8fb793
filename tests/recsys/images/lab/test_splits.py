import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.images.lab.splits import (
    MOST_SALES_OF_A_PHOTO,
    SHARES,
    forget_parts,
    groups_of,
    parts_of,
    remember_parts,
    remembered_parts,
)

ORDER = ["train", "validation", "test"]


def hashes(*names: str) -> np.ndarray:
    return np.array(names, np.str_)


def different(n_photos: int) -> np.ndarray:
    return np.eye(n_photos, dtype=np.float32)


def test_photos_alike_and_photos_of_a_sale_are_one_group_also_through_a_third():
    embeddings = np.array([[1, 0, 0, 0], [0.99, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    # a ~ b alike, b ~ c by sale 1, d and e alone
    groups = groups_of(hashes(*"abcde"), embeddings, [(), ("1",), ("1", "2"), ("3",), ()])
    assert len(set(groups[:3])) == 1
    assert len(set(groups)) == 3


def test_the_same_content_is_one_group():
    assert groups_of(hashes("a", "b", "a"), different(3), [()] * 3).tolist() == [0, 1, 0]


def test_a_logo_of_many_sales_does_not_tie_them_together():
    sales = [tuple(map(str, range(MOST_SALES_OF_A_PHOTO + 1))), ("0",), ("1",)]
    assert len(set(groups_of(hashes("logo", "b", "c"), different(3), sales))) == 3
    assert len(set(groups_of(hashes("twice", "b", "c"), different(3), [("0", "1"), *sales[1:]]))) == 1


@pytest.mark.parametrize("n_photos", [0, 1])
def test_no_photo_and_one_photo_have_groups_and_parts(n_photos):
    names = hashes(*"a"[:n_photos])
    groups = groups_of(names, different(n_photos), [()] * n_photos)
    assert len(parts_of(names, groups)) == len(groups) == n_photos


def test_shares_are_about_70_10_20():
    names = hashes(*(f"{number:05}" for number in range(4000)))
    parts = parts_of(names, np.arange(4000))
    for part, share in SHARES.items():
        assert abs((parts == part).mean() - share) < 0.02


def test_each_label_with_five_groups_has_photos_in_each_part():
    for seed in range(30):
        names = hashes(*(f"{seed}-{number}" for number in range(30)))
        targets = np.arange(30)[:, None] % 6 == np.arange(6)
        parts = parts_of(names, np.arange(30), targets)
        assert all((targets[parts == part].sum(0) > 0).all() for part in SHARES)


def test_a_label_of_few_groups_is_left_as_it_falls():
    names = hashes(*"abcd")
    assert parts_of(names, np.arange(4), np.ones((4, 1), bool)).tolist() == parts_of(names, np.arange(4)).tolist()


def test_remembered_photos_are_not_moved_to_a_part_that_their_label_lacks():
    names = hashes(*"abcdef")
    remembered = dict.fromkeys(names.tolist(), "train")
    assert set(parts_of(names, np.arange(6), np.ones((6, 1), bool), remembered)) == {"train"}


@given(st.data())
def test_groups_stay_whole_and_photos_move_towards_test_only(data):
    """Photos come in any order, groups grow and become one, labels change; parts are remembered."""
    n_photos = data.draw(st.integers(1, 25))
    names = [f"{number:02}" for number in data.draw(st.permutations(range(n_photos)))]
    sales = [data.draw(st.sets(st.sampled_from("ABCDEFGH"), max_size=2)) for _ in names]
    remembered: dict = {}
    for end in sorted(data.draw(st.sets(st.integers(1, n_photos), min_size=1, max_size=5))):
        known = np.sort(names[:end])
        of_photo = dict(zip(names, sales, strict=True))
        groups = groups_of(known, different(end), [of_photo[each] for each in known.tolist()])
        targets = np.array([[data.draw(st.booleans()), True] for _ in known])
        parts = parts_of(known, groups, targets, remembered)
        assert all(len(set(parts[groups == group])) == 1 for group in groups)
        now = dict(zip(known.tolist(), parts.tolist(), strict=True))
        assert all(ORDER.index(now[each]) >= ORDER.index(part) for each, part in remembered.items())
        remembered |= now


def test_a_photo_alone_stays_where_it_is_without_being_remembered():
    names = hashes(*(f"{number:03}" for number in range(100)))
    alone = dict(zip(names[:50], parts_of(names[:50], np.arange(50)), strict=True))
    assert alone == dict(zip(names[:50], parts_of(names, np.arange(100))[:50], strict=True))


def test_parts_are_remembered_in_a_file_and_forgotten_for_erased_photos(tmp_path):
    assert remembered_parts(tmp_path) == {}
    remember_parts(tmp_path, {"b": "test", "a": "train"})
    assert remembered_parts(tmp_path) == {"a": "train", "b": "test"}
    forget_parts(tmp_path, ["b", "unknown"])
    assert remembered_parts(tmp_path) == {"a": "train"}
