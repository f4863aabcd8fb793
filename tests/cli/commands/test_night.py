from datetime import UTC, datetime

import pytest

from cli.commands.night import what_is_served
from jobs.night.refresh import Refreshed
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
