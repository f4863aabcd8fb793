"""user_histories, sales, sale_themes → towers.json: the learned recommender, of days before those of the meta-model."""

import time

import pyarrow as pa
from pyspark.sql import functions as f

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.build_histories import BUILD_HISTORIES
from jobs.night.build_themes import BUILD_THEMES
from recsys.instants import compact, from_micros
from recsys.recommenders import tower_families
from recsys.recommenders.towers import TOWERS, TOWERS_FILE
from recsys.settings import digest
from recsys.shop.histories import Block
from recsys.storage.places import Place, files_in, put, remove
from recsys.tables.night import USER_HISTORIES
from recsys.tables.parts import read_arrow
from recsys.wording import plural

_BUCKETS = 1 << 20


def train_towers(run: Run, out: Place) -> str:
    """Train towers if the run trains the meta-model, otherwise take the latest ones that nights have trained.

    They know nothing of the days that the meta-model is trained on: it would trust what they have memorised. A night
    stores them in the shop's folder, for the nights after it.
    """
    weights, summary = _train(run, out) if run.trains else _latest(run)
    (out / TOWERS_FILE).write_text(weights, "utf-8")
    if weights and run.trains and run.is_night:
        put(_store(run) / f"{compact(run.training_days[0])}-{_fingerprint(run)}.json", weights)
    return summary


def _train(run: Run, out: Place) -> tuple[str, str]:
    """Return new towers as JSON, empty if there are none, and a summary; `out` is for temporary files."""
    settings, until = run.settings.recommenders.towers, run.training_days[0]
    if not _are_used(run):
        return "", "no towers, by the configuration"
    from recsys.pipeline.tower_training import train_towers as train  # here: it imports torch

    catalogue = run.shop.catalogue
    families = tower_families(run.settings.recommenders, catalogue)
    latest = time.monotonic() + settings.seconds
    trained = train(
        *(_users(run, out), catalogue, families, run.settings.history, settings, until),
        is_late=lambda: time.monotonic() > latest,
    )
    before = f"before {from_micros(until):%Y-%m-%d}, the first day that the meta-model is trained on"
    if trained is None:  # a young shop's snapshot is as it would be without the recommender, so nothing is left out
        days = f"{settings.days - settings.stopping_days} days to learn from or the {settings.stopping_days} after them"
        return "", (
            f"no towers: fewer than {settings.min_events:,} visits and purchases of open sales "
            f"(recommenders.towers.min_events) in the {days}, {before}, or no attribute, word or price that "
            f"{plural(settings.min_sales, 'sale')} have"
        )
    return trained.weights.to_json(), (
        f"towers of {plural(len(trained.weights.features), 'feature')}, from {plural(trained.events, 'event')} "
        f"{before}: {trained.loss:.3f} nats per event, {trained.loss_without:.3f} without, "
        f"{plural(trained.epochs, 'epoch')} on {trained.device}"
    )


def _users(run: Run, out: Place) -> Block:
    """Return the users to learn from, in order of their ids; if they are too many, those that a hash draws.

    They are read from files: through Spark's driver their histories would take its heap too, beside a limit of 1 GiB.
    """
    settings = run.settings.recommenders.towers
    share = settings.max_users / max(USER_HISTORIES.rows(run.outputs), 1)
    users, drawn = run.outputs / USER_HISTORIES.name, out / "drawn"
    if share < 1:
        bucket = f.pmod(f.xxhash64(f.lit(settings.seed), "user_id"), f.lit(_BUCKETS))
        USER_HISTORIES.write(USER_HISTORIES.read(run.spark, run.outputs).where(bucket < share * _BUCKETS), drawn)
        users = drawn / USER_HISTORIES.name
    table = read_arrow(users).sort_by("user_id").combine_chunks()
    remove(drawn)
    (batch,) = table.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]  # a table without rows has none
    return Block.from_batch(batch, len(run.shop.catalogue))


def _latest(run: Run) -> tuple[str, str]:
    """Return the latest towers of these settings that were trained on days before those of the run."""
    path = _latest_file(run)
    if path is None:
        return "", "no towers of an earlier night"
    return path.read_text("utf-8"), f"towers of days before {path.name[:8]}"


def _latest_file(run: Run) -> Place | None:
    if run.trains or not _are_used(run):
        return None
    until = compact(run.training_days[0])
    files = files_in(_store(run), f"-{_fingerprint(run)}.json")
    return next((file for file in reversed(files) if file.name.split("-")[0] <= until), None)


def _are_used(run: Run) -> bool:
    settings = run.settings.recommenders
    return settings.towers.enabled and TOWERS not in settings.without


def _store(run: Run) -> Place:
    return run.settings.place / TOWERS


def _fingerprint(run: Run) -> str:
    settings = run.settings.recommenders
    return digest([settings.towers, settings.content_metadata, run.settings.history])[:16]


TRAIN_TOWERS = Step(
    "train_towers",
    train_towers,
    (TOWERS_FILE,),
    inputs=(BUILD_THEMES, BUILD_HISTORIES),
    depends_on=lambda run: [
        _are_used(run),
        _fingerprint(run),
        run.trains,
        run.is_night,
        run.training_days[0],
        str(_latest_file(run)),
    ],
)

if __name__ == "__main__":
    main(TRAIN_TOWERS)
