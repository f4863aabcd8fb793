"""Training and measuring the meta-model on examples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from recsys.errors import EmptyInputError
from recsys.meta_model import MetaModel, MetaModelSettings, Weights, probability


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
    """Fit the meta-model.

    The intercept is corrected for the sampling of sales not bought, King and Zeng 2001, eq. 7: it goes down by the
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
    scaler = StandardScaler().fit(examples.features)
    first, again = _weights_of_both(examples, scaler, settings)
    return MetaModel(
        features=list(examples.names),
        means=[float(mean) for mean in scaler.mean_],
        scales=[float(scale) for scale in scaler.scale_],
        coefficients=first.coefficients,
        intercept=first.intercept,
        again=again,
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
    drawn, not_bought = (~examples.bought).sum(), (1 / examples.sampling_rate[~examples.bought]).sum()
    return Weights([float(each) for each in model.coef_[0]], float(model.intercept_[0] + np.log(drawn / not_bought)))


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
