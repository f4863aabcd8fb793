import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.engine.nights import PLAN, night
from jobs.night.nightly import _remove_tables_of_old_nights, nightly
from recsys.errors import (
    ConfigurationError,
    EmptyInputError,
    InputError,
    NightCheckError,
    RecsysError,
    RejectedRowsError,
    SchemaError,
)
from recsys.instants import DAY, HOUR, SECOND, from_micros, to_micros
from recsys.pipeline.night_values import read_night_values
from recsys.ranking.ranker_files import RANKER, read_ranker
from recsys.shop.histories import Histories
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import OPEN, Snapshot
from recsys.storage.outputs import Outputs
from recsys.tables.parts import PARTS, parts_of
from tests.helpers.small_shop import AS_OF, MLFLOW_WARNS, SmallShop, at, contents, event, random_rows, sale

pytestmark = MLFLOW_WARNS


def served(shop: SmallShop) -> Snapshot:
    root = shop.settings().snapshots_folder
    return Snapshot.open(root / snapshot_store.current(root))


def night_folder(shop: SmallShop) -> Path:
    return night(shop.settings()).folder


def tables_of(shop: SmallShop) -> dict[str, str]:
    """Return all files that steps of the night wrote."""
    return contents(night_folder(shop) / "data")


def night_outputs(shop: SmallShop) -> Outputs:
    return night(shop.settings()).outputs


def counts_of(folder: Outputs) -> dict[str, int]:
    """Return the number of rows that broke each rule, without rules that no row broke."""
    counts = json.loads((folder / "rule_counts.json").read_text())
    return {count["rule"]["name"]: count["broken"] for count in counts if count["broken"]}


def test_rebuild_makes_every_table_anew_with_the_same_bytes(same_source, spark):
    def tables() -> dict[str, list[str]]:
        outputs = night_outputs(same_source)
        names = [name for name, _ in outputs.found if (outputs / name / PARTS).exists()]
        return {name: sorted(part.sha256 for part in parts_of(outputs / name)) for name in names}

    nightly(night(same_source.settings()))
    before, files = tables(), set(tables_of(same_source))
    name = served(same_source).name
    nightly(night(same_source.settings(), rebuilds=True))
    assert not files & set(tables_of(same_source))
    assert tables() == before
    assert len(before) > 10
    assert served(same_source).name == name


# Reasons why a night stops: each function changes a shop whose snapshot is served.


def broken_rows(shop: SmallShop, **changes: object) -> None:
    sales, events = random_rows(1)
    shop.write([{**row, **changes} for row in sales], events)


def cast_that_fails(shop: SmallShop) -> None:
    shop.write_sql("sales", "select * except (title, price), title, cast(title as double) as price from {raw_sales}")


def without_events(shop: SmallShop) -> None:
    shop.write(random_rows(1)[0], [])


def without_sales(shop: SmallShop) -> None:
    shop.write([], random_rows(1)[1])


def without_open_sale(shop: SmallShop) -> None:
    sales, events = random_rows(1)
    opened = [row for row in sales if row["opens_at"] < at(-1)]
    shop.write([{**row, "closes_at": min(row["closes_at"], AS_OF)} for row in opened], events)


STOPS: dict[str, tuple[Callable[[SmallShop], object], type[RecsysError], Sequence[str]]] = {
    "missing column": (
        lambda shop: shop.write_sql("events", "select user_id, sale_id, kind from {raw_events}"),
        SchemaError,
        ["table events", "events.sql", "column occurred_at is missing, must be timestamp"],
    ),
    "wrong type": (
        lambda shop: shop.write_sql("sales", "select * except (price), 'cheap' as price from {raw_sales}"),
        SchemaError,
        ["table sales", "sales.sql", "column price is string, must be double"],
    ),
    "no zone": (
        lambda shop: shop.write_sql(
            "sales", "select * except (opens_at), cast(opens_at as timestamp_ntz) as opens_at from {raw_sales}"
        ),
        SchemaError,
        ["column opens_at is timestamp_ntz, must be timestamp, which has a zone", "to_utc_timestamp"],
    ),
    "cast that fails": (
        cast_that_fails,
        InputError,
        ["table sales: [CAST_INVALID_INPUT]", 'cannot be cast to "DOUBLE"', "try_cast"],
    ),
    "seconds since 1970 as text": (
        lambda shop: shop.write_sql(
            "sales",
            "select * except (opens_at), to_timestamp(substr(title || '1772323200', -10)) as opens_at from {raw_sales}",
        ),
        InputError,
        ["table sales: [CAST_INVALID_INPUT]", 'cannot be cast to "TIMESTAMP"', "timestamp_seconds(cast(… as bigint))"],
    ),
    "sale that closes before it opens": (
        lambda shop: broken_rows(shop, closes_at=at(-300)),
        RejectedRowsError,
        ["table sales: 14 of 14 rows", "must be at most 50.00%", "sale_closes_after_it_opens", '"sale_id":"s'],
    ),
    "no event": (
        without_events,
        NightCheckError,
        ["events known before as_of == 0, but the snapshot in use ranks 40 users by theirs", "--as-of"],
    ),
    "no sale": (without_sales, EmptyInputError, ["table sales has 0 rows that can be used", "the source has none"]),
    "no open sale": (
        without_open_sale,
        EmptyInputError,
        [
            "no sale is open in [2026-03-01 00:00, 2026-03-02 12:00) UTC, but 8 sales of snapshot 20260301T000000Z-",
            "--as-of",
        ],
    ),
    "no raw file": (
        lambda shop: (shop.folder / "raw/events.parquet").unlink(),
        InputError,
        ["raw table 'raw_events'", "events.parquet does not exist", "source.raw.raw_events.path"],
    ),
    "no SQL folder": (
        lambda shop: (shop.folder / "sql").rename(shop.folder / "gone"),
        ConfigurationError,
        ["source.sql == ", "must be a folder of SQL files"],
    ),
}


@pytest.mark.parametrize("stop", STOPS)
def test_night_that_stops_says_why_and_the_last_snapshot_stays_in_use(shop, stop):
    change, kind, parts = STOPS[stop]
    snapshots = contents(shop.settings().snapshots_folder)
    change(shop)
    with pytest.raises(kind) as error:
        nightly(night(shop.settings()))
    for part in parts:
        assert part in str(error.value)
    assert contents(shop.settings().snapshots_folder) == snapshots
    assert len(snapshots) > 5


def test_night_that_stops_at_its_first_step_leaves_its_tables_unchanged(shop):
    before = tables_of(shop)
    broken_rows(shop, price=-1.0)
    with pytest.raises(RejectedRowsError):
        nightly(night(shop.settings()))
    assert tables_of(shop) == before
    refused = json.loads((night_folder(shop) / "refused_rule_counts.json").read_text())
    assert {count["rule"]["name"]: count["broken"] for count in refused}["price_valid"] == 14


ODD_USERS = [
    "Zoë d'Arc",
    'a "quoted" id',
    "slash/back\\slash",
    "日本語🏖",
    "two  blanks",
    "../../etc",
    "%s {0}",
    "x" * 256,
]
ODD_SALES = ["é 'sale' \"1\"", "a/b\\c", "🏝"]


@pytest.fixture(scope="module")
def odd_shop(spark, tmp_path_factory) -> SmallShop:
    """A shop after a night, with unusual but allowed rows beside usual ones."""
    sales, events = random_rows(2)
    sales += [sale(sale_id, attributes={"country": "é=\"'\\"}) for sale_id in ODD_SALES]
    sales += [sale(ODD_SALES[0], -30, title="opens later")]
    sales += [sale("bad" + "x" * 10_240), sale("two\nlines")]
    events += [event(user, ODD_SALES[number % 3], -2 - number) for number, user in enumerate(ODD_USERS)]
    events += [event("x" * 10_240, ODD_SALES[0], -1), event("line\nfeed", ODD_SALES[0], -1)]
    events += [event("twice", ODD_SALES[1], -3, recorded_at=at(-2)), event("twice", ODD_SALES[1], -3)]
    events += [event("later", ODD_SALES[0], 1), event(ODD_USERS[0], ODD_SALES[1], 0, "purchase")]
    events += [event(f" padded{blank}", f"{ODD_SALES[1]} ", -4) for blank in ("", "\u00a0")]
    events += [event("early", ODD_SALES[0], -49, "purchase"), event("early", "s01", -3)]  # it opens 48 h before as_of
    shop = SmallShop(tmp_path_factory.mktemp("odd_shop")).write(sales, events)
    nightly(night(shop.settings()))
    return shop


def test_odd_ids_are_scored_published_and_found(odd_shop):
    snapshot = served(odd_shop)
    assert {sale.sale_id for sale in snapshot.sales} >= set(ODD_SALES)
    for user in ODD_USERS:
        ranking = snapshot.ranking("meta", user)
        assert len(set(ranking.sales)) == 10


def test_blanks_around_an_id_are_no_part_of_it(odd_shop):
    events = pq.read_table(night_outputs(odd_shop) / "events").to_pylist()
    assert [row["sale_id"] for row in events if "padded" in row["user_id"]] == [ODD_SALES[1]]  # the other is a copy
    assert served(odd_shop).ranking("meta", "padded") is not None


def test_ids_too_long_or_with_control_characters_are_set_aside(odd_shop):
    counts = counts_of(night_outputs(odd_shop))
    names = ("sale_id_short", "sale_id_printable", "user_id_short", "user_id_printable")
    assert {name: counts[name] for name in names} == dict.fromkeys(names, 1)
    snapshot = served(odd_shop)
    assert not {"bad" + "x" * 10_240, "two\nlines"} & {sale.sale_id for sale in snapshot.sales}
    assert snapshot.ranking("meta", "x" * 10_240) is None


def test_first_to_open_of_two_windows_that_close_together_is_published(odd_shop):
    (found,) = [sale for sale in served(odd_shop).sales if sale.sale_id == ODD_SALES[0]]
    assert (found.title, found.opens_at) == (f"Title of {ODD_SALES[0]}", at(-48))
    assert counts_of(night_outputs(odd_shop))["sale_window"] == 1


def test_duplicate_event_is_set_aside_and_the_copy_recorded_first_is_used(odd_shop):
    events = pq.read_table(night_outputs(odd_shop) / "events").to_pylist()
    (used,) = [row for row in events if row["user_id"] == "twice"]
    assert used["recorded_at"] == at(-3)
    rejected = pq.read_table(night_outputs(odd_shop) / "rejected_rows").to_pylist()
    copies = [json.loads(row["row"]) for row in rejected if row["rule"] == "event_unique"]
    assert [row["recorded_at"] for row in copies if row["user_id"] == "twice"] == ["2026-02-28T22:00:00.000Z"]


def test_events_at_or_after_as_of_are_counted_but_not_used(odd_shop):
    assert counts_of(night_outputs(odd_shop))["known_as_of"] == 2
    events = pq.read_table(night_outputs(odd_shop) / "events")
    assert max(events["occurred_at"].to_pylist()) < AS_OF
    assert "later" not in events["user_id"].to_pylist()
    assert served(odd_shop).ranking("meta", "later") is None


def test_purchase_outside_its_sales_window_is_used_and_counted_but_is_not_an_example(odd_shop):
    folder = night_outputs(odd_shop)
    assert counts_of(folder)["purchase_while_open"] >= 1
    events = pq.read_table(folder / "events").to_pylist()
    assert [row["kind"] for row in events if (row["user_id"], row["sale_id"]) == ("early", ODD_SALES[0])] == [
        "purchase"
    ]
    examples = pq.read_table(folder / "training_examples").to_pylist()
    assert not [row for row in examples if row["user_id"] == "early" and row["bought"]]


def test_every_rule_that_rows_break_shows_some_of_them(odd_shop):
    counts = json.loads((night_outputs(odd_shop) / "rule_counts.json").read_text())
    shown = {count["rule"]["name"]: len(count["examples"]) for count in counts if count["rule"]["action"] != "not yet"}
    broken = counts_of(night_outputs(odd_shop))
    assert {"event_unique", "purchase_while_open", "sale_window"} <= set(broken)
    assert shown == {name: min(3, broken.get(name, 0)) for name in shown}


def test_one_open_sale_is_enough(shop):
    sales, events = random_rows(1)
    only = "s01"  # open from the first day on; the others close before as_of or never open
    others = [row for row in sales if row["sale_id"] != only and row["opens_at"] < at(-2)]
    closed = [{**row, "closes_at": min(row["closes_at"], at(-1))} for row in others]
    shop.write([next(row for row in sales if row["sale_id"] == only), *closed], events)
    nightly(night(shop.settings()))
    snapshot = served(shop)
    assert [sale.sale_id for sale in snapshot.sales] == [only]
    assert snapshot.k == 1
    assert list(snapshot.ranking("popularity", "anybody").sales) == [0]


def test_shop_younger_than_its_training_days_can_run_a_night(shop):
    sales, events = random_rows(1)
    young = [{**row, "opens_at": max(row["opens_at"], at(-30))} for row in sales if row["closes_at"] > at(-20)]
    shop.write(young, [row for row in events if row["occurred_at"] > at(-30)])
    nightly(night(shop.settings()))
    assert served(shop).manifest.n_users > 5


def test_night_with_the_champion_trains_nothing(shop):
    before = served(shop)
    name = nightly(night(shop.settings(), to_micros(AS_OF) + DAY, trains=False))
    after = served(shop)
    assert after.name == name != before.name
    assert after.versions == before.versions
    assert not (night(shop.settings(), to_micros(AS_OF) + DAY).outputs / "training_examples").exists()


def test_tables_of_old_nights_are_removed_but_for_those_that_are_kept_or_needed(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    run = night(SmallShop(tmp_path).settings(nights={"keep": 2}))
    nights = run.folder.parent
    for name in ("20260224", "20260225", "20260226", "20260227", "20260301", "20260302"):
        (nights / f"{name}T000000Z").mkdir(parents=True)
    for hour in ("20260228T120000Z", "20260228T180000Z"):
        (nights / hour).mkdir()
        (nights / hour / PLAN).write_text('{"trains": false, "is_hourly": true}')
    (nights / ".tmp-0123").mkdir()
    before = ["20260225T000000Z-1234", "20260224T000000Z-1234"]  # a rollback goes to the first of these
    monkeypatch.setattr(snapshot_store, "published_before_current", lambda root: before)
    _remove_tables_of_old_nights(run)
    left = ["20260225", "20260227", "20260301", "20260302"]
    assert sorted(path.name[:8] for path in nights.glob("2*")) == left
    assert (nights / ".tmp-0123").exists()
    assert caplog.text.count("see 'nights.keep'") == 4


def test_hours_between_nights_are_published_apart_from_the_nights(shop):
    settings = shop.settings(snapshots={"keep": 2, "keep_hourly": 1})
    root = settings.snapshots_folder
    of_night = snapshot_store.current(root)
    for hours in (1, 7):
        run = night(settings, to_micros(AS_OF) + hours * HOUR, is_hourly=True)
        name = nightly(run)
        assert snapshot_store.current(root) == name
        assert Snapshot.open(root / name).manifest.versions == {"home_ranker": "1"}
    assert {each.name for each in root.iterdir() if each.is_dir()} >= {of_night, name}
    hours = [path.name[9:11] for path in sorted(run.folder.parent.iterdir()) if path.is_dir()]
    assert hours == ["00", "01", "07"]  # a rollback returns to the snapshot of 1 o'clock
    values = {each.as_of: each for each in read_night_values(Path(settings.folder))}
    assert [each.is_hourly for each in values.values()] == [False, True, True]
    assert values[from_micros(run.as_of)].pages == values[AS_OF].pages > 0  # of the same day


def test_snapshot_names_model_version_and_fingerprint(published_shop):
    snapshot = served(published_shop)
    assert (snapshot.as_of, snapshot.horizon_end) == (AS_OF, AS_OF + timedelta(hours=36))
    assert snapshot.policies == ("meta",)
    assert list(snapshot.versions) == ["home_ranker"]
    features = json.loads((snapshot.file(RANKER) / "meta_models.json").read_text())["meta"]["features"]
    assert [*features, OPEN] == list(snapshot.reasons)


def test_night_of_a_model_by_another_name_publishes_its_version_under_that_name(same_source):
    nightly(night(same_source.settings(mlflow={"model_name": "sea_ranker"})))
    assert served(same_source).versions == {"sea_ranker": "1"}


def test_published_ranker_ranks_users_by_their_published_histories_as_the_night_did(published_shop):
    snapshot = served(published_shop)
    ranker, catalogue = read_ranker(snapshot.file(RANKER))
    ranked = 0
    for user in (snapshot.users.find(f"u{number:02d}") for number in range(40)):
        if user is None:
            continue
        sales, ages, purchases = user.history()
        offsets = np.array([0, len(sales)])
        instants = ranker.scorer.horizon.as_of - ages.astype(np.int64) * SECOND
        known = Histories(ranker.scorer.horizon.as_of, len(catalogue), offsets, sales, purchases, instants)
        ranking = user.ranking("meta")
        scored = ranker.scored(known)
        scores = scored.calibrated(ranker.meta_model, scored.scores("meta"))[0]
        half_a_step = np.ptp(ranking.scores) / 65_535 / 2
        np.testing.assert_allclose(ranking.scores, scores[ranking.sales], atol=half_a_step + 2e-5)
        assert set(np.flatnonzero(scores > ranking.scores.min() + 2e-5)) <= set(ranking.sales.tolist())
        ranked += 1
    assert ranked == snapshot.manifest.n_users > 30


def test_as_of_is_given_or_configured_or_today(tmp_path):
    settings = SmallShop(tmp_path).settings()
    assert night(settings, 7 * DAY, today=0).as_of == 7 * DAY
    assert night(settings, today=0).as_of == to_micros(AS_OF)
    assert night(settings.model_copy(update={"as_of": None}), today=3 * DAY).as_of == 3 * DAY
    with pytest.raises(ConfigurationError, match="no as_of: give --as-of or 'as_of' in the configuration"):
        night(settings.model_copy(update={"as_of": None}))


def test_meta_model_is_trained_on_the_days_before_as_of(tmp_path):
    run = night(SmallShop(tmp_path).settings())
    assert run.training_days == [run.as_of - 3 * DAY, run.as_of - 2 * DAY, run.as_of - DAY]
    assert night(run.settings, trains=False).training_days == [run.as_of - DAY]  # to measure the champion on
