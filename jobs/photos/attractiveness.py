"""events, sales, image_tags, image_themes → what photos that show something are worth."""

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from jobs.engine.run import Run
from jobs.photos.theme_reports import shown_themes, tagged_photos
from recsys.images.attractiveness import AttractivenessSettings, attractiveness
from recsys.instants import DAY
from recsys.pipeline.attractiveness import sale_months
from recsys.tables.night import EVENTS, IMAGE_TAGS, SALES

MIN_PROBABILITY = 0.1
"""A photo shows a tag from this probability on."""


def attractiveness_of_photos(run: Run, days: int, settings: AttractivenessSettings) -> pd.DataFrame:
    """Measure tags and themes over the last days before the night's midnight; see `recsys.images.attractiveness`.

    A sale has the tags that one of its photos shows with a probability of at least 0.1, and the themes that are the
    strongest of one of its photos.

    Raises:
        EmptyInputError: If no photo was tagged, or there was no visit.
    """
    tagged_photos(run)
    features = _sale_features(run)
    until = run.as_of // DAY * DAY
    events, sales = (table.read(run.spark, run.folder) for table in (EVENTS, SALES))
    counted = sale_months(events, sales, features, until - days * DAY, until)
    return attractiveness(counted.toPandas(), features.toPandas(), settings)


def _sale_features(run: Run) -> DataFrame:
    """Return one row a sale and tag or theme that its photos show: sale_id, family, feature."""
    tags = IMAGE_TAGS.read(run.spark, run.folder).select(
        "sale_id", f.explode(f.arrays_zip("tags", "probabilities")).alias("best")
    )
    tags = tags.where(f.col("best.probabilities") >= MIN_PROBABILITY).select(
        "sale_id", f.lit("tag").alias("family"), f.col("best.tags").alias("feature")
    )
    themes = run.spark.createDataFrame(shown_themes(run), "sale_id string, family string, feature string")
    return tags.unionByName(themes).distinct()
