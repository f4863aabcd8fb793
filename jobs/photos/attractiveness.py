"""events, sales, image_tags, image_themes → attractiveness of tags and themes."""

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
"""Minimum probability for a photo to show a tag."""


def attractiveness_of_photos(run: Run, days: int, settings: AttractivenessSettings) -> pd.DataFrame:
    """Measure tags and themes over the last `days` days before the night's date; see `recsys.images.attractiveness`.

    A sale has a tag if one of its photos has it with a probability of at least 0.1, and a theme if it is the strongest
    theme of one of its photos.

    Raises:
        EmptyInputError: If there is no tagged photo or no visit.
    """
    tagged_photos(run)
    features = _sale_features(run)
    until = run.as_of // DAY * DAY
    events, sales = (table.read(run.spark, run.outputs) for table in (EVENTS, SALES))
    counted = sale_months(events, sales, features, until - days * DAY, until)
    return attractiveness(counted.toPandas(), features.toPandas(), settings)


def _sale_features(run: Run) -> DataFrame:
    """Return one row per sale and tag or theme of its photos: sale_id, family, feature."""
    tags = IMAGE_TAGS.read(run.spark, run.outputs).select(
        "sale_id", f.explode(f.arrays_zip("tags", "probabilities")).alias("best")
    )
    tags = tags.where(f.col("best.probabilities") >= MIN_PROBABILITY).select(
        "sale_id", f.lit("tag").alias("family"), f.col("best.tags").alias("feature")
    )
    themes = run.spark.createDataFrame(shown_themes(run), "sale_id string, family string, feature string")
    return tags.unionByName(themes).distinct()
