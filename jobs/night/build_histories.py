"""sales, events → user_histories."""

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.validate_tables import VALIDATE_TABLES
from recsys.pipeline.histories import user_histories
from recsys.storage.places import Place
from recsys.tables.night import EVENTS, USER_HISTORIES
from recsys.wording import plural


def build_histories(run: Run, out: Place) -> str:
    """Write one row per user with the user's events."""
    USER_HISTORIES.write(user_histories(EVENTS.read(run.spark, run.outputs), run.shop.catalogue), out)
    return plural(USER_HISTORIES.rows(out), "user")


BUILD_HISTORIES = Step("build_histories", build_histories, ("user_histories",), inputs=(VALIDATE_TABLES,))

if __name__ == "__main__":
    main(BUILD_HISTORIES)
