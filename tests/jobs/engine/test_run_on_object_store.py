"""The steps of a night with their outputs in an object store: the same bytes as on a disk."""

from dataclasses import replace

import pytest

from jobs.engine.nights import night
from jobs.engine.run import LOG, Run, with_inputs
from jobs.night.fit_recommenders import FIT_RECOMMENDERS
from jobs.night.score_users import SCORE_USERS
from recsys.storage.journal import steps_of
from recsys.storage.places import sizes_below
from recsys.tables.parts import parts_of


@pytest.fixture(scope="module")
def runs(published_shop, object_store, spark) -> tuple[Run, Run]:
    """The night on a disk, and the same steps with an object store as their folder."""
    on_disk = night(published_shop.settings())
    in_store = replace(on_disk, folder=object_store("nights/1"), trains=on_disk.trains)
    in_store.do(with_inputs(SCORE_USERS))
    return on_disk, in_store


@pytest.mark.parametrize("table", ["events", "user_histories", "fitted_recommenders", "rankings"])
def test_tables_have_the_same_bytes_as_on_a_disk(runs, table):
    by_folder = [[(part.rows, part.sha256) for part in parts_of(run.outputs / table)] for run in runs]
    assert sorted(by_folder[0]) == sorted(by_folder[1])
    assert sum(rows for rows, _ in by_folder[1]) > 0


def test_steps_that_are_done_are_not_done_again(runs):
    _, run = runs
    before = steps_of(run.folder)
    replace(run).do(with_inputs(FIT_RECOMMENDERS))
    assert steps_of(run.folder) == before
    assert "fit_recommenders" in (run.folder / LOG).read_text()


def test_store_holds_what_is_true_and_nothing_else(runs):
    _, run = runs
    folders = {name.split("/")[1] for name in sizes_below(run.folder) if name.startswith("data/")}
    assert {f"data/{folder}" for folder in folders} == {entry["data"] for entry in steps_of(run.folder).values()}
