"""LambdaRank over the features of the meta-model: the order of a page is trained, not the probability of a sale.

Trained on the meta-model's examples with LightGBM; Burges 2010, "From RankNet to LambdaRank to LambdaMART".
"""

from collections.abc import Mapping
from itertools import product

import lightgbm
import numpy as np
from pyspark.sql import functions as f

from benchmarks.quality_pages import CASES
from jobs.engine.run import Run
from jobs.night.train_meta_model import examples_of
from recsys.meta_model import BoostedModel
from recsys.meta_model.training import Examples
from recsys.pipeline.evaluation import page_metrics
from recsys.tables.night import TRAINING_EXAMPLES, USER_HISTORIES

LAMBDA_RANK = "LambdaRank over our features"
GRID: Mapping[str, tuple[int, ...]] = {"num_leaves": (4, 15), "num_iterations": (50, 150, 400)}


def best_lambda_rank(run: Run, tuning_days: list[int]) -> dict[str, BoostedModel]:
    """Return for each case the model with the best settings on the tuning days, trained on all training days.

    To choose the settings, models are trained on the other training days.
    """
    examples = TRAINING_EXAMPLES.read(run.spark, run.folder)
    grid = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]
    earlier = examples_of(examples.filter(~f.col("as_of").isin(tuning_days)))
    models = {str(number): train_lambda_rank(earlier, settings) for number, settings in enumerate(grid)}
    histories, everything = USER_HISTORIES.read(run.spark, run.folder), examples_of(examples)
    best = {}
    for case, new_only in CASES.items():
        pages = page_metrics(histories, run.shop, tuning_days, models, new_only=new_only)
        pages = pages.filter(f.col("policy").isin(list(models))).groupBy("policy").agg(f.avg("`ndcg@10`").alias("ndcg"))
        means = {row.policy: row.ndcg for row in pages.collect()}
        best[case] = train_lambda_rank(everything, grid[int(max(means, key=means.__getitem__))])
    return best


def train_lambda_rank(examples: Examples, settings: Mapping[str, int]) -> BoostedModel:
    """Return trees whose scores order the examples of each page; they are no probabilities."""
    parameters = {
        "objective": "lambdarank",
        "learning_rate": 0.05,
        "min_data_in_leaf": 100,
        "seed": 0,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 2,
        "verbosity": -1,
    }
    order = np.argsort(examples.page, kind="stable")
    rows = np.column_stack([examples.features, examples.repeat])[order].astype(np.float32)
    data = lightgbm.Dataset(
        rows, examples.bought[order].astype(int), group=np.unique(examples.page, return_counts=True)[1]
    )
    trees = lightgbm.train(parameters | dict(settings), data)
    names, means = list(examples.names), examples.features.mean(axis=0).tolist()
    return BoostedModel(
        names, means, [1.0] * len(names), names, means, trees.model_to_string(), held=[], correction=0.0
    )
