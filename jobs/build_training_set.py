"""user_histories, fitted_recommenders → training_examples."""

from pathlib import Path

from jobs.fit_recommenders import FIT_RECOMMENDERS
from jobs.run import Run, Step, main
from recsys.pipeline.examples import training_examples
from recsys.tables import TRAINING_EXAMPLES, USER_HISTORIES


def build_training_set(run: Run, out: Path) -> str:
    """Make examples of the purchases of the training days."""
    histories = USER_HISTORIES.read(run.spark, run.folder)
    examples = training_examples(histories, run.shop, run.open_training_days, run.settings.meta_model)
    TRAINING_EXAMPLES.write(examples, out)
    written = TRAINING_EXAMPLES.read(run.spark, out)
    return f"{written.where('bought').count():,} purchases, {written.where('not bought').count():,} sales not bought"


BUILD_TRAINING_SET = Step(
    "build_training_set",
    build_training_set,
    ("training_examples",),
    inputs=(FIT_RECOMMENDERS,),
    depends_on=lambda run: run.settings.meta_model,
)

if __name__ == "__main__":
    main(BUILD_TRAINING_SET)
