import os

import pytest

from jobs.engine import small_shops
from jobs.engine.session import _launch_options, _unsaid_options
from recsys.config.pipeline import RawTable, SourceSettings
from recsys.config.settings import Settings
from tests.helpers.small_shop import SmallShop

JAVA, CODEGEN, PARTITIONS = (
    *("spark.driver.extraJavaOptions", "spark.sql.codegen.wholeStage", "spark.sql.shuffle.partitions"),
)


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Of a shop with 30 bytes of raw files."""
    raw = {name: RawTable(path=str(tmp_path / "raw" / name)) for name in ("sales", "events")}
    source = SourceSettings(sql=str(tmp_path), raw=raw)
    for name, size in {"sales/a": 10, "events/day=1/a": 15, "events/day=2/a": 5}.items():
        file = tmp_path / "raw" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(size))
    return Settings(folder=str(tmp_path), source=source)


@pytest.mark.parametrize(("most", "is_small"), [(30, True), (29, False)])
def test_shop_is_small_up_to_a_number_of_bytes_of_all_raw_files(settings, monkeypatch, tmp_path, most, is_small):
    monkeypatch.setattr(small_shops, "SMALL_BYTES", most)
    launched, options = _launch_options(settings, tmp_path), _unsaid_options({}, settings, tmp_path)
    assert ("TieredStopAtLevel=1" in launched[JAVA]) == is_small
    assert (options.get(CODEGEN) == "false") == is_small
    assert int(options[PARTITIONS]) == (1 if is_small else 4) * os.cpu_count()


@pytest.mark.parametrize("raw", [{"path": "s3://b/events"}, {"pattern": "hdfs://c/*.csv"}, {"table": "lake.events"}])
def test_shop_whose_bytes_are_not_known_is_not_small(settings, tmp_path, raw):
    source = settings.source.model_copy(update={"raw": {**settings.source.raw, "events": RawTable(**raw)}})
    assert small_shops.is_small(settings.source)
    assert not small_shops.is_small(source)


def test_cluster_has_no_options_of_a_small_shop(tmp_path):
    settings = SmallShop(tmp_path).settings(spark={"master": "spark://head:7077"})
    assert small_shops.is_small(settings.source)
    assert "TieredStopAtLevel" not in _launch_options(settings, tmp_path)[JAVA]
    assert not _unsaid_options({}, settings, tmp_path).keys() & {CODEGEN, PARTITIONS}


def test_configuration_wins_over_the_options_of_a_small_shop(tmp_path):
    conf = {JAVA: "-Xss1m", CODEGEN: "true", PARTITIONS: "8"}
    settings = SmallShop(tmp_path).settings(spark={"conf": conf})
    assert conf.items() <= {**_launch_options(settings, tmp_path), **_unsaid_options({}, settings, tmp_path)}.items()
