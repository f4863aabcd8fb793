import json
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cli.tables.results import (
    print_backtest,
    print_model,
    print_rules,
    print_snapshots,
    print_tags,
    print_theme_counts,
    print_themes,
    print_treatments,
    result_of_rule,
)
from recsys.console import TextConsole
from recsys.images.themes.theme_choice import ThemeCount
from recsys.images.themes.theme_map import Quality, Treatment
from recsys.meta_model import LogisticModel
from recsys.snapshot.publishing import Publisher


@pytest.fixture
def console() -> TextConsole:
    return TextConsole(file=StringIO(), width=120)


def printed(console: TextConsole) -> str:
    return console.file.getvalue()


def count(rule: str, broken: int, action: str = "set aside", examples: tuple[str, ...] = ()) -> dict:
    return {
        "table": "events",
        "rule": {"name": rule, "meaning": f"meaning of {rule}", "broken": "SQL", "action": action},
        "rows": 12_345,
        "broken": broken,
        "examples": list(examples),
    }


def lines_with(text: str, word: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if word in line]


def test_every_rule_is_printed_with_result_counts_and_action(tmp_path, console):
    counts = [count("kind_known", 0), count("sale_known", 1_200), count("known_as_of", 7, "not yet")]
    (tmp_path / "counts.json").write_text(json.dumps(counts))
    print_rules(tmp_path / "counts.json", console)
    text = printed(console)
    assert "events kind_known PASS 12,345 0 set aside" in lines_with(text, "kind_known")
    assert "events sale_known FAIL 12,345 1,200 set aside" in lines_with(text, "sale_known")
    assert "events known_as_of PASS 12,345 7 not yet" in lines_with(text, "known_as_of")
    assert "events.sale_known: meaning of sale_known; broken by:" in text
    assert "meaning of kind_known" not in text


def test_examples_are_printed_without_markup_and_truncated(tmp_path, console):
    examples = ('{"user_id":"[bold]x[/bold] [/oops]"}', "y" * 5_000)
    (tmp_path / "counts.json").write_text(json.dumps([count("sale_known", 2, examples=examples)]))
    print_rules(tmp_path / "counts.json", console)
    text = printed(console)
    assert '"[bold]x[/bold] [/oops]"' in text
    assert text.count("y") < 200
    assert "…" in text


@pytest.mark.parametrize(
    ("broken", "action", "result"),
    [
        (0, "set aside", "PASS"),
        (1, "set aside", "FAIL"),
        (1, "set aside, not counted", "NOTE"),
        (1, "kept", "NOTE"),
        (1, "not yet", "PASS"),
    ],
)
def test_only_rows_that_are_broken_by_themselves_fail_a_rule(broken, action, result):
    assert result_of_rule(count("any", broken, action)) == result


METRICS = ("recall@10", "ndcg@10", "hit_rate@10", "mrr")


def backtest(**changed: object) -> dict:
    estimate = {"value": 0.5, "low": 0.4, "high": 0.7}
    worse = {"value": 0.25, "low": 0.2, "high": 0.3}
    result = {
        "window": {
            "from": "2026-02-01",
            "to": "2026-02-03",
            "days": 3,
            "pages": 1_234,
            "model": "home_ranker version 2",
            "trained_on": "14 days before 2026-02-01",
            "note": "Mind [this].",
        },
        "policies": {
            "popularity": {**dict.fromkeys(METRICS, worse), "users": 1_000},
            "meta": {
                **dict.fromkeys(METRICS, estimate),
                "users": 1_000,
                "auc": 0.9,
                "log_loss": 0.1,
                "calibration": 1.2,
            },
        },
        "predicted": {"all": 1.2, "all_made": 1.0, "shown": 0.5, "shown_made": 0.25},
        "differences": {
            "meta - meta_without_images": {key: {"value": 0.03, "low": -0.01, "high": 0.07} for key in METRICS}
        },
    }
    return result | changed


def test_backtest_is_printed_best_policy_first_with_half_widths_and_note(console):
    print_backtest(backtest(), console)
    text = printed(console)
    assert "2026-02-01 to 2026-02-03: 3 days, 1,234 pages of 1,000 users; home_ranker version 2, trained on 14" in text
    assert text.index("meta ") < text.index("popularity ")
    assert "meta - meta_without_images: ndcg@10 +0.0300, 95% interval -0.0100 to +0.0700" in text
    assert "0.5000 ± 0.1500" in text
    assert "AUC 0.9000, log-loss 0.10000, 1.20 predicted purchases per observed purchase" in text
    assert "on a page of ten 0.50 predicted and 0.25 observed purchases" in text
    assert "Note: Mind [this]." in text
    assert "gini" not in text
    assert "oracle" not in text


def test_variety_and_oracle_are_printed_if_known_within_120_columns(console):
    found = backtest(
        oracle={"ndcg@10": {"value": 0.8, "low": 0.7, "high": 0.9}, "share": {"value": 0.625, "low": 0.5, "high": 0.75}}
    )
    found["policies"]["meta_without_images"] = found["policies"]["meta"] | {
        "coverage": 0.8125,
        "gini": 0.5,
        "novelty": 12.25,
    }
    print_backtest(found, console)
    [row] = [line for line in lines_with(printed(console), "meta_without_images") if "±" in line]
    assert row.endswith("0.5000 ± 0.1500 81.2% 0.500 12.25")
    assert [line for line in lines_with(printed(console), "popularity") if line.endswith("± 0.0500 – – –")]
    assert "ndcg@10 0.8000 ± 0.1000; meta reaches 62.5% of it, 95% interval 50.0% to 75.0%" in printed(console)


def test_metrics_are_printed_in_the_order_of_the_reports(console):
    found = backtest()
    for number, metric in enumerate(METRICS):
        found["policies"]["meta"][metric] = dict.fromkeys(("value", "low", "high"), (3 + number) / 10)
    print_backtest(found, console)
    [header] = lines_with(printed(console), "hit_rate@10")
    [meta] = lines_with(printed(console), "0.6000")
    assert header == "policy ndcg@10 recall@10 hit_rate@10 mrr"
    assert meta == "meta 0.4000 ± 0.0000 0.3000 ± 0.0000 0.5000 ± 0.0000 0.6000 ± 0.0000"


def test_mix_that_is_worse_than_its_best_part_is_said_with_figures(console):
    fine = {"case": "all sales", "pages": 50, "best": "popularity", "difference": {"value": 0, "low": -1, "high": 1}}
    worse = {"value": -0.0125, "low": -0.02, "high": -0.005}
    weak = {"case": "repeat purchases", "pages": 1_040, "best": "own_purchases", "difference": worse}
    print_backtest(backtest(best_part=[fine, weak]), console)
    said = " ".join(printed(console).split())
    assert (
        "The meta-model ranks worse than own_purchases alone among repeat purchases: ndcg@10 -0.0125 [-0.0200, -0.0050]"
        " on 1,040 pages. Try another 'meta_model.kind'"
    ) in said
    assert said.count("worse than") == 1


def test_counts_of_one_are_singular(console):
    found = backtest()
    found["window"] |= {"days": 1, "pages": 1}
    found["policies"]["meta"]["users"] = 1
    print_backtest(found, console)
    assert "2026-02-01 to 2026-02-03: 1 day, 1 page of 1 user; home_ranker" in printed(console)


def test_boosted_trees_are_printed_with_shares_of_gain(console):
    print_model(SimpleNamespace(coefficients_by_feature={"weak": 0.25, "strong": 0.75}), console)
    assert "share of the gain of all splits" in printed(console)
    assert printed(console).split()[-4:] == ["strong", "75.0%", "weak", "25.0%"]


def test_model_is_printed_strongest_coefficient_first(console):
    model = LogisticModel(["weak", "strong"], [0, 0], [1, 1], [0.5, -2.0], 0)
    print_model(model, console)
    assert printed(console).split()[-4:] == ["strong", "-2.000", "weak", "+0.500"]


def test_folder_without_snapshots_names_the_command_that_publishes_one(tmp_path, console):
    print_snapshots(Publisher(tmp_path), console)
    assert "run 'recsys nightly'" in printed(console)


def test_damaged_snapshot_is_listed_with_its_problem(tmp_path, console):
    Path(tmp_path / "20260301T000000Z-abcdef01").mkdir()
    print_snapshots(Publisher(tmp_path), console)
    assert "missing" in printed(console)


def test_themes_are_printed_most_frequent_first_with_tags_and_file_names(console):
    rare, frequent = (
        {
            "id": number,
            "name": name,
            "share_of_photos": share,
            "share_of_sales": 0.5,
            "tags": [{"tag": name, "weight": 0.9}],
            "examples": [f"s3://bucket/{name}.jpg"],
        }
        for number, name, share in ((7, "pool", 0.25), (2, "beach [sic]", 0.75))
    )
    print_themes([rare, frequent], console)
    text = printed(console)
    assert text.index("beach [sic]") < text.index("pool")
    assert "75.0%" in text
    assert "pool 90%" in text
    assert "bucket" not in text


def test_tags_are_printed_as_they_are_found_and_rows_are_yielded_unchanged(console):
    rows = [
        {"photo": "a.jpg", "tags": [{"tag": "pool", "probability": 0.625}]},
        {"photo": "b.jpg", "reason": "empty", "detail": "0 bytes"},
    ]
    assert list(print_tags(iter(rows), console, 2)) == rows
    text = printed(console)
    assert " 62.5%  pool" in text
    assert "0 bytes" in text
    assert "1 of 2 photos tagged, 1 set aside" in text


def test_numbers_of_themes_and_treatments_of_maps_are_printed_with_a_dash_for_the_unknown(console):
    print_theme_counts([ThemeCount(8, 0.5, 0.9, 0.4, 0.0125)], console)
    quality = Quality(0.99, None, None, 0.25, 0.7, 0.1)
    print_treatments([Treatment("Embedding", np.zeros((1, 2)), quality)], console)
    text = printed(console)
    assert "8        0.500      0.900      0.400    1.25%" in text
    assert text.split("Embedding")[1].split()[:6] == ["0.990", "–", "–", "0.700", "0.100", "0.250"]
