import numpy as np
import pyarrow as pa
import pytest
from growthbook.core import gbhash
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from recsys.experiments.hashing import BUCKETS, Split, bucket, buckets, code_units, fnv1a32

UNITS = ["u-1", "", "a-much-longer-user-id-than-the-others", "Zoë", "日本", "🎉🚀", "\ue000\U0010ffff", "u-1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)],  # of the authors of FNV
)
def test_fnv_gives_the_published_hashes(text, expected):
    assert fnv1a32(code_units(text)) == expected


def test_bucket_is_the_hash_of_the_decimal_digits_of_the_hash():
    inner = fnv1a32(b"seed:user-7")
    assert bucket("seed:", "user-7") == fnv1a32(str(inner).encode()) % 10_000


def test_text_that_is_not_ascii_is_hashed_by_utf16_code_units():
    assert list(code_units("é🎉")) == [0xE9, 0xD83C, 0xDF89]


@given(st.text(), st.text())
def test_growthbook_gives_the_same_buckets(seed, unit):
    assert bucket(seed, unit) / BUCKETS == gbhash(seed, unit, 2)


@given(st.text(max_size=5), st.lists(st.text(), max_size=12))
def test_buckets_of_many_units_agree_with_one_at_a_time(seed, units):
    assert buckets(seed, units).tolist() == [bucket(seed, unit) for unit in units]


def test_arrow_arrays_are_read_too():
    whole = pa.array(UNITS)
    assert buckets("seed:é:", whole).tolist() == [bucket("seed:é:", unit) for unit in UNITS]
    assert buckets("a:", whole[2:5]).tolist() == buckets("a:", UNITS[2:5]).tolist()
    assert buckets("a:", pa.chunked_array([whole, whole[:1]])).tolist() == buckets("a:", [*UNITS, UNITS[0]]).tolist()


def test_numbers_of_every_length_are_hashed_without_leading_zeros():
    """Short inner hashes are rare: 100,000 users are enough for some with five digits."""
    units = [f"user-{number}" for number in range(100_000)]
    inner = [fnv1a32(f"s:{unit}".encode()) for unit in units]
    short = [unit for unit, value in zip(units, inner, strict=True) if value < 10**6]
    assert len(short) > 10
    assert buckets("s:", short).tolist() == [bucket("s:", unit) for unit in short]


def test_compiled_split_is_the_bucket():
    assert Split("layer:home:").bucket(code_units("user-3")) == bucket("layer:home:", "user-3")


def test_splits_by_60_similar_seeds_are_independent_in_pairs():
    """Of the χ² statistics of the 1,770 pairs over 20,000 users, about 5 % must exceed the 5 % critical value."""
    users = [f"user-{number:07d}" for number in range(20_000)]
    sides = np.array([np.where(buckets(f"experiment-{number}:1:", users) < 5_000, 1.0, -1.0) for number in range(60)])
    correlations = np.corrcoef(sides)[np.triu_indices(60, k=1)]
    assert np.mean(len(users) * correlations**2 > chi2.ppf(0.95, df=1)) == pytest.approx(0.05, abs=0.02)


def test_buckets_are_equally_likely():
    users = [f"user-{number}" for number in range(200_000)]
    counts = np.bincount(buckets("even:", users) // 100, minlength=100)
    assert ((counts - 2_000) ** 2 / 2_000).sum() < chi2.ppf(0.999, df=99)
