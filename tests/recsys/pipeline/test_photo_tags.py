from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys.errors import ModelError
from recsys.images.settings import TaggerSettings
from recsys.images.tagging.tag_store import OUTPUTS, TagStore
from recsys.images.tagging.taggers import tagger_files
from recsys.pipeline.photo_tags import ShopTagger, joined_tags, sale_labels
from recsys.tables.parts import write_table
from tests.helpers.trained_taggers import taxonomy, trained

EMBEDDINGS = {"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 1], "d": [3, 3, 0]}
HASHES = pa.array(sorted(EMBEDDINGS))


@pytest.fixture
def store(tmp_path) -> TagStore:
    found = TagStore(tmp_path, "network-1")
    rows = [
        {"image_hash": each, "outputs": [2, 0, 1], "probabilities": [0.5, 0.3, 0.2], "embedding": embedding}
        for each, embedding in EMBEDDINGS.items()
    ]
    with found.new_outputs() as folder:
        rows.append({"image_hash": "broken", "reason": "truncated"})
        write_table(pa.Table.from_pylist(rows, OUTPUTS), folder)
    return found


def tagger_of(tagger) -> ShopTagger:
    return ShopTagger(TaggerSettings(), None, tagger)


def test_named_tagger_gives_its_labels_to_the_stored_outputs(store):
    files = replace(tagger_files(TaggerSettings()), labels=["beach", "city", "forest"])
    found = ShopTagger(TaggerSettings(), files).tags(store, HASHES, 2)
    assert list(found.index) == ["a", "b", "c", "d"]
    assert found["tags"].tolist() == [["forest", "beach"]] * 4
    assert found["probabilities"]["a"] == pytest.approx([0.5, 0.3])
    assert found["label"].tolist() == [None] * 4


def test_single_label_tagger_gives_no_tag_to_photos_of_no_label_and_is_sure_from_its_margin_on(store):
    # logits of a: (5, 0, 0), of b: (0, 5, 0), of c: (0, 0, 5) none of these, of d: (5, 5, 0) / sqrt 2
    head = trained(taxonomy(), [[5, 0, 0], [0, 5, 0], [0, 0, 5]], sure=0.9)
    found = tagger_of(head).tags(store, HASHES, 5)
    assert found["tags"].tolist() == [["suite", "pool"], ["pool", "suite"], [], ["suite", "pool"]]
    assert found["label"].tolist() == ["suite", "pool", None, None]
    shares = np.exp([5, 0, 0]) / np.exp([5, 0, 0]).sum()
    assert found["probabilities"]["a"] == pytest.approx(shares[:2], rel=1e-5)


def test_multi_label_tagger_gives_the_labels_that_reach_their_thresholds(store):
    head = trained(taxonomy(kind="multi"), [[2, 2], [-2, 0], [-2, -2]], thresholds=np.array([0.5, 0.9], np.float32))
    found = tagger_of(head).tags(store, HASHES, 5)
    assert found["tags"].tolist() == [["suite"], [], [], ["suite"]]  # pool of a: 1 / (1 + e^-2) = .88 < .9
    assert found["probabilities"]["d"] == pytest.approx([0.5])


def test_head_on_embeddings_of_another_network_is_refused():
    with pytest.raises(ModelError, match=r"tagger rooms-\w+: its network has version efficientnet_lite0-\w+, must be"):
        ShopTagger.of_taxonomy(trained(taxonomy(), [[1, 0]]))


def photos(**tags: dict[str, float]) -> pd.DataFrame:
    columns = {"tags": [list(each) for each in tags.values()], "probabilities": [[*x.values()] for x in tags.values()]}
    return pd.DataFrame({**columns, "label": None}, index=list(tags), dtype=object)


def test_weights_of_one_tagger_are_its_probabilities():
    found = joined_tags([photos(a={"beach": 0.4, "city": 0.1})])
    assert found.loc["a"].tolist() == [["beach", "city"], [0.4, 0.1], [0.4, 0.1]]


def test_tags_of_two_taggers_have_the_same_sum_of_weights_and_a_common_tag_both():
    first, second = photos(a={"beach": 0.6, "pool": 0.2}, b={"city": 0.1}), photos(a={"pool": 0.05}, c={"suite": 1.0})
    found = joined_tags([first, second])
    assert found["tags"].to_dict() == {"a": ["pool", "beach"], "b": ["city"], "c": ["suite"]}
    assert found["weights"]["a"] == pytest.approx([0.25 + 1, 0.75])
    assert found["probabilities"]["a"] == [0.2, 0.6]
    assert found["weights"][["b", "c"]].tolist() == [[1.0], [1.0]]


def test_sale_has_the_label_that_its_photos_show_most_counting_the_cover_more():
    rows = [
        ("s1", 1, "a"),
        ("s1", 0, "b"),
        ("s1", 2, "a"),
        ("s2", 3, "a"),
        ("s2", 5, "c"),
        ("s3", 0, "c"),
        ("s4", 0, "z"),
    ]
    sales = pd.DataFrame(rows, columns=["sale_id", "position", "image_hash"])
    labels = pd.Series({"a": "suite", "b": "pool", "c": None})
    heavy, light = (sale_labels(sales, labels, "rooms", weight).to_numpy().tolist() for weight in (3.0, 1.5))
    assert heavy == [["s1", "rooms", "pool"], ["s2", "rooms", "suite"]]
    assert light == [["s1", "rooms", "suite"], ["s2", "rooms", "suite"]]
