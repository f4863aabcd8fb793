"""user_histories, sales, sale_themes, towers → fitted_recommenders, for each instant of training or ranking."""

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.build_histories import BUILD_HISTORIES
from jobs.night.train_towers import TRAIN_TOWERS
from recsys.instants import DAY
from recsys.pipeline.fitting import fitted_recommenders
from recsys.recommenders.further import sources
from recsys.storage.places import Place
from recsys.tables.night import FITTED_RECOMMENDERS, USER_HISTORIES
from recsys.wording import plural


def fit_recommenders(run: Run, out: Place) -> str:
    """Fit every recommender as of each instant of the run."""
    histories = USER_HISTORIES.in_parts(run.spark, run.outputs)
    instants = sorted({*run.open_training_days, *run.open_days})
    past = [each for each in instants if each + DAY <= run.as_of]
    FITTED_RECOMMENDERS.write(fitted_recommenders(histories, run.shop, instants, past), out)
    return f"{plural(len(run.shop.recommenders), 'recommender')} as of {plural(len(instants), 'instant')}"


FIT_RECOMMENDERS = Step(
    "fit_recommenders",
    fit_recommenders,
    ("fitted_recommenders",),
    inputs=(BUILD_HISTORIES, TRAIN_TOWERS),
    depends_on=lambda run: [
        run.settings.history,
        run.settings.recommenders,
        sources(run.settings.recommenders.further),
        run.settings.horizon_hours,
        run.training_days,
        run.days,
    ],
)

if __name__ == "__main__":
    main(FIT_RECOMMENDERS)
