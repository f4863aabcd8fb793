"""Registers the model for `mlflow models serve`: a logistic regression with the same number of features as ours.

MLFLOW_TRACKING_URI=sqlite:////tmp/store.db python -m benchmarks.serving_peers.page_ranker --features=11 --artifacts=/a
"""

import argparse

import mlflow
import mlflow.sklearn
import numpy as np
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

MODEL = "page_ranker"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, required=True)
    parser.add_argument("--artifacts", required=True, help="folder")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    features = rng.normal(size=(10_000, arguments.features))
    model = LogisticRegression().fit(features, features @ rng.normal(size=arguments.features) > 1)
    probabilities = model.predict_proba(features)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(MODEL, f"file://{arguments.artifacts}"))
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            model,
            name=MODEL,
            registered_model_name=MODEL,
            signature=infer_signature(features, probabilities),
            pyfunc_predict_fn="predict_proba",
        )


if __name__ == "__main__":
    main()
