"""The texts of the figure, read from its SVG; its appearance is not tested."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from recsys.errors import ConfigurationError, EmptyInputError
from recsys.images import attractiveness_plot
from recsys.images.attractiveness import ALL, COLUMNS, DIMENSIONS
from recsys.images.attractiveness_plot import write_attractiveness_plot

DOLLARS = r"pool $\no_formula$"


def row(feature: str, value: float, half: float = 0.1, family: str = "theme", **others) -> dict:
    groups = dict.fromkeys(DIMENSIONS, ALL)
    counts = {"visits": 90_000, "visits_with": 7_654, "sale_days": 800, "sale_days_with": 60, "sales_with": 32}
    measured = {"attractiveness": value, "low": max(value - half, -1), "high": value + half}
    return {"family": family, "feature": feature, **groups, **measured, **counts, **others}


def small_table() -> pd.DataFrame:
    rows = [
        *[row(name, value) for name, value in (("castle", 0.31), ("beach", 0.05), ("bar", -0.42))],
        row(DOLLARS, 0.08, np.inf, family="tag"),
        row("unsaid", np.nan, family="tag"),
        row("bar", 0.57, month="2026-01"),
        row("castle", -0.73, month="2026-02"),
        row("castle", 0.23, 0.5, country="Italy"),
        row("beach", np.nan, country="Spain", visits=100_000),
    ]
    return pd.DataFrame(rows)[COLUMNS]


def texts(path: Path) -> list[str]:
    """Return all texts of an SVG, which are in comments beside their outlines."""
    return [text.strip() for text in re.findall(r"<!--(.*?)-->", path.read_text(), re.DOTALL)]


def drawn(tmp_path: Path, table: pd.DataFrame, top: int = 10) -> list[str]:
    write_attractiveness_plot(table, tmp_path / "plot.svg", top)
    return texts(tmp_path / "plot.svg")


def test_figure_names_features_values_and_counts(tmp_path):
    found = drawn(tmp_path, small_table())
    assert {"castle", "beach", "bar", DOLLARS, "+31 %", "+5 %", "-42 %", "7,654", "32"} <= set(found)
    assert "Themes: all 3" in found
    assert "unsaid" not in found
    assert any("2026-01 to 2026-02" in text for text in found)


def test_maps_show_themes_by_month_and_country(tmp_path):
    found = drawn(tmp_path, small_table())
    assert {"2026-01", "2026-02", "+57", "-73", "Italy", "Spain", "+23"} <= set(found)
    assert found.index("2026-01") < found.index("2026-02")
    assert found.index("Spain") < found.index("Italy")  # by descending visits
    assert found.count("·") == 2 * 3 + 2 * 3 - 3  # cells of 3 themes in 2 months and 2 countries; 3 have a value


def test_forest_is_cut_to_the_strongest_and_weakest(tmp_path):
    table = pd.DataFrame(
        [row(f"tag {n}", n / 10 - 0.5, family="tag") for n in range(9)] + [row("t", 0.1, month="2026-01")]
    )
    found = drawn(tmp_path, table[COLUMNS], top=2)
    assert "Tags: 2 strongest and 2 weakest of 9" in found
    assert [text for text in found if text.startswith("tag ")] == ["tag 8", "tag 7", "tag 1", "tag 0"]


def test_table_without_themes_has_no_maps(tmp_path):
    table = small_table()
    found = drawn(tmp_path, table[table["family"] == "tag"])
    assert DOLLARS in found
    assert not any("by month" in text for text in found)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_same_table_gives_the_same_bytes(tmp_path, suffix):
    first, second = (tmp_path / f"{name}{suffix}" for name in "ab")
    write_attractiveness_plot(small_table(), first)
    write_attractiveness_plot(small_table().sample(frac=1, random_state=3), second)
    assert first.read_bytes() == second.read_bytes()
    assert b"<dc:date>" not in first.read_bytes()


def test_settings_of_matplotlib_are_restored(tmp_path):
    with matplotlib.rc_context({"font.size": 5}):
        drawn(tmp_path, small_table())
        assert matplotlib.rcParams["font.size"] == 5


def test_plot_uses_no_global_figures():
    assert "pyplot" not in Path(attractiveness_plot.__file__).read_text()


def test_other_suffix_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"ends in '\.pdf', must end in \.png or \.svg"):
        write_attractiveness_plot(small_table(), tmp_path / "plot.pdf")


def test_table_without_values_is_refused(tmp_path):
    table = small_table().assign(attractiveness=np.nan)
    with pytest.raises(EmptyInputError, match=r"has 9 rows, none with a value because of too few sales"):
        write_attractiveness_plot(table, tmp_path / "plot.svg")
