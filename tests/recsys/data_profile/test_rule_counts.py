import json

import pytest

from recsys.data_profile.rule_counts import REFUSED_RULE_COUNTS, RULE_COUNTS, why_nothing_is_recent
from recsys.storage.journal import leased
from recsys.storage.places import Place, put


def counts(broken: int) -> str:
    rule = {"name": "events_recent", "broken": broken}
    return json.dumps([{"rule": rule, "broken": broken, "examples": ["no event since 2026-02-01"]}])


def validated(night: Place, attempt: int, broken: int) -> None:
    """Write the counts as the step of a run does."""
    data = f"data/validate_tables-{attempt}"
    put(night / data / RULE_COUNTS, counts(broken))
    with leased(night) as lease:
        lease.add({"step": "validate_tables", "data": data, "outputs": [RULE_COUNTS]})


def test_shop_without_a_night_has_no_reason(folder):
    assert why_nothing_is_recent(folder) is None


@pytest.mark.parametrize(("broken", "reason"), [(1, "no event since 2026-02-01"), (0, None)])
def test_reason_is_that_of_the_latest_night(folder, broken, reason):
    validated(folder / "nights/20260301T000000Z", 1, broken=1 - broken)
    validated(folder / "nights/20260302T000000Z", 1, broken)
    assert why_nothing_is_recent(folder) == reason


def test_attempt_that_was_redone_does_not_count(folder):
    night = folder / "nights/20260301T000000Z"
    validated(night, 1, broken=1)
    validated(night, 2, broken=0)
    assert why_nothing_is_recent(folder) is None


def test_source_that_was_refused_is_read_too(folder):
    put(folder / "nights/20260301T000000Z" / REFUSED_RULE_COUNTS, counts(1))
    assert why_nothing_is_recent(folder) == "no event since 2026-02-01"
