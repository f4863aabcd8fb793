"""Promotion, rollback, and the state after a change was killed."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from jobs.registry import tracking
from jobs.registry.connection import client_of
from jobs.registry.promote_model import Asked, appoint, evidence_of, log_of, promote, restore_champion, rollback
from recsys.config.settings import Settings
from recsys.errors import ConfigurationError, ModelError
from recsys.instants import HOUR, from_micros, to_micros
from recsys.meta_model import LogisticModel
from recsys.registry.versions import CHALLENGER, CHAMPION
from recsys.storage.places import files_in, remove
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop

pytestmark = MLFLOW_WARNS

MODEL = LogisticModel(["popularity"], [0.5], [2.0], [0.25], -4.5)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def asked(day: int = 0, why: str = "") -> Asked:
    return Asked(NOON + timedelta(days=day), "ann", why)


def register(settings: Settings, as_of: int) -> str:
    """Register a version whose as_of is some hours after AS_OF; return its number."""
    known = from_micros(to_micros(AS_OF) + as_of * HOUR).isoformat()
    return tracking.register(settings, MODEL, {}, 1, f"as of {as_of}", {tracking.AS_OF: known})


def train(settings: Settings, as_of: int, day: int = 0) -> str | None:
    """Register and appoint a version as a night does; return its alias."""
    version = register(settings, as_of)
    return appoint(settings, version, to_micros(AS_OF) + as_of * HOUR, asked(day).at)


def measure(settings: Settings, low: float, *versions: str) -> str:
    """Log a backtest of versions, each of which is better than the one before it by at least `low`."""
    policies = {f"meta@{version}": version for version in versions}
    names = list(policies)
    estimate = {"value": low + 0.01, "low": low, "high": low + 0.02}
    result = {
        "window": {"from": "2026-03-05", "to": "2026-03-09", "versions": policies},
        "policies": {name: {"ndcg@10": estimate} for name in names},
        "paired_ndcg@10": {f"{later} - {earlier}": estimate for earlier, later in pairwise(names)},
    }
    return tracking.log_backtest(settings, result)


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> SmallShop:
    """A shop whose database of models the tests of this module share; each test uses a model name of its own."""
    return SmallShop(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def settings(registry, request) -> Settings:
    """A shop whose nights trained version 1, the champion, and 2, the challenger."""
    settings = registry.settings(mlflow={"model_name": request.node.name})
    assert (train(settings, 0), train(settings, 30)) == (CHAMPION, CHALLENGER)
    return settings


def aliases(settings: Settings) -> tuple[str | None, str | None]:
    return tracking.alias(settings, CHAMPION), tracking.alias(settings, CHALLENGER)


def refusal(settings: Settings, model: str, **options: object) -> str:
    with pytest.raises(ModelError) as error:
        promote(settings, model, asked(), **options)
    return str(error.value)


def test_first_version_is_the_champion_by_itself_and_a_later_one_the_challenger(settings):
    assert aliases(settings) == ("1", "2")
    (first,) = log_of(settings).changes()
    assert (first.action, first.by, first.why, first.before, first.after) == (
        "first",
        "nightly",
        "the first version",
        None,
        "1",
    )


def test_later_version_is_the_challenger_instead(settings):
    assert train(settings, 31) == CHALLENGER
    assert aliases(settings) == ("1", "3")


def test_repeated_night_leaves_the_aliases(settings):
    assert (train(settings, 0), train(settings, 30)) == (CHAMPION, CHALLENGER)
    assert aliases(settings) == ("1", "2")
    assert len(log_of(settings).changes()) == 1


def test_version_with_older_data_than_the_champion_is_not_its_challenger(settings):
    assert train(settings, -24) is None
    assert aliases(settings) == ("1", "2")


def test_version_with_evidence_is_promoted(settings):
    run_id = measure(settings, 0.001, "1", "2")
    change = promote(settings, "challenger", asked(1, "more photos"))
    assert aliases(settings) == ("2", None)
    assert log_of(settings).changes()[1:] == [change]
    assert (change.action, change.by, change.why, change.at) == ("promote", "ann", "more photos", asked(1).at)
    assert (change.before, change.after, change.forced) == ("1", "2", False)
    assert (change.evidence.run_id, change.evidence.low) == (run_id, 0.001)


@pytest.mark.parametrize("low", [0.0, -0.005, -0.03])
def test_version_without_evidence_is_refused_with_the_interval_and_the_command(settings, low):
    run_id = measure(settings, low, "1", "2")
    message = refusal(settings, "2")
    assert message == (
        f"version 2 against the champion, version 1: ndcg@10 {low + 0.01:+.4f}, 95 % interval {low:+.4f} to "
        f"{low + 0.02:+.4f}, backtest of 2026-03-05 to 2026-03-09 (run {run_id}); the lower end must be above 0: "
        "measure other or more days, such as 'recsys backtest --from 2026-03-03 --to 2026-03-09 --versions 1,2', or "
        "overrule it with --force --why"
    )
    assert aliases(settings) == ("1", "2")
    assert len(log_of(settings).changes()) == 1


def test_version_that_was_never_measured_beside_the_champion_is_refused_with_the_exact_command(settings):
    measure(settings, 0.5, "2", "3")
    assert refusal(settings, "2", conf="conf/shop.yaml") == (
        "version 2 has 0 backtests beside the champion, version 1, must have 1 that shows it better: once these days "
        "are over, run 'recsys backtest --from 2026-03-03 --to 2026-03-09 --versions 1,2 --conf conf/shop.yaml'"
    )


def test_only_the_last_backtest_is_used(settings):
    measure(settings, 0.5, "1", "2")
    measure(settings, -0.5, "1", "2")
    measure(settings, 0.5, "2", "7")
    assert "-0.5000 to -0.4800" in refusal(settings, "2")
    assert evidence_of(settings, "2", "1").low == -0.5


def test_backtest_in_which_the_champion_is_better_refuses_the_challenger(settings):
    measure(settings, 0.02, "2", "1")
    assert "-0.0400 to -0.0200" in refusal(settings, "2")


def test_champion_cannot_be_promoted_even_by_force(settings):
    for force in (False, True):
        with pytest.raises(ModelError, match="version 1 is the champion already: name another one"):
            promote(settings, "champion", asked(why="why not"), force)


def test_unknown_version_is_refused(settings):
    assert "has no version '9': name one that 'recsys models list' shows" in refusal(settings, "9", force=False)


def test_force_overrules_and_is_logged_with_the_evidence_against(settings):
    measure(settings, -0.5, "1", "2")
    change = promote(settings, "2", asked(1, "new features"), force=True)
    assert (change.forced, change.why, change.evidence.low) == (True, "new features", -0.5)
    assert log_of(settings).changes()[-1] == change
    assert aliases(settings) == ("2", None)


def test_force_requires_a_reason(settings):
    with pytest.raises(ConfigurationError, match="--why == '', must give the reason where --force overrules"):
        promote(settings, "2", asked(), force=True)
    assert aliases(settings) == ("1", "2")


def test_rollback_goes_back_and_then_further_back(settings):
    train(settings, 40)
    for day, version in ((1, "2"), (2, "3")):
        promote(settings, version, asked(day, "so"), force=True)
    change = rollback(settings, asked(3, "worse pages"))
    assert (change.action, change.before, change.after, change.why) == ("rollback", "3", "2", "worse pages")
    assert rollback(settings, asked(4)).after == "1" == tracking.alias(settings, CHAMPION)
    with pytest.raises(
        ModelError, match="version 1 is the champion and the log knows no earlier one that is still registered"
    ):
        rollback(settings, asked(5))
    assert [log_of(settings).live_at(asked(day).at).after for day in range(6)] == ["1", "2", "3", "2", "1", "1"]


def test_rollback_skips_versions_that_are_no_longer_registered(settings):
    train(settings, 40)
    for day, version in ((1, "2"), (2, "3")):
        promote(settings, version, asked(day, "so"), force=True)
    client_of(settings).delete_model_version(settings.mlflow.model_name, "2")
    assert rollback(settings, asked(3)).after == "1"


def test_alias_that_was_moved_in_mlflow_is_found_and_logged(settings):
    tracking.point(settings, CHAMPION, "2")
    register(settings, 50)
    promote(settings, "3", asked(1, "so"), force=True)
    found = log_of(settings).changes()[1]
    assert (found.action, found.by, found.before, found.after) == ("found", "unknown", "1", "2")
    assert rollback(settings, asked(2)).after == "2"


def test_alias_that_was_deleted_in_mlflow_is_restored_by_whatever_asks_next(settings):
    promote(settings, "2", asked(1, "better"), force=True)
    for repair in (
        lambda: promote(settings, "1", asked(2, "back"), force=True),
        lambda: rollback(settings, asked(3)),
        lambda: train(settings, 60, day=4),
        lambda: restore_champion(settings, asked(5).at),
    ):
        client_of(settings).delete_registered_model_alias(settings.mlflow.model_name, CHAMPION)
        repair()
    done = [(change.action, change.before, change.after) for change in log_of(settings).changes()]
    assert done == [
        ("first", None, "1"),
        ("promote", "1", "2"),
        ("restored", None, "2"),
        ("promote", "2", "1"),
        ("restored", None, "1"),
        ("rollback", "1", "2"),
        ("restored", None, "2"),
        ("restored", None, "2"),
    ]
    assert aliases(settings) == ("2", "3")


def test_version_is_promoted_without_evidence_where_no_version_is_the_champion(settings):
    remove(settings.place / "models/log")
    client_of(settings).delete_registered_model_alias(settings.mlflow.model_name, CHAMPION)
    assert promote(settings, "2", asked()).before is None
    assert tracking.alias(settings, CHAMPION) == "2"


def test_rollback_without_a_champion_and_a_log_says_what_to_do(settings):
    remove(settings.place / "models/log")
    client_of(settings).delete_registered_model_alias(settings.mlflow.model_name, CHAMPION)
    with pytest.raises(ModelError, match=r"no version is the champion .*: promote another one of 'recsys models list'"):
        rollback(settings, asked())


def test_log_of_a_registry_with_a_champion_starts_with_that_champion(registry):
    settings = registry.settings(mlflow={"model_name": "older than the log"})
    tracking.point(settings, CHAMPION, register(settings, 0))
    assert train(settings, 30) == CHALLENGER
    assert [(each.action, each.after) for each in log_of(settings).changes()] == [("found", "1")]


PROMOTE_AND_DIE = """
import os, signal, sys, types
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient

from jobs.registry import tracking
from jobs.registry.promote_model import Asked, appoint, log_of, promote
from recsys.storage import local as storage, places
from recsys.config.settings import load_settings

settings = load_settings(Path(sys.argv[1]))
asked = Asked(datetime(2026, 3, 10, tzinfo=UTC), "ann", "so")
write_bytes = Path.write_bytes


def dying(call, moment, touched, half=None):
    # Killed before the n-th call, or in the middle of it.
    def counted(*arguments):
        touched.append(call)
        if len(touched) == moment:
            half and half(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)

    return counted


def forked(do):
    child = os.fork()
    if not child:
        do()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def promote_the_other(moment):
    other = "2" if tracking.alias(settings, "champion") == "1" else "1"
    touched = []
    fakes = vars(os) | {name: dying(getattr(os, name), moment, touched) for name in ("link", "fsync")}
    places.os = storage.os = types.SimpleNamespace(**fakes)
    Path.write_bytes = dying(write_bytes, moment, touched, lambda file, content: write_bytes(file, content[:40]))
    for name in ("set_registered_model_alias", "delete_registered_model_alias"):
        setattr(MlflowClient, name, dying(getattr(MlflowClient, name), moment, touched))
    promote(settings, other, asked, force=True)


def check():
    # The next change makes log and alias agree, wherever the previous one was killed.
    champion, log = tracking.alias(settings, "champion"), log_of(settings)
    log.changes()
    appoint(settings, champion, 0, asked.at)
    assert log.changes()[-1].after == champion == tracking.alias(settings, "champion"), (champion, log.changes())
    assert log.unfinished_change() is None
    assert "found" not in [each.action for each in log.changes()]


tracking.alias(settings, "champion")  # opens the database; without a pool it is closed, so forked children are fast
status, moment = None, 0
while status != 0:
    moment += 1
    status = forked(lambda: promote_the_other(moment))
    assert status in (0, signal.SIGKILL), status
    assert forked(check) == 0, moment
print("killed", moment - 1, "times")
"""


def test_log_and_alias_agree_after_a_promotion_is_killed_at_any_moment(tmp_path):
    shop = SmallShop(tmp_path)
    settings = shop.settings()
    for as_of in (0, 30):
        train(settings, as_of)
    conf, log = shop.configuration(), tmp_path / "said"
    with log.open("w") as said:
        script = [sys.executable, "-c", PROMOTE_AND_DIE, str(conf)]
        unpooled = os.environ | {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
        done = subprocess.run(script, stdout=said, stderr=said, check=False, env=unpooled)
    assert done.returncode == 0, log.read_text()
    assert int(log.read_text().split()[-2]) >= 7
    entries = [path.read_text() for path in files_in(tmp_path / "var/models/log", ".json")]
    assert any("abandoned" in entry for entry in entries)
    assert any("done" in entry for entry in entries)
