import gzip
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cli.commands import init
from recsys.config.settings import load_settings
from recsys.storage.outputs import Outputs
from tests.helpers.paths import ROOT

PRODUCTS = "Artikelnr;Bezeichnung;Preis;Warengruppe\n" + "".join(
    f'a{number};"Bett {number}; gro\u00df\nund breit";{number},50;{"Betten" if number % 2 else "Sofas"}\n'
    for number in range(1, 9)
)
ORDERS = "Kundennummer,Artikelnr,Menge,Bestelldatum\n" + "".join(
    f"{number % 5 + 10 if number else ''},a{number % 8 + 1},{-1 if number == 1 else 2},"
    f"{number % 28 + 1}.3.2025 10:{number:02}\n"
    for number in range(40)
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with the shared settings, two files, and an empty folder of configurations."""
    (tmp_path / "conf").mkdir()
    shutil.copy(ROOT / "conf/base.yaml", tmp_path / "conf")
    (tmp_path / "products.csv").write_bytes(PRODUCTS.encode("latin-1"))
    (tmp_path / "orders.csv.gz").write_bytes(gzip.compress(ORDERS.encode()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(init, "_FOLDERS", tmp_path / "var")  # Java has the working directory of its start
    return tmp_path


FILES = ("--sales", "products.csv", "--events", "orders.csv.gz")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("my shop",), "NAME == 'my shop', must be a plain word"),
        (("../x",), "NAME == '../x', must be a plain word"),
        (("base", "--force"), "conf/base.yaml exists already: choose another name"),
        (("taken",), "conf/taken.yaml exists already: choose another name, or replace it by --force"),
        (("a", "--timezone", "Europe/Pariss"), "did you mean 'Europe/Paris'"),
        (("a", "--kind", "view=visits"), "--kind view=visits: must be visit, purchase or neither"),
        (("a", "--column", "sales.tilte=x"), "did you mean 'sales.title'"),
        (
            ("a",),
            "the instants of events.occurred_at say no zone: give it by --timezone, such as UTC or Europe/Paris, or",
        ),
        (("a", "--users", "none.csv"), "none.csv does not exist"),
        (("a", "--users", "s3://bucket/users"), "s3://bucket/users is a URL, must be a file"),
        (("a", "--timezone", "UTC", "--kind", "*=neither"), "must be a visit or a purchase"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(run, folder, arguments, said):
    (folder / "conf/taken.yaml").touch()
    status, _, error = run("init", *FILES, *arguments)
    assert (status, said in " ".join(error.split())) == (1, True), error
    assert sorted(each.name for each in (folder / "conf").iterdir()) == ["base.yaml", "taken.yaml"]


def test_columns_that_are_not_sure_are_asked_or_given(run, folder):
    (folder / "events.csv").write_text(
        "a,b,Artikelnr,on_day\np,1,a1,2025-03-01Z\nq,1,a2,2025-03-02Z\np,2,a1,2025-03-03Z\n"
    )
    status, _, error = run("init", "--sales", "products.csv", "--events", "events.csv", "a")
    assert status == 1
    assert "1 column cannot be told: give --yes to take the proposals, or give:" in error
    assert "--column events.user_id=a  (the id of the user: an id that returns; may be a, b)" in error


def test_answers_are_asked_until_they_are_right(folder, monkeypatch):
    asked = []
    answers = iter(["c", "b"])
    monkeypatch.setattr(init, "_is_terminal", lambda: True)
    monkeypatch.setattr(
        init.typer, "prompt", lambda question, default: asked.append((question, default)) or next(answers)
    )
    from recsys.onboarding.guesses import guess_columns
    from recsys.onboarding.sampling import read_sample

    (folder / "events.csv").write_text("a,b,Artikelnr,day\np,1,a1,2025-03-01\nq,1,a2,2025-03-02\np,2,a1,2025-03-03\n")
    samples = {"sales": read_sample("products.csv"), "events": read_sample("events.csv")}
    guesses = guess_columns({table: each.columns for table, each in samples.items()}, {})
    column = init._answer(guesses, samples, yes=False)["events.user_id"].column
    assert column
    assert column.name == "b"
    assert asked == [("Which column? (an id that returns)", "a")] * 2


def test_files_of_an_office_program_become_a_shop_that_validates(run, folder, spark):
    status, printed, error = run("init", *FILES, "--timezone", "Europe/Berlin", "my_shop")
    assert status == 0, error
    assert "Each row of the events counts as a purchase, as there is a quantity, Menge." in printed
    assert "Left out of the events: 2.50% of the 40 rows have no user; 2.50% of the 40 rows have no pos" in printed
    assert "; gro\u00df\\nund breit" in printed
    assert "FAIL" not in printed
    settings = load_settings(folder / "conf/my_shop.yaml")
    assert str(settings.as_of) == "2025-03-29 00:00:00+00:00"  # the last order is of 28 March
    assert settings.recommenders.without == ("hours_open", "hours_left")
    night = Outputs.of(folder / "var/my_shop/nights/20250329T000000Z")
    sales, events = (pd.read_parquet(night / name).sort_values("sale_id").reset_index() for name in ("sales", "events"))
    assert len(events) == 38  # of 40 one has no user, one is a return
    assert set(events["user_id"]) == {"10", "11", "12", "13", "14"}
    assert sales["price"].tolist() == [number + 0.5 for number in range(1, 9)]
    assert dict(sales["attributes"][0]) == {"category": "Betten"}
    first = events[events["sale_id"] == "a1"]["occurred_at"].min()
    assert sales["opens_at"][0] == first == pd.Timestamp("2025-03-05 09:32", tz="UTC")  # 10:32 in Berlin
    assert run("init", *FILES, "--yes", "my_shop")[0] == 1


def test_catalogue_json_and_parquet_with_kinds_windows_users_and_photos_become_a_shop(run, folder, spark):
    days = [f"2025-03-{day:02}" for day in range(1, 11)]
    sales = pd.DataFrame(
        {"offer_id": range(10), "name": [f"Offer {n}" for n in range(10)], "start": pd.to_datetime(days)}
    )
    sales["end"] = sales["start"] + pd.Timedelta(days=30)
    spark.createDataFrame(sales).write.mode("overwrite").saveAsTable("default.offers")
    kinds = ["view", "add_to_cart", "order", "remove_from_cart"]
    Path("events.jsonl").write_text(
        "".join(
            json.dumps({"user": {"id": n % 3 + 1}, "offer": n % 10, "type": kinds[n % 4], "ts": 1_741_608_000_000 + n})
            + "\n"
            for n in range(40)
        )
    )
    Path("shop-orders.csv").write_text("4,2025-03-10T12:30:00Z,7,21\n5,2025-03-10T12:31:00Z,8,22\n")  # no header
    pd.DataFrame({"id": [1, 2, 3], "Pays": ["FR", "FR", "IT"]}).to_parquet("users.parquet")
    Path("photos.csv").write_text("offer_id,photo,position\n" + "".join(f"{n},{n}.jpg,1\n" for n in range(10)))
    Path("3.jpg").touch()
    files = {"--sales": "default.offers", "--users": "users.parquet", "--images": "photos.csv"}
    arguments = [each for pair in files.items() for each in pair]
    arguments += ["--events", "events.jsonl", "--events", "shop-orders.csv"]
    status, printed, error = run("init", *arguments, "--yes", "shop2")
    assert status == 0, error
    assert "FAIL" not in printed
    assert "default.offers: a table of Spark's catalogue, 4 columns, looked at 10 rows" in printed
    assert "Each row of shop-orders.csv counts as a purchase, as the file is called shop-orders.csv." in printed
    assert "A cart counts as a visit (add_to_cart)" in printed
    assert "Left out, as neither: remove_from_cart (10 rows)" in printed
    assert "recsys top 5   # in another terminal: the page of the last user" in printed
    written = yaml.safe_load(Path("conf/shop2.yaml").read_text())
    assert written["source"]["raw"]["raw_sales"] == {"table": "default.offers"}
    assert "recommenders" not in written
    assert written["images"] == {"root": str(folder)}
    night = Outputs.of(folder / "var/shop2/nights/20250311T000000Z")
    events = pd.read_parquet(night / "events")
    assert events["kind"].value_counts().to_dict() == {"visit": 20, "purchase": 12}
    assert events.set_index("user_id").loc[["4", "5"], "sale_id"].tolist() == ["7", "8"]
    assert pd.read_parquet(night / "sale_images")["position"].tolist() == [0] * 10
    users = pd.read_parquet(night / "users").sort_values("user_id")
    assert [dict(each) for each in users["attributes"]] == [{"country": each} for each in ("FR", "FR", "IT")]
