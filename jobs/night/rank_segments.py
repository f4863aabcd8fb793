"""user_histories, users → segment_rankings, for each value of the configured attributes of users."""

from jobs.engine.nights import main
from jobs.engine.run import Run, Step
from jobs.night.build_histories import BUILD_HISTORIES
from recsys.pipeline.segments import ranked_segments
from recsys.storage.places import Place
from recsys.tables.night import SEGMENT_RANKINGS, USER_HISTORIES, USERS
from recsys.wording import plural


def rank_segments(run: Run, out: Place) -> str:
    """Rank the sales of the horizon for each segment of users."""
    settings = run.settings.rankings.segments
    histories, users = USER_HISTORIES.read(run.spark, run.outputs), USERS.read(run.spark, run.outputs)
    rows = ranked_segments(histories, users, run.shop, run.as_of, settings)
    SEGMENT_RANKINGS.write_rows(rows, out)
    counts = [f"{(rows['attribute'] == attribute).sum()} by {attribute}" for attribute in settings.attributes]
    return f"{plural(len(rows), 'segment')}: {', '.join(counts) or 'no attribute is configured'}"


RANK_SEGMENTS = Step(
    "rank_segments",
    rank_segments,
    (SEGMENT_RANKINGS.name,),
    inputs=(BUILD_HISTORIES,),
    depends_on=lambda run: [
        run.settings.history,
        run.settings.recommenders,
        run.settings.horizon_hours,
        run.settings.rankings.segments,
    ],
)

if __name__ == "__main__":
    main(RANK_SEGMENTS)
