"""Training and measuring the meta-model on examples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from recsys.errors import EmptyInputError
from recsys.meta_model.base import MetaModel, MetaModelSettings, probability
from recsys.meta_model.boosted import BoostedModel
from recsys.meta_model.logistic import LogisticModel, Weights


@dataclass(frozen=True)
class Examples:
    """Rows of table `training_examples`."""

    names: list[str]
    features: NDArray[np.float32]  # (n_examples, n_features)
    bought: NDArray[np.bool_]
    sampling_rate: NDArray[np.float64]  # in (0, 1]: share of the user's sales of that kind and day that are examples
    again: NDArray[np.bool_]  # whether the user had bought the sale before

    def without(self, name: str) -> "Examples":
        """Return the examples without a feature."""
        return self.over([other for other in self.names if other != name])

    def over(self, names: list[str]) -> "Examples":
        """Return the examples with some of the features."""
        kept = [self.names.index(name) for name in names]
        return Examples(names, self.features[:, kept], self.bought, self.sampling_rate, self.again)

    def where(self, chosen: NDArray[np.bool_]) -> "Examples":
        """Return some of the examples."""
        return Examples(
            self.names,
            self.features[chosen],
            self.bought[chosen],
            self.sampling_rate[chosen],
            self.again[chosen],
        )


def train(examples: Examples, settings: MetaModelSettings) -> MetaModel:
    """Fit a meta-model of the kind that the settings name.

    Its log-odds are corrected for the sampling of sales not bought, King and Zeng 2001, eq. 7: they go down by the
    logarithm of how many sales not bought each drawn one stands for.

    Raises:
        EmptyInputError: If there is no purchase, or nothing but purchases.
    """
    purchases, drawn = int(examples.bought.sum()), int((~examples.bought).sum())
    if not purchases or not drawn:
        raise EmptyInputError(
            f"table training_examples has {purchases:,} purchases and {drawn:,} sales not bought in the "
            f"{settings.days} days before as_of, needs at least 1 of each: choose a later --as-of or a larger "
            "meta_model.days"
        )
    return _boosted(examples, settings) if settings.kind == "boosted" else _logistic(examples, settings)


def _logistic(examples: Examples, settings: MetaModelSettings) -> LogisticModel:
    scaler = StandardScaler().fit(examples.features)
    means, scales = scaler.mean_.tolist(), scaler.scale_.tolist()
    first, again = _weights_of_both(examples, scaler, settings)
    return LogisticModel(list(examples.names), means, scales, first.coefficients, first.intercept, again)


def _boosted(examples: Examples, settings: MetaModelSettings) -> BoostedModel:
    import lightgbm  # here: only who trains trees waits for it

    scaler, boosted = StandardScaler().fit(examples.features), settings.boosted
    parameters = {
        "objective": "binary",
        "learning_rate": boosted.learning_rate,
        "num_leaves": boosted.leaves,
        "min_data_in_leaf": boosted.min_examples,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    rows = np.column_stack([examples.features, examples.again]).astype(np.float32)
    trees = lightgbm.train(parameters, lightgbm.Dataset(rows, examples.bought), boosted.trees)
    means, names = scaler.mean_.tolist(), list(examples.names)
    return BoostedModel(
        names, means, scaler.scale_.tolist(), names, means, trees.model_to_string(), _correction(examples)
    )


def _weights_of_both(
    examples: Examples, scaler: StandardScaler, settings: MetaModelSettings
) -> tuple[Weights, Weights | None]:
    """Learn from the sales new to their user, and from those bought before; from all alike where either are few."""
    new, again = examples.where(~examples.again), examples.where(examples.again)
    if min(_fewer(new), _fewer(again)) < settings.min_again:
        return _weights(examples, scaler, settings), None
    return _weights(new, scaler, settings), _weights(again, scaler, settings)


def _fewer(examples: Examples) -> int:
    purchases = int(examples.bought.sum())
    return min(purchases, len(examples.bought) - purchases)


def _weights(examples: Examples, scaler: StandardScaler, settings: MetaModelSettings) -> Weights:
    model = LogisticRegression(C=settings.regularization, max_iter=1000)
    model.fit(scaler.transform(examples.features), examples.bought)
    return Weights(model.coef_[0].tolist(), float(model.intercept_[0]) + _correction(examples))


def _correction(examples: Examples) -> float:
    """Return by how much log-odds learnt from examples are too high: each sale not bought stands for several."""
    rates = examples.sampling_rate[~examples.bought]
    return float(np.log(len(rates) / (1 / rates).sum()))


def evaluate(model: MetaModel, examples: Examples) -> dict[str, float]:
    """Measure the predicted probabilities on examples, each weighted by the sales that it stands for.

    Returns:
        `auc`, `log_loss` (nats a user and sale) and `calibration`, the purchases predicted per purchase made: 1 is
        right. Empty where the examples hold one class only.
    """
    if len(np.unique(examples.bought)) < 2:
        return {}
    predicted = predict(model, examples)
    weights = 1 / examples.sampling_rate
    return {
        "auc": float(roc_auc_score(examples.bought, predicted, sample_weight=weights)),
        "log_loss": float(log_loss(examples.bought, predicted, sample_weight=weights)),
        "calibration": float((predicted @ weights) / examples.bought.sum()),
    }


def predict(model: MetaModel, examples: Examples) -> NDArray[np.float64]:
    """Return the probability of each example."""
    again = np.nonzero(examples.again)
    return probability(model.log_odds(list(examples.features.T), examples.bought.shape, again)).astype(np.float64)
