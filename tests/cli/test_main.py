import json
import shutil
import sys
from pathlib import Path

import pytest
import typer

from cli.main import app
from recsys.instants import MINUTE
from tests.helpers.small_shop import MLFLOW_WARNS, SmallShop, event, random_rows, sale

pytestmark = MLFLOW_WARNS


@pytest.fixture
def shop(tmp_path) -> SmallShop:
    return SmallShop(tmp_path).write(*random_rows(1))


def commands(group: typer.Typer = app, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    names = [command.name or command.callback.__name__ for command in group.registered_commands]
    return [before, *((*before, name) for name in names)] + [
        each
        for sub in group.registered_groups
        for each in commands(sub.typer_instance, (*before, sub.name or "snapshots"))
    ]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help(run, command):
    status, out, _ = run(*command, "--help")
    assert status == 0
    assert "Usage: " in out
    assert not command or command[-1] in out
    assert len(out.splitlines()) > 4


def test_main_commands_exist():
    words = {" ".join(command) for command in commands()}
    assert {"demo", "validate", "nightly", "backtest", "serve", "top", "snapshots list", "snapshots rollback"} <= words


def error_of(result: tuple[int, str, str]) -> str:
    """Return the message of a command that failed with status 1 and without a stack trace."""
    status, out, err = result
    assert status == 1
    assert "Traceback" not in out + err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate"],
        ["nightly"],
        ["nightly", "--no-train"],
        ["backtest", "--from", "2026-02-01", "--to", "2026-02-02"],
        ["serve"],
        ["snapshots", "list"],
        ["snapshots", "rollback"],
        ["demo"],
    ],
    ids=" ".join,
)
def test_missing_configuration_is_an_error_of_one_line_with_status_1(run, arguments):
    assert "absent.yaml does not exist" in error_of(run(*arguments, "--conf", "absent.yaml"))


def test_unknown_key_is_an_error_that_names_file_key_and_rule(run, shop):
    conf = shop.configuration(histroy={"days": 3})
    status, _, err = run("nightly", "--conf", conf)
    assert status == 1
    assert f"error: {conf}: 1 wrong:\n  histroy == {{'days': 3}}: unknown key; did you mean 'history'?" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nightly", "--as-of", "tomorrow"], "instant 'tomorrow', must be a date or an instant such as"),
        (["nightly", "--as-of", "2026-03-01T00:00:00"], "has no zone: write 2026-03-01T00:00:00Z for UTC"),
        (["backtest", "--from", "2026-02-30", "--to", "2026-03-01"], "instant '2026-02-30', must be a date"),
        (["backtest", "--from", "2026-03-02", "--to", "2026-03-01"], "--to 2026-03-01 is before --from 2026-03-02"),
        (["demo"], "the configuration has no 'demo_shop'"),
        (["snapshots", "rollback"], "has no snapshot published before"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_invalid_argument_is_an_error_of_one_line(run, shop, arguments, message):
    assert message in error_of(run(*arguments, "--conf", shop.configuration()))


def test_wrong_option_is_refused_with_the_usage(run):
    status, _, err = run("nightly", "--confg", "x")
    assert status == 2
    assert "No such option" in err


def test_brackets_in_a_message_are_not_markup(run):
    assert "conf/[bold]x[/bold] [/].yaml does not exist" in error_of(
        run("serve", "--conf", "conf/[bold]x[/bold] [/].yaml")
    )


def test_validate_prints_every_rule_with_its_counts_and_what_the_tables_hold(run, spark, shop, tmp_path):
    sales, events = random_rows(1)
    twice = event("u1", "s01", -3)
    shop.write([*sales, sale("dear", price=-1.0)], [*events, twice, twice, event("null", "s01", -3)])
    status, out, err = run("validate", "--conf", shop.configuration(), "--html", tmp_path / "profile.html")
    assert status == 0
    lines = {tuple(line.split()[:2]): line.split()[2:5] for line in out.splitlines()}
    assert lines["sales", "price_valid"] == ["FAIL", "15", "1"]
    assert lines["sales", "title_present"] == ["PASS", "15", "0"]
    assert lines["events", "event_unique"][0] == "NOTE"
    assert [lines["events", name][0] for name in ("user_id_meant", "user_id_usual", "events_recent")] == [
        "NOTE",
        "PASS",
        "PASS",
    ]
    assert lines["sales", "sale_open"][0] == "PASS"
    assert "table events breaks 'user_id_meant'" in err
    assert '"sale_id":"dear"' in out
    assert out.count('"kind":') >= 1
    examples = out.split("events.event_unique: ")[1].split("\n\n")[0]
    assert '"user_id":' in examples
    assert ["sales", "14,", "14", "of", "them", "with", "an", "event"] in [row.split() for row in out.splitlines()]
    assert "- 1 event with a placeholder as user_id, such as 'null'" in out
    assert "- serving.clock: replay  because" in out
    assert "price is null or a finite number" in (tmp_path / "profile.html").read_text()


def test_validate_of_a_refused_source_prints_the_rules_and_fails(run, spark, shop):
    sales, events = random_rows(1)
    strict = shop.raw_settings()["source"] | {"max_rejected_share": 0.0}
    shop.write([*sales, sale("free", price=-1.0)], events)
    status, out, err = run("validate", "--conf", shop.configuration(source=strict))
    assert status == 1
    assert "price_valid" in out
    assert "Too little data for" not in out
    assert "table sales: 1 of 15 rows break a rule, must be at most 0.00% (source.max_rejected_share)" in err
    shop.write([], events)
    status, out, err = run("validate", "--conf", shop.configuration())
    assert "table sales has 0 rows that can be used" in error_of((status, out, err))
    assert [line.split()[2:4] for line in out.splitlines() if "price_valid" in line] == [["PASS", "0"]]


def test_validate_of_a_source_without_a_column_fails_without_rules_of_an_earlier_run(run, spark, shop):
    assert run("validate", "--conf", shop.configuration())[0] == 0
    shop.write_sql("sales", "select sale_id from {raw_sales}")
    status, out, err = run("validate", "--conf", shop.configuration())
    assert "column title is missing, must be string" in error_of((status, out, err))
    assert "PASS" not in out
    shop.write_sql("sales", "select * from {raw_sales}")
    status, out, _ = run("validate", "--conf", shop.configuration())
    assert (status, "PASS" in out) == (0, True)


def test_backtest_writes_its_result_as_json(run, monkeypatch, shop, tmp_path):
    metrics = {name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in ("recall@10", "ndcg@10", "hit_rate@10", "mrr")}
    about = {"from": "a", "to": "b", "days": 1, "pages": 2, "model": "m", "trained_on": "t", "note": ""}
    result = {"window": about, "policies": {"meta": {**metrics, "users": 2}}, "differences": {}}
    asked = []

    def measured(*arguments: object) -> dict:
        asked.append(arguments)
        return result

    monkeypatch.setattr("jobs.backtest.backtest.backtest", measured)
    file = tmp_path / "result.json"
    days = ("--from", "2026-02-01", "--to", "2026-02-09", "--days-sampled", 2, "--users-sampled", 0.5, "--seed", 3)
    versions = ("--versions", "5, challenger", "--new-only", "--without-tagger", "rooms")
    live = ("--live", "--lag-minutes", 2)
    status, out, _ = run("backtest", "--conf", shop.configuration(), *days, *versions, *live, "--peers", "--json", file)
    assert status == 0
    assert "0.5000 ± 0.1000" in out
    assert json.loads(file.read_text()) == result
    ((window, *others),) = asked
    assert (len(window.days), *others) == (2, 0.5, 3, ["5", "challenger"], True, ["rooms"], 2 * MINUTE, True)


@pytest.mark.parametrize(
    "more",
    [
        ("--versions", "5"),
        ("--new-only",),
        ("--users-sampled", 0.5),
        ("--without-tagger", "x"),
        ("--live",),
        ("--peers",),
    ],
)
def test_check_of_leaks_accepts_no_option_of_the_measurement(run, shop, more):
    days = ("--from", "2026-02-01", "--to", "2026-02-02")
    message = error_of(run("backtest", "--conf", shop.configuration(), *days, "--check-leaks", *more))
    assert "--check-leaks measures nothing: give it without --versions, --new-only, --live, --peers, " in message


def test_lag_without_live_pages_is_refused(run, shop):
    days = ("--from", "2026-02-01", "--to", "2026-02-02")
    message = error_of(run("backtest", "--conf", shop.configuration(), *days, "--lag-minutes", 5))
    assert "--lag-minutes == 5 without --live, must be with it" in message


def test_top_without_a_service_names_the_command_that_starts_one(run):
    message = error_of(run("top", "ann", "--target", "127.0.0.1:1"))
    assert message.startswith("error: no service at 127.0.0.1:1 (")
    assert "Connection refused): start it with 'recsys serve', or correct the address" in message


def test_empty_list_of_snapshots_names_the_command_that_publishes_one(run, shop):
    status, out, _ = run("snapshots", "list", "--conf", shop.configuration())
    assert status == 0
    assert "run 'recsys nightly'" in " ".join(out.split())


def test_command_is_installed():
    assert shutil.which("recsys", path=str(Path(sys.executable).parent))
