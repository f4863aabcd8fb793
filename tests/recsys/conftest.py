"""A folder on each kind of store: nothing that is tested here differs between them."""

import pytest

from recsys.storage.places import Place, place


@pytest.fixture(params=["disk", "s3", "memory"])
def folder(request: pytest.FixtureRequest) -> Place:
    """A folder that does not exist yet."""
    tmp_path = request.getfixturevalue("tmp_path")
    if request.param == "disk":
        return tmp_path / "folder"
    if request.param == "memory":
        return place(f"memory://{tmp_path.name}")
    store = request.getfixturevalue("object_store")
    store.fault = lambda method, path: None
    return store(tmp_path.name)
