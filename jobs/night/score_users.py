"""user_histories, fitted_recommenders, the meta-model, policies of experiments → rankings."""

from pathlib import Path

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.fit_recommenders import FIT_RECOMMENDERS
from jobs.night.prepare_experiments import PREPARE_EXPERIMENTS, other_versions, ranking_settings
from jobs.night.train_meta_model import read_model
from recsys.errors import ConfigurationError
from recsys.meta_model import is_meta
from recsys.pipeline.rankings import rankings
from recsys.tables.night import RANKINGS, USER_HISTORIES
from recsys.wording import plural


def score_users(run: Run, out: Path) -> str:
    """Rank the sales of the horizon for every user with an event in the history window."""
    model, _ = read_model(run)
    shop, as_of = run.shop, run.as_of
    names = [recommender.name for recommender in shop.recommenders]
    model.require_features(names)
    settings = ranking_settings(run)
    _require_policies(settings.policies, names)
    histories = USER_HISTORIES.read(run.spark, run.folder)
    RANKINGS.write(rankings(histories, shop, as_of, model, settings, other_versions(run)), out)
    sales = plural(len(shop.horizon(as_of)), "sale")
    return f"{plural(RANKINGS.rows(out), 'user')} and {sales} of the next {shop.horizon_hours:g} hours"


def _require_policies(policies: tuple[str, ...], names: list[str]) -> None:
    """Check that the shop has the policies' recommenders; those over photos exist only in a shop with photos.

    Raises:
        ConfigurationError: If it has not.
    """
    for policy in {each for each in policies if not is_meta(each)}.difference(names):
        raise ConfigurationError(
            f"rankings.policies == {policy!r}, but the shop has no such recommender, as no photo shows a theme: remove "
            "it, or look at tables sale_images and rejected_images"
        )


SCORE_USERS = Step(
    "score_users",
    score_users,
    ("rankings",),
    inputs=(FIT_RECOMMENDERS, PREPARE_EXPERIMENTS),
    depends_on=lambda run: run.settings.rankings.model_dump(mode="json", exclude={"segments"}),
)

if __name__ == "__main__":
    main(SCORE_USERS)
