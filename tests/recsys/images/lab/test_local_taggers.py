"""Versions of a tagger in the folder of a shop."""

import os
from dataclasses import replace

import pytest

from recsys.errors import ModelError
from recsys.images.lab.local_taggers import local_tagger
from tests.helpers.reviewed_photos import tagger


def test_tagger_is_the_champion_or_the_newest_or_the_version_asked_for(tmp_path):
    for seconds, (name, sure) in enumerate((("rooms-b", 0.5), ("rooms-a", 0.6))):
        folder = tmp_path / "taggers" / "rooms" / name
        replace(tagger(), sure=sure).save(folder)
        os.utime(folder, (seconds, seconds))
    assert local_tagger(tmp_path, "rooms").sure == 0.6
    assert local_tagger(tmp_path, "rooms:rooms-b").sure == 0.5
    with pytest.raises(ModelError, match="has no champion"):
        local_tagger(tmp_path, "rooms:champion")
    (tmp_path / "taggers/rooms/champion").write_text("rooms-b\n")
    assert local_tagger(tmp_path, "rooms").sure == local_tagger(tmp_path, "rooms:champion").sure == 0.5


def test_tagger_that_is_not_there_says_which_are(tmp_path):
    with pytest.raises(ModelError, match="there is none yet: train one"):
        local_tagger(tmp_path, "rooms")
    tagger().save(tmp_path / "taggers/rooms/rooms-a")
    with pytest.raises(ModelError, match="must be one of rooms; did you mean 'rooms'"):
        local_tagger(tmp_path, "room")
    with pytest.raises(ModelError, match="must be one of rooms-a"):
        local_tagger(tmp_path, "rooms:rooms-x")
