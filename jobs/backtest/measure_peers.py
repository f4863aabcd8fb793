"""user_histories → peer_pages: what one could pick instead, tuned on earlier days, on the pages of a backtest."""

import json
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql.pandas.types import to_arrow_schema
from threadpoolctl import threadpool_limits

from jobs.backtest.peer_pages import CASES, NEW, Day, best_settings, whole_block
from jobs.engine.run import Run, Step
from jobs.night.build_histories import BUILD_HISTORIES
from recsys.backtest.baselines import CHANCE, CLASSIC, Baseline, newest
from recsys.errors import ConfigurationError, EmptyInputError
from recsys.pipeline.evaluation import measured_pages
from recsys.pipeline.examples import PAGE_USERS
from recsys.shop.histories import Block
from recsys.tables.night import PAGE_METRICS, Table
from recsys.wording import plural

PEER = "peer_"
"""Before the name of a policy that is a peer."""
PEER_PAGES = Table("peer_pages", PAGE_METRICS.grain, PAGE_METRICS.described)
_DESCRIPTIONS = "peers.json"
TUNING_DAYS = 3
"""Number of days before the window, of those that the meta-model is trained on, that settings are chosen by."""

_log = logging.getLogger(__name__)


def measure_peers(new_only: bool) -> Step:
    """Return the step that measures peers: chance, the newest sales, popularity, `implicit`'s item-item and ALS.

    The settings of each are those of a grid with the best ndcg@10 on three of the training days, drawn with a fixed
    seed. They are fitted in the memory of this process, all users at once, for each day anew.

    Args:
        new_only: Whether repeat purchases are left out.
    """

    def measure(run: Run, out: Path) -> str:
        everyone, kinds = whole_block(run), (CHANCE, newest(run.shop.catalogue), *CLASSIC)
        case = next(name for name, is_new_only in CASES.items() if is_new_only == new_only)
        with threadpool_limits(1, "blas"):  # `implicit` has threads of its own
            best = best_settings(_tuning_days(run, everyone), kinds, lambda line: _log.info(f"    {line}"))[case]
            rows = [row for as_of in run.open_days for row in _pages_of_day(run, everyone, as_of, best, new_only)]
        schema = to_arrow_schema(PEER_PAGES.schema, timezone="UTC")
        PEER_PAGES.write(run.spark.createDataFrame(pa.Table.from_pylist(rows, schema), PEER_PAGES.schema), out)
        (out / _DESCRIPTIONS).write_text(json.dumps({PEER + peer.kind.name: peer.options for peer in best}))
        return f"{plural(len(best), 'peer')}: {'; '.join(map(str, best))}"

    return Step(
        "measure_peers",
        measure,
        (PEER_PAGES.name, _DESCRIPTIONS),
        inputs=(BUILD_HISTORIES,),
        depends_on=lambda run: [
            run.days,
            run.training_days,
            run.settings.history,
            run.settings.horizon_hours,
            new_only,
        ],
    )


def read_peers(run: Run) -> dict[str, str]:
    """Return the settings of each peer by the name of its policy."""
    return json.loads((run.folder / _DESCRIPTIONS).read_text())


def require_implicit() -> None:
    """Check that the library `implicit` is installed.

    Raises:
        ConfigurationError: If not; says how to install it.
    """
    if find_spec("implicit") is None:
        raise ConfigurationError("--peers needs the library implicit: pip install 'flash-sale-recsys[peers]'")


def _tuning_days(run: Run, everyone: Block) -> list[Day]:
    """Return the days that settings are chosen by, of those on which somebody bought a sale that was new to them.

    Raises:
        EmptyInputError: If there is none.
    """
    drawn = np.random.default_rng(0).permutation(run.open_training_days).tolist()
    with_pages = (day for as_of in drawn if (day := Day.of(run, everyone, as_of)).by_case[NEW][1].any())
    if not (days := list(islice(with_pages, TUNING_DAYS))):
        raise EmptyInputError(
            f"0 of the {len(drawn)} training days have a purchase of a sale that is new to its user, --peers needs 1 "
            "to choose settings by: give a later window, or measure without --peers"
        )
    return sorted(days, key=lambda day: day.as_of)


def _pages_of_day(
    run: Run, everyone: Block, as_of: int, peers: list[Baseline], new_only: bool
) -> list[dict[str, object]]:
    day, popularity = Day.of(run, everyone, as_of), peers[0]
    order = day.tie_order(popularity)
    fitted = {f"{PEER}{peer.kind.name}": peer.fit(day.known(peer.days)) for peer in peers}
    rows: list[dict[str, object]] = []
    for start in range(0, len(day.buyers), PAGE_USERS):
        buyers = day.buyers[start : start + PAGE_USERS]

        def scores(_: Block, __: int, buyers: NDArray[np.int64] = buyers) -> Mapping[str, NDArray]:
            return {name: untied(score(buyers)[:, day.sales], order) for name, score in fitted.items()}

        rows += measured_pages(everyone.take(buyers), run.shop, as_of, scores, new_only)
    return rows


def untied(scores: NDArray[np.floating], order: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return scores of the same order without ties, which are broken by an order of the columns."""
    best_first = order[np.argsort(-scores[:, order], axis=1, kind="stable")]
    places = np.empty_like(best_first)
    np.put_along_axis(places, best_first, np.arange(scores.shape[1])[None], axis=1)
    return -places.astype(np.float32)
