from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.images.lab import cleaning
from recsys.images.lab.cleaning import Ambiguous, Cleaning, Photo, Suspect
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.label_store import LABELS
from recsys.images.lab.neighbours import Neighbours

LABEL_IDS = ["bathroom", "pool", "suite"]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def clusters(kind: str = "single", n_photos: int = 60, seed: int = 0) -> Dataset:
    """Photos around three directions of eight, each photo a group of its own; the last ten are the test part."""
    random = np.random.default_rng(seed)
    classes = np.arange(n_photos) % 3
    embeddings = np.eye(8, dtype=np.float32)[classes] + random.normal(0, 0.15, (n_photos, 8)).astype(np.float32)
    hashes = np.array([f"{number:03}" for number in range(n_photos)])
    parts = np.where(np.arange(n_photos) < n_photos - 10, "train", "test")
    uris = np.char.add(hashes, ".jpg")
    targets = np.eye(3, dtype=bool)[classes]
    return Dataset(LABEL_IDS, kind, hashes, uris, embeddings, targets, np.arange(n_photos), parts)  # type: ignore[arg-type]


def relabelled(dataset: Dataset, labels: dict[int, list[bool]]) -> Dataset:
    targets = dataset.targets.copy()
    for row, target in labels.items():
        targets[row] = target
    return replace(dataset, targets=targets)


def test_flipped_labels_are_the_first_suspects_with_their_true_label_suggested():
    flipped = {0: [False, True, False], 7: [False, False, True], 14: [True, False, False]}
    found = cleaning.clean(relabelled(clusters(), flipped))
    same = found.band("wrong")
    assert {each.photo.image_hash: each.suggested for each in same} == {
        "000": ("bathroom",),
        "007": ("pool",),
        "014": ("suite",),
    }
    assert [each.photo.image_hash for each in found.suspects[:3]] == [each.photo.image_hash for each in same]
    assert found.expected_wrong == 3
    assert found.n_photos == 50


def test_suspects_are_ranked_by_one_minus_p_plus_one_minus_v():
    suspects = cleaning.clean(relabelled(clusters(), {0: [False, True, False], 7: [False, False, True]})).suspects
    scores = [each.score for each in suspects]
    assert scores == sorted(scores, reverse=True)
    assert scores == [pytest.approx((1 - each.probability) + (1 - each.votes)) for each in suspects]


def test_bands_by_hand():
    given = np.eye(3, dtype=bool)[[0, 0, 0, 0, 0]]
    by_head = np.eye(3, dtype=bool)[[1, 1, 1, 0, 0]]
    by_neighbours = np.eye(3, dtype=bool)[[1, 2, 0, 2, 0]]
    little, enough = np.full(5, 0.09), np.full(5, 0.1)
    assert cleaning.bands_of(given, by_head, by_neighbours, enough) == ["both", "both", "one", "one", None]
    assert cleaning.bands_of(given, by_head, by_neighbours, little) == ["wrong", "wrong", "wrong", "one", None]


def test_votes_weigh_by_exp_of_the_cosine():
    neighbours = Neighbours(np.array([[1, 2, 0]]), np.array([[0.9, 0.8, -np.inf]], np.float32))
    given = np.array([[True, False], [True, False], [False, True]])
    nearer, farther = np.exp(9), np.exp(8)
    expected = [[nearer / (nearer + farther), farther / (nearer + farther)]]
    np.testing.assert_allclose(cleaning.shares_of_votes(neighbours, given), expected, rtol=1e-5)


def test_a_photo_without_a_neighbour_that_may_vote_speaks_for_no_label():
    neighbours = Neighbours(np.array([[1]]), np.array([[-np.inf]], np.float32))
    given = np.array([[True, False], [False, True]])
    np.testing.assert_allclose(cleaning.shares_of_votes(neighbours, given), [[0.5, 0.5]])


def test_votes_equal_a_loop_over_all_photos():
    dataset = replace(clusters(seed=3), groups=np.arange(60) // 2)
    votes = cleaning.shares_of_votes(cleaning.voting_neighbours(dataset, 4), dataset.targets)
    units = dataset.embeddings / np.linalg.norm(dataset.embeddings, axis=1, keepdims=True)
    for row in range(60):
        others = [
            other
            for other in range(60)
            if dataset.parts[other] != "test" and dataset.groups[other] != dataset.groups[row]
        ]
        nearest = sorted(others, key=lambda other: -float(units[row] @ units[other]))[:4]
        weights = np.exp([float(units[row] @ units[other]) / 0.1 for other in nearest])
        expected = (weights[:, np.newaxis] * dataset.targets[nearest]).sum(0) / weights.sum()
        np.testing.assert_allclose(votes[row], expected, rtol=1e-4, atol=1e-6)


def test_labels_of_the_test_part_change_nothing_of_the_others_and_are_flagged():
    dataset = clusters()
    wrong_test = relabelled(dataset, {row: [False, True, False] for row in range(50, 60)})
    before, after = cleaning.evidence_of(dataset), cleaning.evidence_of(wrong_test)
    np.testing.assert_array_equal(before.by_head, after.by_head)
    np.testing.assert_array_equal(before.by_neighbours, after.by_neighbours)
    suspects = cleaning.clean(wrong_test).suspects
    assert {each.photo.image_hash for each in suspects if each.is_test} >= {"050", "053"}
    assert all(each.is_test == (each.photo.image_hash >= "050") for each in suspects)
    assert cleaning.corrections(cleaning.clean(wrong_test), "rooms", LABELS.empty_table(), NOW).num_rows == 0


def test_near_identical_photos_with_two_labels_are_listed_and_others_are_not():
    dataset = clusters()
    embeddings = np.random.default_rng(0).normal(size=(60, 32)).astype(np.float32)
    embeddings[1], embeddings[6] = embeddings[0], embeddings[3]  # 0 and 1: bathroom, pool; 3 and 6: both bathroom
    found = cleaning.clean(replace(dataset, embeddings=embeddings)).duplicates
    assert [[(each.image_hash, each.labels) for each in group] for group in found] == [
        [("000", ("bathroom",)), ("001", ("pool",))]
    ]


def test_neighbours_of_a_suspect_are_never_of_its_own_group():
    dataset = relabelled(clusters(), {0: [False, True, False]})
    groups = np.arange(60)
    groups[[0, 3, 6]] = 0
    suspect = next(each for each in cleaning.clean(replace(dataset, groups=groups)).suspects)
    assert suspect.photo.image_hash == "000"
    assert len(suspect.neighbours) == 10
    assert not {"000", "003", "006"} & {each.image_hash for each in suspect.neighbours}


def test_a_photo_labelled_none_of_these_gets_a_label_suggested_and_the_other_way_round():
    dataset = clusters(n_photos=84)
    none = {row: [False, False, False] for row in range(2, 84, 3)}  # suites are none of these
    found = cleaning.clean(relabelled(dataset, none | {0: [False] * 3, 2: [True, False, False]})).band("wrong")
    assert {each.photo.image_hash: (each.photo.labels, each.suggested) for each in found} == {
        "000": ((), ("bathroom",)),
        "002": (("bathroom",), ()),
    }


def test_a_missing_and_a_superfluous_label_of_kind_multi_are_found():
    dataset = clusters("multi")
    found = cleaning.clean(relabelled(dataset, {0: [True, True, False], 7: [False, False, False]}))
    assert {each.photo.image_hash: each.suggested for each in found.band("wrong")} == {
        "000": ("bathroom",),
        "007": ("pool",),
    }
    assert {each.photo.image_hash for each in found.suspects[:2]} == {"000", "007"}
    assert found.expected_wrong == 2


def test_the_spread_of_outputs_makes_a_photo_ambiguous_and_not_suspect():
    dataset = clusters()
    embeddings = dataset.embeddings.copy()
    embeddings[0] = np.eye(8)[0] * 0.58 + np.eye(8)[1] * 0.57 + np.eye(8)[2] * 0.56
    found = cleaning.clean(replace(dataset, embeddings=embeddings))
    assert found.ambiguous[0].photo.image_hash == "000"
    assert "000" not in {each.photo.image_hash for each in found.band("wrong")}


def test_spread_by_hand():
    outputs = np.array([[0.5, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose(cleaning.spread_of("single", outputs), [0, 0.5])
    np.testing.assert_allclose(cleaning.spread_of("multi", np.array([[0.9, 0.45], [0.1, 0.8]])), [0.05, 0.3])


def test_too_few_photos_or_one_label_is_an_error():
    with pytest.raises(InputError, match="15 labelled photos with 3 labels"):
        cleaning.clean(clusters(n_photos=25))
    with pytest.raises(InputError, match="50 labelled photos with 1 labels"):
        cleaning.clean(relabelled(clusters(), {row: [True, False, False] for row in range(60)}))


def suspect(image_hash: str, band: str = "wrong", is_test: bool = False) -> Suspect:
    photo = Photo(image_hash, f"{image_hash}.jpg", ("pool",))
    return Suspect(photo, band, ("suite",), 0.1, 0.1, (), is_test)  # type: ignore[arg-type]


def said(image_hash: str, labels: list[str] | None, source: str = "person", by: str = "ann") -> dict:
    told = {"image_hash": image_hash, "image_uri": f"{image_hash}.jpg", "taxonomy": "rooms"}
    return told | {"labels": labels, "source": source, "by": by, "at": NOW}


def test_corrections_are_of_the_first_band_outside_the_test_part_and_never_of_what_people_confirmed():
    suspects = [suspect("a"), suspect("b", "both"), suspect("c", is_test=True), *map(suspect, "defg")]
    history = pa.Table.from_pylist(
        [
            said("a", ["pool"]),
            said("d", ["pool"]),  # confirmed in the review
            said("d", ["pool"]),
            said("e", ["suite"], "rule", "clean"),  # corrected before, and a person said otherwise
            said("e", ["pool"]),
            said("f", ["pool"]),
            said("f", None),
            said("g", ["pool"], "api", "service"),
            said("g", ["pool"], "api", "service"),
        ],
        LABELS,
    )
    found = Cleaning(10, 1, (), tuple(suspects), (Ambiguous(Photo("z", "z.jpg", ()), 0.0),))
    rows = cleaning.corrections(found, "rooms", history, NOW)
    assert rows.schema == LABELS
    assert rows["image_hash"].to_pylist() == ["a", "f", "g"]
    assert rows.to_pylist()[0] == said("a", ["suite"], "rule", "clean")
