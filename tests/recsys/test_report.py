import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from recsys.meta_model import MetaModel
from recsys.report import passed, print_backtest, print_model, print_rules, print_snapshots


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), width=120, highlight=False)


def printed(console: Console) -> str:
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


def test_every_rule_is_printed_with_verdict_counts_and_what_happens(tmp_path, console):
    counts = [count("kind_known", 0), count("sale_known", 1_200), count("known_as_of", 7, "not yet")]
    (tmp_path / "counts.json").write_text(json.dumps(counts))
    print_rules(tmp_path / "counts.json", console)
    text = printed(console)
    assert "events kind_known PASS 12,345 0 set aside" in lines_with(text, "kind_known")
    assert "events sale_known FAIL 12,345 1,200 set aside" in lines_with(text, "sale_known")
    assert "events known_as_of PASS 12,345 7 not yet" in lines_with(text, "known_as_of")
    assert "events.sale_known: meaning of sale_known; not so in:" in text
    assert "meaning of kind_known" not in text


def test_examples_are_shown_as_they_are_but_cut(tmp_path, console):
    examples = ('{"user_id":"[bold]x[/bold] [/oops]"}', "y" * 5_000)
    (tmp_path / "counts.json").write_text(json.dumps([count("sale_known", 2, examples=examples)]))
    print_rules(tmp_path / "counts.json", console)
    text = printed(console)
    assert '"[bold]x[/bold] [/oops]"' in text
    assert text.count("y") < 200
    assert "…" in text


@pytest.mark.parametrize(
    ("broken", "action", "verdict"), [(0, "set aside", True), (1, "kept", False), (1, "not yet", True)]
)
def test_rule_passes_where_no_row_breaks_it_or_the_row_is_not_known_yet(broken, action, verdict):
    assert passed(count("any", broken, action)) is verdict


def test_backtest_is_printed_best_policy_first_with_half_intervals_and_note(console):
    estimate = {"value": 0.5, "low": 0.4, "high": 0.7}
    worse = {"value": 0.25, "low": 0.2, "high": 0.3}
    metrics = ("recall@10", "ndcg@10", "hit_rate@10", "mrr")
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
            "popularity": {**dict.fromkeys(metrics, worse), "users": 1_000},
            "meta": {
                **dict.fromkeys(metrics, estimate),
                "users": 1_000,
                "auc": 0.9,
                "log_loss": 0.1,
                "calibration": 1.2,
            },
        },
    }
    print_backtest(result, console)
    text = printed(console)
    assert "2026-02-01 to 2026-02-03: 3 days, 1,234 pages; home_ranker version 2, trained on 14 days" in text
    assert text.index("meta ") < text.index("popularity ")
    assert "0.5000 ± 0.1500" in text
    assert "AUC 0.9000, log-loss 0.10000, 1.20 purchases predicted" in text
    assert "Note: Mind [this]." in text


def test_model_is_printed_strongest_coefficient_first(console):
    model = MetaModel(["weak", "strong"], [0, 0], [1, 1], [0.5, -2.0], 0)
    print_model(model, console)
    assert printed(console).split()[-4:] == ["strong", "-2.000", "weak", "+0.500"]


def test_folder_without_snapshots_says_how_to_make_one(tmp_path, console):
    print_snapshots(tmp_path, console)
    assert "run 'recsys nightly'" in printed(console)


def test_damaged_snapshot_is_listed_with_its_problem(tmp_path, console):
    Path(tmp_path / "20260301T000000Z-abcdef01").mkdir()
    print_snapshots(tmp_path, console)
    assert "missing" in printed(console)
