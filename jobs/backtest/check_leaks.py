"""Validated tables, tags → which features change when data that is not known yet is changed, deleted or shuffled."""

import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from jobs.engine.run import Run, with_inputs
from jobs.night.build_histories import BUILD_HISTORIES
from jobs.night.build_themes import BUILD_THEMES
from jobs.night.fit_recommenders import FIT_RECOMMENDERS
from jobs.night.tag_images import TAG_IMAGES, TAGGERS
from jobs.night.train_towers import TRAIN_TOWERS
from recsys.errors import EmptyInputError
from recsys.instants import DAY, QUARTER, compact, from_micros
from recsys.pipeline.leaks import (
    BY_DAY,
    TOLERANCE,
    WORLDS,
    Span,
    Tables,
    altered,
    drawn_users,
    features,
    merged,
    movements,
    windows_that_follow_events,
)
from recsys.pipeline.shop import Shop
from recsys.storage.journal import leased
from recsys.storage.outputs import DATA
from recsys.storage.places import Place, place, remove
from recsys.tables.night import EVENTS, IMAGE_TAGS, REJECTED_IMAGES, SALE_PHOTO_LABELS, SALES
from recsys.tables.parts import read_arrow, write_table
from recsys.wording import plural

_log = logging.getLogger(__name__)

_TABLES = (SALES, EVENTS, IMAGE_TAGS, REJECTED_IMAGES)
Found = dict[str, dict[str, dict[str, Any]]]
"""Result of `movements` by world and feature."""


def check_leaks(run: Run, instants: int = 3, users: int = 200, seed: int = 0) -> dict[str, Any]:
    """Compute features by the steps of the pipeline, from the tables as they are and from each altered world.

    On one past day also as of a random moment, by which the features that are the same for all users are known.

    Args:
        run: From `window`.
        instants: Number of the run's instants to check: the first one, and a random sample of the others.
        users: Maximum number of users sampled at each instant; each is scored with all sales of the horizon.
        seed: Seed of the samples and of the worlds.

    Returns:
        {"window": {...}, "features": [{"feature", "world", "compared", "moved", "largest", "example"}, ...],
        "warnings": [...]}, see `movements` and `windows_that_follow_events`.

    Raises:
        EmptyInputError: If no user has both known and unknown events at any of the instants.
    """
    run.do(with_inputs(TAG_IMAGES))
    tables = Tables(*(table.read(run.spark, run.outputs) for table in _TABLES))
    drawn = {
        as_of: drawn_users(tables.events, as_of, users, seed)
        for as_of in _sample_instants(_fitted_instants(run), instants, seed)
    }
    drawn = {as_of: some for as_of, some in drawn.items() if some}
    if not drawn:
        raise EmptyInputError(
            "0 users have events both before and after a checked instant, must be at least 1: choose other days"
        )
    with (
        leased(run.folder),
        _folder_of_worlds(run) as scratch,
        _fitted_world(run, tables, list(drawn), scratch) as shop,
    ):
        found = [_compare_worlds(run, tables, shop, as_of, some, seed) for as_of, some in drawn.items()]
        past = max((as_of for as_of in drawn if as_of + DAY <= run.as_of), default=None)
        if past is not None:
            found.append(_compare_moment(run, tables, shop, past, drawn[past], seed))
    return {
        "window": _describe_window(run, drawn, seed),
        "features": _rows_of_features(found),
        "warnings": windows_that_follow_events(tables.sales, tables.events, run.as_of),
    }


@contextmanager
def _folder_of_worlds(run: Run) -> Iterator[Place]:
    """Return a folder that is removed at the end; what a killed run left is removed by the next one."""
    folder = run.folder / DATA / f"worlds-{secrets.token_hex(4)}"
    try:
        yield folder
    finally:
        remove(folder)


def _fitted_instants(run: Run) -> list[int]:
    """Return the instants as of which recommenders are fitted; themes are built as of the first."""
    return sorted({*run.open_training_days, *run.open_days})


def _sample_instants(instants: list[int], most: int, seed: int) -> list[int]:
    first, *others = instants
    return sorted([first, *np.random.default_rng(seed).permutation(others)[: most - 1].tolist()])


def _compare_worlds(run: Run, tables: Tables, shop: Shop, as_of: int, users: list[str], seed: int) -> Found:
    """Return how far each feature changes in each world that is altered as of an instant."""
    start, before = time.monotonic(), features(shop, as_of, users)
    span, scratch = Span(as_of, shop.horizon(as_of).until, run.as_of), place(shop.outputs.folder).parent
    found: Found = {}
    for name in WORLDS:
        with _fitted_world(run, altered(tables, name, span, seed), [as_of], scratch) as other:
            found[name] = movements(before, features(other, as_of, users), as_of)
    _log.info(
        f"  {from_micros(as_of):%Y-%m-%d %H:%M} {time.monotonic() - start:7.1f} s  {plural(len(users), 'user')} × "
        f"{plural(len(shop.horizon(as_of)), 'sale')} in {plural(len(found), 'world')}"
    )
    return found


def _compare_moment(run: Run, tables: Tables, shop: Shop, as_of: int, users: list[str], seed: int) -> Found:
    """Return how far each feature as of a random moment of a day changes with what is not known at the moment."""
    moment = as_of + int(np.random.default_rng(seed).integers(1, DAY // QUARTER)) * QUARTER
    before = features(shop, as_of, users, moment)
    span = Span(moment, shop.horizon(as_of).until, run.as_of)
    with _fitted_world(
        run, altered(tables, "changed", span, seed), [as_of], place(shop.outputs.folder).parent
    ) as other:
        found = movements(before, features(other, as_of, users, moment), moment)
    _log.info(f"  {from_micros(moment):%Y-%m-%d %H:%M}  {plural(len(users), 'user')}, {BY_DAY}")
    return {BY_DAY: found}


@contextmanager
def _fitted_world(run: Run, tables: Tables, as_ofs: list[int], folder: Place) -> Iterator[Shop]:
    """Fit themes and recommenders to given tables as of some instants, in a new folder without earlier themes."""
    of_world = folder / secrets.token_hex(4)
    of_world.mkdir(parents=True)
    world = replace(
        run,
        settings=run.settings.model_copy(update={"folder": str(of_world)}),
        folder=of_world,
        training_days=_fitted_instants(run)[:1],
        days=as_ofs,
    )
    try:
        for table, rows in zip(_TABLES, tables, strict=True):
            table.write(rows, world.folder)
        (world.folder / TAGGERS).write_bytes((run.outputs / TAGGERS).read_bytes())
        write_table(read_arrow(run.outputs / SALE_PHOTO_LABELS.name), world.folder / SALE_PHOTO_LABELS.name)
        for step in (BUILD_THEMES, BUILD_HISTORIES, TRAIN_TOWERS, FIT_RECOMMENDERS):
            step.run(world, world.folder)
        yield world.shop
    finally:
        remove(of_world)


def _describe_window(run: Run, drawn: dict[int, list[str]], seed: int) -> dict[str, Any]:
    return {
        "from": f"{from_micros(run.days[0]):%Y-%m-%d}",
        "to": f"{from_micros(run.days[-1]):%Y-%m-%d}",
        "users": {compact(as_of): len(users) for as_of, users in drawn.items()},
        "seed": seed,
        "tolerance": TOLERANCE,
        "note": run.settings.note,
    }


def _rows_of_features(found: list[Found]) -> list[dict[str, Any]]:
    return [
        {"feature": feature, "world": world, **merged(each[world][feature] for each in found if world in each)}
        for feature in found[0]["deleted"]
        for world in (*WORLDS, BY_DAY)
        if any(world in each for each in found)
    ]
