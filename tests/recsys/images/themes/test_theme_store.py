from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from recsys.errors import ModelError
from recsys.images.themes.theme_store import read, save, themes_as_of
from recsys.images.themes.themes import ThemeModel, no_themes
from recsys.instants import DAY
from recsys.storage.places import Place, sizes_below

TAGGER, SETTINGS = "tagger-1", "30 themes"


class Shop:
    """A folder of theme models that records the previous model of each fit."""

    def __init__(self, folder: Place) -> None:
        self.folder = folder
        self.fitted_after: list[str | None] = []
        self.given: list[ThemeModel | None] = []
        self.translate: Callable[[ThemeModel], ThemeModel | None] = lambda model: replace(
            model, version=f"{model.version} translated"
        )

    def themes(self, day: float, tagger: str = TAGGER, settings: str = SETTINGS, themes: int = 2) -> str:
        """Return the version of the themes to use from a day on; that of a new fit names day, tagger and settings."""

        def fit(previous: ThemeModel | None) -> ThemeModel:
            self.given.append(previous)
            self.fitted_after.append(previous and previous.version)
            first = previous.next_id if previous else 1  # every theme is new
            return ThemeModel(
                version=f"day {day:02g} {tagger} {settings}",
                fingerprint=settings,
                as_of=round(day * DAY),
                tagger_version=tagger,
                tags=["pool"],
                ids=list(range(first, first + themes)),
                next_id=first + themes,
                names=[f"theme {number}" for number in range(themes)],
                components=[[1.0]] * themes,
                scales=[1.0] * themes,
                shares=[1 / themes] * themes,
            )

        return themes_as_of(self.folder, round(day * DAY), tagger, settings, 7, fit, self.translate).version

    @property
    def n_fits(self) -> int:
        return len(self.fitted_after)


@pytest.fixture
def shop(folder) -> Shop:
    return Shop(folder / "themes")


DAY_10 = "day 10 tagger-1 30 themes"


def test_first_themes_are_fitted_without_previous_ones(shop):
    assert shop.themes(10) == DAY_10
    assert shop.fitted_after == [None]


@pytest.mark.parametrize("later", [0, 1, 6, 6.999])
def test_themes_are_used_until_they_are_too_old(shop, later):
    shop.themes(10)
    assert shop.themes(10 + later) == DAY_10
    assert shop.n_fits == 1


@pytest.mark.parametrize("later", [7, 8, 400])
def test_old_themes_are_refitted_and_passed_to_the_fit(shop, later):
    shop.themes(10)
    assert shop.themes(10 + later) == f"day {10 + later} tagger-1 30 themes"
    assert shop.fitted_after == [None, DAY_10]


def test_themes_as_of_a_later_instant_are_neither_used_nor_passed_to_the_fit(shop):
    shop.themes(10)
    assert shop.themes(9) == "day 09 tagger-1 30 themes"
    assert shop.fitted_after == [None, None]
    assert shop.given[1] is None
    assert shop.themes(10) == DAY_10  # its own fit


def test_run_of_an_earlier_instant_does_not_change_a_later_one(shop):
    shop.themes(10)
    shop.themes(2)
    assert shop.themes(11) == DAY_10
    assert shop.themes(3) == "day 02 tagger-1 30 themes"
    assert shop.n_fits == 2


@pytest.mark.parametrize("days", [(1, 5, 9), (9, 5, 1), (5, 1, 9)])
def test_themes_are_neither_from_the_future_nor_too_old_in_any_order_of_runs(shop, days):
    for day in days:
        found = int(shop.themes(day).split()[1])
        assert day - 7 < found <= day


def test_other_settings_have_their_own_themes_and_preserve_the_first(shop):
    shop.themes(10)
    assert shop.themes(11, settings="20 themes") == "day 11 tagger-1 20 themes"
    assert shop.fitted_after == [None, DAY_10]  # the only earlier model
    assert shop.themes(12) == DAY_10


def test_last_themes_of_the_same_settings_take_priority_over_later_ones_of_others(shop):
    shop.themes(10)
    shop.themes(11, settings="5 themes")
    shop.themes(20)
    assert shop.fitted_after == [None, DAY_10, DAY_10]


def test_id_used_by_themes_of_other_settings_is_not_reused(shop):
    shop.themes(10)  # ids 1, 2
    shop.themes(11, settings="5 themes", themes=5)  # ids 3 to 7
    shop.themes(20)
    assert shop.given[2].next_id == 8
    assert read(shop.folder / "day 20 tagger-1 30 themes.json").ids == [8, 9]


def test_id_used_by_a_later_run_of_an_earlier_instant_is_not_reused(shop):
    shop.themes(20)  # ids 1, 2
    shop.themes(5, themes=5)  # there is no earlier model: ids 1 to 5
    shop.themes(30)
    assert shop.fitted_after[2] == "day 20 tagger-1 30 themes"
    assert shop.given[2].next_id == 6


def test_other_tagger_continues_the_translated_themes_of_the_last_one(shop):
    shop.themes(10)
    assert shop.themes(10, tagger="tagger-2") == "day 10 tagger-2 30 themes"
    assert shop.fitted_after == [None, f"{DAY_10} translated"]
    assert shop.themes(11) == DAY_10


def test_themes_that_cannot_be_translated_are_new_and_no_id_is_used_twice(shop):
    shop.themes(10)  # ids 1, 2
    shop.translate = lambda _: None
    shop.themes(10, tagger="tagger-2")
    assert (shop.given[1].ids, shop.given[1].next_id) == ([], 3)


def test_model_without_themes_is_not_stored(shop):
    nothing = themes_as_of(shop.folder, 0, TAGGER, SETTINGS, 7, lambda _: no_themes(), lambda _: None)
    assert nothing == no_themes()
    assert sizes_below(shop.folder) == {}


def test_incomplete_file_is_never_read(tmp_path, monkeypatch):
    shop = Shop(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.themes(10)
    assert shop.themes(10) == DAY_10
    assert shop.fitted_after == [None, None]


def test_saved_model_replaces_the_previous_one(tmp_path):
    path = tmp_path / "new folder/theme_model.json"
    for version in ("first, with a long name", "next"):
        save(replace(no_themes(), version=version), path)
        assert read(path).version == version
    assert [each.name for each in path.parent.iterdir()] == ["theme_model.json"]


def test_damaged_file_is_an_error_that_names_it(shop):
    shop.themes(10)
    path = shop.folder / f"{DAY_10}.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(ModelError, match=rf"{path}: the theme model cannot be read \(.*\): remove its file"):
        shop.themes(11)
    path.unlink()
    assert shop.themes(11) == "day 11 tagger-1 30 themes"
