"""The sections of a report, read from its HTML."""

import re

import pytest

from tests.helpers.read_backtest_reports import Texts, columns, report, rows, titles
from tests.helpers.results_of_a_shop import estimate, result

OPTIONAL = (
    "oracle",
    "ablation",
    "learning_curve",
    "slices",
    "slice_metrics",
    "calibration",
    "coefficients",
    "training",
    "scoring",
    "examples",
    "sales",
    "differences",
    "paired_ndcg@10",
)


def test_sections_are_in_order(tmp_path):
    assert titles(report(tmp_path)) == [
        "Policies",
        "Policies against each other",
        "What each recommender contributes",
        *(f"By {title}" for title in ("history length", "sale age", "country", "category", "price")),
        "Are the probabilities calibrated?",
        "Coefficients of the meta-model",
        "Would more training days help?",
        "Would boosted trees be better?",
        "Example users",
        "Glossary",
    ]


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("ablation", "What each recommender contributes"),
        ("calibration", "Are the probabilities calibrated?"),
        ("coefficients", "Coefficients of the meta-model"),
        ("learning_curve", "Would more training days help?"),
        ("slices", "By country"),
        ("examples", "Example users"),
    ],
)
def test_section_of_an_absent_or_empty_part_is_left_out(tmp_path, key, title):
    for empty in (None, [] if key != "slices" else {}):
        page = report(tmp_path, **{key: empty})
        assert title not in titles(page)
        assert "Policies" in titles(page)


def test_result_with_policies_alone_gives_a_report(tmp_path):
    found = result()
    policies = {name: found["policies"][name] for name in ("meta", "popularity")}
    page = report(tmp_path, **dict.fromkeys(OPTIONAL), policies=policies)
    assert titles(page) == ["Policies", "Glossary"]
    assert "Measured without a comparison" in page
    assert not re.search(r"\bNone\b|\bnan\b", " ".join(Texts(page).texts))


def test_every_estimate_of_a_policy_is_in_the_table(tmp_path):
    page = report(tmp_path)
    assert columns(page, "Ranking metrics of each policy") == ["Policy", "ndcg@10", "recall@10", "hit_rate@10", "mrr"]
    table = rows(page, "Ranking metrics of each policy")
    assert table[0] == ["oracle", "0.3012 [0.2938, 0.3093]", "–", "–", "–"]
    assert table[2] == [
        "meta",
        "0.2143 [0.2072, 0.2221]",
        "0.3472 [0.3360, 0.3595]",
        "0.3665 [0.3548, 0.3793]",
        "0.1779 [0.1711, 0.1853]",
    ]
    assert [row[0] for row in table][1:5] == ["meta_boosted", "meta", "meta@7", "own_visits"]


def test_variety_of_what_is_shown_is_in_a_table_and_in_the_glossary(tmp_path):
    page = report(tmp_path)
    assert ["meta", "86.1%", "0.539", "8.03"] in rows(page, "Variety of what each policy shows")
    assert {"Coverage", "Gini", "Novelty"} <= set(re.findall(r"<dt>(.*?)</dt>", page))


def test_key_figures_come_first_with_their_intervals(tmp_path):
    text = " ".join(Texts(report(tmp_path)).texts)
    top = text[: text.index("All policies ranked")]
    for figure in ("0.2143", "0.2072 to 0.2221", "0.3472", "71.2%", "68.9% to 73.6%", "5,127 pages of 3,911 users"):
        assert figure in top
    assert "ndcg@10 over own_visits, the best single recommender +0.0623 +0.0590 to +0.0659 better" in top


@pytest.mark.parametrize(
    ("value", "half", "headline"),
    [
        (0.02, 0.001, "Better than each recommender alone"),
        (0.02, 0.05, "Not shown to be better than own_visits"),
        (-0.02, 0.001, "Worse than own_visits"),
    ],
)
def test_headline_rests_on_the_paired_interval(tmp_path, value, half, headline):
    paired = result()["paired_ndcg@10"] | {"meta - own_visits": estimate(value, half)}
    assert f"<h1>{headline}</h1>" in report(tmp_path, **{"paired_ndcg@10": paired})


def test_difference_is_found_in_either_order_of_its_policies(tmp_path):
    paired = result()["paired_ndcg@10"]
    del paired["meta - popularity"]
    paired["popularity - meta"] = {"value": -0.05, "low": -0.08, "high": -0.01}
    table = rows(report(tmp_path, **{"paired_ndcg@10": paired}), "All pairs of policies: ndcg@10 with intervals")
    assert ["meta", "popularity", "+0.0500 [+0.0100, +0.0800]", "better"] in table
    assert len(table) == 12 * 11 / 2


def test_matrix_marks_better_and_worse_by_a_symbol_beside_the_colour(tmp_path):
    table = rows(report(tmp_path), "ndcg@10, row minus column")
    boosted, meta, seventh = table[:3]
    assert meta == ["meta", "-0.002", "", "▲ +0.004", *meta[4:]]
    assert seventh[1:3] == ["▼ -0.006", "▼ -0.004"]
    assert boosted[2] == "+0.002"


def test_registered_versions_and_boosted_trees_are_compared_at_the_top(tmp_path):
    text = " ".join(Texts(report(tmp_path)).texts)
    assert "Meta minus version 7: ndcg@10 +0.0042 [+0.0009, +0.0078], better." in text
    assert (
        "Meta minus boosted trees over the same features: ndcg@10 -0.0022 [-0.0055, +0.0014], no difference shown."
        in text
    )
    assert (
        "Boosted trees over the same features minus meta: ndcg@10 +0.0022 [-0.0014, +0.0055], no difference shown."
        in text
    )
    assert "They take 15 times as long to train and 55 times as long to score." in text


def test_recommenders_whose_removal_shows_no_loss_are_named(tmp_path):
    page = report(tmp_path)
    assert page.count("Removing content_text and price_fit, one at a time, shows no loss") == 2
    needed = {row[0]: row[4] for row in rows(page, "ndcg@10 by recommender")}
    assert [name for name, finding in needed.items() if finding == "not shown"] == ["content_text", "price_fit"]
    assert needed["own_visits"] == "yes"


def test_recommender_that_makes_the_meta_model_worse_is_named(tmp_path):
    ablation = result()["ablation"]
    ablation[0]["removed"] = {"value": -0.02, "low": -0.03, "high": -0.01}
    page = report(tmp_path, ablation=ablation)
    assert "The meta-model is better without popularity." in page
    assert rows(page, "ndcg@10 by recommender")[0][4] == "better without"


def test_new_users_and_youngest_sales_are_summarised_at_the_top_and_in_their_section(tmp_path):
    page = report(tmp_path)
    text = " ".join(Texts(page).texts)
    assert text.count("New users (412 pages): ndcg@10 of meta 0.1543 [0.1395, 0.1706]; of collaborative, the best") == 2
    assert text.count("Youngest sales (390 purchases): recall@10 of meta 0.1843 [0.1691, 0.2010]") == 2
    assert "0 (new users)" in text
    assert "under 12 hours (youngest)" in text


def test_slice_has_its_count_and_every_policy(tmp_path):
    page = report(tmp_path, slices={"country": result()["slices"]["country"]})
    france = rows(page, "recall@10")[1]
    assert france[:3] == ["France", "1,322", "0.2093 [0.2010, 0.2184]"]
    assert len(france) == 6


def test_relative_error_is_given_for_deciles_of_at_least_100_purchases(tmp_path):
    table = rows(report(tmp_path), "By decile of predicted probability")
    errors = {row[0]: row[-1] for row in table}
    assert errors["4"] == "too few purchases"  # 94
    assert errors["5"] == "-9.09%"  # 0.0041 / 0.00451 - 1
    assert errors["10"] == "+13.6%"  # 1 / 0.88 - 1
    assert [row[4:6] for row in table if row[0] in "45"] == [["94", "40,000"], ["180", "40,000"]]


def test_calibration_is_summarised_in_a_sentence(tmp_path):
    text = " ".join(Texts(report(tmp_path)).texts)
    assert "Of 6 deciles with at least 100 purchases, 4 have a predicted probability within the interval" in text
    assert "the largest relative error is +13.6%." in text
    assert "is predicted to buy 1.28 of the open sales, and bought 1.20 (1.07 predicted per observed purchase);" in text
    assert "among the ten that the page shows, 0.86 are predicted and 0.85 observed." in text
    assert "AUC 0.8312, log-loss 0.02114" in text


def test_coefficients_are_given_as_log_odds_and_odds_with_a_description(tmp_path):
    page = report(tmp_path)
    collaborative = rows(page, "Coefficients, log-odds")[1]
    assert collaborative == [
        "collaborative",
        "Users of the same sales also looked at it",
        *("+0.62", "1.86", "+0.21", "1.23"),
    ]
    assert "multiplies the odds of a purchase by 1.86" in " ".join(Texts(page).texts)


def test_coefficients_without_those_of_repeat_purchases_have_one_column(tmp_path):
    coefficients = [{key: row[key] for key in ("feature", "words", "first")} for row in result()["coefficients"]]
    table = rows(report(tmp_path, coefficients=coefficients), "Coefficients, log-odds")
    assert table[0][2:] == ["+0.41", "1.51"]


def test_boosted_trees_have_importances_and_no_odds(tmp_path):
    gains = [{"feature": "activity", "words": "w", "gain": 0.25}, {"feature": "popularity", "words": "v", "gain": 0.75}]
    page = report(tmp_path, coefficients=gains)
    assert rows(page, "Importance, share of the gain") == [["popularity", "v", "75%"], ["activity", "w", "25%"]]
    assert not {"Coefficients of the meta-model", "Would boosted trees be better?"} & set(titles(page))
    words = " ".join(Texts(page).texts)
    assert "odds" not in words
    assert "boosted trees over the same features" not in words  # the meta-model is boosted trees itself


def test_mix_that_is_worse_than_its_best_part_in_a_case_is_the_headline(tmp_path):
    weak = {"case": "repeat purchases", "pages": 1_040, "best": "own_visits", "difference": estimate(-0.01, 0.002)}
    words = " ".join(Texts(report(tmp_path, best_part=[weak | {"difference": estimate(-0.001, 0.002)}])).texts)
    assert "Better than each recommender alone" in words
    words = " ".join(Texts(report(tmp_path, best_part=[weak])).texts)
    assert "Worse than own_visits among repeat purchases" in words
    assert "worse than own_visits alone among repeat purchases: ndcg@10 -0.0100" in words


def test_boosted_trees_that_rank_better_come_with_the_configuration_that_chooses_them(tmp_path):
    better = {"value": 0.065, "low": 0.029, "high": 0.105}
    paired = result()["paired_ndcg@10"] | {"meta_boosted - meta": better}
    page = report(tmp_path, **{"paired_ndcg@10": paired})
    words = " ".join(Texts(page).texts)
    assert "Better than each recommender alone, and boosted trees are better still" in words
    advice = (
        "Boosted trees rank better than the meta-model here, by +0.0650 [+0.0290, +0.1050] of ndcg@10. To use them, set"
        " 'meta_model.kind: boosted' in the configuration"
    )
    assert words.count(advice) == 2  # at the top and in the section on boosted trees
    assert "To use them" not in " ".join(Texts(report(tmp_path)).texts)  # no difference shown


def test_slicing_with_a_single_slice_says_nothing_and_is_left_out(tmp_path):
    slices = result()["slices"]
    page = report(tmp_path, slices=slices | {"sale age": slices["sale age"][:1]})
    assert "By sale age" not in titles(page)
    assert "Youngest sales" not in page
    assert "By country" in titles(page)


def test_learning_curve_is_given_as_a_table_too(tmp_path):
    table = rows(report(tmp_path), "By training days")
    assert table[0] == ["1", "610", "0.1950 [0.1889, 0.2017]"]
    assert [row[0] for row in table] == ["1", "3", "7", "14", "28"]


def test_note_and_limits_of_the_measurement_are_highlighted(tmp_path):
    cautions = re.findall(r'<p class="caution">(.*?)</p>', report(tmp_path))
    assert cautions == [
        "A generated shop: its users choose by a known taste.",
        "Measured on a sample of 50% of the users, seed 0.",
    ]
    window = result()["window"] | {"note": "", "users_sampled": 1.0, "new_only": True}
    [only] = re.findall(r'<p class="caution">(.*?)</p>', report(tmp_path, window=window))
    assert only == "Sales that a user had bought before are neither ranked nor counted."


def with_peers(tmp_path, als: dict, newest: dict, **changes) -> str:
    found = result()
    own = found["policies"]["own_visits"]
    policies = found["policies"] | {"peer_ALS": own, "peer_newest": found["policies"]["popularity"]} | changes
    paired = found["paired_ndcg@10"] | {"meta - peer_ALS": als, "meta - peer_newest": newest}
    paired |= {"meta - live_meta": estimate(-0.02, 0.01)} if "live_meta" in changes else {}
    return report(tmp_path, policies=policies, **{"paired_ndcg@10": paired})


def test_best_peer_and_how_many_are_behind_are_said_at_the_top(tmp_path):
    page = with_peers(tmp_path, estimate(0.01, 0.02), estimate(0.09, 0.01))
    words = " ".join(Texts(page).texts)
    assert (
        "Meta minus ALS, the best of 2 peers: ndcg@10 +0.0100 [-0.0100, +0.0320], no difference shown. "
        "Meta is shown to be better than 1 of 2." in words
    )
    assert "<h1>Better than each recommender alone</h1>" in page


def test_peer_that_ranks_better_is_the_headline(tmp_path):
    assert "<h1>Worse than ALS</h1>" in with_peers(tmp_path, estimate(-0.03, 0.01), estimate(0.09, 0.01))


def test_pages_of_the_moment_are_no_single_recommender(tmp_path):
    live = result()["policies"]["meta_boosted"]
    page = with_peers(tmp_path, estimate(0.09, 0.01), estimate(0.09, 0.01), live_meta=live)
    assert "<h1>Better than each recommender alone</h1>" in page
