import os

import pytest

from cli.commands.tagger.export import _folder_of
from recsys.errors import ModelError


def test_version_asked_for_is_exported_or_else_the_one_trained_last(tmp_path):
    versions = tmp_path / "rooms"
    for name, seconds in (("rooms-b", 1), ("rooms-a", 3), ("rooms-c", 2), (".tmp-1", 4)):
        (versions / name).mkdir(parents=True)
        (versions / name / "tagger.json").write_text("{}")
        os.utime(versions / name / "tagger.json", (seconds, seconds))
    assert _folder_of(versions, None) == versions / "rooms-a"
    assert _folder_of(versions, "rooms-b") == versions / "rooms-b"
    with pytest.raises(ModelError, match="'rooms-x', must be one of rooms-b, rooms-c or rooms-a"):
        _folder_of(versions, "rooms-x")


def test_taxonomy_without_a_trained_tagger_is_an_error_that_says_how_to_train_one(tmp_path):
    with pytest.raises(ModelError, match="recsys tagger train rooms"):
        _folder_of(tmp_path / "rooms", None)
