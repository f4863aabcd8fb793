"""Training of towers: time and memory for a number of users and events, on a GPU where there is one.

    python -m benchmarks.towers [--users 250000] [--events 5000000] [--open-sales 300]

The shop is generated, without photos. Printed are the time from users' histories in memory to the weights, the peak
memory, the histories included, and how well the towers predict the events of days that they have not learnt.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import machine, synthetic
from recsys.instants import DAY, to_micros
from recsys.pipeline.tower_training import train_towers
from recsys.recommenders import RecommenderSettings, tower_families
from recsys.shop.catalogue import Catalogue
from recsys.shop.histories import Block, HistorySettings

UNTIL = to_micros(synthetic.AS_OF) - 14 * DAY
"""The first of the 14 days that a meta-model is trained on by default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=250_000)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--open-sales", type=int, default=300)
    arguments = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory(prefix="towers-") as folder:
        synthetic.write_shop(Path(folder), arguments.users, arguments.events, arguments.open_sales)
        catalogue = Catalogue.from_table(pq.read_table(Path(folder) / "sales.parquet"))
        block = read_block(Path(folder), catalogue)
    settings = RecommenderSettings()
    chosen = settings.towers.model_copy(update={"max_users": arguments.users})
    with machine.watched(0.1) as watch:
        families = tower_families(settings, catalogue)
        trained = train_towers(block, catalogue, families, HistorySettings(), chosen, UNTIL)
    if trained is None:
        raise SystemExit(f"--events == {arguments.events}, too few to train towers: give more")
    print(
        f"{len(block):,} users, {len(block.sales):,} events, of which {trained.events:,} in {chosen.days} days were "
        f"learnt from, {arguments.open_sales} open sales, on {trained.device}: {watch.seconds:.1f} s, best after "
        f"{trained.epochs} epochs; peak memory {watch.peak_bytes / 1e9:.2f} GB"
    )
    print(f"nats per event of the last days: {trained.loss:.3f}, {trained.loss_without:.3f} by chance")


def read_block(folder: Path, catalogue: Catalogue) -> Block:
    """Return the events of `synthetic.write_shop`, which are in order of user and time."""
    events = pq.read_table(folder / "events").combine_chunks()
    users = pc.dictionary_encode(events["user_id"].combine_chunks())
    codes = users.indices.to_numpy()
    sales = pc.index_in(events["sale_id"], pa.array(catalogue.sale_ids)).to_numpy().astype(np.int32)
    occurred_at = events["occurred_at"].cast(pa.int64()).to_numpy()
    return Block(
        user_ids=users.dictionary,
        n_sales=len(catalogue),
        offsets=np.concatenate(([0], np.cumsum(np.bincount(codes)))),
        sales=sales,
        purchases=pc.equal(events["kind"], "purchase").to_numpy(zero_copy_only=False),
        occurred_at=occurred_at,
        recorded_at=occurred_at,
    )


if __name__ == "__main__":
    main()
