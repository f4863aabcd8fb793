import numpy as np
import pytest

from recsys.errors import EmptyInputError
from recsys.images.lab.active_learning import (
    Simulation,
    changed_predictions,
    compact,
    empirical_cdf,
    local_density,
    next_batch,
    predictions,
    simulate,
    uncertainty,
)
from recsys.images.lab.dataset import Dataset


def at_angles(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.column_stack([np.cos(radians), np.sin(radians)]).astype(np.float32)


def labelled(
    embeddings: np.ndarray, targets: list[list[int]], kind="single", parts: list[str] | None = None
) -> Dataset:
    hashes = np.array([f"{number:06d}" for number in range(len(embeddings))], np.str_)
    columns = np.array(targets, bool).reshape(len(embeddings), -1)
    names = [chr(ord("a") + column) for column in range(columns.shape[1])]
    of_parts = np.array(parts or ["train"] * len(embeddings), np.str_)
    return Dataset(names, kind, hashes, hashes, embeddings, columns, np.arange(len(embeddings)), of_parts)


NOTHING = labelled(at_angles(0), [[1, 0]]).where(np.zeros(1, bool))


def scenes(n: int, n_classes: int = 4, seed: int = 0) -> Dataset:
    random = np.random.default_rng(seed)
    classes = random.integers(0, n_classes, n)
    embeddings = np.eye(n_classes, 8)[classes] + 0.3 * random.normal(size=(n, 8))
    parts = ["test" if number % 4 == 0 else "train" for number in range(n)]
    return labelled(embeddings.astype(np.float32), np.eye(n_classes, dtype=bool)[classes].tolist(), parts=parts)


def test_the_empirical_cdf_is_the_share_of_values_that_are_not_higher():
    assert empirical_cdf(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [1, 0.25, 1, 0.5]
    assert empirical_cdf(np.full(3, 7.0)).tolist() == [1, 1, 1]


def test_uncertainty_is_one_minus_the_margin_of_votes_weighted_by_cosine():
    photos = labelled(at_angles(0, 0, 0), [[1, 0], [0, 1], [0, 1]])
    rows, cosines = np.array([[0, 1, 2], [0, 1, 2], [1, 2, 1]]), np.array([[0.9, 0.8, 0.8], [0.5] * 3, [0.5] * 3])
    near, far = np.exp(9), np.exp(8)
    share = near / (near + 2 * far)  # of a; b has the rest
    expected = [1 - abs(share - (1 - share)), 1 - (2 / 3 - 1 / 3), 0]
    np.testing.assert_allclose(uncertainty(rows, cosines, photos), expected, atol=1e-6)


def test_none_of_these_is_a_label_like_others():
    photos = labelled(at_angles(0, 0), [[1, 0], [0, 0]])
    assert uncertainty(np.array([[0, 1], [1, 1]]), np.full((2, 2), 0.5), photos).tolist() == [1, 0]


def test_of_kind_multi_uncertainty_is_the_mean_over_the_labels():
    photos = labelled(at_angles(0, 0, 0, 0), [[1, 1], [1, 0], [1, 0], [1, 0]], "multi")
    found = uncertainty(np.array([[0, 1, 2, 3]]), np.full((1, 4), 0.5), photos)
    np.testing.assert_allclose(found, [(0 + (1 - abs(3 / 4 - 1 / 4))) / 2])


def test_only_the_nearest_five_vote():
    photos = labelled(at_angles(0, 0), [[1, 0], [0, 1]])
    assert uncertainty(np.array([[0, 0, 0, 0, 0, 1]]), np.full((1, 6), 0.5), photos).tolist() == [0]


def test_density_is_that_of_the_nearest_photos():
    density = local_density(at_angles(0, 60, 90))
    np.testing.assert_allclose(density, [(0.5 + 0) / 2, (0.5 + np.sqrt(3) / 2) / 2, np.sqrt(3) / 4], atol=1e-6)
    assert local_density(at_angles(5)).tolist() == [0]


def test_without_labels_the_first_photo_is_the_densest_and_the_next_one_is_elsewhere():
    photos = at_angles(0, 25, 50, 75, 180, 205, 270)
    chosen = next_batch(photos, np.arange(7), NOTHING, 2, density=np.array([4.0, 7, 6, 5, 3, 2, 1]))
    # D after the first: cosines to 25 degrees fall with 0 = 50 < 75 < 270 < 180 < 205; 50 degrees: 6/7 x 3/7 = .37,
    # 75: 5/7 x 4/7 = .41, 180: 3/7 x 6/7 = .37, 205: 2/7 x 7/7 = .29
    assert chosen.photos.tolist() == [1, 3]
    np.testing.assert_allclose(chosen.score, [1, 20 / 49], atol=1e-6)
    assert chosen.nearest_labelled.shape == (2, 0)


def test_scores_multiply_and_density_fades_with_the_number_of_labels():
    known = labelled(at_angles(0, 90), [[1, 0], [0, 1]])
    found = next_batch(at_angles(35, 50, 61), np.arange(3), known, 1, density=np.array([3.0, 1.0, 2.0]))
    # u falls with |angle - 45|: U is 1 of 50 degrees, 2/3 of 35; to the nearest label it is 40 degrees, and 35
    # U·I·D: 2/3 · 1 · 2/3 = .44 of 35 degrees, 1 · (1/3)^(20/22) · 1 = .37 of 50
    assert found.photos.tolist() == [0]
    np.testing.assert_allclose([found.uncertainty[0], found.density[0], found.diversity[0]], [2 / 3, 1, 2 / 3])
    assert found.nearest_labelled.tolist() == [[0, 1]]
    np.testing.assert_allclose(found.cosines, [[np.cos(np.radians(35)), np.cos(np.radians(55))]], atol=1e-6)
    # 50 degrees is the most unsure and the most distant, and has the lowest density
    photos = next_batch(at_angles(50, 5, 4), np.arange(3), known, 1, density=np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(photos.density, [(1 / 3) ** (20 / 22)])


def test_a_batch_never_holds_two_of_a_group_of_duplicates_nor_one_of_a_labelled_photo():
    random = np.random.default_rng(0)
    originals = random.normal(size=(12, 20))
    copies = np.repeat(originals, 4, axis=0) + 0.02 * random.normal(size=(48, 20))
    known = labelled(originals[:2].astype(np.float32), [[1, 0], [0, 1]])
    chosen = next_batch(copies.astype(np.float32), np.arange(48), known, 30).photos
    assert sorted(chosen // 4) == list(range(2, 12))


def test_directions_beyond_those_that_tell_the_labels_apart_are_left_out():
    data = np.random.default_rng(0).normal(size=(300, 200)).astype(np.float32)
    assert [compact(data, n_labels).shape[1] for n_labels in (2, 10, 80)] == [32, 40, 128]


def test_changed_predictions_are_those_that_the_last_batches_contradict():
    photos = at_angles(0, 10, 80, 90)
    # the first two labels: all a; the next two name the other end b, which changes half of the predictions
    known = labelled(at_angles(1, 2, 88, 89), [[1, 0], [1, 0], [0, 1], [0, 1]])
    assert changed_predictions(photos, known, np.arange(4), 2) == [0.5]
    assert changed_predictions(photos, known, np.arange(4), 4) == []


def test_photos_that_all_have_the_same_labels_predict_these():
    photos = at_angles(0, 90)
    assert predictions(labelled(at_angles(0, 5), [[0, 1], [0, 1]]), photos).tolist() == [[False, True]] * 2
    assert predictions(labelled(at_angles(5), [[0, 0]]), photos).tolist() == [[False, False]] * 2


def test_none_of_these_and_several_labels_are_predicted():
    photos = at_angles(0, 90)
    one_or_none = labelled(at_angles(2, 4, 86, 88), [[1, 0], [1, 0], [0, 0], [0, 0]])
    assert predictions(one_or_none, photos).tolist() == [[True, False], [False, False]]
    several = labelled(at_angles(2, 4, 86, 88), [[1, 1], [1, 1], [0, 1], [0, 1]], "multi")
    assert predictions(several, photos).tolist() == [[True, True], [False, True]]


def test_a_simulation_is_reproducible_and_active_learning_needs_fewer_labels():
    data = scenes(240)
    first, again = simulate(data, 4, 24, 3), simulate(data, 4, 24, 3)
    assert first.n_labels.tolist() == [4, 8, 12, 16, 20, 24]
    for name in ("active", "random"):
        np.testing.assert_array_equal(first.accuracy[name], again.accuracy[name])
    assert first.accuracy["active"][:, 1].mean() > first.accuracy["random"][:, 1].mean()
    assert (first.changed[:, 1:] < 1).all()


def test_labels_needed_are_the_first_number_that_reaches_the_share():
    accuracy = {"active": np.array([[0.5, 0.9, 0.8], [0.95, 1, 1]]), "random": np.array([[0, 0, 0.9], [0, 0.9, 1]])}
    found = Simulation(np.array([10, 20, 30]), accuracy, np.zeros((2, 3)), np.ones(2))
    assert found.labels_needed("active").tolist() == [20, 10]
    assert found.labels_needed("random").tolist() == [30, 20]
    assert found.labels_against_random("active").value == pytest.approx(15 / 25)
    assert found.labels_needed("active", 0.99).tolist() == [np.inf, 20]
    assert np.isnan(found.labels_against_random("active", 0.99).value)


def test_a_simulation_without_test_photos_says_what_is_missing():
    data = scenes(20)
    with pytest.raises(EmptyInputError, match="0 labelled photos of the test part and 15 others"):
        simulate(data.where(data.parts != "test"), 4)
