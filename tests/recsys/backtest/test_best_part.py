import numpy as np
import pytest

from recsys.backtest.best_part import FEWEST_PAGES, against_best_part
from tests.helpers.measured_pages import measured, row

N = FEWEST_PAGES


def page(policy: str, number: int, rank: int, new: float | None, repeat: float | None) -> dict:
    cases = {"new_ndcg@10": new, "repeat_ndcg@10": repeat}
    return row(
        policy, f"u{number:03}", [rank], [0], **{case: np.nan if each is None else each for case, each in cases.items()}
    )


def test_mix_is_compared_with_the_best_part_of_each_case():
    rows = []
    for number in range(N):
        rows.append(page("meta", number, 1, 0.5, 0.4 if number else None))  # one user bought nothing again
        rows.append(page("often", number, 2, 0.1, 0.6 if number % 2 else 0.5))
        rows.append(page("fresh", number, 3, 0.5, 0.3))
    rows.append(page("meta", N, 1, 0.5, 0.4))
    rows.append(page("often", N, 2, 0.1, 0.5))
    rows.append(page("fresh", N, 3, 0.5, 0.3))
    whole, new, repeat = against_best_part(measured(rows), "meta", ["fresh", "often"], seed=0)
    assert (whole["case"], whole["best"], whole["pages"]) == ("all sales", "often", N + 1)
    assert whole["difference"]["value"] == pytest.approx(1 - 0.6309, abs=1e-4)
    assert (new["case"], new["best"]) == ("sales new to the user", "fresh")
    assert new["difference"] == {"value": 0, "low": 0, "high": 0}
    assert (repeat["case"], repeat["best"], repeat["pages"]) == ("repeat purchases", "often", N)
    assert repeat["difference"]["value"] == pytest.approx(-0.15, abs=0.01)
    assert repeat["difference"]["high"] < -0.1


def test_case_of_few_pages_is_left_out():
    rows = [page(policy, number, 1, None, 1.0 if number else None) for policy in ("meta", "a") for number in range(N)]
    assert [each["case"] for each in against_best_part(measured(rows), "meta", ["a"], seed=0)] == ["all sales"]


def test_mix_without_parts_is_compared_with_nothing():
    assert against_best_part(measured([page("meta", 0, 1, 1.0, None)]), "meta", [], seed=0) == []
