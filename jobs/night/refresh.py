"""The night's tables, the sales and photos of the moment → a snapshot with new, changed and withdrawn sales."""

import json
import logging
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from jobs.engine.nights import planned_night
from jobs.engine.run import Run, Step
from jobs.night.build_themes import read_tagged, write_projected
from jobs.night.publish_snapshot import (
    PUBLISH_SNAPSHOT,
    SNAPSHOT,
    make_current,
    popular_ranking,
    refuse_lost_sales,
    snapshot_sales,
)
from jobs.night.tag_images import TAG_IMAGES, tagger_version
from jobs.night.validate_tables import validate_sales
from recsys.config.settings import Settings
from recsys.data_profile.rule_counts import RULE_COUNTS
from recsys.errors import BusyError, InputError, SnapshotError
from recsys.experiments.model_pins import PINS
from recsys.images.themes.theme_store import read
from recsys.images.themes.themes import THEME_MODEL
from recsys.instants import compact, to_micros
from recsys.ranking.covers import Covers
from recsys.ranking.ranker import Ranker
from recsys.ranking.ranker_files import RANKER, read_ranker, read_settings, write_ranker
from recsys.ranking.refreshed import refreshed_scorer
from recsys.recommenders import recommenders
from recsys.recommenders.towers import TOWERS_FILE, read_towers
from recsys.settings import digest
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.refreshed import content_digest, refreshed_catalogue, refreshed_horizon
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import POPULARITY, Snapshot, SnapshotContents
from recsys.snapshot.refreshed import changes, write_refreshed
from recsys.storage.journal import discard, holder
from recsys.storage.outputs import Outputs
from recsys.storage.places import Place
from recsys.tables.night import (
    FITTED_RECOMMENDERS,
    IMAGE_THEMES,
    REJECTED_IMAGES,
    REJECTED_ROWS,
    SALE_IMAGES,
    SALE_THEMES,
    SALES,
)
from recsys.tables.parts import read_arrow
from recsys.wording import plural

FOLDER = "refreshes"
"""Subfolder of a shop's folder with the tables of the refreshes of the night in use."""
_RESULT = "refresh.json"
_log = logging.getLogger(__name__)


class Refreshed(NamedTuple):
    """What a refresh did."""

    name: str
    """The snapshot that has the sales of the moment."""
    brought: str
    """What it brought, in one line; empty where the sales have not changed, so that nothing was published."""


def refresh(settings: Settings) -> Refreshed:
    """Bring the sales and photos of the moment into a snapshot that has the users of the one in use.

    Nothing is trained, no event is counted and no user is ranked: all of these are as of the night of the snapshot in
    use. Killed at any moment, it can be run again.

    Raises:
        SnapshotError: If no snapshot is in use, or the tables of its night are gone or of another run.
        BusyError: If a night runs, or another refresh.
        EmptyInputError: If no sale of the source is open, or none can be used.
        RejectedRowsError: If too large a share of a table's rows is broken.
    """
    settings.publisher.pull_if_whole()
    before = _snapshot_in_use(settings)
    night = _night_of(settings, before)
    _refuse_beside_nights(night)
    folder = settings.place / FOLDER / night.folder.name
    run = Run(settings, folder, night.as_of, training_days=[], days=[night.as_of], trains=False)
    _log.info(f"Refresh of snapshot {before.name} in {folder}")
    last = snapshot_store.publications(settings.snapshots_folder)[-1:]
    run.do((VALIDATE_SALES, TAG_PHOTOS, PROJECT_THEMES, PUBLISH_REFRESH))
    _remove_tables_of_earlier_nights(folder)
    found = Refreshed(**json.loads((run.outputs / _RESULT).read_text()))
    is_new = snapshot_store.publications(settings.snapshots_folder)[-1:] != last
    return found if is_new else found._replace(brought="")


def project_themes(run: Run, out: Place) -> str:
    """Project the photos of all sales onto the themes of the night.

    Raises:
        InputError: If the photos of the night were tagged by another version of the taggers.
    """
    night, (photos, rejected, catalogue) = planned_night(run.settings, run.as_of), read_tagged(run)
    model = read(night.outputs / THEME_MODEL)
    if model.ids and len(photos) and (version := tagger_version(run)) != model.tagger_version:
        raise InputError(
            f"the themes of the night are of tags by {model.tagger_version}, those of its photos now are by {version}: "
            "run 'recsys nightly', or set images.taggers as it was"
        )
    n_projected = write_projected(run, photos, rejected, model, catalogue, out)
    return f"{plural(n_projected, 'photo')} projected onto {plural(len(model.ids), 'theme')} of the night"


def publish_refresh(run: Run, out: Place) -> str:
    """Write a snapshot with the sales of the moment, and make it the current one, unless nothing has changed.

    Raises:
        EmptyInputError: If no sale is open, but the snapshot in use has one.
        SnapshotError: If the tables of the night are not those that the snapshot was made from.
        BusyError: If another snapshot was published meanwhile.
    """
    root, before = run.settings.snapshots_folder, _snapshot_in_use(run.settings)
    if to_micros(before.as_of) != run.as_of:
        raise BusyError(f"{before.name} was published meanwhile, of another night: run 'recsys refresh' again")
    night = _night_of(run.settings, before)
    name_of_night = (night.outputs / SNAPSHOT / "name").read_text()
    known, now = night.shop.catalogue, run.shop.catalogue
    if not len(now.open_within(run.as_of, to_micros(before.horizon_end))):
        found = f"no sale is open in [{before.as_of:%Y-%m-%d %H:%M}, {before.horizon_end:%Y-%m-%d %H:%M}) UTC"
        refuse_lost_sales(before, before.as_of, found)
    horizon_of_night = _horizon_of_night(before, known)
    catalogue = refreshed_catalogue(known, now, run.as_of)
    if before.name == name_of_night and content_digest(catalogue) == content_digest(known):
        return _write_result(Refreshed(before.name, ""), out)
    catalogue, horizon = refreshed_horizon(horizon_of_night, catalogue)
    with TemporaryDirectory() as folder:
        ranker = _write_refreshed_ranker(before, night, catalogue, horizon, Path(folder))
        contents = SnapshotContents(
            as_of=before.as_of,
            horizon_end=before.horizon_end,
            sales=list(snapshot_sales(catalogue, horizon)),
            policies=before.policies,
            shared_rankings={POPULARITY: popular_ranking(ranker, catalogue, before.manifest.n_users)},
            reasons=ranker.scorer.reasons,
            versions=before.versions,
            fingerprint=digest([night.fingerprint(PUBLISH_SNAPSHOT), content_digest(catalogue)]),
            files={RANKER: Path(folder), PINS: before.file(PINS)},
            segments=before.segments,
        )
        name = write_refreshed(root, before, contents, name_of_night, len(horizon_of_night))
    make_current(run, name, instead_of=before.name)
    brought = str(changes(before.sales, contents.sales, before.as_of)) or "other texts or themes of sales"
    return _write_result(Refreshed(name, brought), out)


def _write_result(result: Refreshed, out: Place) -> str:
    (out / _RESULT).write_text(json.dumps(result._asdict()))
    return f"{result.name}: {result.brought or 'the sales of the night have not changed'}"


def _snapshot_in_use(settings: Settings) -> Snapshot:
    root = settings.snapshots_folder
    if (found := snapshot_store.in_use(root)) is None:
        raise SnapshotError(f"{root} has no snapshot in use, which a refresh starts from: run 'recsys nightly' first")
    return found


def _night_of(settings: Settings, snapshot: Snapshot) -> Run:
    """Return the run of the night that a snapshot is of.

    Raises:
        SnapshotError: If the night has no tables that a snapshot with sales was made from.
    """
    as_of = to_micros(snapshot.as_of)
    folder = settings.place / "nights" / compact(as_of)
    if not (Outputs.of(folder) / SNAPSHOT / "name").exists():
        why = f"snapshot/name of {folder} is missing" if snapshot.sales else "it has no sale"
        raise SnapshotError(f"snapshot {snapshot.name} cannot be refreshed, {why}: run 'recsys nightly'")
    return planned_night(settings, as_of)


def _horizon_of_night(snapshot: Snapshot, catalogue: Catalogue) -> Horizon:
    """Return the horizon of the night that a snapshot is of.

    Raises:
        SnapshotError: If users' histories or rankings in the snapshot are of other sales than the night's tables.
    """
    as_of, until = to_micros(snapshot.as_of), to_micros(snapshot.horizon_end)
    horizon = catalogue.horizon_of(as_of, until, catalogue.open_within(as_of, until))
    ids = [catalogue.sale_ids[sale] for sale in horizon.sales]
    _, ranked = read_ranker(snapshot.file(RANKER))
    if ids != [sale.sale_id for sale in snapshot.sales[: len(ids)]] or (
        ranked.sale_ids[: len(catalogue)] != catalogue.sale_ids
    ):
        raise SnapshotError(
            f"snapshot {snapshot.name} is of other sales than the tables of its night, which was begun again since: "
            "run 'recsys nightly'"
        )
    return horizon


def _write_refreshed_ranker(
    before: Snapshot, night: Run, catalogue: Catalogue, horizon: Horizon, folder: Path
) -> Ranker:
    """Write the ranker of a snapshot for other sales, with the settings that it was made with, and return it."""
    ranker, _ = read_ranker(before.file(RANKER))
    settings = read_settings(before.file(RANKER))
    path = night.outputs / FITTED_RECOMMENDERS.name
    arrays = {row["recommender"]: row["arrays"] for row in read_arrow(path, within=f"as_of={night.as_of}").to_pylist()}
    try:
        everything = recommenders(settings, catalogue, read_towers(night.outputs / TOWERS_FILE))
        scorer = refreshed_scorer(everything, arrays, horizon, len(catalogue))
    except KeyError as error:
        raise SnapshotError(f"{path} has no {error}, an earlier version wrote it: run 'recsys nightly'") from None
    covers = Covers(catalogue.gallery, horizon) if catalogue.gallery else None
    ranker = Ranker(scorer, ranker.meta_model, covers, ranker.other_versions)
    write_ranker(folder, ranker, catalogue, settings)
    return ranker


def _refuse_beside_nights(night: Run) -> None:
    """Refuse to run beside the night that is refreshed, or a later one.

    A night that begins meanwhile runs, and publishes after or instead.

    Raises:
        BusyError: If such a night runs.
    """
    for folder in night.folder.parent.iterdir():
        if folder.name >= night.folder.name and (who := holder(folder)):
            raise BusyError(
                f"a night runs in {folder} ({who}), which brings all sales itself: run the next refresh after it"
            )


def _remove_tables_of_earlier_nights(folder: Place) -> None:
    for other in folder.parent.iterdir():
        if other != folder:
            with suppress(BusyError):
                discard(other)


def stamp_of_awaited_photos(outputs: Outputs) -> int:
    """Return 0, or a new number each time while a photo at a URL is missing, so that it is looked for again.

    A file of a local photo is seen when it is there; nothing tells that a URL has begun to answer.
    """
    path = outputs / REJECTED_IMAGES.name
    if not path.exists():
        return 0
    rejected = read_arrow(path, columns=["image_uri", "reason"]).to_pylist()
    return time.time_ns() if any(row["reason"] == "missing" and "://" in row["image_uri"] for row in rejected) else 0


VALIDATE_SALES = Step(
    "validate_sales",
    validate_sales,
    (SALES.name, SALE_IMAGES.name, REJECTED_ROWS.name, RULE_COUNTS),
    depends_on=lambda _: time.time_ns(),  # read each time: neither a catalogue table nor a URL says that it has changed
)
# The steps after it depend on what was read, so that they are not done again where nothing has changed.
TAG_PHOTOS = replace(
    TAG_IMAGES,
    inputs=(),
    depends_on=lambda run: [
        _digest_of_rows(run.outputs / SALE_IMAGES.name),
        TAG_IMAGES.depends_on(run),
        stamp_of_awaited_photos(run.outputs),
    ],
)
PROJECT_THEMES = Step(
    "project_themes",
    project_themes,
    (THEME_MODEL, IMAGE_THEMES.name, SALE_THEMES.name),
    inputs=(TAG_PHOTOS,),
    depends_on=lambda run: [
        _digest_of_rows(run.outputs / SALES.name, ["sale_id"]),
        read(planned_night(run.settings, run.as_of).outputs / THEME_MODEL).to_json(),
        run.settings.images.themes.cover_weight,
    ],
)
PUBLISH_REFRESH = Step(
    "publish_refresh",
    publish_refresh,
    (_RESULT,),
    inputs=(),
    depends_on=lambda run: [
        content_digest(run.shop.catalogue),
        planned_night(run.settings, run.as_of).fingerprint(PUBLISH_SNAPSHOT),
    ],
)


def _digest_of_rows(table: Place, columns: list[str] | None = None) -> str:
    """Return a digest of a table's rows, in whatever order they are."""
    rows = read_arrow(table, columns=columns).to_pandas().astype(str)
    return digest(sorted(map(list, rows.itertuples(index=False, name=None))))
