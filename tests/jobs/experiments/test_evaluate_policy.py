"""Off-policy evaluation of a policy from a shop's folder."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.experiments.evaluate_policy import evaluate_policy
from recsys.config.settings import Settings
from recsys.errors import InputError
from recsys.experiments.off_policy.estimators import IPS
from recsys.experiments.settings import Experiment
from recsys.instants import DAY, HOUR, to_micros
from recsys.logs.records import Assignment, Exposure, RecordedEvent, encode_event, encode_exposure
from recsys.snapshot import store as snapshot_store
from tests.helpers.small_shop import SmallShop, event, sale
from tests.helpers.snapshots import ANN, AS_OF, BOB, NAME, batch, with_histories, write

AT = to_micros(AS_OF) + HOUR // 2  # a, b, c and e are open; d is not yet
EXPERIMENT = Experiment.model_validate(
    {
        "key": "explore",
        "status": "running",
        "start": AS_OF,
        "end": AS_OF + timedelta(days=7),
        "variants": [
            {"key": "best", "weight": 0.5, "policy": "meta"},
            {"key": "drawn", "weight": 0.5, "policy": "meta", "exploration": {"temperature": 1.0}},
        ],
        "analysis": {"primary": [{"name": "purchases", "type": "mean", "column": "purchases"}]},
    }
)
SALES = ["a", "b", "c", "d", "e"]


def page(request: str, user: str, shown: str, propensity: float | None, snapshot: str = NAME) -> bytes:
    """Return the log line of a page with one sale."""
    assigned = Assignment("explore", 1, "drawn", 17, "assigned", "ab12")
    exposure = Exposure(
        AT,
        request,
        user,
        "home",
        "meta",
        "3",
        snapshot,
        "none",
        1,
        [(SALES.index(shown), 0.5)],
        SALES,
        assignment=assigned,
    )
    return encode_exposure(exposure._replace(propensities=None if propensity is None else [propensity]))


def purchase(request: str, user: str, sale_id: str) -> bytes:
    return encode_event(RecordedEvent(user, sale_id, "purchase", AT + 1, AT + 2, 50.0, attribution_token=request))


@pytest.fixture
def settings(spark, tmp_path) -> Settings:
    settings = SmallShop(tmp_path).write([sale("a")], [event("ann", "a", -1)]).settings()
    snapshots = settings.snapshots_folder
    snapshots.mkdir(parents=True)
    write(snapshots, with_histories(batch(ANN, BOB)))
    snapshot_store.publish(snapshots, NAME, AS_OF)
    return settings


def deliver(settings: Settings, log: str, lines: Sequence[bytes]) -> None:
    folder = Path(settings.folder) / log
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jsonl").write_bytes(b"".join(lines))


# By meta, ann's ranking is d (not open), b, and bob's a, e: with one position per page, b and a are shown.
PAGES = [
    page("r1", "ann", "b", 0.5),
    page("r2", "ann", "c", 0.25),
    page("r3", "bob", "a", 0.2),
    page("r4", "bob", "e", 0.5),
]
PURCHASES = [purchase("r1", "ann", "b"), purchase("r2", "ann", "c"), purchase("r3", "bob", "a")]


def test_matching_pages_are_weighted_by_inverse_propensity(settings):
    deliver(settings, "exposures", PAGES)
    deliver(settings, "recorded_events", PURCHASES)
    found = evaluate_policy(settings, EXPERIMENT, "meta", "purchases", AT + DAY)
    assert (found.pages, found.users, found.rewarded) == (4, 2, 2)
    assert found.logged.value == 3 / 4
    assert found.values[IPS].value == pytest.approx((1 / 0.5 + 1 / 0.2) / 4)
    revenue = evaluate_policy(settings, EXPERIMENT, "meta", "revenue", AT + DAY)
    assert revenue.values[IPS].value == pytest.approx(50 * (1 / 0.5 + 1 / 0.2) / 4)


def test_events_recorded_at_or_after_as_of_are_ignored(settings):
    deliver(settings, "exposures", PAGES)
    deliver(settings, "recorded_events", PURCHASES)
    with pytest.raises(InputError):  # no purchase is known, so there is no reward
        evaluate_policy(settings, EXPERIMENT, "meta", "purchases", AT + 2)


def test_pages_of_days_after_as_of_are_not_opened(settings):
    deliver(settings, "exposures", PAGES)
    deliver(settings, "recorded_events", PURCHASES)
    expected = evaluate_policy(settings, EXPERIMENT, "meta", "purchases", AT + HOUR)
    later = Path(settings.folder) / f"exposures_compacted/day={AS_OF + timedelta(days=3):%Y-%m-%d}"
    later.mkdir()
    (later / "part.parquet").write_bytes(b"no Parquet file")
    assert evaluate_policy(settings, EXPERIMENT, "meta", "purchases", AT + HOUR) == expected


def test_pages_without_propensities_are_refused(settings):
    deliver(settings, "exposures", [page("r1", "ann", "b", None)])
    with pytest.raises(InputError, match="logged no propensities"):
        evaluate_policy(settings, EXPERIMENT, "meta", "purchases", AT + DAY)


def test_policy_that_no_existing_snapshot_has_is_refused(settings):
    deliver(settings, "exposures", [*PAGES, page("r5", "ann", "b", 0.5, snapshot="20260101T000000Z-gone0000")])
    deliver(settings, "recorded_events", PURCHASES)
    with pytest.raises(InputError, match="has policy 'als', must be 1 or more: keep more"):
        evaluate_policy(settings, EXPERIMENT, "als", "purchases", AT + DAY)
    assert evaluate_policy(settings, EXPERIMENT, "meta", "purchases", AT + DAY).pages == 4
