import logging

import pytest

from recsys.errors import DamagedRecordError
from serving.telemetry import failures
from serving.telemetry.failures import RankingFailures
from serving.telemetry.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def counted(metrics: Metrics, cause: str) -> float | None:
    return metrics.registry.get_sample_value("recsys_ranking_failures_total", {"cause": cause})


def bug(user_id: str) -> KeyError:
    try:
        raise KeyError(user_id)
    except KeyError as error:
        return error


def test_damage_is_counted_for_each_page_and_logged_once_for_each_user(metrics, caplog):
    noted = RankingFailures(metrics)
    for number, user_id in enumerate(("ann", "bob", "ann", "ann")):
        noted.note(DamagedRecordError("sale 9, must be below 2"), user_id, f"r-{number}")
    assert (counted(metrics, "damaged_record"), counted(metrics, "bug")) == (4, 0)
    assert [record.getMessage() for record in caplog.records] == [
        "page r-0 shows popular sales: sale 9, must be below 2",
        "page r-1 shows popular sales: sale 9, must be below 2",
    ]


def test_users_who_are_remembered_are_bounded_in_number(metrics, caplog, monkeypatch):
    monkeypatch.setattr(failures, "_MOST_USERS", 3)
    noted = RankingFailures(metrics)
    for user_id in ("a", "b", "c", "d", "d", "a"):  # at d, the first three are forgotten
        noted.note(DamagedRecordError("damaged"), user_id, user_id)
    assert [record.getMessage().split()[1] for record in caplog.records] == ["a", "b", "c", "d", "a"]


def test_bug_is_counted_apart_and_logged_with_its_trace_once_a_minute_without_the_user(metrics, caplog, monkeypatch):
    seconds = iter([0.0, 59.0, 60.0, 61.0])
    monkeypatch.setattr(failures, "monotonic", lambda: next(seconds))
    noted = RankingFailures(metrics)
    for number in range(4):
        noted.note(bug("secret-user"), "secret-user", f"r-{number}")
    assert (counted(metrics, "bug"), counted(metrics, "damaged_record")) == (4, 0)
    first, second = caplog.records
    assert [record.levelno for record in (first, second)] == [logging.ERROR] * 2
    assert first.getMessage() == "page r-0 shows popular sales: ranking failed with KeyError"
    assert second.getMessage().startswith("page r-2 ")
    assert "raise KeyError(user_id)" in first.stack
    assert "secret-user" not in caplog.text + first.stack + second.stack
