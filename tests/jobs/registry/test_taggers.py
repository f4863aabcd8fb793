from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from jobs.registry import taggers
from jobs.registry.promote_model import Asked
from jobs.registry.taggers import (
    TaggerEvidence,
    promote_tagger,
    read_tagger,
    register_tagger,
    rollback_tagger,
    tagger_versions,
    version_of,
)
from recsys.errors import ConfigurationError, ModelError, RegistryError
from recsys.images.lab.local_taggers import local_tagger
from recsys.images.lab.trained_tagger import TrainedTagger
from tests.helpers.small_shop import SmallShop
from tests.helpers.trained_taggers import taxonomy, trained

ASKED = Asked(datetime(2026, 3, 1, tzinfo=UTC), "ann")


@pytest.fixture
def settings(tmp_path):
    return SmallShop(tmp_path).write([], []).settings()


def tagger(scale: float) -> TrainedTagger:
    found = trained(taxonomy(), [[scale, 0, 0], [0, scale, 0]])
    return replace(found, card={"top_1": [scale / 10, 0.0, 1.0], "seed": 7, "head": "linear"})


def version(scale: float) -> str:
    return tagger(scale).version


def registered(settings, tmp_path, scale: float) -> str:
    folder = tmp_path / f"trained-{scale}"
    if not folder.exists():
        tagger(scale).save(folder)
    return register_tagger(settings, tagger(scale), folder)


def test_first_version_is_the_champion_and_the_next_the_challenger(settings, tmp_path):
    assert [registered(settings, tmp_path, scale) for scale in (1, 2, 1)] == ["1", "2", "1"]
    found = tagger_versions(settings, "rooms")
    assert [(each.number, each.aliases, each.metrics) for each in found] == [
        ("2", ("challenger",), {"top_1": 0.2}),
        ("1", ("champion",), {"top_1": 0.1}),
    ]
    assert [version_of(settings, "rooms", name) for name in ("champion", "challenger")] == [version(1), version(2)]


def test_version_is_read_as_it_was_trained(settings, tmp_path):
    registered(settings, tmp_path, 3)
    found, expected = read_tagger(settings, "rooms", version(3)), tagger(3)
    assert (found.version, found.taxonomy, found.card) == (expected.version, expected.taxonomy, expected.card)
    embeddings = np.eye(2, dtype=np.float32)
    np.testing.assert_array_equal(found.head.probabilities(embeddings), expected.head.probabilities(embeddings))


def test_version_or_alias_that_does_not_exist_says_what_to_do(settings):
    for name, kind in (("champion", "alias"), ("7", "version")):
        with pytest.raises(ModelError, match=f"tagger 'rooms' has no {kind} '{name}': train one with 'recsys tagger"):
            version_of(settings, "rooms", name)


@pytest.mark.parametrize(
    ("low", "is_promoted"), [(-0.009, True), (-0.01, False), (None, False)], ids=["not worse", "worse", "not compared"]
)
def test_version_is_promoted_where_it_is_not_worse_by_a_point(settings, tmp_path, low, is_promoted):
    for scale in (1, 2):
        registered(settings, tmp_path, scale)
    evidence = None if low is None else TaggerEvidence(0.0, low, 0.02, 140)
    if is_promoted:
        change = promote_tagger(settings, "rooms", "challenger", ASKED, evidence)
        assert (change.before, change.after, change.why) == ("1", "2", str(evidence))
        assert [each.aliases for each in tagger_versions(settings, "rooms")] == [("champion",), ()]
        rollback_tagger(settings, "rooms", ASKED)
        assert version_of(settings, "rooms", "champion") == version(1)
        with pytest.raises(ModelError, match="tagger rooms has no earlier champion"):
            rollback_tagger(settings, "rooms", ASKED)
    else:
        with pytest.raises(ModelError, match=r"version 2 against the champion, version 1: .* must be above -0\.01"):
            promote_tagger(settings, "rooms", "2", ASKED, evidence)
        with pytest.raises(ConfigurationError, match="--why == '', must give the reason"):
            promote_tagger(settings, "rooms", "2", ASKED, evidence, force=True)
        assert promote_tagger(settings, "rooms", "2", ASKED._replace(why="asked for"), evidence, force=True).forced


def test_champion_of_the_last_night_is_used_while_mlflow_is_silent(settings, tmp_path, monkeypatch):
    registered(settings, tmp_path, 1)
    assert version_of(settings, "rooms", "champion") == version(1)
    read_tagger(settings, "rooms", version(1))

    def silent(*_: object) -> None:
        raise RegistryError("MLflow does not answer")

    monkeypatch.setattr(taggers, "client_of", silent)
    assert version_of(settings, "rooms", "champion") == version(1)
    assert local_tagger(tmp_path / "var", "rooms:champion").version == version(1)
    assert read_tagger(settings, "rooms", version(1)).taxonomy.name == "rooms"
    with pytest.raises(RegistryError):
        version_of(settings, "rooms", "challenger")
