import time
from datetime import UTC, datetime

import pytest

from recsys.errors import SnapshotError
from recsys.instants import HOUR, to_micros
from serving.clocks import ReplayClock, system_clock

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)


def test_system_clock_counts_microseconds():
    before = time.time_ns() // 1000
    assert before <= system_clock() <= time.time_ns() // 1000


def test_replay_runs_from_some_hours_after_as_of_in_real_time():
    elapsed = [5_000_000_000]
    clock = ReplayClock(10.5, lambda: elapsed[0])
    clock.begin(AS_OF)
    assert clock() == to_micros(AS_OF) + 10.5 * HOUR
    elapsed[0] += 3_000  # nanoseconds
    assert clock() == to_micros(AS_OF) + 10.5 * HOUR + 3


def test_running_replay_is_not_started_again():
    clock = ReplayClock(0.0, lambda: 0)
    clock.begin(AS_OF)
    clock.begin(datetime(2030, 1, 1, tzinfo=UTC))
    assert clock() == to_micros(AS_OF)


def test_replay_needs_a_snapshot():
    with pytest.raises(SnapshotError, match="no snapshot is loaded"):
        ReplayClock(0.0)()
