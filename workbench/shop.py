"""A shop in a notebook."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from google.protobuf.timestamp_pb2 import Timestamp
from pyspark.sql import DataFrame, SparkSession
from recommendations.v1 import recommendations_pb2 as pb

from jobs.backtest.backtest import backtest as measure
from jobs.backtest.backtest import window
from jobs.engine.nights import instant_of, night, planned_night, today
from jobs.engine.run import Run, with_inputs
from jobs.engine.session import spark_session
from jobs.night.fit_recommenders import FIT_RECOMMENDERS
from jobs.night.nightly import nightly as do_night
from jobs.night.profile_tables import profile_tables
from jobs.night.validate_tables import VALIDATE_TABLES
from jobs.registry import copies
from jobs.registry.retraining import training_is_due
from recsys.backtest.coefficients import coefficients
from recsys.config.settings import Settings, load_settings
from recsys.console import show_progress
from recsys.data_profile.advice import advise
from recsys.data_profile.rule_counts import RULE_COUNTS
from recsys.errors import InputError, ModelError
from recsys.images.tagging.files import PhotoFiles
from recsys.instants import MINUTE, compact, parse_instant, to_micros
from recsys.recommenders.further import words_of
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import LeftOut, read_manifest
from recsys.tables.night import EVENTS, SALES, Table
from recsys.wording import did_you_mean
from serving.process.local import LocalService
from workbench.backtest import Backtest
from workbench.features import features_of
from workbench.frames import in_memory
from workbench.page import Page
from workbench.profile import Profile

Instant = str | datetime | pd.Timestamp


class Night(NamedTuple):
    """A night that has run."""

    snapshot: str
    """The name of the snapshot that it wrote."""
    left_out: tuple[LeftOut, ...]
    """What it could not learn or rank, and until when."""


class Shop:
    """A shop: its tables, nights, backtests and pages, by the code of the `recsys` commands.

        shop = Shop("conf/demo.yaml")
        shop.nightly()
        shop.top("u-01879")

    Args:
        conf: The shop's configuration file, or settings. Relative paths in it are relative to the working folder.
        progress: Whether jobs print what they do.

    Raises:
        ConfigurationError: If the configuration breaks a rule; names the value and the rule.
    """

    def __init__(self, conf: str | Path | Settings, progress: bool = True):
        self.settings = conf if isinstance(conf, Settings) else load_settings(Path(conf))
        if progress:
            show_progress()

    def __repr__(self) -> str:
        """Say where the shop is, and which snapshot is served."""
        served = snapshot_store.current(self.settings.snapshots_folder) or "none yet: run .nightly()"
        return f"Shop in {self.settings.folder}, snapshot {served}"

    @property
    def spark(self) -> SparkSession:
        """The Spark session, started on first use."""
        return spark_session(self.settings)

    def nightly(self, as_of: Instant | None = None, train: bool | None = None) -> Night:
        """Run the night, as `recsys nightly` does: finished steps are not redone.

        Args:
            as_of: Data is known if it occurred before this instant; by default that of the configuration, or today's
                midnight UTC.
            train: Whether a new version of the model is trained; by default if the newest one is too old.
        """
        instant = self._instant_of_night(as_of)
        trains = training_is_due(self.settings, instant) if train is None else train
        name = do_night(night(self.settings, instant, trains=trains))
        folder = self.settings.snapshots_folder / name
        return Night(name, read_manifest(folder).left_out if folder.exists() else ())

    def profile(self, as_of: Instant | None = None) -> Profile:
        """Check the source tables and say what they hold, as `recsys validate` does.

        Args:
            as_of: Data is known if it occurred before this instant; by default that of the configuration, or today's
                midnight UTC.

        Raises:
            RejectedRowsError: If too many rows break a rule.
        """
        run = night(self.settings, self._instant_of_night(as_of))
        run.do((VALIDATE_TABLES,))
        found, counts = profile_tables(run), json.loads((run.outputs / RULE_COUNTS).read_text())
        return Profile(self.settings.place.name, found, advise(found, self.settings, today()), counts)

    def table(self, table: Table | str, as_of: Instant | None = None) -> DataFrame:
        """Return a table of a night as a Spark frame.

        Args:
            table: `SALES`, `EVENTS` or another table of `recsys.tables.night`, or its name.
            as_of: The instant of the night; the last one by default.

        Raises:
            InputError: If there is no such table, or no night has written it.
        """
        return _declared(table).read(self.spark, self._night(as_of).outputs)

    def sales(self, as_of: Instant | None = None) -> pd.DataFrame:
        """Return the sales of a night, the last one by default; columns as in `docs/raw_tables.md`."""
        return in_memory(self.table(SALES, as_of), "sale_id")

    def events(self, as_of: Instant | None = None) -> pd.DataFrame:
        """Return the visits and purchases of a night, the last one by default; all of them, in memory."""
        return in_memory(self.table(EVENTS, as_of), "user_id", "occurred_at", "sale_id")

    def backtest(
        self,
        start: Instant,
        end: Instant,
        *,
        live: bool = False,
        lag_minutes: float = 15,
        new_only: bool = False,
        days_sampled: int | None = None,
        users_sampled: float | None = None,
        versions: Sequence[str] | None = None,
        peers: bool = False,
        seed: int = 0,
    ) -> Backtest:
        """Rank each past day by what was known at its midnight, and measure; as `recsys backtest` does.

        Args:
            start: First day.
            end: Last day, inclusive.
            live: Also rank each page as the service does by day.
            lag_minutes: With `live`: how long before the session of the purchase counts end.
            new_only: Leave repeat purchases out of each page.
            days_sampled: Number of days of the window to sample; all by default.
            users_sampled: Share of the users to sample; by default all, or those of some 200,000 pages.
            versions: Registered versions to compare; champion and challenger by default.
            peers: Also measure what one could pick instead.
            seed: Seed of both samples and of the intervals.
        """
        run = window(self.settings, _micros(start), _micros(end), days_sampled, seed)
        lag = round(lag_minutes * MINUTE) if live else None
        chosen = None if versions is None else list(versions)
        return Backtest(measure(run, users_sampled, seed, chosen, new_only, lag=lag, with_peers=peers), run)

    def features(self, users: Iterable[str], at: Instant | None = None) -> pd.DataFrame:
        """Return the features of some users and all sales of a horizon, by what was known at an instant.

        Recommenders are fitted as of the instant if they are not yet, which takes as long as that part of a night.

        Args:
            users: Ids; a user without a history has the features of an unknown user.
            at: The instant; that of the last night by default.

        Returns:
            One row per user and sale, and one column per feature, as the meta-model sees it: logarithms, minus their
            mean over the sales where they compare sales.
        """
        of_night = self._night(None)
        instant = of_night.as_of if at is None else _micros(at)
        run = of_night
        if instant != of_night.as_of:
            folder = self.settings.place / "instants" / compact(instant)
            run = replace(night(self.settings, instant, trains=False), folder=folder)
            run.do(with_inputs(FIT_RECOMMENDERS))
        return features_of(run, list(users))

    def coefficients(self) -> pd.DataFrame:
        """Return the coefficients of the champion by feature: for sales that are new to a user, and for repeats.

        Raises:
            ModelError: If there is no champion yet.
        """
        version = copies.champion_version(self.settings)
        if not version:
            raise ModelError(f"{self.settings.mlflow.model_name} has no champion yet: run .nightly()")
        model, further = copies.read_version(self.settings, version), words_of(self.settings.recommenders.further)
        return pd.DataFrame(coefficients(model, further)).set_index("feature")

    def top(
        self,
        user: str = "",
        n: int = 10,
        *,
        policy: str = "",
        session: Sequence[str] = (),
        attributes: Mapping[str, str] | None = None,
        at: Instant | None = None,
        explain: bool = False,
    ) -> Page:
        """Return a user's page, as the service would answer at this moment; no service need run, nothing is recorded.

        Args:
            user: Id; empty for an anonymous user.
            n: Number of sales.
            policy: What ranks; by default the one of an experiment or of the configuration.
            session: Ids of the sales that the user has just looked at.
            attributes: Of the user, such as {"market": "Germany"}.
            at: The instant that the page is for, from now until the end of the snapshot's horizon; now by default.
            explain: Add the contributions of the features.

        Raises:
            ConfigurationError: If a value breaks a rule.
            SnapshotError: If no snapshot can be served.
        """
        request = pb.GetTopSalesRequest(
            user_id=user, n=n, policy=policy, session_sale_ids=session, attributes=attributes or {}, explain=explain
        )
        if at is not None:
            instant = Timestamp()
            instant.FromMicroseconds(_micros(at))
            request.answer_time.CopyFrom(instant)
        return Page(user, self._service.top_sales(request), PhotoFiles.of(self.settings.images))

    def similar(self, sale_id: str, n: int = 10, *, user: str = "", policy: str = "", explain: bool = False) -> Page:
        """Return the open sales that resemble a sale, as the service would answer at this moment.

        Args:
            sale_id: The sale, open or not.
            n: Number of sales.
            user: The user for whom the most similar sales are ordered; empty for anybody.
            policy: Whose scores are compared; by default the one of an experiment or of the configuration.
            explain: Add the contributions of the features.
        """
        page = pb.GetTopSalesRequest(user_id=user, n=n, policy=policy, explain=explain)
        request = pb.GetSimilarSalesRequest(sale_id=sale_id, page=page)
        return Page(user, self._service.similar_sales(request), PhotoFiles.of(self.settings.images))

    def recommend(self, users: Iterable[str], n: int = 10, *, policy: str = "") -> pd.DataFrame:
        """Return the pages of many users as one frame.

        Returns:
            Columns user_id, item_id (the sale), score and rank, from 1: those of RecTools and LensKit.
        """
        rows = [
            (user, sale.sale_id, sale.score, sale.rank)
            for user in users
            for sale in self.top(user, n, policy=policy).response.sales
        ]
        return pd.DataFrame(rows, columns=["user_id", "item_id", "score", "rank"])

    @cached_property
    def _service(self) -> LocalService:
        return LocalService(self.settings.serving, self.settings.own_disk)

    def _instant_of_night(self, as_of: Instant | None) -> int:
        return instant_of(self.settings, None if as_of is None else _micros(as_of), today())

    def _night(self, as_of: Instant | None) -> Run:
        """Return a night that has run, the last one by default."""
        if as_of is not None:
            return planned_night(self.settings, _micros(as_of))
        name = snapshot_store.current(self.settings.snapshots_folder)
        if name is None:
            raise InputError(f"{self.settings.folder} has no night yet: run .nightly()")
        return planned_night(self.settings, to_micros(read_manifest(self.settings.snapshots_folder / name).as_of))


def _declared(table: Table | str) -> Table:
    from recsys.tables import night as tables

    if isinstance(table, Table):
        return table
    known = {each.name: each for each in vars(tables).values() if isinstance(each, Table)}
    if table not in known:
        raise InputError(f"table == {table!r}, must be one of {', '.join(sorted(known))}{did_you_mean(table, known)}")
    return known[table]


def _micros(instant: Instant) -> int:
    """Return an instant in microseconds since 1970 UTC; one without a zone is in UTC."""
    if isinstance(instant, str):
        return parse_instant(instant)
    stamp = pd.Timestamp(instant)
    return to_micros((stamp.tz_localize("UTC") if stamp.tz is None else stamp).to_pydatetime())
