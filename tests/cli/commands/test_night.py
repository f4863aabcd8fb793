from datetime import UTC, datetime, timedelta

import pytest

from cli.commands.night import what_is_served
from jobs.engine.run import Run
from jobs.night.refresh import Refreshed
from recsys.errors import NightCheckError
from recsys.instants import DAY, to_micros
from recsys.snapshot import store as snapshot_store
from tests.helpers.small_shop import SmallShop
from tests.helpers.snapshots import AS_OF, write

NOW = datetime(2026, 3, 1, 1, tzinfo=UTC)


@pytest.fixture
def name(tmp_path) -> str:
    """The name of a snapshot that is there, and not served."""
    return write(tmp_path).name


def test_published_snapshot_is_named(tmp_path, name):
    snapshot_store.publish(tmp_path, name, AS_OF)
    assert what_is_served(tmp_path, name, is_new=True) == f"Published snapshot {name}."


def test_unchanged_night_says_that_its_snapshot_is_served_already(tmp_path, name):
    snapshot_store.publish(tmp_path, name, AS_OF)
    said = what_is_served(tmp_path, name, is_new=False)
    assert said == f"Nothing to publish: snapshot {name} of this night is served already."


def test_unchanged_night_names_the_snapshot_that_is_served_instead(tmp_path, name):
    said = what_is_served(tmp_path, name, is_new=False)
    assert said.startswith(f"Nothing was published: the night is unchanged, and its snapshot {name} is not the current")
    assert "Served is none" in said


def test_unchanged_night_says_that_its_snapshot_was_pruned(tmp_path, name):
    snapshot_store.publish(tmp_path, name, AS_OF)
    said = what_is_served(tmp_path, "20260201T000000Z-11111111", is_new=False)
    assert "its snapshot 20260201T000000Z-11111111 was removed since, see 'snapshots.keep'" in said
    assert f"Served is {name};" in said


def test_night_of_the_past_says_that_a_later_one_is_served_and_how_to_serve_it(tmp_path, name):
    as_of = AS_OF + timedelta(days=1)
    later = write(tmp_path, as_of=as_of, horizon_end=as_of + timedelta(hours=36)).name
    snapshot_store.publish(tmp_path, later, AS_OF)
    said = what_is_served(tmp_path, name, is_new=False)
    assert said.startswith(f"Snapshot {name} is kept and not published: {later} of a later night is served.")
    assert f"'recsys snapshots activate {name}'" in said


class Nights:
    """Stands in for nights: records what they were, and lets those of some days fail their checks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...] = ()) -> None:
        self.runs: list[Run] = []
        self.failing = failing
        monkeypatch.setattr("jobs.night.nightly.nightly", self.do)
        monkeypatch.setattr("jobs.registry.retraining.training_is_due", lambda settings, as_of: as_of == FIRST)

    def do(self, run: Run) -> str:
        self.runs.append(run)
        if run.folder.name[:8] in self.failing:
            raise NightCheckError(f"{run.folder.name} is not published")
        return f"{run.folder.name}-12345678"


FIRST = to_micros(AS_OF) - 2 * DAY


def test_backfill_runs_every_night_of_a_range_without_publishing_and_trains_those_that_are_due(
    run, tmp_path, monkeypatch
):
    nights, conf = Nights(monkeypatch), SmallShop(tmp_path).configuration()
    status, said, _ = run("backfill", "--from", "2026-02-27", "--to", "2026-03-01", "--conf", conf)
    assert (status, "All nights from 2026-02-27 to 2026-03-01 are done, none is published" in said) == (0, True)
    assert [(each.as_of, each.trains) for each in nights.runs] == [
        (FIRST, True),
        (FIRST + DAY, False),
        (FIRST + 2 * DAY, False),
    ]
    assert not any(each.publishes for each in nights.runs)


def test_backfill_goes_on_after_a_night_that_fails_its_checks_and_names_it_at_the_end(run, tmp_path, monkeypatch):
    nights, conf = Nights(monkeypatch, failing=("20260228",)), SmallShop(tmp_path).configuration()
    status, _, said = run("backfill", "--from", "2026-02-27", "--to", "2026-03-01", "--conf", conf)
    assert (status, len(nights.runs)) == (1, 3)
    assert "error: 20260228T000000Z is not published" in said
    assert "error: 2026-02-28 failed the checks of 'night_checks', all other nights are done" in said


def test_backfill_to_a_day_before_its_first_is_refused(run, tmp_path):
    conf = SmallShop(tmp_path).configuration()
    status, _, said = run("backfill", "--from", "2026-03-02", "--to", "2026-03-01", "--conf", conf)
    assert (status, "--to == 2026-03-01, must not be before --from == 2026-03-02" in said) == (1, True)


def test_night_that_is_not_to_be_published_says_how_to_serve_its_snapshot(run, tmp_path, monkeypatch):
    nights, conf = Nights(monkeypatch), SmallShop(tmp_path).configuration()
    status, said, _ = run("nightly", "--no-publish", "--conf", conf)
    assert (status, [each.publishes for each in nights.runs]) == (0, [False])
    assert "is not published: 'recsys snapshots activate 20260301T000000Z-12345678' serves it." in " ".join(
        said.split()
    )


def test_snapshot_that_was_kept_is_served_by_its_name(run, tmp_path):
    shop = SmallShop(tmp_path)
    root = shop.settings().snapshots_folder
    name = write(root).name
    status, said, _ = run("snapshots", "activate", name, "--conf", shop.configuration())
    assert (status, snapshot_store.current(root)) == (0, name)
    assert f"Now serving {name}" in said
    status, _, said = run("snapshots", "activate", "20250101T000000Z-1", "--conf", shop.configuration())
    assert (status, snapshot_store.current(root), said.count("error: ")) == (1, name, 1)


@pytest.mark.parametrize(
    ("refreshed", "said"),
    [
        (Refreshed("n.r0002", "2 new sales"), "Published snapshot n.r0002: 2 new sales, ready in 0 s."),
        (Refreshed("n.r0002", ""), "Nothing to publish: snapshot n.r0002 has the sales as they are, 0 s."),
        (Refreshed("n.r0003", ""), "Nothing was published: snapshot n.r0003 has the sales as they are, and n.r0002 is"),
    ],
)
def test_refresh_says_what_it_brought_or_that_nothing_has_changed(run, tmp_path, monkeypatch, refreshed, said):
    monkeypatch.setattr("jobs.night.refresh.refresh", lambda _: refreshed)
    monkeypatch.setattr("recsys.snapshot.store.current", lambda _: "n.r0002")
    status, printed, _ = run("refresh", "--conf", SmallShop(tmp_path).configuration())
    assert status == 0
    assert said in " ".join(printed.split())
