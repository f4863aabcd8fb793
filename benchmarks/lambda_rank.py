"""LambdaRank over the features of the meta-model: the order of a page is trained, not the probability of a sale.

Trained on the meta-model's examples with LightGBM; Burges 2010, "From RankNet to LambdaRank to LambdaMART".
"""

import lightgbm
import numpy as np
import pyarrow.compute as pc
from pyspark.sql import functions as f

from jobs.backtest.peer_pages import CASES
from jobs.engine.run import Run
from recsys.meta_model import BoostedModel
from recsys.meta_model.training import Examples
from recsys.pipeline.evaluation import page_metrics
from recsys.pipeline.example_arrays import examples_of, read_examples
from recsys.recommenders.towers import TOWERS
from recsys.tables.night import TRAINING_EXAMPLES, USER_HISTORIES

LAMBDA_RANK = "LambdaRank over our features"
GRID = {"leaves": (4, 15), "trees": (25, 75, 200)}


def best_lambda_rank(run: Run, tuning_days: list[int]) -> dict[str, BoostedModel]:
    """Return for each case the model with the best settings on the tuning days, trained on all training days.

    To choose the settings, models are trained on the other training days.
    """
    examples = read_examples(run.outputs / TRAINING_EXAMPLES.name)
    histories = USER_HISTORIES.read(run.spark, run.outputs)
    tried = train_with_and_without_towers(examples_of(examples.filter(~pc.field("as_of").isin(tuning_days))))
    models, best = train_with_and_without_towers(examples_of(examples)), {}
    for case, new_only in CASES.items():
        pages = page_metrics(histories, run.shop, tuning_days, tried, new_only=new_only)
        means = pages.filter(f.col("policy").isin(list(tried))).groupBy("policy").agg(f.avg("`ndcg@10`")).collect()
        best[case] = models[max(means, key=lambda row: (row[1], row.policy)).policy]
    return best


def train_with_and_without_towers(examples: Examples) -> dict[str, BoostedModel]:
    """Return `train_grid` with all features and without the learned one, which trees may trust too much."""
    models = train_grid(examples)
    if TOWERS in examples.names:
        less = train_grid(examples.without(TOWERS))
        models |= {f"{name}, without {TOWERS}": model for name, model in less.items()}
    return models


def train_grid(examples: Examples) -> dict[str, BoostedModel]:
    """Return trees for each combination of settings, by its name; scores order pages, they are no probabilities."""
    parameters = {
        "objective": "lambdarank",
        "lambdarank_truncation_level": 13,  # LightGBM advises slightly more than the 10 of ndcg@10
        "learning_rate": 0.1,
        "min_data_in_leaf": 100,
        "seed": 0,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,  # threads wait for each other where cores are busy
        "verbosity": -1,
    }
    order = np.argsort(examples.page, kind="stable")
    rows = np.column_stack([examples.features, examples.repeat])[order].astype(np.float32)
    pages = np.unique(examples.page, return_counts=True)[1]
    names, means = list(examples.names), examples.features.mean(axis=0).tolist()
    models = {}
    for leaves in GRID["leaves"]:
        data = lightgbm.Dataset(rows, examples.bought[order].astype(int), group=pages)
        booster = lightgbm.train(parameters | {"num_leaves": leaves}, data, max(GRID["trees"]))
        for trees in GRID["trees"]:  # fewer trees are the first ones of many
            text = booster.model_to_string(num_iteration=trees)
            models[f"{leaves} leaves, {trees} trees"] = BoostedModel(
                names, means, [1.0] * len(names), names, means, text, held=[], correction=0.0
            )
    return models
