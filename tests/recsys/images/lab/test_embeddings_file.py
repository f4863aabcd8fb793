import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.errors import ConfigurationError, EmptyInputError
from recsys.images.lab.embeddings_file import write_embeddings
from recsys.images.lab.shop_photos import Photos

PHOTOS = Photos(
    np.array(["aa", "bb"]), np.array(["/x/1.jpg", "/x/2.jpg"]), np.array([[1, 2, 3], [4, 5, 6]], np.float32)
)


def test_parquet_file_has_a_row_per_photo_and_the_version(tmp_path):
    write_embeddings(PHOTOS, "network-1", tmp_path / "photos.parquet")
    table = pq.read_table(tmp_path / "photos.parquet")
    assert table.to_pylist() == [
        {"image_hash": "aa", "image_uri": "/x/1.jpg", "embedding": [1, 2, 3]},
        {"image_hash": "bb", "image_uri": "/x/2.jpg", "embedding": [4, 5, 6]},
    ]
    assert table.schema.metadata[b"embedding_version"] == b"network-1"


def test_npz_file_has_an_array_per_column_and_the_version(tmp_path):
    write_embeddings(PHOTOS, "network-1", tmp_path / "photos.npz")
    with np.load(tmp_path / "photos.npz", allow_pickle=False) as arrays:
        assert arrays["image_hash"].tolist() == ["aa", "bb"]
        assert arrays["image_uri"].tolist() == ["/x/1.jpg", "/x/2.jpg"]
        assert arrays["embedding"].tolist() == [[1, 2, 3], [4, 5, 6]]
        assert str(arrays["embedding_version"]) == "network-1"


def test_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"photos\.csv', must end with \.parquet or \.npz"):
        write_embeddings(PHOTOS, "network-1", tmp_path / "photos.csv")


def test_shop_without_embeddings_is_an_error_with_the_next_step(tmp_path):
    none = Photos(np.array([], np.str_), np.array([], np.str_), np.zeros((0, 0), np.float32))
    with pytest.raises(EmptyInputError, match="recsys nightly"):
        write_embeddings(none, "network-1", tmp_path / "photos.npz")
