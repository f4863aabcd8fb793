import time

from recsys.errors import SnapshotError, StoreError
from recsys.shop.live_counts import LiveCounts
from serving.answers.live_counts import LatestCounts


class Counting:
    """A store that fails or counts as told."""

    def __init__(self, *results: LiveCounts | Exception):
        self._results = iter(results)

    def live_counts(self, since: int) -> LiveCounts:
        assert since == 0
        result = next(self._results)
        if isinstance(result, Exception):
            raise result
        return result


def test_counts_that_cannot_be_read_stay_as_of_the_last_time():
    first, second = LiveCounts(["a"]), LiveCounts(["b"])
    counts = LatestCounts(Counting(SnapshotError("not begun"), first, StoreError("out of reach"), second))
    nothing, started = counts.latest()
    assert nothing == LiveCounts()
    counts.read()
    assert (counts.latest(), counts.problem) == ((nothing, started), "not begun")
    before = time.monotonic()
    counts.read()
    assert before <= counts.latest()[1] <= time.monotonic()
    known = counts.latest()
    assert (known[0], counts.problem) == (first, "")
    counts.read()
    assert (counts.latest(), counts.problem) == (known, "out of reach")
    counts.read()
    assert (counts.latest()[0], counts.problem) == (second, "")
