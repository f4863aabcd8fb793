"""user_histories, fitted_recommenders, the meta-model, policies of experiments → rankings."""

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.fit_recommenders import FIT_RECOMMENDERS
from jobs.night.prepare_experiments import PREPARE_EXPERIMENTS, other_versions, ranking_settings
from jobs.night.train_meta_model import read_model
from recsys.pipeline.rankings import rankings
from recsys.recommenders.base import is_empty
from recsys.storage.places import Place
from recsys.tables.night import RANKINGS, USER_HISTORIES
from recsys.wording import plural


def score_users(run: Run, out: Place) -> str:
    """Rank the sales of the horizon for every user with an event in the history window."""
    model, _ = read_model(run)
    shop, as_of = run.shop, run.as_of
    if model is not None:
        model.require_features([recommender.name for recommender in shop.recommenders])
    settings = ranking_settings(run)
    histories = USER_HISTORIES.in_parts(run.spark, run.outputs)
    RANKINGS.write(rankings(histories, shop, as_of, model, settings, other_versions(run)), out)
    _note_what_is_unknown(run, out)
    sales = plural(len(shop.horizon(as_of)), "sale")
    return f"{plural(RANKINGS.rows(out), 'user')} and {sales} of the next {shop.horizon_hours:g} hours"


def _note_what_is_unknown(run: Run, out: Place) -> None:
    """Record that no user has a history, and which recommenders learnt nothing that distinguishes sales."""
    if not RANKINGS.rows(out):
        why = f"no event of the {plural(run.settings.history.days, 'day')} before as_of is known"
        run.leave_out("popularity; the youngest sales come first", why, "the first night after an event")
    scorer = run.shop.scorer(run.as_of)
    empty = [name for name, model in zip(scorer.names, scorer.models, strict=True) if is_empty(model)]
    if empty:
        until = "sales share words, attributes or users; 'recommenders.without' does without for good"
        run.leave_out(f"features {', '.join(empty)}", "sales have nothing in common that these count", until)


SCORE_USERS = Step(
    "score_users",
    score_users,
    ("rankings",),
    inputs=(FIT_RECOMMENDERS, PREPARE_EXPERIMENTS),
    depends_on=lambda run: run.settings.rankings.model_dump(mode="json", exclude={"segments"}),
)

if __name__ == "__main__":
    main(SCORE_USERS)
