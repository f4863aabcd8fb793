import shlex
from pathlib import Path

import pandas as pd
import pytest

from recsys.errors import InputError
from recsys.onboarding.guesses import guess_columns
from recsys.onboarding.sampling import Sample, read_sample
from recsys.onboarding.shapes import check_rows_of_properties, how_to_complete

PROPERTIES = "timestamp,itemid,property,value\n" + "".join(
    f"{1_435_460_400_000 + day},{item},{name},{value}\n"
    for day, item, name, value in [
        (1, "07", "colour", "red"),
        (2, "07", "colour", "blue"),  # later, so that it is the one to keep
        (1, "07", "size", "1"),
        (1, "08", "size", "2"),
    ]
)
ORDERS = "order_id,customer_id,placed_at\n1,07,2026-03-01\n2,08,2026-03-02\n"
LINES = "order_id;order_item_id;product_id\n1;1;p1\n1;2;p2\n2;1;p1\n"


def written(folder: Path, **texts: str) -> dict[str, Sample]:
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    return {name: read_sample(str(folder / f"{name}.csv")) for name in texts}


def run_command(message: str, folder: Path, monkeypatch) -> None:
    """Run the command of a message as a shell would, in this process."""
    command = next(line for line in message.splitlines() if line.startswith("  python -c "))
    monkeypatch.chdir(folder)
    exec(shlex.split(command)[2], {})


def advice(samples: dict[str, Sample]) -> str | None:
    guesses = guess_columns({table: sample.columns for table, sample in samples.items()}, {})
    hopeless = [guess for guess in guesses.values() if guess.role.is_required and guess.column is None]
    return next(filter(None, (how_to_complete(guess, samples) for guess in hopeless)), None)


def test_rows_of_properties_are_refused_with_a_command_that_turns_them(tmp_path, monkeypatch):
    sample = written(tmp_path, sales=PROPERTIES)["sales"]
    sale = next(column for column in sample.columns if column.name == "itemid")
    with pytest.raises(
        InputError, match=r"has a row per property \(property, value\), must have a row per sale"
    ) as error:
        check_rows_of_properties(sample, sale, "sales.csv")
    run_command(str(error.value), tmp_path, monkeypatch)
    turned = pd.read_parquet(tmp_path / "sales.parquet")
    assert turned.to_dict("list") == {"itemid": ["07", "08"], "colour": ["blue", None], "size": ["1", "2"]}


def test_row_per_sale_with_a_value_is_not_refused(tmp_path):
    sample = written(tmp_path, sales="id,feature,value\n1,a,2\n2,b,3\n")["sales"]
    check_rows_of_properties(sample, sample.columns[0], "sales.csv")


def test_orders_apart_from_their_lines_are_joined_by_the_command_that_is_said(tmp_path, monkeypatch):
    files = written(tmp_path, orders=ORDERS, lines=LINES)
    said = advice({"sales": files["orders"], "events": files["orders"], "events_2": files["lines"]}) or ""
    assert "orders.csv does not say which sale it was, " in said
    assert "lines.csv does, and both have order_id" in said
    run_command(said, tmp_path, monkeypatch)
    joined = pd.read_parquet(tmp_path / "events.parquet")
    assert joined["customer_id"].tolist() == ["07", "07", "08"]  # zeros in front are kept
    assert joined["product_id"].tolist() == ["p1", "p2", "p1"]


def test_lines_alone_name_the_id_of_the_missing_file(tmp_path):
    lines = written(tmp_path, lines=LINES)["lines"]
    said = advice({"sales": lines, "events": lines}) or ""
    assert "does not say who it was. If another file does, which has order_id too, join them first" in said
    assert "sep=';'" in said


def test_events_without_an_instant_are_refused_in_words(tmp_path):
    events = written(tmp_path, events="user_id,item_id,step\nu1,a,7\nu2,b,8\n")["events"]
    said = advice({"sales": events, "events": events}) or ""
    assert said.endswith("or seconds since 1970. Nothing can be learnt without them: give a file that has them")
