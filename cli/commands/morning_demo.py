"""`recsys demo --morning`: a sale that opens in the morning climbs on live pages as it is looked at and bought."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cli.commands.options import console
from recsys.config.settings import Settings
from recsys.console import TextTable
from recsys.instants import DAY, HOUR, from_micros, to_micros
from recsys.meta_model import META
from recsys.shop.histories import Block
from recsys.shop.live_counts import CountedMinutes, LiveCounts, changes_by_minute, changes_of_counted
from recsys.storage.places import Place
from recsys.tables.night import USER_HISTORIES
from recsys.tables.parts import read_arrow
from recsys.wording import plural

if TYPE_CHECKING:
    from jobs.engine.run import Run

HOURS = (7, 8, 9, 12)
PLOT = "morning.svg"
_USERS = 10
_SEED = 7
_FIRST_EVENTS = 20
"""Minimum number of events in the history of a user whose page is looked at."""


class Morning(NamedTuple):
    """The rank of one sale on some users' pages at some hours of a day."""

    title: str
    sale_id: str
    users: Sequence[str]
    ranks: NDArray[np.int64]  # (n_users, n_hours), from 1
    n_open: int  # sales that are open at the last hour
    opens: str  # when the sale opens, HH:MM UTC
    counted: Sequence[int]  # events of the sale until each hour


def show_morning(settings: Settings) -> None:
    """Rank users' pages on the last morning of the demo shop, print where a new sale is, and draw it."""
    from jobs.backtest.backtest import window
    from jobs.engine.run import with_inputs
    from jobs.night.train_meta_model import TRAIN_META_MODEL

    assert settings.as_of is not None
    day = to_micros(settings.as_of) - DAY
    run = window(settings, day, day)
    run.do(with_inputs(TRAIN_META_MODEL))
    morning = _morning(run, day)
    path = settings.own_disk / PLOT
    draw(morning, path)
    console.print(
        "", f"{from_micros(day):%Y-%m-%d}: '{morning.title}' ({morning.sale_id}) opens at {morning.opens} UTC."
    )
    table = TextTable("user", *(f"{hour}:00" for hour in HOURS), labels=1)
    for user, ranks in zip(morning.users, morning.ranks.tolist(), strict=True):
        table.add_row(user, *map(str, ranks))
    table.add_row("events counted", *map(str, morning.counted))
    console.print(table)
    console.print(f"Of {plural(morning.n_open, 'open sale')}; as a picture: {path}")


def _morning(run: "Run", day: int) -> Morning:
    from jobs.night.train_meta_model import read_trained_model
    from serving.answers.live_ranker import LiveRanker

    catalogue = run.shop.catalogue
    block = _read_block(run.outputs / USER_HISTORIES.name, len(catalogue))
    sale = new_sale_with_most_events(block, catalogue.opens_at, day)
    known = np.diff(block.as_of(day, run.shop.history).offsets)
    of_day = np.flatnonzero((block.occurred_at >= day) & (block.occurred_at < day + DAY))
    visitors = np.unique(np.searchsorted(block.offsets, of_day, side="right") - 1)
    drawn = np.random.default_rng(_SEED).permutation(visitors[known[visitors] >= _FIRST_EVENTS])[:_USERS]
    users = block.take(np.sort(drawn))
    night = run.shop.ranker(day, read_trained_model(run)[0])
    ranks = np.empty((len(users), len(HOURS)), np.int64)
    for place, hour in enumerate(HOURS):
        now = day + hour * HOUR
        ranker = LiveRanker(night, catalogue, partial(live_counts, block, catalogue.sale_ids, day, now)).at(now)
        best, _ = ranker.scored(users.as_of(day, run.shop.history)).best(META)
        sales = night.scorer.horizon.sales[best]
        is_open = (catalogue.opens_at[sales] <= now) & (now < catalogue.closes_at[sales])
        ranks[:, place] = (np.cumsum(is_open, axis=1) * (sales == sale)).max(axis=1)
    of_sale = (block.sales == sale) & (block.occurred_at >= day)
    counted = [int((of_sale & (block.occurred_at < day + hour * HOUR)).sum()) for hour in HOURS]
    n_open = int(is_open[0].sum())
    opens = f"{from_micros(int(catalogue.opens_at[sale])):%H:%M}"
    user_ids = users.user_ids.to_pylist()
    return Morning(catalogue.titles[sale], catalogue.sale_ids[sale], user_ids, ranks, n_open, opens, counted)


def _read_block(table: Place, n_sales: int) -> Block:
    (batch,) = read_arrow(table).sort_by("user_id").combine_chunks().to_batches()
    return Block.from_batch(batch, n_sales)


def new_sale_with_most_events(block: Block, opens_at: NDArray[np.int64], day: int) -> int:
    """Return the sale with the most events until the last hour, of those that open before the first."""
    events = block.sales[(block.occurred_at >= day) & (block.occurred_at < day + HOURS[-1] * HOUR)]
    is_new = (day <= opens_at) & (opens_at < day + HOURS[0] * HOUR)
    return int(np.argmax(np.where(is_new, np.bincount(events, minlength=len(opens_at)), -1)))


def live_counts(block: Block, sale_ids: Sequence[str], day: int, instant: int) -> LiveCounts:
    """Return what the service would have counted of the events of a day until an instant."""
    counted = CountedMinutes()
    counted.replace(changes_by_minute(_counted(block, sale_ids, day, instant), []))
    return counted.since(day)


def _counted(block: Block, sale_ids: Sequence[str], day: int, instant: int) -> Iterable[tuple[str, bool, int]]:
    for user in range(len(block)):
        of_user = slice(block.offsets[user], block.offsets[user + 1])
        events = zip(
            block.sales[of_user].tolist(),
            block.purchases[of_user].tolist(),
            block.occurred_at[of_user].tolist(),
            strict=True,
        )
        new = [(sale_ids[sale], is_bought, at) for sale, is_bought, at in events if day <= at < instant]
        yield from changes_of_counted([], new)[0]


def draw(morning: Morning, path: Path) -> None:
    """Draw one line per user: the place of the sale on the page, the first place at the top."""
    with matplotlib.rc_context({"svg.hashsalt": "morning", "font.family": "DejaVu Sans", "text.parse_math": False}):
        figure = Figure(figsize=(7.5, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for ranks in morning.ranks:
            axes.plot(HOURS, ranks, color="#2166ac", alpha=0.45, marker="o", markersize=4)
        axes.plot(HOURS, np.median(morning.ranks, axis=0), color="#b2182b", linewidth=2.5, label="median")
        axes.axhspan(0.5, 10.5, color="#1b7837", alpha=0.1, linewidth=0, label="on the page of ten")
        labels = [f"{hour}:00\n{events:,} events" for hour, events in zip(HOURS, morning.counted, strict=True)]
        axes.set_xticks(HOURS, labels)
        users = plural(len(morning.users), "user")
        axes.set_title(f"{morning.title}\nopens at {morning.opens} UTC: its place on the pages of {users}", fontsize=10)
        axes.set(ylabel=f"place of {morning.n_open} open sales", ylim=(morning.ranks.max() + 3, 0))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
        figure.savefig(path, metadata={"Date": None})
