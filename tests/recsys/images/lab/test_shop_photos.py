import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import EmptyInputError
from recsys.images.lab.shop_photos import ShopPhotos, targets_of
from recsys.images.tagging import tagging
from recsys.images.tagging.tag_store import OUTPUTS
from tests.helpers.labelled_photos import photo_shop, taxonomy, word
from tests.helpers.small_photos import write_photo


def test_dataset_is_the_labelled_photos_with_embeddings_by_hash(tmp_path):
    shop = photo_shop(tmp_path)
    shop.see({"c": [0, 0, 2], "a": [1, 0, 0], "b": [0, 1, 0], "unlabelled": [1, 1, 1]})
    shop.say(word("b"), word("c", "pool"), word("a", "suite"), word("unseen", "pool"))
    dataset = shop.photos.dataset()
    assert dataset.image_hashes.tolist() == ["a", "b", "c"]
    assert dataset.image_uris.tolist() == ["/p/a.jpg", "/p/b.jpg", "/p/c.jpg"]
    assert dataset.embeddings.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 2]]
    assert dataset.classes.tolist() == [0, 3, 2]
    assert shop.photos.photos().image_hashes.tolist() == ["a", "b", "c", "unlabelled"]
    assert shop.photos.photos().embeddings.shape == (4, 3)


def test_parts_are_remembered_when_the_same_photos_are_found_alike_later(tmp_path):
    shop = photo_shop(tmp_path)
    photos = {f"{number:02}": np.eye(40)[number] for number in range(40)}
    shop.see(photos)
    shop.say(*(word(each, "pool") for each in photos))
    before = dict(zip(photos, shop.photos.dataset().parts.tolist(), strict=True))
    trained, tested = (next(each for each in photos if before[each] == part) for part in ("train", "test"))
    shop.see({trained: photos[tested]})  # another network finds them alike
    after = dict(zip(photos, shop.photos.dataset().parts.tolist(), strict=True))
    assert after == before | {trained: "test"}
    shop.see({trained: photos[trained]})  # no longer alike, but seen in the test part
    assert dict(zip(photos, shop.photos.dataset().parts.tolist(), strict=True)) == after


def test_photos_of_a_sale_of_the_latest_night_are_one_group(tmp_path):
    shop = photo_shop(tmp_path, root="/p")
    shop.see({"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 1]})
    shop.say(*(word(each, "pool") for each in "abc"))
    for night, rows in (("20260301", [("1", "a"), ("1", "b")]), ("20260302", [("2", "b"), ("2", "c")])):
        folder = tmp_path / "nights" / night / "sale_images"
        folder.mkdir(parents=True)
        images = {"sale_id": [sale for sale, _ in rows], "image_uri": [f"{photo}.jpg" for _, photo in rows]}
        pq.write_table(pa.table(images), folder / "part.parquet")
    assert shop.photos.sales_of(["a", "b", "c"]) == [set(), {"2"}, {"2"}]
    assert shop.photos.dataset().groups.tolist() == [0, 1, 1]


def test_a_shop_without_labels_says_how_to_get_some(tmp_path):
    with pytest.raises(EmptyInputError, match="recsys tagger label import rooms"):
        photo_shop(tmp_path).photos.dataset()
    assert len(photo_shop(tmp_path).photos.photos()) == 0


def test_targets_of_kind_multi_have_the_parents():
    rooms = taxonomy(kind="multi")
    found = targets_of([["suite_sea"], ["pool", "former"], [], ["former"]], rooms)
    assert found == [[True, True, False], [False, False, True], [False, False, False], None]


def test_targets_of_kind_single_are_one_or_none_of_these():
    said = [["suite_sea"], [], ["pool", "suite"], ["former"]]
    assert targets_of(said, taxonomy()) == [[False, True, False], [False, False, False], None, None]
    assert targets_of([[]], taxonomy(other=None)) == [None]


@pytest.fixture
def network(monkeypatch) -> list[str]:
    """Stands in for the base network; returns the photos that it sees. It fails on green ones."""
    seen: list[str] = []

    def tag_photos(batches, settings, network, worker):
        for batch in batches:
            for row in batch.to_pylist():
                seen.append(row["image_uri"])
                is_green = row["image_uri"].endswith("green.bmp")
                result = {"reason": "not_an_image", "detail": "green"} if is_green else {"embedding": [1.0, 0.0]}
                yield pa.RecordBatch.from_pylist([{"image_hash": row["image_hash"], **result}], OUTPUTS)

    monkeypatch.setattr(tagging, "tag_photos", tag_photos)
    return seen


def embedded(photos: ShopPhotos, *uris: str) -> dict[str, str | None]:
    rows = photos.embed(uris).to_pylist()
    return {row["image_uri"].rsplit("/", 1)[-1]: row["reason"] for row in rows}


def test_embed_shows_the_network_each_content_once_and_tells_what_failed(tmp_path, network):
    photos = photo_shop(tmp_path / "shop", root=str(tmp_path)).photos
    for name, colour in (("red", (255, 0, 0)), ("copy", (255, 0, 0)), ("green", (0, 255, 0))):
        write_photo(tmp_path / f"{name}.bmp", colour)
    names = ("red.bmp", "copy.bmp", "green.bmp", "absent.bmp", "/etc/hostname")
    expected = dict(zip([*names[:4], "hostname"], [None, None, "not_an_image", "missing", "refused"], strict=True))
    assert embedded(photos, *names) == expected
    assert len(network) == 2
    assert embedded(photos, *names) == expected
    assert len(network) == 2  # nothing is seen twice


def test_embed_goes_on_where_it_was_killed(tmp_path, network, monkeypatch):
    monkeypatch.setattr("recsys.images.lab.shop_photos.PART_PHOTOS", 2)
    photos = photo_shop(tmp_path / "shop", root=str(tmp_path)).photos
    names = [f"{number}.bmp" for number in range(6)]
    for number, name in enumerate(names):
        write_photo(tmp_path / name, (number, 0, 0))

    def killed(what: str, done: int, total: int) -> None:
        if what != "read" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        photos.embed(names, None, killed)
    assert len(network) == 4
    assert set(embedded(photos, *names).values()) == {None}
    assert len(network) == len(set(network)) == 6
