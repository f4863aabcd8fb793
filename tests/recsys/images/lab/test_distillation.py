import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import ConfigurationError, EmptyInputError
from recsys.images.lab import distillation
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.distillation import Answered
from recsys.images.lab.shop_photos import ShopPhotos
from recsys.images.lab.taxonomy import LabelSettings, Taxonomy
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.settings import ImageSettings


def answered(n_photos: int = 200, seed: int = 0) -> Dataset:
    """Photos that show each of three things with chance, and a label that only three photos have."""
    random = np.random.default_rng(seed)
    shown = random.random((n_photos, 4)) < [0.5, 0.3, 0.15, 0]
    shown[:3, 3] = True
    embeddings = np.column_stack([shown @ np.eye(4, 12) + random.normal(0, 0.1, (n_photos, 12))]).astype(np.float32)
    embeddings[:, 11] += 1  # a photo that shows nothing has a direction too
    hashes = np.array([f"{number:03}" for number in range(n_photos)])
    parts = np.where(np.arange(n_photos) % 10 < 7, "train", "test")
    return Dataset(list("abcd"), "multi", hashes, hashes, embeddings, shown, np.arange(n_photos), parts)


def test_labels_are_repeated_and_a_rare_one_is_left_out_with_its_reason():
    found = distillation.distil(answered())
    assert found.head.labels == ["a", "b", "c"]
    assert found.left_out == {"d": "3 photos to learn from, needs 5"}
    assert found.averages.micro[2] > 0.95
    assert found.averages.accuracy > 0.95 > found.averages.always_no
    assert found.learnt == dict(zip("abc", answered().part("train").targets[:, :3].sum(0).tolist(), strict=True))
    assert (found.n_learnt, found.n_judged, found.judged_by) == (140, 200, "5 folds")


def test_figures_are_of_the_head_on_a_test_part_of_300():
    dataset = answered(1000, seed=1)
    found = distillation.distil(dataset)
    test = dataset.part("test")
    said, true = found.head.probabilities(test.embeddings) >= found.head.thresholds, test.targets[:, :3]
    assert (found.n_judged, found.judged_by) == (300, "test part")
    assert found.averages.accuracy == (said == true).mean()
    assert found.averages.always_no == pytest.approx((~true).mean())
    assert [each.support for each in found.by_label] == true.sum(0).tolist()


def test_labels_of_the_test_part_change_nothing_of_the_head():
    dataset = answered()
    targets = dataset.targets.copy()
    targets[dataset.parts == "test"] = False
    before, after = distillation.distil(dataset), distillation.distil(replace(dataset, targets=targets))
    np.testing.assert_array_equal(before.head.thresholds, after.head.thresholds)
    np.testing.assert_array_equal(before.head.weights[0], after.head.weights[0])
    assert before.sure == after.sure


def test_answers_that_show_no_label_often_enough_are_an_error():
    with pytest.raises(EmptyInputError, match="'a' 0, 'b' 0"):
        distillation.distil(replace(answered(), targets=np.zeros((200, 4), bool)))


@dataclass(frozen=True)
class SeenShop(ShopPhotos):
    """A shop whose photos are known already: by the number that is their name, and no more than 200."""

    def embed(self, uris, root=None, on_progress=None):  # noqa: ARG002
        rows = [{"image_uri": uri, "image_hash": uri[-7:-4], "reason": None, "detail": None} for uri in uris]
        for row in rows:
            if row["image_hash"] > "199":
                row |= {"image_hash": None, "reason": "missing", "detail": "no such file"}
        names = ("image_uri", "image_hash", "reason", "detail")
        return pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in names]))

    def dataset(self):
        everything = answered()
        labels = {row["image_hash"]: row["labels"] for row in self.labels.current().to_pylist()}
        targets = np.array([[label in labels.get(each, ()) for label in "abcd"] for each in everything.image_hashes])
        is_labelled = np.isin(everything.image_hashes, list(labels))
        return replace(everything, targets=targets).where(is_labelled)


def seen_shop(folder, kind="multi") -> SeenShop:
    labels = tuple(LabelSettings(id=each) for each in "abcd")
    taxonomy = Taxonomy(schema_version=1, name="things", kind=kind, labels=labels)
    return SeenShop(folder, folder, ImageSettings(root="/photos"), taxonomy, "version")


def test_answers_become_labels_and_a_saved_tagger_whose_card_names_service_and_terms(tmp_path):
    everything = answered()
    rows = [
        f"{image_hash}.jpg,{'|'.join(np.array(list('abcd'))[target])}"
        for image_hash, target in zip(everything.image_hashes, everything.targets, strict=True)
    ]
    (tmp_path / "answers.csv").write_text("\n".join(["image_uri,labels", *rows, "200.jpg,a", "001.jpg,e"]))
    shop = seen_shop(tmp_path)
    service = Answered("vision service", "contract of 2026", datetime(2026, 3, 1, tzinfo=UTC))
    tagger, found, aside = distillation.distil_answers(shop, tmp_path / "answers.csv", service)
    assert found.head.labels == ["a", "b", "c"]
    assert [(each.line, each.image_uri, each.reason.split(":")[0]) for each in aside] == [
        (203, "001.jpg", "unknown label"),
        (None, "/photos/200.jpg", "no such file"),
    ]
    history = shop.labels.history()
    assert history.num_rows == 200
    assert {(row["source"], row["by"]) for row in history.to_pylist()} == {("api", "vision service")}
    saved = TrainedTagger.load(tmp_path / "taggers" / "things" / tagger.version)
    assert saved.version == tagger.version
    assert saved.network_files().network_version == saved.base_version  # or no night would use it
    assert saved.head.kind == "multi"
    assert saved.card["distilled_from"] == {
        "service": "vision service",
        "terms": "contract of 2026",
        "at": "2026-03-01T00:00:00+00:00",
    }
    assert saved.card["answers"] == {"file": "answers.csv", "photos": 200, "left_aside": 2}
    assert saved.card["averages"]["accuracy"] == found.averages.accuracy
    assert saved.card["left_out"] == {"d": "3 photos to learn from, needs 5"}
    again, _, _ = distillation.distil_answers(shop, tmp_path / "answers.csv", service)
    assert again.version == tagger.version
    assert shop.labels.history().num_rows == 200
    assert json.loads(json.dumps(dict(tagger.card)))


def test_a_taxonomy_of_kind_single_is_refused_before_anything_is_stored(tmp_path):
    shop = seen_shop(tmp_path, "single")
    with pytest.raises(ConfigurationError, match="kind == 'single', must be 'multi'"):
        distillation.distil_answers(
            shop, tmp_path / "answers.csv", Answered("s", "t", datetime(2026, 3, 1, tzinfo=UTC))
        )
    assert shop.labels.history().num_rows == 0
