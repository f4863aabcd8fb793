import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from jobs.lab.train_tagger import train_tagger
from recsys.config.settings import Settings
from recsys.errors import EmptyInputError
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.trained_tagger import TrainedTagger
from tests.helpers.random_dataset import labelled_photos

AT = datetime(2026, 3, 1, tzinfo=UTC)
LABELS = ("suite", "bathroom", "pool")


@dataclass
class Shop:
    """Stands for `ShopPhotos`."""

    photos: Dataset
    version: str = "base-1"

    def of(self, *_: object) -> "Shop":
        return self

    def dataset(self) -> Dataset:
        return self.photos


@pytest.fixture
def shop(monkeypatch) -> Shop:
    shop = Shop(replace(labelled_photos(spread=0.5), labels=list(LABELS)))
    monkeypatch.setattr("jobs.lab.train_tagger.ShopPhotos", shop)
    return shop


@pytest.fixture
def settings(tmp_path) -> Settings:
    (tmp_path / "taxonomies").mkdir()
    labels = "".join(f"- {{id: {label}}}\n" for label in LABELS)
    (tmp_path / "taxonomies/rooms.yaml").write_text(f"schema_version: 1\nname: rooms\nlabels:\n{labels}")
    base = {"folder": str(tmp_path / "out"), "images": {"taxonomies": str(tmp_path / "taxonomies")}}
    return Settings.model_construct(
        **base | {"images": Settings.model_fields["images"].default.model_copy(update=base["images"])}
    )


def test_version_is_saved_with_its_card_and_loads_as_it_was(shop, settings):
    trained = train_tagger(settings, "rooms", AT, "linear")
    read = TrainedTagger.load(trained.folder)
    assert (read.version, read.base_version, trained.folder.name) == (trained.tagger.version, "base-1", read.version)
    assert np.array_equal(read.head.weights[0], trained.tagger.head.weights[0])
    card = json.loads(json.dumps(read.card, allow_nan=False))
    assert card["trained_at"] == "2026-03-01T00:00:00+00:00"
    assert card["photos"] == {"train": 84, "validation": 12, "test": 24}
    assert card["photos_by_label"] == {"suite": 40, "bathroom": 30, "pool": 50}
    assert (card["head"], card["measured_on"], card["photos_measured"]) == ("linear", "5 folds", 120)
    assert card["top_1"][0] == trained.held.is_right.mean()
    assert card["previous"] is None


def test_same_labels_give_the_same_version_written_once(shop, settings):
    first, second = (train_tagger(settings, "rooms", AT, "linear") for _ in range(2))
    assert first.folder == second.folder
    assert len(list(first.folder.parent.glob("rooms-*"))) == 1
    assert second.previous is None


def test_new_version_is_compared_with_the_one_before_on_the_test_part(shop, settings):
    labels = shop.photos.targets
    shop.photos = replace(
        shop.photos, targets=np.where((shop.photos.parts == "test")[:, None], labels, labels[:, ::-1])
    )
    wrong = train_tagger(settings, "rooms", AT, "linear")
    shop.photos = replace(shop.photos, targets=labels)
    right = train_tagger(settings, "rooms", AT, "linear")
    assert right.previous == wrong.tagger.version
    assert right.comparison.only_old == 0
    assert right.comparison.only_new > 10
    assert right.comparison.p_value < 0.001
    assert right.tagger.card["difference_to_previous"]["only_new"] == right.comparison.only_new


def test_versions_of_different_base_networks_are_not_compared(shop, settings, caplog):
    train_tagger(settings, "rooms", AT, "linear")
    shop.version = "base-2"
    trained = train_tagger(settings, "rooms", AT, "linear")
    assert trained.comparison is None
    assert "of base network base-1, this one of base-2" in caplog.text


def test_label_with_few_photos_is_named_and_not_learnt(shop, settings, caplog):
    few = np.flatnonzero(shop.photos.targets[:, 1] & (shop.photos.parts == "train"))[3:]
    few = np.concatenate([few, np.flatnonzero(shop.photos.targets[:, 1] & (shop.photos.parts == "validation"))])
    shop.photos = shop.photos.where(~np.isin(np.arange(120), few))
    trained = train_tagger(settings, "rooms", AT, "linear")
    assert trained.left_out == {"bathroom": 3}
    assert trained.tagger.head.labels == ["suite", "pool"]
    assert "not learnt for want of photos: 'bathroom' (3 photos)" in caplog.text


def test_killed_training_leaves_nothing_and_starts_clean(shop, settings, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            "recsys.images.lab.trained_tagger.put_in_place", lambda *_: (_ for _ in ()).throw(OSError("full"))
        )
        with pytest.raises(OSError, match="full"):
            train_tagger(settings, "rooms", AT, "linear")
    assert list((settings.snapshots_folder.parent / "taggers/rooms").glob("rooms-*")) == []
    assert train_tagger(settings, "rooms", AT, "linear").folder.is_dir()


def test_one_label_only_is_refused(shop, settings):
    shop.photos = shop.photos.where(shop.photos.targets[:, 0])
    with pytest.raises(EmptyInputError, match="needs 2"):
        train_tagger(settings, "rooms", AT)
