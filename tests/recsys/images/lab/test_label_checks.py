import numpy as np
import pytest

from recsys.images.lab.dataset import Dataset
from recsys.images.lab.label_checks import check_labels, dataset_card, dataset_checks, dataset_hash
from tests.helpers.labelled_photos import photo_shop, taxonomy, word


def dataset(classes: list[int], parts: str = "", embeddings: np.ndarray | None = None) -> Dataset:
    """Return photos of these classes; parts: a letter each of train, validation, test."""
    n_photos, rooms = len(classes), taxonomy()
    names = np.array([f"{number:03}" for number in range(n_photos)])
    letters = {"t": "train", "v": "validation", "e": "test"}
    return Dataset(
        rooms.ids, "single", names, names, np.eye(n_photos, dtype=np.float32) if embeddings is None else embeddings,
        np.array(classes)[:, None] == np.arange(3), np.arange(n_photos),
        np.array([letters[each] for each in (parts or "ttvte" * n_photos)[:n_photos]]),
    )  # fmt: skip


def outcomes(photos: Dataset, **sources: str) -> dict[str, tuple[str, str]]:
    said = {each: sources.get(f"p{each}", "person") for each in photos.image_hashes.tolist()}
    return {each.name: (each.outcome, each.found) for each in dataset_checks(photos, taxonomy(), said)}


GOOD = [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5


def test_good_labels_pass_but_for_a_parent_beside_its_child():
    found = outcomes(dataset(GOOD))
    assert {name for name, (outcome, _) in found.items() if outcome != "PASS"} == {"parents beside children"}


@pytest.mark.parametrize(
    ("photos", "name", "outcome", "found"),
    [
        (dataset([0] * 5 + [2] * 4), "5 photos per label", "FAIL", "'suite_sea' 0, 'pool' 4"),
        (dataset([2] * 9), "labels with photos", "FAIL", "1 of 4"),
        (dataset(GOOD, "ttvte" * 3 + "ttttt"), "test photos per label", "FAIL", "none of 'none_of_these'"),
        (dataset([0] * 5 + [2] * 105), "balance", "WARN", "'pool' 105, 'suite' 5"),
        (dataset([0] * 5 + [2] * 100), "balance", "PASS", "'pool' 100, 'suite' 5"),
        (
            dataset([0, 1, 2], embeddings=np.array([[1, 0], [1, 0.1], [0, 1]], np.float32)),
            "near duplicates with two labels", "WARN", "1 pair: 000 and 001",
        ),
    ],
)  # fmt: skip
def test_each_rule_names_what_breaks_it(photos, name, outcome, found):
    assert outcomes(photos)[name] == (outcome, found)


def test_test_photos_labelled_by_no_person_are_told():
    found = outcomes(dataset(GOOD), p004="api", p003="rule")
    assert found["sources"] == ("WARN", "person 90%, rule 5%, api 5%")
    assert outcomes(dataset(GOOD), p003="rule")["sources"][0] == "PASS"


def test_a_sale_with_a_quarter_of_the_photos_is_told():
    photos = dataset(GOOD)
    photos.groups[:5] = 0
    assert outcomes(photos)["largest group"] == ("WARN", "5 of 20 photos")


def test_labels_unknown_unseen_or_of_missing_files_are_told_from_the_store(tmp_path):
    shop = photo_shop(tmp_path)
    assert check_labels(shop.photos)[0][0].outcome == "FAIL"
    shop.see({"a": [1, 0], "b": [0, 1]})
    shop.say(word("a", "pool"), word("b", "pol"), word("unseen", "pool"))
    checks, found = check_labels(shop.photos)
    by_name = {each.name: each for each in checks}
    assert found is not None
    assert len(found) == 1
    assert by_name["labels of the taxonomy"].found == "1 unknown: 'pol' 1; did you mean 'pool'?"
    assert by_name["embeddings"].found == "1 not seen by this base network"
    assert by_name["photos on the disk"].outcome == "WARN"


def test_the_hash_of_a_data_set_changes_with_contents_and_labels_alone():
    photos = dataset(GOOD)
    assert dataset_hash(photos) == dataset_hash(dataset(GOOD, "e" * 20))
    assert dataset_hash(photos) != dataset_hash(dataset([1, *GOOD[1:]]))


def test_the_card_tells_counts_sources_terms_and_hash(tmp_path):
    shop = photo_shop(tmp_path)
    shop.see({f"{number:02}": np.eye(20)[number] for number in range(20)})
    shop.say(*(word(f"{number:02}", "pool", by="a|b") for number in range(20)))
    checks, photos = check_labels(shop.photos)
    assert photos is not None
    card = dataset_card(photos, taxonomy(), shop.photos.labels.current(), checks, "network-1", "CC0")
    assert "| pool | 20 |" in card
    assert "| person | a\\|b | 20 |" in card
    assert "- Licences and terms: CC0" in card
    assert f"`{dataset_hash(photos)}`" in card
