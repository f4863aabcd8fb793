"""The commands about the service, each against a real service on a free port."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from recsys.config.serving import ServingSettings, StoreSettings
from recsys.instants import to_micros
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.users import Ranking
from serving.client import Client
from serving.process.server import Server, start_server
from serving.stores.base import Change, WithdrawnSale
from serving.stores.folder import FolderStore
from serving.stores.redis import RedisStore
from tests.helpers.real_redis import RealRedis
from tests.helpers.real_service import free_ports
from tests.helpers.small_shop import SmallShop
from tests.helpers.snapshots import ANN, AS_OF, BOB, NAME, SALES, batch, with_histories, write
from tests.helpers.waiting import PATIENCE

HALF_PAST = to_micros(AS_OF + timedelta(minutes=30))
"""Sales a, b, c and e are open: ann's page is b of the user's ranking, then e, c, a by popularity."""


@pytest.fixture
def shop(tmp_path) -> SmallShop:
    """A shop with a published snapshot and nothing else."""
    shop = SmallShop(tmp_path)
    publish(shop)
    return shop


def publish(shop: SmallShop, **changes: object) -> str:
    root = shop.folder / "var/snapshots"
    name = write(root, with_histories(batch(ANN, BOB)), **changes).name
    snapshot_store.publish(root, name, AS_OF)
    return name


@pytest.fixture
def serve(shop) -> Iterator[Callable[..., Server]]:
    """Start services of the shop at half past midnight."""
    with ExitStack() as stack:

        def started(**settings: object) -> Server:
            quick = {"port": 0, "admin_port": 0, "metrics_port": None, "workers": 1, "poll_seconds": 0.01}
            folder = shop.folder / "var"
            return stack.enter_context(start_server(ServingSettings(**quick | settings), folder, lambda: HALF_PAST))

        yield started


def page(server: Server, user: str = "ann", **asked: object) -> list[str]:
    with Client(server.target, deadline=PATIENCE) as client:
        return [sale.sale_id for sale in client.top_sales(user, **asked).sales]


def error_of(result: tuple[int, str, str]) -> str:
    """Return the message of a command that failed with status 1 and without a stack trace."""
    status, out, err = result
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err.removeprefix("error: ").strip()


# Sales.


def test_closed_sale_is_off_the_next_page_and_listed_with_the_reason(run, serve):
    server = serve()
    assert page(server) == ["b", "e", "c", "a"]
    closed = run("sales", "close", "e", "--comment", "sold out", "--yes", "--target", server.admin_target)
    assert closed == (0, "Sale e is closed: no page shows it from now on.\n", "")
    assert page(server) == ["b", "c", "a"]
    status, out, _ = run("sales", "list", "--target", server.admin_target)
    assert (status, out.splitlines()[1].split()) == (0, ["e", "closed", "2026-03-01", "00:30", "sold", "out"])


def test_closing_that_is_not_confirmed_changes_nothing_and_names_the_sale_or_the_nearest_id(run, serve):
    server = serve()
    target = ("--target", server.admin_target)
    final = "closing is final, the sale can never be shown again: check the id, then repeat the command with --yes"
    assert error_of(run("sales", "close", "e", *target)) == f"sale 'e' is 'Elba'; {final}"
    unknown = f"snapshot {NAME} has no sale 'E'; the nearest id is 'e'"
    assert error_of(run("sales", "close", "E ", *target)) == f"{unknown}; {final}"
    assert page(server) == ["b", "e", "c", "a"]
    assert run("sales", "list", *target)[1] == "No sale is closed or hidden.\n"
    status, out, err = run("sales", "close", "E ", "--yes", *target)
    assert (status, err) == (0, "")
    assert out.splitlines()[1] == f"Note: {unknown}. Only later snapshots may have it."
    assert (
        run("sales", "hide", "zzz", *target)[1].splitlines()[1].startswith(f"Note: snapshot {NAME} has no sale 'zzz'.")
    )


def test_processes_that_may_still_show_a_closed_sale_are_named_and_the_command_fails(run, serve, monkeypatch):
    def not_acknowledged(_: object, sale: WithdrawnSale) -> Change:
        return Change(sale, ["web-2:7:aa"], ["web-3:8:bb"])

    monkeypatch.setattr(FolderStore, "withdraw", not_acknowledged)
    target = ("--target", serve().admin_target)
    for command in (["close", "--yes"], ["hide"]):
        status, out, err = run("sales", *command, "a", *target)
        assert status == 1
        assert "Note: web-3:8:bb stopped or cannot reach the store" in out
        message = " ".join(err.split())
        assert "sale 'a' may still be on pages of web-2:7:aa, which serve and have not acknowledged it" in message
        assert f"repeat 'recsys sales {command[0]}'" in message


def test_hidden_sale_is_off_all_pages_until_it_is_shown(run, serve):
    server = serve()
    target = ("--target", server.admin_target)
    hidden = run("sales", "hide", "b", "--until", "2026-03-01T02:00:00Z", "--comment", "a typo", *target)
    assert hidden == (0, "Sale b is hidden. Next: recsys sales show b\n", "")
    assert page(server) == ["e", "c", "a"]
    listed = run("sales", "list", *target)[1].splitlines()[1]
    assert listed.split() == ["b", "hidden", "2026-03-01", "00:30", "2026-03-01", "02:00", "a", "typo"]
    assert run("sales", "show", "b", *target) == (0, "Sale b is shown again while it is open.\n", "")
    assert page(server) == ["b", "e", "c", "a"]
    assert run("sales", "list", *target) == (0, "No sale is closed or hidden.\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "a"], "sale 'a' is not hidden: 'recsys sales list'"),
        (
            ["hide", "a", "--until", "2026-02-28T00:00:00Z"],
            "until_time == 2026-02-28 00:00:00 UTC, must be after the present, 2026-03-01 00:30:00 UTC",
        ),
        (["hide", "a", "--until", "2026-03-02T00:00:00"], "has no zone: write 2026-03-02T00:00:00Z for UTC"),
        (["close", ""], "sale_id == '', must be a sale"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refused_change_of_a_sale_is_an_error_of_one_line_and_changes_nothing(run, serve, arguments, message):
    server = serve()
    assert message in error_of(run("sales", *arguments, "--target", server.admin_target))
    assert page(server) == ["b", "e", "c", "a"]


def test_sale_is_named_as_the_service_knows_it(run, serve):
    target = ("--target", serve().admin_target)
    assert run("sales", "hide", " \u200bb ", *target)[1] == "Sale b is hidden. Next: recsys sales show b\n"
    assert run("sales", "close", "b ", "--yes", *target)[1] == "Sale b is closed: no page shows it from now on.\n"


def test_closed_sale_cannot_be_shown_again(run, serve):
    target = ("--target", serve().admin_target)
    run("sales", "close", "a", "--yes", *target)
    assert "sale 'a' was closed, which is final" in error_of(run("sales", "show", "a", *target))


@pytest.mark.parametrize("command", [("close", "a"), ("hide", "a"), ("show", "a"), ("list",)], ids=" ".join)
def test_change_of_a_sale_without_a_running_service_is_an_error(run, command):
    (port,) = free_ports(1)
    message = error_of(run("sales", *command, "--target", f"127.0.0.1:{port}"))
    assert "start it with 'recsys serve'" in message
    assert f"127.0.0.1:{port}" in message


def test_token_is_taken_from_the_option_or_from_the_environment(run, serve, monkeypatch):
    digests = {role: hashlib.sha256(role.encode()).hexdigest() for role in ("website", "admin")}
    callers = [{"name": f"the {role}", "role": role, "token_sha256": digest} for role, digest in digests.items()]
    target = ("--target", serve(access={"callers": callers}).admin_target)
    refused = [run("sales", "close", "a", *target), run("sales", "close", "a", *target, "--token", "website")]
    assert all(error_of(result) for result in refused)
    monkeypatch.setenv("RECSYS_TOKEN", "admin")
    assert run("sales", "list", *target)[1] == "No sale is closed or hidden.\n"
    assert run("sales", "close", "a", "--yes", *target)[0] == 0
    assert run("sales", "list", *target)[1].splitlines()[1].split()[-2:] == ["the", "admin"]


# Rules.

PIN_B = {"kind": "pin", "name": "b_first", "sale_ids": ["b"], "position": 1}
NO_FRENCH = {"kind": "filter", "name": "no_french", "match": {"country": "FR"}}


def rules_file(folder: Path, *rules: dict) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"schema_version": 1, "rules": list(rules)}))
    return path


def test_file_of_rules_is_validated_with_their_number_and_fingerprint(run, shop, tmp_path):
    path = rules_file(tmp_path, PIN_B, NO_FRENCH)
    status, out, _ = run("rules", "validate", path, "--conf", shop.configuration())
    assert (status, out.rpartition(" ")[0]) == (0, f"{path}: 2 rules, fingerprint")
    fingerprint = out.split()[-1]
    configured = shop.configuration(serving={"rules": str(path)})
    assert run("rules", "validate", "--conf", configured)[1].split()[-1] == fingerprint
    rules_file(tmp_path, PIN_B)
    assert run("rules", "validate", "--conf", configured)[1].split()[-1] != fingerprint


def test_names_that_no_sale_and_no_user_has_are_noted_with_the_nearest_known_one(run, shop, tmp_path):
    sales = [replace(sale, attributes={"country": "Italy", "category": "spa"}) for sale in SALES]
    ranking = Ranking(np.array([0], np.int32), np.array([1.0], np.float32), np.array([0], np.uint8))
    publish(shop, sales=sales, segments={"channel": {"mail": ranking}})
    nested = {"$or": [{"categroy": "spa"}, {"$not": {"contry": "Italy"}}], "price": {"$exists": False}}
    path = rules_file(tmp_path, NO_FRENCH | {"match": nested, "targeting": {"chanel": "mail", "weather": "rain"}})
    status, out, _ = run("rules", "validate", path, "--conf", shop.configuration())
    notes = [line.removeprefix("Note: ") for line in out.splitlines()[1:]]
    name = NO_FRENCH["name"]
    assert (status, notes) == (
        0,
        [
            f"Rule '{name}' asks for 'categroy', which no sale has; did you mean 'category'?",
            f"Rule '{name}' asks for 'contry', which no sale has; did you mean 'country'?",
            f"Rule '{name}' is for requests with 'chanel'; users have 'channel': is that meant?",
        ],
    )


def test_ids_are_printed_as_text(run, serve):
    server = serve()
    hidden = run("sales", "hide", "promo[summer]\x1b[2J", "--target", server.admin_target)
    advice = r"Sale promo[summer]\x1b[2J is hidden. Next: recsys sales show 'promo[summer]\x1b[2J'"
    status, out, err = hidden
    first, note = out.splitlines()
    assert (status, first, err) == (0, advice, "")
    assert r"has no sale 'promo[summer]\x1b[2J'" in note


def test_all_problems_of_a_file_of_rules_are_listed(run, shop, tmp_path):
    path = rules_file(tmp_path, PIN_B | {"position": 0}, NO_FRENCH | {"kind": "filtre"})
    message = error_of(run("rules", "validate", path, "--conf", shop.configuration()))
    assert message.startswith(f"{path}: 2 wrong:\n  rules.0.pin.position == 0: ")
    assert "'filtre'" in message


@pytest.mark.parametrize("command", ["validate", "try"])
def test_shop_without_configured_rules_needs_the_file_as_an_argument(run, shop, command):
    message = error_of(run("rules", command, "--conf", shop.configuration()))
    assert message == "serving.rules == None, must be a file of rules: set it, or give the file as an argument"


def test_trial_of_rules_shows_the_changes_and_writes_them_as_json(run, shop, tmp_path):
    path, result = rules_file(tmp_path, NO_FRENCH), tmp_path / "trial.json"
    asked = ("--user", "ann", "--user", "bob", "--n", 2, "--json", result)
    status, out, _ = run("rules", "try", path, "--conf", shop.configuration(), *asked)
    assert status == 0
    # At 10:00, a, b and e are open. ann sees b, e; a of bob's page is French, so bob sees e, b instead of a, e.
    assert out.startswith("2 pages, 1 changed by rules (50.0%)\n")
    trial = json.loads(result.read_text())
    assert (trial["pages"], trial["rules"], trial["entered"], trial["left"]) == (
        2,
        {"no_french": 1},
        {"b": 1},
        {"a": 1},
    )
    (changed,) = trial["changed"]
    assert changed["user_id"] == "bob"
    assert [(each["place"], each["before"], each["after"]) for each in changed["places"]] == [
        (1, "a", "e"),
        (2, "e", "b"),
    ]


def test_trial_uses_instant_policy_surface_and_attributes(run, shop, tmp_path):
    conditions = {"surface": "mail", "targeting": {"market": "FR"}, "from": AS_OF.replace(hour=5)}
    path = rules_file(tmp_path, PIN_B | conditions)
    rules = ("rules", "try", path, "--conf", shop.configuration(), "--user", "bob", "--policy", "popularity")
    french_mail = ("--surface", "mail", "--attribute", "market=FR")
    assert run(*rules, *french_mail)[1].startswith("1 page, 1 changed")
    assert run(*rules, *french_mail, "--at", "2026-03-01T04:00:00Z")[1].startswith("1 page, 0 changed")
    assert run(*rules, "--attribute", "market=FR")[1].startswith("1 page, 0 changed")
    assert run(*rules, "--surface", "mail")[1].startswith("1 page, 0 changed")


def test_trial_samples_at_most_the_number_of_users_asked_for(run, shop, tmp_path):
    rules = ("rules", "try", rules_file(tmp_path, NO_FRENCH), "--conf", shop.configuration())
    assert run(*rules)[1].startswith("2 pages, ")
    assert run(*rules, "--users", 1)[1].startswith("1 page, ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "metta"], "policy == 'metta', must be one of"),
        (["--attribute", "market"], "--attribute == 'market', must be NAME=VALUE"),
        (["--at", "noon"], "instant 'noon', must be a date or an instant"),
        (["--at", "2026-02-28"], "instant == 2026-02-28 00:00:00 UTC, must be in the snapshot's horizon"),
        (["--at", "2030-01-01"], "horizon, from 2026-03-01 00:00:00 UTC to 2026-03-02 12:00:00 UTC (excluded)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_trial_with_an_invalid_option_is_an_error_of_one_line(run, shop, tmp_path, options, message):
    rules = ("rules", "try", rules_file(tmp_path, NO_FRENCH), "--conf", shop.configuration())
    assert message in error_of(run(*rules, *options))


def test_trial_without_a_snapshot_names_the_command_that_publishes_one(run, tmp_path):
    conf = SmallShop(tmp_path).configuration()
    message = error_of(run("rules", "try", rules_file(tmp_path, NO_FRENCH), "--conf", conf))
    assert message == f"{tmp_path}/var/snapshots has no snapshot: publish one with 'recsys nightly'"


# Snapshots.


def test_rollback_serves_the_previous_snapshot_and_the_list_marks_it(run, shop):
    newer = publish(shop, fingerprint="22222222", versions={"home_ranker": "4"})
    conf = shop.configuration()
    assert served(run("snapshots", "list", "--conf", conf)) == newer
    status, out, _ = run("snapshots", "rollback", "--conf", conf)
    assert (status, out) == (0, f"Now serving {NAME}; running services load it by themselves.\n")
    assert served(run("snapshots", "list", "--conf", conf)) == NAME


def served(result: tuple[int, str, str]) -> str:
    status, out, _ = result
    assert status == 0
    (line,) = [line for line in out.splitlines() if "served" in line]
    return line.split()[2]


@pytest.fixture
def redis_server(tmp_path) -> Iterator[RealRedis]:
    server = RealRedis(tmp_path).start()
    yield server
    server.kill()


def test_pushed_snapshot_is_opened_from_redis(run, shop, redis_server):
    store = {"kind": "redis", "url": redis_server.url, "prefix": "shop:", "timeout_seconds": 10}
    conf = shop.configuration(serving={"store": store})
    assert run("snapshots", "push", "--conf", conf) == (0, f"Redis has snapshot {NAME} as the current one\n", "")
    fleet = RedisStore(StoreSettings(**store), shop.folder / "elsewhere", lambda: HALF_PAST)
    try:
        opened = fleet.open(fleet.current())
    finally:
        fleet.close()
    assert (opened.name, list(opened.sales)) == (NAME, SALES)


def test_push_without_redis_is_an_error_of_one_line(run, shop):
    assert "serving.store.kind == 'folder', must be 'redis' to push to" in error_of(
        run("snapshots", "push", "--conf", shop.configuration())
    )
    url = f"redis://127.0.0.1:{free_ports(1)[0]}/0"
    conf = shop.configuration(serving={"store": {"kind": "redis", "url": url}})
    assert url.removeprefix("redis://").removesuffix("/0") in error_of(run("snapshots", "push", "--conf", conf))


# Logs.


def test_exposures_gathers_each_page_once(run, spark, shop, serve):
    conf = shop.configuration()
    nothing = "0 records of 0 files for no day; 0 duplicates, 0 lines set aside"
    assert run("exposures", "--conf", conf) == (0, f"exposures: {nothing}\nrecorded_events: {nothing}\n", "")
    with serve() as server, Client(server.target, deadline=PATIENCE) as client:
        for user in ("ann", "bob", "ann"):
            client.top_sales(user)
    status, out, _ = run("exposures", "--conf", conf)
    assert status == 0
    assert out.splitlines() == [
        "exposures: 3 records of 1 file for 2026-03-01; 0 duplicates, 0 lines set aside",
        f"recorded_events: {nothing}",
    ]
    assert run("exposures", "--conf", conf)[1].splitlines()[0] == f"exposures: {nothing}"


# The doctor.


@pytest.fixture
def running(shop) -> Iterator[Path]:
    """Return the configuration of a running service, by the system's clock, with a snapshot that is an hour old."""
    later = datetime.now(UTC) - timedelta(hours=1) - AS_OF
    sales = [replace(sale, opens_at=sale.opens_at + later, closes_at=sale.closes_at + later) for sale in SALES]
    publish(shop, as_of=AS_OF + later, horizon_end=AS_OF + timedelta(hours=36) + later, sales=sales)
    port, admin_port = free_ports(2)
    serving = {"port": port, "admin_port": admin_port, "metrics_port": None, "workers": 1}
    with start_server(ServingSettings(**serving), shop.folder / "var"):
        yield shop.configuration(serving=serving)


def test_doctor_of_a_running_service_reports_no_failure(run, running, tmp_path):
    result = tmp_path / "findings.json"
    status, out, _ = run("doctor", "--conf", running, "--json", result)
    findings = {each["name"]: each for each in json.loads(result.read_text())}
    assert status == 0
    assert out.endswith(" 0 FAIL\n")
    assert {each["status"] for each in findings.values()} == {"OK", "WARN"}
    assert findings["page"]["found"].startswith("3 open sales of snapshot ")
    assert findings["ranker"]["advice"] == "run 'recsys nightly': until then no session re-ranks"


def test_doctor_without_a_running_service_fails_and_gives_the_next_step(run, shop, tmp_path):
    result, (port, metrics_port) = tmp_path / "findings.json", free_ports(2)
    conf = shop.configuration(serving={"metrics_port": metrics_port})
    status, out, _ = run("doctor", "--conf", conf, "--target", f"127.0.0.1:{port}", "--json", result)
    findings = json.loads(result.read_text())
    failed = {each["name"]: each for each in findings if each["status"] == "FAIL"}
    assert (status, set(failed)) == (1, {"service", "snapshot"})  # the snapshot is of March
    assert f"127.0.0.1:{port} is out of reach" in failed["service"]["found"]
    (metrics,) = (each["found"] for each in findings if each["name"] == "metrics")
    why = "gives no metrics of the service: Connection refused"
    assert metrics == f"http://127.0.0.1:{metrics_port}/metrics {why}"
    assert "start it with 'recsys serve'" in " ".join(out.split())
    assert out.endswith(" 2 FAIL\n")


def test_check_of_the_snapshot_tells_by_its_status_whether_a_night_was_published(run, shop):
    conf = shop.configuration()
    assert run("snapshots", "check", "--conf", conf)[:2] == (0, f"{NAME} is served, as of 2026-03-01 00:00.\n")
    assert run("snapshots", "check", "--conf", conf, "--as-of", "2026-02-28")[0] == 0
    status, _, err = run("snapshots", "check", "--conf", conf, "--as-of", "2026-03-02")
    assert status == 1
    said = " ".join(err.split())
    assert f"{NAME} is served, as of 2026-03-01 00:00, must be as of 2026-03-02 00:00 or later" in said
    without = shop.configuration(as_of=None)
    assert run("snapshots", "check", "--conf", without)[0] == 1  # of the last midnight


def test_check_of_a_shop_without_a_snapshot_fails(run, tmp_path):
    (tmp_path / "empty").mkdir()
    status, _, err = run("snapshots", "check", "--conf", SmallShop(tmp_path / "empty").configuration())
    assert (status, "no snapshot is served, must be as of" in err) == (1, True)
