"""The configuration: YAML files → one typed, frozen, strict object."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError, field_validator

from recsys.config import strict_yaml
from recsys.config.console import ConsoleSettings
from recsys.config.demo_shop import DemoShopSettings
from recsys.config.pipeline import NightCheckSettings, RankingSettings, SourceSettings
from recsys.config.serving import ServingSettings
from recsys.errors import ConfigurationError
from recsys.images.settings import ImageSettings
from recsys.instants import Instant
from recsys.meta_model import META, MetaModelSettings
from recsys.recommenders import RecommenderSettings, recommenders
from recsys.recommenders.towers import NO_TOWERS
from recsys.settings import StepSettings
from recsys.shop.catalogue import Catalogue
from recsys.shop.gallery import Gallery
from recsys.shop.histories import HistorySettings
from recsys.snapshot.format import OPEN, POPULARITY
from recsys.snapshot.publishing import Publisher
from recsys.snapshot.shared import SharedSnapshots
from recsys.storage.places import Place, place
from recsys.wording import did_you_mean

_NO_PHOTOS = Gallery(np.zeros(1, np.int64), [], ["any"], np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32))
_NO_SALES = Catalogue([], np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), [], [], [], _NO_PHOTOS)
"""A catalogue for which every recommender exists, also those that only a shop with photos has."""


class SparkSettings(StepSettings):
    """The Spark session; what spark-submit, SPARK_REMOTE, PYSPARK_SUBMIT_ARGS and spark-defaults.conf say takes
    precedence."""

    master: str = "local[*]"
    """Spark's master URL: local[*] runs the jobs on this machine with all its cores; spark://, k8s:// and yarn on a
    cluster, sc:// by Spark Connect. See docs/cluster.md."""
    driver_memory: str = "4g"
    """Heap of the Java side, such as 4g; with a local master the driver is its only process."""
    python: str | None = None
    """Python of Spark's workers, such as environment/bin/python of an archive; by default the driver's own path on this
    machine and on a standalone cluster, python3 on others. The environment variable PYSPARK_PYTHON takes precedence."""
    event_log: str | None = None
    """Folder or URL for Spark's event log, which its history server reads; none by default."""
    ui: bool = False
    """Whether Spark's web pages are served while a job runs, on port 4040: to whoever reaches it, unless Spark's own
    settings restrict it."""
    conf: dict[str, str] = {}
    """Further settings of Spark by Spark's names for them."""


class MlflowSettings(StepSettings):
    """The MLflow registry of model versions."""

    tracking_uri: str | None = None
    """URI of MLflow's server or database; by default a SQLite file in `folder`."""
    experiment: str = "home_page"
    """MLflow experiment to which runs are logged."""
    model_name: str = "home_ranker"
    """Name of the registered model."""


class SnapshotSettings(StepSettings):
    """Published snapshots."""

    keep: int = Field(3, ge=2)
    """Number of snapshots that are retained, at least 2: the current one and those to roll back to."""
    keep_hourly: int = Field(2, ge=1)
    """Number of snapshots of hours between nights that are retained besides (`recsys nightly --hourly`)."""


class NightSettings(StepSettings):
    """The tables of nights, `<folder>/nights/<as_of>`, and the metrics and lineage of their steps."""

    keep: int = Field(3, ge=1)
    """Number of nights whose tables are retained when a night has been published, this one included. Those of later
    nights, and of the snapshots that are served now and after a rollback, stay besides: refreshes read them."""
    metrics: str | None = None
    """File of node_exporter's textfile collector (.prom), or URL of a Prometheus Pushgateway, that is told the
    duration, the start, the end or the failure of each step; none by default."""
    lineage: str | None = None
    """URL that OpenLineage events of each step are posted to, such as http://marquez:5000/api/v1/lineage, or file that
    they are appended to; none by default."""

    @field_validator("lineage")
    @classmethod
    def _is_url_or_file(cls, lineage: str | None) -> str | None:
        if lineage and "://" in lineage and not lineage.startswith(("http://", "https://")):
            raise ValueError("must be an http:// or https:// URL, or a file of this machine")
        return lineage


class Settings(StepSettings):
    """The configuration of a shop."""

    folder: str
    """Folder of all files that are written: on a disk that Spark's workers see under the same path, or in an object
    store by its URL, such as s3://bucket/shop."""
    disk: str | None = None
    """Folder of this machine's own disk for what no object store can hold: Spark's scratch files, snapshots that are
    mapped into memory, logs of a service until they are shipped. By default `folder` itself or, where that is a URL,
    .recsys/<bucket and path> in the working folder."""
    note: str = ""
    """Note on the data, shown beside every result."""
    as_of: Instant | None = None
    """Instant of the night if the command does not give one; by default today's midnight UTC."""
    horizon_hours: float = Field(36.0, ge=24)
    """Length of the horizon, in hours, at least 24: the night ranks every sale that is open at any instant of it. The
    default leaves 12 hours for a night that is late."""
    source: SourceSettings
    images: ImageSettings = ImageSettings()
    history: HistorySettings = HistorySettings()
    recommenders: RecommenderSettings = RecommenderSettings()
    meta_model: MetaModelSettings = MetaModelSettings()
    rankings: RankingSettings = RankingSettings()
    night_checks: NightCheckSettings = NightCheckSettings()
    snapshots: SnapshotSettings = SnapshotSettings()
    nights: NightSettings = NightSettings()
    spark: SparkSettings = SparkSettings()
    mlflow: MlflowSettings = MlflowSettings()
    serving: ServingSettings = ServingSettings()
    console: ConsoleSettings = ConsoleSettings()
    demo_shop: DemoShopSettings | None = None
    """The generated shop that `recsys demo` builds; absent for a real shop."""

    @field_validator("folder")
    @classmethod
    def _is_a_place(cls, folder: str) -> str:
        try:
            place(folder)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return folder

    @property
    def place(self) -> Place:
        """`folder` as a place: on a disk or in an object store."""
        return place(self.folder)

    @property
    def own_disk(self) -> Path:
        """Folder of this machine's own disk, for what no object store can hold."""
        if self.disk is not None:
            return Path(self.disk)
        where = self.place
        return where if isinstance(where, Path) else Path(".recsys", where.path.strip("/"))

    @property
    def snapshots_folder(self) -> Path:
        """Folder of the snapshots on this machine."""
        return self.own_disk / "snapshots"

    @property
    def publisher(self) -> Publisher:
        """What is published: in `snapshots_folder`, and in the object store where `folder` is in one."""
        where = self.place / "snapshots"
        return Publisher(self.snapshots_folder, None if isinstance(where, Path) else SharedSnapshots(where))


def load_settings(path: Path) -> Settings:
    """Return the settings of a configuration file; with `extends: other.yaml` its keys override those of that file.

    The path of the other file is relative to the folder of this one.

    Raises:
        ConfigurationError: If a key, a value or a name is wrong; lists file, key, value and rule of all of them.
    """
    try:
        settings = Settings.model_validate(_with_base(path))
    except ValidationError as error:
        raise strict_yaml.wrong(path, strict_yaml.problems(error)) from error
    if problems := list(_name_problems(settings)):
        raise strict_yaml.wrong(path, problems)
    return settings


def known_policies(settings: Settings) -> list[str]:
    """Return the policies that a night can score: meta and the recommenders, except those switched off."""
    names = [each.name for each in recommenders(settings.recommenders, _NO_SALES, NO_TOWERS)]
    return [META, *(name for name in names if name not in settings.recommenders.without)]


def _name_problems(settings: Settings) -> Iterator[str]:
    """Yield a line for each name of a recommender or a policy that does not exist, or is repeated."""
    switched_on = RecommenderSettings(further=settings.recommenders.further)
    everything = [recommender.name for recommender in recommenders(switched_on, _NO_SALES, NO_TOWERS)]
    without, policies = settings.recommenders.without, settings.rankings.policies
    optional = [name for name in everything if name != POPULARITY]
    personal = [META, *(name for name in optional if name not in without)]
    for name in sorted(set(without).difference(optional)):
        yield f"recommenders.without == {name!r}: must be one of {', '.join(optional)}{did_you_mean(name, optional)}"
    for name in sorted(set(policies).difference(personal)):
        yield (
            f"rankings.policies == {name!r}: must be one of {', '.join(personal)}; {POPULARITY} is always there"
            f"{did_you_mean(name, personal)}"
        )
    if len(set(policies)) < len(policies):
        yield f"rankings.policies == {list(policies)}: must name each policy once"
    reasons = [*everything, OPEN, "detail"]
    for name in sorted(set(settings.serving.pages.reason_texts).difference(reasons)):
        rule = f"must be one of {', '.join(reasons)}{did_you_mean(name, reasons)}"
        yield f"serving.pages.reason_texts == {name!r}: {rule}"
    if settings.serving.default_policy not in [*policies, POPULARITY]:
        served, chosen = [*policies, POPULARITY], settings.serving.default_policy
        yield f"serving.default_policy == {chosen!r}: must be one of {', '.join(served)}{did_you_mean(chosen, served)}"


def _with_base(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    content = strict_yaml.read(path, "conf/demo.yaml")
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str) or path.parent / base in (*extended_by, path):
        raise ConfigurationError(
            f"{path}: extends == {repr(base)[:200]}, must name another file, which does not extend this one"
        )
    return _merge(_with_base(path.parent / base, (*extended_by, path)), content)


def _merge(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in override.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
