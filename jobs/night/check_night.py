"""rankings, yesterday's purchases → the values of the night; a night that breaks a limit is not published."""

import json

from pyspark.sql import functions as f

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.build_training_set import examples
from jobs.night.prepare_experiments import ranking_settings
from jobs.night.score_users import SCORE_USERS
from jobs.night.train_meta_model import read_model
from recsys.data_profile.rule_counts import RULE_COUNTS
from recsys.errors import NightCheckError
from recsys.instants import from_micros
from recsys.meta_model import META, MetaModel
from recsys.metrics import NDCG
from recsys.pipeline.evaluation import page_metrics
from recsys.pipeline.example_arrays import examples_of, read_examples
from recsys.pipeline.night_checks import (
    feature_drift,
    problems,
    rejected_share,
    sales_covered,
    short_hours,
    users_by_sale,
)
from recsys.pipeline.night_values import NightValues, read_night_values, write_night_values
from recsys.snapshot import store as snapshot_store
from recsys.storage.places import Place
from recsys.tables.night import EVENTS, PAGE_METRICS, RANKINGS, TRAINING_EXAMPLES, USER_HISTORIES
from recsys.wording import plural


def check_night(run: Run, out: Place) -> str:
    """Measure the night and store its values in the shop's folder.

    Raises:
        NightCheckError: If a value breaks a limit; names value, limit and next step of each. The service continues with
            the last snapshot.
    """
    folder = run.settings.place
    values = _measure_night(run, out)
    run.settings.publisher.pull_if_whole()
    before = snapshot_store.in_use(run.settings.snapshots_folder)
    users_in_use = before.manifest.n_users if before else 0
    found = problems(values, _earlier_nights(run), run.settings.night_checks, users_in_use)
    write_night_values(values.model_copy(update={"problems": found}), folder)
    if found:
        raise NightCheckError(
            f"the night as of {values.as_of:%Y-%m-%d %H:%M} UTC is not published, the last snapshot stays in use: "
            + "; ".join(found)
            + "; or change the limit in the configuration, and run the night again"
        )
    if values.pages < run.settings.night_checks.min_cases:
        found_pages = f"yesterday has {plural(values.pages, 'page')} to measure ndcg@10 on, fewer than "
        rule = f"{run.settings.night_checks.min_cases:,} (night_checks.min_cases): too little data to tell"
        run.leave_out("check of the ranking", found_pages + rule, "a day has as many", degrades_pages=False)
    return _summarise(values, run.settings.night_checks.min_cases)


def _earlier_nights(run: Run) -> list[NightValues]:
    """Return the values of the nights before; those of hours between them would outnumber theirs."""
    return [values for values in read_night_values(run.settings.place, run.as_of) if not values.is_hourly]


def _measure_night(run: Run, out: Place) -> NightValues:
    model, version = read_model(run)
    values = NightValues(
        as_of=from_micros(run.as_of),
        is_hourly=run.is_hourly,
        version=version,
        rejected_share=rejected_share(json.loads((run.outputs / RULE_COUNTS).read_text())),
        sales_covered=_measure_rankings(run),
        events=EVENTS.rows(run.outputs),
        users=RANKINGS.rows(run.outputs),
        purchases=0,
        pages=0,
    )
    return values if model is None else values.model_copy(update=_measure_yesterday(run, model, out))


def _measure_rankings(run: Run) -> float | None:
    """Return the share of sales covered; record for which hours users' rankings hold too few open sales."""
    policies, users = ranking_settings(run).policies, RANKINGS.rows(run.outputs)
    if not policies or not users:
        return None
    horizon = run.shop.horizon(run.as_of)
    policy = META if META in policies else policies[0]
    users_of_sale = users_by_sale(RANKINGS.read(run.spark, run.outputs), policy, len(horizon))
    if hours := short_hours(users_of_sale, users, horizon, run.shop.catalogue):
        worst = min(hours, key=lambda hour: hour.per_user / hour.n_open)
        top_k = run.settings.rankings.top_k
        why = (
            f"the {top_k} sales of a user's ranking hold on average {worst.per_user:.1f} of the {worst.n_open:,} sales "
            f"open at {from_micros(worst.start):%Y-%m-%d %H:%M} UTC, and too few in {plural(len(hours), 'hour')}; "
            "popular sales fill the page"
        )
        run.leave_out(
            "pages of the user's own ranking at all hours", why, "rankings.top_k is larger, or nights are more frequent"
        )
    return sales_covered(users_of_sale)


def _measure_yesterday(run: Run, model: MetaModel, out: Place) -> dict[str, object]:
    """Return the values of the champion on the day before as_of; empty if no sale was open.

    The champion may have been trained on that day, so ndcg is comparable between nights, but no unbiased estimate.
    """
    yesterday = run.training_days[-1]
    if yesterday not in run.open_training_days:
        return {}
    histories = USER_HISTORIES.in_parts(run.spark, run.outputs)
    TRAINING_EXAMPLES.write(examples(run, [yesterday]), out)
    drawn = examples_of(read_examples(out / TRAINING_EXAMPLES.name))
    pages = page_metrics(histories, run.shop, [yesterday], {META: model}, recommenders=False)
    n_pages, ndcg, predicted, made = (
        PAGE_METRICS.check(pages)
        .agg(f.count("*"), f.avg(NDCG), f.sum("predicted"), f.sum(f.size("bought")))
        .collect()[0]
    )
    return {
        "purchases": int(drawn.bought.sum()),
        "pages": n_pages,
        "ndcg": ndcg,
        "calibration": predicted / made if made else None,
        "drift": feature_drift(model, drawn),
    }


def _summarise(values: NightValues, min_cases: int) -> str:
    feature, drift = values.worst_drift
    parts = [f"{values.rejected_share:.2%} rejected"]
    if values.sales_covered is not None:
        parts.append(f"{values.sales_covered:.0%} of sales covered")
    if values.ndcg is not None:
        few = ", too few to tell" if values.pages < min_cases else ""
        parts.append(f"yesterday's ndcg@10 {values.ndcg:.4f} on {plural(values.pages, 'page')}{few}")
    if feature:
        few = f" of {plural(values.purchases, 'purchase')}, too few to tell" if values.purchases < min_cases else ""
        parts.append(f"largest drift {drift:+.2f} standard deviations, of {feature}{few}")
    return ", ".join(parts)


CHECK_NIGHT = Step(
    "check_night",
    check_night,
    (),
    inputs=(SCORE_USERS,),
    depends_on=lambda run: [
        run.settings.night_checks,
        [values.model_dump(mode="json") for values in _earlier_nights(run)],
    ],
)

if __name__ == "__main__":
    main(CHECK_NIGHT)
